"""Quality of a value by what another block of the same instrument says: a broken sensor, a device not ready."""

from __future__ import annotations

from dataclasses import replace

from devices.profile_types import Profile
from devices.reading import Quality, Reading


class ElsewhereRules:
    """Remembers the readings that decide, and judges others by them."""

    def __init__(self, profile: Profile) -> None:
        self._rules = profile.elsewhere
        self._deciding = {rule.other for rule in self._rules}
        owner = {name: profile.bits[name].point if name in profile.bits else name for name in self._deciding}
        self._stale_s = {name: profile.points[point].stale_ms / 1000 for name, point in owner.items()}
        self._latest: dict[str, Reading] = {}

    def judged(self, readings: dict[str, Reading], now: float) -> dict[str, Reading]:
        """Return the readings of one block with the quality that other blocks leave them; `now` in monotonic s.

        Invariant: unknown is not false: without a good and recent reading that decides, a value is uncertain.
        """
        for name in self._deciding & readings.keys():
            self._latest[name] = readings[name]
        found: dict[str, Reading] | None = None
        for rule in self._rules:
            reading = (found or readings).get(rule.point)
            if reading is None or reading.quality in (Quality.BAD, Quality.STALE):
                continue
            worse = self._verdict(rule.other, rule.values, now, inside=rule.inside, quality=rule.quality)
            if worse is not None and worse is not reading.quality:
                found = dict(readings) if found is None else found
                value = None if worse is Quality.BAD else reading.value
                found[rule.point] = replace(reading, value=value, quality=worse)
        return readings if found is None else found

    def _verdict(
        self, other: str, values: frozenset[float | bool | str], now: float, *, inside: bool, quality: Quality
    ) -> Quality | None:
        decides = self._latest.get(other)
        if decides is None or decides.value is None or now - decides.at > self._stale_s[other]:
            return Quality.UNCERTAIN
        return quality if (decides.value in values) is inside else None
