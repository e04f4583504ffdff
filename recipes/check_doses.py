"""Checking doses of a substance: a stock that is declared, and a volume that pump and scale can show."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from devices.document import DataPath
from devices.quantity import Dim
from recipes.bounds import Bound, between, exactly, product_of
from recipes.check_expr import expression
from recipes.dosing import DoseError, Stock, stock_of
from recipes.findings import Findings
from recipes.model import Recipe
from recipes.names import Names
from recipes.steps import Transfer

UNPROVABLE_ML = 5.0
"""mL: a dose under ten times what a scale resolves (0.5 g) cannot be told from nothing after a crash (engineering)."""
LEAST_DOSE_ML, SMALLEST_DOSE_ML = 3.0, 0.5
"""mL: a dose by stock below the first wants a pre-dilution (domain brief 5.1, derived: 3 mL of OKT3 at 50 ug/mL and not
0.15 mL at 1 mg/mL); below the second the engine moves nothing (engineering)."""


@dataclass
class Given:
    """The volume of a dose as a bound (mL), and what is wrong with it: code, message, hint, whether it is an error."""

    volume: Bound
    found: list[tuple[str, str, str, bool]] = field(default_factory=list[tuple[str, str, str, bool]])


def check_dose(step: Transfer, source: str, names: Names, findings: Findings, path: DataPath) -> None:
    """Report a dose without a declared stock, and one of another dimension than its stock has."""
    try:
        stock = stock_of(step, names.recipe.containers, source)
    except DoseError as error:
        if error.unknown:  # a concentration that is none is reported where it is declared
            field = "of" if step.of is not None else "from"
            findings.error("stock-unknown", (*path, field), error.message, error.hint)
        return
    want = stock.of_amounts if step.final is None else stock.unit
    expression(step.dose or step.final or "", names, findings, (*path, step.amount), want)


def dose_bound(step: Transfer, recipe: Recipe, source: str, filled: Bound, bound_of: Callable[[str], Bound]) -> Given:
    """Return what a dose into a container that holds `filled` comes to at worst; nothing, where it cannot be."""
    try:
        stock = stock_of(step, recipe.containers, source)
        if step.final is None:
            given = Given(bound_of(step.dose or "").times(1.0 / stock.per_ml))
            return _judged(given, stock, step, 0.0)
        final = bound_of(step.final).interval
        for edge in final:
            stock.finally_per_ml(Dim.of(stock.unit).canonical(edge))
    except DoseError as error:
        return Given(exactly(0.0), [] if error.unknown else [("dose-impossible", error.message, error.hint, True)])
    parts = [edge / (stock.per_ml - edge) for edge in final]
    return _judged(Given(product_of(between(parts[0], parts[1]), filled)), stock, step, max(0.0, final[0]))


def _judged(given: Given, stock: Stock, step: Transfer, final: float) -> Given:
    """Say which pre-dilution would do where a dose is too little to be shown; `final` is wanted per mL."""
    low, most = given.volume.interval
    least = low if low > 0.0 else most  # of a container whose volume is not known at all, the most is judged
    if not 0.0 < least < LEAST_DOSE_ML:
        return given
    # The amount stays, in a volume that a scale shows; the diluent counts where a final concentration is wanted.
    part = least / UNPROVABLE_ML
    share = part + final / stock.per_ml * (1.0 - part)
    certain = most < SMALLEST_DOSE_ML
    limit = (
        f"below {SMALLEST_DOSE_ML:g} mL nothing is moved" if certain else f"pump and scale show {LEAST_DOSE_ML:g} mL"
    )
    message = f"{'as little as ' if least < most else ''}{least:.3g} mL of {step.from_} are dosed, {limit}"
    diluted = f"{{{stock.substance}: {stock.diluted(share)}}}"
    hint = f"let a person dilute it 1 to {math.ceil(1.0 / share)} (ask), mount that and declare stock: {diluted}"
    given.found.append(("dose-small", message, hint, certain))
    return given
