"""A reading: what an instrument said, how good it is, and when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

Value = float | bool | str | None


class Quality(StrEnum):
    """How far a value may be trusted (OPC-style, worst last)."""

    GOOD = "good"
    UNCERTAIN = "uncertain"
    STALE = "stale"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one point.

    `value` is in the canonical unit `unit` (see `devices.quantity`), a symbol for enumerated points, or None
    when the quality is bad: never NaN, never a made-up zero.  `at` is the monotonic time (s) of the source.
    """

    value: Value
    unit: str
    quality: Quality
    at: float

    def aged(self, now: float, stale_after: float) -> Reading:
        """Return this reading as seen at `now` (monotonic s): good and uncertain turn stale with age."""
        if self.quality in (Quality.GOOD, Quality.UNCERTAIN) and now - self.at > stale_after:
            return replace(self, quality=Quality.STALE)
        return self


class _Draft:
    """A reading in the making: what is frozen is slow to fill."""

    __slots__ = ("at", "quality", "unit", "value")

    def __init__(self, value: Value, unit: str, quality: Quality, at: float) -> None:
        self.value = value
        self.unit = unit
        self.quality = quality
        self.at = at


def made(value: Value, unit: str, quality: Quality, at: float) -> Reading:
    """Return `Reading(value, unit, quality, at)`, in less than half the time; for decoders."""
    draft: Any = _Draft(value, unit, quality, at)
    draft.__class__ = Reading
    return draft


def bad(unit: str, at: float) -> Reading:
    """Return the reading of a point that could not be read."""
    return Reading(None, unit, Quality.BAD, at)
