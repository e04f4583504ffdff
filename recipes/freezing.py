"""Judging a freezing run by its readings: pure functions over (time, chamber, sample).

Criteria and limits are data of the profile; what could not be judged for want of readings is not accepted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from devices.quantity import parse_as, show
from recipes.freezing_model import Acceptance, FreezeProfile, Tracking, duration, longest, program
from recipes.ranges import Range, parse_range

__all__ = ["Finding", "FreezeProfile", "Sample", "accept", "duration", "longest", "nucleation", "program", "unseen"]

Sample = tuple[float, float | None, float | None]
"""Time (s), chamber and sample temperature (degC, None where there was no good reading)."""

Gap = tuple[float, float]
"""From the last reading before to the first one after an interval in which nobody looked (s)."""

UNSEEN_S = 30.0
"""Longest time between two readings that counts as seen (engineering default)."""
RISE_WINDOW_S = 60.0
PLATEAU_S = 120.0
PLATEAU_SLOPE = 0.1
PLATEAU_COLDER_K = 5.0
"""An exotherm shows within 60 s; a plateau is under 0.1 K/min for 2 min with the chamber 5 K colder (engineering)."""
EXOTHERM_LASTS_S = 300.0
"""The warmest reading of an exotherm comes within 5 min of its beginning (engineering)."""
RAMP_SIGN_K = 1.0
"""The chamber has begun its ramp when it is this far below where it stood."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One criterion: its limit, what was found, whether it holds, and what follows if it does not."""

    criterion: str
    limit: str
    value: str
    ok: bool
    consequence: str
    judged: bool = True
    """False where what decides was not seen; `ok` is False then, and `value` names the interval."""


@dataclass(frozen=True, slots=True)
class _Run:
    """The readings that are complete, and what is derived from them; `nucleation` is an index, or None."""

    t: list[float]
    chamber: list[float]
    sample: list[float]
    nucleation: int | None
    unseen: Sequence[Gap]

    def hidden(self, first: float, last: float = math.inf) -> Gap | None:
        """Return what was not seen between two moments, the first of it."""
        return next((gap for gap in self.unseen if gap[0] < last and gap[1] > first), None)

    def crossing(self, index: int) -> Gap | None:
        """Return the unseen interval in which the sample came to where this reading found it, if it is one."""
        return self.hidden(self.t[index - 1] if index else 0.0, self.t[index])

    def nucleation_hidden(self, rise: float, lost: float) -> Gap | None:
        """Return the interval in which nucleation may have begun unseen; an exotherm that was seen proves itself."""
        start = self.nucleation
        cold = self.first(0.0)
        since = 0.0 if cold is None or cold == 0 else self.t[cold - 1]
        if start is None:
            end = self.first(lost)
            return self.hidden(since, math.inf if end is None else self.t[end])
        near = [i for i in range(start, len(self.t)) if self.t[i] - self.t[start] <= RISE_WINDOW_S]
        if max(self.sample[i] for i in near) - self.sample[start] >= rise:
            return self.hidden(self.t[start - 1] if start else 0.0, self.t[start] + RISE_WINDOW_S)
        return self.hidden(since, self.t[start])

    def first(self, limit: float, after: int = 0) -> int | None:
        """Return the first index at which the sample is down at `limit`."""
        return next((i for i in range(after, len(self.t)) if self.sample[i] <= limit), None)

    def warmest(self) -> int:
        """Return the index of the warmest reading of the exotherm (within 5 min of nucleation), or 0 without one."""
        start = self.nucleation
        if start is None:
            return 0
        span = [i for i in range(start, len(self.t)) if self.t[i] - self.t[start] <= EXOTHERM_LASTS_S]
        return max(span, key=lambda i: self.sample[i])

    def slope(self, index: int) -> float | None:
        """Return the slope of the sample in K/min over the minute before this reading, or None at the start."""
        earlier = [i for i in range(index) if self.t[index] - 90 <= self.t[i] <= self.t[index] - 45]
        if not earlier:
            return None
        start = min(earlier, key=lambda i: abs(self.t[index] - self.t[i] - 60))
        return (self.sample[index] - self.sample[start]) / (self.t[index] - self.t[start]) * 60


def accept(
    profile: FreezeProfile,
    samples: Sequence[Sample],
    setpoints: Sequence[float | None] | None = None,
    gaps: Sequence[Gap] = (),
) -> list[Finding]:
    """Return a finding for each criterion of the profile; what is decided in one of `gaps` is not judged.

    `samples` are in the order of time, from before the first ramp to the end of the run; `setpoints` (degC, one for
    each sample) are for the tracking of the chamber, which is not judged without them.
    """
    good = [(t, chamber, sample) for t, chamber, sample in samples if chamber is not None and sample is not None]
    t, chamber, sample = ([row[column] for row in good] for column in range(3))
    criteria = profile.acceptance
    rise = parse_as(criteria.nucleation.rise, "K") if criteria.nucleation else 1.0
    run = _Run(t, chamber, sample, nucleation(t, chamber, sample, rise), gaps)
    found = _before(criteria, run) + _after(criteria, run)
    found.append(_final(criteria, run))
    if criteria.tracking is not None and setpoints is not None:
        found.append(_tracking(criteria.tracking, samples, setpoints, _excused(criteria, run), gaps))
    return found


