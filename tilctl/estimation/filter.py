"""The filter: an unscented Kalman filter on ln cells, growth (1/d), ln of its decay (1/d), ln uptake of a cell.

pykalman does the filtering and is imported when the first culture begins, not before.  Each quantity is followed by its
logarithm, so that the model is linear in all but the growth over which an uptake is averaged.  Between two inputs
growth decays and wanders, the uptake of a cell wanders about its prior.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from tilctl.estimation.priors import Priors

DAY = 86_400.0
STEP = 0.25  # d, while cells begin to grow; the model is stepped exactly after that
TINY = 1e-12  # what a step of no length adds, so that the covariance stays positive
X, R, K, Q, O = range(5)  # noqa: E741 - ln cells, growth, ln decay of growth, ln uptake, ln oxygen uptake
FASTEST = 1.0  # 1/d, of a decay that is reckoned with
Vector = Any  # numpy has no types here: it is imported with the filter


class UnavailableError(RuntimeError):
    """The library of the filter is not installed."""


@cache
def library() -> tuple[Any, Any]:
    """Return numpy and the filter of pykalman; raises UnavailableError where they are not installed."""
    try:
        import numpy  # noqa: ICN001, PLC0415 - imported when a culture begins, never at start-up
        from pykalman import AdditiveUnscentedKalmanFilter  # pyright: ignore  # noqa: PGH003, PLC0415
    except ImportError as error:
        text = f"{error}: install tilctl with its extra `estimates`, which brings pykalman"
        raise UnavailableError(text) from error
    return numpy, AdditiveUnscentedKalmanFilter


@dataclass(frozen=True, slots=True)
class Seen:
    """An observation: its logarithm `y`, the standard deviation of that, and what the state makes of it."""

    y: float
    sd: float
    of: Callable[[Vector], float]


class CellFilter:
    """One culture from its start on; `t` in days since then."""

    def __init__(self, cells: float, sd_ln: float, lag_d: float, priors: Priors, *, oxygen: bool) -> None:
        """Begin with so many cells, known to `sd_ln`; `oxygen` adds the uptake of oxygen to the state."""
        self._np, kind = library()
        self.t = 0.0
        self.priors = priors
        self._lag = lag_d
        size = 5 if oxygen else 4
        p = priors
        means = (math.log(cells), p.growth, math.log(p.decay), math.log(p.uptake), math.log(p.oxygen))
        spreads = (sd_ln, p.growth_sd, p.decay_ln, p.uptake_ln, p.oxygen_ln)
        self.mean: Vector = self._np.array(means[:size])
        self.cov: Vector = self._np.diag([each**2 for each in spreads[:size]])
        self._home: Vector = self.mean.copy()
        self._ukf: Any = kind(_same, _same, self._np.eye(size), self._np.eye(size), self.mean, self.cov)

    def copy(self) -> CellFilter:
        """Return one that goes its own way from here."""
        twin = object.__new__(CellFilter)
        twin.__dict__.update(self.__dict__)  # arrays are replaced, never changed
        return twin

    def to(self, t: float) -> None:
        """Let time pass to `t` (d)."""
        ramp = self._lag + 3.0 * self.priors.lag_sd
        while t - self.t > 1e-9:
            until = min(t, self.t + STEP) if self.t < ramp else t
            self._step(until)

    def _step(self, until: float) -> None:
        p, dt = self.priors, until - self.t
        begun = self.growing(self.t), self.growing(until)
        share = sum(begun) / 2.0
        near = math.exp(-dt / p.uptake_time)
        home = self._home

        def passes(state: Vector) -> Vector:
            after = state.copy()
            decay = math.exp(min(math.log(FASTEST), float(state[K])))
            after[X] += state[R] * share * average(decay, dt)
            after[R] *= math.exp(-decay * dt)
            after[Q:] = home[Q:] + (state[Q:] - home[Q:]) * near
            return after

        noise = self._np.diag(self._np.full(len(home), TINY))
        wander = p.growth_noise**2 * dt
        noise[X, X] += p.cells_noise_ln**2 * dt + share**2 * wander * dt**2 / 3.0
        noise[X, X] += (p.growth * p.lag_sd) ** 2 * max(0.0, begun[1] - begun[0])  # when they begin is not known
        noise[X, R] = noise[R, X] = share * wander * dt / 2.0
        noise[R, R] += wander
        for each, spread in ((Q, p.uptake_ln), (O, p.oxygen_ln)):
            if each < len(home):
                noise[each, each] += spread**2 * (1.0 - near**2)
        self._take(*self._ukf.filter_update(
            self.mean, self.cov, None, transition_function=passes, transition_covariance=noise
        ))  # fmt: skip
        self.t = until

    def growing(self, t: float) -> float:
        """Return the share (0..1) of cultures that have begun to grow at `t` (d)."""
        if self._lag <= 0.0:
            return 1.0
        return 0.5 * (1.0 + math.erf((t - self._lag) / (self.priors.lag_sd * math.sqrt(2.0))))

    def lose(self, share: float) -> None:
        """Take a share of the cells out."""
        after = self.mean.copy()
        after[X] += math.log(max(TINY, 1.0 - share))
        self.mean = after

    def loosen(self, x_ln: float) -> None:
        """Forget what was known of cells, to so much more, and of their growth."""
        after = self.cov.copy()
        after[X, X] += x_ln**2
        after[R, R] += self.priors.growth_sd**2
        self.cov = after

    def stands(self, seen: Seen) -> tuple[float, float]:
        """Return how far an observation is from what is expected: by which factor, in how many standard deviations."""
        expected, slope = seen.of(self.mean), self.mean * 0.0
        for i in range(len(self.mean)):
            moved = self.mean.copy()
            moved[i] += 1e-4
            slope[i] = (seen.of(moved) - expected) / 1e-4
        sd = math.sqrt(float(slope @ self.cov @ slope) + seen.sd**2)
        return math.exp(max(-50.0, min(50.0, seen.y - expected))), (seen.y - expected) / sd

    def take(self, seen: Seen) -> None:
        """Take an observation of now in."""
        np = self._np

        def shows(state: Vector) -> Vector:
            return np.array([seen.of(state)])

        self._take(*self._ukf.filter_update(
            self.mean, self.cov, np.array([seen.y]),
            transition_function=_same,
            transition_covariance=np.diag(np.full(len(self.mean), TINY)),
            observation_function=shows,
            observation_covariance=np.array([[seen.sd**2]]),
        ))  # fmt: skip

    def _take(self, mean: Vector, cov: Vector) -> None:
        """Keep what the filter gives; raises ArithmeticError for what is no state: the estimate ends there."""
        np = self._np
        mean, cov = np.asarray(mean), np.asarray(cov)
        if not (np.isfinite(mean).all() and np.isfinite(cov).all() and (np.diag(cov) > 0.0).all()):
            raise ArithmeticError("the filter has lost its state")
        self.mean, self.cov = mean, (cov + cov.T) / 2.0

    @property
    def cells_ln(self) -> tuple[float, float]:
        """Return ln cells and its standard deviation."""
        return float(self.mean[X]), math.sqrt(float(self.cov[X, X]))


def _same(state: Vector) -> Vector:
    return state


def average(rate: float, span: float) -> float:
    """Return the integral of exp(-rate t) over a span."""
    return span if abs(rate * span) < 1e-6 else (1.0 - math.exp(-rate * span)) / rate
