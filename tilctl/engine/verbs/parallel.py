"""`parallel`: branches that are walked at the same time."""

from __future__ import annotations

from recipes.steps import Parallel
from tilctl.engine.context import Context
from tilctl.engine.errors import InDoubt, ProcedureEnd, Several
from tilctl.engine.intents import resolve
from tilctl.engine.state import Intent, StepStatus
from tilctl.engine.together import together


async def run(context: Context, step: Parallel) -> None:
    """Walk all branches; over when all of them are."""
    if ending := _ending(context, step):
        # Invariant: a batch that a branch was about to end ends over no dose of which nobody knows what it came to.
        for intent in _open(context):
            await resolve(context.at(intent.path, context.aliases), intent)
        await _branch(context, step, ending)
    try:
        await together({name: _branch(context, step, name) for name in step.branches})
    except ProcedureEnd as end:
        told = f"what went over is in doubt, and the batch was to end ({end.reason})"
        if doubts := [InDoubt(intent.number, f"{intent.path}: {told}") for intent in _open(context)]:
            raise Several(doubts) from end
        raise


async def _branch(context: Context, step: Parallel, name: str) -> None:
    await context.walk(step.branches[name], f"{context.path}/{name}", context.aliases)


def _open(context: Context) -> list[Intent]:
    """Return the doses of the branches that are not closed."""
    doses = [intent for intent in context.batch.state.open_intents() if intent.action == "dispense"]
    return [intent for intent in doses if intent.path.startswith(f"{context.path}/")]


def _ending(context: Context, step: Parallel) -> str:
    """Return the branch that has come to an `end` already, "" where none has."""
    for name in step.branches:
        for node in context.batch.state.nodes.values():
            below = node.path.startswith(f"{context.path}/{name}/")
            if below and node.verb == "end" and node.status is not StepStatus.COMPLETE:
                return name
    return ""
