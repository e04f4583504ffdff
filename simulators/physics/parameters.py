"""Every uncertain number of the culture model by name, each to be given another value: for studies of what matters.

The ranges are those that `kinetics`, `donors` and `vessels` state; most are engineering choices.  Uncalibrated: what
such a study shows is how the model leans on its assumptions, not how cells do.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from simulators.physics.donors import TYPICAL, Donor
from simulators.physics.kinetics import DEFAULTS, Kinetics
from simulators.physics.vessels import GAS_PERMEABLE, Vessel


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number: `name` is `donor.FIELD`, `kinetics.FIELD`, `vessel.ceiling` or `vessel.kla`.

    `standing` says where default and range come from.
    """

    name: str
    unit: str
    default: float
    low: float
    high: float
    standing: str


@dataclass(frozen=True, slots=True)
class Setting:
    """A whole set of assumptions: donor, kinetics and vessel; immutable."""

    donor: Donor = TYPICAL
    kinetics: Kinetics = DEFAULTS
    vessel: Vessel = GAS_PERMEABLE

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Return all numbers that have a stated range; `default` is what this setting has."""
        found: list[Parameter] = []
        for part in fields(self):
            owner: Any = getattr(self, part.name)
            for each in fields(owner):
                if "low" in each.metadata:
                    value = float(getattr(owner, each.name))
                    found.append(Parameter(f"{part.name}.{each.name}", default=value, **each.metadata))
        vessel = self.vessel
        unit = "cells/mL" if vessel.by_volume else "cells/cm2"
        room = (vessel.ceiling, vessel.ceiling_low, vessel.ceiling_high, vessel.standing)
        found.append(Parameter("vessel.ceiling", unit, *room))
        if vessel.kla > 0.0:
            transfer = (vessel.kla, vessel.kla_low, vessel.kla_high, vessel.kla_standing)
            found.append(Parameter("vessel.kla", "1/h", *transfer))
        return tuple(found)

    def given(self, name: str, value: float) -> Setting:
        """Return the setting with one number changed.

        Raises ValueError for a name that `parameters` does not have, and for a value outside the stated range.
        """
        found = next((each for each in self.parameters if each.name == name), None)
        if found is None:
            raise ValueError(f"{name!r} is no parameter; there are {', '.join(each.name for each in self.parameters)}")
        if not found.low <= value <= found.high:
            raise ValueError(f"{name} is {value:g} {found.unit}; its stated range is {found.low:g} to {found.high:g}")
        part, _, field = name.partition(".")
        changed: Any = replace(getattr(self, part), **{field: value})
        return replace(self, **{part: changed})
