"""When to start a batch, so that people come while the laboratory works."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tilctl.cli.dryrun.course import Did
from tilctl.cli.planning.timeline import at, outside
from tilctl.config.working import Outside, Working

WITHIN = timedelta(days=14)
STEP = timedelta(hours=1)
BEST = 5


@dataclass(frozen=True, slots=True)
class Left:
    """A visit that stays outside working time, wholly or in part."""

    visit: int
    begin: datetime
    outside: Outside


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A start, and what of the visits lies outside working time then."""

    start: datetime
    left: tuple[Left, ...]

    @property
    def outside_s(self) -> float:
        """Return how long people are busy outside working time."""
        return sum(each.outside.seconds for each in self.left)


def judged(work: Sequence[Sequence[Did]], start: datetime, working: Working) -> Suggestion:
    """Return what lies outside working time of visits when the batch begins at `start`."""
    found = ((number, steps[0].began, outside(steps, start, working)) for number, steps in enumerate(work, start=1))
    return Suggestion(start, tuple(Left(number, at(start, began), out) for number, began, out in found if out.why))


def suggestions(
    work: Callable[[datetime], Sequence[Sequence[Did]]], start: datetime, working: Working
) -> list[Suggestion]:
    """Return the best starts within 14 days, hourly from the begin of each working day on; `work` gives their visits.

    Best is what leaves the fewest visits outside, then the least time, then the earliest.
    """
    found = [judged(work(moment), moment, working) for moment in _starts(start, working)]
    return sorted(found, key=lambda each: (len(each.left), each.outside_s, each.start))[:BEST]


def _starts(start: datetime, working: Working) -> Iterator[datetime]:
    """Yield the moments from the begin of each working day on, hour by hour, that are not before `start`."""
    last = start + WITHIN
    for begin, end in working.spans(start, last):
        moment = begin
        while moment < end and moment <= last:
            if moment >= start:
                yield moment
            moment += STEP
