"""How well the alarms serve: rate, flood, chatter, what stands for long, priorities, who answers how fast.

Pure: told what records say of alarms, in order of time, of one record or of several.  The bounds are those of ISA-18.2
and EEMUA 191 as the project's notes have them (general knowledge, not read in the standards).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tilctl.journal import alarms as ev
from tilctl.journal.chain import Record

FLOOD_WINDOW = timedelta(minutes=10)
FLOOD_FROM = 10  # announcements within the window, for each operator
FLOOD_BELOW = 5  # a flood is over when the window has fewer
CHATTER_WINDOW = timedelta(minutes=1)
CHATTER_FROM = 3  # times that one alarm is raised within a minute
STALE_AFTER = timedelta(hours=24)
KEPT = 20_000  # ids that are told apart; the rest is counted together
GUIDE = {"low": 0.80, "medium": 0.15, "high": 0.05}  # shares of the priorities; critical ones belong to high there


@dataclass
class AlarmFigures:
    """What was counted; times in s."""

    announced: int = 0
    by_alarm: Counter[str] = field(default_factory=Counter[str])
    by_priority: Counter[str] = field(default_factory=Counter[str])
    chattering: Counter[str] = field(default_factory=Counter[str])
    floods: int = 0
    flood_s: float = 0.0
    most_in_window: int = 0
    acknowledged: int = 0
    acknowledge_s: float = 0.0
    longest_unacknowledged_s: float = 0.0
    set_aside: Counter[str] = field(default_factory=Counter[str])
    again: Counter[str] = field(default_factory=Counter[str])
    first: datetime | None = None
    last: datetime | None = None
    active: dict[str, datetime] = field(default_factory=dict[str, datetime])
    _unknown: dict[str, datetime] = field(default_factory=dict[str, datetime])
    _window: deque[datetime] = field(default_factory=deque[datetime])
    _recent: dict[str, deque[datetime]] = field(default_factory=dict[str, deque[datetime]])
    _flood_since: datetime | None = None

    def take(self, event: object, t: datetime) -> None:
        """Take in what happened at a moment; what is no event of an alarm only moves the time on."""
        self.first = t if self.first is None else self.first
        self.last = t
        self._ebb(t)
        match event:
            case ev.AlarmRaised():
                self._raised(event, t)
            case ev.AlarmCleared():
                self.active.pop(_key(event), None)
            case ev.AlarmAcknowledged():
                self._known(_key(event), t)
            case ev.AlarmSetAside():
                self.set_aside[event.how] += 1
            case ev.AlarmAgain():
                self.again[event.why] += 1
            case _:
                pass

    @property
    def in_flood(self) -> bool:
        """Whether more alarms come than a person can answer."""
        return self._flood_since is not None

    @property
    def seconds(self) -> float:
        """How long was looked at, in s."""
        return 0.0 if self.first is None or self.last is None else (self.last - self.first).total_seconds()

    @property
    def rate_per_hour(self) -> float:
        """Announcements in an hour, over all the time that was looked at."""
        return self.announced / (self.seconds / 3600) if self.seconds > 0 else 0.0

    def stale(self, now: datetime) -> list[str]:
        """Return the alarms that have been active for longer than a day."""
        return sorted(alarm for alarm, since in self.active.items() if now - since > STALE_AFTER)

    def top(self, most: int = 10) -> list[tuple[str, int]]:
        """Return the alarms that came most often."""
        return self.by_alarm.most_common(most)

    def shares(self) -> dict[str, float]:
        """Return the share of each priority, critical ones with high, as the guide has it."""
        total = sum(self.by_priority.values())
        high = self.by_priority["high"] + self.by_priority["critical"]
        counts = {"low": self.by_priority["low"], "medium": self.by_priority["medium"], "high": high}
        return {name: count / total if total else 0.0 for name, count in counts.items()}

    def _raised(self, event: ev.AlarmRaised, t: datetime) -> None:
        alarm = _key(event)
        if alarm in self.active:
            return
        known = alarm in self.by_alarm or len(self.by_alarm) < KEPT
        self.announced += 1
        self.by_alarm[alarm if known else "others"] += 1
        self.by_priority[event.priority] += 1
        self.active[alarm] = t
        self._unknown.setdefault(alarm, t)
        self._window.append(t)
        self.most_in_window = max(self.most_in_window, len(self._window))
        if self._flood_since is None and len(self._window) >= FLOOD_FROM:
            self._flood_since = t
            self.floods += 1
        recent = self._recent.setdefault(alarm, deque(maxlen=CHATTER_FROM))
        recent.append(t)
        if len(recent) == CHATTER_FROM and t - recent[0] <= CHATTER_WINDOW:
            self.chattering[alarm] += 1

    def _known(self, alarm: str, t: datetime) -> None:
        since = self._unknown.pop(alarm, None)
        if since is not None:
            seconds = (t - since).total_seconds()
            self.acknowledged += 1
            self.acknowledge_s += seconds
            self.longest_unacknowledged_s = max(self.longest_unacknowledged_s, seconds)

    def _ebb(self, t: datetime) -> None:
        """Let what is older than the window go, and end a flood at the moment at which it was over."""
        while self._window and t - self._window[0] > FLOOD_WINDOW:
            over = self._window.popleft() + FLOOD_WINDOW
            if self._flood_since is not None and len(self._window) < FLOOD_BELOW:
                self.flood_s += (over - self._flood_since).total_seconds()
                self._flood_since = None


def figures(records: Iterable[Record]) -> AlarmFigures:
    """Return the figures of records, in order of time."""
    found = AlarmFigures()
    for record in records:
        found.take(record.event, datetime.fromisoformat(record.t))
    return found


def _key(event: ev.AlarmEvent) -> str:
    return f"{event.unit}/{event.alarm}" if event.unit else event.alarm
