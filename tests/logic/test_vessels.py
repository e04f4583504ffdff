"""Vessels: the room that each has for cells, and oxygen where it can be short."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.bench import Bench
from simulators.physics.contents import AIR, Contents, draw, mixed, pour
from simulators.physics.culture import DAY, Surroundings, grow, rates
from simulators.physics.donors import Donor
from simulators.physics.fluid import CLASSES, Container
from simulators.physics.kinetics import DEFAULTS
from simulators.physics.parameters import Setting
from simulators.physics.vessels import BAG, GAS_PERMEABLE, OF_CLASS, ROCKING, STIRRED, Vessel
from simulators.plant import Plant

STEP = 600.0 / DAY
RICH = {"glucose": 1000.0, "glutamine": 0.0}  # mmol/L: as if it were fed all the time


def culture(cells: float, volume: float = 1000.0, **more: float) -> Contents:
    c = mixed(volume, "cm4", {"cells": cells, **more})
    c.age = 3.0
    return c


@pytest.mark.parametrize(("vessel", "room"), [(GAS_PERMEABLE, 3e9), (BAG, 2.5e9), (ROCKING, 1.5e10), (STIRRED, 3e10)])
def test_growth_slows_towards_the_ceiling_and_ends_there(vessel, room):
    around = Surroundings(100.0, vessel=vessel, rpm=vessel.rpm)
    alone, half, full = (rates(culture(n), Donor(), around)[0] for n in (1.0, 0.5 * room, room))
    assert half == pytest.approx(0.5 * alone)
    assert full == 0.0
    assert rates(culture(2.0 * room), Donor(), around)[0] == 0.0


def test_room_goes_with_the_floor_or_with_the_volume():
    floor, bag = Surroundings(200.0), Surroundings(200.0, vessel=BAG)
    assert rates(culture(3e9, 1000.0), Donor(), floor)[0] == rates(culture(3e9, 3000.0), Donor(), floor)[0] > 0.0
    assert rates(culture(3e9, 1000.0), Donor(), bag)[0] == 0.0 < rates(culture(3e9, 3000.0), Donor(), bag)[0]


def test_transfer_rises_with_the_speed_and_does_not_end_at_rest():
    assert ROCKING.transfer(10.0) == 2.0
    assert ROCKING.transfer(15.0) == pytest.approx(3.0)
    assert ROCKING.transfer(0.0) == ROCKING.transfer(-5.0) == ROCKING.still == 0.2
    assert STIRRED.transfer(100.0) == 10.0
    assert GAS_PERMEABLE.transfer(0.0) == BAG.transfer(0.0) == float("inf"), "it is taken as sufficient"
    for wrong in ({"rpm": 0.0}, {"still": 0.0}):
        with pytest.raises(ValueError, match="rocking"):
            replace(ROCKING, **wrong)


def test_the_oxygen_limit_of_a_rocked_bag():
    """1e10 cells at 1 pmol/d use 0.42 mmol/h; 1 L at kLa 2 /h under air takes up 0.40: 1e7 cells/mL is the edge."""
    demand = DEFAULTS.use_oxygen * 1e10 * 1e-9 / 24.0
    supply = ROCKING.transfer(10.0) * AIR
    assert demand == pytest.approx(0.417, abs=0.0005)
    assert supply == pytest.approx(0.400)
    still = Donor(lag=99.0)  # no growth: the cells only breathe
    for cells, left in ((0.9e10, AIR - 0.9 * demand / 2.0), (1.0e10, 0.0)):
        c = culture(cells, **RICH)
        for _ in range(144):
            c.viable = cells
            grow(c, still, Surroundings(0.0, vessel=ROCKING, rpm=10.0), STEP)
        assert c.concentration("oxygen") == pytest.approx(left, abs=2e-4), f"{cells:g} cells"


def plateau(rpm: float, saturation: float = AIR, ceiling: float = 1e9) -> float:
    """Return the cells per mL at which a rocked bag that is never short of anything else comes to a stand."""
    around = Surroundings(0.0, vessel=replace(ROCKING, ceiling=ceiling), rpm=rpm, saturation=saturation)
    c = culture(5e8)
    most = 0.0
    for _ in range(10 * 144):
        c.glucose, c.lactate, c.ammonia, c.il2 = 17.0, 0.0, 0.0, 3e6
        grow(c, Donor(), around, STEP)
        most = max(most, c.viable)
    return most / 1000.0


def test_oxygen_ends_growth_where_the_balance_says_and_speed_or_richer_gas_move_it():
    edge = 24.0 * 2.0 * AIR / DEFAULTS.use_oxygen * 1e6  # 9.6e6 cells/mL
    assert plateau(10.0) == pytest.approx(edge, rel=0.01)
    assert plateau(15.0) == pytest.approx(1.5 * edge, rel=0.01)
    assert plateau(10.0, saturation=2.0 * AIR) == pytest.approx(2.0 * edge, rel=0.01)
    assert plateau(10.0, ceiling=5e6) < 5e6, "or the room does, where that is less"


@given(cells=st.floats(1e6, 5e10), oxygen=st.floats(0.0, 0.3), rpm=st.floats(0.0, 20.0), days=st.floats(1e-4, 0.02))
def test_a_step_takes_oxygen_as_its_equation_says(cells, oxygen, rpm, days):
    """One long step and a hundred short ones of the same constant culture agree, and none is below zero."""
    still, around = Donor(lag=99.0), Surroundings(0.0, vessel=ROCKING, rpm=rpm)
    kinetics = replace(DEFAULTS, death=0.0, starved=0.0)
    long, short = culture(cells, oxygen=oxygen, **RICH), culture(cells, oxygen=oxygen, **RICH)
    grow(long, still, around, days, kinetics)
    for _ in range(100):
        grow(short, still, around, days / 100.0, kinetics)
    assert long.oxygen == pytest.approx(short.oxygen, rel=1e-6, abs=1e-9)
    assert 0.0 <= long.oxygen <= max(oxygen, AIR) + 1e-12


@pytest.mark.parametrize("vessel", [GAS_PERMEABLE, BAG])
def test_where_oxygen_is_sufficient_nobody_looks_at_it(vessel):
    with_, without = culture(1e8), culture(1e8, oxygen=0.0)
    for c in (with_, without):
        for _ in range(144):
            grow(c, Donor(), Surroundings(500.0, vessel=vessel), STEP)
    assert with_.viable == without.viable
    assert (with_.oxygen, without.oxygen) == (AIR, 0.0)


def test_a_stirred_vessel_reaches_its_ceiling_only_with_perfusion():
    def run(per_day: float) -> float:
        c, around = culture(5e8), Surroundings(0.0, vessel=STIRRED, rpm=100.0)
        for _ in range(12 * 144):
            if per_day:
                draw(c, per_day * STEP, 0.0)  # cells are retained
                pour(mixed(per_day * STEP, "cm4", {}), c)
            grow(c, Donor(), around, STEP)
        return c.viable / 1000.0

    assert run(0.0) < 0.4e7
    assert 1e7 < run(2000.0) < 3e7


def test_vessels_hang_in_a_plant_by_their_class():
    plant = Plant(_Clock(), 1)
    bench = Bench(plant)
    for port, name in enumerate(OF_CLASS, start=1):
        bench.hang(port, "vessel", name, 500.0, {"liquid": "cm4", "cells": 1e8})
        hung = plant.place(port)
        assert hung is not None
        assert (hung.vessel, hung.rpm) == (OF_CLASS[name], OF_CLASS[name].rpm)
    assert set(OF_CLASS) < set(CLASSES)
    bench.hang(5, "vessel", "gas-permeable-100cm2", 500.0, {"liquid": "cm4"})
    bench.hang(7, "bag", "", 500.0, {"liquid": "cm4"})
    assert [plant.place(port).vessel for port in (5, 7)] == [GAS_PERMEABLE, GAS_PERMEABLE]
    narrow = replace(ROCKING, ceiling=1e7)
    changed = Bench(Plant(_Clock(), 1, vessels={"rocking-2l": narrow}))
    changed.hang(1, "vessel", "rocking-2l")
    assert changed.plant.place(1).vessel is narrow


def test_what_rocks_does_not_settle():
    rocked = Container("r", "vessel", 0.0, 1000.0, 0.0, vessel=ROCKING, rpm=10.0)
    assert rocked.carry(1e6) == 1.0
    rocked.rpm = 0.0
    assert rocked.carry(1e6) == pytest.approx(0.01)


def test_room_and_transfer_are_parameters_of_a_study():
    names = {each.name for each in Setting(vessel=ROCKING).parameters}
    assert {"vessel.ceiling", "vessel.kla", "kinetics.k_oxygen", "kinetics.use_oxygen"} <= names
    assert "vessel.kla" not in {each.name for each in Setting().parameters}
    assert Setting(vessel=ROCKING).given("vessel.kla", 4.0).vessel == replace(ROCKING, kla=4.0)
    assert Setting().given("vessel.ceiling", 20e6).vessel == replace(GAS_PERMEABLE, ceiling=20e6)
    for vessel in (GAS_PERMEABLE, BAG, ROCKING, STIRRED):
        assert vessel.ceiling_low <= vessel.ceiling <= vessel.ceiling_high
        assert vessel.kla_low <= vessel.kla <= vessel.kla_high
        assert isinstance(vessel, Vessel)


class _Clock:
    def monotonic(self) -> float:
        return 0.0
