"""The simulated rocker: speed, pauses, oxygen, what its probes show, and what its filter keeps back."""

from __future__ import annotations

import math
import struct

import pytest

from simulators.bench import Bench
from simulators.faults.injector import Injector
from simulators.faults.model import Fault
from simulators.physics.contents import AIR
from simulators.physics.culture import oxygen_use
from simulators.physics.donors import Donor
from simulators.physics.fluid import FILTER_FLOATS
from simulators.physics.rocker import Rocker
from simulators.physics.vessels import ROCKING
from simulators.plant import Plant
from simulators.suite import Suite as Servers
from simulators.suite import wire
from tilctl.cli.dryrun.clock import MovedClock

HOUR = 3600.0
SLOW = Donor(mu_rep=1e-9)  # cells that do not grow: what they use stays the same
NAMES = ("temperature", "co2", "oxygen", "ph", "rocking", "gas_oxygen")


def rocked(cells: float, litres: float = 1.0, rpm: float = 10.0) -> tuple[MovedClock, Plant, Bench]:
    clock = MovedClock()
    plant = Plant(clock, 1, SLOW)
    plant.put_up_rocker()
    bench = Bench(plant)
    device = plant.devices["incubator"]
    for tag, value in (("temperature", 37.0), ("co2", 5.0), ("rocking", rpm)):
        device.do(f"set_{tag}", {"value": value})
    content = {"liquid": "cm4", "cells": cells, "age": 3.0, "temperature": 37.0, "glucose": 500.0}
    bench.hang(1, "vessel", "rocking-2l", 1000.0 * litres, content=content)
    return clock, plant, bench


def shown(plant: Plant) -> dict[str, float]:
    """What the instrument has in its registers."""
    words = plant.devices["incubator"].read(4, 0, 16)
    return dict(zip(NAMES, struct.unpack(">6f", struct.pack(">12H", *words[:12])), strict=True))


def saturation(plant: Plant) -> float:
    """The dissolved oxygen in truth, % of air saturation."""
    assert plant.rocker is not None
    bag = plant.place(1)
    assert bag is not None
    held, _ = plant.rocker.oxygen(bag.contents, bag.vessel, bag.aired, plant.time())
    return held / (bag.contents.volume * 1e-3) / AIR * 100.0


def test_it_speeds_up_slowly_and_a_pause_ends_by_itself():
    rocker = Rocker()
    rocker.set_rocking(0.0, 10.0)
    assert [rocker.rpm(t) for t in (0.0, 4.0, 10.0, 99.0)] == [0.0, 4.0, 10.0, 10.0]
    rocker.pause(100.0, 60.0)
    assert [rocker.rpm(t) for t in (100.0, 105.0, 110.0, 160.0, 163.0, 170.0, 1e6)] == [10, 5, 0, 0, 3, 10, 10]
    assert rocker.pause_left(130.0) == 30.0
    rocker.pause(150.0, 60.0)  # once more, before it was over
    assert rocker.rpm(165.0) == 0.0
    rocker.set_rocking(180.0, 6.0)
    assert rocker.rpm(205.0) == 0.0, "another target ends no pause"
    assert rocker.rpm(230.0) == 6.0
    rocker.pause(300.0, 60.0)
    rocker.pause(320.0, 0.0)
    assert rocker.rpm(330.0) == 6.0
    rocker.pause(400.0, 60.0)
    rocker.power(410.0, on=False)
    rocker.power(500.0, on=True)
    assert rocker.rpm(510.0) == 6.0, "targets are kept without power, a pause is not"


def test_1e7_cells_in_a_ml_are_the_edge_in_air_at_10_rpm():
    """1e10 cells at 1 pmol a day use 0.42 mmol/h; 1 L at kLa 2 /h and 0.2 mmol/L takes up 0.40."""
    assert oxygen_use(1e10, 37.0) / 24.0 == pytest.approx(0.417, abs=0.001)
    assert ROCKING.transfer(10.0) * AIR == pytest.approx(0.40)
    levels: dict[float, float] = {}
    for cells in (0.5e10, 0.96e10, 1.1e10):
        clock, plant, _ = rocked(cells)
        clock.move_to(6 * HOUR)
        levels[cells] = saturation(plant)
    assert levels[0.5e10] == pytest.approx(100.0 * (1.0 - 0.5 / 0.96), abs=2.0)
    assert levels[0.96e10] < 4.0
    assert levels[1.1e10] == 0.0


def test_faster_rocking_and_more_oxygen_in_the_gas_bring_more_of_it():
    clock, plant, _ = rocked(0.8e10)
    clock.move_to(4 * HOUR)
    before = saturation(plant)
    plant.devices["incubator"].do("set_rocking", {"value": 15.0})
    clock.move_to(8 * HOUR)
    faster = saturation(plant)
    assert faster == pytest.approx(100.0 * (1.0 - 0.8 / 0.96 * 10.0 / 15.0), abs=2.0)
    plant.devices["incubator"].do("set_gas_oxygen", {"value": 42.0})
    clock.move_to(12 * HOUR)
    assert saturation(plant) == pytest.approx(faster + 100.0, abs=2.0)
    assert before < faster


def test_standing_dense_cells_are_without_oxygen_in_about_a_quarter_of_an_hour():
    """From 50 % of air saturation, 1e7 cells in a mL: 14 min without any transfer, by arithmetic."""
    clock, plant, _ = rocked(1e10, rpm=20.0)
    clock.move_to(6 * HOUR)
    assert saturation(plant) == pytest.approx(48.0, abs=2.0)
    plant.devices["incubator"].do("pause_rocking", {"seconds": 180.0})
    for _ in range(60):
        clock.move_to(clock.monotonic() + 60.0)
        plant.devices["incubator"].do("pause_rocking", {"seconds": 180.0})
        if saturation(plant) <= 0.0:
            break
    assert clock.monotonic() - 6 * HOUR == pytest.approx(15 * 60.0, abs=180.0)


