"""Guards and clocks of a recipe in a dry run: looked at when a step ends, and each minute while one is pending."""

from __future__ import annotations

from dataclasses import dataclass

from devices.quantity import parse, parse_as
from recipes.expr import INVALID, compile
from recipes.hysteresis import still
from recipes.model import Guard, Recipe
from recipes.units import number
from tilctl.cli.dryrun.scope import Known, KnownScope
from tilctl.engine.errors import ProcedureEnd, StepError

LOOK_S = 60.0  # between looks while a condition holds and its delay is not over


@dataclass
class _Watched:
    guard: Guard
    for_s: float
    since: float | None = None  # from when on it has held
    raised: bool = False


class Guards:
    """All of one recipe; `alarms` are those that were raised, in their order."""

    def __init__(self, recipe: Recipe, known: Known) -> None:
        self.alarms: list[str] = []
        self._known = known
        self._scope = KnownScope(known, {})
        self._guards = [_Watched(each, parse_as(each.for_, "s")) for each in recipe.guards]
        self._clocks = recipe.clocks

    def look(self) -> None:
        """Judge all of them now; raises StepError or ProcedureEnd where a guard holds or stops the batch."""
        now = self._known.now()
        self._look_at_clocks(now)
        for each in self._guards:
            if not self._holds(each):
                each.since, each.raised = None, False
                continue
            each.since = now if each.since is None else each.since
            if each.raised or now - each.since < each.for_s:
                continue
            each.raised = True
            self.alarms.append(each.guard.id)
            text = f"guard {each.guard.id}: {each.guard.text or each.guard.when}"
            if each.guard.then == "hold":
                raise StepError(text, each.guard.action or "see to it")
            if each.guard.then == "stop":
                raise ProcedureEnd("stopped", text)

    def pending(self) -> float | None:
        """Return after how many seconds to look again, None where nothing waits for its delay."""
        now = self._known.now()
        left = [e.since + e.for_s - now for e in self._guards if e.since is not None and not e.raised]
        return min(LOOK_S, *left) if left else None

    def _holds(self, each: _Watched) -> bool:
        guard, marks = each.guard, self._known.marks
        if guard.span is not None and (guard.span[0] not in marks or guard.span[1] in marks):
            return False
        if guard.unless is not None and compile(guard.unless).truth(self._scope) is True:
            return False
        expression = compile(guard.when)
        if each.raised and guard.deadband is not None:
            eased = parse(guard.deadband)
            found = still(expression, self._scope, number(eased.value, eased.unit))
        else:
            found = expression.truth(self._scope)
        return each.since is not None if found is INVALID else found is True  # unknown begins nothing and ends nothing

    def _look_at_clocks(self, now: float) -> None:
        marks = self._known.marks
        for name, clock in self._clocks.items():
            if clock.from_ not in marks:
                continue
            took = marks.get(clock.to, now) - marks[clock.from_]
            limits = {"warn": clock.warn, "high": clock.high, "max": clock.max}
            found = [f"{name}-{word}" for word, limit in limits.items() if limit and took > parse_as(limit, "s")]
            if clock.min is not None and clock.to in marks and took < parse_as(clock.min, "s"):
                found.append(f"{name}-short")
            self.alarms += [alarm for alarm in found if alarm not in self.alarms]
