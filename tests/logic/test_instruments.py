"""The instruments of the plant, register by register: pumps, valves, scales, incubator, and hands at the bench."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from simulators.bench import Bench
from simulators.device import ModbusFault
from simulators.plant import Plant

DAY = 86400.0


class HandClock:
    """A clock that a test turns by hand."""

    t = 0.0

    def monotonic(self) -> float:
        return self.t

    def utc(self, monotonic: float) -> datetime:
        return datetime(2026, 1, 5, 8, 0, tzinfo=UTC) + timedelta(seconds=monotonic)


def f32(value: float) -> list[int]:
    return list(struct.unpack(">HH", struct.pack(">f", value)))


def u32(value: int) -> list[int]:
    return [value >> 16, value & 0xFFFF]


def as_f32(words: list[int]) -> float:
    return struct.unpack(">f", struct.pack(">HH", *words))[0]


class Rig:
    """A plant with named containers, and a clock in hand."""

    def __init__(self, seed: int = 1) -> None:
        self.clock: Any = HandClock()
        self.plant = Plant(self.clock, seed)
        self.bench = Bench(self.plant)
        self.where: dict[str, int] = {}

    def to(self, t: float) -> None:
        self.clock.t = t

    def wait(self, seconds: float) -> None:
        self.clock.t += seconds

    def mass(self, name: str) -> float:
        return as_f32(self.plant.devices["scales"].read(4, 2 * (self.where[name] - 1), 2))

    def volume(self, name: str) -> float:
        return self.plant.place(self.where[name]).contents.volume

    def pump(self, line: str, source: str, destination: str, volume: float, rate: float) -> None:
        self.plant.devices[f"valves_{line}"].write(16, 0, [self.where[source], self.where[destination]])
        pump = self.plant.devices[f"pump_{line}"]
        sequence = pump.read(4, 8, 1)[0] + 1
        pump.write(16, 0, [sequence, *f32(rate), *u32(round(volume * 100)), 1])
        self.wait(volume / rate * 60.0 + 1.0)


def small(seed: int = 1) -> Rig:
    """Return a suite with 2 L on port 7, an empty flask on port 1, valves open between them."""
    rig = Rig(seed)
    rig.where = {"bag": 7, "flask": 1}
    rig.bench.hang(7, "bag", "", 2000.0, {"liquid": "cm1"}, "bag")
    rig.bench.hang(1, "vessel", "gas-permeable-100cm2", 0.0, {"liquid": "empty"}, "flask")
    rig.plant.devices["valves_media"].write(16, 0, [7, 1])
    return rig


def dispense(rig: Rig, sequence: int, volume: float, rate: float) -> None:
    rig.plant.devices["pump_media"].write(16, 0, [sequence, *f32(rate), *u32(round(volume * 100)), 1])


def state(rig: Rig) -> dict[str, int]:
    words = rig.plant.devices["pump_media"].read(4, 0, 10)
    return {
        "running": words[0],
        "status": words[1],
        "total": words[4] << 16 | words[5],
        "dispensed": words[6] << 16 | words[7],
        "sequence": words[8],
        "boots": words[9],
    }


def test_a_pump_bounds_its_dispense_and_slips():
    rig = small()
    dispense(rig, 5, 100.0, 60.0)
    rig.wait(50.0)
    assert state(rig)["running"] == 1
    assert state(rig)["dispensed"] == 5000
    rig.wait(500.0)
    assert state(rig) | {"boots": 1} == {
        "running": 0,
        "status": 0,
        "total": 10000,
        "dispensed": 10000,
        "sequence": 5,
        "boots": 1,
    }
    pump = rig.plant.pumps["pump_media"]
    assert 0.005 <= pump.slip <= 0.02
    assert rig.volume("flask") == pytest.approx(100.0 * (1.0 - pump.slip))
    assert pump.log[0].counted_ml == 100.0
    assert pump.log[0].ended == pytest.approx(100.0)


def test_a_repeated_sequence_is_ignored_and_another_one_refused_while_running():
    rig = small()
    dispense(rig, 5, 50.0, 60.0)
    dispense(rig, 5, 50.0, 60.0)
    with pytest.raises(ModbusFault) as refused:
        dispense(rig, 6, 50.0, 60.0)
    assert refused.value.code == 6
    rig.wait(100.0)
    dispense(rig, 5, 50.0, 60.0)
    rig.wait(100.0)
    assert len(rig.plant.pumps["pump_media"].log) == 1
    assert state(rig)["total"] == 5000


def test_the_totaliser_rolls_over_at_32_bits():
    rig = small()
    rig.plant.pumps["pump_media"].counts = 2**32 - 1000
    dispense(rig, 1, 30.0, 60.0)
    rig.wait(60.0)
    assert state(rig)["total"] == 2000
    assert state(rig)["dispensed"] == 3000


def test_stop_keeps_what_was_counted():
    rig = small()
    dispense(rig, 1, 100.0, 60.0)
    rig.wait(30.0)
    rig.plant.devices["pump_media"].write(6, 6, [0])
    rig.wait(60.0)
    assert state(rig)["running"] == 0
    assert state(rig)["dispensed"] == 3000
    log = rig.plant.pumps["pump_media"].log[0]
    assert log.moved_ml == pytest.approx(30.0 * (1 - rig.plant.pumps["pump_media"].slip))


def test_an_empty_source_gives_air_that_counts_and_moves_nothing():
    rig = small()
    dispense(rig, 1, 2200.0, 100.0)
    rig.wait(3600.0)
    assert state(rig)["dispensed"] == 220_000
    assert state(rig)["status"] == 2
    assert rig.volume("bag") == 0.0
    assert rig.plant.volume_total() == pytest.approx(2000.0)
    assert rig.plant.fluidics.spilled.volume == pytest.approx(2000.0 - 1250.0)  # the flask is full at 1250 mL


def test_a_closed_clamp_stops_the_pump():
    rig = small()
    dispense(rig, 1, 100.0, 60.0)
    rig.wait(20.0)
    rig.plant.devices["valves_media"].write(16, 0, [0, 0])
    rig.wait(10.0)
    assert state(rig)["running"] == 0
    assert state(rig)["status"] == 1
    assert state(rig)["dispensed"] == 2000


def test_power_loss_of_a_pump_forgets_the_sequence_and_keeps_the_count():
    rig = small()
    dispense(rig, 9, 100.0, 60.0)
    rig.wait(30.0)
    with rig.plant.change() as t:
        rig.plant.pumps["pump_media"].power_cycle(t)
    assert state(rig) | {"status": 0} == {
        "running": 0,
        "status": 0,
        "total": 3000,
        "dispensed": 3000,
        "sequence": 0,
        "boots": 2,
    }


def test_scales_show_tare_and_liquid_with_little_noise():
    rig = small()
    seen = []
    for _ in range(200):
        rig.wait(1.0)
        seen.append(rig.mass("bag") - 30.0 - 2000.0 * 1.005)
    mean = sum(seen) / len(seen)
    sigma = math.sqrt(sum((x - mean) ** 2 for x in seen) / len(seen))
    assert abs(mean) < 0.1
    assert 0.24 < sigma < 0.36
    assert rig.mass("bag") == rig.mass("bag")  # the same moment, the same reading
    assert rig.mass("flask") == pytest.approx(120.0, abs=2.0)


def test_mass_is_a_closed_form_while_liquid_moves():
    rig = small()
    dispense(rig, 1, 200.0, 60.0)
    slip = rig.plant.pumps["pump_media"].slip
    for t in (7.0, 31.5, 95.25, 180.0):
        rig.to(t)
        assert rig.plant.fluidics.mass(7, t) == pytest.approx(30.0 + (2000.0 - t * (1 - slip)) * 1.005)
        assert rig.plant.fluidics.mass(1, t) == pytest.approx(120.0 + t * (1 - slip) * 1.005)


def test_the_incubator_warms_up_within_the_hour_and_a_door_costs_little():
    rig = small()
    incubator = rig.plant.devices["incubator"]
    incubator.write(16, 0, f32(37.0))
    rig.wait(3600.0)
    assert as_f32(incubator.read(4, 0, 2)) == pytest.approx(37.0, abs=0.6)
    rig.wait(4 * 3600.0)
    rig.bench.resuspend("flask")
    assert incubator.read(4, 6, 1) == [0b10]
    assert 36.0 < as_f32(incubator.read(4, 0, 2)) < 36.5
    rig.wait(1800.0)
    assert as_f32(incubator.read(4, 0, 2)) == pytest.approx(36.9, abs=0.25)


def test_an_action_announced_for_later_waits_for_its_moment():
    rig = small()
    later = rig.clock.utc(600.0).isoformat().replace("+00:00", "Z")
    assert rig.bench.call("take", {"port": "bag", "at": later, "key": "k"}) == {"scheduled": 600.0}
    assert rig.bench.call("take", {"port": "bag", "at": later, "key": "k"}) == {"scheduled": 600.0}
    rig.to(599.0)
    assert rig.plant.place(7) is not None
    rig.to(601.0)
    assert rig.plant.place(7) is None
    assert rig.bench.call("find", {"name": "bag"})["port"] is None
    assert rig.bench.problems == []


def test_an_idle_plant_has_nothing_to_do():
    rig = Rig(1)
    assert rig.plant._due == math.inf
    rig.to(30 * DAY)
    assert rig.plant.time() == 30 * DAY


def test_cells_settle_in_a_vessel_and_are_swirled_up():
    rig = Rig(1)
    rig.where = {"flask": 1, "waste": 16}
    rig.bench.hang(1, "vessel", "gas-permeable-100cm2", 1000.0, {"liquid": "cm1", "cells": 1e8}, "flask")
    rig.bench.hang(16, name="waste")
    rig.wait(DAY)
    cells = rig.plant.place(1).contents.viable
    rig.pump("waste", "flask", "waste", 900.0, 100.0)
    assert rig.plant.place(1).contents.viable > 0.97 * cells
    rig.bench.resuspend("flask")
    before = rig.plant.place(1).contents.viable
    rig.pump("waste", "flask", "waste", 50.0, 100.0)
    assert rig.plant.place(1).contents.viable < 0.6 * before
