"""What names mean in a batch: tags, containers, results, parameters, marks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from devices.quantity import parse
from devices.reading import Quality, Reading
from recipes.expr import Operand
from tilctl.plant.ledger import Container

if TYPE_CHECKING:
    from tilctl.engine.batch import Batch


class BatchScope:
    """The scope of one walk: the batch, and the loop names (`f` of `for_each`) that stand for containers.

    `path` is of the step that reads, since it reads parameters as they were when it began; "" reads them as they are.
    """

    def __init__(self, batch: Batch, aliases: Mapping[str, str], path: str = "") -> None:
        self._batch = batch
        self._aliases = aliases
        self._path = path

    def lookup(self, name: str) -> Operand | None:
        """Return the operand of a name as it is now, or None where the name is unknown."""
        if name == "day":
            return self._since(name, "day0")
        if name.startswith("since("):
            return self._since(name, name[6:-1])
        head, _, attribute = name.partition(".")
        if not attribute:
            return self._parameter(name)
        family = head.partition("[")[0]
        if head in self._aliases:
            return self._container(name, self._aliases[head], attribute)
        if family in self._batch.recipe.containers:
            return self._container(name, head, attribute)
        if head in self._batch.recipe.estimates:
            return Operand(name, self._batch.estimating.value(head, attribute), "cells")
        if name in self._batch.state.values:
            value, unit = self._batch.state.values[name]
            return Operand(name, value, unit)
        reading = self._batch.tag(name)
        return None if reading is None else self._tag(name, reading)

    def container(self, name: str) -> Container | None:
        """Return a container by its name, its family's name when it stands alone, or a loop name."""
        return self._batch.state.ledger.get(self._aliases.get(name, name))

    def _since(self, name: str, mark: str) -> Operand:
        elapsed = self._batch.state.since(mark, self._batch.clock.now())
        return Operand(name, None, "s") if elapsed is None else Operand(name, elapsed.total_seconds(), "s")

    def _parameter(self, name: str) -> Operand | None:
        text = self._batch.parameter(name, self._path)
        if text is None:
            return None
        if self._batch.recipe.parameters[name].choices:
            return Operand(name, text)
        quantity = parse(text)
        return Operand(name, quantity.value, quantity.unit)

    def _container(self, name: str, container: str, attribute: str) -> Operand | None:
        ledger = self._batch.state.ledger
        if attribute == "limit":
            return Operand(name, self._batch.limit_ml(container), "mL")
        if "[" not in container and self._batch.recipe.containers[container].count is not None:
            members = ledger.family(container)  # a family's name stands for all of it
            if attribute == "volume":
                return Operand(name, sum(member.volume_ml for member in members), "mL")
            return Operand(name, float(len(members))) if attribute == "mounted" else None
        found = ledger.get(container)
        if attribute == "mounted":
            return Operand(name, found is not None and found.mounted)
        if found is None:
            return Operand(name, None)
        if attribute == "volume":
            return Operand(name, found.volume_ml, "mL")
        return Operand(name, float(found.index)) if attribute == "index" else None

    def _tag(self, name: str, reading: Reading) -> Operand:
        unit = "" if reading.unit in ("bool", "symbol", "text") else reading.unit
        value = None if reading.quality is Quality.BAD else reading.value
        return Operand(name, value, unit, reading.quality, self._batch.clock.monotonic() - reading.at)
