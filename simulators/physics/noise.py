"""Noise as a function of (seed, channel, moment): the same for whoever looks, however often.

Nothing here has a state, so a reading can be repeated, skipped or taken by another process without
changing any later one.
"""

from __future__ import annotations

import math
import zlib

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
TWO_PI = 2.0 * math.pi


def _mix(x: int) -> int:
    """Return a well-mixed 64-bit word (the finaliser of splitmix64)."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def stream(seed: int, name: str) -> int:
    """Return the key of a named stream of numbers that belongs to `seed`."""
    return _mix((seed * GOLDEN + zlib.crc32(name.encode()) * 0xD1B54A32D192ED03 + len(name)) & MASK)


def uniform(key: int, k: int, low: float = 0.0, high: float = 1.0) -> float:
    """Return the `k`-th number of a stream, uniform in [low, high)."""
    return low + (high - low) * (_mix((key + (k + 1) * GOLDEN) & MASK) >> 11) / 9007199254740992.0


def gauss(key: int, k: int, sigma: float = 1.0, mean: float = 0.0) -> float:
    """Return the `k`-th number of a stream, normal with `mean` and `sigma` (Box-Muller)."""
    word = _mix((key + (k + 1) * GOLDEN) & MASK)
    radius = math.sqrt(-2.0 * math.log(((word >> 32) + 1) / 4294967297.0))
    return mean + sigma * radius * math.cos(TWO_PI * (word & 0xFFFFFFFF) / 4294967296.0)


def between(key: int, k: int, mean: float, sigma: float, low: float, high: float) -> float:
    """Return the `k`-th number of a stream, normal and clamped to [low, high]."""
    return min(high, max(low, gauss(key, k, sigma, mean)))
