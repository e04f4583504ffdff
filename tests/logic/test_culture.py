"""Growth and metabolism: the computed regression series, balances, and what harms cells."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.physics.contents import AMOUNTS, Contents, draw, mixed, pour
from simulators.physics.culture import (
    DAY,
    Surroundings,
    acidity,
    grow,
    leaving,
    rates,
    stimulate,
)
from simulators.physics.donors import Donor
from simulators.physics.kinetics import DEFAULTS

STEP = 600.0 / DAY
# 5e6 cells and 5e8 feeders on 100 cm2 in 400 mL, changed on day 5, in three from day 7, fed on day 11; mu 0.80
SERIES = [
    5.0e6,
    4.85e6,
    6.86e6,
    1.39e7,
    2.74e7,
    5.25e7,
    9.82e7,
    1.76e8,
    3.16e8,
    5.45e8,
    8.91e8,
    1.36e9,
    1.98e9,
    2.66e9,
    3.24e9,
]
VIABILITY = {0: 0.01, 5: 0.31, 7: 0.71, 10: 0.93, 14: 0.94}  # without gating


def rep(mu: float, step: float = STEP) -> tuple[list[float], list[float], Contents]:
    """Return cells and ungated viability day by day, and one of the three flasks at the end."""
    flask = mixed(400.0, "cm2", {"cells": 5e6, "feeders": 5e8})
    stimulate(flask)
    flasks, cells, viability = 1, [flask.viable], [flask.total_viability or 0.0]
    for day in range(14):
        if day == 5:
            draw(flask, 250.0, 0.0)
        if day == 7:
            flask, flasks = draw(flask, flask.volume / 3.0, 1.0), 3
        if day in (5, 7, 11):
            pour(mixed(150.0, "cm2", {}), flask)
        for _ in range(round(1.0 / step)):
            grow(flask, Donor(mu_rep=mu), Surroundings(100.0), step)
        cells.append(flask.viable * flasks)
        viability.append(flask.total_viability or 0.0)
    return cells, viability, flask


def test_the_regression_series_within_five_percent():
    cells, _, flask = rep(0.80)
    for day, (got, wanted) in enumerate(zip(cells, SERIES, strict=True)):
        assert got == pytest.approx(wanted, rel=0.01 if day <= 8 else 0.055), f"day {day}"
    assert flask.concentration("lactate") == pytest.approx(16.6, rel=0.12)
    assert flask.concentration("glucose") < 5.5


def test_ungated_viability_is_dominated_by_feeders_for_a_week():
    _, viability, _ = rep(0.80)
    for day, wanted in VIABILITY.items():
        assert viability[day] == pytest.approx(wanted, abs=0.05)
    assert all(v < 0.70 for v in viability[:7])


@pytest.mark.parametrize(("mu", "wanted"), [(0.65, 1.47e9), (0.95, 3.88e9)])
def test_slow_and_fast_donors(mu, wanted):
    cells, _, flask = rep(mu)
    assert cells[-1] == pytest.approx(wanted, rel=0.12)
    if mu > 0.9:
        assert flask.concentration("glucose") < 1.0  # a fixed feed starves a fast donor


def test_the_grid_is_fine_enough():
    assert rep(0.80)[0][-1] == pytest.approx(rep(0.80, 60.0 / DAY)[0][-1], rel=1e-3)


@given(
    cells=st.floats(1e4, 5e10),
    feeders=st.floats(0.0, 1e10),
    volume=st.floats(50.0, 6000.0),
    glucose=st.floats(0.0, 20.0),
    temperature=st.floats(20.0, 42.0),
)
def test_glucose_and_lactate_close_and_nothing_is_negative(cells, feeders, volume, glucose, temperature):
    c = mixed(volume, "cm4", {"cells": cells, "feeders": feeders, "glucose": glucose})
    c.age = 3.0
    before = c.copy()
    for _ in range(50):
        grow(c, Donor(), Surroundings(500.0, temperature), STEP)
    used = before.glucose - c.glucose
    assert used >= 0.0
    assert c.lactate - before.lactate == pytest.approx(DEFAULTS.lactate_yield * used, abs=1e-9)
    assert (c.volume, c.mass) == (before.volume, before.mass)
    assert all(getattr(c, name) >= 0.0 for name in AMOUNTS)
    assert c.ammonia <= before.glutamine + 1e-12
    assert c.feeders <= before.feeders


def test_growth_stops_at_the_ceiling_of_the_floor():
    c = mixed(5000.0, "cm4", {"cells": 30e6 * 100.0})
    c.age = 3.0
    assert rates(c, Donor(), Surroundings(100.0)) == (0.0, pytest.approx(DEFAULTS.death, rel=0.01))
    assert rates(c, Donor(), Surroundings(500.0))[0] > 0.4


def test_cold_loses_time_heat_kills_acid_slows():
    def growth(temperature: float = 37.0, co2: float = 5.0, lactate: float = 0.0) -> tuple[float, float]:
        c = mixed(1000.0, "cm4", {"cells": 1e8, "lactate": lactate})
        c.age = 3.0
        return rates(c, Donor(), Surroundings(500.0, temperature, co2))

    normal = growth()
    assert growth(32.0)[0] == pytest.approx(0.45 * normal[0])
    assert growth(25.0) == (0.0, normal[1])
    assert growth(41.5)[1] > normal[1] + 0.4
    assert growth(co2=12.0)[0] < 0.95 * normal[0]
    assert acidity(0.0, 5.0) == pytest.approx(7.3)
    assert acidity(30.0, 5.0) == pytest.approx(6.8)


def test_stimulation_needs_okt3_and_feeders_and_starts_a_lag():
    alone = mixed(1000.0, "cm2", {"cells": 1e8})
    stimulate(alone)
    assert alone.age is None
    plain = mixed(1000.0, "cm4", {"cells": 1e8, "feeders": 5e9})
    stimulate(plain)
    assert plain.age is None
    both = mixed(1000.0, "cm2", {"cells": 1e8, "feeders": 5e9})
    stimulate(both)
    assert both.age == 0.0
    assert rates(both, Donor(), Surroundings(500.0))[0] == 0.0
    both.age = 1.6
    assert rates(both, Donor(), Surroundings(500.0))[0] > 0.6


def test_a_cd3_cd28_reagent_stimulates_without_feeders():
    flask = mixed(1000.0, "cm4", {"cells": 1e8})
    pour(mixed(5.0, "activator", {}), flask)
    stimulate(flask)
    assert flask.age is None  # too little of it
    pour(mixed(52.0, "activator", {}), flask)
    stimulate(flask)
    assert flask.age == 0.0
    draw(flask, 900.0, 0.01)
    pour(mixed(900.0, "cm4", {}), flask)
    assert flask.concentration("activator") == pytest.approx(57.0 / 1057.0 * 157.0 / 1057.0)
    assert flask.age == 0.0  # a wash-out takes the reagent and leaves the cells stimulated


def test_a_second_stimulation_begins_anew_with_a_shorter_lag_and_only_by_what_is_new():
    flask = mixed(500.0, "cm2", {"cells": 1e7, "feeders": 2.5e8})
    stimulate(flask, 1.5, 0.5)
    assert flask.age == 0.0
    for _ in range(7 * 144):
        grow(flask, Donor(), Surroundings(100.0), STEP)
        stimulate(flask, 1.5, 0.5)
    assert flask.age == pytest.approx(7.0), "what has stimulated and is still there does so no more"
    tired = rates(flask, Donor(), Surroundings(500.0))[0]
    pour(mixed(500.0, "cm4", {}), flask)
    stimulate(flask, 1.5, 0.5)
    assert flask.age == pytest.approx(7.0), "medium stimulates nobody"
    few, enough = flask.copy(), flask.copy()
    pour(mixed(10.0, "feeders", {"feeders": 0.5 * few.viable}), few)
    stimulate(few, 1.5, 0.5)
    assert few.age == pytest.approx(7.0), "fewer new feeders than cells"
    pour(mixed(100.0, "cm2", {"feeders": 2.0 * enough.viable}), enough)
    stimulate(enough, 1.5, 0.5)
    assert enough.age == 1.0, "half a day of lag is left"
    enough.age = 1.5
    assert rates(enough, Donor(), Surroundings(500.0))[0] > tired
    pour(mixed(100.0, "cm2", {"feeders": 9.0 * enough.viable}), enough)
    enough.age = 1.2
    stimulate(enough, 1.5, 0.5)
    assert enough.age == 1.2, "what comes in the lag belongs to what began it"


def test_a_reagent_stimulates_again_when_enough_of_it_is_added():
    flask = mixed(1000.0, "cm4", {"cells": 1e8, "activator": 0.05})
    stimulate(flask, 1.5, 0.5)
    flask.age = 7.0
    stimulate(flask, 1.5, 0.5)
    assert flask.age == 7.0
    half = draw(flask, 500.0, 1.0)
    stimulate(half, 1.5, 0.5)
    stimulate(flask, 1.5, 0.5)
    assert half.age == flask.age == 7.0, "a split is no addition"
    pour(mixed(20.0, "activator", {}), flask)
    stimulate(flask, 1.5, 0.5)
    assert flask.age == 1.0


def test_activation_wears_off_faster_without_feeders():
    reagent = mixed(1000.0, "cm4", {"cells": 1e8, "activator": 0.05})
    feeders = mixed(1000.0, "cm2", {"cells": 1e8, "feeders": 5e9})
    for flask in (reagent, feeders):
        stimulate(flask, 1.5, 0.5)
    assert (reagent.alone, feeders.alone) == (1.0, 0.0)
    growth: list[list[float]] = [[], []]
    for age in (1.5, 11.5):
        for flask, seen in zip((reagent, feeders), growth, strict=True):
            flask.age = age
            seen.append(rates(flask, Donor(), Surroundings(500.0))[0])
    lost = [early / late for early, late in growth]
    assert lost == pytest.approx([2.718 ** (10.0 * DEFAULTS.decay_alone), 2.718 ** (10.0 * DEFAULTS.decay)], rel=0.01)
    pour(feeders, reagent)
    assert reagent.alone == pytest.approx(0.5)


def test_all_emigrants_leave_within_their_window():
    total = sum(leaving(i * 0.01, 1e5) * 0.01 for i in range(1000))
    assert total == pytest.approx(1e5, rel=0.01)
    assert leaving(2.9, 1.0) == leaving(7.0, 1.0) == 0.0


@given(volume=st.floats(1.0, 5000.0), share=st.floats(0.0, 1.2), carry=st.floats(0.01, 1.0), cells=st.floats(0.0, 1e10))
def test_drawing_and_pouring_back_conserves_every_amount(volume, share, carry, cells):
    c = mixed(volume, "cm1", {"cells": cells, "feeders": 1e6})
    before = c.copy()
    parcel = draw(c, share * volume, carry)
    assert parcel.volume <= volume
    pour(parcel, c)
    for name in (*AMOUNTS, "volume", "temperature"):
        assert getattr(c, name) == pytest.approx(getattr(before, name), rel=1e-9, abs=1e-9)


def test_a_copy_has_every_property_and_is_another():
    c = Contents(*(float(i) for i, _ in enumerate(fields(Contents), start=1)))
    twin = c.copy()
    assert twin == c
    assert twin is not c


def test_mixing_by_volume():
    warm = mixed(100.0, "empty", {"temperature": 37.0, "glucose": 10.0})
    pour(mixed(300.0, "empty", {"temperature": 21.0, "glucose": 2.0, "density": 1.06}), warm)
    assert warm.temperature == pytest.approx(25.0)
    assert warm.concentration("glucose") == pytest.approx(4.0)
    assert warm.mass == pytest.approx(100.5 + 318.0)


def test_unknown_liquids_are_refused():
    with pytest.raises(ValueError, match="tea"):
        mixed(1.0, "tea", {})
    with pytest.raises(ValueError, match="sugar"):
        mixed(1.0, "cm1", {"sugar": 1.0})
