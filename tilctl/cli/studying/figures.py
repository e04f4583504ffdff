"""The figures of a study: quantiles, shares and differences, each with what chance allows."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, median, quantiles

LEVEL = 0.95
Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
RESAMPLES = 2000
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Spread:
    """The 10th, 50th and 90th percentile."""

    p10: float
    p50: float
    p90: float


def spread(values: Sequence[float]) -> Spread:
    """Return the percentiles of some values, by linear interpolation between them."""
    if len(values) < 2:
        return Spread(*(values[0] if values else 0.0,) * 3)
    tenths = quantiles(values, n=10, method="inclusive")
    return Spread(tenths[0], tenths[4], tenths[8])


def share(number: int, of: int) -> Interval:
    """Return the Wilson score interval of a share."""
    if of == 0:
        return 0.0, 1.0
    p = number / of
    middle = (p + Z * Z / (2 * of)) / (1 + Z * Z / of)
    half = Z / (1 + Z * Z / of) * math.sqrt(p * (1 - p) / of + Z * Z / (4 * of * of))
    return max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))  # none and all lie within, rounded too


def bootstrap(values: Sequence[float], figure: Callable[[Sequence[float]], float], seed: int) -> Interval:
    """Return the percentile interval of a figure over resamples of the values; the same seed gives the same."""
    if len(values) < 2:
        return math.nan, math.nan
    draw = random.Random(seed)
    found = sorted(figure(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    low = int(RESAMPLES * (1 - LEVEL) / 2)
    return found[low], found[RESAMPLES - 1 - low]


def median_day(days: Sequence[float | None]) -> float | None:
    """Return the day by which half of the donors have reached the floor, None where fewer ever do."""
    middle = median(math.inf if day is None else day for day in days)
    return None if math.isinf(middle) else middle
