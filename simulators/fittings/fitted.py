"""The instruments of a site's equipment, built for one plant.

What plays which part is read from the same description from which the controller builds its equipment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from devices.equipment.spec import (
    ClimateSpec,
    ContactFreezerSpec,
    ProgrammerFreezerSpec,
    PumpSpec,
    Spec,
    ValvesSpec,
    parts_of,
)
from devices.profile_types import Profile
from simulators.device import Life, SimDevice, StandIn
from simulators.fittings import climate, freezers, liquids
from simulators.fittings.module import Modules
from simulators.fittings.workshop import Draft, Place, Workshop
from simulators.instruments import serial_number
from simulators.parts import simulated
from simulators.physics.freezing import Row


class Fittings:
    """Builds the instruments of a site's equipment for one plant.

    `balances` says at which port a load cell hangs; `stored` are the programmes, by digest, in a freezer that is run by
    its contacts.
    """

    def __init__(
        self,
        place: Place,
        profiles: Mapping[str, Profile],
        equipment: Mapping[str, Spec],
        balances: Mapping[str, int],
        stored: Mapping[str, Sequence[Row]] | None = None,
    ) -> None:
        self._shop = Workshop(place, profiles)
        self._modules = Modules(self._shop)
        self._equipment = equipment
        self._stored = stored or {}
        for name, spec in equipment.items():
            self._fit(name, spec)
        for name, port in balances.items():
            self._shop.drafts[name].values["gross"] = partial(liquids.mass, place, port, f"scales.{port}")

    def devices(self) -> dict[str, SimDevice]:
        """Return the instruments by name."""
        found = {name: _made(name, draft) for name, draft in self._shop.drafts.items()}
        for name, module in self._modules.made.items():
            found[name].asked.append(module.asked)
        return found

    def stand_ins(self, devices: Mapping[str, SimDevice], balances: Mapping[str, int]) -> dict[str, StandIn]:
        """Return which parts stand in for which instrument of the suite; `devices` are those of `devices()`."""
        found: dict[str, StandIn] = {}
        modules = self._modules.made
        for name, spec in self._equipment.items():
            points: dict[str, tuple[SimDevice, str]] = {}
            if isinstance(spec, ClimateSpec):
                programmer = devices[spec.programmer]
                target = "target" if "target" in programmer.profile.points else "setpoint"
                points = {
                    "temperature": (programmer, "temperature"),
                    "temperature_target": (programmer, target),
                    "co2": (devices[spec.co2.part], spec.co2.point),
                }
            elif isinstance(spec, PumpSpec) and "running" in devices[spec.drive].profile.points:
                points = {"running": (devices[spec.drive], "running")}
            parts = [part for part in parts_of(spec) if part not in modules or not isinstance(spec, PumpSpec)]
            found[name] = StandIn(tuple(devices[part] for part in parts), points)
        if balances:
            cells = {f"mass_{port}": (devices[name], "gross") for name, port in balances.items()}
            found["scales"] = StandIn(tuple(devices[name] for name in balances), cells)
        return found

    def _fit(self, name: str, spec: Spec) -> None:
        match spec:
            case ClimateSpec():
                climate.climate(self._shop, spec)
            case PumpSpec():
                liquids.pump(self._shop, self._modules, name, spec)
            case ValvesSpec():
                liquids.valves(self._shop, self._modules, name, spec)
            case ProgrammerFreezerSpec():
                freezers.programmer(self._shop, spec)
            case ContactFreezerSpec():
                freezers.contacts(self._shop, self._modules, spec, self._stored)


def _made(name: str, draft: Draft) -> SimDevice:
    """Return the instrument of a draft, whose power also moves the physics behind it."""
    device = draft.made = simulated(draft.profile, draft.values, draft.handlers, serial=serial_number(name))
    registers = device.life

    def off() -> None:
        registers.off()
        for act in draft.off:
            act()

    def on() -> None:
        for act in draft.on:
            act()

    device.life = Life(off, on, registers.new)
    return device
