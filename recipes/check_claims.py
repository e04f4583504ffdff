"""How long the windows of a procedure let biological time become, against what its clocks allow.

A clock over whole expansions is a guard rail: a protocol's windows may not lead beyond it, and not before it.
"""

from __future__ import annotations

from devices.document import DataPath
from devices.quantity import QuantityError, parse_as, show
from recipes.findings import Findings
from recipes.model import BiologicalClock, Recipe, walk
from recipes.names import DAY_ZERO
from recipes.ranges import Range, parse_range
from recipes.steps import Freeze, Incubate, Mark


def check_claims(recipe: Recipe, findings: Findings) -> None:
    """Report windows that let the time between two marks leave the limits of a clock."""
    reached = _reached(recipe)
    for name, clock in recipe.clocks.items():
        begins, ends = reached.get(clock.from_), reached.get(clock.to)
        if begins is not None and ends is not None and begins is not ends:
            _compare(name, clock, begins, ends, findings)


def _compare(name: str, clock: BiologicalClock, begins: Range, ends: Range, findings: Findings) -> None:
    path: DataPath = ("clocks", name)
    shortest, longest = ends.low - begins.high, ends.high - begins.low
    hint = "narrow the windows, or raise the limit and say by which source"
    most, least = (None if text is None else _seconds(text) for text in (clock.max, clock.min))
    if most is not None and longest > most:
        text = f"the windows let '{name}' become {show(longest, 's')}, its limit is {clock.max}"
        findings.error("claim-range", path, text, hint)
    if least is not None and shortest < least:
        text = f"the windows let '{name}' be over after {show(max(0.0, shortest), 's')}, its least is {clock.min}"
        findings.error("claim-range", path, text, hint)


def _reached(recipe: Recipe) -> dict[str, Range]:
    """Return on which days (s since day 0) each mark is set: those of the last window before it."""
    now: Range | None = None
    found: dict[str, Range] = {}
    for operation in recipe.procedure:
        for _, step in walk(operation.steps, operation.id):
            match step:
                case Mark() if step.id == DAY_ZERO:
                    now = found[step.id] = Range(0.0, 0.0, "s")
                case Mark() if now is not None:
                    found[step.id] = now
                case Freeze() if now is not None:
                    found |= dict.fromkeys(step.marks.values(), now)
                case Incubate() if step.window is not None and now is not None:
                    now = _window(step.window) or now
                case _:
                    pass
    return found


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
