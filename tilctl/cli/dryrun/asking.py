"""The questions of a dry run: put to the simulated operator as a controller publishes them, answered in values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from devices.quantity import parse
from recipes.expr import Value
from recipes.model import Container, Recipe
from recipes.steps import Ask, Sample
from simulators.operator import Operator
from tilctl.engine.verbs.ask import number_spec, spec_of

BATCH = "dry-run"
Inputs = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Answered:
    """What a person gave, typed, and after how many seconds."""

    values: dict[str, Value]
    delay_s: float


def inputs_of_ask(step: Ask) -> dict[str, dict[str, Any]]:
    """Return the inputs of an `ask`, with its scans and signatures."""
    found = {name: spec_of(given) for name, given in step.inputs.items()}
    found |= {f"scan.{name}": {"type": "scan"} for name in step.scan}
    return found | {f"sign.{role}": {"type": "text"} for role in step.sign}


def inputs_of_sample(step: Sample, recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Return the inputs of a `sample`: the results that it waits for."""
    found: dict[str, dict[str, Any]] = {}
    for name in step.awaited:
        result = recipe.results[name]
        choices = {"type": "choice", "choices": list(result.choices)}
        found[name] = choices if result.choices else {"type": "number", **number_spec(result.unit or "", result.range)}
    return found


def item_of(
    name: str, declared: Container, place: str, port: int, limit_ml: float, held_ml: float | None
) -> dict[str, Any]:
    """Return a container that is to be mounted as a question shows it."""
    return {
        "name": name, "kind": declared.kind, "class": declared.class_ or declared.kind, "holds": declared.holds or "",
        "place": place, "port": port, "limit_ml": limit_ml, "volume_ml": held_ml,
    }  # fmt: skip


def shown(name: str, port: int) -> dict[str, Any]:
    """Return a mounted container as a question shows it."""
    return {"name": name, "container": name, "port": port, "place": str(port)}


class Asking:
    """Puts questions to one person."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._number = 0

    def ask(
        self,
        path: str,
        kind: str,
        text: str,
        inputs: Inputs,
        asked: datetime,
        due: datetime | None = None,
        containers: Sequence[Mapping[str, Any]] = (),
        sources: Sequence[Mapping[str, Any]] = (),
    ) -> Answered:
        """Ask, and return the answer; what is done with hands is announced to the bench for its moment."""
        self._number += 1
        prompt = {
            "id": f"p{self._number}", "batch": BATCH, "unit": "cell1", "path": path, "kind": kind, "text": text,
            "asked": asked.isoformat(), "due": None if due is None else due.isoformat(), "attempt": 1,
            "inputs": inputs, "containers": list(containers), "from": list(sources),
        }  # fmt: skip
        answer = self._operator.answer(prompt)
        return Answered({name: _typed(inputs[name], value) for name, value in answer.inputs.items()}, answer.delay_s)


def _typed(spec: Mapping[str, Any], value: str | float) -> Value:
    if spec["type"] != "number":
        return str(value)
    text = str(value)
    return parse(text if not isinstance(value, (int, float)) else f"{text} {spec.get('canonical', '')}".strip())
