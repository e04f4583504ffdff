"""Places and pumps of a dry run: containers get ports, and a pump moves what a transfer orders, with its slip."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from recipes.steps import Transfer
from simulators.bench import Bench
from simulators.plant import HOOKS, STATION, WASTE, Plant
from tilctl.engine.verbs.transfer import MOST_TRIES, SMALLEST_ML
from tilctl.plant.stillness import LEAD_S, MOST_STILL_S, REST_S

PUMP = "pump_media"  # one for all: which line a site has for a transfer is the site's


class NoPlace(Exception):
    """More containers than the simulated suite has places for."""


class Liquids:
    """What is where, and what moves."""

    def __init__(self, plant: Plant, bench: Bench) -> None:
        self.plant = plant
        self.bench = bench
        self.moved_ml: dict[tuple[str, str], float] = {}  # families from and to -> mL
        self._ports: dict[str, int] = {}
        self._sequence = 0

    def place(self, name: str, place_class: str) -> int:
        """Return the first free port of a class of places for a container; raises NoPlace."""
        ports = {"station": STATION, "hook": HOOKS, "waste": (WASTE,)}[place_class]
        taken = set(self._ports.values())
        port = next((port for port in ports if port not in taken), None)
        if port is None:
            raise NoPlace(f"{name}: all {len(ports)} places of the class {place_class} are taken")
        self._ports[name] = port
        return port

    def port(self, name: str) -> int:
        """Return the port of a container."""
        return self._ports[name]

    def free(self, name: str) -> None:
        """Free the place of a container."""
        self._ports.pop(name, None)

    def volume(self, name: str) -> float:
        """Return what a container really holds (mL)."""
        container = self.plant.place(self._ports[name])
        return 0.0 if container is None else container.contents.volume

    async def doses(
        self,
        step: Transfer,
        source: str,
        destination: str,
        wanted: float,
        tolerance: float,
        rate: float,
        pass_s: Callable[[float], Awaitable[None]],
    ) -> AsyncGenerator[float]:
        """Dose as a controller does, what a pump slips only where it is beyond the tolerance; yield what each moved."""
        over = min(0.02 * wanted + 2.0, 20.0) if step.all else 0.0  # to be sure that it is empty
        missing, tries = wanted, 0
        rocker = self.plant.rocker
        rocks = rocker is not None and rocker.targets["rocking"] > 0.0 and self._rocked(source, destination)
        most = (MOST_STILL_S - LEAD_S) / 60.0 * rate if rocks else math.inf
        while missing >= SMALLEST_ML and tries < MOST_TRIES and (missing > tolerance or tries == 0):
            if missing > most:  # in parts, between which it rocks
                await pass_s(self.begin(source, destination, most, rate))
                moved = self.end(source, destination)
                yield moved
                missing -= moved
                await pass_s(REST_S)
                if moved < SMALLEST_ML:
                    return
                continue
            await pass_s(self.begin(source, destination, missing + (over if tries == 0 else 0.0), rate))
            moved = self.end(source, destination)
            yield moved
            missing, tries = missing - moved, tries + 1
            if step.all or (step.one_shot and moved > 0.0):
                return

    def _rocked(self, *names: str) -> bool:
        return any(self.plant.rocked(self._ports[name]) for name in names)

    def begin(self, source: str, destination: str, volume_ml: float, rate: float) -> float:
        """Start a dispense; return how long it takes (s)."""
        self._sequence += 1
        lasts = volume_ml / rate * 60.0
        with self.plant.change() as t:
            if self.plant.rocker is not None and self._rocked(source, destination):
                self.plant.rocker.pause(t, lasts)
            fluidics = self.plant.fluidics
            fluidics.select(PUMP, self._ports[source], self._ports[destination])
            fluidics.start(PUMP, self._sequence, rate, volume_ml, t)
        return lasts

    def end(self, source: str, destination: str) -> float:
        """Close the clamps, and return what the last dispense has moved (mL)."""
        with self.plant.change() as t:
            self.plant.fluidics.stop(PUMP, t)
            self.plant.fluidics.select(PUMP, 0, 0)
        moved = self.plant.pumps[PUMP].log[-1].moved_ml
        way = source.partition("[")[0], destination.partition("[")[0]
        self.moved_ml[way] = self.moved_ml.get(way, 0.0) + moved
        return moved

    def set_climate(self, targets: Mapping[str, float]) -> None:
        """Give chamber and rocker their targets, by tag (`temperature`, `rocking`)."""
        climate, rocker = self.plant.climate, self.plant.rocker
        with self.plant.change() as t:
            for tag, value in targets.items():
                if tag == "temperature":
                    climate.set_temperature(t, value)
                elif tag == "co2":
                    climate.set_co2(t, value)
                elif tag == "rocking" and rocker is not None:
                    rocker.set_rocking(t, value)
                elif tag == "gas_oxygen" and rocker is not None:
                    rocker.set_gas(t, value)
