"""What a dry run came to: each step with its time, and what was mounted, moved and sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from simulators.plant import Plant

PERSON, LABORATORY, CONTROLLER = "person", "laboratory", "controller"
Who = Literal["person", "laboratory", "controller"]
TOGETHER_S = 2 * 3600.0  # what people do within that of each other is one visit (engineering default)


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


@dataclass(frozen=True, slots=True)
class Mounted:
    """A container that was mounted: the volume that the recipe states (None: a person enters it), and what it held."""

    path: str
    container: str
    stated_ml: float | None
    held_ml: float


@dataclass(frozen=True, slots=True)
class Dosed:
    """A transfer: what was wanted and moved, and by how much it may have been more; nothing is more than everything."""

    path: str
    source: str
    destination: str
    wanted_ml: float
    moved_ml: float
    tolerance_ml: float


@dataclass(frozen=True, slots=True)
class Sampled:
    """A sample: when (s) it was asked for, out of what, how much, for which results."""

    path: str
    t: float
    container: str
    volume_ml: float
    results: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A forecast of an estimate: for which moment (s), and from when on it was known; None: it never was."""

    end: float
    known: float | None


@dataclass
class Course:
    """What a dry run came to.

    `operations`: when each began (s).  `asked`: what people were asked, by path, as it was shown to them.
    `alarms` names each guard and clock of the recipe that was raised, as often as it was.
    """

    ended: str = "complete"  # complete, stopped, aborted; held: a person would have to decide
    reason: str = ""
    seconds: float = 0.0
    operations: dict[str, float] = field(default_factory=dict[str, float])
    did: list[Did] = field(default_factory=list[Did])
    asked: dict[str, str] = field(default_factory=dict[str, str])
    counts: list[Counted] = field(default_factory=list[Counted])
    marks: dict[str, float] = field(default_factory=dict[str, float])
    exceptions: list[str] = field(default_factory=list[str])
    alarms: list[str] = field(default_factory=list[str])
    mounted: list[Mounted] = field(default_factory=list[Mounted])
    dosed: list[Dosed] = field(default_factory=list[Dosed])
    sampled: list[Sampled] = field(default_factory=list[Sampled])
    moved_ml: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])
    foreseen: dict[str, Foreseen] = field(default_factory=dict[str, Foreseen])
    plant: Plant | None = None

    @property
    def people(self) -> list[Did]:
        """Return the steps of people and samples."""
        return [did for did in self.did if did.who != CONTROLLER]


def visits(people: Sequence[Did]) -> list[list[Did]]:
    """Return what people do, visit by visit: within two hours of what was before belongs to the same visit."""
    found: list[list[Did]] = []
    last = float("-inf")
    for did in sorted(people, key=lambda each: each.began):
        if did.began - last > TOGETHER_S:
            found.append([])
        found[-1].append(did)
        last = max(last, did.ended)
    return found
