"""The estimates of a recipe as they stand: fed by whoever knows what happened, asked for a moment.

Invariant: what breaks in here is told as the reason why nothing is known, and raised to nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from devices.quantity import parse_as, show
from recipes.estimates import Estimate
from tilctl.estimation.account import Account, Number
from tilctl.estimation.course import Cells, Course
from tilctl.estimation.filter import UnavailableError

Ahead = Callable[[str], float | None]
"""Returns in how many seconds time alone makes a condition true; 0 where it is so, None where nobody knows."""


@dataclass(frozen=True, slots=True)
class Sight:
    """An estimate at a moment (s): `cells` None where nothing is known, and then `why`.

    `end`: cells at the moment `end_at` (s) of its forecast, held against `floor`; `no_end` says why there is none.
    """

    cells: Cells | None = None
    why: str = ""
    end: Cells | None = None
    end_at: float | None = None
    floor: float | None = None
    no_end: str = ""

    @property
    def short(self) -> bool | None:
        """Whether even the upper end of the forecast's interval is below the floor; None where that is not known."""
        return None if self.end is None or self.floor is None else self.end.high < self.floor

    def value(self, name: str) -> float | None:
        """Return a value that expressions may name, such as `at_end_low`; None where it is not known."""
        cells = self.end if name.startswith("at_end") else self.cells
        if cells is None:
            return None
        return {"now": cells.now, "at_end": cells.now}.get(
            name, cells.low if name.endswith("low") else cells.high
        )  # fmt: skip


class Follower:
    """One estimate of a recipe."""

    def __init__(self, name: str, declared: Estimate) -> None:
        self.name = name
        self.declared = declared
        self.account = Account(declared)
        self.course = self._fresh()
        self.broken = ""  # why it estimates no more
        self.unavailable = ""  # what is not installed
        self._taken = 0
        self._needs, self._stale = parse_as(declared.needs, "s"), parse_as(declared.stale, "s")

    def _fresh(self) -> Course:
        return Course(parse_as(self.declared.lag, "s"), oxygen=self.declared.oxygen is not None)

    def caught_up(self) -> Course | None:
        """Take in what is new, and return the course; None where it is broken or cannot be had."""
        inputs = self.account.inputs
        while not self.broken and self._taken < len(inputs):
            self._taken += 1
            try:
                self.course.take(inputs[self._taken - 1])
            except UnavailableError as error:
                self.broken = self.unavailable = str(error)
            except Exception as error:  # noqa: BLE001 - Invariant: see above
                self.broken = f"it does not work: {error!r:.200}"
        return None if self.broken else self.course

    def look(self, t: float, number: Number, ahead: Ahead) -> Sight:
        """Return the estimate at a moment (s), which is not before what was told last."""
        account = self.account
        if account.began is None or account.ended is not None:
            return Sight(why="it is over" if account.ended else f"it begins at the mark {self.declared.from_}")
        course = self.caught_up()
        if course is None:
            return Sight(why=self.broken)
        try:
            return self._look(course, t, number, ahead)
        except Exception as error:  # noqa: BLE001 - Invariant: see above
            self.broken = f"it does not work: {error!r:.200}"
            return Sight(why=self.broken)

    def _look(self, course: Course, t: float, number: Number, ahead: Ahead) -> Sight:
        if not course.used:
            return Sight(why="nothing was measured since it began")
        age = t - course.used[-1][0]
        if age > self._stale:
            return Sight(why=f"its last data are {_days(age)} old, {self.declared.stale} are allowed")
        cells = course.at(t)
        if cells is None:
            return Sight(why="it knows nothing of the cells any more")
        wanted = self.declared.forecast
        if wanted is None:
            return Sight(cells)
        left, floor = ahead(wanted.at), number(wanted.floor)
        if left is None:
            return Sight(cells, floor=floor, no_end=f"nobody knows when '{wanted.at}' is true")
        if course.span < self._needs:
            text = f"its data reach {_days(course.span)} so far, it needs {self.declared.needs}"
            return Sight(cells, end_at=t + left, floor=floor, no_end=text)
        return Sight(cells, end=course.at(t + left), end_at=t + left, floor=floor)


def _days(seconds: float) -> str:
    return show(round(seconds / 86_400.0, 1) * 86_400.0, "s")


class Estimates:
    """All estimates of a recipe; `t` is s of one clock throughout."""

    def __init__(self, declared: Mapping[str, Estimate]) -> None:
        self.all = {name: Follower(name, each) for name, each in declared.items()}

    def __iter__(self) -> Iterator[Follower]:
        return iter(self.all.values())

    def mounted(self, container: str, volume_ml: float) -> None:
        """Tell of a container that was put at its place."""
        for each in self.all.values():
            each.account.mounted(container, volume_ml)

    def unmounted(self, t: float, container: str) -> None:
        """Tell of a container that was taken away."""
        for each in self.all.values():
            each.account.unmounted(t, container)

    def moved(self, t: float, source: str, target: str, volume_ml: float) -> None:
        """Tell of liquid that went from one container to another."""
        for each in self.all.values():
            each.account.moved(t, source, target, volume_ml)

    def corrected(self, container: str, change_ml: float) -> None:
        """Tell of a correction of the ledger."""
        for each in self.all.values():
            each.account.corrected(container, change_ml)

    def mark(self, t: float, mark: str, number: Number) -> None:
        """Tell of a mark; `number` evaluates expressions as they are now."""
        for each in self.all.values():
            each.account.mark(t, mark, number)

    def value(self, t: float, name: str, value: object) -> None:
        """Tell of a result."""
        for each in self.all.values():
            each.account.value(t, name, value)

    def reading(self, t: float, name: str, kind: str, value: float, beside: Mapping[str, float]) -> None:
        """Tell of a probe's value that an estimate has put on record."""
        if name in self.all:
            self.all[name].account.reading(t, kind, value, beside)