def unseen(times: Sequence[float], end: float) -> list[Gap]:
    """Return the intervals of a run (0 to `end`, s) of more than 30 s without a reading."""
    return [(a, b) for a, b in pairwise((0.0, *times, max([end, *times]))) if b - a > UNSEEN_S]


def _seen(finding: Finding, gap: Gap | None) -> Finding:
    """Return a finding as it is where nothing of what decides was hidden, else as not judged."""
    if gap is None:
        return finding
    value = f"not judged: unseen from {gap[0] / 60:.1f} to {gap[1] / 60:.1f} min"
    return replace(finding, value=value, ok=False, judged=False)


def nucleation(t: list[float], chamber: list[float], sample: list[float], rise: float = 1.0) -> int | None:
    """Return the index of the reading at which an exotherm or a plateau begins, or None.

    `rise` is how far (K) the sample warms within 60 s in an exotherm.
    """
    for start in range(len(t)):
        if sample[start] > 0:
            continue
        highest = 0.0
        flat = True
        for later in range(start + 1, len(t)):
            passed = t[later] - t[start]
            if passed > PLATEAU_S + RISE_WINDOW_S:
                break
            if passed <= RISE_WINDOW_S:
                highest = max(highest, sample[later] - sample[start])
            flat = flat and abs(sample[later] - sample[start]) < PLATEAU_SLOPE * max(passed, RISE_WINDOW_S) / 60
            flat = flat and sample[later] - chamber[later] >= PLATEAU_COLDER_K
            if flat and passed >= PLATEAU_S:
                return start
        window = [i for i in range(start, len(t)) if t[i] - t[start] <= RISE_WINDOW_S] if highest >= rise else []
        if window:
            return min(window[: window.index(max(window, key=lambda i: sample[i])) + 1], key=lambda i: sample[i])
    return None


def _before(criteria: Acceptance, run: _Run) -> list[Finding]:
    found: list[Finding] = []
    if criteria.start is not None:
        found.append(_start(parse_range(criteria.start.band), parse_as(criteria.start.hold, "s"), run))
    if criteria.before_nucleation is not None:
        wanted = criteria.before_nucleation
        span, rate = parse_range(wanted.between), parse_range(wanted.rate)
        end = run.nucleation if run.nucleation is not None else len(run.t)
        low = run.first(span.low)
        end = min(end, low if low is not None else end)
        slopes = [run.slope(i) for i in range(end) if run.sample[i] in span]
        known = [slope for slope in slopes if slope is not None]
        share = 100 * sum(slope in rate for slope in known) / len(known) if known else None
        finding = Finding(
            "rate before nucleation",
            f"{rate} for {wanted.share} of the readings between {span}",
            "no readings" if share is None else f"{share:.0f} %",
            share is not None and share >= parse_as(wanted.share, "%"),
            "deviation",
        )
        into = run.first(span.high)
        since = run.t[into - 1] if into else 0.0
        found.append(_seen(finding, run.hidden(since, run.t[end] if end < len(run.t) else math.inf)))
    return found


def _start(band: Range, hold: float, run: _Run) -> Finding:
    """Judge the sample before the first ramp, whose beginning shows in the chamber."""
    ramp = next((i for i in range(len(run.t)) if run.chamber[i] <= run.chamber[0] - RAMP_SIGN_K), None)
    lasted = 0.0
    if ramp is not None:
        steady = ramp
        while steady > 0 and run.sample[steady - 1] in band:
            steady -= 1
        lasted = run.t[ramp] - run.t[steady]
    found = Finding("start", f"sample {band} for {hold / 60:g} min", f"{lasted / 60:.1f} min", lasted >= hold, "hold")
    hidden = run.hidden(0.0) if ramp is None else run.hidden(run.t[ramp] - hold, run.t[ramp])
    return _seen(found, hidden)


