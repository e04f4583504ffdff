"""When each operation runs and people come, from a dry run that begins at a moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from devices.quantity import parse_as
from recipes.model import Recipe, step_at
from recipes.names import DAY_ZERO
from recipes.ranges import parse_range
from recipes.steps import AnyVerb, Ask, ForEach, Incubate
from recipes.words import sentence, signatures
from tilctl.cli.dryrun.course import Course, Did, Who, visits
from tilctl.config.working import Outside, Working

DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of the recipe; days are biological, None before day 0."""

    id: str
    title: str
    begin: datetime
    end: datetime
    day_begin: float | None
    day_end: float | None


@dataclass(frozen=True, slots=True)
class Doing:
    """A step of people: what it is in words, from when to when, who signs."""

    path: str
    verb: str
    who: Who
    words: str
    signs: tuple[str, ...]
    begin: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Window:
    """Where a visit may lie: `after` is the step whose window (in biological days) leaves so much room."""

    after: str
    window: str
    earliest: datetime
    latest: datetime


@dataclass(frozen=True, slots=True)
class Visit:
    """What people do without leaving for long; `busy_s` is how long their steps and the laboratory's take together."""

    number: int
    begin: datetime
    end: datetime
    day: float | None
    busy_s: float
    outside: Outside
    signs: tuple[str, ...]
    steps: tuple[Doing, ...]
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Outlook:
    """A forecast of an estimate: `end` is its moment, `due` when it should be known, `known` when it is (or never)."""

    estimate: str
    end: datetime
    due: datetime
    known: datetime | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """Operations, visits, marks and forecasts, in moments."""

    start: datetime
    end: datetime
    operations: tuple[Operation, ...]
    visits: tuple[Visit, ...]
    marks: tuple[tuple[str, datetime], ...]
    outlooks: tuple[Outlook, ...] = ()


def timeline(recipe: Recipe, course: Course, start: datetime, working: Working) -> Timeline:
    """Lay a dry run out from a moment on."""
    windows = _windows(recipe, course, start)
    found: list[Visit] = []
    for number, steps in enumerate(visits(course.people), start=1):
        doings = tuple(_doing(did, recipe, course, start) for did in steps)
        began, ended = steps[0].began, max(did.ended for did in steps)
        found.append(Visit(
            number, at(start, began), at(start, ended), _day(course, began),
            busy_s=sum((doing.end - doing.begin).total_seconds() for doing in doings),
            outside=outside(steps, start, working),
            signs=tuple(dict.fromkeys(role for doing in doings for role in doing.signs)),
            steps=doings,
            windows=tuple(window for did in steps for window in windows.get(did.path, ())),
        ))  # fmt: skip
    marks = tuple((name, at(start, t)) for name, t in sorted(course.marks.items(), key=lambda mark: mark[1]))
    operations, outlooks = _operations(recipe, course, start), tuple(_outlooks(recipe, course, start))
    return Timeline(start, at(start, course.seconds), operations, tuple(found), marks, outlooks)


def _outlooks(recipe: Recipe, course: Course, start: datetime) -> Iterator[Outlook]:
    for name, each in course.foreseen.items():
        wanted = recipe.estimates[name].forecast
        if wanted is not None:
            due = at(start, each.end - parse_as(wanted.ahead, "s"))
            yield Outlook(name, at(start, each.end), due, None if each.known is None else at(start, each.known))


def at(start: datetime, seconds: float) -> datetime:
    """Return the moment so many seconds after the start, to the second."""
    return start + timedelta(seconds=round(seconds))


def outside(steps: Sequence[Did], start: datetime, working: Working) -> Outside:
    """Return what of the steps of people lies outside working time when the batch begins at `start`."""
    return sum((working.outside(at(start, did.began), at(start, did.ended)) for did in steps), Outside())


def _operations(recipe: Recipe, course: Course, start: datetime) -> tuple[Operation, ...]:
    titles = {each.id: each.title or "" for each in recipe.procedure}
    bounds = pairwise([*course.operations.values(), course.seconds])
    return tuple(
        Operation(name, titles[name], at(start, begin), at(start, end), _day(course, begin), _day(course, end))
        for name, (begin, end) in zip(course.operations, bounds, strict=True)
    )


def _doing(did: Did, recipe: Recipe, course: Course, start: datetime) -> Doing:
    step = _step(recipe, did.path)
    words = course.asked[did.path] if isinstance(step, Ask) else sentence(step, recipe, _loops(recipe, did.path))
    begin, end = at(start, did.began), at(start, did.ended)
    return Doing(did.path, did.verb, did.who, words, signatures(step), begin, end)


def _windows(recipe: Recipe, course: Course, start: datetime) -> dict[str, list[Window]]:
    """Return the windows of the steps of people, by path: each is the first one after a step that has a window.

    A window is of the end of its own step; between that and the people the controller may work, for the same time on
    whichever day.
    """
    zero, people = course.marks.get(DAY_ZERO), sorted(course.people, key=lambda did: did.began)
    found: dict[str, list[Window]] = {}
    for did in course.did if zero is not None else ():
        step = _step(recipe, did.path)
        if not isinstance(step, Incubate) or step.window is None:
            continue
        first = next((each for each in people if each.began >= did.ended), None)
        if first is not None:
            window, lag = parse_range(step.window, "d"), first.began - did.ended  # its bounds are in s
            low, high = (at(start, (zero or 0.0) + bound + lag) for bound in (window.low, window.high))
            found.setdefault(first.path, []).append(Window(did.path, step.window, low, high))
    return found


def _step(recipe: Recipe, path: str) -> AnyVerb:
    step = step_at(recipe, path)
    if step is None:
        raise LookupError(f"{path} is no step of {recipe.recipe}")
    return step


def _loops(recipe: Recipe, path: str) -> dict[str, str]:
    """Return the family of each loop's name around a step."""
    parts = path.split("/")
    around = [step_at(recipe, "/".join(parts[:length])) for length in range(2, len(parts))]
    return {step.as_: step.in_ for step in around if isinstance(step, ForEach)}


def _day(course: Course, t: float) -> float | None:
    zero = course.marks.get(DAY_ZERO)
    return None if zero is None or t < zero else (t - zero) / DAY_S
