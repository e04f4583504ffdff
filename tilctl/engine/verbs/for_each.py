"""`for_each`: the steps once for each mounted container of a family."""

from __future__ import annotations

from recipes.steps import ForEach
from tilctl.engine.context import Context
from tilctl.journal import events as ev


async def run(context: Context, step: ForEach) -> None:
    """Walk the steps for each member; which members there are is settled when the loop begins."""
    begun = context.node.phases.get("members")
    if begun is None:
        members = [container.name for container in context.batch.state.ledger.family(step.in_)]
        await context.batch.record(ev.StepPhase(context.path, "members", {"names": members}))
    else:
        members = [str(name) for name in begun[1]["names"]]
    for number, name in enumerate(members, start=1):
        await context.walk(step.steps, f"{context.path}/{number}", {**context.aliases, step.as_: name})
