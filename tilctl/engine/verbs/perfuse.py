"""`perfuse`: turns of drawing and refilling, at a rate that each turn settles when it begins."""

from __future__ import annotations

from datetime import timedelta

from devices.quantity import Quantity, parse_as, show
from recipes.expr import INVALID
from recipes.perfusion import settled
from recipes.steps import Perfuse
from tilctl.engine.context import Context
from tilctl.engine.errors import StepError
from tilctl.engine.verbs import repeat


async def run(context: Context, step: Perfuse) -> None:
    """Walk the turns of the `repeat` that this stands for; an outage or a hold makes it no longer."""
    ends = context.node.started + timedelta(seconds=parse_as(step.longest, "s"))
    await repeat.run(context, step.turns, lambda: _settle(context, step), ends)
    _known(context)


async def _settle(context: Context, step: Perfuse) -> None:
    """Put the rate of the turn on the record, where it is another than that of the last."""
    found = context.evaluate(step.rate)
    last = _last(context, step)
    known = None if found is INVALID else context.number(step.rate, "mL/min")
    rate = settled(known, last, step.between, falls=step.falls)
    if rate is None:
        context.number(step.rate, "mL/min")  # raises: there is none, and says what is missing
        raise StepError(f"{context.path}: there is no rate", "see to its operands, then restart the batch")
    if known is not None:
        _known(context)
    elif _alarm(context) not in context.batch.state.alarms:
        text = f"the rate '{step.rate}' is not known; {show(rate, 'mL/min')} stands"
        context.alarm(_alarm(context), "medium", text)
    if rate != last:
        await context.set_values({"rate": Quantity(rate, "mL/min")})


def _last(context: Context, step: Perfuse) -> float | None:
    state, name = context.batch.state, f"{step.id}.rate"
    if state.setters.get(name) != context.path:
        return None
    value, _ = state.values[name]
    return value if isinstance(value, float) else None


def _known(context: Context) -> None:
    if _alarm(context) in context.batch.state.alarms:
        context.clear(_alarm(context))


def _alarm(context: Context) -> str:
    return f"perfusion-rate-{context.path.replace('/', '-')}"
