"""What names mean in a dry run: parameters, answers, containers, marks, and the true values of the plant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from devices.quantity import Quantity, parse, parse_as
from recipes.expr import Operand, Value
from recipes.model import Recipe
from tilctl.plant.ledger import Ledger


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

    def set(self, path: str, values: Mapping[str, Value | None]) -> None:
        """Take in what a step brings."""
        for name, value in values.items():
            known = f"{path.rpartition('/')[2]}.{name}"
            self.values[known], self.setters[known] = value, path

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
