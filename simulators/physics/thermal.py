"""First-order lags in closed form, and the climate of an incubator."""

from __future__ import annotations

import math
from dataclasses import dataclass

from simulators.physics.contents import ROOM

ROOM_CO2 = 0.04  # %
ROOM_HUMIDITY = 40.0  # % (engineering default)
FACTORY = {"temperature": ROOM, "co2": 0.0}  # degC, %: targets of an incubator as it comes from its maker
HUMID = 92.0  # %, above a water pan; at least 85 % is practice


@dataclass(slots=True)
class FirstOrder:
    """A value that runs towards `goal` with the time constant `tau` (s), from `value` at `since` (s)."""

    value: float
    goal: float
    tau: float
    since: float = 0.0

    def at(self, t: float) -> float:
        """Return the value at `t`; nothing changes."""
        return self.goal + (self.value - self.goal) * math.exp(-max(0.0, t - self.since) / self.tau)

    def aim(self, t: float, goal: float) -> None:
        """Run towards another goal from `t` on."""
        self.value, self.since, self.goal = self.at(t), t, goal

    def jump(self, t: float, value: float) -> None:
        """Be at `value` at `t`, and run on towards the goal."""
        self.value, self.since = value, t


class Climate:
    """The chamber of an incubator: temperature (degC), CO2 (%), humidity (%), each with its own lag.

    Time constants 15 min, 4 min and 30 min, and what a door opening costs, are engineering defaults.
    """

    def __init__(self) -> None:
        self.temperature = FirstOrder(ROOM, ROOM, 900.0)
        self.co2 = FirstOrder(ROOM_CO2, 0.0, 240.0)
        self.humidity = FirstOrder(ROOM_HUMIDITY, HUMID, 1800.0)
        self.opened = -1e9  # s, when the door was opened last
        self.heater_fault = False
        self.runaway: float | None = None  # degC that the heater makes for by itself, whatever the target says
        self.heater_cut = False  # latched off, until a temperature is set again
        self.powered = True
        self.targets = dict(FACTORY)

    def set_temperature(self, t: float, target: float) -> None:
        """Heat or cool towards `target` degC from `t` on; a broken heater leaves the chamber to the room."""
        self.targets["temperature"] = target
        self.heater_cut = False
        self.steer(t)

    def cut_heater(self, t: float) -> None:
        """Switch the heater off from `t` on, a runaway one too: the chamber is left to the room."""
        self.heater_cut = True
        self.steer(t)

    def set_co2(self, t: float, target: float) -> None:
        """Gas towards `target` % from `t` on."""
        self.targets["co2"] = target
        self.steer(t)

    def steer(self, t: float) -> None:
        """Go for the targets from `t` on, as far as power and heater allow; else the room has its way."""
        heated = self.powered and not self.heater_fault and not self.heater_cut
        wanted = self.targets["temperature"] if self.runaway is None else self.runaway
        for lag, goal in (
            (self.temperature, wanted if heated else ROOM),
            (self.co2, self.targets["co2"] if self.powered else ROOM_CO2),
        ):
            if lag.goal != goal:
                lag.aim(t, goal)

    def door(self, t: float) -> None:
        """Open the door for a moment: 5 % of the way to room temperature, 40 % to room air, once a minute at most."""
        if t - self.opened < 60.0:
            return
        self.opened = t
        for lag, room, share in (
            (self.temperature, ROOM, 0.05),
            (self.co2, ROOM_CO2, 0.4),
            (self.humidity, ROOM_HUMIDITY, 0.3),
        ):
            now = lag.at(t)
            lag.jump(t, now + share * (room - now))


def vessel_tau(volume: float) -> float:
    """Return the time constant (s) of `volume` mL of liquid: about 33 min for 100 mL, 1 h for 1 L, 2 h for 5 L [P]."""
    return 1200.0 + 2400.0 * math.sqrt(volume / 1000.0) + 0.1 * volume


def relax(temperature: float, around: float, volume: float, seconds: float) -> float:
    """Return the temperature (degC) of `volume` mL after `seconds` in surroundings at `around` degC."""
    return around + (temperature - around) * math.exp(-seconds / vessel_tau(volume))
