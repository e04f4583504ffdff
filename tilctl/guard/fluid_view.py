"""What the rules for liquids are told of a batch: its containers, the doses that are open, and where people work.

It comes from the record.  The rules hold it against what the instruments say and know nothing else of the engine.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilctl.guard.fluid_rules import HAND_G


@dataclass(frozen=True, slots=True)
class Held:
    """A mounted container; volumes in mL, masses in g, density in g/mL.

    `mass_g` is what it weighed, gross, when it was mounted with `mounted_ml`: so its volume is known by mass alone,
    whatever the ledger says was moved since.
    """

    name: str
    place: str
    scale: str  # the point that weighs it, `device.point`
    density: float
    limit_ml: float
    mounted_ml: float
    mass_g: float
    rocker: str = ""  # the instrument that rocks it

    def volume(self, gross_g: float) -> float:
        """Return what it holds (mL) when it weighs so much."""
        return self.mounted_ml + (gross_g - self.mass_g) / self.density

    def lifted(self, gross_g: float) -> bool:
        """Whether its place weighs less than the empty container: somebody has taken it off."""
        return gross_g < max(HAND_G, (self.mass_g - self.mounted_ml * self.density) / 2)


@dataclass(frozen=True, slots=True)
class Flow:
    """A dose that is open; volumes in mL, the rate in mL/min.

    `empty`: the pump was told to run until the source is.  `floor_ml` is what is to be left in the source.
    `swallowed_ml` is what the line may keep of it.
    """

    intent: int
    line: str
    pump: str
    sequence: int
    source: Held
    destination: Held
    rate: float
    volume_ml: float
    empty: bool = False
    floor_ml: float | None = None
    swallowed_ml: float = 0.0


@dataclass(frozen=True, slots=True)
class Picture:
    """A batch as its record says it is.

    `hands` are the places where people are asked to do something now, None for anywhere.  `epoch` grows with whatever
    changes what should hang and how much should be in it.
    """

    containers: tuple[Held, ...] = ()
    flows: tuple[Flow, ...] = ()
    hands: frozenset[str] | None = frozenset()
    epoch: int = 0
