"""The one time of all that stands in a place: whoever asks first has everything due by then done, in its order."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Protocol


class Times(Protocol):
    """What a plant wants of a clock."""

    def monotonic(self) -> float:
        """Return seconds on a clock that is never stepped."""
        ...

    def utc(self, monotonic: float) -> datetime:
        """Return the UTC moment that belongs to such a time."""
        ...


class Part(Protocol):
    """What has a course of its own."""

    def next_event(self) -> float:
        """Return when it has something to do next (s); infinity when nothing."""
        ...

    def advance(self, t: float) -> None:
        """Do what is due at `t`, which is its next event."""
        ...


class Timeline:
    """Seconds since it was made, by a clock; parts that are due at one moment go in the order in which they joined."""

    def __init__(self, clock: Times) -> None:
        self.clock = clock
        self.origin = clock.monotonic()
        self._parts: list[Part] = []
        self._due = math.inf
        self._at: float | None = None  # the moment that is being caught up with

    def join(self, part: Part) -> None:
        """Let a part take its course from now on."""
        self._parts.append(part)
        self.look()

    def time(self) -> float:
        """Return the present time (s), after everything that was due by then."""
        if self._at is not None:
            return self._at
        t = self.clock.monotonic() - self.origin
        if t >= self._due:
            self._catch_up(t)
        return t

    def look(self) -> None:
        """See what is due next; called after every change of a part."""
        self._due = min(part.next_event() for part in self._parts)

    def _catch_up(self, t: float) -> None:
        try:
            while self._due <= t:
                self._at = at = self._due
                for part in self._parts:
                    if part.next_event() <= at:
                        part.advance(at)
                self.look()
        finally:
            self._at = None
