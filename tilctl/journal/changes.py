"""Events of what people change of a batch that runs: values that its recipe declares adjustable, how its steps begin.

Conventions as in `tilctl.journal.events`, which gathers these with the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["automatic", "semi_automatic", "manual"]
Release = Literal["proceed", "skip"]


@dataclass(frozen=True, slots=True)
class ParameterAdjusted:
    """A parameter has another value (text with its unit) for all steps that begin after this event, and for no other.

    `who` is who asked for it by his own word, `command` the command that brought it.
    """

    parameter: str
    old: str
    new: str
    reason: str
    who: str
    command: str
    kind: Literal["parameter_adjusted"] = "parameter_adjusted"


@dataclass(frozen=True, slots=True)
class ModeChanged:
    """How steps begin from now on (ISA-88): by themselves; by a person where they act on equipment; by a person."""

    from_mode: Mode
    to_mode: Mode
    reason: str
    who: str
    command: str
    kind: Literal["mode_changed"] = "mode_changed"


@dataclass(frozen=True, slots=True)
class StepReleased:
    """A step that waited for a person may begin, or is passed over.  Invariant: on disk before it does either."""

    path: str
    how: Release
    reason: str
    who: str
    command: str
    kind: Literal["step_released"] = "step_released"
