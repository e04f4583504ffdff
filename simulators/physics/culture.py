"""Growth and metabolism of TIL in culture vessels: Monod kinetics with inhibition, activation and feeders.

All of it is illustrative: the defaults are engineering choices or unverified general knowledge, and uncalibrated.  They
stand in `kinetics.Kinetics` and `donors.Donor`; what stands here shapes the factors of temperature, pH and tissue.
Oxygen is taken as sufficient behind a gas-permeable floor or wall: the density ceiling stands for what it can feed.
In vessels with a kLa it is a state: dO/dt = kLa (O* - O) - qO X/V, by the patient's cells alone, feeders left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from simulators.physics.contents import AIR, Contents
from simulators.physics.donors import Donor
from simulators.physics.kinetics import DEFAULTS, Kinetics
from simulators.physics.vessels import GAS_PERMEABLE, Vessel

DAY = 86_400.0  # s
MIN_CELLS = 1.0

# Standing of each number: [P] engineering default of this project, [GKU] general knowledge, unverified, [D] derived by
# arithmetic from other values here, [L] read in the literature for other cells.
FRAGMENT_WINDOW = (3.0, 7.0)  # d, when cells leave the fragments [GKU]
DIGESTED = 10.0  # cells that enzymes bring out of a piece, over those that leave it by themselves [P]
DIGESTED_VIABILITY = 0.75  # share of them that live [P]
STIMULATING_OKT3 = 5.0  # ng/mL [P]; recipes give 30
STIMULATING_REAGENT = 0.01  # mL of a CD3/CD28 reagent in a mL [P]; recipes give 1 in 17.5

# fT: 37: 1.0; 35: 0.9; 33: 0.6; 32: 0.45; 29: 0.2; 27: 0; 39: 0.95; falling above 40 [P, shaped on L]
TEMPERATURE_FACTOR = (
    (27.0, 0.0),
    (29.0, 0.2),
    (32.0, 0.45),
    (33.0, 0.6),
    (35.0, 0.9),
    (37.0, 1.0),
    (39.0, 0.95),
    (40.0, 0.95),
    (41.5, 0.0),
)
HEAT_DEATH = 0.5  # 1/d above 41 degC [P]
# fpH: 1 in 7.0..7.4, 0.9 at 6.9, 0.3 at 6.6, 0 at 6.2 [P, shaped on L]; mirrored above
PH_FACTOR = ((6.2, 0.0), (6.6, 0.3), (6.9, 0.9), (7.0, 1.0), (7.4, 1.0), (7.6, 0.9), (8.0, 0.3), (8.4, 0.0))
PH_FRESH = 7.3  # at 5 % CO2 [P]
BUFFER = 60.0  # mmol lactic acid a litre and pH unit: bicarbonate, HEPES, serum [P]


def interpolate(table: tuple[tuple[float, float], ...], x: float) -> float:
    """Return the piecewise linear value of a table of (x, y), constant outside it."""
    if x <= table[0][0]:
        return table[0][1]
    for (x0, y0), (x1, y1) in pairwise(table):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return table[-1][1]


def acidity(lactate_mm: float, co2: float) -> float:
    """Return the pH of medium with `lactate_mm` mmol/L under `co2` %."""
    return PH_FRESH - lactate_mm / BUFFER - math.log10(max(co2, 0.3) / 5.0)


def leaving(age: float, per_day: float) -> float:
    """Return how many cells a day leave fragments that have been in medium for `age` days."""
    first, last = FRAGMENT_WINDOW
    return per_day / (last - first) if first <= age < last else 0.0


def dissociate(c: Contents, pieces: float, who: Donor) -> None:
    """Add the cells that enzymes bring out of `pieces` of tissue, all at once: a model of the yield, not of time."""
    cells = pieces * who.emigration * DIGESTED
    c.viable += cells * DIGESTED_VIABILITY
    c.dead += cells * (1.0 - DIGESTED_VIABILITY)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a vessel gives its cells in a step: floor (cm2), temperature (degC), CO2 (%), emigrants (cells/d).

    `saturation` is the oxygen (mmol/L) in medium at rest with the gas above it, `rpm` how fast it is rocked or stirred;
    with `aired` somebody else follows the oxygen, in shorter steps.
    """

    area: float
    temperature: float = 37.0
    co2: float = 5.0
    emigrants: float = 0.0
    vessel: Vessel = GAS_PERMEABLE
    rpm: float = 0.0
    saturation: float = AIR
    aired: bool = False


def stimulate(contents: Contents, lag: float = 0.0, again: float = 0.0) -> None:
    """Start the activation clock of cells that meet OKT3 and feeders, or a CD3/CD28 reagent, not met before.

    `lag` (d) is that of the donor, `again` (d) what is left of it for cells that were stimulated before.  What has
    stimulated and is still there does so no more, and what comes in the lag belongs to what began it.
    """
    c = contents
    if c.viable <= 0.0:
        return
    by_feeders = c.feeders - c.met_feeders > c.viable and c.concentration("okt3") >= STIMULATING_OKT3
    by_reagent = c.activator - c.met_activator >= STIMULATING_REAGENT * c.volume > 0.0
    if not (by_feeders or by_reagent):
        return
    c.met_feeders, c.met_activator = c.feeders, c.activator
    if c.age is not None and c.age < lag:
        c.alone *= 0.0 if by_feeders else 1.0
        return
    c.age = 0.0 if c.age is None else max(0.0, lag - again)
    c.alone = 0.0 if by_feeders else 1.0


