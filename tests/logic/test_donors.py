"""Donors as they are drawn, those that do not expand, and the ranges of what the model assumes."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest

from simulators.physics.contents import mixed
from simulators.physics.culture import DAY, Surroundings, grow, rates, stimulate
from simulators.physics.donors import FEEBLE, Donor, donor, population_donor
from simulators.physics.kinetics import DEFAULTS, Kinetics
from simulators.physics.parameters import Setting
from simulators.physics.vessels import ROCKING

SEEDS = range(2000)


def rep_fold(who: Donor, kinetics: Kinetics = DEFAULTS, days: int = 14) -> float:
    """Return the fold of a REP of 14 days in which neither room nor medium is short: the most that a donor can do."""
    flask = mixed(5000.0, "cm2", {"cells": 5e6, "feeders": 5e8})
    stimulate(flask)
    for _ in range(days * 72):
        grow(flask, who, Surroundings(500.0), 1200.0 / DAY, kinetics)
    return flask.viable / 5e6


def test_donors_spread_as_published_and_repeat():
    drawn = [donor(seed) for seed in range(400)]
    mean = sum(d.mu_rep for d in drawn) / len(drawn)
    assert mean == pytest.approx(0.80, abs=0.01)
    assert math.sqrt(sum((d.mu_rep - mean) ** 2 for d in drawn) / len(drawn)) == pytest.approx(0.08, abs=0.012)
    assert all(1e4 <= d.emigration <= 1e6 and 0.65 <= d.mu_rep <= 1.0 for d in drawn)
    assert all(d.expands for d in drawn)
    assert donor(7) == donor(7)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
def test_the_share_that_does_not_expand_is_the_stated_one(share):
    drawn = [population_donor(seed, share) for seed in SEEDS]
    failed = [d for d in drawn if not d.expands]
    sigma = math.sqrt(share * (1.0 - share) / len(drawn))
    assert len(failed) / len(drawn) == pytest.approx(share, abs=3.0 * sigma)
    assert all(FEEBLE[0] <= d.mu_rep <= FEEBLE[1] and d.mu_pre < 0.07 for d in failed)
    assert drawn == [population_donor(seed, share) for seed in SEEDS], "a seed repeats"


def test_who_expands_is_the_donor_of_rehearsals_and_a_larger_share_takes_nobody_back():
    for seed in range(300):
        few, many = population_donor(seed, 0.1), population_donor(seed, 0.3)
        assert few in (donor(seed), many)
        assert not many.expands or many == donor(seed)
        assert replace(many, mu_rep=0.8, mu_pre=0.35) == replace(donor(seed), mu_rep=0.8, mu_pre=0.35)
    assert all(population_donor(seed, 0.0) == donor(seed) for seed in range(300))
    assert not any(population_donor(seed, 1.0).expands for seed in range(300))


def test_the_default_share_is_one_in_five():
    assert all(population_donor(seed) == population_donor(seed, 0.2) for seed in range(300))


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=r"within 0\.\.1"):
        population_donor(1, share)


def test_a_non_expander_stays_below_four_fold_whatever_it_is_given():
    strongest = replace(Donor(), mu_rep=FEEBLE[1], lag=1.0)
    assert 1.0 < rep_fold(strongest, replace(DEFAULTS, decay=0.02, death=0.02)) < 4.0
    assert rep_fold(replace(Donor(), mu_rep=FEEBLE[0])) < 1.0
    assert rep_fold(replace(Donor(), mu_rep=0.65)) > 200.0, "the slowest that expands is far away"


def test_every_number_has_its_unit_range_and_standing():
    listed = Setting().parameters
    assert {each.name for each in listed} >= {f"kinetics.{f.name}" for f in fields(Kinetics)}
    assert {"donor.mu_rep", "donor.mu_pre", "donor.lag", "donor.emigration"} <= {each.name for each in listed}
    for each in listed:
        assert each.low <= each.default <= each.high, each.name
        assert each.low < each.high, each.name
        assert each.unit, each.name
        assert any(tag in each.standing for tag in ("[P]", "[GKU]", "[D]", "[L]")), each.name


def test_each_number_can_be_another_one_within_its_range_and_does_something():
    for each in Setting().parameters:
        for value in (each.low, each.high):
            setting = Setting().given(each.name, value)
            (changed,) = [p for p in setting.parameters if p.name == each.name]
            assert changed.default == value
            assert [p for p in setting.parameters if p.name != each.name] == [
                p for p in Setting().parameters if p.name != each.name
            ]


def test_what_is_outside_its_range_or_unknown_is_refused():
    with pytest.raises(ValueError, match=r"its stated range is 0\.65 to 1"):
        Setting().given("donor.mu_rep", 1.2)
    with pytest.raises(ValueError, match="is no parameter"):
        Setting().given("kinetics.vigour", 1.0)
    with pytest.raises(ValueError, match="is no parameter"):
        Setting().given("donor.nucleation", -9.0)


@pytest.mark.parametrize(
    "name", sorted(f.name for f in fields(Kinetics) if f.name not in ("emigrant_viability", "lag_again"))
)
def test_each_number_reaches_the_model(name):
    def course(kinetics: Kinetics) -> list[float]:
        c = mixed(100.0, "cm1", {"cells": 1e8, "feeders": 1e8, "lysing": 1e8, "glucose": 4.0, "lactate": 5.0})
        c.ammonia, c.age, c.alone = 0.1, 3.0, 0.5
        for _ in range(3 * 72):
            grow(c, Donor(), Surroundings(0.0, vessel=ROCKING, rpm=10.0), 1200.0 / DAY, kinetics)
        return [c.viable, c.dead, c.lysing, c.feeders, c.glucose, c.lactate, c.ammonia, c.il2]

    (each,) = [p for p in Setting().parameters if p.name == f"kinetics.{name}"]
    assert course(Setting().given(each.name, each.high).kinetics) != course(DEFAULTS) or each.high == each.default
    assert course(Setting().given(each.name, each.low).kinetics) != course(DEFAULTS) or each.low == each.default


def test_emigrants_are_as_viable_as_stated():
    c = mixed(100.0, "cm1", {})
    grow(c, Donor(), Surroundings(100.0, emigrants=1e6), 0.01, replace(DEFAULTS, emigrant_viability=0.7))
    assert c.viable / (c.viable + c.dead) == pytest.approx(0.7, abs=0.001)


def test_rates_take_the_kinetics_too():
    c = mixed(1000.0, "cm4", {"cells": 1e6})
    c.age = 3.0
    assert rates(c, Donor(), Surroundings(500.0), replace(DEFAULTS, death=0.05))[1] == pytest.approx(
        rates(c, Donor(), Surroundings(500.0))[1] + 0.02
    )
