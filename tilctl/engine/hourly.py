"""How often something happens within the hour: what bounds what anybody can put on a record."""

from __future__ import annotations


class Hourly:
    """Counts within each hour of a monotonic clock."""

    def __init__(self) -> None:
        self._hour = 0
        self._count = 0

    def more_than(self, limit: int, now: float) -> bool:
        """Count once more at `now` (s); return whether that is above `limit` in this hour."""
        hour = int(now // 3600)
        if hour != self._hour:
            self._hour, self._count = hour, 0
        self._count += 1
        return self._count > limit
