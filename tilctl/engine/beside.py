"""What a batch came to, or alarmed of, while its record was dead: kept, marked on the disk, noted when it can be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from pathlib import Path

import structlog

from devices.clock import Clock
from tilctl.engine.machine import State
from tilctl.engine.state import format_time
from tilctl.guard.desk import BY_DESIGN
from tilctl.journal import events as ev
from tilctl.journal.disk import Disk
from tilctl.journal.events import Event
from tilctl.journal.mark import Mark, found, lay, leave, mark_path, wipe

UNNOTED = "not-on-record"
"""Alarm: the batch was held, stopped or aborted, or put back to an older record, and its record does not say so."""

ALARMS_KEPT = 100
_COMES_TO = {State.HOLDING: State.HELD, State.STOPPING: State.STOPPED, State.ABORTING: State.ABORTED}


class Beside:
    """Stands beside the record of one batch; nothing here raises or keeps anybody waiting."""

    def __init__(self, name: str, path: Path, unit: str, clock: Clock) -> None:
        self.mark: Mark | None = None  # as the life before left it, or a restore
        self.marked = False  # whether this life has left one
        self.alarms: dict[str, tuple[datetime, ev.AlarmRaised | ev.AlarmCleared]] = {}  # the last one lost of each
        self.aside: dict[str, ev.AlarmSetAside | ev.AlarmSetBack] = {}  # what the design wanted last of each
        self._name = name
        self._path = mark_path(path.parent.parent, unit)
        self._clock = clock
        self._disk = Disk(clock)
        self._wanted: Mark | None = None
        self._came_to: tuple[str, str, str] | None = None  # the last state that was lost, when, and why
        self._latched: dict[str, None] = {}  # interlocks whose trip was lost
        self._writing: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("beside").bind(batch=name)

    @property
    def raised(self) -> dict[str, tuple[datetime, ev.AlarmRaised]]:
        """Alarms that are active and not on record, with since when."""
        return {name: (t, event) for name, (t, event) in self.alarms.items() if isinstance(event, ev.AlarmRaised)}

    @property
    def said(self) -> str:
        """Return what to say with an act that is not on record."""
        if self.marked:
            return "NOT ON RECORD, the disk failed; a mark is left: the next start of the controller holds the batch"
        return "NOT ON RECORD, the disk failed, and no mark could be left: after a restart of the service it may go on"

    def lost(self, event: Event) -> None:
        """Keep what must outlive an event that did not reach the record."""
        match event:
            case ev.AlarmRaised() | ev.AlarmCleared():
                if event.alarm in self.alarms or len(self.alarms) < ALARMS_KEPT:
                    self.alarms[event.alarm] = (self._clock.now(), event)
            case ev.AlarmSetAside(by=by) | ev.AlarmSetBack(by=by) if by == BY_DESIGN:
                if event.alarm in self.aside or len(self.aside) < ALARMS_KEPT:
                    self.aside[event.alarm] = event
            case ev.StateChanged() if event.path == "" and event.to_state in _COMES_TO:
                state = _COMES_TO[State(event.to_state)].value
                self._came_to = state, format_time(self._clock.now()), event.reason
                self._want()
            case ev.InterlockTripped():
                self._latched[event.interlock] = None
                self._came_to = self._came_to or ("held", format_time(self._clock.now()), event.text)
                self._want()
            case ev.InterlockReset() if event.interlock in self._latched:
                del self._latched[event.interlock]
                self._want()
            case _:
                pass

    def _want(self) -> None:
        if self._came_to is None:
            return
        self._wanted = Mark(self._name, *self._came_to, tuple(self._latched))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._leave(), name=f"mark:{self._name}")

    async def settled(self) -> None:
        """Wait until the mark that is wanted is on the disk, or cannot be; at most for the disk's deadline."""
        while self._writing is not None and not self._writing.done():
            await asyncio.wait([self._writing])

    async def look(self) -> None:
        """Find the mark that was left for this batch."""
        try:
            self.mark = await self._disk.run(partial(found, self._path, self._name))
        except OSError as error:
            self.mark = Mark(self._name, "held", "", f"{self._path.name} cannot be read ({error})")

    async def forget(self) -> None:
        """Take the mark back; one that stays holds the batch at the next start, which harms nobody."""
        await self.settled()
        try:
            await self._disk.run(partial(self._wipe, self._path))
            self.mark, self.marked, self._came_to = None, False, None
            self._latched.clear()
        except OSError as error:
            self._log.warning("mark_stays", path=str(self._path), why=str(error))

    def _wipe(self, path: Path) -> None:
        if found(path, self._name) is not None:  # that of another batch is not ours to take
            wipe(path)

    async def _leave(self) -> None:
        while (mark := self._wanted) is not None:
            self._wanted = None
            try:
                await self._disk.run(partial(leave, self._path, mark))
                self.marked = True
            except OSError as error:
                self._log.warning("mark_not_left", path=str(self._path), why=str(error))


async def lay_marks(data: Path, units: Iterable[str], clock: Clock) -> None:
    """Give each unit's mark its room on the disk, while there is room; without it a start goes on all the same."""
    for unit in units:
        path = mark_path(data, unit)
        try:
            await Disk(clock).run(partial(lay, path))
        except OSError as error:
            structlog.get_logger("beside").warning("mark_not_laid", path=str(path), why=str(error))


def told(mark: Mark) -> str:
    """Return a mark in words: what a person has to know before the batch goes on."""
    when = f" at {mark.t}" if mark.t else ""
    if mark.state == "restored":
        return mark.text
    return f"it came to {mark.state}{when}, which is not on record: {mark.text}"
