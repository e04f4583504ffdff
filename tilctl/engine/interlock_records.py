"""Where it is on record what stands of interlocks: with the batch, with the site, and with both when one is dead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from devices.clock import Clock
from tilctl.config.interlock import SITE
from tilctl.engine.runner import Runner
from tilctl.guard.judged import Either
from tilctl.guard.kept_rules import Kept, after, events_of
from tilctl.journal import interlock_events as ev
from tilctl.journal.chain import Record
from tilctl.journal.events import EventError, ExceptionRaised
from tilctl.journal.store import Journal, JournalError

_OF_A_BYPASS = (ev.InterlockBypassed, ev.BypassEnded)


class InterlockRecords:
    """Puts the events of interlocks on the record of the unit's batch, or on the site's where there is none."""

    def __init__(
        self, runners: Callable[[], Mapping[str, Runner]], journal: Callable[[], Journal | None], clock: Clock
    ) -> None:
        """Take what runs on each unit, and the site's record."""
        self._runners = runners
        self._journal = journal
        self._clock = clock
        self._by_site: dict[str, dict[str, Kept]] = {}  # what the site's record says, by unit
        self._unnoted: dict[tuple[str, str, bool], ev.InterlockEvent] = {}
        """Unit, rule and whether it is about its bypass -> what could not be put on record."""
        self._log = structlog.get_logger("interlocks")

    def found(self, unit: str, kept: Mapping[str, Kept]) -> None:
        """Take what the site's record alone says of a unit."""
        self._by_site[unit] = dict(kept)

    def left(self, unit: str, kept: Mapping[str, Kept]) -> list[ev.InterlockEvent]:
        """Return what the site's record has to say of a unit whose batch is put away, with what stands of it.

        Invariant: also what it says of a time before the batch and is over: the batch's record is not read any more.
        """
        told = events_of(unit, kept, "it stood when the batch was put away", self._by_site.get(unit, {}))
        for event in told:
            self._site_says(unit, event)
        return told

    async def record(self, judged: Either, event: ev.InterlockEvent) -> None:
        """Put it on the record, on disk when this returns; raises JournalError."""
        runner = self._runner(judged.unit)
        if runner is not None:
            await runner.batch.record(event)
            return
        journal = self._journal()
        if journal is None or journal.failed:
            raise JournalError("the site's record takes nothing")
        await journal.record(replace(event, unit=judged.unit))
        self._site_says(judged.unit, event)

    def note(self, unit: str, event: ev.InterlockEvent | ExceptionRaised) -> None:
        """Put it on the record of the unit's batch, or on the site's where there is none; never raises."""
        runner = self._runner(unit)
        if runner is None:
            self.put_on_site(unit, event)
            return
        noted = runner.batch.note(event)
        if isinstance(event, ExceptionRaised):
            return
        if noted is None:
            self._lost(unit, event)
        else:
            self._on_record(unit, event)
            noted.add_done_callback(lambda done: self._seen(unit, event, done))

    def put_on_site(self, unit: str, event: ev.InterlockEvent | ExceptionRaised) -> None:
        """Put it on the site's record; never raises."""
        journal = self._journal()
        try:
            if journal is not None and not journal.failed:
                journal.append(event if isinstance(event, ExceptionRaised) else replace(event, unit=unit))
                if not isinstance(event, ExceptionRaised):
                    self._on_record(unit, event)
                    self._site_says(unit, event)
                return
        except (JournalError, EventError) as error:
            self._log.error("record_failed", error=str(error))
        if not isinstance(event, ExceptionRaised):
            self._unnoted[_about(unit, event)] = event

    def note_lost(self) -> None:
        """Note what a record could not be told of, once it takes events again."""
        for (unit, _, _), event in list(self._unnoted.items()):
            runner = self._runner(unit)
            journal = self._journal() if runner is None else runner.batch.journal
            if journal is not None and not journal.failed and (runner is None or not runner.batch.record_failed):
                self.note(unit, event)

    def _runner(self, unit: str) -> Runner | None:
        return None if unit == SITE else self._runners().get(unit)

    def _seen(self, unit: str, event: ev.InterlockEvent, done: asyncio.Future[Record]) -> None:
        if not done.cancelled() and done.exception() is not None:
            self._lost(unit, event)

    def _lost(self, unit: str, event: ev.InterlockEvent) -> None:
        """Invariant: a latch outlives the record of its batch: meanwhile the site's has it."""
        self.put_on_site(unit, event)
        self._unnoted[_about(unit, event)] = event

    def _on_record(self, unit: str, event: ev.InterlockEvent) -> None:
        self._unnoted.pop(_about(unit, event), None)

    def _site_says(self, unit: str, event: ev.InterlockEvent) -> None:
        says = self._by_site.setdefault(unit, {})
        says[event.interlock] = after(says.get(event.interlock, Kept()), event, self._clock.now())


def _about(unit: str, event: ev.InterlockEvent) -> tuple[str, str, bool]:
    return unit, event.interlock, isinstance(event, _OF_A_BYPASS)
