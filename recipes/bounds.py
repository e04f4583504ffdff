"""What an expression can come to at worst: affine arithmetic over the ranges that a recipe declares.

A bound is `constant + sum(coefficient * symbol)`, each symbol with its interval.  Sums keep their symbols, so that
`5 L - seed.volume`, filled up with `seed.volume`, is 5 L and not 5 L and a half; whatever is not linear becomes a new
symbol with the interval that it must lie in.  All values are coherent (mL, s, cells, ...).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count, product
from typing import Protocol

from recipes import syntax, units
from recipes.syntax import Node

Interval = tuple[float, float]
EVERYTHING: Interval = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Bound:
    """A value that is not known but bounded; `terms` maps each symbol to its coefficient and interval."""

    constant: float = 0.0
    terms: dict[str, tuple[float, Interval]] = field(default_factory=dict[str, tuple[float, Interval]])

    @property
    def interval(self) -> Interval:
        """Return the least and the greatest value."""
        low = high = self.constant
        for factor, (bottom, top) in self.terms.values():
            low += factor * (bottom if factor > 0 else top)
            high += factor * (top if factor > 0 else bottom)
        return low, high

    @property
    def low(self) -> float:
        """Return the least value."""
        return self.interval[0]

    @property
    def high(self) -> float:
        """Return the greatest value."""
        return self.interval[1]

    def plus(self, other: Bound, factor: float = 1.0) -> Bound:
        """Return `self + factor * other`, symbol by symbol."""
        terms = dict(self.terms)
        for name, (coefficient, interval) in other.terms.items():
            total = terms.get(name, (0.0, interval))[0] + factor * coefficient
            terms[name] = (total, interval)
            if total == 0:
                del terms[name]
        return Bound(self.constant + factor * other.constant, terms)

    def times(self, factor: float) -> Bound:
        """Return `factor * self`."""
        return Bound().plus(self, factor) if factor else Bound()


def exactly(value: float) -> Bound:
    """Return the bound of a value that is known."""
    return Bound(value)


_fresh = count(1)


def between(low: float, high: float, name: str = "") -> Bound:
    """Return a value of which only the interval is known; equal `name`s are the same value."""
    if low == high:
        return Bound(low)
    return Bound(0.0, {name or f"#{next(_fresh)}": (1.0, (low, high))})


def at_most(value: Bound, most: float) -> Bound:
    """Return a value that is cut off at `most`, and then at 0."""
    if value.high <= most:
        return value
    return between(min(max(0.0, value.low), most), most)


def either(one: Bound, other: Bound) -> Bound:
    """Return a bound that holds for both: the two ways of a choice met again."""
    if one == other:
        return one
    return between(min(one.low, other.low), max(one.high, other.high))


class BoundScope(Protocol):
    """Where names get their bounds; indices stand as they are written in the text."""

    def bound_of(self, name: syntax.Name) -> Bound | None:
        """Return the bound of this name, or None where nothing is known of it."""
        ...


def bound(node: Node, scope: BoundScope) -> Bound:
    """Return the bound of a number; conditions and choices have none and give everything."""
    if isinstance(node, syntax.Literal):
        return Bound(units.literal(node).value)
    if isinstance(node, syntax.Name):
        return scope.bound_of(node) or between(*EVERYTHING, node.pattern)
    if isinstance(node, syntax.Unary) and node.operator == "-":
        return bound(node.operand, scope).times(-1)
    if isinstance(node, syntax.Binary) and node.operator in "+-*/":
        return _arithmetic(node.operator, bound(node.left, scope), bound(node.right, scope))
    if isinstance(node, syntax.Call):
        return _call(node, scope)
    return between(*EVERYTHING)


def _arithmetic(operator: str, left: Bound, right: Bound) -> Bound:
    if operator in "+-":
        return left.plus(right, 1.0 if operator == "+" else -1.0)
    if operator == "*":
        return product_of(left, right)
    if not right.terms and right.constant:
        return left.times(1 / right.constant)
    bottom, top = right.interval
    if bottom < 0 < top or bottom == top == 0:
        return between(*EVERYTHING)
    inverse = (math.inf if top == 0 else 1 / top, math.inf if bottom == 0 else 1 / bottom)
    return _corners(left.interval, (-math.inf, inverse[1]) if top == 0 else inverse)


def product_of(left: Bound, right: Bound) -> Bound:
    """Return `left * right`, which keeps the symbols of one where the other is known."""
    if not right.terms:
        return left.times(right.constant)
    if not left.terms:
        return right.times(left.constant)
    return _corners(left.interval, right.interval)


def _corners(left: Interval, right: Interval) -> Bound:
    """Return the product of two intervals; 0 times infinity counts as 0, the limit of what is finite."""
    corners = [0.0 if 0 in (a, b) else a * b for a, b in product(left, right)]
    return between(min(corners), max(corners))


_INTERVALS: dict[str, Callable[[list[Interval]], Interval]] = {
    "min": lambda items: (min(low for low, _ in items), min(high for _, high in items)),
    "max": lambda items: (max(low for low, _ in items), max(high for _, high in items)),
    "ceil": lambda items: (_rounded(math.ceil, items[0][0]), _rounded(math.ceil, items[0][1])),
    "floor": lambda items: (_rounded(math.floor, items[0][0]), _rounded(math.floor, items[0][1])),
    "round": lambda items: (_rounded(round, items[0][0]), _rounded(round, items[0][1])),
    "clamp": lambda items: (
        min(max(items[0][0], items[1][0]), items[2][0]),
        min(max(items[0][1], items[1][1]), items[2][1]),
    ),
}


def _rounded(how: Callable[[float], int], value: float) -> float:
    return float(how(value)) if math.isfinite(value) else value


def _call(node: syntax.Call, scope: BoundScope) -> Bound:
    if node.function == "since":
        return between(0.0, math.inf)
    found = [bound(argument, scope) for argument in node.arguments]
    if node.function == "default":
        return either(found[0], found[1])
    if node.function == "abs":
        low, high = found[0].interval
        return found[0] if low >= 0 else between(0.0 if high >= 0 else -high, max(-low, high))
    if node.function == "stepped":
        values = [item.interval for item in found[1::2]]
        return between(min(low for low, _ in values), max(high for _, high in values))
    if node.function not in _INTERVALS:
        return between(*EVERYTHING)
    return between(*_INTERVALS[node.function]([item.interval for item in found]))
