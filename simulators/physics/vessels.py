"""Kinds of culture vessels as data: how many cells there is room for, and how oxygen comes to them.

Uncalibrated.  [P] engineering default of this project, [GKU] general knowledge, unverified, [D] derived by arithmetic,
[L] read in the literature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Vessel:
    """A kind of vessel; immutable.

    `ceiling` is the density at which growth ends, in cells/mL where `by_volume`, else in cells/cm2 of floor.  `kla`
    (1/h) is the transfer of oxygen at the speed `rpm`, and goes with the speed to the power of `exponent`, never below
    `still` (1/h, [P]); 0 means that oxygen is taken as sufficient, and that the ceiling stands for what floor or wall
    let in.  `..._low` and `..._high` are the stated ranges.  Volume, angle and gas flow change nothing here.
    `filter_pass` is the share of the cells that goes with what is drawn to waste; below 1 a filter keeps the others.

    Raises ValueError for a kLa without a speed, or without any transfer at rest.
    """

    kind: str
    ceiling: float
    ceiling_low: float
    ceiling_high: float
    standing: str
    by_volume: bool = True
    kla: float = 0.0
    kla_low: float = 0.0
    kla_high: float = 0.0
    kla_standing: str = ""
    rpm: float = 0.0
    exponent: float = 1.0
    still: float = 0.2
    filter_pass: float = 1.0

    def __post_init__(self) -> None:
        if self.kla > 0.0 and not (self.rpm > 0.0 and self.still > 0.0):
            raise ValueError(f"{self.kind}: a kLa belongs to a speed, and some transfer is left without any")

    def transfer(self, rpm: float) -> float:
        """Return kLa (1/h) at a speed; infinity where oxygen is taken as sufficient."""
        if self.kla <= 0.0:
            return float("inf")
        return max(self.still, self.kla * (max(0.0, rpm) / self.rpm) ** self.exponent)


GAS_PERMEABLE = Vessel("gas-permeable", 30e6, 20e6, 40e6, "cells/cm2 [GKU]", by_volume=False)
FLASK = Vessel("flask", 3e6, 2e6, 4e6, "cells/mL, static, upright, oxygen from above only [P]")
BAG = Vessel("bag", 2.5e6, 2e6, 3e6, "cells/mL, static, gas-permeable wall [GKU]")
ROCKING = Vessel(
    "rocking", 1.5e7, 1e7, 2e7, "cells/mL [L]",
    kla=2.0, kla_low=1.0, kla_high=4.0, kla_standing="at 10 rpm [GKU]; in proportion to rpm [P]", rpm=10.0,
    filter_pass=0.001,  # a floating filter for perfusion [P]
)  # fmt: skip
# 3e7 cells/mL at 1 pmol/cell/d need 6.25 /h in air [D].  kLa goes with (P/V)^0.34 [L] and P with rpm^3: about with rpm.
STIRRED = Vessel(
    "stirred", 3e7, 2e7, 4e7, "cells/mL, only with perfusion [L], range [P]",
    kla=10.0, kla_low=5.0, kla_high=20.0, kla_standing="at 100 rpm [P]; in proportion to rpm [D]", rpm=100.0,
)  # fmt: skip

# What is not here is taken as gas-permeable: bags that hang at room temperature, where nothing grows.
OF_CLASS: Mapping[str, Vessel] = {
    "flask-175cm2": FLASK, "culture-bag-3l": BAG, "rocking-2l": ROCKING, "stirred-2l": STIRRED,
}  # fmt: skip
