"""Calibrations as data: what was measured, when, by whom, until when it holds; the older ones are kept as history."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Calibration:
    """One calibration: `what` it is of (tubing set, probe, load cell), and who made it when; it holds until `expires`.

    `points` are pairs of what was set or shown and what was measured: for a pump rpm and mL/min, for a probe or load
    cell what it showed and what the reference said, in the unit of the point. `units` are those of both.
    """

    what: str
    points: tuple[tuple[float, float], ...]
    made: date
    by: str
    expires: date
    units: tuple[str, str] = ("", "")

    def expired(self, today: date) -> bool:
        """Tell whether it holds no more."""
        return today > self.expires


def newest_of(history: Sequence[Calibration]) -> Calibration:
    """Return the newest calibration, which is in force; the others are history. It may have expired."""
    return max(history, key=lambda calibration: calibration.made)


def in_force(history: Sequence[Calibration], today: date) -> Calibration | None:
    """Return the newest calibration that was made by `today`; None where there is none."""
    made = [calibration for calibration in history if calibration.made <= today]
    return newest_of(made) if made else None


class Curve:
    """A pump's curve for one tubing set: rpm to mL/min and back, by straight lines between what was measured."""

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        """Take at least one (rpm, mL/min) pair; raises ValueError unless both rise from pair to pair."""
        self._rpm = [rpm for rpm, _ in points]
        self._rate = [rate for _, rate in points]
        for series in (self._rpm, self._rate):
            if not series or series[0] <= 0 or any(b <= a for a, b in pairwise(series)):
                raise ValueError("a pump curve is pairs of rpm and mL/min, both more than 0 and rising")

    @property
    def most(self) -> float:
        """The greatest rate (mL/min) that was measured; nothing beyond it is asked of the pump."""
        return self._rate[-1]

    def speed(self, rate: float) -> float:
        """Return the speed (rpm) that gives a rate (mL/min); below the first pair by a line through the origin."""
        return _between(self._rate, self._rpm, rate)

    def rate(self, speed: float) -> float:
        """Return the rate (mL/min) at a speed (rpm)."""
        return _between(self._rpm, self._rate, speed)

    def per_turn(self, speed: float) -> float:
        """Return the volume (mL) of one turn at a speed (rpm)."""
        return self.rate(speed) / speed


def corrected(points: Sequence[tuple[float, float]], shown: float) -> float:
    """Return what a probe or load cell means by what it shows: one pair is an offset, more are straight lines."""
    if len(points) == 1:
        return shown + points[0][1] - points[0][0]
    at = min(max(bisect_left([x for x, _ in points], shown), 1), len(points) - 1)
    (x0, y0), (x1, y1) = points[at - 1], points[at]
    return y0 + (shown - x0) * (y1 - y0) / (x1 - x0)


def _between(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    at = min(bisect_left(xs, x), len(xs) - 1)
    x0, y0 = (xs[at - 1], ys[at - 1]) if at else (0.0, 0.0)
    return y0 + (x - x0) * (ys[at] - y0) / (xs[at] - x0)
