"""Lags in closed form, the climate of the incubator, and noise without a memory."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.physics.noise import gauss, stream, uniform
from simulators.physics.thermal import Climate, FirstOrder, relax, vessel_tau


@given(st.floats(0.0, 5000.0), st.floats(0.0, 5000.0), st.floats(-50.0, 50.0))
def test_a_lag_is_the_same_in_one_step_or_two(first, second, goal):
    lag = FirstOrder(20.0, goal, 900.0)
    whole = lag.at(first + second)
    lag.aim(first, goal)
    assert lag.at(first + second) == pytest.approx(whole, abs=1e-9)


def test_reading_does_not_change_it_and_a_new_goal_does():
    lag = FirstOrder(20.0, 37.0, 900.0)
    assert [lag.at(900.0) for _ in range(3)] == [pytest.approx(37.0 - 17.0 / math.e)] * 3
    lag.aim(900.0, 20.0)
    assert lag.at(900.0) == pytest.approx(37.0 - 17.0 / math.e)
    assert lag.at(1e6) == pytest.approx(20.0)


def test_the_incubator_is_warm_within_an_hour_and_falls_to_the_room_without_heat():
    climate = Climate()
    climate.set_temperature(0.0, 37.0)
    climate.set_co2(0.0, 5.0)
    assert climate.temperature.at(3600.0) > 36.5
    assert climate.co2.at(3600.0) == pytest.approx(5.0, abs=0.01)
    climate.heater_fault = True
    climate.set_temperature(3600.0, 37.0)
    assert climate.temperature.at(6 * 3600.0) < 25.0


def test_a_door_costs_warmth_and_gas_once_a_minute():
    climate = Climate()
    climate.set_temperature(0.0, 37.0)
    climate.set_co2(0.0, 5.0)
    climate.door(80_000.0)
    once = climate.temperature.at(80_000.0)
    assert once == pytest.approx(36.2, abs=0.01)
    assert climate.co2.at(80_000.0) == pytest.approx(3.0, abs=0.05)
    climate.door(80_001.0)
    assert climate.temperature.at(80_001.0) >= once
    assert climate.temperature.at(80_000.0 + 600.0) > 36.5  # within the ten minutes that an alarm waits


def test_large_vessels_follow_slowly():
    assert vessel_tau(100.0) < vessel_tau(1000.0) < vessel_tau(5000.0)
    assert relax(21.0, 37.0, 5000.0, 4 * 3600.0) == pytest.approx(34.7, abs=1.0)
    assert relax(37.0, 37.0, 5000.0, 600.0) == 37.0


def test_noise_has_no_memory_and_the_right_width():
    key = stream(3, "scales.1")
    values = [gauss(key, k, 0.3) for k in range(5000)]
    assert values[1234] == gauss(key, 1234, 0.3)
    mean = sum(values) / len(values)
    assert abs(mean) < 0.02
    assert math.sqrt(sum(v * v for v in values) / len(values)) == pytest.approx(0.3, rel=0.05)
    assert stream(3, "scales.1") != stream(3, "scales.2") != stream(4, "scales.2")
    flat = [uniform(key, k) for k in range(5000)]
    assert 0.0 <= min(flat) < 0.01
    assert 0.99 < max(flat) < 1.0
