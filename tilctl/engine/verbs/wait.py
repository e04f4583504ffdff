"""`wait`: until a condition is true, or for a time; biological time, so it counts while held and during an outage."""

from __future__ import annotations

from recipes.expr import compile
from recipes.steps import Wait
from tilctl.engine.context import Context
from tilctl.engine.errors import StepError
from tilctl.engine.missed import judge
from tilctl.engine.waiting import seconds_since, until_true
from tilctl.journal import events as ev


async def run(context: Context, step: Wait) -> None:
    """Wait, with a due time that was settled when the step began."""
    if step.for_ is not None:
        due = context.due(context.number(step.for_, "s"))
        await context.sleep_until(due)
        await judge(context, step, (context.batch.clock.now() - due).total_seconds())
        return
    limit = None if step.timeout is None else context.due(context.number(step.timeout, "s"))
    condition = compile(step.until or "true")
    if await until_true(context, condition, limit):
        await judge(context, step, seconds_since(context, condition))
        return
    if step.on_timeout == "hold":
        raise StepError(
            f"{context.path}: '{step.until}' did not come true within {step.timeout}",
            "see to its operands, then restart the batch",
        )
    await context.batch.record(ev.ExceptionRaised("timeout", f"'{step.until}' not within {step.timeout}", context.path))
