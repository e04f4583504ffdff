"""Counter, capacitance, glucose and lactate: the stated scatter and drift, the same whoever asks when."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.bench import Bench
from simulators.physics.contents import Contents, mixed
from simulators.physics.measurement import DAY, WEEK, Meter, capacitance, count, judge, live_density, offline, online
from simulators.physics.noise import stream
from simulators.plant import Plant

MANY = 4000


@pytest.mark.parametrize(("per_ml", "cv"), [(0.19e6, 0.15), (0.2e6, 0.10), (5e6, 0.10)])
def test_the_counter_scatters_as_stated_and_more_when_thin(per_ml, cv):
    drawn = [count(1e8, per_ml, stream(1, "counter"), k) / 1e8 for k in range(MANY)]
    assert statistics.mean(drawn) == pytest.approx(1.0, abs=0.01)
    assert statistics.stdev(drawn) == pytest.approx(cv, rel=0.05)
    assert min(drawn) >= 0.5


def test_a_viability_stays_one():
    drawn = [judge(99.5, stream(1, "counter"), k) for k in range(MANY)]
    assert max(drawn) == 100.0
    assert statistics.mean(drawn) == pytest.approx(99.5, abs=0.2)


@pytest.mark.parametrize("meter", [capacitance(1, "probe"), online(1, "glucose"), offline(1, "glucose")])
def test_meters_scatter_by_five_per_cent(meter):
    drawn = [meter.shows(10.0, 0.0 + k) / 10.0 for k in range(MANY)]
    assert statistics.mean(drawn) == pytest.approx(1.0, abs=0.005)
    assert statistics.stdev(drawn) == pytest.approx(0.05, rel=0.05)


def drifted(meter: Meter, t: float) -> float:
    """Return the share by which a meter has moved at `t`, its noise averaged away."""
    return statistics.mean(meter.shows(1.0, t + k) for k in range(MANY)) - 1.0


def test_meters_drift_either_way_from_their_calibration():
    ways = [drifted(capacitance(seed, "probe"), WEEK) for seed in range(12)]
    assert all(abs(way) == pytest.approx(0.03, abs=0.005) for way in ways)
    assert min(ways) < 0.0 < max(ways)
    assert abs(drifted(online(1, "lactate"), 5.0 * DAY)) == pytest.approx(0.10, abs=0.005)
    assert drifted(capacitance(1, "probe", since=WEEK), WEEK) == pytest.approx(0.0, abs=0.005)
    assert drifted(offline(1, "glucose"), 50.0 * DAY) == pytest.approx(0.0, abs=0.005)
    assert online(1, "glucose").shows(1.0, 400.0 * DAY) >= 0.0


@given(moments=st.lists(st.integers(0, 10**7), min_size=2, max_size=8), seed=st.integers(0, 1000))
def test_who_asks_in_which_order_makes_no_difference(moments, seed):
    forth = {t: capacitance(seed, "a").shows(1e6, float(t)) for t in moments}
    back = {t: capacitance(seed, "a").shows(1e6, float(t)) for t in reversed(moments)}
    assert forth == back
    assert capacitance(seed, "a").shows(1e6, 7.0) != capacitance(seed, "b").shows(1e6, 7.0)


def test_capacitance_sees_live_feeders_and_nothing_dead():
    c = mixed(100.0, "cm2", {"cells": 1e7, "feeders": 1e9, "dead": 5e8, "lysing": 5e8})
    assert live_density(c) == pytest.approx(1.01e7)
    assert live_density(Contents()) == 0.0


class _Clock:
    t = 0.0

    def monotonic(self) -> float:
        return self.t


def test_a_sample_reports_what_the_laboratory_measured_beside_the_truth():
    bench = Bench(Plant(_Clock(), 1))
    bench.hang(7, volume_ml=100.0, content={"liquid": "cm1", "lactate": 5.0, "cells": 1e8}, name="pool")
    bench.hang(8, volume_ml=100.0, content={"liquid": "cm1", "lactate": 5.0, "cells": 1e8}, name="other")
    seen = bench.sample(7)
    assert (seen["true_glucose"], seen["true_lactate"]) == (pytest.approx(11.0), pytest.approx(5.0))
    assert seen["glucose"] == pytest.approx(11.0, rel=0.2)
    assert seen["lactate"] == pytest.approx(5.0, rel=0.2)
    assert seen["glucose"] != seen["true_glucose"]
    after = Bench(Plant(_Clock(), 1))
    after.hang(8, volume_ml=100.0, content={"liquid": "cm1", "lactate": 5.0, "cells": 1e8}, name="other")
    after.hang(7, volume_ml=100.0, content={"liquid": "cm1", "lactate": 5.0, "cells": 1e8}, name="pool")
    after.sample(8)
    again = after.sample(7)
    assert (again["glucose"], again["lactate"]) == (seen["glucose"], seen["lactate"]), "whatever was sampled before"
