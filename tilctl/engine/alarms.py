"""The alarms of all units and of the site: whose desk they are noted at, and when they are judged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime

import structlog

from devices.clock import Clock
from tilctl.config import Site
from tilctl.engine import site_watches
from tilctl.engine.beside import ALARMS_KEPT
from tilctl.engine.port import SITE
from tilctl.engine.slot import Slot, suppressed_by_design
from tilctl.engine.state import parse_time
from tilctl.engine.telling import Teller
from tilctl.guard.board import Action, GuardBoard, Reactions
from tilctl.guard.book import AlarmBook
from tilctl.guard.desk import Desk
from tilctl.journal import alarms as ev
from tilctl.journal.chain import Record
from tilctl.journal.events import EventError
from tilctl.journal.store import Journal, JournalError
from tilctl.plant.suite import Suite


class Alarms:
    """One for a controller.  Invariant: judged with and without batches, in every mode, whoever owns a device."""

    def __init__(self, site: Site, clock: Clock, suite: Suite, journal: Callable[[], Journal | None]) -> None:
        """`journal` is the site's, None before it is open: the record of what no batch has."""
        self._site = site
        self._clock = clock
        self._suite = suite
        self._journal = journal
        self._board: GuardBoard | None = None
        self._slots: Mapping[str, Slot] = {}
        self._tell = Teller()
        self._lost: dict[tuple[str, str], tuple[datetime, ev.AlarmRaised | ev.AlarmCleared]] = {}
        self._log = structlog.get_logger("alarms")
        self.desks = {name: Desk(clock, self._note, AlarmBook(), name) for name in (*site.units, SITE)}
        for desk in self.desks.values():
            desk.escalate_s = site.notify.escalate

    def watch(self, slots: Mapping[str, Slot]) -> None:
        """Begin to watch.  Invariant: before anything is read, and before anything is done."""
        self._slots = slots
        for name, slot in slots.items():
            plant = self._suite.units[name]
            slot.watch(site_watches.of_unit(self._site, plant.site, plant.watched, self._suite.image))
        desk = self.desks[SITE]
        watches = site_watches.of_site(self._site, self._suite.image)
        desk.known(watches)
        reactions = Reactions(
            lambda alarm, priority, text, values: desk.raise_(alarm, priority, text, "", values),
            desk.clear, _nothing, desk.by_design,
        )  # fmt: skip
        book = desk.book
        self._board = GuardBoard(self._clock, watches, reactions, book.active, suppressed_by_design(book))
        desk.changed()

    def judge(self, device: str | None = None) -> None:
        """Judge what a reading of this device may change; everything where none is named."""
        self._note_lost()
        for slot in self._slots.values():
            self._tell((slot.judged,), device)
        if self._board is not None:
            self._tell((self._board.scan,), device)

    def take(self, record: Record) -> None:
        """Take in what the site's record says of an alarm."""
        match record.event:
            case (
                ev.AlarmRaised()
                | ev.AlarmCleared()
                | ev.AlarmAcknowledged()
                | ev.AlarmReset()
                | ev.AlarmAgain()
                | ev.AlarmSetAside()
                | ev.AlarmSetBack()
            ) as event if event.unit in self.desks:
                desk = self.desks[event.unit]
                desk.book.apply(event, parse_time(record.t), record.seq)
                if self._board is not None:  # not while the record is being read
                    desk.changed()
            case _:
                pass

    def close(self) -> None:
        """Wait for nothing any more."""
        for slot in self._slots.values():
            slot.close()
        for desk in self.desks.values():
            desk.close()

    def unnoted(self, unit: str) -> list[tuple[datetime, ev.AlarmRaised]]:
        """Return the alarms of a unit, or of the site, that are active and not on record, with since when."""
        return [
            (t, event)
            for (whose, _), (t, event) in self._lost.items()
            if whose == unit and isinstance(event, ev.AlarmRaised)
        ]

    def _note(self, event: ev.AlarmEvent) -> None:
        """Put an alarm on the site's record; where that is dead it is kept, shown, and noted when it is open again."""
        journal = self._journal()
        if journal is None or journal.failed:
            self._lose(event, "it is not open" if journal is None else "it has failed")
            return
        try:
            journal.append(event).add_done_callback(lambda done: self._noted(event, done))
        except (JournalError, EventError) as error:
            self._lose(event, str(error))

    def _noted(self, event: ev.AlarmEvent, done: asyncio.Future[Record]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            self._lose(event, str(error))

    def _lose(self, event: ev.AlarmEvent, why: str) -> None:
        self._log.error("alarm_not_on_record", alarm=event.alarm, unit=event.unit, kind=event.kind, why=why)
        key = (event.unit, event.alarm)
        on_record = event.unit in self.desks and event.alarm in self.desks[event.unit].book.active
        match event:
            case ev.AlarmCleared() if not on_record:
                self._lost.pop(key, None)
            case ev.AlarmRaised() if on_record:  # its end was lost, and so is that it came again: it is as it was
                self._lost.pop(key, None)
            case ev.AlarmRaised() | ev.AlarmCleared() if key in self._lost or len(self._lost) < ALARMS_KEPT:
                self._lost.setdefault(key, (self._clock.now(), event))
            case _:
                pass

    def _note_lost(self) -> None:
        """Note what could not be noted, once the record takes it again."""
        journal = self._journal()
        if self._lost and journal is not None and not journal.failed:
            lost, self._lost = self._lost, {}
            for _, event in lost.values():
                self._note(event)


def _nothing(_alarm: str, _action: Action, _text: str) -> None:
    """An alarm of the site alone holds no batch."""
