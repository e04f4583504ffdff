"""What a laboratory or a probe makes of the truth: noise and drift as functions of seed, name and moment.

Engineering defaults [P]; lags (1 to 15 min) and faults are not part of it.  Nothing here has a state: a reading may be
repeated, skipped or taken in any order without changing another one.
"""

from __future__ import annotations

from dataclasses import dataclass

from simulators.physics.contents import Contents
from simulators.physics.noise import between, gauss, stream, uniform

DAY, WEEK = 86_400.0, 604_800.0  # s
COUNTER_CV, COUNTER_CV_THIN, THIN = 0.10, 0.15, 0.2e6  # off-line counter; 15 % under 0.2e6 cells/mL [P]
VIABILITY_NOISE = 1.0  # %, counter [P]
CAPACITANCE, CAPACITANCE_DRIFT = 0.05, 0.03  # share, share a week [P]
CHEMISTRY, CHEMISTRY_DRIFT = 0.05, 0.02  # glucose and lactate: share; share a day of an on-line one [P]


def count(cells: float, per_ml: float, key: int, k: int = 0) -> float:
    """Return what the counter makes of `cells` that are `per_ml` thick: normal, never less than half of them."""
    return cells * max(0.5, gauss(key, k, COUNTER_CV_THIN if per_ml < THIN else COUNTER_CV, 1.0))


def judge(viability: float, key: int, k: int = 0) -> float:
    """Return what the counter makes of a viability (%)."""
    return between(key, k, viability, VIABILITY_NOISE, 0.0, 100.0)


def live_density(c: Contents) -> float:
    """Return the live cells per mL that a field can polarise: the patient's, and feeders as long as they live."""
    return (c.viable + c.feeders) / c.volume if c.volume > 0.0 else 0.0


@dataclass(frozen=True, slots=True)
class Meter:
    """An instrument with noise and drift in proportion to what it measures; immutable.

    `sigma` is the share of the noise, `drift` the signed share a second by which it has moved since `since` (s), when
    it was last calibrated.  The noise is another one each whole second.
    """

    key: int
    sigma: float
    drift: float = 0.0
    since: float = 0.0

    def shows(self, value: float, t: float) -> float:
        """Return what it shows of `value` at `t` (s), in the unit of the value, never below 0."""
        drifted = value * (1.0 + self.drift * (t - self.since))
        return max(0.0, drifted * gauss(self.key, int(t), self.sigma, 1.0))


def capacitance(seed: int, name: str, since: float = 0.0) -> Meter:
    """Return a capacitance probe for `live_density` (cells/mL): 5 %, 3 % a week up or down, as drawn for its name."""
    return Meter(stream(seed, f"capacitance {name}"), CAPACITANCE, _way(seed, name) * CAPACITANCE_DRIFT / WEEK, since)


def online(seed: int, name: str, since: float = 0.0) -> Meter:
    """Return an on-line analyser of glucose or lactate (mmol/L): 5 %, 2 % a day up or down, as drawn for its name."""
    return Meter(stream(seed, f"online {name}"), CHEMISTRY, _way(seed, name) * CHEMISTRY_DRIFT / DAY, since)


def offline(seed: int, name: str) -> Meter:
    """Return a laboratory's analyser of glucose or lactate (mmol/L): 5 %, calibrated before each sample."""
    return Meter(stream(seed, f"offline {name}"), CHEMISTRY)


def _way(seed: int, name: str) -> float:
    return 1.0 if uniform(stream(seed, f"drift {name}"), 0) < 0.5 else -1.0
