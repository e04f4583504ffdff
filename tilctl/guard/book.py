"""The book of alarms: what the record says of each that is not normal, or set aside.  Pure; changed only by events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from tilctl.guard.alarm import ACTIVE, WAITING, AlarmState, Trigger, clearing, next_state
from tilctl.journal import alarms as ev
from tilctl.journal.alarms import FIRST_OUT


@dataclass(frozen=True, slots=True)
class SetAside:
    """One way in which an alarm is not announced; `until` None has no end of its own."""

    by: str
    reason: str
    since: datetime
    until: datetime | None = None
    once: bool = False
    work_order: str = ""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm that is on the book; `since` is when it was last raised, `seq` where on the record that stands."""

    id: str
    priority: str
    text: str
    since: datetime
    path: str
    state: AlarmState = AlarmState.UNACKNOWLEDGED
    seq: int = 0
    latching: bool = False
    group: str = ""
    by: str = ""  # who acknowledged it
    announced: datetime | None = None  # dues count on from here: it began to wait, was acknowledged, announced anew
    over: datetime | None = None  # when its condition was over
    escalated: int = 0
    aside: dict[str, SetAside] = field(default_factory=dict[str, SetAside])
    help: dict[str, str] = field(default_factory=dict[str, str])
    values: dict[str, object] = field(default_factory=dict[str, object])

    @property
    def active(self) -> bool:
        """Whether its condition holds."""
        return self.state in ACTIVE

    @property
    def waiting(self) -> bool:
        """Whether a person has to say that he knows, and is told so."""
        return self.state in WAITING and not self.aside

    @property
    def announceable(self) -> bool:
        """Whether it is shown as an alarm at all: not normal, and not set aside."""
        return self.state is not AlarmState.NORMAL and not self.aside


@dataclass
class AlarmBook:
    """All alarms of one unit, or of a site; `active` are those whose condition holds."""

    active: dict[str, Alarm] = field(default_factory=dict[str, Alarm])
    entries: dict[str, Alarm] = field(default_factory=dict[str, Alarm])

    def get(self, alarm: str) -> Alarm | None:
        """Return an alarm that is not normal, or set aside; None for any other."""
        return self.entries.get(alarm)

    def __iter__(self) -> Iterator[Alarm]:
        return iter(self.entries.values())

    def firsts(self) -> dict[str, Alarm]:
        """Return the first active alarm of each first-out group, by its place on the record.

        Invariant: one that a person or the design has set aside is no first; it would hide what nobody is told of.
        """
        found: dict[str, Alarm] = {}
        for alarm in self.active.values():
            if alarm.group and all(flag.by == FIRST_OUT for flag in alarm.aside.values()):
                first = found.get(alarm.group)
                found[alarm.group] = alarm if first is None or alarm.seq < first.seq else first
        return found

    def apply(self, event: ev.AlarmEvent, t: datetime, seq: int) -> None:
        """Take in what the record says of an alarm."""
        known = self.entries.get(event.alarm)
        match event:
            case ev.AlarmRaised():
                self._raised(event, known, t, seq)
            case ev.AlarmSetAside():
                entry = known or Alarm(event.alarm, "", "", t, "", AlarmState.NORMAL, seq)
                until = None if event.until is None else datetime.fromisoformat(event.until).astimezone(UTC)
                flag = SetAside(event.by, event.reason, t, until, event.once, event.work_order)
                self._keep(replace(entry, aside={**entry.aside, event.how: flag}))
            case ev.AlarmSetBack() if known is not None:
                aside = {how: flag for how, flag in known.aside.items() if how != event.how}
                self._keep(replace(known, aside=aside, announced=known.announced if aside else t))
            case ev.AlarmCleared() if known is not None:
                self._over(known, t)
            case ev.AlarmAcknowledged() if known is not None:
                self._moved(known, Trigger.ACKNOWLEDGE, by=event.by, announced=t, escalated=0)
            case ev.AlarmReset() if known is not None:
                self._moved(known, Trigger.RESET)
            case ev.AlarmAgain() if known is not None:
                again = replace(known, announced=t, escalated=known.escalated + (event.why == "escalated"))
                self._keep(again)
                if event.why == "re_alarm":
                    self._moved(again, Trigger.AGAIN, by="")
            case _:
                pass  # of one that is normal: nothing to end

    def _raised(self, event: ev.AlarmRaised, known: Alarm | None, t: datetime, seq: int) -> None:
        if known is not None and known.active:
            return  # Invariant: raised twice is one alarm, with the moment of the first
        # Invariant: who has not been answered waits on; what comes and goes would never reach the next person.
        waits = known if known is not None and known.state in WAITING else None
        announced, escalated = (t, 0) if waits is None else (waits.announced, waits.escalated)
        self._keep(
            Alarm(
                event.alarm, event.priority, event.text, t, event.path, AlarmState.UNACKNOWLEDGED, seq, event.latching,
                event.group, "", announced, None, escalated, {} if known is None else known.aside, dict(event.help),
                dict(event.values),
            )
        )  # fmt: skip

    def _over(self, known: Alarm, t: datetime) -> None:
        if not known.active:
            return
        # One that was shelved until it is over is shelved no longer; who was not told is told from now on.
        aside = {how: flag for how, flag in known.aside.items() if not flag.once}
        announced = t if known.aside and not aside else known.announced
        trigger = clearing(known.priority, latching=known.latching)
        self._moved(known, trigger, over=t, aside=aside, announced=announced)

    def _moved(self, known: Alarm, trigger: Trigger, **changes: Any) -> None:
        state = next_state(known.state, trigger)
        if state is not None:
            self._keep(replace(known, state=state, **changes))

    def _keep(self, alarm: Alarm) -> None:
        if alarm.active:
            self.active[alarm.id] = alarm
        else:
            self.active.pop(alarm.id, None)
        if alarm.state is AlarmState.NORMAL and not alarm.aside:
            self.entries.pop(alarm.id, None)
        else:
            self.entries[alarm.id] = alarm
