"""Bad habits of people at a rehearsal: late, twice, contradicting themselves, mistyping; and a person for each cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from simulators.faults.model import Fault
from simulators.physics.noise import stream, uniform

Prompt = Mapping[str, Any]
SOON = (0.2, 30.0)  # s from an answer to the next one for the same prompt (engineering default)
WAITED_FOR = ("result",)  # kinds that a laboratory answers: nobody there is late by a habit


@dataclass(frozen=True, slots=True)
class Again:
    """A further answer to the same prompt, `after_s` after the first; `same_id`: it is the same command once more."""

    inputs: dict[str, str | float]
    after_s: float
    same_id: bool


@dataclass(frozen=True, slots=True)
class Habits:
    """How often a person does what.  Shares are of answers, 0..1; whether one is among them follows from the seed.

    - `late`, `late_by`: answers that take `late_by` times as long, deadline or not;
    - `double`: answers given twice with the same id, and a third time with another;
    - `contradictory`: answers followed by another one, with another id and other values;
    - `mistyped`, `mistyped_by`: volumes that are typed wrong by this share (0.1 is 10 % too much), within the range
      that the prompt allows.
    """

    late: float = 0.0
    late_by: float = 1.0
    double: float = 0.0
    contradictory: float = 0.0
    mistyped: float = 0.0
    mistyped_by: float = 0.0

    def slowness(self, seed: int, prompt: Prompt) -> float:
        """Return by what a delay is to be multiplied."""
        lab = prompt["kind"] in WAITED_FOR
        return 1.0 if lab or not _among(seed, prompt, "late", self.late) else self.late_by

    def typed(self, seed: int, prompt: Prompt, name: str, right: str) -> str:
        """Return what is typed for a number with its unit; only volumes are ever wrong."""
        number, _, unit = right.partition(" ")
        spec: Mapping[str, Any] = prompt["inputs"][name]
        if unit != "mL" or not _among(seed, prompt, f"mistyped {name}", self.mistyped):
            return right
        low, high = spec.get("min"), spec.get("max")
        wrong = float(number) * (1.0 + self.mistyped_by)
        wrong = wrong if high is None else min(float(high), wrong)
        return f"{max(float(low or 0.0), wrong):.4g} mL"

    def again(
        self, seed: int, prompt: Prompt, inputs: Mapping[str, str | float], haste: float = 1.0
    ) -> tuple[Again, ...]:
        """Return what is answered once more; `haste` below 1 shortens the time until then."""
        first, second = sorted(haste * _draw(seed, prompt, f"again {i}", *SOON) for i in (1, 2))
        found: list[Again] = []
        if _among(seed, prompt, "double", self.double):
            found += [Again(dict(inputs), first, same_id=True), Again(dict(inputs), second, same_id=False)]
        if _among(seed, prompt, "contradictory", self.contradictory):
            other = {name: _other(prompt["inputs"][name], value) for name, value in inputs.items()}
            found.append(Again(other, second, same_id=False))
        return tuple(found)


GOOD_HABITS = Habits()


def habits_of(faults: Iterable[Fault]) -> Habits:
    """Return the habits that faults at `operator` mean while they last."""
    given = {fault.what: fault for fault in faults if fault.where == "operator"}
    late, wrong = given.get("late"), given.get("wrong_volume")
    return Habits(
        late=1.0 if late else 0.0,
        late_by=late.number("factor") if late else 1.0,
        double=1.0 if "double" in given else 0.0,
        contradictory=1.0 if "contradictory" in given else 0.0,
        mistyped=1.0 if wrong else 0.0,
        mistyped_by=wrong.number("by") / 100.0 if wrong else 0.0,
    )


class Staff:
    """One person for each cell, who comes when first asked: `answer` is the policy of them all."""

    def __init__(self, hire: Callable[[str], Callable[[Prompt], Any]]) -> None:
        """`hire` returns the policy of a person for a unit."""
        self._hire = hire
        self._people: dict[str, Callable[[Prompt], Any]] = {}

    def answer(self, prompt: Prompt) -> Any:
        """Return the answer of the person of the prompt's unit."""
        unit = str(prompt["unit"])
        if unit not in self._people:
            self._people[unit] = self._hire(unit)
        return self._people[unit](prompt)


def _draw(seed: int, prompt: Prompt, what: str, low: float, high: float) -> float:
    return uniform(stream(seed, f"{prompt.get('path')} {what}"), int(prompt.get("attempt") or 1), low, high)


def _among(seed: int, prompt: Prompt, what: str, share: float) -> bool:
    return share > 0.0 and _draw(seed, prompt, what, 0.0, 1.0) < share


def _other(spec: Mapping[str, Any], value: str | float) -> str | float:
    """Return another value that the question allows, where it allows one."""
    kind = str(spec.get("type", "text"))
    if kind == "choice":
        return next((str(c) for c in spec.get("choices", []) if str(c) != value), value)
    if kind != "number":
        return f"not {value}" if kind == "text" else value
    number, _, unit = str(value).partition(" ")
    low, high = spec.get("min"), spec.get("max")
    for factor in (0.5, 1.5, 0.9, 1.1):
        wrong = float(number) * factor
        if wrong != float(number) and (low is None or wrong >= float(low)) and (high is None or wrong <= float(high)):
            return f"{wrong:.4g} {unit}".strip()
    return value
