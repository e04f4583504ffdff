"""How many commands are looked at: a client that sends thousands a second must not keep another's hold waiting.

What is beyond is dropped unread and unanswered, which costs next to nothing, and counted; a station that gets no
answer sends again.  Hold, stop and abort are counted apart from all else, for each client and unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tilctl.commands.verbs import VERBS

CLIENT_RATE, CLIENT_BURST = 20.0, 200.0
"""Commands a second that one client may send for long, and at once."""
TOTAL_RATE, TOTAL_BURST = 100.0, 500.0
"""The same for all of them together."""
MAX_KNOWN = 256
"""Clients that are kept apart; of more, the one that was heard longest ago is forgotten."""


@dataclass(slots=True)
class _Allowance:
    left: float
    at: float

    def take(self, now: float, rate: float, burst: float) -> bool:
        """Take one of what is left at `now` (s), filled up at `rate` (1/s) to `burst`; False where nothing is."""
        self.left = min(burst, self.left + rate * (now - self.at))
        self.at = now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


class FloodGate:
    """Belongs to the MQTT thread."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Take a monotonic time, s."""
        self._now = now
        self._total = _Allowance(TOTAL_BURST, now())
        self._known: dict[tuple[str, ...], _Allowance] = {}

    def lets(self, client: str, unit: str, verb: str) -> bool:
        """Return whether a command is to be looked at.

        Invariant: nobody's hold, stop or abort is dropped for what others send, or for other commands.
        """
        now = self._now()
        protective = verb in VERBS and VERBS[verb].protective
        key = (client, unit, verb) if protective else (client,)
        own = self._known.pop(key, None) or _Allowance(CLIENT_BURST, now)
        self._known[key] = own  # heard last
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]
        return own.take(now, CLIENT_RATE, CLIENT_BURST) and (
            protective or self._total.take(now, TOTAL_RATE, TOTAL_BURST)
        )
