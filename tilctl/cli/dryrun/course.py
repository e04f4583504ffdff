"""What a dry run came to: what was done and when, what was counted, what a reviewer would look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from simulators.plant import Plant

PERSON, LABORATORY, CONTROLLER = "person", "laboratory", "controller"
Who = Literal["person", "laboratory", "controller"]


@dataclass(frozen=True, slots=True)
class Did:
    """A step that was done: from when to when (s since the start), and who had to do with it."""

    path: str
    verb: str
    began: float
    ended: float
    who: Who


@dataclass(frozen=True, slots=True)
class Counted:
    """A count of cells: what the laboratory said, and the truth, at `t` (s)."""

    path: str
    t: float
    seen: float
    true: float


@dataclass
class Course:
    """What a dry run came to; `alarms` names each guard and clock of the recipe that was raised, as often as it was."""

    ended: str = "complete"  # complete, stopped, aborted; held: a person would have to decide
    reason: str = ""
    seconds: float = 0.0
    did: list[Did] = field(default_factory=list[Did])
    counts: list[Counted] = field(default_factory=list[Counted])
    marks: dict[str, float] = field(default_factory=dict[str, float])
    exceptions: list[str] = field(default_factory=list[str])
    alarms: list[str] = field(default_factory=list[str])
    moved_ml: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])
    plant: Plant | None = None
