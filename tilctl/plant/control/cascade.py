"""A cascade: which of several outputs is moved next to keep a reading, and by how much.  Pure.

Every move is one bounded step of one output, so that what a wrong reading can do in an hour is known beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

NOTHING = 1e-6  # by which a target may miss the end of its range and stands there


@dataclass(frozen=True, slots=True)
class Output:
    """A standing target (`tag`, in `unit`), moved from `low` to `high` by `step`; more of it raises the reading."""

    tag: str
    unit: str
    low: float
    high: float
    step: float


@dataclass(frozen=True, slots=True)
class Cascade:
    """Keeps `of` (in `unit`) within `deadband` of `at`, by one move of its outputs in `every_s` (s) at most."""

    of: str
    unit: str
    at: float
    deadband: float
    every_s: float
    outputs: tuple[Output, ...]

    def as_data(self) -> dict[str, Any]:
        """Return it for the record."""
        return asdict(self) | {"outputs": [asdict(output) for output in self.outputs]}

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> Cascade:
        """Return it as the record says."""
        outputs = tuple(Output(**each) for each in data["outputs"])
        return Cascade(data["of"], data["unit"], data["at"], data["deadband"], data["every_s"], outputs)

    def too_low(self, reading: float) -> bool:
        """Whether a reading asks for more."""
        return reading < self.at - self.deadband

    @property
    def tags(self) -> tuple[str, ...]:
        """The targets that it moves."""
        return tuple(output.tag for output in self.outputs)


@dataclass(frozen=True, slots=True)
class Move:
    """A target and the value that it gets."""

    tag: str
    value: float
    unit: str


def begins(cascade: Cascade, targets: Mapping[str, float]) -> list[Move]:
    """Return what its targets have to be before it moves them: within their ranges, at the bottom if not set."""
    moves = [(each, min(max(targets.get(each.tag, each.low), each.low), each.high)) for each in cascade.outputs]
    return [Move(output.tag, value, output.unit) for output, value in moves if targets.get(output.tag) != value]


def next_move(cascade: Cascade, reading: float, targets: Mapping[str, float]) -> Move | None:
    """Return the one step that a reading asks for, None where it is well or nothing can be moved further.

    Too low: the first output that is not at its top is raised; too high: the last that is not at its bottom is lowered.
    Invariant: no target leaves its range, and none is moved that does not stand.
    """
    if any(output.tag not in targets for output in cascade.outputs):
        return None
    if cascade.too_low(reading):
        for output in cascade.outputs:
            if targets[output.tag] < output.high - NOTHING:
                return Move(output.tag, min(output.high, targets[output.tag] + output.step), output.unit)
    elif reading > cascade.at + cascade.deadband:
        for output in reversed(cascade.outputs):
            if targets[output.tag] > output.low + NOTHING:
                return Move(output.tag, max(output.low, targets[output.tag] - output.step), output.unit)
    return None


def exhausted(cascade: Cascade, reading: float, targets: Mapping[str, float]) -> bool:
    """Whether a reading is too low and every output at its top: there is nothing left to raise."""
    tops = all(targets.get(each.tag, each.low) >= each.high - NOTHING for each in cascade.outputs)
    return tops and cascade.too_low(reading)
