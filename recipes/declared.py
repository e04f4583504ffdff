"""What a recipe declares as numbers: how many of a family there may be, limits, the ranges of values."""

from __future__ import annotations

import math

from devices.quantity import Dim, QuantityError, parse_as
from recipes.bounds import Bound, between
from recipes.ranges import Range, parse_range


def count_range(text: str) -> Range | None:
    """Return how many containers a family may have (`1..4`, `3`), or None where the text says no such thing."""
    try:
        found = parse_range(text if ".." in text else f"{text}..{text}")
    except QuantityError:
        return None
    whole = found.low == int(found.low) and found.high == int(found.high)
    return found if not found.unit and whole and found.low >= 1 else None


def volume_ml(text: str) -> float:
    """Return a volume (mL), without any bound where the text is none: that is reported where it stands."""
    try:
        return parse_as(text, "mL")
    except QuantityError:
        return math.inf


def ranged(text: str | None, unit: str | None, name: str) -> Bound:
    """Return the bound of a value by its range; equal names are the same value."""
    if text is None:
        return between(-math.inf, math.inf, name)
    try:
        found = parse_range(text, unit)
    except QuantityError:
        return between(-math.inf, math.inf, name)
    dim = Dim.of(found.unit)  # bounds are coherent: a rate is in mL/s there
    return between(dim.coherent(found.low), dim.coherent(found.high), name)
