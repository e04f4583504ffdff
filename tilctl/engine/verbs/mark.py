"""`mark`: name this moment; biological time counts from it."""

from __future__ import annotations

from recipes.steps import Mark
from tilctl.engine.context import Context
from tilctl.engine.state import format_time
from tilctl.journal import events as ev


async def run(context: Context, step: Mark) -> None:
    """Put the mark on the record, once: a repeated walk keeps the first moment."""
    if step.id not in context.batch.state.marks:
        await context.batch.record(ev.Marked(step.id, format_time(context.batch.clock.now())))
