"""What one unit is made of, as the site binds it: places to scales and ports, ways to pumps and valves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from devices.clock import Clock
from devices.instrument import Instrument
from devices.role import ROLES
from tilctl.config import Place, UnitSite
from tilctl.config.site import Line
from tilctl.plant.image import ProcessImage
from tilctl.plant.outputs import OutputGate, Protected
from tilctl.plant.scanning import Scanner
from tilctl.plant.stillness import Stillness

PINCH_AFTER = 1.0  # s that the valves of a line wait for its pump to stop


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
    rockers: tuple[str, ...] = ()  # what has to stand still while it is weighed on either side

    @property
    def devices(self) -> tuple[str, ...]:
        """The instruments that have to be watched while liquid flows: the pump, both scales, and what rocks them."""
        return (self.pump, self.source_scale[0], self.destination_scale[0], *self.rockers)


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
        self._own = {*self.devices}
        self._others = {  # scales of this unit: their load cells that are not under one of its places
            device: {*ROLES["scale"].points} - {p.scale_point for p in site.places.values() if p.scale_device == device}
            for device in {p.scale_device for p in site.places.values() if p.scale_device}
        }
        self.well: Callable[[], bool] = lambda: True  # whether the controller is: only then devices are fed
        self.stillness = Stillness(clock, image, gate, scanner, self.feeds)

    def feeds(self) -> bool:
        """Whether devices may be told to go on with what they end by themselves."""
        return self.well()

    @property
    def devices(self) -> tuple[str, ...]:
        """The instruments that belong to this unit alone, climate first."""
        names = [binding.device for binding in self.site.roles.values()]
        for line in self.site.lines:
            names += [line.pump, line.valves]
        return tuple(dict.fromkeys(names))

    @property
    def watched(self) -> tuple[str, ...]:
        """The instruments that this unit works with: its own, and what weighs in its places."""
        scales = (place.scale_device for place in self.site.places.values() if place.scale_device)
        return tuple(dict.fromkeys((*self.devices, *scales)))

    def sees(self, name: str) -> bool:
        """Return whether a reading (`device.point`) is this unit's: of an own device or of a load cell of its places.

        A device that serves several units shows each of them only its own; what is no load cell (its state) all.
        """
        device, _, point = name.partition(".")
        if device in self._others:
            return point not in self._others[device]
        return device in self._own

    def place(self, name: str) -> Place:
        """Return a place by name."""
        return self.site.places[name]

    def free_place(self, at: str, taken: set[str], *, rocked: bool = False) -> str:
        """Return the first free place of a class (station, hook, waste); raises PlantError when all are taken.

        What is to be `rocked` comes where it is, if any place of the class is; all else rather where it is not.
        """
        have = [name for name, place in self.site.places.items() if place.at == at]
        fit = [name for name in have if bool(self.site.places[name].rocked_by) is rocked]
        order = fit if rocked and fit else [*fit, *have]
        if (found := next((name for name in order if name not in taken), None)) is not None:
            return found
        if rocked and fit:
            text = f"no free place at {at} that is rocked: {len(fit)} of {len(have)} places are, all taken"
            raise PlantError(text, "unmount what is empty")
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
        rockers = tuple(dict.fromkeys(place.rocked_by for place in (from_, to) if place.rocked_by))
        return Way(line.id, line.pump, line.valves, from_.port, to.port, _scale(from_), _scale(to), rockers)

    async def weigh(self, places: list[str]) -> dict[str, float | None]:
        """Return the gross mass in g at each place, freshly read; None where there is none to be trusted.

        What is rocked stands still meanwhile.  Raises DeviceError.
        """
        weighed = [place for place in places if self.site.places[place].scale_device]
        scales = {place: _scale(self.site.places[place]) for place in weighed}
        async with self.stillness.over(rocker for place in weighed if (rocker := self.site.places[place].rocked_by)):
            for device in dict.fromkeys(device for device, _ in scales.values()):
                await self.scanner.fresh(device)
            masses = {place: self.image.number(".".join(scale)) for place, scale in scales.items()}
        return {place: masses.get(place) for place in places}

    async def make_safe(self, only: Collection[tuple[str, str]] | None = None) -> list[Protected]:
        """Apply the declared outputs of the unit: each device at once, or as soon as its own line allows.

        `only` names those to be tried again, by device and command; None: all of them.

        Pumps stop first; valves close when the pumps of their lines have stopped, and after 1 s in any case: a pump
        that cannot be stopped is pinched off.  No line waits for another.

        Invariant: hold is not off.  What `culture_safe` keeps is not touched; a hung device delays nobody.
        """
        safe = self.site.culture_safe

        def wanted(device: str, command: str) -> bool:
            return only is None or (device, command) in only

        work: list[asyncio.Task[Protected]] = []
        stops: dict[str, asyncio.Task[Protected]] = {}
        if "pumps" in safe and safe["pumps"].action == "stop":
            for pump in dict.fromkeys(line.pump for line in self.site.lines if wanted(line.pump, "stop")):
                stops[pump] = _at_once(self.gate.protect(pump, "stop"))
        if "valves" in safe and safe["valves"].action == "closed":
            for valves in dict.fromkeys(line.valves for line in self.site.lines if wanted(line.valves, "close")):
                mine = [stops[line.pump] for line in self.site.lines if line.valves == valves and line.pump in stops]
                work.append(_at_once(self._close_after(mine, valves)))
        for output, state in safe.items():
            if state.action != "value" or state.value is None:
                continue
            role, _, tag = output.partition(".")
            device = self.site.roles[role].device
            # What an interlock has cut off is safer than any value; a permissive is about beginning, not about ending.
            if not wanted(device, f"set_{tag}") or self.gate.cut_off(device, f"set_{tag}"):
                continue
            work.append(_at_once(self.gate.protect(device, f"set_{tag}", {"value": state.value})))
        return list(await asyncio.gather(*stops.values(), *work))

    async def cut_off(self, line: Line) -> list[Protected]:
        """Stop the pump of a line and close its valves, at once, whatever the site's `culture_safe` says; for guards.

        A pump that does not stop within 1 s is pinched off.  Never raises, always bounded.
        """
        stop = _at_once(self.gate.protect(line.pump, "stop"))
        close = _at_once(self._close_after([stop], line.valves))
        return list(await asyncio.gather(stop, close))

    async def _close_after(self, stops: list[asyncio.Task[Protected]], valves: str) -> Protected:
        if stops:
            await asyncio.wait(stops, timeout=PINCH_AFTER)
        return await self.gate.protect(valves, "close")


def _at_once(work: Coroutine[Any, Any, Protected]) -> asyncio.Task[Protected]:
    return asyncio.create_task(work, name="make-safe-device")


def _scale(place: Place) -> tuple[str, str]:
    if not place.scale_device:
        raise PlantError(
            f"place {place.name} has no scale", "bind a scale to it in the site file: no mass, no evidence"
        )
    return place.scale_device, place.scale_point
