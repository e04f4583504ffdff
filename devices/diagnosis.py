"""How well a device is, in the words of NAMUR NE 107, and what its own status bits and symbols say of that.

The four signals are those of NE 107: failure, function check, out of specification, maintenance required.  The edition
of 2017 ranks them; what was read of it differs (one page puts out of specification last, others maintenance), and the
recommendation itself was not read.  Here failure outranks function check, that out of specification, and that
maintenance: what says nothing of the value now comes last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Ne107(StrEnum):
    """The class of a device, best first; UNKNOWN is none of NE 107: it is not known to be good."""

    GOOD = "good"
    UNKNOWN = "unknown"
    MAINTENANCE = "maintenance_required"
    OUT_OF_SPECIFICATION = "out_of_specification"
    FUNCTION_CHECK = "function_check"
    FAILURE = "failure"

    @property
    def letter(self) -> str:
        """Its letter on a display (M, S, C, F); "" for good and unknown."""
        return _LETTERS.get(self, "")

    @property
    def rank(self) -> int:
        """How much it matters, 0 for good."""
        return _RANKS[self]


_LETTERS: Mapping[Ne107, str] = {
    Ne107.MAINTENANCE: "M", Ne107.OUT_OF_SPECIFICATION: "S", Ne107.FUNCTION_CHECK: "C", Ne107.FAILURE: "F",
}  # fmt: skip
_RANKS: Mapping[Ne107, int] = {each: rank for rank, each in enumerate(Ne107)}


@dataclass(frozen=True, slots=True)
class Sign:
    """What a device shows of itself: while `name` (a bit or a point) reads so, the device is `status`.

    `symbol` is what it reads then; "" where it is true, or any number but 0.
    """

    status: Ne107
    name: str
    symbol: str = ""

    def stands(self, value: Any) -> bool:
        """Tell whether a value says so."""
        return value == self.symbol if self.symbol else bool(value)

    def __str__(self) -> str:
        return f"{self.name}={self.symbol}" if self.symbol else self.name
