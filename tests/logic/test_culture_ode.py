"""The same equations, written again from the domain brief and integrated by another program, against `grow`.

Nothing of the model is used here but its constants: the right-hand sides, the factors of pH and room and the feeds are
written anew, in concentrations where the model has amounts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from simulators.physics.contents import AIR, Contents, draw, mixed, pour
from simulators.physics.culture import DAY, PH_FACTOR, TEMPERATURE_FACTOR, Surroundings, grow
from simulators.physics.donors import Donor
from simulators.physics.kinetics import DEFAULTS
from simulators.physics.vessels import GAS_PERMEABLE, ROCKING, Vessel

STEP = 600.0 / DAY
NAMES = ("viable", "dead", "feeders", "lysing", "glucose", "lactate", "glutamine", "ammonia", "oxygen", "il2")
CELLS = 4  # of the names, by mL; then mmol/L, and IU/mL
Vector = np.ndarray


@dataclass
class Course:
    """A culture in concentrations: cells/mL, mmol/L, IU/mL; `volume` in mL."""

    state: Vector
    volume: float
    area: float
    who: Donor
    vessel: Vessel = GAS_PERMEABLE
    temperature: float = 37.0
    t: float = 0.0

    def rhs(self, t: float, y: Vector) -> Vector:
        """Return the time derivatives (per day) at `t` days after the stimulation."""
        x, _, f, z, g, l, q, n, o, i = np.maximum(y, 0.0)  # noqa: E741 - as in the equations
        k, who = DEFAULTS, self.who
        room = self.vessel.ceiling if self.vessel.by_volume else self.vessel.ceiling * self.area / self.volume
        ph = 7.3 - l / 60.0
        warm = float(np.interp(self.temperature, *zip(*TEMPERATURE_FACTOR, strict=True)))
        full = who.mu_rep * (math.exp(-k.decay * (t - who.lag)) if t >= who.lag else 0.0)
        mu = full * g / (k.k_glucose + g) / (1.0 + (l / k.k_lactate) ** k.n_lactate) / (1.0 + n / k.k_ammonia)
        mu *= i / (k.k_il2 + i) * warm * float(np.interp(ph, *zip(*PH_FACTOR, strict=True)))
        mu *= max(0.0, 1.0 - x / room)
        if self.vessel.kla > 0.0:
            mu *= o / (k.k_oxygen + o)
        kd = k.death + k.starved * (1.0 - 1.0 / (1.0 + math.exp(-5.4 * (g - 0.28))))
        qg = k.use_glucose * (0.3 * warm + 0.7 * mu / who.mu_rep)
        use = (qg * x + k.feeder_glucose * warm * f) * 1e-6 * g / (0.05 + g)  # pmol/mL/d to mmol/L/d
        amino = use / k.glutamine_ratio if q > 1e-12 else 0.0
        breath = 24.0 * self.vessel.kla * (AIR - o) - k.use_oxygen * x * 1e-6 * warm if self.vessel.kla > 0.0 else 0.0
        return np.array([
            (mu - kd) * x,
            kd * x,
            -k.feeder_loss * f,
            k.feeder_loss * f - k.feeder_lysis * z,
            -use,
            k.lactate_yield * use,
            -amino,
            k.ammonia_yield * amino,
            breath,
            -k.il2_loss * i - k.il2_uptake * x * warm * i / (300.0 + i),
        ])  # fmt: skip

    def run(self, days: float) -> None:
        """Integrate for `days`, in pieces between the kinks: the end of the lag, the last glutamine."""
        end = self.t + days
        while self.t < end - 1e-12:
            until = self.who.lag if self.t < self.who.lag < end else end

            def spent(_t: float, y: Vector) -> float:
                return float(y[6]) - 1e-9

            spent.terminal, spent.direction = True, -1.0
            found = solve_ivp(
                self.rhs, (self.t, until), self.state, method="LSODA", rtol=1e-9, atol=1e-9, max_step=0.05, events=spent
            )
            assert found.success
            self.state, self.t = found.y[:, -1], float(found.t[-1])
            if self.state[6] <= 2e-9:
                self.state[6] = 0.0

    def draw(self, volume: float, carry: float) -> None:
        """Take `volume` away, with cells at `carry` of their mean concentration."""
        self.state[:CELLS] *= (self.volume - carry * volume) / (self.volume - volume)
        self.volume -= volume

    def feed(self, volume: float, glucose: float, glutamine: float, il2: float) -> None:
        """Add fresh medium, saturated with air."""
        fresh = np.array([0.0] * CELLS + [glucose, 0.0, glutamine, 0.0, AIR, il2])
        self.state = (self.state * self.volume + fresh * volume) / (self.volume + volume)
        self.volume += volume


def both(
    contents: Contents, who: Donor, around: Surroundings, event: Callable[[int, Contents, Course], None], days: int
) -> tuple[list[float], Contents, Course]:
    """Run both over `days`, with an event at each midnight; return how far the viable cells are apart, day by day."""
    contents.age = 0.0
    start = [getattr(contents, name) / contents.volume for name in NAMES]
    start[CELLS:9] = [amount * 1000.0 for amount in start[CELLS:9]]
    course = Course(np.array(start), contents.volume, around.area, who, around.vessel, around.temperature)
    apart: list[float] = []
    for day in range(days):
        event(day, contents, course)
        for _ in range(144):
            grow(contents, who, around, STEP)
        course.run(1.0)
        assert course.volume == pytest.approx(contents.volume)
        apart.append(contents.viable / (course.state[0] * course.volume) - 1.0)
    return apart, contents, course


def rep_feeds(day: int, contents: Contents, course: Course) -> None:
    """Change on day 5, a third of it on day 7, a feed on day 11."""
    if day == 5:
        draw(contents, 250.0, 0.0)
        course.draw(250.0, 0.0)
    if day == 7:
        rest = 2.0 / 3.0 * contents.volume
        draw(contents, rest, 1.0)
        course.draw(rest, 1.0)
    if day in (5, 7, 11):
        pour(mixed(150.0, "cm2", {}), contents)
        course.feed(150.0, 14.0, 2.0, 3000.0)


def agree(contents: Contents, course: Course, rel: float) -> None:
    """Compare all else to `rel`; concentrations near zero to 0.005 mmol/L."""
    for name, theirs in zip(NAMES, course.state, strict=True):
        if name != "oxygen" or course.vessel.kla > 0.0:
            floor = 5e-3 if name in ("glucose", "lactate", "glutamine", "ammonia") else 1e-4
            assert contents.concentration(name) == pytest.approx(theirs, rel=rel, abs=floor), name


# Viable cells are 1.4e-4, 1.8e-4 and 2.1e-4 apart at most; the last donor runs out of glucose.
@pytest.mark.parametrize("mu", [0.65, 0.80, 0.95])
def test_a_rep_of_14_days_with_feeds(mu):
    flask = mixed(400.0, "cm2", {"cells": 5e6, "feeders": 5e8})
    apart, contents, course = both(flask, Donor(mu_rep=mu), Surroundings(100.0), rep_feeds, 14)
    assert max(map(abs, apart)) < 5e-4
    agree(contents, course, 0.01)


def test_a_cool_flask():
    flask = mixed(400.0, "cm2", {"cells": 5e6, "feeders": 5e8})
    apart, contents, course = both(flask, Donor(), Surroundings(100.0, 34.0), rep_feeds, 14)
    assert max(map(abs, apart)) < 5e-4
    agree(contents, course, 0.01)


def test_a_rocked_bag_that_comes_to_its_oxygen_limit():
    def feed(day: int, contents: Contents, course: Course) -> None:
        if day:
            draw(contents, 500.0, 0.0)
            course.draw(500.0, 0.0)
            pour(mixed(500.0, "cm4", {}), contents)
            course.feed(500.0, 17.0, 2.0, 3000.0)

    bag = mixed(1000.0, "cm4", {"cells": 5e8})
    apart, contents, course = both(bag, Donor(lag=0.0), Surroundings(0.0, vessel=ROCKING, rpm=10.0), feed, 10)
    assert contents.viable / contents.volume > 8e6, "it has come to its limit"
    assert contents.concentration("oxygen") < 0.1 * AIR
    assert max(map(abs, apart)) < 5e-4
    agree(contents, course, 0.01)
