"""Events of what people change of a batch that runs, under change control: values that its recipe declares adjustable.

Conventions as in `tilctl.journal.events`, which gathers these with the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
