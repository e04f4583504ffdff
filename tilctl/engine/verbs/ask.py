"""`ask`: a person does something, gives values, scans, signs."""

from __future__ import annotations

from typing import Any

from devices.quantity import parse_as
from recipes.ranges import parse_range
from recipes.steps import Ask, Input
from tilctl.engine.context import Context
from tilctl.engine.errors import StepError
from tilctl.engine.overdue import answered
from tilctl.journal import events as ev


async def run(context: Context, step: Ask) -> None:
    """Ask, wait for the answer, and see that `check` holds once it is in force."""
    inputs: dict[str, Any] = {name: spec_of(given) for name, given in step.inputs.items()}
    inputs |= {f"scan.{name}": {"type": "scan", "label": f"scan {name}"} for name in step.scan}
    inputs |= {f"sign.{role}": {"type": "text", "label": f"{role} (name or badge)"} for role in step.sign}
    spec: dict[str, Any] = {"inputs": inputs, "sign": list(step.sign), "containers": []}
    due = None if step.due is None else parse_as(step.due, "s")
    attempt = len([name for name in context.node.phases if name.startswith("failed_check")]) + 1
    prompt = await context.prompts.ask(context.path, "ask", context.fill_in(step.text), spec, due, attempt)
    await answered(context, prompt, step.on_overdue)
    if step.check is None:
        return
    try:
        holds = context.truth(step.check)
    except StepError:  # not known is not true: it is asked anew as well, or it could never be answered otherwise
        await context.batch.record(ev.StepPhase(context.path, f"failed_check_{attempt}", {"unknown": True}))
        raise
    if not holds:
        await context.batch.record(ev.StepPhase(context.path, f"failed_check_{attempt}", {}))
        raise StepError(
            f"{context.path}: '{step.check}' does not hold", "see to it, restart the batch and answer again"
        )


def spec_of(given: Input) -> dict[str, Any]:
    """Return how an input is published: type, unit, limits, choices."""
    spec: dict[str, Any] = {"type": given.type, "label": given.label or "", "optional": given.optional}
    if given.choices:
        spec["choices"] = list(given.choices)
    if given.type == "number":
        spec |= number_spec(given.unit or "", given.range)
    return spec


def number_spec(unit: str, range_text: str | None) -> dict[str, Any]:
    """Return unit and limits of a number: `unit` as shown, `canonical`, and min and max in the canonical unit."""
    if range_text is None:
        return {"unit": unit, "canonical": _canonical(unit)}
    limits = parse_range(range_text, unit or None)
    return {"unit": unit, "canonical": limits.unit, "min": limits.low, "max": limits.high}


def _canonical(unit: str) -> str:
    from devices.quantity import parse  # noqa: PLC0415  pint is loaded only where a unit has to be read

    return parse(f"1 {unit}".strip()).unit
