"""The oracle for warm cells: the chamber is at its standing target, but for what faults of the climate itself cost.

What the faults may cost follows from physics: the chamber runs towards its goal with one time constant, so that it is
within `COLD_K` of its target `tau * ln(farthest / COLD_K)` after it began to be heated again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simulators.faults.model import Fault
from simulators.physics.contents import ROOM
from simulators.physics.thermal import Climate
from tilctl.cli.rehearsing.violations import Book
from tilctl.engine.state import BatchState

CHAMBER = "incubator"
COLD_K = 3.0  # K off its target that a chamber may be, doors included
HOTTEST_C, COOLEST_C = 79.0, 37.0  # a runaway heater at most, and the target that culture then comes back to
NOTICED_S = (
    450.0  # s until a controller sees a target that is gone, and has it written: quiet scans, a probe's back-off
)
LOOKS_S = 120.0  # s without a look: no controller was there to write a target
HOT_C = 38.0  # below this no interlock of the site has a cause (39 degC)


def recovers_s(climate: Climate) -> float:
    """Return how long (s) a chamber needs from the farthest that a fault can bring it, to `COLD_K` from its target."""
    farthest = max(HOTTEST_C - COOLEST_C, COOLEST_C - ROOM)
    return NOTICED_S + climate.temperature.tau * math.log(farthest / COLD_K)


@dataclass
class WarmOracle:
    """Judges the chamber; `now` is seconds of the world, `at` the plant's own time (s).

    `hands_off` says whether the controller is in safe mode: it alarms, and mends nothing until a person leaves it.
    """

    climate: Climate
    book: Book
    now: Callable[[], float]
    at: Callable[[], float]
    hands_off: Callable[[], bool]
    _from: float = 0.0  # nothing is judged before
    _target: float | None = None
    _looked: float = 0.0

    def befalls(self, fault: Fault, devices: Sequence[str]) -> None:
        """Take note of a fault of some instruments; only those of the incubator can warm or cool the chamber."""
        if CHAMBER in devices:
            self._from = max(self._from, self.now() + fault.lasts_s + recovers_s(self.climate))

    def look(self, state: BatchState) -> None:
        """Judge at a scan."""
        target = next((v for tag, (v, _) in state.targets.items() if tag.endswith(".temperature")), None)
        if not isinstance(target, (int, float)):
            return
        now, before, self._looked = self.now(), self._looked, self.now()
        excused = before < self._from  # when it was looked at last
        absent = now - before > LOOKS_S or self.hands_off()
        if target != self._target or self.climate.heater_cut or (excused and absent):
            # newly wanted; cut off, until a person restarts; or nobody was there to mend what a fault had left
            self._target = target
            self._from = max(self._from, now + recovers_s(self.climate))
        found = self.climate.temperature.at(self.at())
        if now >= self._from and abs(found - target) > COLD_K:
            self._from = now + recovers_s(self.climate)  # told once, and again if it stays so
            text = f"the chamber is at {found:.1f} degC, its standing target is {target:g} degC"
            self.book.note("cells_warm", text)

    def cuts(self) -> None:
        """Judge a heater that is cut off: cells go cold by it, so there must be a cause."""
        found = self.climate.temperature.at(self.at())
        if found < HOT_C and self.now() >= self._from:
            self.book.note("cells_warm", f"the heater was cut off at {found:.1f} degC")
