"""Counters that must move: an instrument that answers, but whose registers stand still, is not taken for good."""

from __future__ import annotations

from dataclasses import replace

from devices.profile_types import Profile
from devices.reading import Quality, Reading, Value

ALIVE_WITHIN_S = 5.0


class Living:
    """Follows the points that a profile calls `alive`."""

    def __init__(self, profile: Profile) -> None:
        self.blocks = {point.block: point.name for point in profile.points.values() if point.alive}
        self._moved: dict[str, tuple[Value, float]] = {}  # block -> what its living point was, and since when

    def judged(self, block: str, readings: dict[str, Reading]) -> dict[str, Reading]:
        """Return the readings of a block, stale where its living point has stood still for ALIVE_WITHIN_S."""
        living = readings[self.blocks[block]]
        value, since = self._moved.get(block, (None, living.at))
        if living.value != value:
            self._moved[block] = (living.value, living.at)
        elif living.at - since >= ALIVE_WITHIN_S:
            return {
                name: replace(reading, quality=Quality.STALE) if reading.quality is Quality.GOOD else reading
                for name, reading in readings.items()
            }
        return readings
