"""A rocked tray: how fast it moves, the oxygen in the gas over it, and what that lets into the liquid.

Everything is a function of time between two commands, so a reading never changes anything: a pause ends by itself, in
the device, whether anybody asks or not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from simulators.physics.contents import AIR, Contents
from simulators.physics.culture import DAY, oxygen_use
from simulators.physics.kinetics import DEFAULTS, Kinetics
from simulators.physics.thermal import FirstOrder
from simulators.physics.vessels import Vessel

RAMP = 1.0  # rpm/s, how fast it speeds up and slows down [P]
NORMAL = 21.0  # % oxygen in the gas without enrichment
GAS_TAU = 240.0  # s, in which the gas over the liquid is exchanged: as that of the CO2 of a chamber [P]
RIPPLE = 0.015  # of the load, amplitude of a rocked load cell: 1 to 2 % [GKU]
RIPPLE_LEFT = 0.2  # share of the ripple that the averaging of the transmitter leaves [P]
PIECE = 60.0  # s, pieces in which oxygen is followed; within one rpm and gas are those of its middle
FACTORY = {"rocking": 0.0, "gas_oxygen": NORMAL}  # rpm, %: targets of one as it comes from its maker


@dataclass(slots=True)
class _Speed:
    """A speed that runs to `goal` (rpm) by `RAMP`, from `value` at `since` (s)."""

    value: float = 0.0
    goal: float = 0.0
    since: float = 0.0

    def at(self, t: float) -> float:
        step = RAMP * max(0.0, t - self.since)
        return self.value + math.copysign(min(step, abs(self.goal - self.value)), self.goal - self.value)


class Rocker:
    """The motor, its pause, and the gas; times in s, speeds in rpm, gas in % oxygen."""

    def __init__(self) -> None:
        self.targets = dict(FACTORY)
        self.gas = FirstOrder(NORMAL, NORMAL, GAS_TAU)
        self.powered = True
        self.motor_fault = False  # it stands, whatever its target says
        self.resumes = -math.inf  # s, when a pause ends by itself
        self._speed = _Speed()

    def rpm(self, t: float) -> float:
        """Return how fast it moves at `t`."""
        if self._speed.since < self.resumes < t:  # it has gone on by itself
            return _Speed(self._speed.at(self.resumes), self._wanted(), self.resumes).at(t)
        return self._speed.at(t)

    def pause_left(self, t: float) -> float:
        """Return for how long it still stands by a pause (s)."""
        return max(0.0, self.resumes - t)

    def set_rocking(self, t: float, rpm: float) -> None:
        """Give it another target; a pause under way goes on."""
        self.targets["rocking"] = rpm
        self.steer(t)

    def set_gas(self, t: float, oxygen: float) -> None:
        """Give the gas another share of oxygen."""
        self.targets["gas_oxygen"] = oxygen
        self.steer(t)

    def pause(self, t: float, seconds: float) -> None:
        """Stand still for `seconds` from `t` on, whatever was said of that before; 0 goes on at once."""
        now = self.rpm(t)
        self.resumes = t + seconds if seconds > 0.0 else -math.inf
        self._speed = _Speed(now, 0.0 if seconds > 0.0 else self._wanted(), t)

    def steer(self, t: float) -> None:
        """Go for the targets from `t` on, as far as power and motor allow."""
        now = self.rpm(t)
        self._speed = _Speed(now, 0.0 if t < self.resumes else self._wanted(), t)
        self.gas.aim(t, self.targets["gas_oxygen"] if self.powered else NORMAL)

    def _wanted(self) -> float:
        return self.targets["rocking"] if self.powered and not self.motor_fault else 0.0

    def power(self, t: float, *, on: bool) -> None:
        """Lose power at `t` or come back: targets are kept, a pause is not."""
        self.powered, self.resumes = on, -math.inf
        self.steer(t)

    def renew(self, t: float) -> None:
        """Be another one, as new."""
        self.targets.update(FACTORY)
        self.motor_fault, self.resumes = False, -math.inf
        self.steer(t)

    def ripple(self, t: float) -> float:
        """Return what is left of the rocking in a mass, as a share of the load (1 sigma)."""
        return RIPPLE * RIPPLE_LEFT if self.rpm(t) > 0.0 else 0.0

    def oxygen(
        self, c: Contents, vessel: Vessel, since: float, t: float, kinetics: Kinetics = DEFAULTS
    ) -> tuple[float, float]:
        """Return the oxygen (mmol) dissolved at `t` in what held `c.oxygen` at `since`, and its change (mmol/s).

        In pieces: in each dO/dt = kLa (O* - O) - qO X/V, in closed form, with kLa and O* of the middle of it.
        """
        litres = c.volume * 1e-3
        if litres <= 0.0:
            return 0.0, 0.0
        use = oxygen_use(c.viable, c.temperature, kinetics) / litres / DAY  # mmol/L/s
        level, rate, pieces = c.oxygen / litres, 0.0, max(1, math.ceil((t - since) / PIECE))
        span = (t - since) / pieces
        for number in range(pieces):
            middle = since + (number + 0.5) * span
            kla = vessel.transfer(self.rpm(middle)) / 3600.0
            goal = AIR * self.gas.at(middle) / NORMAL - use / kla
            level = max(0.0, goal + (level - goal) * math.exp(-kla * span))
            rate = kla * (goal - level)
        return level * litres, (rate if level > 0.0 else max(0.0, rate)) * litres
