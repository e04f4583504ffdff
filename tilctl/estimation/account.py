"""What an estimate is told, made of what happens: results, marks, and what flows in and out of its containers.

Both the engine and a dry run tell it, in the order of the record.  Glucose that was used up is what two samples differ
by, corrected for what was fed and removed between them; where that is within their noise, the next sample is held
against the older of the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from devices.quantity import parse_as
from recipes.estimates import Estimate
from tilctl.estimation.filter import DAY
from tilctl.estimation.inputs import Count, Input, Lost, Probe, Start, Uptake
from tilctl.estimation.priors import DEFAULTS, Priors

MOST = 2000  # inputs of one culture; the oldest beyond that would be four probe values a day for over a year
SURE = 2.0  # standard deviations by which an uptake has to exceed its noise [P]
HALF = 0.5  # share of the cells that is left, below which there is no culture to forecast any more [P]
LITRE = 1000.0  # mL: mmol/L times mL is umol
Number = Callable[[str], float | None]


@dataclass
class _Glucose:
    """Glucose in the culture as it would be if nothing used any: mmol, and its variance; `since` the last sample."""

    since: float
    mmol: float
    var: float

    def flows(self, in_mmol: float, in_var: float, out_share: float) -> None:
        """Take what flows out off, then add what flows in."""
        self.mmol = self.mmol * (1.0 - out_share) + in_mmol
        self.var = self.var * (1.0 - out_share) ** 2 + in_var


class Account:
    """The inputs of one estimate, in their order; `inputs` only grows."""

    def __init__(self, declared: Estimate, priors: Priors = DEFAULTS) -> None:
        self.inputs: list[Input] = []
        self.began: float | None = None
        self.ended: float | None = None
        self._declared = declared
        self._priors = priors
        self._volumes: dict[str, float] = {}  # mL in each of its containers
        self._kept = 1.0  # share of the cells
        self._glucose: _Glucose | None = None
        self._medium = {name: parse_as(text, "mmol/L") for name, text in declared.medium.items()}

    @property
    def runs(self) -> bool:
        """Whether the culture is under way: between its two marks."""
        return self.began is not None and self.ended is None

    @property
    def volume_ml(self) -> float:
        """Return the volume of the culture, mL."""
        return sum(self._volumes.values())

    def mounted(self, container: str, volume_ml: float) -> None:
        """Take note of a container that stands at its place."""
        if self._mine(container):
            self._volumes[container] = volume_ml

    def unmounted(self, t: float, container: str) -> None:
        """Take note of a container that is gone, with what was left in it."""
        gone, whole = self._volumes.pop(container, 0.0), self.volume_ml
        if gone > 0.0:
            self._out(t, gone / (whole + gone), cells=True)

    def corrected(self, container: str, change_ml: float) -> None:
        """Take note of a volume that was found to be another."""
        if container in self._volumes:
            self._volumes[container] = max(0.0, self._volumes[container] + change_ml)

    def moved(self, t: float, source: str, target: str, volume_ml: float) -> None:
        """Take note of liquid that went from one container (or counter account) to another."""
        mine = source in self._volumes, target in self._volumes
        before = self.volume_ml
        if mine[0]:
            self._volumes[source] = max(0.0, self._volumes[source] - volume_ml)
        if mine[1]:
            self._volumes[target] += volume_ml
        if mine == (True, False) and before > 0.0:
            self._out(t, min(1.0, volume_ml / before), cells=_family(target) not in self._declared.supernatant)
        elif mine == (False, True) and self._glucose is not None:
            known = self._medium.get(_family(source))
            each, sd = (self._priors.medium, self._priors.medium_sd) if known is None else (
                known, known * self._priors.medium_share
            )  # fmt: skip
            litres = volume_ml / LITRE
            self._glucose.flows(each * litres, (sd * litres) ** 2, 0.0)

    def _out(self, t: float, share: float, *, cells: bool) -> None:
        if self._glucose is not None:
            self._glucose.flows(0.0, 0.0, share)
        if cells and self.runs:
            self._kept *= 1.0 - share
            if self._kept < HALF:
                self.ended = t  # that was the harvest, before its mark
                return
            self._add(Lost(t, share))

    def mark(self, t: float, mark: str, number: Number) -> None:
        """Take note of a mark; `number` evaluates an expression as it is now (None: unknown)."""
        declared = self._declared
        if mark == declared.from_ and self.began is None:
            self.began = t
            cells = None if declared.start is None else number(declared.start)
            feeders = None if declared.feeders is None else number(declared.feeders)
            self.inputs.append(Start(t, cells, feeders or 0.0))
        elif mark == declared.to and self.began is not None and self.ended is None:
            self.ended = t

    def value(self, t: float, name: str, value: object) -> None:
        """Take note of a result, by its name, in cells or mmol/L."""
        if not self.runs or isinstance(value, bool) or not isinstance(value, int | float):
            return
        if name in self._declared.counts:
            self._add(Count(t, float(value), name))
        elif name in self._declared.glucose:
            self._sampled(t, name, float(value))

    def _sampled(self, t: float, name: str, glucose: float) -> None:
        litres = self.volume_ml / LITRE
        mmol, var = glucose * litres, (self._priors.glucose_share * glucose * litres) ** 2
        before = self._glucose
        if before is not None:
            used, sd = before.mmol - mmol, math.sqrt(before.var + var)
            if used > SURE * sd:
                self._add(Uptake(t, before.since, used, sd, name))
            elif before.var <= var:
                return  # the older sample says more
        self._glucose = _Glucose(t, mmol, var)

    def reading(self, t: float, kind: str, value: float, beside: Mapping[str, float]) -> None:
        """Take note of a probe's value that is on record: % of air saturation, or live cells per mL.

        `beside`: for oxygen `renewal` (s), and `gas` (% of oxygen in it) where it is not air.
        """
        if not self.runs or self.volume_ml <= 0.0:
            return
        p, oxygen = self._priors, self._declared.oxygen
        if kind == "capacitance" and self._declared.capacitance is not None:
            self._add(Probe(t, kind, value * self.volume_ml, p.shared * p.capacitance_ln, self._declared.capacitance))
        elif kind == "oxygen" and oxygen is not None:
            missing = 100.0 * beside.get("gas", p.air) / p.air - value  # % of what air would give
            if missing > 3.0 * p.oxygen_sd and beside.get("renewal", 0.0) > 0.0:
                a_day = p.saturated * missing / 100.0 * self.volume_ml / LITRE * DAY / beside["renewal"]  # mmol
                self._add(Probe(t, kind, a_day, p.shared * p.oxygen_sd / missing, oxygen.tag))

    def _add(self, given: Input) -> None:
        if len(self.inputs) < MOST:
            self.inputs.append(given)

    def _mine(self, container: str) -> bool:
        return _family(container) in self._declared.of


def _family(container: str) -> str:
    return container.partition("[")[0]
