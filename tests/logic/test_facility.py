"""Several cells: the first is what a single plant is, nobody touches another's liquids or bags, one freezer for all."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from simulators.bench import Bench
from simulators.facility import Facility, at_cell
from simulators.faults import Fault, Injector
from simulators.habits import Staff
from simulators.operator import Operator
from simulators.plant import Plant
from simulators.sight import BenchError
from simulators.suite import Suite, layout, wire
from simulators.virtual import VirtualClock, run
from tilctl.cli.simulated import layout_of
from tilctl.config import load_site

TWO = Path(__file__).parents[1] / "engine" / "two-cells.yaml"


class HandClock:
    def __init__(self) -> None:
        self.t = 0.0

    def monotonic(self) -> float:
        return self.t

    def utc(self, monotonic: float) -> datetime:
        return datetime(2026, 1, 5, 8, 0, tzinfo=UTC) + timedelta(seconds=monotonic)


def facility(cells: int = 2) -> tuple[Facility, Any]:
    clock: Any = HandClock()
    return Facility(clock, 1, [f"cell{i + 1}" for i in range(cells)]), clock


def work(bench: Bench, suffix: str, clock: Any, *, from_port: int = 7) -> None:
    """Fill a vessel from a bag, with cells in it, and let it stand for an hour."""
    content = {"liquid": "cm2", "cells": 1e8}
    bench.hang(from_port, volume_ml=500.0, content=content, name="bag")
    bench.hang(1, "vessel", "gas-permeable-100cm2", name="vessel")
    with bench.plant.change() as t:
        bench.plant.fluidics.select(f"pump_media{suffix}", from_port, 1)
        bench.plant.fluidics.start(f"pump_media{suffix}", 1, 60.0, 100.0, t)
    clock.t += 3600.0
    bench.plant.time()


def test_the_first_cell_is_what_a_single_plant_is() -> None:
    clock: Any = HandClock()
    alone = Bench(Plant(clock, 1))
    work(alone, "", clock)
    both, clock = facility()
    work(both.benches["cell1"], "", clock)
    work(both.benches["cell2"], "_2", clock)
    clock.t = 3600.0
    first = both.benches["cell1"].truth()
    clock.t = 7200.0
    second = both.benches["cell2"].truth()
    assert alone.truth()["donor"] == first["donor"] != second["donor"]
    assert [run["moved_ml"] for run in alone.truth()["pumps"]["pump_media"]["log"]] == [
        run["moved_ml"] for run in first["pumps"]["pump_media"]["log"]
    ]
    assert set(both.plants["cell2"].pumps) == {"pump_media_2", "pump_cells_2", "pump_waste_2"}
    assert both.plants["cell1"].pumps["pump_media"].slip != both.plants["cell2"].pumps["pump_media_2"].slip
    for plant in both.plants.values():
        assert plant.volume_total() == pytest.approx(plant.aside.brought_ml)


def test_whoever_looks_first_sees_the_same() -> None:
    seen: list[Any] = []
    for order in (("cell1", "cell2"), ("cell2", "cell1")):
        both, clock = facility()
        for cell, suffix in (("cell1", ""), ("cell2", "_2")):
            bench = both.benches[cell]
            bench.hang(7, volume_ml=500.0, content={"liquid": "cs10"}, name="product")
            with bench.plant.change() as t:
                bench.plant.fluidics.select(f"pump_cells{suffix}", 7, 16)
                bench.plant.fluidics.start(f"pump_cells{suffix}", 1, 5.0, 100.0, t)
            bench.load_freezer(["product"], at=900.0)
        rows = [2, 0, *_f32(-1.0), *_f32(-30.0), 0, 3600]
        both.devices["freezer"].write(16, 100, rows)
        both.devices["freezer"].write(16, 0, [1, 1])
        clock.t = 4000.0
        seen.append([both.benches[cell].truth() for cell in order][:: 1 if order[0] == "cell1" else -1])
    assert seen[0] == seen[1]
    assert len(seen[0][0]["freezing"]) > 100


def _f32(value: float) -> list[int]:
    return list(struct.unpack(">HH", struct.pack(">f", value)))


def test_one_freezer_holds_the_bags_of_each_apart() -> None:
    both, _clock = facility()
    one, two = both.benches.values()
    assert both.plants["cell1"].devices["freezer"] is both.plants["cell2"].devices["freezer"]
    one.hang(7, volume_ml=100.0, name="product")
    two.hang(7, volume_ml=50.0, name="product")
    two.hang(8, volume_ml=60.0, name="more")
    one.load_freezer(["product"])
    two.load_freezer(["product", "more"])
    assert both.devices["freezer"].read(4, 15, 1) == [1]
    assert len(both.room.freezer.bags) == 3
    assert one.unload_freezer() == {"unloaded": ["product"]}
    assert [bag.owner for bag in both.room.freezer.bags] == ["cell2", "cell2"]
    assert two.unload_freezer() == {"unloaded": ["product", "more"]}
    for plant in both.plants.values():
        assert plant.volume_total() == pytest.approx(plant.aside.brought_ml)


def test_a_bench_call_names_its_cell() -> None:
    both, _clock = facility()
    both.call("hang", {"port": 7, "volume_ml": 10.0, "cell": "cell2", "name": "there"})
    both.call("hang", {"port": 8, "volume_ml": 20.0, "name": "here"})
    at_cell(both.call, "cell2")("hang", {"port": 9, "volume_ml": 30.0, "name": "there too"})
    assert [c and c.name for c in (both.plants["cell1"].place(p) for p in (7, 8, 9))] == [None, "here", None]
    assert [c and c.name for c in (both.plants["cell2"].place(p) for p in (7, 8, 9))] == ["there", None, "there too"]
    with pytest.raises(BenchError, match="no cell 'cell3'"):
        both.call("time", {"cell": "cell3"})
    with pytest.raises(BenchError, match="bench of cell1, not of cell2"):
        both.benches["cell1"].call("time", {"cell": "cell2"})
    with pytest.raises(ValueError, match="different names"):
        Facility(HandClock(), 1, ["a", "a"])  # type: ignore[arg-type]


def test_each_unit_has_its_own_person() -> None:
    both, _clock = facility()
    staff = Staff(lambda unit: Operator(1, at_cell(both.call, unit)).answer)
    for unit in ("cell1", "cell2"):
        container = {"name": "cm1", "port": 7, "kind": "bag", "class": "bag", "limit_ml": 1000.0, "volume_ml": 500.0}
        prompt = {"id": "p1", "batch": unit, "unit": unit, "path": "a/b", "kind": "mount", "containers": [container]}
        staff.answer(prompt | {"asked": None})
    assert all(plant.place(7) is not None for plant in both.plants.values())


def test_the_site_of_two_cells_is_what_the_simulators_build() -> None:
    both, _clock = facility()
    site = load_site(TWO)
    assert list(site.units) == ["cell1", "cell2"]
    assert layout_of(site, set(both.devices)) == layout(2)
    assert list(wire(both.devices, layout(2))) == list(layout(2))
    assert set(site.devices) == set(both.devices)


def test_faults_strike_the_cell_they_name() -> None:
    async def main(clock: VirtualClock) -> None:
        both = Facility(clock, 1, ["cell1", "cell2"])
        servers = Suite(wire(both.devices, layout(2)), clock)
        injector = Injector(both.plants.values(), servers, clock)
        injector.apply(Fault("pump_media_2", "occlusion", time_s=0.0))
        injector.apply(Fault("incubator_2", "power_cut", time_s=0.0, for_s=60.0))
        assert both.plants["cell1"].pumps["pump_media"].blocked is None
        assert both.plants["cell2"].pumps["pump_media_2"].blocked == 0.0
        assert [both.plants[cell].climate.powered for cell in ("cell1", "cell2")] == [True, False]
        assert servers.servers["climate_2"].faults[1].silent
        assert not servers.servers["climate"].faults[1].silent
        both.plants["cell2"].fluidics.select("pump_waste_2", 1, 16)
        both.plants["cell2"].fluidics.start("pump_waste_2", 1, 10.0, 50.0, 0.0)
        injector.apply(Fault("working:pump", "slip", time_s=0.0, for_s=60.0, args={"share": 50.0}))
        assert both.plants["cell2"].pumps["pump_waste_2"].slip == 0.5
        injector.apply(Fault("devices", "power_cut", time_s=0.0, for_s=10.0))
        assert both.room.freezer.powered is False
        await clock.sleep(61.0)
        assert both.room.freezer.powered is True
        assert both.plants["cell1"].pumps["pump_media"].boots == 2
        assert both.devices["freezer"].boots == 2, "one freezer, one power cut"
        assert len(injector.active) == 1

    run(main, watchdog_s=20.0)
