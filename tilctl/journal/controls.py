"""Events of standing controls: what keeps a reading, what ended it, and each of its moves with what made it move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ControlSet:
    """From now on a reading (`of`) is kept; `data` says at what, how often, and by which targets."""

    path: str
    of: str
    data: Json
    kind: Literal["control_set"] = "control_set"


@dataclass(frozen=True, slots=True)
class ControlEnded:
    """Nothing keeps a reading any more; the targets stay as they are."""

    path: str
    of: str
    kind: Literal["control_ended"] = "control_ended"


@dataclass(frozen=True, slots=True)
class ControlMoved:
    """A control has given a standing target another value, because of a `reading` (in the unit of what it reads)."""

    path: str
    of: str
    reading: float
    tag: str
    value: float
    unit: str
    kind: Literal["control_moved"] = "control_moved"
