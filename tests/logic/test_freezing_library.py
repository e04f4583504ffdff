"""The freezing profiles of the library on the simulated freezer, judged by their own criteria."""

from __future__ import annotations

import pytest

from recipes import shelf
from recipes.catalog import load_freezing
from recipes.freezing import accept
from recipes.freezing_model import longest, program
from simulators.physics.freezing import Freezer, bag
from tilctl.cli.simulated import simulated_rows

PROFILES = ("F0", "F1", "F2", "F3")
NUCLEATES = (-6.0, -9.0, -14.0)  # degC; supercooling in practice
TOO_FAST = {"rate after nucleation"}  # of a bag that the chamber leads


def deviations(name: str, volume_ml: float, nucleates: float) -> set[str]:
    """Run a profile on one bag of 5 % DMSO, and return the criteria that it misses."""
    profile = load_freezing(name)
    freezer = Freezer()
    freezer.load([bag(volume_ml, 8.0, 0.05, nucleates)], 0.0)
    freezer.rows = simulated_rows(program(profile))
    assert freezer.start(1, 0.0)
    seen: list[tuple[float, float | None, float | None]] = []
    while freezer.running:
        freezer.advance(freezer.next_event())
        if not seen or freezer.t >= seen[-1][0] + 10.0:
            seen.append((freezer.t, freezer.chamber, freezer.sample))
    assert freezer.state == "complete"
    assert freezer.t < longest(profile)
    seen.append((freezer.t, freezer.chamber, freezer.sample))
    return {finding.criterion for finding in accept(profile, seen) if not finding.ok}


def test_all_of_them_are_here() -> None:
    assert {*PROFILES} <= {*shelf.paths(shelf.FREEZING)}


@pytest.mark.parametrize("nucleates", NUCLEATES)
@pytest.mark.parametrize("volume_ml", [50.0, 100.0, 125.0])
@pytest.mark.parametrize("name", PROFILES)
def test_each_freezes_as_it_accepts_itself(name: str, volume_ml: float, nucleates: float) -> None:
    led_too_fast = name == "F1" and volume_ml >= 100.0
    assert deviations(name, volume_ml, nucleates) == (TOO_FAST if led_too_fast else set())
