"""The oracle for time: an incubation is as long as its recipe says, by the plant's clock and not the record's.

It understands the usual form of an incubation, `since(MARK) >= TIME` and `day >= TIME`; others it lets pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from devices.quantity import parse_as
from recipes.steps import Incubate
from tilctl.cli.rehearsing.violations import Book
from tilctl.cli.rehearsing.written import Written
from tilctl.engine.state import BatchState
from tilctl.journal import events as ev

USUAL = re.compile(r"^\s*(?:since\((?P<mark>\w+)\)|(?P<day>day))\s*>=\s*(?P<time>[\d.]+ *[a-z]+)\s*$")
DAY_FROM = "day0"
EARLY_S = 5.0  # s that the record's milliseconds and the commits may cost
LATE_S = 900.0  # s that an undisturbed incubation may end late: one quiet scan, and what is beside it


@dataclass
class TimeOracle:
    """Judges waits; `now` is seconds of the plant, `off` by how much (s) the record's time may honestly be wrong."""

    book: Book
    written: Written
    now: Callable[[], float]
    off: Callable[[], float]
    disturbed: int = 0  # outages, holds and the like so far: a wait with one in it may end late
    _marks: dict[str, float] = field(default_factory=dict[str, float])
    _began: dict[str, tuple[int, float]] = field(default_factory=dict[str, tuple[int, float]])
    _ended: set[str] = field(default_factory=set[str])

    def marked(self, event: ev.Marked) -> None:
        """Take note of a moment from which biological time counts."""
        self._marks[event.mark] = self.now()

    def started(self, event: ev.StepStarted) -> None:
        """Take note of the beginning of a step."""
        self._began.setdefault(event.path, (self.disturbed, self.now()))

    def completed(self, state: BatchState, event: ev.StepCompleted) -> None:
        """Judge the end of a step: it comes once, and an incubation is as long as it should be."""
        if event.path in self._ended:
            self.book.note("step_once", f"{event.path} was completed twice")
        self._ended.add(event.path)
        wait = self._wait(state, event.path)
        if wait is None or event.data.get("skipped"):
            return
        since, wanted = wait
        elapsed = self.now() - since
        off = self.off()
        if elapsed < wanted - EARLY_S - off:
            self.book.note(
                "biological_time", f"{event.path} ended after {elapsed:.0f} s, it was to last {wanted:.0f} s"
            )
        disturbed, began = self._began.get(event.path, (-1, since))
        if disturbed == self.disturbed and elapsed > max(wanted, began - since) + LATE_S + off:
            self.book.note("on_time", f"{event.path} ended after {elapsed:.0f} s undisturbed, due after {wanted:.0f} s")

    def due(self, state: BatchState, path: str) -> float | None:
        """Return when (s of the plant) an incubation of the usual form should end; None where that is not known."""
        wait = self._wait(state, path)
        return None if wait is None else wait[0] + wait[1]

    def _wait(self, state: BatchState, path: str) -> tuple[float, float] | None:
        """Return from when and for how long (s) an incubation waits."""
        step = self.written.step(state, path)
        found = USUAL.match(step.until) if isinstance(step, Incubate) else None
        since = None if found is None else self._marks.get(found["mark"] or DAY_FROM)
        return None if found is None or since is None else (since, parse_as(found["time"], "s"))
