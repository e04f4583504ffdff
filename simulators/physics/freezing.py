"""A controlled-rate freezer: programmer, chamber, and bags with latent heat and nucleation.

Lumped and uncalibrated, without the mass of a cassette.  Tags: [GKU] general knowledge, unverified, [D] derived by
arithmetic, [P] engineering default of this project.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from simulators.physics.contents import ROOM

LIQUID_HEAT = 3.9  # J/gK [GKU]
FROZEN_HEAT = 1.95  # J/gK [GKU]
LATENT = 334.0  # J/g of water [GKU]
WATER = 0.84  # share of water, 0.84..0.90 [GKU]
FILM = 25.0  # W/m2K, gas side, 15..40 [GKU]
CHAMBER_LAG = 20.0  # s, 20..60 [P]
WARMING_LAG = 5400.0  # s, of an insulated chamber without power, towards the room [P]
IDLE_CHAMBER = 4.0  # degC
DENSITY = 1.05  # g/mL of a product with 5 % DMSO [GKU]
STEP = 1.0  # s, grid of a run
EXOTHERM_RISE, EXOTHERM_WINDOW = 0.5, 60  # K within s: the programmer's own detection
NEAR = 0.5  # K: how close to a set point a probe must come that only approaches it
TRACKING = 3.0  # K: a chamber ramp is done when its set point is, and the chamber this near
FOLLOW_GAIN, FOLLOW_TIME = 6.0, 240.0  # K/K and s: how a ramp of the sample steers the chamber
FOLLOW_REACH = 11.0  # K: how far from the sample's course it may steer it; 100 mL at -1 K/min needs 9 [D]
SLEW = 50.0  # K/min, fastest change of the set point
FULL = 92.0  # % of the LN2 supply after filling up
KEPT = 10_000  # rows of the trace, one each 10 s
LN2_PER_S = 0.15 / 60.0  # % of the supply a second of a run (15 L of 120 L in 100 min) [GKU]


def freezing_point(dmso: float) -> float:
    """Return the freezing point (degC) for a DMSO share of 0..0.1 by volume: -2.1 at 5 %, -3.7 at 10 % [D]."""
    return -0.5 - 32.0 * dmso


@dataclass(slots=True)
class Bag:
    """A flat bag in the chamber: mass (g), outer area (m2), freezing point and nucleation temperature (degC)."""

    mass: float
    area: float
    melting: float
    nucleation: float
    enthalpy: float  # J/g, 0 at 0 degC liquid
    frozen: bool = False
    owner: str = ""  # whose bag it is, where several cells share the freezer

    @property
    def temperature(self) -> float:
        """Return the temperature (degC) that belongs to the enthalpy."""
        if not self.frozen:
            return self.enthalpy / LIQUID_HEAT
        return _frozen_temperature(self.enthalpy, self.melting)

    def exchange(self, chamber: float, seconds: float) -> None:
        """Give or take heat for `seconds`; nucleate when the supercooled liquid has reached its temperature."""
        self.enthalpy += FILM * self.area * (chamber - self.temperature) * seconds / self.mass
        if not self.frozen and self.enthalpy <= LIQUID_HEAT * min(self.nucleation, self.melting):
            self.frozen = True
        elif self.frozen and self.enthalpy >= LIQUID_HEAT * self.melting:
            self.frozen = False


def bag(volume: float, temperature: float, dmso: float, nucleation: float, owner: str = "") -> Bag:
    """Return a bag of `volume` mL at `temperature` degC; area 300 cm2 for 100 mL and 240 for 50 [P], never under 20."""
    area = max(20.0, 300.0 * (max(volume, 1.0) / 100.0) ** 0.32) * 1e-4
    heat = LIQUID_HEAT * temperature
    return Bag(max(volume, 1.0) * DENSITY, area, freezing_point(dmso), nucleation, heat, owner=owner)


def _frozen_temperature(enthalpy: float, melting: float) -> float:
    """Solve H(T) = (cl (1-f') + ci f') T - f' L with f' = W (1 - Tm/T), a quadratic in T, for T below Tm."""
    # with f' = W - W Tm/T:  H = T (cl - W (cl-ci)) + W Tm (cl-ci) - W L + W Tm L / T
    drop = WATER * (LIQUID_HEAT - FROZEN_HEAT)
    a = LIQUID_HEAT - drop
    b = melting * drop - WATER * LATENT - enthalpy
    c = WATER * melting * LATENT
    return min(melting, (-b - math.sqrt(max(0.0, b * b - 4.0 * a * c))) / (2.0 * a))


@dataclass(frozen=True, slots=True)
class Row:
    """A step of a programme.

    A *ramp* moves the listened probe at `rate` (K/min) to `target` (degC): the chamber by its set point, the sample by
    steering the chamber, at most `FOLLOW_REACH` beside the sample's course.  A *hold* that listens to the chamber sets
    it to `target`; one that listens to the sample leaves the set point alone.  It ends by `target`, by `time`, or by
    `exotherm_or_time`; `timeout` (s) ends it in any case when it is not 0.
    """

    kind: str
    listen: str
    rate: float
    target: float
    end: str
    timeout: float


@dataclass(slots=True)
class _Leg:
    """The row under way: since when (s), from which temperature of its probe, and the integral of the steering (K)."""

    started: float
    start: float
    steering: float = 0.0


class Freezer:
    """The instrument: loaded with a table and bags, started once, it runs by itself, in steps of 1 s from its start."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.bags: list[Bag] = []
        self.state = "idle"
        self.sequence = 0
        self.segment = 0  # counted from 1 while running
        self.t = 0.0
        self.started = 0.0
        self.elapsed_end = 0.0
        self.chamber = IDLE_CHAMBER
        self.setpoint = IDLE_CHAMBER
        self.nucleated = False
        self.powered = True
        self.lag = CHAMBER_LAG
        self.ln2 = FULL  # % of the supply
        self.trace: deque[tuple[float, float, float | None, float]] = deque(
            maxlen=KEPT
        )  # s, chamber, sample, set point; every 10 s
        self._leg = _Leg(0.0, 0.0)
        self._recent: list[float] = []

    @property
    def running(self) -> bool:
        """Tell whether a programme runs."""
        return self.state == "running"

    @property
    def sample(self) -> float | None:
        """Return the temperature (degC) at the sample probe, in the first bag; None without one."""
        return self.bags[0].temperature if self.bags else None

    def next_event(self) -> float:
        """Return when the next step is due (s): 1 s in a run, 60 s while a chamber or a bag is still moving."""
        if self.running:
            return self.t + STEP
        if self.bags or abs(self.chamber - self.setpoint) > 0.01:
            return self.t + 60.0
        return math.inf

    def advance(self, t: float) -> None:
        """Go to `t`, which is the next event or the moment of a change."""
        span, self.t = t - self.t, t
        if span <= 0.0:
            return
        if self.running:
            self._programme(t)
        before = self.chamber
        self.chamber = self.setpoint + (self.chamber - self.setpoint) * math.exp(-span / self.lag)
        parts = max(1, math.ceil(span / 60.0))
        for each in self.bags:
            for _ in range(min(parts, 240)):
                each.exchange(0.5 * (before + self.chamber), span / parts)
        if self.running:
            self.ln2 = max(0.0, self.ln2 - LN2_PER_S * span)
            self._watch(t)

    def load(self, bags: Sequence[Bag], t: float) -> None:
        """Put bags into the chamber, in place of what their owner had in it; the probe is on the first."""
        self.t = max(self.t, t)
        owners = {each.owner for each in bags}
        self.bags = [each for each in self.bags if each.owner not in owners] + list(bags)

    def unload(self, t: float, owner: str = "") -> list[Bag]:
        """Take an owner's bags out; the chamber goes back to its idle temperature."""
        taken = [each for each in self.bags if each.owner == owner]
        self.bags = [each for each in self.bags if each.owner != owner]
        self.t = max(self.t, t)
        if not self.running:
            self.setpoint = IDLE_CHAMBER
        return taken

    def rest(self, t: float) -> None:
        """Be set by hand to the idle temperature again, as before a run; not while one is under way."""
        self.t = max(self.t, t)
        if not self.running:
            self.setpoint = IDLE_CHAMBER

    def start(self, sequence: int, t: float) -> bool:
        """Start the loaded table; False without one. Repeated, or while running, it is ignored (True)."""
        if sequence == self.sequence or self.running:
            return True
        if not self.rows:
            return False
        self.sequence, self.state, self.started, self.nucleated = sequence, "running", t, False
        self.t, self._recent = t, []
        self.trace.clear()
        self._enter(1, t)
        return True

    def abort(self, t: float) -> None:
        """End a run: the chamber stays where it is."""
        if self.running:
            self.state, self.elapsed_end = "aborted", t - self.started
            self.setpoint = self.chamber

    def power(self, t: float, *, on: bool) -> None:
        """Lose power at `t`: a run is aborted, the chamber warms up; or come back and hold the chamber as it is found.

        The log, the sequence number and how far the run came are kept, the loaded table is not.
        """
        self.advance(t)
        self.abort(t)
        self.powered = on
        self.lag = CHAMBER_LAG if on else WARMING_LAG
        self.rows = []
        self.setpoint = ROOM
        if on:
            self.setpoint = self.chamber if self.bags and self.state != "idle" else IDLE_CHAMBER

    def renew(self) -> None:
        """Be as new: no log, no sequence number."""
        self.state, self.sequence, self.segment, self.elapsed_end, self.nucleated = "idle", 0, 0, 0.0, False
        self.trace.clear()

    def elapsed(self, t: float) -> float:
        """Return the seconds of the run, under way or last."""
        return t - self.started if self.running else self.elapsed_end

    @property
    def ready(self) -> bool:
        """Tell whether a run may start: cold gas enough, chamber at its idle temperature, nothing running."""
        return self.powered and not self.running and self.ln2 >= 20.0 and abs(self.chamber - IDLE_CHAMBER) < 1.0

    def _enter(self, number: int, t: float) -> None:
        row = self.rows[number - 1]
        self.segment, self._leg = number, _Leg(t, self._probe(row))
        if row.kind == "hold" and row.listen == "chamber":
            self.setpoint = row.target

    def _probe(self, row: Row) -> float:
        sample = self.sample
        return self.chamber if row.listen == "chamber" or sample is None else sample

    def _programme(self, t: float) -> None:
        row = self.rows[self.segment - 1]
        sample = self.sample
        if row.kind == "ramp" and (row.listen == "chamber" or sample is None):
            moved = self.setpoint + row.rate / 60.0 * STEP
            self.setpoint = max(moved, row.target) if row.rate < 0.0 else min(moved, row.target)
        elif row.kind == "ramp" and sample is not None:
            self._follow(row, sample, t)
        if not self._ended(row, t):
            return
        if self.segment < len(self.rows) and self.rows[self.segment].kind != "end":
            self._enter(self.segment + 1, t)
        else:
            self.state, self.elapsed_end = "complete", t - self.started

    def _follow(self, row: Row, sample: float, t: float) -> None:
        course = self._leg.start + row.rate / 60.0 * (t - self._leg.started)
        error = course - sample
        wanted = FOLLOW_GAIN * error + self._leg.steering
        if abs(wanted) < FOLLOW_REACH:  # no wind-up while the bag gives up its latent heat
            self._leg.steering += FOLLOW_GAIN * error * STEP / FOLLOW_TIME
        aim = course + min(FOLLOW_REACH, max(-FOLLOW_REACH, wanted))
        most = SLEW / 60.0 * STEP
        self.setpoint = max(-180.0, min(self.setpoint + most, max(self.setpoint - most, aim)))

    def _ended(self, row: Row, t: float) -> bool:
        if row.timeout > 0.0 and t - self._leg.started >= row.timeout:
            return True
        if row.end == "exotherm_or_time":
            return self.nucleated
        if row.end == "time":
            return False
        probe = self._probe(row)
        if row.listen == "chamber" and row.kind == "ramp":
            return self.setpoint == row.target and abs(probe - row.target) <= TRACKING
        if row.listen == "chamber" or abs(self.setpoint - row.target) < 1.0:
            return abs(probe - row.target) <= NEAR  # it only approaches its own set point
        return probe <= row.target if self._leg.start > row.target else probe >= row.target

    def _watch(self, t: float) -> None:
        sample = self.sample
        if sample is not None:
            self._recent.append(sample)
            del self._recent[: -EXOTHERM_WINDOW - 1]
            if sample < 0.0 and sample - min(self._recent) >= EXOTHERM_RISE:
                self.nucleated = True
        if round(t - self.started) % 10 == 0:
            self.trace.append((t, self.chamber, sample, self.setpoint))
