"""Liquids between containers: exact counts, conservation, settling, overflow; independent of who looks when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.physics.contents import mixed
from simulators.physics.fluid import SETTLED_CARRY, Container, Fluidics, Pump


def rig(slip: float = 0.01) -> Fluidics:
    pumps = {name: Pump(name, slip) for name in ("a", "b")}
    fluidics = Fluidics(range(1, 5), pumps)
    fluidics.at[1] = Container("one", "bag", 30.0, 5000.0, 100.0, mixed(1000.0, "cm1", {"cells": 1e8}))
    fluidics.at[2] = Container("two", "vessel", 120.0, 1250.0, 100.0)
    fluidics.at[3] = Container("three", "bag", 30.0, 5000.0, 100.0)
    return fluidics


def run(fluidics: Fluidics, until: float) -> None:
    while fluidics.next_event() <= until:
        fluidics.advance(fluidics.next_event())
    fluidics.advance(until)


def volume(fluidics: Fluidics, port: int) -> float:
    container = fluidics.at[port]
    assert container is not None
    return container.contents.volume


@given(
    rates=st.tuples(st.floats(1.0, 200.0), st.floats(1.0, 200.0)),
    volumes=st.tuples(st.floats(0.1, 1500.0), st.floats(0.1, 1500.0)),
    looks=st.lists(st.floats(0.0, 3000.0), max_size=5),
)
def test_two_pumps_at_once_conserve_liquid_cells_and_counts(rates, volumes, looks):
    fluidics = rig()
    fluidics.select("a", 1, 2)
    fluidics.select("b", 2, 3)
    wanted = [round(v, 2) for v in volumes]
    for name, sequence, rate, each in zip(("a", "b"), (1, 2), rates, wanted, strict=True):
        assert fluidics.start(name, sequence, rate, each, 0.0)
    for t in sorted(looks):
        if fluidics.t <= t < fluidics.next_event():
            for port in (1, 2, 3):
                assert fluidics.mass(port, t) >= 30.0 - 1e-6
    run(fluidics, 100_000.0)
    held = [c.contents for c in fluidics.at.values() if c]
    assert fluidics.volume() == pytest.approx(1000.0)
    assert sum(c.viable for c in held) + fluidics.spilled.viable == pytest.approx(1e8)
    assert sum(c.mass for c in held) + fluidics.spilled.mass == pytest.approx(1005.0)
    assert min(c.volume for c in held) >= 0.0
    for name, each in zip(("a", "b"), wanted, strict=True):
        assert fluidics.pumps[name].log[0].counted_ml == pytest.approx(each)
        assert fluidics.pumps[name].log[0].moved_ml <= each * 0.99 + 1e-6


def test_mass_between_parcels_agrees_with_the_parcels():
    fluidics = rig()
    fluidics.select("a", 1, 2)
    fluidics.start("a", 1, 60.0, 300.0, 0.0)
    before = {t: (fluidics.mass(1, t), fluidics.mass(2, t)) for t in (5.0, 29.0)}
    assert before[5.0] == (pytest.approx(30 + 1005 - 5 * 0.99 * 1.005), pytest.approx(120 + 5 * 0.99 * 1.005))
    run(fluidics, 29.0)
    assert (fluidics.mass(1, 29.0), fluidics.mass(2, 29.0)) == pytest.approx(before[29.0])


def test_a_source_runs_dry_at_its_exact_moment():
    fluidics = rig()
    fluidics.select("a", 1, 3)
    fluidics.start("a", 1, 100.0, 1100.0, 0.0)
    dry = 1000.0 / (100.0 / 60.0 * 0.99)
    run(fluidics, dry + 1e-6)
    assert volume(fluidics, 1) == 0.0
    assert fluidics.pumps["a"].air
    assert fluidics.pumps["a"].run is not None
    run(fluidics, 700.0)
    assert fluidics.pumps["a"].log[0].counted_ml == 1100.0
    assert fluidics.pumps["a"].log[0].moved_ml == pytest.approx(1000.0)


def test_a_full_vessel_overflows_and_the_floor_is_accounted_for():
    fluidics = rig()
    container = fluidics.at[2]
    assert container is not None
    container.capacity = 300.0
    fluidics.select("a", 1, 2)
    fluidics.start("a", 1, 100.0, 500.0, 0.0)
    run(fluidics, 1000.0)
    assert volume(fluidics, 2) == pytest.approx(300.0)
    assert fluidics.spilled.volume == pytest.approx(195.0)


def test_nothing_hangs_at_the_delivery_then_it_is_on_the_floor():
    fluidics = rig()
    fluidics.select("a", 1, 4)
    fluidics.start("a", 1, 100.0, 100.0, 0.0)
    run(fluidics, 1000.0)
    assert fluidics.spilled.volume == pytest.approx(99.0)


def test_an_idle_rig_has_no_events_and_a_run_ends_by_its_own_count():
    fluidics = rig()
    assert fluidics.next_event() == float("inf")
    fluidics.select("a", 1, 3)
    fluidics.start("a", 1, 60.0, 10.0, 0.0)
    assert fluidics.next_event() == pytest.approx(10.0)
    run(fluidics, 10.0)
    assert fluidics.pumps["a"].run is None
    assert fluidics.pumps["a"].log[0].ended == pytest.approx(10.0)
    assert fluidics.next_event() == float("inf")


@pytest.mark.parametrize(
    ("rested", "low", "high"), [(0.0, 0.99, 1.0), (1800.0, 0.7, 0.85), (86400.0, SETTLED_CARRY, 0.0102)]
)
def test_cells_settle_in_vessels_and_not_in_bags(rested, low, high):
    vessel = Container("v", "vessel", 120.0, 1250.0, 100.0)
    assert low <= vessel.carry(rested) <= high
    assert Container("b", "bag", 30.0, 100.0, 100.0).carry(rested) == 1.0


def test_changing_a_clamp_in_a_run_redirects_what_follows():
    fluidics = rig(slip=0.0)
    fluidics.select("a", 1, 2)
    fluidics.start("a", 1, 60.0, 100.0, 0.0)
    run(fluidics, 40.0)
    fluidics.select("a", 1, 3)
    run(fluidics, 200.0)
    assert (volume(fluidics, 2), volume(fluidics, 3)) == (pytest.approx(40.0), pytest.approx(60.0))
