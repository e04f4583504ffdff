"""What one unit is made of, as the site binds it: places to scales and ports, ways to pumps and valves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from devices.clock import Clock
from devices.instrument import Instrument
from tilctl.config import Place, UnitSite
from tilctl.plant.image import ProcessImage
from tilctl.plant.outputs import OutputGate, Protected
from tilctl.plant.scanning import Scanner


class PlantError(Exception):
    """The plant cannot do what is asked: what, and what a person can do about it."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Way:
    """How liquid gets from one place to another: the pump, its valves, and the ports on both sides."""

    line: str
    pump: str
    valves: str
    suction: int
    delivery: int
    source_scale: tuple[str, str]
    destination_scale: tuple[str, str]

    @property
    def devices(self) -> tuple[str, ...]:
        """The instruments that have to be watched while liquid flows: the pump and both scales."""
        return (self.pump, self.source_scale[0], self.destination_scale[0])


class UnitPlant:
    """One unit and the means to act on it."""

    def __init__(
        self,
        name: str,
        site: UnitSite,
        instruments: Mapping[str, Instrument],
        clock: Clock,
        image: ProcessImage,
        gate: OutputGate,
        scanner: Scanner,
    ) -> None:
        self.name = name
        self.site = site
        self.instruments = instruments
        self.clock = clock
        self.image = image
        self.gate = gate
        self.scanner = scanner

    @property
    def devices(self) -> tuple[str, ...]:
        """The instruments that belong to this unit alone, climate first."""
        names = [binding.device for binding in self.site.roles.values()]
        for line in self.site.lines:
            names += [line.pump, line.valves]
        return tuple(dict.fromkeys(names))

    def place(self, name: str) -> Place:
        """Return a place by name."""
        return self.site.places[name]

    def free_place(self, at: str, taken: set[str]) -> str:
        """Return the first free place of a class (station, hook, waste); raises PlantError when all are taken."""
        for name, place in self.site.places.items():
            if place.at == at and name not in taken:
                return name
        have = [name for name, place in self.site.places.items() if place.at == at]
        raise PlantError(
            f"no free place at {at}: {len(have)} places, all taken",
            "unmount what is empty, or give the unit more places in the site file",
        )

    def way(self, source: str, destination: str) -> Way:
        """Return how liquid gets from place to place; raises PlantError when no line connects them."""
        from_, to = self.site.places[source], self.site.places[destination]
        line = self.site.line(from_.at, to.at)
        if line is None:
            raise PlantError(
                f"no line leads from {source} ({from_.at}) to {destination} ({to.at})",
                "add a line to the site file, or mount the containers elsewhere",
            )
        return Way(line.id, line.pump, line.valves, from_.port, to.port, _scale(from_), _scale(to))

    async def weigh(self, places: list[str]) -> dict[str, float | None]:
        """Return the gross mass in g at each place, freshly read; None where there is none to be trusted."""
        weighed = [place for place in places if self.site.places[place].scale_device]
        scales = {place: _scale(self.site.places[place]) for place in weighed}
        for device in dict.fromkeys(device for device, _ in scales.values()):
            await self.scanner.fresh(device)
        masses = {place: self.image.number(".".join(scale)) for place, scale in scales.items()}
        return {place: masses.get(place) for place in places}

    async def make_safe(self) -> list[Protected]:
        """Apply the declared outputs of the unit in order: pumps first, then valves; each group in parallel.

        Invariant: hold is not off.  What `culture_safe` keeps is not touched; a hung device delays nobody.
        """
        safe = self.site.culture_safe
        done: list[Protected] = []
        if "pumps" in safe and safe["pumps"].action == "stop":
            pumps = dict.fromkeys(line.pump for line in self.site.lines)
            done += await asyncio.gather(*(self.gate.protect(pump, "stop") for pump in pumps))
        if "valves" in safe and safe["valves"].action == "closed":
            valves = dict.fromkeys(line.valves for line in self.site.lines)
            done += await asyncio.gather(*(self.gate.protect(valve, "close") for valve in valves))
        for output, state in safe.items():
            if state.action != "value" or state.value is None:
                continue
            role, _, tag = output.partition(".")
            device = self.site.roles[role].device
            done.append(await self.gate.protect(device, f"set_{tag}", {"value": state.value}))
        return done


def _scale(place: Place) -> tuple[str, str]:
    if not place.scale_device:
        raise PlantError(
            f"place {place.name} has no scale", "bind a scale to it in the site file: no mass, no evidence"
        )
    return place.scale_device, place.scale_point
