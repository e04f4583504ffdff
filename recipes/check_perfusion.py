"""Checking what a perfusion is told besides its transfers: its rate, the limits of it, its times."""

from __future__ import annotations

from devices.document import DataPath
from devices.quantity import QuantityError, parse_as
from recipes import kinds
from recipes.check_expr import expression
from recipes.findings import Findings
from recipes.names import Names
from recipes.perfusion import LEAST_PART_ML, rate_limits
from recipes.steps import Perfuse


def check_rate(step: Perfuse, names: Names, findings: Findings, path: DataPath) -> None:
    """Report what is wrong with rate, limits and times; the rate in force is a name from here on."""
    expression(step.rate, names, findings, (*path, "rate"), "mL/min")
    findings.span(step.between, "mL/min", (*path, "between"))
    for field in ("every", "longest"):
        findings.quantity(getattr(step, field), ("s",), (*path, field))
    names.bring(f"{step.id}.rate", kinds.number("mL/min"), maybe=step.when is not None)
    _small(step, findings, path)


def _small(step: Perfuse, findings: Findings, path: DataPath) -> None:
    low, high = rate_limits(step.between)
    try:
        every = parse_as(step.every, "s") / 60.0
    except QuantityError:
        return
    part = low * every if low > 0.0 else high * every
    if part < LEAST_PART_ML:
        message = f"{part:.3g} mL are exchanged at a time, too little to show by mass that they were"
        findings.warning(
            "perfusion-small", (*path, "every"), message, f"exchange {LEAST_PART_ML:g} mL or more, less often"
        )
