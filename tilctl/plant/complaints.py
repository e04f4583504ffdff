"""What fails again and again is told of without filling the log: at first, each new text, then ever more seldom."""

from __future__ import annotations

from dataclasses import dataclass, field

FIRST_AGAIN = 60.0  # s until the same failure is told again; doubled each time
LONGEST = 3600.0  # s; it is told at least so often while it lasts
TEXTS = 16  # different texts of one failure that are told as they come; one with a counter in it is bounded by that


@dataclass
class Trouble:
    """One thing that fails: since when (s, monotonic), how often, and when it is told of again."""

    since: float
    tries: int = 0
    texts: set[str] = field(default_factory=set[str])
    every: float = FIRST_AGAIN
    due: float = 0.0

    def failed(self, now: float, text: str) -> bool:
        """Count a failure; return whether it is to be told now."""
        self.tries += 1
        if text not in self.texts and len(self.texts) < TEXTS:
            self.texts.add(text)
            if self.tries == 1:
                self.due = now + self.every
            return True
        if now < self.due:
            return False
        self.every = min(LONGEST, 2.0 * self.every)
        self.due = now + self.every
        return True


class Complaints:
    """All that fails now, by what it is: one entry for each device and command that may fail."""

    def __init__(self) -> None:
        self._troubles: dict[tuple[str, str], Trouble] = {}

    def failed(self, device: str, command: str, now: float, text: str) -> Trouble | None:
        """Count a failure at `now` (s, monotonic); return it where it is to be told, else None."""
        trouble = self._troubles.setdefault((device, command), Trouble(now))
        return trouble if trouble.failed(now, text) else None

    def worked(self, device: str, command: str) -> Trouble | None:
        """Return the trouble that is over with this, None where there was none."""
        return self._troubles.pop((device, command), None)
