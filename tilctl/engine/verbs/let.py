"""`let`: compute values once and freeze them."""

from __future__ import annotations

from recipes.expr import INVALID
from recipes.steps import Let
from tilctl.engine.context import Context
from tilctl.engine.errors import StepError


async def run(context: Context, step: Let) -> None:
    """Compute the values in their order; each is on the record before the next may use it."""
    for name, text in step.values.items():
        value = context.evaluate(text)
        if value is INVALID:
            context.number(text, "")  # raises, and says which operand is missing
            raise StepError(f"{context.path}: '{text}' is not known", "see to its operands, then restart the batch")
        await context.set_values({name: value})
