"""What happens to alarms, as `almevt/<unit>` tells it: from which state to which, why, by whom, where on record.

It keeps books of its own, folded from the records as they are committed, so that each transition is told with the state
that it left, also where several were committed at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from tilctl.guard.alarm import AlarmState
from tilctl.guard.book import Alarm, AlarmBook
from tilctl.journal import alarms as ev
from tilctl.journal.alarms import FIRST_OUT
from tilctl.journal.chain import Record

_BESIDE = ("kind", "unit", "help")  # told otherwise, or retained with the alarm


class Transitions:
    """The books of each record: of a unit's batch, and of the site for each unit."""

    def __init__(self) -> None:
        self._books: dict[tuple[str, str], AlarmBook] = {}  # (whose record, whose alarm) -> book

    def attach(self, unit: str, journal: str, records: Iterable[Record]) -> None:
        """Take up a record (of the site: unit `site`) with what is on it."""
        for key in [key for key in self._books if key[0] == unit]:
            del self._books[key]
        for record in records:
            if record.event.kind.startswith("alarm_"):
                self.told(unit, journal, record)

    def told(self, unit: str, journal: str, record: Record) -> tuple[str, dict[str, Any]] | None:
        """Take in a record; return whose alarm it is about and what is told of it, None where of no alarm."""
        event = record.event
        if not isinstance(event, ev.AlarmEvent):
            return None
        whose = event.unit or unit
        book = self._books.setdefault((unit, whose), AlarmBook())
        before = book.get(event.alarm)
        book.apply(event, datetime.fromisoformat(record.t), record.seq)
        return whose, {
            **{key: value for key, value in asdict(event).items() if key not in _BESIDE},
            "transition": event.kind,
            "unit": whose,
            **_of(before, book.get(event.alarm)),
            "t": record.t,
            "seq": record.seq,
            "journal": journal,
        }


def _of(before: Alarm | None, after: Alarm | None) -> dict[str, Any]:
    """Return what the book knows of a transition: the states, what it was about, and how it is set aside now."""
    known = after or before
    told: dict[str, Any] = {"from": _state(before), "to": _state(after)}
    if known is not None:
        first = known.aside.get("suppressed")
        told |= {"priority": known.priority, "text": known.text, "path": known.path, "values": known.values}
        told |= {"group": known.group, "since_seq": known.seq}
        if after is not None:
            told["aside"] = sorted(after.aside)
        if first is not None and first.by == FIRST_OUT:
            told["suppressed_by"] = first.reason
    return told


def _state(alarm: Alarm | None) -> str:
    return (AlarmState.NORMAL if alarm is None else alarm.state).value
