"""Days of faults on a plant at work: no liquid comes or goes, and the same seed is the same to the last bit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from simulators.bench import Bench
from simulators.device import ModbusFault
from simulators.faults import Injector, schedule
from simulators.faults.vocabulary import HARNESS
from simulators.physics.noise import stream, uniform
from simulators.plant import Plant
from simulators.suite import Suite, wire
from simulators.virtual import VirtualClock, run

HOUR = 3600.0
PORTS = (1, 2, 7, 8, 9, 16)


async def two_days(clock: VirtualClock, seed: int, poll: float) -> dict[str, Any]:
    """Pump liquids about for two days under a cruel schedule; somebody reads all scales each `poll` s."""
    loop = asyncio.get_running_loop()
    plant = Plant(clock, seed)
    bench = Bench(plant)
    servers = Suite(wire(plant.devices), clock)
    injector = Injector([plant], servers, clock)
    for port in PORTS:
        bench.hang(port, volume_ml=400.0 if port != 16 else 0.0, content={"liquid": "cm2", "cells": 1e6 * port})
    faults = [f for f in schedule("cruel", seed, [], 20 * 24 * HOUR) if f.where not in HARNESS]
    for fault in faults:  # twenty days of faults in two
        loop.call_at((fault.time_s or 0.0) / 10.0, injector.apply, fault)
    key, end = stream(seed, "work"), 48 * HOUR

    async def work() -> None:
        """Command devices as a controller might that looks at nothing."""
        for i in range(200):
            await asyncio.sleep(uniform(key, 9 * i, 10.0, 1600.0))
            line = ("media", "cells", "waste")[i % 3]
            source, destination = (PORTS[int(uniform(key, 9 * i + k, 0, len(PORTS)))] for k in (1, 2))
            with plant.change() as t:
                plant.fluidics.select(f"pump_{line}", source, destination)
                plant.fluidics.start(f"pump_{line}", i + 1, uniform(key, 9 * i + 3, 5, 200), 60.0, t)

    async def look() -> None:
        while clock.monotonic() < end:
            await asyncio.sleep(poll)
            for name, block in (("scales", (4, 0, 34)), ("freezer", (4, 0, 16)), ("pump_media", (4, 0, 11))):
                plant.devices[name].read(*block)
            assert plant.volume_total() == pytest.approx(plant.aside.brought_ml, abs=1e-6)

    await asyncio.gather(work(), look())
    await clock.sleep_until(end + HOUR)
    assert len(injector.injected) > 40
    injector.close()
    truth = bench.truth()
    assert truth["volume_total_ml"] == pytest.approx(truth["brought_ml"], abs=1e-6)
    assert all(place["volume"] >= 0.0 and place["viable"] >= 0.0 for place in truth["places"].values())
    return truth | {"count": injector.count}


def days(seed: int, poll: float) -> dict[str, Any]:
    return run(lambda clock: two_days(clock, seed, poll), watchdog_s=20.0)


@pytest.mark.parametrize("seed", range(1, 7))
def test_liquid_is_conserved_and_it_makes_no_difference_who_looks_when(seed: int) -> None:
    first = days(seed, 1777.7)
    assert days(seed, 301.0) == first
    assert sum(len(pump["log"]) for pump in first["pumps"].values()) > 40


def test_a_pump_that_was_told_a_dispense_twice_does_it_twice_only_after_a_reboot() -> None:
    async def main(clock: VirtualClock) -> None:
        plant = Plant(clock, 1)
        pump = plant.devices["pump_media"]
        plant.fluidics.select("pump_media", 7, 1)
        dose = {"sequence": 3, "rate": 60.0, "volume": 1.0}
        for _ in range(2):
            pump.do("dispense", dose)
            await asyncio.sleep(5.0)
        assert len(plant.pumps["pump_media"].log) == 1
        pump.power(on=False)
        pump.power(on=True)
        pump.do("dispense", dose)
        assert len(plant.pumps["pump_media"].log) == 2
        with pytest.raises(ModbusFault):
            pump.do("dispense", dose | {"sequence": 4})

    run(main, watchdog_s=20.0)
