"""Leaks: what hangs in a unit loses weight, all together, though nothing is transferred.

Judged by the readings' own times: with a scan of half an hour a loss is held against what half an hour may bring.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from tilctl.guard.fluid_rules import HAND_G, LEAK_ML, LEAK_S, SEEP_ML, SEEP_S
from tilctl.guard.fluid_view import Held, Picture

KEPT = 128  # moments of each window
FINE_S = 60.0  # s; readings that are further apart do not tell a hand from a leak


class _Window:
    """What hung in each place over a span (s), a moment every so often; so much (mL) may be lost in it."""

    def __init__(self, span_s: float, most_ml: float, every_s: float) -> None:
        self._span_s, self._most_ml, self._every_s = span_s, most_ml, every_s
        self._kept: deque[tuple[float, dict[str, float]]] = deque(maxlen=KEPT)  # time (s), g by container

    def forget(self) -> None:
        self._kept.clear()

    def drop(self, name: str) -> None:
        for _, masses in self._kept:
            masses.pop(name, None)

    def lost(self, now: float, masses: Mapping[str, float], known: Mapping[str, Held]) -> float | None:
        """Keep this moment; return what is lost (mL) beyond what may be, None where there is no earlier one."""
        if not self._kept or now - self._kept[-1][0] >= self._every_s:
            self._kept.append((now, dict(masses)))
        while len(self._kept) > 1 and self._kept[1][0] <= now - self._span_s:
            self._kept.popleft()
        for name, mass in masses.items():  # what has just come back is looked at from now on
            for _, kept in self._kept:
                kept.setdefault(name, mass)
        then, before = self._kept[0]
        if then >= now:
            return None
        both = before.keys() & masses.keys()
        lost = sum((before[name] - masses[name]) / known[name].density for name in both)
        return lost - self._most_ml * max(1.0, (now - then) / self._span_s)


class LeakWatch:
    """Holds what hangs in all places against what hung there a little before, and some hours before."""

    def __init__(self) -> None:
        self._epoch = -1
        self._windows = (_Window(LEAK_S, LEAK_ML, 10.0), _Window(SEEP_S, SEEP_ML, 600.0))
        self._last: dict[str, tuple[float, float]] = {}

    def forget(self) -> None:
        """Begin anew: liquid is moved, or a person has seen to it."""
        for window in self._windows:
            window.forget()
        self._last.clear()

    def lost(self, now: float, picture: Picture, masses: Mapping[str, float]) -> float | None:
        """Return how much (mL) is lost beyond what may be, of containers by name; None where nothing is known yet.

        More than 0 is a leak.  What people do is none: places that are lifted, or that change in steps while somebody
        is asked to work there, begin anew.
        """
        if picture.epoch != self._epoch:
            self._epoch = picture.epoch
            self.forget()
        known = {held.name: held for held in picture.containers}
        present: dict[str, float] = {}
        for name, mass in masses.items():
            held = known.get(name)
            if held is None:
                continue
            if held.lifted(mass) or self._by_hand(now, held, mass, picture):
                for window in self._windows:
                    window.drop(name)
            self._last[name] = (now, mass)
            if not held.lifted(mass):
                present[name] = mass
        found = [window.lost(now, present, known) for window in self._windows]
        return max((lost for lost in found if lost is not None), default=None)

    def _by_hand(self, now: float, held: Held, mass: float, picture: Picture) -> bool:
        if picture.hands is not None and held.place not in picture.hands:
            return False
        then, before = self._last.get(held.name, (now, mass))
        return abs(mass - before) > HAND_G or now - then > FINE_S