def _after(criteria: Acceptance, run: _Run) -> list[Finding]:
    found: list[Finding] = []
    start = run.nucleation
    rise = parse_as(criteria.nucleation.rise, "K") if criteria.nucleation else 1.0
    hidden = run.nucleation_hidden(rise, parse_as(criteria.nucleation.lost_at, "degC") if criteria.nucleation else -20)
    if criteria.nucleation is not None:
        span = parse_range(criteria.nucleation.between)
        lost = parse_as(criteria.nucleation.lost_at, "degC")
        value = "not seen" if start is None else f"{run.sample[start]:.1f} degC"
        if start is None and run.first(lost) is not None:
            value = f"not seen by {lost:g} degC"
        ok = start is not None and run.sample[start] in span
        finding = Finding("nucleation", f"begins in {span}", value, ok, "deviation: no seeding evidence")
        found.append(_seen(finding, hidden))
    if criteria.plateau is not None:
        until, limit = parse_as(criteria.plateau.until, "degC"), parse_as(criteria.plateau.longest, "s")
        end = None if start is None else run.first(until, run.warmest())
        passed = None if start is None or end is None else run.t[end] - run.t[start]
        finding = Finding(
            "plateau",
            f"at most {limit / 60:g} min down to {until:g} degC",
            "not seen" if passed is None else f"{passed / 60:.1f} min",
            passed is not None and passed <= limit,
            "deviation",
        )
        found.append(_seen(finding, hidden or _plateau_hidden(run, until, limit, end)))
    if criteria.after_nucleation is not None:
        wanted = criteria.after_nucleation
        rate = _mean_rate(parse_range(wanted.between), run)
        limits = parse_range(wanted.rate)
        finding = Finding(
            "rate after nucleation",
            f"{limits} over {parse_range(wanted.between)}",
            "no readings" if rate is None else f"{rate:.2f} K/min",
            rate is not None and rate in limits,
            "deviation",
        )
        unknown = hidden if start is None else None
        found.append(_seen(finding, unknown or _rate_hidden(parse_range(wanted.between), run)))
    return found


def _plateau_hidden(run: _Run, until: float, limit: float, end: int | None) -> Gap | None:
    """Return the interval for which the length of the plateau cannot be judged; its middle need not be seen."""
    start = run.nucleation
    if start is None:
        return None  # that nucleation was not seen is known, or was said before
    if run.sample[run.warmest()] <= until and (gap := run.hidden(run.t[start], run.t[start] + EXOTHERM_LASTS_S)):
        return gap
    if end is None:
        return run.hidden(run.t[-1]) if run.t[-1] - run.t[start] <= limit else None
    decided = run.t[end] - run.t[start] <= limit or run.t[end - 1] - run.t[start] > limit
    return None if decided else run.crossing(end)


def _rate_hidden(span: Range, run: _Run) -> Gap | None:
    """Return the unseen interval in which the sample came into or out of a span of its mean rate."""
    start = run.first(span.high, run.warmest())
    end = None if start is None else run.first(span.low, start)
    if start is None or end is None:
        return run.hidden(run.t[-1] if run.t else 0.0)
    return run.crossing(start) or run.crossing(end)


def _mean_rate(span: Range, run: _Run) -> float | None:
    """Return the mean rate of the sample over a span in K/min, or None where it did not pass through it."""
    start = run.first(span.high, run.warmest())
    end = None if start is None else run.first(span.low, start)
    if start is None or end is None or run.t[end] <= run.t[start]:
        return None
    return (run.sample[end] - run.sample[start]) / (run.t[end] - run.t[start]) * 60


def _final(criteria: Acceptance, run: _Run) -> Finding:
    chamber = parse_as(criteria.final.chamber, "degC")
    sample = None if criteria.final.sample is None else parse_as(criteria.final.sample, "degC")
    limit = f"chamber at most {chamber:g} degC" + ("" if sample is None else f", sample at most {sample:g} degC")
    if not run.t:
        return _seen(Finding("end", limit, "no readings", ok=False, consequence="alarm"), run.hidden(0.0))
    ok = run.chamber[-1] <= chamber and (sample is None or run.sample[-1] <= sample)
    value = f"chamber {run.chamber[-1]:.1f}, sample {run.sample[-1]:.1f} degC after {show(run.t[-1] - run.t[0], 's')}"
    found = Finding("end", limit, value, ok, "extend the hold by at most 15 min, else alarm")
    return _seen(found, run.hidden(run.t[-1]))


def _tracking(
    wanted: Tracking,
    samples: Sequence[Sample],
    setpoints: Sequence[float | None],
    excused: tuple[float, float],
    gaps: Sequence[Gap],
) -> Finding:
    """Judge how close the chamber stayed to its set point, outside seeding and plateau."""
    limit = parse_as(wanted.within, "K")
    off = [
        abs(chamber - setpoint)
        for (t, chamber, _), setpoint in zip(samples, setpoints, strict=True)
        if chamber is not None and setpoint is not None and not excused[0] <= t <= excused[1]
    ]
    value = f"{max(off):.1f} K" if off else "no readings"
    found = Finding("chamber tracking", f"within {limit:g} K", value, bool(off) and max(off) <= limit, "warn")
    if off and not found.ok:
        return found  # that was seen
    return _seen(found, next((gap for gap in gaps if not (excused[0] <= gap[0] and gap[1] <= excused[1])), None))


def _excused(criteria: Acceptance, run: _Run) -> tuple[float, float]:
    """Return the time from the end of the first ramp to the end of the plateau, in which tracking is not judged."""
    if criteria.before_nucleation is None or criteria.plateau is None:
        return (0.0, -1.0)
    start = run.first(parse_range(criteria.before_nucleation.between).low)
    end = run.first(parse_as(criteria.plateau.until, "degC"), run.warmest())
    if start is None:
        return (0.0, -1.0)
    return (run.t[start], run.t[end] if end is not None else run.t[-1])
