"""`note`: a sentence on the record."""

from __future__ import annotations

from recipes.steps import Note
from tilctl.engine.context import Context
from tilctl.journal import events as ev


async def run(context: Context, step: Note) -> None:
    """Put the note on the record."""
    await context.batch.record(ev.Noted(context.path, context.fill_in(step.text), step.exception))
