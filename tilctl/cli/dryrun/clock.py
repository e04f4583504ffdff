"""A time that stands until it is moved."""

from __future__ import annotations

from datetime import datetime, timedelta

from simulators.virtual import EPOCH


class MovedClock:
    """The time of a dry run (`simulators.timeline.Times`), in seconds since it began."""

    def __init__(self, epoch: datetime = EPOCH) -> None:
        self._epoch = epoch
        self._t = 0.0

    def monotonic(self) -> float:
        """Return the seconds since the dry run began."""
        return self._t

    def utc(self, monotonic: float) -> datetime:
        """Return the UTC moment of such a time."""
        return self._epoch + timedelta(seconds=monotonic)

    def move_to(self, t: float) -> None:
        """Let it be `t` (s); time never goes back."""
        self._t = max(self._t, t)
