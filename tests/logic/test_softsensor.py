"""The benchmark of the soft sensors on a few donors: who does not expand is told of in time, nobody else is."""

from __future__ import annotations

from itertools import count, islice

import pytest

from simulators.physics.donors import population_donor
from tests.benchmarks.softsensor import AHEAD, ARMS, DAY, FIRST, Arm, Lot, figures, lot

BY_RULE = next(arm for arm in ARMS if arm.parameters == {"feeding": "rule"} and not arm.kinetics and not arm.probe)
BY_COUNT = Arm("by calendar", "nci-rep-grex")


def donors(*, expand: bool, number: int) -> list[int]:
    return list(islice((s for s in count(FIRST) if population_donor(s).expands == expand), number))


@pytest.fixture(scope="module")
def lots() -> list[Lot]:
    slow, fast = donors(expand=False, number=1), donors(expand=True, number=2)
    return [lot(BY_COUNT, slow[0]), *(lot(BY_RULE, seed) for seed in fast)]


def test_a_donor_that_does_not_expand_is_told_of_days_ahead_and_no_other_is(lots: list[Lot]) -> None:
    slow, *fast = lots
    assert slow.final is not None
    assert slow.final < slow.floor
    assert slow.warned
    assert AHEAD == 2.5 * DAY
    assert not any(each.warned for each in fast)


def test_the_truth_lies_within_the_interval_nearly_always_and_the_interval_says_something(lots: list[Lot]) -> None:
    found = figures(lots)
    assert found.coverage > 0.8, "of 95 %, by three donors"
    assert found.error < 0.4
    widths = [cells.high / cells.low for each in lots for cells, _ in each.seen]
    assert max(widths) < 12, "a factor of three and a half to either side"