def rates(c: Contents, who: Donor, around: Surroundings, k: Kinetics = DEFAULTS) -> tuple[float, float]:
    """Return growth and death rate (1/d) of the patient's cells in `c`."""
    litres = c.volume * 1e-3
    if c.age is None:
        peak, active = who.mu_pre, 1.0
    else:
        decay = k.decay + c.alone * (k.decay_alone - k.decay)
        peak, active = who.mu_rep, (0.0 if c.age < who.lag else math.exp(-decay * (c.age - who.lag)))
    glucose, lactate = c.glucose / litres, c.lactate / litres
    il2 = c.il2 / c.volume
    vessel = around.vessel
    mu = (
        peak
        * active
        * glucose
        / (k.k_glucose + glucose)
        / (1.0 + (lactate / k.k_lactate) ** k.n_lactate)
        / (1.0 + c.ammonia / litres / k.k_ammonia)
        * il2
        / (k.k_il2 + il2)
        * max(0.0, 1.0 - c.viable / (vessel.ceiling * (c.volume if vessel.by_volume else around.area)))
    )
    if vessel.kla > 0.0:
        oxygen = c.oxygen / litres
        mu *= oxygen / (k.k_oxygen + oxygen)
    if around.temperature != 37.0:
        mu *= interpolate(TEMPERATURE_FACTOR, around.temperature)
    ph = acidity(lactate, around.co2)
    if not 7.0 <= ph <= 7.4:
        mu *= interpolate(PH_FACTOR, ph)
    death = k.death + k.starved / (1.0 + math.exp(min(50.0, 5.4 * (glucose - 0.28))))
    if around.temperature > 41.0:
        death += HEAT_DEATH
    return mu, death


def _flow(c: Contents, who: Donor, around: Surroundings, k: Kinetics) -> tuple[float, float, float, float]:
    """Return net growth (1/d), death (1/d), glucose use (mmol/d) and IL-2 uptake (IU/d)."""
    mu, death = rates(c, who, around, k)
    peak = who.mu_pre if c.age is None else who.mu_rep
    litres = c.volume * 1e-3
    glucose, il2 = c.glucose / litres, c.il2 / c.volume
    warm = interpolate(TEMPERATURE_FACTOR, around.temperature) if around.temperature != 37.0 else 1.0
    per_cell = k.use_glucose * (k.resting * warm + (1.0 - k.resting) * mu / peak)
    use = (per_cell * c.viable + k.feeder_glucose * warm * c.feeders) * 1e-9
    return mu - death, death, use * glucose / (0.05 + glucose), k.il2_uptake * c.viable * warm * il2 / (300.0 + il2)


def oxygen_use(viable: float, temperature: float, k: Kinetics = DEFAULTS) -> float:
    """Return how much oxygen (mmol/d) so many cells use at a temperature (degC); feeders are left out."""
    return k.use_oxygen * viable * 1e-9 * interpolate(TEMPERATURE_FACTOR, temperature)


def _aerated(c: Contents, viable: float, around: Surroundings, k: Kinetics, days: float) -> float:
    """Return the dissolved oxygen (mmol) after `days` with `viable` cells; where there is none, none is used."""
    litres = c.volume * 1e-3
    per_day = 24.0 * around.vessel.transfer(around.rpm)
    use = oxygen_use(viable, around.temperature, k) / litres
    goal = around.saturation - use / per_day
    return max(0.0, goal + (c.oxygen / litres - goal) * math.exp(-per_day * days)) * litres


def grow(c: Contents, who: Donor, around: Surroundings, days: float, k: Kinetics = DEFAULTS) -> None:
    """Advance `c` in place by `days` (at most about 0.02): midpoint rule for the cells, amounts never below zero.

    Glucose and lactate close: what is used comes out as `lactate_yield` times as much lactate.
    """
    if c.volume <= 0.0:
        return
    if around.emigrants > 0.0:
        fresh = around.emigrants * days
        c.viable += fresh * k.emigrant_viability
        c.dead += fresh * (1.0 - k.emigrant_viability)
    if not c.alive:
        return
    net, _, use, _ = _flow(c, who, around, k)
    half = 0.5 * days
    middle = c.copy()
    middle.viable *= math.exp(net * half)
    middle.feeders *= math.exp(-k.feeder_loss * half)
    middle.glucose = max(0.0, c.glucose - use * half)
    middle.lactate += k.lactate_yield * use * half
    if middle.age is not None:
        middle.age += half
    aerated = around.vessel.kla > 0.0 and not around.aired
    if aerated:
        middle.oxygen = _aerated(c, c.viable, around, k, half)
    net, death, use, uptake = _flow(middle, who, around, k)
    if aerated:
        c.oxygen = _aerated(c, middle.viable, around, k, days)
    used = min(c.glucose, use * days)
    c.glucose -= used
    c.lactate += k.lactate_yield * used
    spent = min(c.glutamine, used / k.glutamine_ratio)
    c.glutamine -= spent
    c.ammonia += k.ammonia_yield * spent
    c.il2 = max(0.0, c.il2 * math.exp(-k.il2_loss * days) - uptake * days)
    c.viable *= math.exp(net * days)
    c.dead += death * middle.viable * days
    lost = c.feeders * -math.expm1(-k.feeder_loss * days)
    c.feeders -= lost
    c.met_feeders *= math.exp(-k.feeder_loss * days)
    c.lysing = c.lysing * math.exp(-k.feeder_lysis * days) + lost
    if c.age is not None:
        c.age += days
    if c.viable < MIN_CELLS:
        c.dead += c.viable
        c.viable = 0.0
    if c.feeders < MIN_CELLS:
        c.feeders = 0.0
