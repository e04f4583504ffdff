"""Numbers inside an expression: a value in coherent units (mL, g, s, cells, ...) with its dimension.

Canonical units that are not coherent (mL/min beside mL and s) are converted where a number enters or leaves, so that
`5 L / 80 mL/min` is a time.  What may be done with dimensions is `devices.quantity.Dim`; here a refusal gets the
column of the operator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from devices.quantity import DEGC, KELVIN, NUMBER, Dim, Quantity, QuantityError, parse
from recipes.syntax import ExprError, Literal

_PERCENT = Dim.of("%")


@dataclass(frozen=True, slots=True)
class Number:
    """A value in coherent units."""

    value: float
    dim: Dim


def number(value: float, unit: str) -> Number:
    """Return the number of a value in its canonical unit; raises QuantityError for a unit that is none."""
    dim = Dim.of(unit)
    return Number(dim.coherent(value), dim)


def named(found: Number) -> Quantity:
    """Return a number in its canonical unit, or in a composed one where its dimension has none.

    Twelve digits are kept where the unit is not coherent, so that 31 mL/min comes back as it went in.
    """
    value = found.dim.canonical(found.value)
    return Quantity(value if found.dim.factor == 1.0 else float(f"{value:.12g}"), found.dim.unit)


def described(dim: Dim) -> str:
    """Return what a message calls this dimension: `volume (mL)`."""
    return f"{dim.name} ({dim.unit})" if dim.unit and dim.known else dim.name


@lru_cache(maxsize=4096)
def literal(node: Literal) -> Number:
    """Return the number of a literal; raises ExprError for a unit that cannot be."""
    try:
        quantity = parse(node.text)
    except QuantityError as error:
        raise ExprError(error.message, node.column, error.hint, code="quantity") from None
    return number(quantity.value, quantity.unit)


def same(left: Dim, right: Dim, column: int) -> None:
    """Refuse two dimensions that cannot be compared."""
    if left == right:
        return
    hint = "the two sides must be of one dimension"
    if {left, right} == {DEGC, KELVIN}:
        hint = "a difference of temperatures is in K"
    elif _PERCENT in (left, right):
        hint = "a percentage is a dimension of its own: compare with 80 %, or write 0.8 as a factor"
    elif NUMBER in (left, right):
        hint = "a number without a unit was left bare"
    raise ExprError(f"{described(left)} does not go with {described(right)}", column, hint, code="dimension")


def plain(dim: Dim, what: str, column: int) -> None:
    """Refuse all but plain numbers."""
    if dim != NUMBER:
        raise ExprError(
            f"{what} is for plain numbers, not {described(dim)}", column, "divide by a unit first", code="dimension"
        )


def negated(dim: Dim, column: int) -> Dim:
    """Return the dimension of -x and abs(x); raises ExprError for Celsius."""
    if dim == DEGC:
        raise ExprError("a temperature in degC has no opposite", column, "subtract two temperatures", code="dimension")
    return dim


_COMBINE: dict[str, Callable[[Dim, Dim], Dim]] = {
    "+": Dim.plus,
    "-": Dim.minus,
    "*": Dim.__mul__,
    "/": Dim.__truediv__,
}


@lru_cache(maxsize=4096)
def combined(operator: str, left: Dim, right: Dim, column: int) -> Dim:
    """Return the dimension of `left operator right` for + - * /; raises ExprError where there is none."""
    try:
        return _COMBINE[operator](left, right)
    except QuantityError as error:
        raise ExprError(error.message, column, error.hint, code="dimension") from None
