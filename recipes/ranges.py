"""Ranges as recipes write them: `1..4`, `0..48 h`, `10 d..12 d`, `1e6..1e8 cells`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from devices.quantity import Quantity, QuantityError, parse

_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*(.*?)\s*\.\.\s*({_NUMBER})\s*(.*?)\s*")


@dataclass(frozen=True, slots=True)
class Range:
    """Two bounds, both included, in the canonical `unit`."""

    low: float
    high: float
    unit: str

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g} {self.unit}".rstrip()


def parse_range(text: str, unit: str | None = None) -> Range:
    """Return the range of a text; a bound without a unit takes the other's, or `unit` where both have none.

    Raises QuantityError when it is no range, its bounds have different dimensions, or the low one is higher.
    """
    match = _RANGE.fullmatch(text)
    if match is None:
        raise QuantityError(f"'{text}' is no range", "two bounds", "write 1..4 or 10 d..12 d")
    fallback = (match[4] or match[2] or unit or "").strip()
    low, high = _bound(match[1], match[2] or fallback), _bound(match[3], match[4] or fallback)
    if low.unit != high.unit:
        raise QuantityError(f"the bounds of '{text}' are of different kinds ({low.unit or '-'}, {high.unit or '-'})")
    if low.value > high.value:
        raise QuantityError(f"'{text}' is empty: write the lower bound first")
    return Range(low.value, high.value, low.unit)


def _bound(number: str, unit: str) -> Quantity:
    return parse(f"{number} {unit}".strip())
