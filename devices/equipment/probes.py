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
        self._since: float | None = None  # monotonic s, since when they differ, as far as both were seen
        self._both = False
        self._disagreeing = False

    def judged(self, first: Reading, second: Reading, now: float) -> Reading:
        """Return the value to be used; `now` in monotonic s.

        Invariant: probes that disagree give no value, and one alone an uncertain one: nobody can say which
        of two is right, and a wrong one that is believed cooks the cells. Only seen to agree they agree again:
        a reading that is missing meanwhile ends no disagreement.
        """
        values = [r.value for r in (first, second) if r.quality in _USABLE and isinstance(r.value, float)]
        self._both = len(values) == 2
        if self._both:
            if abs(values[0] - values[1]) <= self._rule.within:
                self._since, self._disagreeing = None, False
                return first
            self._since = now if self._since is None else self._since
            self._disagreeing = self._disagreeing or now - self._since >= self._rule.lasts
        if self._disagreeing:
            return bad(first.unit, first.at)
        if self._both:
            return first
        alone = first if first.quality in _USABLE else second
        return replace(alone, quality=Quality.UNCERTAIN) if alone.quality in _USABLE else first

    @property
    def disagree(self) -> bool | None:
        """Whether they differ for longer than the rule allows; None where that is not known."""
        return self._disagreeing if self._both or self._disagreeing else None
