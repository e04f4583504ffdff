"""What the record says of interlocks and permissives.

`unit` is "" on the record of a batch, whose unit it is; on that of the site it names the unit, or `site`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


def _json() -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class InterlockTripped:
    """An interlock acted: its outputs are off, and stay off until it is reset; `values` are the operands."""

    interlock: str
    text: str
    values: dict[str, Any] = field(default_factory=_json)
    unit: str = ""
    kind: Literal["interlock_tripped"] = "interlock_tripped"


@dataclass(frozen=True, slots=True)
class InterlockReset:
    """An interlock was let go of; `by` is who did, "" where its own rule did."""

    interlock: str
    by: str
    why: str
    unit: str = ""
    kind: Literal["interlock_reset"] = "interlock_reset"


@dataclass(frozen=True, slots=True)
class InterlockBypassed:
    """Two persons have set an interlock or a permissive aside until a moment.

    Who they are and which roles they have is what the command claimed.  `renewed`: it stood already, and goes on.
    """

    interlock: str
    by: str
    role: str
    second: str
    second_role: str
    reason: str
    until: str
    renewed: bool = False
    unit: str = ""
    kind: Literal["interlock_bypassed"] = "interlock_bypassed"


@dataclass(frozen=True, slots=True)
class BypassEnded:
    """An interlock or a permissive is in force again; `by` is who ended the bypass, "" where its time did."""

    interlock: str
    by: str
    why: str
    unit: str = ""
    kind: Literal["bypass_ended"] = "bypass_ended"


InterlockEvent = InterlockTripped | InterlockReset | InterlockBypassed | BypassEnded
