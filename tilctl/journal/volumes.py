"""Events of the volume ledger: what is mounted, what no intent moved, what people corrected.

A dose has no event here: closing its intent is its entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Mounted:
    """A vessel or bag was put in a place, with what it held; `mass_g` is the gross reading of the scale there.

    `evaporates` (mL/d) is what its recipe declares.
    """

    path: str
    container: str
    place: str
    vessel_class: str
    volume_ml: float
    scan: str
    mass_g: float | None = None
    evaporates: float = 0.0
    kind: Literal["mounted"] = "mounted"


@dataclass(frozen=True, slots=True)
class Unmounted:
    """A vessel or bag was taken from its place."""

    path: str
    container: str
    place: str
    volume_ml: float
    kind: Literal["unmounted"] = "unmounted"


@dataclass(frozen=True, slots=True)
class Moved:
    """A movement that no intent made: a sample drawn by hand (a closed intent is its own entry in the ledger)."""

    path: str
    intent: int
    from_container: str
    to_container: str
    volume_ml: float
    kind: Literal["moved"] = "moved"


@dataclass(frozen=True, slots=True)
class LedgerCorrected:
    """A person corrected a container's volume by so many mL, to `volume_ml`, and a second person agreed.

    `from_mounting`: by its weight it held that from the first (a wrong label); else something came or left unseen.
    `who` and `second` are what they said of themselves: nobody has proven who they are.
    """

    container: str
    change_ml: float
    volume_ml: float
    reason: str
    who: str
    second: str
    from_mounting: bool = False
    command: str = ""  # the id of the command that it carries out
    kind: Literal["ledger_corrected"] = "ledger_corrected"
