"""`end`: the recipe ends the batch here."""

from __future__ import annotations

from recipes.steps import End
from tilctl.engine.context import Context
from tilctl.engine.errors import ProcedureEnd


async def run(context: Context, step: End) -> None:
    """End the procedure with its result."""
    raise ProcedureEnd(step.as_, context.fill_in(step.reason))
