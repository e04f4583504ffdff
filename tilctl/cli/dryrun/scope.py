"""What names mean in a dry run: parameters, answers, containers, marks, and the true values of the plant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from devices.quantity import Quantity, parse, parse_as
from recipes.expr import ExprError, Operand, Value, compile
from recipes.model import Recipe
from tilctl.cli.dryrun.course import Foreseen
from tilctl.engine.waiting import seconds_until
from tilctl.estimation.estimates import Estimates, Sight
from tilctl.plant.ledger import SAMPLES, Ledger


@dataclass
class Known:
    """All that a dry run knows: `values` by name, `marks` in s, volumes by `ledger`, tags by `tag`."""

    recipe: Recipe
    parameters: Mapping[str, str]
    now: Callable[[], float]
    tag: Callable[[str], Operand | None]
    ledger: Ledger = field(default_factory=Ledger)
    values: dict[str, Value | None] = field(default_factory=dict[str, Value | None])
    setters: dict[str, str] = field(default_factory=dict[str, str])  # name of a value -> path of the step that set it
    marks: dict[str, float] = field(default_factory=dict[str, float])
    short: list[str] = field(default_factory=list[str])  # estimates that forecast less than their floor, when they did
    foreseen: dict[str, Foreseen] = field(default_factory=dict[str, Foreseen])

    def __post_init__(self) -> None:
        """Begin to estimate."""
        self.estimates = Estimates(self.recipe.estimates)
        self._sights: dict[str, tuple[tuple[object, ...], Sight]] = {}
        self.stands: dict[str, bool] = {}  # estimate -> whether its forecast is below its floor

    def set(self, path: str, values: Mapping[str, Value | None]) -> None:
        """Take in what a step brings."""
        for name, value in values.items():
            known = f"{path.rpartition('/')[2]}.{name}"
            self.values[known], self.setters[known] = value, path
            self.estimates.value(self.now(), known, value.value if isinstance(value, Quantity) else value)
        if self.recipe.estimates and values:
            self._look_ahead()

    def mark(self, mark: str) -> None:
        """Set a mark now."""
        self.marks[mark] = self.now()
        self.estimates.mark(self.now(), mark, self.number)

    def mounted(self, name: str, place: str, vessel_class: str, volume_ml: float, evaporates: float) -> None:
        """Take note of a container at its place; `evaporates` in mL/d."""
        self.ledger.mounted(name, place, vessel_class, volume_ml, None, "", evaporates)
        self.estimates.mounted(name, volume_ml)

    def unmounted(self, name: str) -> None:
        """Take note of a container that is taken away."""
        self.ledger.unmounted(name)
        self.estimates.unmounted(self.now(), name)

    def moved(self, source: str, target: str, volume_ml: float) -> None:
        """Take note of liquid that was moved."""
        self.ledger.moved(source, target, volume_ml)
        self.estimates.moved(self.now(), source, target, volume_ml)

    def sampled(self, source: str, volume_ml: float) -> None:
        """Take note of a sample that was drawn."""
        self.moved(source, SAMPLES, volume_ml)

    def sight(self, name: str) -> Sight:
        """Return an estimate as it is now."""
        follower = self.estimates.all[name]
        key = self.now(), len(follower.account.inputs), follower.account.ended
        if name not in self._sights or self._sights[name][0] != key:  # a condition asks many times for one moment
            self._sights[name] = key, follower.look(self.now(), self.number, self._ahead)
        return self._sights[name][1]

    def number(self, text: str) -> float | None:
        """Return what an expression gives now, None where that is no number that is known."""
        try:
            found = compile(text).evaluate(KnownScope(self, {}))
        except ExprError:
            return None
        return found.value if isinstance(found, Quantity) else None

    def _ahead(self, text: str) -> float | None:
        scope = KnownScope(self, {})
        return 0.0 if compile(text).truth(scope) is True else seconds_until(compile(text), scope)

    def _look_ahead(self) -> None:
        """Note an estimate that has come to forecast less than its floor, as the engine alarms."""
        for follower in self.estimates:
            sight, wanted = self.sight(follower.name), follower.declared.forecast
            short = sight.short
            left = None if wanted is None or not follower.account.runs else self._ahead(wanted.at)
            if left and not follower.unavailable:
                before = self.foreseen.get(follower.name)
                known = None if before is None else before.known
                if known is None and sight.end is not None:
                    known = self.now()
                self.foreseen[follower.name] = Foreseen(self.now() + left, known)
            if short and not self.stands.get(follower.name):
                self.short.append(follower.name)
            if short is not None:
                self.stands[follower.name] = short

    def forget(self, loop: str) -> None:
        """Drop what earlier rounds of a loop brought, as the engine does when a round begins."""
        for name in [name for name, path in self.setters.items() if path.startswith(loop)]:
            del self.values[name], self.setters[name]

    def limit_ml(self, container: str) -> float:
        """Return the most that a container may hold (mL)."""
        return parse_as(self.recipe.containers[container.partition("[")[0]].limit, "mL")


class KnownScope:
    """The scope of one step: what is known, and the loop names that stand for containers."""

    def __init__(self, known: Known, aliases: Mapping[str, str]) -> None:
        self._known = known
        self._aliases = aliases

    def lookup(self, name: str) -> Operand | None:
        """Return the operand of a name as it is now, None where it is unknown."""
        known = self._known
        if name == "day" or name.startswith("since("):
            mark = known.marks.get("day0" if name == "day" else name[6:-1])
            return Operand(name, None if mark is None else known.now() - mark, "s")
        head, _, attribute = name.partition(".")
        if not attribute:
            return self._parameter(name)
        container = self._aliases.get(head, head)
        if container.partition("[")[0] in known.recipe.containers:
            return self._container(name, container, attribute)
        if head in known.recipe.estimates:
            return Operand(name, known.sight(head).value(attribute), "cells")
        if name in known.values:
            return _operand(name, known.values[name])
        return known.tag(name)

    def _parameter(self, name: str) -> Operand | None:
        text = self._known.parameters.get(name)
        if text is None:
            return None
        return _operand(name, text if self._known.recipe.parameters[name].choices else parse(text))

    def _container(self, name: str, container: str, attribute: str) -> Operand | None:
        ledger = self._known.ledger
        if attribute == "limit":
            return Operand(name, self._known.limit_ml(container), "mL")
        if "[" not in container and self._known.recipe.containers[container].count is not None:
            members = ledger.family(container)
            volume = Operand(name, sum(each.volume_ml for each in members), "mL")
            return volume if attribute == "volume" else Operand(name, float(len(members)))
        found = ledger.get(container)
        if attribute == "mounted":
            return Operand(name, found is not None and found.mounted)
        if found is None:
            return Operand(name, None)
        return Operand(name, found.volume_ml, "mL") if attribute == "volume" else Operand(name, float(found.index))


def _operand(name: str, value: Value | None) -> Operand:
    if isinstance(value, Quantity):
        return Operand(name, value.value, value.unit)
    return Operand(name, value)
