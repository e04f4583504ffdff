"""Two probes for one value: which is believed, and what it means that they differ."""

from __future__ import annotations

from dataclasses import dataclass, replace

from devices.reading import Quality, Reading, bad

_USABLE = (Quality.GOOD, Quality.UNCERTAIN)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Two probes disagree when they differ by more than `within` (in their unit) for longer than `lasts` (s)."""

    within: float
    lasts: float


class TwoProbes:
    """One value of two probes: the first's, as long as the second confirms it."""

    def __init__(self, rule: Disagreement) -> None:
        self._rule = rule
        self._since: float | None = None  # monotonic s, since when they differ

    def judged(self, first: Reading, second: Reading, now: float) -> Reading:
        """Return the value to be used; `now` in monotonic s.

        Invariant: probes that disagree give no value, and one alone an uncertain one: nobody can say which
        of two is right, and a wrong one that is believed cooks the cells.
        """
        values = [r.value for r in (first, second) if r.quality in _USABLE and isinstance(r.value, float)]
        if len(values) < 2:
            self._since = None
            alone = first if first.quality in _USABLE else second
            return replace(alone, quality=Quality.UNCERTAIN) if alone.quality in _USABLE else first
        if abs(values[0] - values[1]) <= self._rule.within:
            self._since = None
            return first
        self._since = now if self._since is None else self._since
        return bad(first.unit, first.at) if now - self._since >= self._rule.lasts else first

    def disagree(self, now: float) -> bool:
        """Tell whether they differ for longer than the rule allows."""
        return self._since is not None and now - self._since >= self._rule.lasts
