"""The oracle for time: an incubation is as long as its recipe says, by the plant's clock and not the record's.

It understands the usual form of an incubation, `since(MARK) >= TIME` and `day >= TIME`; others it lets pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from devices.document import parse, validate
from devices.quantity import parse_as
from recipes.model import Recipe, walk
from tilctl.cli.rehearsing.violations import Book
from tilctl.engine.state import BatchState, bare_path
from tilctl.journal import events as ev

USUAL = re.compile(r"^\s*(?:since\((?P<mark>\w+)\)|(?P<day>day))\s*>=\s*(?P<time>[\d.]+ *[a-z]+)\s*$")
DAY_FROM = "day0"
EARLY_S = 5.0  # s that the record's milliseconds and the commits may cost
LATE_S = 900.0  # s that an undisturbed incubation may end late: one quiet scan, and what is beside it


@dataclass
class TimeOracle:
    """Judges waits; `now` is seconds of the plant, `off` by how much (s) the record's time may honestly be wrong."""

    book: Book
    now: Callable[[], float]
    off: Callable[[], float]
    disturbed: int = 0  # outages, holds and the like so far: a wait with one in it may end late
    _marks: dict[str, float] = field(default_factory=dict[str, float])
    _began: dict[str, int] = field(default_factory=dict[str, int])
    _ended: set[str] = field(default_factory=set[str])
    _untils: dict[str, str] | None = None

    def marked(self, event: ev.Marked) -> None:
        """Take note of a moment from which biological time counts."""
        self._marks[event.mark] = self.now()

    def started(self, event: ev.StepStarted) -> None:
        """Take note of the beginning of a step."""
        self._began.setdefault(event.path, self.disturbed)

    def completed(self, state: BatchState, event: ev.StepCompleted) -> None:
        """Judge the end of a step: it comes once, and an incubation is as long as it should be."""
        if event.path in self._ended:
            self.book.note("step_once", f"{event.path} was completed twice")
        self._ended.add(event.path)
        found = USUAL.match(self._until(state, event.path))
        if found is None or event.data.get("skipped"):
            return
        since = self._marks.get(found["mark"] or DAY_FROM)
        if since is None:
            return
        wanted, elapsed = parse_as(found["time"], "s"), self.now() - since
        off = self.off()
        if elapsed < wanted - EARLY_S - off:
            self.book.note(
                "biological_time", f"{event.path} ended after {elapsed:.0f} s, it was to last {wanted:.0f} s"
            )
        calm = self._began.get(event.path) == self.disturbed
        if calm and elapsed > wanted + LATE_S + off:
            self.book.note("on_time", f"{event.path} ended after {elapsed:.0f} s undisturbed, due after {wanted:.0f} s")

    def _until(self, state: BatchState, path: str) -> str:
        if self._untils is None:
            created = state.created
            if created is None:
                return ""
            recipe = validate(parse(created.recipe_text, created.recipe), Recipe, "schema")
            steps = [each for operation in recipe.procedure for each in walk(operation.steps, operation.id)]
            self._untils = {p: str(getattr(step, "until", "")) for p, step in steps if step.verb == "incubate"}
        return self._untils.get(bare_path(path), "")