def test_the_oxygen_of_a_day_with_pauses_closes_against_small_steps():
    clock, plant, _ = rocked(0.6e10)
    rocker, bag = plant.rocker, plant.place(1)
    assert rocker is not None
    assert bag is not None
    level, t, step = bag.contents.concentration("oxygen"), 0.0, 2.0
    worst = brought = used = 0.0
    first = level
    for minute in range(12 * 60):
        if minute % 97 == 50:
            plant.devices["incubator"].do("pause_rocking", {"seconds": 170.0})
        if minute == 300:
            plant.devices["incubator"].do("set_gas_oxygen", {"value": 30.0})
        for _ in range(int(60.0 / step)):
            came = ROCKING.transfer(rocker.rpm(t)) / HOUR * (AIR * rocker.gas.at(t) / 21.0 - level) * step
            went = oxygen_use(bag.contents.viable, bag.contents.temperature) / 86_400.0 * step
            level, brought, used, t = level + came - went, brought + came, used + went, t + step
        clock.move_to(t)
        worst = max(worst, abs(saturation(plant) - 100.0 * level / AIR))
    assert worst < 1.0, "% of air saturation"
    assert first + brought - used == pytest.approx(level)


def test_carbon_and_volume_close_in_a_rocked_bag_that_is_perfused():
    clock, plant, bench = rocked(0.5e10)
    bench.hang(16, "bag", "waste", 0.0)
    bag, waste = plant.place(1), plant.place(16)
    assert bag is not None
    assert waste is not None
    began = bag.contents.copy()
    fluidics = plant.fluidics
    with plant.change() as t:
        fluidics.select("pump_waste", 1, 16)
        fluidics.start("pump_waste", 1, 10.0, 400.0, t)
    clock.move_to(6 * HOUR)
    plant.time()
    assert waste.contents.volume == pytest.approx(400.0, rel=0.03)
    assert bag.contents.volume + waste.contents.volume == pytest.approx(1000.0)
    assert waste.contents.viable < 0.001 * began.viable, "a floating filter keeps the cells in the bag"
    assert bag.contents.viable > 0.98 * began.viable
    yield_ = plant.kinetics.lactate_yield
    for where in ("glucose", "lactate"):
        assert getattr(waste.contents, where) > 0.0
    both = [getattr(bag.contents, name) + getattr(waste.contents, name) for name in ("glucose", "lactate")]
    assert both[1] - began.lactate == pytest.approx(yield_ * (began.glucose - both[0]))
    with plant.change() as t:
        fluidics.start("pump_waste", 2, 100.0, 5000.0, t)
    clock.move_to(8 * HOUR)
    plant.time()
    assert bag.contents.volume == pytest.approx(FILTER_FLOATS), "it does not lie on the floor of the bag"


def test_the_probes_show_the_truth_with_noise_lag_and_drift():
    clock, plant, bench = rocked(0.5e10)
    clock.move_to(5 * HOUR)
    readings = []
    for _ in range(200):
        clock.move_to(clock.monotonic() + 1.0)
        readings.append(shown(plant))
    truth = saturation(plant)
    mean = sum(each["oxygen"] for each in readings) / len(readings)
    sigma = math.sqrt(sum((each["oxygen"] - mean) ** 2 for each in readings) / len(readings))
    assert mean == pytest.approx(truth, rel=0.02)
    assert sigma == pytest.approx(0.02 * truth, rel=0.3)
    assert readings[-1]["rocking"] == pytest.approx(10.0, abs=0.3)
    assert 6.5 < readings[-1]["ph"] < 7.4
    bench.take(1)
    assert math.isnan(shown(plant)["oxygen"]), "a probe that hangs in no bag has no value"


def test_a_scale_shows_that_it_rocks_and_nothing_of_it_while_it_stands():
    clock, plant, _ = rocked(0.0)
    clock.move_to(60.0)

    def spread() -> float:
        seen = []
        for _ in range(100):
            clock.move_to(clock.monotonic() + 1.0)
            seen.append(struct.unpack(">f", struct.pack(">2H", *plant.devices["scales"].read(4, 0, 34)[:2]))[0])
        mean = sum(seen) / len(seen)
        return math.sqrt(sum((each - mean) ** 2 for each in seen) / len(seen))

    assert spread() == pytest.approx(3.0, rel=0.3), "0.3 % of 1 kg"
    plant.devices["incubator"].do("pause_rocking", {"seconds": 180.0})
    clock.move_to(clock.monotonic() + 15.0)
    assert spread() == pytest.approx(0.3, rel=0.3)


def test_an_oxygen_probe_that_drifts_shows_more_and_more_of_what_is_not_there():
    clock, plant, _ = rocked(0.5e10)
    clock.move_to(HOUR)
    inject = Injector([plant], Servers(wire(plant.devices), clock), clock)
    inject.apply(Fault("incubator", "drift", args={"point": "oxygen", "by": 50.0, "over": 3600.0}))
    assert shown(plant)["oxygen"] == pytest.approx(saturation(plant), rel=0.1)
    clock.move_to(1.5 * HOUR)
    assert shown(plant)["oxygen"] == pytest.approx(saturation(plant) + 25.0, abs=5.0)


def test_a_plant_without_a_rocker_rocks_at_the_nominal_speed():
    plant = Plant(MovedClock(), 1)
    Bench(plant).hang(1, "vessel", "rocking-2l", 500.0)
    bag = plant.place(1)
    assert bag is not None
    assert bag.rpm == ROCKING.rpm
    assert not plant.rocked(1)
