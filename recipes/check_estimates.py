"""Checking the estimates of a recipe: what they are made of, what they count from, what they are held against."""

from __future__ import annotations

from devices.document import DataPath
from devices.quantity import Dim
from recipes.check_expr import CONDITION, expression
from recipes.estimates import Estimate
from recipes.expr import ExprError, compile
from recipes.findings import Findings
from recipes.model import Recipe, walk
from recipes.names import Names
from recipes.steps import ForEach, Sample


def check_estimates(recipe: Recipe, names: Names, findings: Findings) -> None:
    """Report what is wrong with the estimates; `names` are those that are known at the end of the procedure."""
    scope = names.fork()
    scope.everywhen = True
    scope.recipe = recipe.model_copy(update={"estimates": {}})  # none is made of another one
    for name, each in recipe.estimates.items():
        _Check(each, ("estimates", name), scope, findings).all()


class _Check:
    def __init__(self, estimate: Estimate, path: DataPath, names: Names, findings: Findings) -> None:
        self._estimate = estimate
        self._path = path
        self._names = names
        self._findings = findings

    def all(self) -> None:
        """Check every field."""
        each, path = self._estimate, self._path
        self._containers()
        for key, mark in (("from", each.from_), ("to", each.to)):
            if mark not in self._names.marks:
                known = ", ".join(sorted(self._names.marks)) or "none"
                self._findings.error("mark-unknown", (*path, key), f"no step sets the mark '{mark}'", f"marks: {known}")
        for key, text in (("start", each.start), ("feeders", each.feeders)):
            if text is not None:
                expression(text, self._names, self._findings, (*path, key), "cells")
        for key, listed, unit in (("counts", each.counts, "cells"), ("glucose", each.glucose, "mmol/L")):
            for index, name in enumerate(listed):
                self._result(name, unit, (*path, key, index))
        if each.capacitance is not None:
            self._tag(each.capacitance, "cells/mL", (*path, "capacitance"))
        if each.oxygen is not None:
            self._tag(each.oxygen.tag, "%", (*path, "oxygen", "tag"))
            expression(each.oxygen.renewal, self._names, self._findings, (*path, "oxygen", "renewal"), "s")
            if each.oxygen.gas is not None:
                self._tag(each.oxygen.gas, "%", (*path, "oxygen", "gas"))
        for container, text in each.medium.items():
            value = self._findings.quantity(text, ("mmol/L",), (*path, "medium", container))
            if value is not None and value < 0.0:
                self._findings.error("range", (*path, "medium", container), f"'{text}' is less than nothing")
        for key in ("lag", "needs", "stale"):
            self._time(getattr(each, key), (*path, key), above=key != "lag")
        self._forecast()

    def _containers(self) -> None:
        each = self._estimate
        declared = self._names.recipe.containers
        groups = (("of", each.of), ("supernatant", each.supernatant), ("medium", tuple(each.medium)))
        for key, listed in groups:
            for index, name in enumerate(listed):
                if name not in declared:
                    at: DataPath = (*self._path, key, name if key == "medium" else index)
                    hint = f"declared: {', '.join(declared)}"
                    self._findings.error("container-unknown", at, f"no container '{name}'", hint)

    def _result(self, name: str, unit: str, path: DataPath) -> None:
        """Check that a name is a number of this unit that samples of its containers bring."""
        step = name.partition(".")[0]
        kind = self._names.outputs.get(name)
        sources = [source for found, source in _samples(self._names.recipe) if found == step]
        if kind is None or not sources:
            hint = "name a result as its sample brings it: count16.tvc"
            self._findings.error("estimate-input", path, f"no sample brings '{name}'", hint)
        elif kind.kind != "number" or kind.dim != Dim.of(unit):
            self._findings.error("estimate-input", path, f"'{name}' is not in {unit}", "see the results of the recipe")
        for source in sources:
            if source not in self._estimate.of:
                text = f"'{name}' is sampled from '{source}', which is not among its containers"
                self._findings.error("estimate-input", path, text, f"of: {', '.join(self._estimate.of)}")
                break

    def _tag(self, name: str, unit: str, path: DataPath) -> None:
        kind = self._names.type_of(name)
        if kind is None or kind.kind != "number" or kind.dim != Dim.of(unit):
            text = f"'{name}' is no tag in {unit}"
            self._findings.error("estimate-input", path, text, "a tag of a role that the needs of its equipment name")

    def _time(self, text: str, path: DataPath, *, above: bool) -> None:
        value = self._findings.quantity(text, ("s",), path)
        if value is not None and (value < 0.0 or (above and value == 0.0)):
            self._findings.error(
                "range", path, f"'{text}' is no such time", "more than nothing" if above else "0 d or more"
            )

    def _forecast(self) -> None:
        wanted = self._estimate.forecast
        if wanted is None:
            return
        path: DataPath = (*self._path, "forecast")
        if expression(wanted.at, self._names, self._findings, (*path, "at"), CONDITION) is not None:
            try:
                timed = any(name == "day" or name.startswith("since(") for name in compile(wanted.at).names)
            except ExprError:
                timed = True  # reported where it stands
            if not timed:
                hint = "write it as an incubate waits for it: day >= 22 d"
                self._findings.error("kind", (*path, "at"), "time alone never makes this true", hint)
        expression(wanted.floor, self._names, self._findings, (*path, "floor"), "cells")
        self._time(wanted.ahead, (*path, "ahead"), above=True)


def _samples(recipe: Recipe) -> list[tuple[str, str]]:
    """Return each sample's id with the container that it is taken from."""
    found: list[tuple[str, str]] = []
    loops: dict[str, str] = {}
    for operation in recipe.procedure:
        for _, step in walk(operation.steps, operation.id):
            if isinstance(step, ForEach):
                loops[step.as_] = step.in_
            elif isinstance(step, Sample):
                source = step.from_.partition("[")[0]
                found.append((step.id, loops.get(source, source)))
    return found
