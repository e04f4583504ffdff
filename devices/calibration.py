"""Calibrations as data: what was measured, when, by whom, until when it holds; the older ones are kept as history."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

MOST_OFF: Mapping[str, float] = {"degC": 3.0, "g": 5000.0, "pH": 1.0, "%": 10.0, "mL/min": 100.0, "rpm": 10.0}
"""By how much, in its unit, a correction may change what was shown; a probe that is further off is broken, and no
reading of it is made good by arithmetic (engineering default).  3 K is a little more than a thermocouple may be off;
5 kg is a holder with its vessel on a load cell that was never tared; 10 % is oxygen in a bag that was never calibrated.
"""

MOST_OFF_CO2 = 3.0  # %; cells grow in 5 %: a correction near that would show none as enough (engineering default)

SLOPES: Mapping[str, tuple[float, float]] = {"degC": (0.9, 1.1)}
ANY_SLOPE = (0.5, 2.0)
"""What one unit more that is shown may mean, between two pairs; `SLOPES` where less than `ANY_SLOPE` is known.

Beyond it the instrument hardly moves any more, or a noise of it is a jump.  An interlock at 44 degC must not wait for
50 degC because of two pairs that lie close together: so much narrower for temperatures (engineering default).
"""

PER_TURN = (0.001, 50.0)  # mL; from the finest tubing in a small head to the widest in a large one (engineering)
TURNS_ALIKE = 2.0
"""How much more one turn may move at one pair of a pump curve than at another: a head moves the same with each turn,
less its slip (engineering default)."""


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


class Curve:
    """A pump's curve for one tubing set: rpm to mL/min and back, by straight lines between what was measured."""

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        """Take at least one (rpm, mL/min) pair.

        Raises ValueError unless both rise from pair to pair, and one turn moves what a turn of a pump can.
        """
        self._rpm = [rpm for rpm, _ in points]
        self._rate = [rate for _, rate in points]
        for series in (self._rpm, self._rate):
            if not series or series[0] <= 0 or any(b <= a for a, b in pairwise(series)):
                raise ValueError("a pump curve is pairs of rpm and mL/min, both more than 0 and rising")
        turns = [rate / rpm for rpm, rate in points]
        if not (PER_TURN[0] <= min(turns) and max(turns) <= PER_TURN[1] and max(turns) <= TURNS_ALIKE * min(turns)):
            raise ValueError(
                f"one turn moves {min(turns):.3g} to {max(turns):.3g} mL, expected {PER_TURN[0]:g} to {PER_TURN[1]:g} "
                f"mL, and at no speed more than {TURNS_ALIKE:g} times as much as at another"
            )

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


def implausible(points: Sequence[tuple[float, float]], unit: str, point: str = "") -> tuple[int, str] | None:
    """Return which pair of a correction cannot be one of an instrument that works, and why; None where all can.

    `unit` is that of both values of a pair, `point` the name of what is corrected.
    """
    most = MOST_OFF_CO2 if "co2" in point.split("_") else MOST_OFF.get(unit, 0.0)
    least, steepest = SLOPES.get(unit, ANY_SLOPE)
    for at, (shown, meant) in enumerate(points):
        if abs(meant - shown) > most * (1 + 1e-9):
            by = f"{meant - shown:+g} {'K' if unit == 'degC' else unit}"
            return at, f"{shown:g} {unit} is corrected by {by}, expected at most {most:g} either way"
        if at == 0:
            continue
        before, meant_before = points[at - 1]
        if shown <= before:
            return at, "what was shown must rise from pair to pair"
        if meant <= meant_before:
            return at, "what was measured must rise from pair to pair"
        slope = (meant - meant_before) / (shown - before)
        if not least <= slope <= steepest:
            text = f"from {before:g} to {shown:g} {unit} its slope is {slope:.3g}, expected {least:g} to {steepest:g}"
            return at, text
    return None


def _between(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    at = min(bisect_left(xs, x), len(xs) - 1)
    x0, y0 = (xs[at - 1], ys[at - 1]) if at else (0.0, 0.0)
    return y0 + (x - x0) * (ys[at] - y0) / (xs[at] - x0)
