"""The alarms of one unit, or of the site: noted on its record, announced again in time, set aside and set back.

What it knows is the book, which is folded from that record; what it does is an event.  It never raises, and waits for
nothing: who is told of an alarm, and how, is the affair of those who look on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from devices.clock import Clock
from tilctl.guard.alarm import WAITING, AlarmState
from tilctl.guard.board import Watch
from tilctl.guard.book import Alarm, AlarmBook, SetAside
from tilctl.guard.catalog import RE_ALARM_S, Details, blinded_by, built_in
from tilctl.guard.fluid_rules import rule_of
from tilctl.journal import alarms as ev
from tilctl.journal.alarms import FIRST_OUT

RANK: Mapping[str, int] = {"critical": 3, "high": 2, "medium": 1, "low": 0, "": -1}
ESCALATES = ("critical", "high")
ESCALATE_S = 1800.0
"""s that an alarm of these priorities may wait for a person before the next one is told (engineering default)."""
ESCALATIONS = 5  # how often
BY_DESIGN, BY_CLOCK = "design", "clock"
STEPPED_S = 60.0  # s by which the clock has to be set back for what it says to be no measure any more
RETRY_S = 300.0  # s until what is due is noted again, where the record did not take it


class Desk:
    """Who raises and clears alarms does it here."""

    def __init__(self, clock: Clock, note: Callable[[ev.AlarmEvent], object], book: AlarmBook, unit: str = "") -> None:
        """`note` puts an event on the record that `book` is folded from; `unit` as events of that record say it."""
        self.book = book
        self._clock = clock
        self._note = note
        self.unit = unit
        self._details: dict[str, Details] = {}
        self.declared: dict[str, str] = {}  # alarms of site, profiles and recipe that there may be -> priority
        self.escalate_s = ESCALATE_S  # s that one may wait for a person before the next one is told
        self._timer: asyncio.Task[None] | None = None
        self._due: datetime | None = None
        self._seeing: asyncio.Handle | None = None
        self._closed = False
        self._last: dict[str, bool] = {}  # alarm -> whether it was raised (or ended) last; its commit may be under way

    def stands(self, alarm: str) -> bool:
        """Return whether an alarm is active, by what was noted last.

        Invariant: not by the book, which is behind while a commit is under way; what ends and comes again meanwhile
        would be lost.
        """
        return self._last.get(alarm, alarm in self.book.active)

    def standing(self) -> list[str]:
        """Return the alarms that are active, by what was noted last."""
        return [alarm for alarm in dict.fromkeys((*self.book.active, *self._last)) if self.stands(alarm)]

    def known(self, watches: Iterable[Watch]) -> None:
        """Learn which alarms there may be, and how they behave."""
        for watch in watches:
            self._details[watch.id] = watch.details
            self.declared[watch.id] = watch.priority
            if watch.devices:  # one silent instrument blinds many conditions: the first of them is announced
                unknown = f"{watch.id}-invalid"
                self._details[unknown] = Details(group=blinded_by(min(watch.devices)), help=built_in(unknown))

    def explain(self, alarm: str, help_: Mapping[str, str], group: str = "") -> None:
        """Learn what a person is told of an alarm (cause, consequence, action, time allowed), and its group."""
        about = self.details(alarm)
        self._details[alarm] = replace(about, help=help_ or about.help, group=group)

    def details(self, alarm: str) -> Details:
        """Return how an alarm behaves."""
        known = self._details.get(alarm)
        if known is not None:
            return known
        rule = rule_of(alarm)
        return Details(help=built_in(alarm) if rule is None else rule.help)

    def raise_(
        self, alarm: str, priority: ev.Priority, text: str, path: str = "", values: Mapping[str, Any] | None = None
    ) -> None:
        """Raise an alarm, once while it is active."""
        if self.stands(alarm):
            return
        self._last[alarm] = True
        about = self.details(alarm)
        self._note(
            ev.AlarmRaised(
                alarm, priority, text, path, dict(values or {}), self.unit, about.latching, about.group, {**about.help}
            )
        )  # fmt: skip

    def clear(self, alarm: str) -> None:
        """End an alarm: its condition is over."""
        self._last[alarm] = False
        self._note(ev.AlarmCleared(alarm, self.unit))

    def hand_over(self, alarm: str, to: str) -> None:
        """End an alarm here, for it goes on at another desk, which announces it."""
        known = self.book.get(alarm)
        self._last[alarm] = False
        self._note(ev.AlarmAcknowledged(alarm, to, self.unit))
        self._note(ev.AlarmCleared(alarm, self.unit))
        if known is not None and known.latching:
            self._note(ev.AlarmReset(alarm, to, self.unit))

    def by_design(self, alarm: str, suppressed: bool) -> None:
        """Suppress an alarm by design, or no longer."""
        if suppressed:
            reason = "its `unless` holds"
            self._note(ev.AlarmSetAside(alarm, "suppressed", BY_DESIGN, reason, unit=self.unit))
        else:
            self._note(ev.AlarmSetBack(alarm, "suppressed", BY_DESIGN, unit=self.unit))

    def take_over(self, other: Desk) -> None:
        """Set aside here, and no more there, what is set aside at another desk: the unit has a batch now, or no more.

        What only a recipe knows stays behind: it is another alarm in the next batch.
        """
        self.set_aside_as(other)
        other.gone_over(self)

    def set_aside_as(self, other: Desk, alone: str = "") -> None:
        """Set aside here too what is set aside at another desk; `alone` is the only alarm that is, "" for all."""
        for alarm in list(other.book):
            if alone not in ("", alarm.id):
                continue
            for how, flag in alarm.aside.items():
                if flag.by == FIRST_OUT or not self.knows(alarm.id):
                    continue
                mine = self.book.get(alarm.id)
                if mine is None or how not in mine.aside:
                    until = None if flag.until is None else _text(flag.until)
                    self._note(
                        ev.AlarmSetAside(
                            alarm.id, _aside(how), flag.by, flag.reason, until, flag.once, flag.work_order, self.unit
                        )
                    )  # fmt: skip

    def gone_over(self, to: Desk, alone: str = "") -> None:
        """End here what sets alarms aside: it goes on at another desk, where what is active has to go first.

        Invariant: what is active and set back is announced, be it for a moment.
        """
        for alarm in list(self.book):
            if alone in ("", alarm.id) and to.knows(alarm.id):
                for how, flag in alarm.aside.items():
                    if flag.by != FIRST_OUT:
                        reason = "it goes on there"
                        self._note(ev.AlarmSetBack(alarm.id, _aside(how), to.unit or "batch", reason, self.unit))

    def knows(self, alarm: str) -> bool:
        """Return whether an alarm is one of those that there may be here."""
        return bool({alarm, alarm.removesuffix("-invalid"), alarm.removeprefix("internal-error-")} & {*self.declared})

    def changed(self) -> None:
        """See, once for all that happened in this turn of the loop, to what follows from the book as it is now."""
        if self._seeing is None and not self._closed:
            self._seeing = asyncio.get_running_loop().call_soon(self._see)

    def _see(self) -> None:
        """See to first-out groups, and to when something is due."""
        self._seeing = None
        for event in self._first_out():
            self._note(event)
        self._plan()

    def close(self) -> None:
        """Wait for nothing any more."""
        self._closed = True  # what was noted before may still be told
        if self._seeing is not None:
            self._seeing.cancel()
            self._seeing = None
        self._rest()

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._due = None

    def _first_out(self) -> list[ev.AlarmEvent]:
        """Return what sets the followers of a group aside, and back when their first is over."""
        found: list[ev.AlarmEvent] = []
        firsts = self.book.firsts()
        for alarm in self.book:
            flag = alarm.aside.get("suppressed")
            mine = flag is not None and flag.by == FIRST_OUT
            others = any(flag.by != FIRST_OUT for flag in alarm.aside.values())
            first = firsts.get(alarm.group) if alarm.active and not others else None
            # Invariant: what came first hides nothing that is worse.
            hidden = first is not None and first.id != alarm.id and RANK[first.priority] >= RANK[alarm.priority]
            if first is not None and hidden and not mine:
                reason = f"{first.id} came first"
                found.append(ev.AlarmSetAside(alarm.id, "suppressed", FIRST_OUT, reason, unit=self.unit))
            elif mine and not hidden:
                if alarm.state is AlarmState.RETURNED:  # it came and went behind its first, which a person knows of
                    found.append(ev.AlarmAcknowledged(alarm.id, FIRST_OUT, self.unit))
                found.append(ev.AlarmSetBack(alarm.id, "suppressed", FIRST_OUT, unit=self.unit))
        return found

    def _plan(self) -> None:
        now = self._clock.now()
        self._wake_at(min((when for alarm in self.book if (when := self._when(alarm, now)) is not None), default=None))

    def _wake_at(self, due: datetime | None) -> None:
        if due == self._due and self._timer is not None:
            return
        self._rest()
        self._due = due
        if due is not None:
            self._timer = asyncio.create_task(self._wait(due), name=f"alarms:{self.unit}")

    async def _wait(self, due: datetime) -> None:
        await self._clock.sleep(max(0.0, (due - self._clock.now()).total_seconds()))
        self._timer = self._due = None
        self._on_time(self._clock.now())

    def _on_time(self, now: datetime) -> None:
        noted = False
        for alarm in list(self.book):
            when = self._when(alarm, now)
            if when is not None and when <= now:
                noted = True
                for event in self._overdue(alarm, now):
                    self._note(event)
        if noted:  # what was noted comes back as a change of the book, which plans anew; a dead record brings nothing
            self._wake_at(now + timedelta(seconds=RETRY_S))
        else:  # a timer of the system may fire a hair early
            self._plan()

    def _when(self, alarm: Alarm, now: datetime) -> datetime | None:
        """Return when something is due of an alarm, seen from now."""
        found = [until for flag in alarm.aside.values() if (until := _end(flag, now)) is not None]
        if not alarm.aside and alarm.announced is not None:
            again = self._again(alarm)
            if alarm.state is AlarmState.ACKNOWLEDGED and again is not None:
                found.append(_due(alarm.announced, again, now))
            elif self._escalates(alarm):
                found.append(_due(alarm.announced, self.escalate_s, now))
        return min(found, default=None)

    def _overdue(self, alarm: Alarm, now: datetime) -> list[ev.AlarmEvent]:
        ends = {how: _end(flag, now) for how, flag in alarm.aside.items()}
        over = [how for how, until in ends.items() if until is not None and until <= now]
        if over:
            return [ev.AlarmSetBack(alarm.id, _aside(how), BY_CLOCK, "its time is over", self.unit) for how in over]
        why = "re_alarm" if alarm.state is AlarmState.ACKNOWLEDGED else "escalated"
        return [ev.AlarmAgain(alarm.id, why, self.unit)]

    def _again(self, alarm: Alarm) -> float | None:
        about = self._details.get(alarm.id)
        given = None if about is None else about.re_alarm
        return RE_ALARM_S.get(alarm.priority) if given is None else given

    def _escalates(self, alarm: Alarm) -> bool:
        return alarm.state in WAITING and alarm.priority in ESCALATES and alarm.escalated < ESCALATIONS


def _set_back(since: datetime, now: datetime) -> bool:
    """Return whether the clock was set back since: what lies in the future has begun all the same."""
    return since - now > timedelta(seconds=STEPPED_S)


def _due(since: datetime, seconds: float, now: datetime) -> datetime:
    return now if _set_back(since, now) else since + timedelta(seconds=seconds)


def _end(flag: SetAside, now: datetime) -> datetime | None:
    """Return when something ends that sets an alarm aside; at once where the clock was set back to before it began."""
    return now if flag.until is not None and _set_back(flag.since, now) else flag.until


def _aside(how: str) -> ev.Aside:
    match how:
        case "shelved" | "suppressed" | "out_of_service":
            return how
        case _:
            raise ValueError(f"{how!r} is no way to set an alarm aside")


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
