"""The course of one culture as it is estimated: inputs taken in in their order, cells now and to come told from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tilctl.estimation.filter import DAY, CellFilter, O, Q, R, Seen, Vector, X, average
from tilctl.estimation.inputs import Count, Input, Lost, Probe, Start, Uptake
from tilctl.estimation.priors import AGREE, DEFAULTS, WRONG_HIGH, WRONG_LOW, WRONG_Z, Z95, Priors

MOST_LN = 70.0  # of cells that anybody could have: what is beyond is no estimate


@dataclass(frozen=True, slots=True)
class Cells:
    """Viable cells: the median, and the ends of the 95 % interval."""

    now: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Refused:
    """An input that was not used, and why."""

    t: float
    name: str
    text: str


class Course:
    """One culture; the same inputs give the same course, whether at once or one by one."""

    def __init__(self, lag_s: float, *, oxygen: bool = False, priors: Priors = DEFAULTS) -> None:
        self.used: list[tuple[float, str]] = []  # moment and name of what was taken in, but for the start
        self.refused: list[Refused] = []
        self.began: float | None = None
        self._lag_d = lag_s / DAY
        self._oxygen = oxygen
        self._priors = priors
        self._feeders = 0.0
        self._filter: CellFilter | None = None
        self._doubted: dict[type, tuple[float, str]] = {}  # by kind of input: the logarithm of the last, and why

    def take(self, given: Input) -> None:
        """Take the next input in; raises UnavailableError without the library, ArithmeticError where it goes astray."""
        if isinstance(given, Start):
            self.began, self._feeders = given.t, given.feeders
            if given.cells is not None and given.cells > 0.0:
                self._begin(given.cells, self._priors.start_ln, 0.0)
            return
        if self.began is None or given.t < self.began:
            return
        day = (given.t - self.began) / DAY
        if self._filter is None:
            if isinstance(given, Count) and given.cells > 0.0:
                self._begin(given.cells, self._priors.count_ln, day)
                self.used.append((given.t, given.name))
            return
        self._filter.to(day)
        if isinstance(given, Lost):
            self._filter.lose(given.share)
        else:
            self._observe(self._filter, given)

    def _begin(self, cells: float, sd_ln: float, day: float) -> None:
        self._filter = CellFilter(cells, sd_ln, self._lag_d, self._priors, oxygen=self._oxygen)
        self._filter.t = day

    def _observe(self, at: CellFilter, given: Count | Uptake | Probe) -> None:
        if isinstance(given, Count) and given.cells <= 0.0:
            self.refused.append(Refused(given.t, given.name, "is no number of cells"))
            return
        seen = self._seen(at, given)
        if seen is None:
            return
        factor, z = at.stands(seen)
        if not WRONG_LOW <= factor <= WRONG_HIGH and abs(z) > WRONG_Z:
            before = self._doubted.get(type(given))
            if before is None or abs(before[0] - seen.y) > math.log(AGREE):
                text = f"is {factor:.2g} times what was expected"
                self._doubted[type(given)] = seen.y, f"{given.name} {text}"
                self.refused.append(Refused(given.t, given.name, text))
                return
            at.loosen(math.log(WRONG_HIGH))  # two that agree: it is the model that was wrong
        self._doubted.pop(type(given), None)
        at.take(seen)
        self.used.append((given.t, given.name))

    def _seen(self, at: CellFilter, given: Count | Uptake | Probe) -> Seen | None:
        """Return an observation, None for one that tells nothing."""
        if isinstance(given, Count):
            return Seen(math.log(given.cells), self._priors.count_ln, _cells)
        if isinstance(given, Probe):
            if given.value <= 0.0:
                return None
            if given.kind == "oxygen":
                return Seen(math.log(given.value), given.sd_ln, _respired)
            feeders = self._live_feeders(at.t)

            def alive(state: Vector) -> float:
                return math.log(math.exp(float(state[X])) + feeders)

            return Seen(math.log(given.value), given.sd_ln, alive)
        began = self.began or 0.0
        first = (given.since - began) / DAY
        span = at.t - first
        fed = self._feeders_used(first, at.t)
        mmol, sd = given.mmol - fed, math.hypot(given.sd, 0.5 * fed)
        if mmol <= 2.0 * sd or span <= 0.0:  # within the noise of two samples
            return None
        share = at.growing((first + at.t) / 2.0)

        def used(state: Vector) -> float:
            """Return ln mmol: cells were fewer before, by their growth; 1e-9 mmol are a pmol."""
            return float(state[X]) + float(state[Q]) + math.log(average(float(state[R]) * share, span) * 1e-9)

        return Seen(math.log(mmol), math.log1p(sd / mmol), used)

    def _live_feeders(self, day: float) -> float:
        return self._feeders * math.exp(-self._priors.feeder_loss * day)

    def _feeders_used(self, first: float, last: float) -> float:
        """Return the glucose (mmol) that feeders use between two days."""
        lived = (self._live_feeders(first) - self._live_feeders(last)) / self._priors.feeder_loss
        return lived * self._priors.feeder_uptake * 1e-9

    def at(self, t: float) -> Cells | None:
        """Return the cells at a moment (s) that is not before the last input; None where nothing is known of them.

        Invariant: with a start alone there is no estimate: a prior is a guess.
        """
        if self._filter is None or self.began is None or not self.used:
            return None
        twin = self._filter.copy()
        twin.to((t - self.began) / DAY)
        mean, sd = twin.cells_ln
        if not mean + Z95 * sd < MOST_LN:
            return None
        return Cells(*(math.exp(mean + z * sd) for z in (0.0, -Z95, Z95)))

    @property
    def doubted(self) -> str:
        """Return why the last input of a kind was not used, "" where all were."""
        return "; ".join(text for _, text in self._doubted.values())

    @property
    def span(self) -> float:
        """Return how long data reach, s: from the start to the last input that was used."""
        return 0.0 if self.began is None or not self.used else self.used[-1][0] - self.began


def _cells(state: Vector) -> float:
    return float(state[X])


def _respired(state: Vector) -> float:
    """Return ln mmol oxygen a day."""
    return float(state[X]) + float(state[O]) + math.log(1e-9)


def course_of(inputs: Sequence[Input], lag_s: float, *, oxygen: bool = False) -> Course:
    """Return the course that inputs lead to."""
    course = Course(lag_s, oxygen=oxygen)
    for each in inputs:
        course.take(each)
    return course
