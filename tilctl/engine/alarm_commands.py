"""What people do to alarms: acknowledge, reset, shelve, take out of service; and what may not be done.

Pure: a command and the desk that it is about give events for the record, or a refusal.  Who did it is what the command
says of its sender; identities that are proven do not exist yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches

from devices.quantity import QuantityError, parse_as
from tilctl.engine.port import Command, Outcome
from tilctl.engine.state import format_time
from tilctl.guard.alarm import LATCHED, WAITING, AlarmState
from tilctl.guard.book import Alarm
from tilctl.guard.desk import Desk
from tilctl.journal import alarms as ev
from tilctl.journal.store import Journal

SHELVE_AT_MOST_S: Mapping[str, float] = {"critical": 0.0, "high": 1800.0, "medium": 8 * 3600.0, "low": 24 * 3600.0}
"""s for which an alarm may be shelved, by priority; a critical one may not (recommendation after ISA-18.2)."""
SHELVE_AT_LEAST_S = 60.0  # s; less is over before anybody has looked (engineering default)
ALL = "*"
VERBS = ("ack", "alarm-reset", "shelve", "unshelve", "out-of-service", "in-service")


@dataclass(frozen=True, slots=True)
class Refused(Exception):
    """A command that cannot be carried out: the code and the text of its answer."""

    code: str
    text: str

    @property
    def outcome(self) -> Outcome:
        """Return it as an answer."""
        return Outcome("already" if not self.code else "refused", self.code, self.text)


async def carried_out(command: Command, desks: Sequence[Desk], now: datetime, site: Journal, batch: Journal) -> Outcome:
    """Put on record what a command about alarms leads to; returns its answer.  Raises JournalError."""
    try:
        events = planned(command, desks, now)
    except Refused as refused:
        return refused.outcome
    await asyncio.gather(*((site if desk.unit else batch).append(event) for desk, event in events))
    names = [event.alarm for _, event in events]
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return Outcome("done", "", f"{command.verb}: {shown}")


def planned(command: Command, desks: Sequence[Desk], now: datetime) -> list[tuple[Desk, ev.AlarmEvent]]:
    """Return the events that a command about alarms leads to, each with its desk; raises Refused.

    `desks` are those of the unit: of its batch first, then of the idle unit, which may have something that waits.
    """
    name = str(command.args["alarm"])
    by = command.actor or command.client
    if command.verb == "ack" and name == ALL:
        found = [(desk, ev.AlarmAcknowledged(a.id, by, desk.unit)) for desk in desks for a in desk.book if a.waiting]
        if not found:
            raise Refused("", "no alarm waits to be acknowledged")
        return [*found]
    if name == ALL:
        raise Refused("malformed", f"{command.verb} is for one alarm, which is named: only `ack` takes {ALL}")
    desk, alarm = _find(name, desks, command.verb)
    match command.verb:
        case "ack":
            return [(desk, _acknowledge(desk, name, alarm, by))]
        case "alarm-reset":
            return [(desk, _reset(desk, name, alarm, by))]
        case "shelve":
            return [(desk, _shelve(desk, name, alarm, command, now))]
        case "out-of-service":
            return [(desk, _take_out(desk, name, alarm, command))]
        case _:
            return [(desk, _back(desk, name, alarm, command))]


def _find(name: str, desks: Sequence[Desk], verb: str) -> tuple[Desk, Alarm | None]:
    """Return the desk that an alarm is at, and what its book says; None where that is that it is normal.

    One may be at two: over and unknown in the idle unit, new in its batch. It is where the verb has something to do.
    """
    at = [(desk, alarm) for desk in desks if (alarm := desk.book.get(name)) is not None]
    if at:
        return next(((desk, alarm) for desk, alarm in at if _fits(alarm, verb)), at[0])
    for desk in desks:
        if name in desk.declared:
            return desk, None
    known = sorted({alarm.id for desk in desks for alarm in desk.book} | {n for desk in desks for n in desk.declared})
    near = ", ".join(get_close_matches(name, known, n=8, cutoff=0.4) or known[:8]) or "none"
    raise Refused("no_alarm", f"no alarm is called {name!r} here; known: {near} (see `tilctl alarm list`)")


def _fits(alarm: Alarm, verb: str) -> bool:
    match verb:
        case "ack":
            return alarm.state in WAITING
        case "alarm-reset":
            return alarm.state in LATCHED
        case "unshelve":
            return "shelved" in alarm.aside
        case "in-service":
            return "out_of_service" in alarm.aside
        case _:
            return True


def _acknowledge(desk: Desk, name: str, alarm: Alarm | None, by: str) -> ev.AlarmEvent:
    if alarm is None or alarm.state is AlarmState.NORMAL:
        raise Refused("", f"{name} is normal: there is nothing to acknowledge")
    if alarm.state in (AlarmState.ACKNOWLEDGED, AlarmState.LATCHED_ACKNOWLEDGED):
        raise Refused("", f"{name} was acknowledged by {alarm.by}")
    return ev.AlarmAcknowledged(name, by, desk.unit)


def _reset(desk: Desk, name: str, alarm: Alarm | None, by: str) -> ev.AlarmEvent:
    if alarm is None or alarm.state is AlarmState.NORMAL:
        raise Refused("", f"{name} is normal: there is nothing to reset")
    if alarm.state not in LATCHED:
        raise Refused(
            "illegal_state", f"{name} is {alarm.state}: only a latched alarm whose condition is over is reset"
        )
    if alarm.state is AlarmState.LATCHED_UNACKNOWLEDGED:
        raise Refused("illegal_state", f"{name} is not acknowledged yet: acknowledge it first, then reset it")
    return ev.AlarmReset(name, by, desk.unit)


def _shelve(desk: Desk, name: str, alarm: Alarm | None, command: Command, now: datetime) -> ev.AlarmEvent:
    reason = _reason(command)
    priority = alarm.priority if alarm is not None and alarm.priority else desk.declared.get(name, "")
    if not priority:
        raise Refused("no_alarm", f"{name} is declared no more: there is nothing to shelve")
    most = SHELVE_AT_MOST_S[priority]
    if most <= 0:
        raise Refused("not_shelvable", f"{name} is {priority}: it cannot be shelved, acknowledge it and act")
    text = str(command.args["for_"])
    try:
        seconds = parse_as(text, "s")
    except QuantityError as error:
        raise Refused("malformed", f"for: {error}") from None
    if not SHELVE_AT_LEAST_S <= seconds <= most:
        least = SHELVE_AT_LEAST_S / 60
        raise Refused("not_shelvable", f"{name} is {priority}: {least:g} to {most / 60:g} min, not {text}")
    if alarm is not None and "shelved" in alarm.aside:
        raise Refused("illegal_state", f"{name} is shelved already, by {alarm.aside['shelved'].by}: unshelve it first")
    until = format_time(now + timedelta(seconds=seconds))
    return ev.AlarmSetAside(
        name, "shelved", command.actor or command.client, reason, until, bool(command.args["once"]), unit=desk.unit
    )


def _take_out(desk: Desk, name: str, alarm: Alarm | None, command: Command) -> ev.AlarmEvent:
    reason = _reason(command)
    if not command.actor:
        raise Refused("needs_actor", "who takes it out of service? name yourself (--as USER:ROLE)")
    if alarm is not None and "out_of_service" in alarm.aside:
        raise Refused("", f"{name} is out of service already, by {alarm.aside['out_of_service'].by}")
    order = str(command.args["work_order"])
    return ev.AlarmSetAside(name, "out_of_service", command.actor, reason, work_order=order, unit=desk.unit)


def _back(desk: Desk, name: str, alarm: Alarm | None, command: Command) -> ev.AlarmEvent:
    how: ev.Aside = "shelved" if command.verb == "unshelve" else "out_of_service"
    if alarm is None or how not in alarm.aside:
        raise Refused("", f"{name} is not {how.replace('_', ' ')}")
    return ev.AlarmSetBack(name, how, command.actor or command.client, command.reason, desk.unit)


def _reason(command: Command) -> str:
    if not command.reason:
        raise Refused("needs_reason", f"{command.verb} needs a reason, for the record (--reason TEXT)")
    return command.reason
