"""What the estimator assumes before it has seen anything: each number with its unit and standing.

Uncalibrated.  Standing: [P] engineering default of this project, [GKU] general knowledge, unverified, [D] derived by
arithmetic from other values here, [L] read in the literature, for other cells.  The numbers are of this package's own:
no simulator is asked, and none of them was fitted to a run, simulated or real.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Priors:
    """Means and spreads; a spread `_ln` is that of the natural logarithm."""

    growth: float = 0.65
    """1/d, when cells begin to grow [D]: 0.80 [P] of those that expand, 0.09 of the fifth that does not [P]."""
    growth_sd: float = 0.30
    """1/d [D]: of those two kinds together, each with its own spread of 0.08 and 0.05 [P]."""
    decay: float = 0.1
    """1/d, by which growth slows [D]: the geometric mean of 0.02 and 0.5, between which activation fades [P], [L]."""
    decay_ln: float = 0.8
    """[D]: 19 of 20 cultures lie in that range."""
    growth_noise: float = 0.025
    """1/d in the root of a day, by which growth wanders beside that [D]: over 12.5 d cells then differ by exp(0.64),
    the upper end of how published folds differ (CV 38..71 %, for other cells [L])."""
    lag_sd: float = 0.4
    """d, by which the end of the rest differs: 1..3 d [GKU]."""
    cells_noise_ln: float = 0.05
    """In the root of a day: what is lost and lives beside the model [P]."""
    uptake: float = 1.1
    """pmol glucose a cell and day [D]: the geometric mean of 0.6 (resting) and 2.0 (growing) [GKU]."""
    uptake_ln: float = 0.5
    """[D]: 19 of 20 cultures lie in 0.41..2.9 pmol; the upper one is a bound from perfusion rates [L]."""
    uptake_time: float = 20.0
    """d in which the uptake of a cell wanders through that spread [P]."""
    oxygen: float = 0.75
    """pmol oxygen a cell and day [D]: the geometric mean of 0.28 (resting [L]) and 2.0 [GKU]."""
    oxygen_ln: float = 0.6
    """[D]: of that range, and a tenth or two for the renewal of oxygen, which nobody measures well [P]."""
    air: float = 20.9
    """% of oxygen in air [L]."""
    saturated: float = 0.205
    """mmol/L oxygen in medium under air at 37 degC: 6.5..6.7 mg/L [L]."""
    start_ln: float = 0.15
    """Of the cells at the start: a count, and what is lost on the way [P]."""
    count_ln: float = 0.12
    """Of a count: 10 %, 15 % where it is thin [P]."""
    capacitance_ln: float = 0.07
    """Of a capacitance probe [D]: 5 % of noise, and 6 % of drift in two weeks [P]."""
    shared: float = 2.8
    """By which the error of one reading of a probe is taken to be larger [D]: it does not average out within two days,
    so that the eight readings of these count as one."""
    glucose_share: float = 0.05
    """Of a glucose value [P]."""
    medium_share: float = 0.05
    """Of the declared glucose of a medium [P]."""
    medium: float = 14.0
    """mmol/L, where nothing is declared: RPMI has 11, AIM-V 17 [GKU]."""
    medium_sd: float = 3.0
    """mmol/L, where nothing is declared [D]."""
    oxygen_sd: float = 3.0
    """% of saturation, of a probe: 2 % of noise, 1 % a week of drift [GKU]."""
    feeder_loss: float = 0.45
    """1/d of the live feeders: half-life 1.5..2 d [GKU]."""
    feeder_uptake: float = 0.15
    """pmol glucose a feeder and day [L]: resting lymphocytes; taken to be wrong by half of it [P]."""


DEFAULTS = Priors()
Z95 = 1.96
"""Standard deviations to either end of a 95 % interval."""
WRONG_LOW, WRONG_HIGH, WRONG_Z = 0.2, 5.0, 3.0
"""Not used: what is outside 0.2..5 times the forecast [P], and by three of its standard deviations [P]."""
AGREE = 2.0
"""Two in a row that are not used and are within this factor of each other are believed [P]."""
