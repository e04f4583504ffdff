"""How well the alarms serve: rate, flood, chatter, what stands for long, priorities, who answers how fast.

Pure: told what records say of alarms, in order of time, of one record or of several: one person watches many units, so
that rates and floods are of all of them together.  The bounds are those of ISA-18.2 and EEMUA 191 as they are commonly
given (general knowledge, not read in the standards).
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tilctl.journal import alarms as ev
from tilctl.journal.alarms import FIRST_OUT
from tilctl.journal.chain import Record
from tilctl.journal.lifecycle import BatchCreated, StateChanged

FLOOD_WINDOW = timedelta(minutes=10)
FLOOD_FROM = 10  # announcements within the window, for each operator
FLOOD_BELOW = 5  # a flood is over when the window has fewer
CHATTER_WINDOW = timedelta(minutes=1)
CHATTER_FROM = 3  # times that one alarm is raised within a minute
CHATTERS_FOR = timedelta(hours=1)  # for which an alarm counts as chattering afterwards (engineering default)
STALE_AFTER = timedelta(hours=24)
SETTLES = timedelta(seconds=2)  # within this time first-out sets a follower aside, which nobody was told of then
KEPT = 20_000  # ids that are told apart; the rest is counted together
GUIDE = {"low": 0.80, "medium": 0.15, "high": 0.05}  # shares of the priorities; critical ones belong to high there


@dataclass(frozen=True, slots=True)
class _Fresh:
    """An announcement that first-out may take back yet."""

    alarm: str
    unit: str
    priority: str
    t: datetime


@dataclass
class AlarmFigures:
    """What was counted; times in s.  What was raised while it was set aside was announced to nobody."""

    by_alarm: Counter[str] = field(default_factory=Counter[str])
    by_priority: Counter[str] = field(default_factory=Counter[str])
    by_unit: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])  # (unit, priority)
    chattering: Counter[str] = field(default_factory=Counter[str])
    unannounced: int = 0
    floods: int = 0
    most_in_window: int = 0
    acknowledged: int = 0
    acknowledge_s: float = 0.0
    longest_unacknowledged_s: float = 0.0
    set_aside: Counter[str] = field(default_factory=Counter[str])
    again: Counter[str] = field(default_factory=Counter[str])
    first: datetime | None = None
    last: datetime | None = None
    active: dict[str, datetime] = field(default_factory=dict[str, datetime])
    _at: dict[str, set[str]] = field(default_factory=dict[str, set[str]])  # alarm -> records on which it is active
    _class: dict[str, tuple[str, bool]] = field(default_factory=dict[str, tuple[str, bool]])
    _aside: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    _unknown: dict[str, datetime] = field(default_factory=dict[str, datetime])
    _fresh: deque[_Fresh] = field(default_factory=deque[_Fresh])
    _ending: deque[tuple[datetime, str]] = field(default_factory=deque[tuple[datetime, str]])
    _window: deque[datetime] = field(default_factory=deque[datetime])
    _recent: dict[str, deque[datetime]] = field(default_factory=dict[str, deque[datetime]])
    _chattered: dict[str, datetime] = field(default_factory=dict[str, datetime])
    _flood_since: datetime | None = None
    _flood_s: float = 0.0

    def take(self, event: object, t: datetime, unit: str = "", source: str = "") -> None:
        """Take in what a record (`source`, of a batch on `unit`) says of a moment; what is of no alarm moves it on."""
        self.at(t)
        match event:
            case ev.AlarmRaised():
                self._raised(event, t, event.unit or unit, source)
            case ev.AlarmCleared():
                self._over(_key(event, unit), source)
            case ev.AlarmAcknowledged():
                self._known(event, _key(event, unit), t, source)
            case ev.AlarmSetAside():
                self._set_aside(event, _key(event, unit))
            case ev.AlarmSetBack():
                self._set_back(event, t, event.unit or unit)
            case ev.AlarmAgain():
                self.again[event.why] += 1
                if event.why == "re_alarm":
                    self._unknown[_key(event, unit)] = t
            case StateChanged() if event.path == "" and event.to_state == "idle":
                self._ending.append((t, source))  # what still holds goes on with the idle unit
            case _:
                pass

    def at(self, now: datetime) -> None:
        """Move on to a moment: floods end by themselves."""
        self.first = now if self.first is None else self.first
        self.last = now if self.last is None else max(self.last, now)
        while self._fresh and now - self._fresh[0].t > SETTLES:
            self._announced(self._fresh.popleft())
        while self._ending and now - self._ending[0][0] > SETTLES:
            self._end(self._ending.popleft()[1])
        self._ebb(now)

    @property
    def announced(self) -> int:
        """How many alarms people were told of."""
        return sum(self.by_priority.values())

    @property
    def in_flood(self) -> bool:
        """Whether more alarms come than a person can answer."""
        return self._flood_since is not None

    @property
    def flood_s(self) -> float:
        """How long there was a flood, s; with one that goes on, up to the last moment."""
        if self._flood_since is None or self.last is None:
            return self._flood_s
        return self._flood_s + (self.last - self._flood_since).total_seconds()

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

    def chatters(self, now: datetime) -> list[str]:
        """Return the alarms that have chattered within the last hour."""
        self._chattered = {alarm: t for alarm, t in self._chattered.items() if now - t <= CHATTERS_FOR}
        return sorted(self._chattered)

    def top(self, most: int = 10) -> list[tuple[str, int]]:
        """Return the alarms that came most often."""
        return self.by_alarm.most_common(most)

    def shares(self) -> dict[str, float]:
        """Return the share of each priority, critical ones with high, as the guide has it."""
        total = self.announced
        high = self.by_priority["high"] + self.by_priority["critical"]
        counts = {"low": self.by_priority["low"], "medium": self.by_priority["medium"], "high": high}
        return {name: count / total if total else 0.0 for name, count in counts.items()}

    def settle(self) -> None:
        """Count what first-out could still take back: nothing follows."""
        while self._fresh:
            self._announced(self._fresh.popleft())
        while self._ending:
            self._end(self._ending.popleft()[1])

    def _end(self, source: str) -> None:
        """Let go of a record whose batch was put away."""
        for alarm in [alarm for alarm, at in self._at.items() if source in at]:
            self._over(alarm, source)
            if alarm not in self.active:
                self._unknown.pop(alarm, None)

    def _raised(self, event: ev.AlarmRaised, t: datetime, unit: str, source: str) -> None:
        alarm = _key(event, unit)
        at = self._at.setdefault(alarm, set())
        handed_over = bool(at)  # it goes on, on another record
        at.add(source)
        if handed_over:
            return
        self.active[alarm] = t
        self._class[alarm] = (event.priority, event.latching)
        self._unknown.setdefault(alarm, t)
        if self._aside.get(alarm):
            self.unannounced += 1
        else:
            self._fresh.append(_Fresh(alarm, unit, event.priority, t))

    def _announced(self, fresh: _Fresh) -> None:
        alarm, t = fresh.alarm, fresh.t
        known = alarm in self.by_alarm or len(self.by_alarm) < KEPT
        self.by_alarm[alarm if known else "others"] += 1
        self.by_priority[fresh.priority] += 1
        self.by_unit[fresh.unit, fresh.priority] += 1
        self._ebb(t)
        self._window.append(t)
        self.most_in_window = max(self.most_in_window, len(self._window))
        if self._flood_since is None and len(self._window) >= FLOOD_FROM:
            self._flood_since = t
            self.floods += 1
        if len(self._recent) >= KEPT:
            self._recent = {name: each for name, each in self._recent.items() if t - each[-1] <= CHATTER_WINDOW}
        recent = self._recent.setdefault(alarm, deque(maxlen=CHATTER_FROM))
        recent.append(t)
        if len(recent) == CHATTER_FROM and t - recent[0] <= CHATTER_WINDOW:
            self.chattering[alarm] += 1
            self._chattered[alarm] = t

    def _over(self, alarm: str, source: str) -> None:
        at = self._at.get(alarm, set())
        at.discard(source)
        if at:
            return
        self._at.pop(alarm, None)
        self.active.pop(alarm, None)
        priority, latching = self._class.pop(alarm, ("", False))
        if priority == "low" and not latching:
            self._unknown.pop(alarm, None)  # nobody is asked

    def _known(self, event: ev.AlarmAcknowledged, alarm: str, t: datetime, source: str) -> None:
        if self._at.get(alarm, set()) - {source}:
            return  # handed over: it waits for a person on the other record
        since = self._unknown.pop(alarm, None)
        if since is not None and event.by != FIRST_OUT:
            seconds = (t - since).total_seconds()
            self.acknowledged += 1
            self.acknowledge_s += seconds
            self.longest_unacknowledged_s = max(self.longest_unacknowledged_s, seconds)

    def _set_aside(self, event: ev.AlarmSetAside, alarm: str) -> None:
        self.set_aside[event.how] += 1
        self._aside.setdefault(alarm, set()).add(event.how)
        if event.by == FIRST_OUT:
            kept = deque(each for each in self._fresh if each.alarm != alarm)
            self.unannounced += len(self._fresh) - len(kept)
            self._fresh = kept

    def _set_back(self, event: ev.AlarmSetBack, t: datetime, unit: str) -> None:
        alarm = _key(event, unit)
        aside = self._aside.get(alarm, set())
        if event.how not in aside:
            return
        aside.discard(event.how)
        if not aside:
            del self._aside[alarm]
            if alarm in self.active:
                self._fresh.append(_Fresh(alarm, unit, self._class[alarm][0], t))

    def _ebb(self, t: datetime) -> None:
        """Let what is older than the window go, and end a flood at the moment at which it was over."""
        while self._window and t - self._window[0] > FLOOD_WINDOW:
            over = self._window.popleft() + FLOOD_WINDOW
            if self._flood_since is not None and len(self._window) < FLOOD_BELOW:
                self._flood_s += (over - self._flood_since).total_seconds()
                self._flood_since = None


def figures(records: Sequence[Record]) -> AlarmFigures:
    """Return the figures of one record."""
    return merged({"": records})


def merged(sources: Mapping[str, Sequence[Record]]) -> AlarmFigures:
    """Return the figures of several records together, by time, as one person saw them."""
    found = AlarmFigures()
    streams = [_of(name, records) for name, records in sources.items()]
    # At one moment what is raised comes first: a batch takes an alarm over before the idle unit lets it go.
    for t, record, unit, source in heapq.merge(*streams, key=lambda each: (each[0], _place(each[1]))):
        found.take(record.event, t, unit, source)
    found.settle()
    return found


def _of(source: str, records: Iterable[Record]) -> Iterator[tuple[datetime, Record, str, str]]:
    unit = ""
    for record in records:
        if isinstance(record.event, BatchCreated):
            unit = record.event.unit
        yield datetime.fromisoformat(record.t), record, unit, source


def _place(record: Record) -> bool:
    return not isinstance(record.event, ev.AlarmRaised)


def _key(event: ev.AlarmEvent, unit: str) -> str:
    whose = event.unit or unit
    return f"{whose}/{event.alarm}" if whose else event.alarm
