"""`choose`: the first branch whose condition is true; unknown is not false."""

from __future__ import annotations

from recipes.steps import Choose
from tilctl.engine.context import Context
from tilctl.engine.errors import StepError
from tilctl.journal import events as ev


async def run(context: Context, step: Choose) -> None:
    """Decide once, put the decision on the record, and walk the branch that was taken."""
    decided = context.node.phases.get("decided")
    if decided is None:
        taken = _decide(context, step)
        await context.batch.record(ev.StepPhase(context.path, "decided", {"case": taken}))
    else:
        taken = int(decided[1]["case"])
    await context.walk(step.cases[taken - 1].steps, f"{context.path}/{taken}", context.aliases)


def _decide(context: Context, step: Choose) -> int:
    for number, case in enumerate(step.cases, start=1):
        if case.when is None or context.truth(case.when):
            return number
    raise StepError(f"{context.path}: no branch applies", "the recipe needs an else branch")
