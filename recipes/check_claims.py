"""How long the windows of a procedure let biological time become, against what its clocks allow.

A clock over whole expansions is a guard rail: a protocol's windows may not lead beyond it, and not before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from devices.document import DataPath
from devices.quantity import QuantityError, parse_as, show
from recipes.findings import Findings
from recipes.model import BiologicalClock, Recipe, walk
from recipes.names import DAY_ZERO
from recipes.ranges import Range, parse_range
from recipes.steps import Freeze, Incubate, Mark
from recipes.windows import window_mark


@dataclass(frozen=True, slots=True)
class Reached:
    """When a mark is set: within `window` of the mark `origin`, and so on the days `days` (s since day 0)."""

    origin: str
    window: Range
    days: Range


def check_claims(recipe: Recipe, findings: Findings) -> set[str]:
    """Report windows that let the time between two marks leave a clock's limits, and limits that no window keeps.

    Returns the names of the clocks that were told of.
    """
    marks, before = reached(recipe), len(findings.found)
    told: set[str] = set()
    for name, clock in recipe.clocks.items():
        begins, ends = marks.get(clock.from_), marks.get(clock.to)
        if begins is None or ends is None:
            continue
        if begins is not ends:
            _compare(name, clock, begins, ends, findings)
        elif clock.min is not None or clock.max is not None:
            text = f"no window says how long '{name}' lasts: none stands between '{clock.from_}' and '{clock.to}'"
            hint = f"give the incubate before '{clock.to}' one: until: since({clock.from_}) >= 3 d, window: 3 d..4 d"
            findings.warning("claim-open", ("clocks", name), text, hint)
        told |= {name} if len(findings.found) > before else set()
        before = len(findings.found)
    return told


def _compare(name: str, clock: BiologicalClock, begins: Reached, ends: Reached, findings: Findings) -> None:
    path: DataPath = ("clocks", name)
    if ends.origin == clock.from_:
        shortest, longest = ends.window.low, ends.window.high
    else:
        shortest, longest = ends.days.low - begins.days.high, ends.days.high - begins.days.low
    hint = "narrow the windows, or raise the limit and say by which source"
    most, least = (None if text is None else _seconds(text) for text in (clock.max, clock.min))
    if most is not None and longest > most:
        text = f"the windows let '{name}' become {show(longest, 's')}, its limit is {clock.max}"
        findings.error("claim-range", path, text, hint)
    if least is not None and shortest < least:
        text = f"the windows let '{name}' be over after {show(max(0.0, shortest), 's')}, its least is {clock.min}"
        findings.error("claim-range", path, text, hint)


def reached(recipe: Recipe) -> dict[str, Reached]:
    """Return when each mark is set: within the last window before it."""
    now: Reached | None = None
    found: dict[str, Reached] = {}
    for operation in recipe.procedure:
        for _, step in walk(operation.steps, operation.id):
            match step:
                case Mark() if step.id == DAY_ZERO:
                    start = Range(0.0, 0.0, "s")
                    now = found[step.id] = Reached(DAY_ZERO, start, start)
                case Mark() if now is not None:
                    found[step.id] = now
                case Freeze() if now is not None:
                    found |= dict.fromkeys(step.marks.values(), now)
                case Incubate() if step.window is not None and now is not None:
                    now = within(step.window, window_mark(step.until), found) or now
                case _:
                    pass
    return found


def within(text: str, origin: str, found: Mapping[str, Reached]) -> Reached | None:
    """Return when a step with this window, counted from the mark `origin`, ends; None where that is not known."""
    window, from_ = _window(text), found.get(origin)
    if window is None or from_ is None:
        return None
    days = Range(from_.days.low + window.low, from_.days.high + window.high, "s")
    return Reached(origin, window, days)


def _window(text: str) -> Range | None:
    try:
        found = parse_range(text)
    except QuantityError:
        return None  # reported where it stands
    return found if found.unit == "s" else None


def _seconds(text: str) -> float | None:
    try:
        return parse_as(text, "s")
    except QuantityError:
        return None  # reported where it stands
