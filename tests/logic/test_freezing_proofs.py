"""The freezing bag against the formulas it comes from, written again and integrated by another program.

The formulas are the lumped, uncalibrated model of the domain brief; agreement says nothing about a real bag.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from simulators.physics.freezing import DENSITY, FILM, LIQUID_HEAT, Bag, Freezer, Row, bag

LIQUID, ICE, FUSION, WATER = 3.9, 1.95, 334.0, 0.84  # J/gK, J/gK, J/g of water, share


def heat(t: float, melting: float) -> float:
    """Return the enthalpy (J/g, 0 at 0 degC liquid) of a product at `t` degC in equilibrium with its ice."""
    if t >= melting:
        return LIQUID * t
    ice = WATER * (1.0 - melting / t)
    return (LIQUID * (1.0 - ice) + ICE * ice) * t - ice * FUSION


def temperature(enthalpy: float, melting: float) -> float:
    if enthalpy >= LIQUID * melting:
        return enthalpy / LIQUID
    return float(brentq(lambda t: heat(t, melting) - enthalpy, -300.0, melting, xtol=1e-12))


@given(degrees=st.floats(-150.0, -4.0), melting=st.floats(-3.7, -0.5))
def test_temperature_and_heat_belong_together(degrees, melting):
    frozen = Bag(100.0, 0.03, melting, -9.0, heat(degrees, melting), frozen=True)
    assert frozen.temperature == pytest.approx(degrees, rel=1e-9)


@given(nucleation=st.floats(-15.0, -4.0), chamber=st.floats(-100.0, -20.0), volume=st.floats(10.0, 150.0))
def test_heat_closes_over_cooling_nucleation_and_freezing(nucleation, chamber, volume):
    """What went through the wall is what the bag has less, by the formula and not by its own account."""
    product = bag(volume, 4.0, 0.1, nucleation)
    given_off = 0.0
    for _ in range(5400):
        given_off += FILM * product.area * (product.temperature - chamber)
        product.exchange(chamber, 1.0)
    assert product.frozen
    lost = product.mass * (LIQUID * 4.0 - heat(product.temperature, product.melting))
    assert given_off == pytest.approx(lost, rel=1e-9)


def test_nucleation_neither_takes_nor_gives_heat():
    product = bag(100.0, -8.9999, 0.1, -9.0)
    before = product.enthalpy
    product.exchange(-9.5, 1.0)
    flow = FILM * product.area * (-9.5 + 8.9999) / product.mass
    assert product.frozen
    assert product.temperature > -5.0
    assert product.enthalpy - before == pytest.approx(flow, rel=1e-9)


def times(product: Bag, chamber: float) -> dict[float, float]:
    """Return when (s) a bag has passed each temperature, in steps of a second."""
    seen: dict[float, float] = {}
    t, before = 0.0, product.temperature
    while product.temperature > -80.0:
        product.exchange(chamber, 1.0)
        t, now = t + 1.0, product.temperature
        for level in (-10.0, -40.0, -80.0):
            if product.frozen and now <= level < before:
                seen[level] = t - (level - now) / (before - now)
        before = now
    return seen


@pytest.mark.parametrize("volume", [50.0, 100.0])
@pytest.mark.parametrize("dmso", [0.05, 0.10])
def test_freezing_times_in_a_cold_chamber_agree_with_another_integration(volume, dmso):
    """Steps of a second against `solve_ivp` at 1e-10: within 1.5 s, of 4 to 21 minutes."""
    chamber, melting = -90.0, -0.5 - 32.0 * dmso
    product = bag(volume, 4.0, dmso, -9.0)
    rate = FILM * product.area / (volume * DENSITY)

    def frozen(_t: float, h: list[float]) -> list[float]:
        return [rate * (chamber - temperature(h[0], melting))]

    def liquid(_t: float, h: list[float]) -> list[float]:
        return [rate * (chamber - h[0] / LIQUID)]

    def until(level: float, start: float, h: float, law, of) -> tuple[float, float]:
        def there(_t: float, y: list[float]) -> float:
            return y[0] - of(level)

        there.terminal = True
        run = solve_ivp(law, (start, 1e5), [h], events=there, rtol=1e-10, atol=1e-10)
        return float(run.t[-1]), float(run.y[0, -1])

    t, h = until(-9.0, 0.0, LIQUID * 4.0, liquid, lambda x: LIQUID * x)
    wanted: dict[float, float] = {}
    for level in (-10.0, -40.0, -80.0):
        t, h = until(level, t, h, frozen, lambda x: heat(x, melting))
        wanted[level] = t
    found = times(product, chamber)
    for level, moment in wanted.items():
        assert found[level] == pytest.approx(moment, abs=1.5), level


def test_the_power_that_cools_a_bag_by_a_kelvin_a_minute():
    """105 g at 3.9 J/gK need 6.8 W: 9 K between chamber and sample through 300 cm2 at 25 W/m2K."""
    product = bag(100.0, 0.0, 0.1, -9.0)
    assert product.mass * LIQUID_HEAT / 60.0 == pytest.approx(6.8, abs=0.05)
    product.exchange(-9.1, 60.0)
    assert product.temperature == pytest.approx(-1.0, abs=0.01)


def test_a_vial_follows_the_chamber():
    """2 mL in a vial of 12.5 by 45 mm, all of whose 20 cm2 take part (its area is not in the computed run): 12 %."""
    vial = Bag(2.0 * DENSITY, 20e-4, -3.7, -9.0, LIQUID_HEAT * 4.0)
    freezer = Freezer()
    freezer.load([vial], 0.0)
    freezer.rows = [
        Row("hold", "chamber", 0.0, 4.0, "time", 600.0),
        Row("ramp", "sample", -1.0, -4.0, "target", 0.0),
        Row("ramp", "chamber", -25.0, -40.0, "target", 0.0),
        Row("ramp", "chamber", 10.0, -12.0, "target", 0.0),
        Row("ramp", "chamber", -1.0, -40.0, "target", 0.0),
        Row("ramp", "chamber", -10.0, -90.0, "target", 0.0),
        Row("hold", "chamber", 0.0, -90.0, "time", 660.0),
    ]
    assert freezer.start(1, 0.0)
    nucleated = 0.0
    passed: dict[float, float] = {}
    while freezer.running:
        freezer.advance(freezer.next_event())
        if vial.frozen:
            nucleated = nucleated or freezer.t
        for level in (-10.0, -40.0):
            if nucleated and freezer.t > nucleated + 60.0 and vial.temperature <= level:
                passed.setdefault(level, freezer.t)
    assert nucleated / 60.0 == pytest.approx(19.0, abs=0.5)
    assert (passed[-10.0] - nucleated) / 60.0 == pytest.approx(8.5, rel=0.12)
    assert 30.0 / ((passed[-40.0] - passed[-10.0]) / 60.0) == pytest.approx(1.3, rel=0.06)
    assert vial.temperature == pytest.approx(-90.0, abs=0.2)
