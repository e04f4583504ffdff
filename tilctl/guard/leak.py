"""Leaks: what hangs in a unit loses weight, all together, though nothing is transferred.

Judged by the readings' own times: with a scan of half an hour a loss is held against what half an hour may bring.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from tilctl.guard.fluid_rules import HAND_G, LEAK_ML, LEAK_S
from tilctl.guard.fluid_view import Held, Picture

EVERY_S = 10.0  # s between the moments that are kept
KEPT = 128
FINE_S = 60.0  # s; readings that are further apart do not tell a hand from a leak


class LeakWatch:
    """Keeps what hung in each place for a little over ten minutes."""

    def __init__(self) -> None:
        self._epoch = -1
        self._kept: deque[tuple[float, dict[str, float]]] = deque(maxlen=KEPT)  # time (s), g by container
        self._last: dict[str, tuple[float, float]] = {}

    def forget(self) -> None:
        """Begin anew: liquid is moved, or a person has seen to it."""
        self._kept.clear()
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
                self._drop(name)
            self._last[name] = (now, mass)
            if not held.lifted(mass):
                present[name] = mass
        self._keep(now, present)
        base = self._base(now)
        if base is None:
            return None
        then, before = base
        both = before.keys() & present.keys()
        lost = sum((before[name] - present[name]) / known[name].density for name in both)
        return lost - LEAK_ML * max(1.0, (now - then) / LEAK_S)

    def _by_hand(self, now: float, held: Held, mass: float, picture: Picture) -> bool:
        if picture.hands is not None and held.place not in picture.hands:
            return False
        then, before = self._last.get(held.name, (now, mass))
        return abs(mass - before) > HAND_G or now - then > FINE_S

    def _drop(self, name: str) -> None:
        for _, masses in self._kept:
            masses.pop(name, None)

    def _keep(self, now: float, masses: dict[str, float]) -> None:
        if not self._kept or now - self._kept[-1][0] >= EVERY_S:
            self._kept.append((now, masses))
        while len(self._kept) > 1 and self._kept[1][0] <= now - LEAK_S:
            self._kept.popleft()
        for name, mass in masses.items():  # what has just come back is looked at from now on
            for _, kept in self._kept:
                kept.setdefault(name, mass)

    def _base(self, now: float) -> tuple[float, dict[str, float]] | None:
        return self._kept[0] if self._kept and self._kept[0][0] < now else None
