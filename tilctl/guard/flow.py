"""One dose as it runs: what the pump counts, held against what the scales say, reading by reading.

Pure but for what it remembers.  Every span is measured by the readings' own times, and no verdict is given before the
pump has counted so much that a scale can tell it from nothing: a slow dose simply takes longer to judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tilctl.guard.fluid_rules import (
    DRY_ML,
    FLOOR_ML,
    LEFT_ML,
    LEFT_SHARE,
    OFF_ML,
    OFF_S,
    OFF_SHARE,
    PRIMED_S,
    STILL_G,
    STILL_S,
    STILL_SHARE,
    VISIBLE_ML,
)
from tilctl.guard.fluid_view import Flow, Held

SAMPLES = 240  # that are kept; of a slow dose fewer for each minute
ENDS = 3  # readings at both ends of a span that are averaged: scales show noise
YOUNG_S = 5.0  # s from which a dose is held against its count
DRY_S = 5.0  # s in which a source that should be empty has to fall


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: time (s), what the pump counted by then (mL), gross masses of source and destination (g)."""

    t: float
    counted: float
    source: float
    destination: float | None


class FlowWatch:
    """Follows one dose; `judge` tells which rules speak of it."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self._samples: list[Sample] = []
        self._began: dict[str, tuple[float, float]] = {}  # container -> g before, and mL counted by then
        self._began_at: float | None = None
        span = max(OFF_S, STILL_S, VISIBLE_ML / max(flow.rate, 0.01) * 60.0)
        self._span = 1.5 * span
        self._spacing = self._span / SAMPLES

    def before(self, counted: float, masses: Mapping[str, float]) -> None:
        """Remember what everything weighed before liquid flowed, or when it was first seen to."""
        for name, mass in masses.items():
            self._began.setdefault(name, (mass, counted))

    def look(self, t: float, counted: float, masses: Mapping[str, float]) -> None:
        """Take in a reading of the scales with the pump turning; `counted` (mL) is reckoned for that moment."""
        source = masses.get(self.flow.source.name)
        if source is None:
            return
        self._began_at = t if self._began_at is None else self._began_at
        samples = self._samples
        if samples and t - samples[-1].t < self._spacing:  # thinned, so that a slow dose fits
            return
        samples.append(Sample(t, counted, source, masses.get(self.flow.destination.name)))
        if len(samples) > SAMPLES + SAMPLES // 4:  # in one go: taking the first off a list each time is slow
            del samples[: len(samples) - SAMPLES]

    def judge(self, masses: Mapping[str, float], others: Mapping[str, Held], *, air: bool, blocked: bool) -> set[str]:
        """Return the rules that what was seen so far speaks for; `air` and `blocked` are what the pump itself says."""
        found: set[str] = set()
        if not self._samples:
            return found
        flow, source = self.flow, _source(self._samples[-ENDS:])
        left = flow.source.volume(source)
        empty = left <= max(LEFT_ML, LEFT_SHARE * flow.volume_ml)
        to_go = flow.volume_ml - self._samples[-1].counted
        off = self._off()
        # What is known to be wrong needs no long look for its cause; first of all that of the lines is looked for.
        known = off and self._samples[-1].t - (self._began_at or 0.0) >= 1.5 * PRIMED_S
        still = self._still(0.0, OFF_ML) if known else self._still(DRY_S if empty else STILL_S, VISIBLE_ML)
        if flow.empty:  # running dry is how such an order ends
            if (still and not empty and not air) or blocked:
                found.add("occlusion")
        elif air or (still and empty) or (left <= DRY_ML and to_go > max(3.0, 0.02 * flow.volume_ml)):
            found.add("dry-run")
        elif still or blocked:
            found.add("occlusion")
        if flow.floor_ml is not None and left < flow.floor_ml - FLOOR_ML:
            found.add("under-draw")
        if self._wrong(masses, others):
            found.add("wrong-source")
        if off and not (flow.empty and (empty or air)):
            found.add("delivery")
        return found

    def _back(self, seconds: float, counted: float) -> int | None:
        """Return the youngest sample that is so old, and so much was counted since; None where there is none."""
        samples, last = self._samples, self._samples[-1]
        low, high = ENDS - 1, len(samples) - 1 - ENDS
        if high < low or not _old(samples[low], last, seconds, counted):
            return None
        while low < high:  # both only grow: the border between old enough and too young is found by halving
            middle = (low + high + 1) // 2
            low, high = (middle, high) if _old(samples[middle], last, seconds, counted) else (low, middle - 1)
        return low

    def _ends(self, index: int) -> tuple[list[Sample], list[Sample]]:
        return self._samples[index - ENDS + 1 : index + 1], self._samples[-ENDS:]

    def _still(self, seconds: float, counted: float) -> bool:
        """Tell whether the source has stood still for so long, and for so much (mL) of the pump's count."""
        index = self._back(seconds, counted)
        if index is None:
            return False
        first, last = self._ends(index)
        turned = _counted(last) - _counted(first)
        fell = _source(first) - _source(last)
        return fell <= max(STILL_G, STILL_SHARE * turned * self.flow.source.density)

    def _off(self) -> bool:
        index = self._back(OFF_S, 0.0)
        if index is None:  # a young dose is judged as a whole, by what a minute of it may be off
            index = ENDS - 1
            if len(self._samples) < 2 * ENDS or self._samples[-1].t - self._samples[index].t < YOUNG_S:
                return False
        first, last = self._ends(index)
        density = self.flow.source.density
        counted = _counted(last) - _counted(first)
        # Pump and scales are read at different moments of a scan: what flows between two scans may be seen by one only.
        apart = max(later.t - earlier.t for earlier, later in pairwise(self._samples[index:]))
        allowed = max(OFF_ML, OFF_SHARE * max(counted, self.flow.rate * OFF_S / 60.0)) + self.flow.rate * apart / 60.0
        left = (_source(first) - _source(last)) / density
        if abs(counted - left) > allowed:
            return True
        before = [s.destination for s in first if s.destination is not None]
        after = [s.destination for s in last if s.destination is not None]
        if len(before) < len(first) or len(after) < len(last):
            return False
        came = (sum(after) / len(after) - sum(before) / len(before)) / density
        return counted - came > allowed + self.flow.swallowed_ml or came - counted > allowed

    def _wrong(self, masses: Mapping[str, float], others: Mapping[str, Held]) -> bool:
        """Tell whether another container changes in place of the one that should."""
        last, flow = self._samples[-1], self.flow
        if self._began_at is None or last.t - self._began_at < PRIMED_S:
            return False
        changes: dict[str, tuple[float, float]] = {}  # container -> mL that came, and mL counted since it was weighed
        for name, (before, counted) in self._began.items():
            mass, held = masses.get(name), others.get(name)
            if mass is not None and held is not None and not (held.lifted(mass) or held.lifted(before)):
                changes[name] = ((mass - before) / held.density, last.counted - counted)
        source, destination = changes.get(flow.source.name), changes.get(flow.destination.name)
        if source is None or source[1] < VISIBLE_ML:
            return False
        # Half of it, since scales show noise; not much more than it, since that is a person and no pump.
        like = [
            (name, came)
            for name, (came, counted) in changes.items()
            if counted >= VISIBLE_ML and 0.5 * counted <= abs(came) <= 1.5 * counted + VISIBLE_ML
        ]
        if -source[0] < 0.5 * source[1] and any(came < 0 and name != flow.source.name for name, came in like):
            return True
        missing = destination is not None and destination[0] < 0.5 * destination[1] - flow.swallowed_ml
        return missing and any(came > 0 and name != flow.destination.name for name, came in like)


def _old(sample: Sample, last: Sample, seconds: float, counted: float) -> bool:
    return last.t - sample.t >= seconds and last.counted - sample.counted >= counted


def _source(samples: Sequence[Sample]) -> float:
    return sum([sample.source for sample in samples]) / len(samples)


def _counted(samples: Sequence[Sample]) -> float:
    return sum([sample.counted for sample in samples]) / len(samples)
