"""Values that a sensor of this kind cannot give: one that stands still to its last digit, one that leaps.

What a profile declares of a point: `frozen`, the time after which an unchanging value is no measurement any more
(only where the noise of the sensor is seen in its last digit), and `slope`, what it can change by in a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from devices.profile_types import Point, Profile
from devices.reading import Quality, Reading, Value

LEAPT_S = 600.0
"""s for which a value is uncertain after a leap: long enough for a person to look (engineering default)."""
LEAST_S = 1.0  # s over which a change is judged at least: two reads a moment apart differ by their noise


@dataclass
class _Seen:
    value: Value
    since: float  # when it was first this value
    at: float
    doubted_until: float = float("-inf")


class Plausible:
    """Follows the points of one instrument for which its profile declares what is plausible."""

    def __init__(self, profile: Profile) -> None:
        judged = [point for point in profile.points.values() if point.frozen_s or point.slope]
        self._points: Mapping[str, list[Point]] = {
            block: [point for point in judged if point.block == block] for block in {point.block for point in judged}
        }
        self.blocks = frozenset(self._points)
        self._seen: dict[str, _Seen] = {}

    def judged(self, block: str, readings: dict[str, Reading]) -> dict[str, Reading]:
        """Return the readings of a block: a frozen value is stale, one that has leapt uncertain for a while."""
        changed = {point.name: self._judge(point, readings[point.name]) for point in self._points[block]}
        return readings | {name: reading for name, reading in changed.items() if reading is not readings[name]}

    def _judge(self, point: Point, reading: Reading) -> Reading:
        value = reading.value
        if reading.quality is Quality.BAD or not isinstance(value, float):
            return reading  # it says itself that it is no measurement; what was seen before stands
        seen = self._seen.get(point.name)
        if seen is None:
            self._seen[point.name] = _Seen(value, reading.at, reading.at)
            return reading
        if point.slope and isinstance(seen.value, float):
            most = point.slope / 60.0 * max(LEAST_S, reading.at - seen.at)
            if abs(value - seen.value) > most:
                seen.doubted_until = reading.at + LEAPT_S
        if value != seen.value:
            seen.value, seen.since = value, reading.at
        seen.at = reading.at
        if point.frozen_s and reading.at - seen.since >= point.frozen_s:
            return replace(reading, quality=Quality.STALE)
        if reading.at < seen.doubted_until and reading.quality is Quality.GOOD:
            return replace(reading, quality=Quality.UNCERTAIN)
        return reading
