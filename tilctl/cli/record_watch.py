"""Watches what the record needs: the journals, and room on their disk; tells of it by ways that need no record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from devices.clock import Clock
from tilctl.engine.controller import Controller
from tilctl.engine.runner import Runner
from tilctl.gateway.projector import Projector
from tilctl.journal.disk import Disk, Space, space
from tilctl.journal.store import Journal, JournalError

LOOK_EVERY = 30.0  # s between two looks at the disk
SLOW = 3.0  # s that an event may await the disk before the record counts as not well
ENOUGH_AGAIN = 1.1  # of what is wanted: an alarm that comes and goes with each file helps nobody


@dataclass(frozen=True, slots=True)
class RecordFigures:
    """How one record is: of a unit's batch, or of the site."""

    failed: bool
    waiting_s: float


class RecordWatch:
    """One for a controller; everything on its loop."""

    def __init__(
        self, controller: Controller, clock: Clock, projector: Projector, say: Callable[[Mapping[str, Any]], None]
    ) -> None:
        """`say` sets what the retained status says beside `online`."""
        self.space: Space | None = None
        self._controller = controller
        self._clock = clock
        self._projector = projector
        self._say = say
        self._data: Path = controller.site.data
        self._every = max(LOOK_EVERY, 6 * controller.site.scan.idle)  # a rehearsal looks as seldom as it scans
        self._disk = Disk(clock)
        self._shown: dict[str, tuple[bool, str, tuple[str, ...]]] = {}
        self._said: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("record")

    def start(self) -> None:
        """Begin to look at the disk; the controller is open."""
        self._task = asyncio.create_task(self._watch(), name="record-watch")

    async def close(self) -> None:
        """End; may be called twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def figures(self) -> dict[str, RecordFigures]:
        """Return how each record is, by unit, and as `site` that of the site."""
        found: dict[str, RecordFigures] = {}
        for unit in self._controller.units():
            runner = self._controller.runner(unit)
            if runner is not None:
                journal = runner.batch.journal
                found[unit] = RecordFigures(bool(runner.batch.record_failed) or journal.failed, journal.waiting_s)
        if (site := self._site()) is not None:
            found["site"] = RecordFigures(site.failed, site.waiting_s)
        return found

    def not_well(self) -> list[str]:
        """Return whose record has failed, or waits for a disk that is slow beyond measure."""
        return [name for name, each in self.figures().items() if each.failed or each.waiting_s > SLOW]

    def look(self) -> None:
        """Compare the records with what is shown of them; called at each scan, as a dead record says nothing itself."""
        failed = [name for name, each in self.figures().items() if each.failed]
        low = self.space is not None and self.space.low
        said = {"mode": self._controller.mode, "record_failed": failed, "disk_low": low}
        if not failed and said == self._said:
            return
        self._said = said
        for unit in (*self._controller.units(), "site"):
            runner = None if unit == "site" else self._controller.runner(unit)
            kept = () if runner is None else tuple(runner.batch.beside.raised)
            shown = (unit in failed, "" if runner is None else runner.state.value, kept)
            if shown[0]:
                why = "the site's record cannot be written" if runner is None else runner.batch.record_failed
                text = f"{why or 'the record cannot be written'}; hold, stop and abort act, nothing else is begun"
                if self._projector.alarm_beside(unit, "record-failed", text):
                    self._log.error("record_failed", unit=unit, why=why)
            else:
                self._projector.clear_beside(unit, "record-failed")
            if shown[0] and self._shown.get(unit) != shown:
                self._projector.refresh(unit)  # no commit does
            self._shown[unit] = shown
        self._say(said)

    def _site(self) -> Journal | None:
        try:
            return self._controller.journal
        except RuntimeError:  # not open yet
            return None

    async def _watch(self) -> None:
        while True:
            await self._look_at_disk()
            self.look()
            await self._clock.sleep(self._every)

    async def _look_at_disk(self) -> None:
        try:
            self.space = await self._disk.run(lambda: space(self._data))
        except OSError as error:
            self._log.error("disk_not_seen", path=str(self._data), why=str(error))
            return
        found = self.space
        if found.low:
            text = f"the disk of {self._data} is nearly full ({found}): make room; no batch is started until then"
            if self._projector.alarm_beside("site", "disk-low", text):
                self._log.warning("disk_low", free=found.free, wanted=found.wanted)
            for runner in self._runners():
                runner.alarm("disk-low", "high", text)
        elif found.free > found.wanted * ENOUGH_AGAIN:
            self._projector.clear_beside("site", "disk-low")
            for runner in self._runners():
                if "disk-low" in runner.batch.state.alarms:
                    runner.clear("disk-low")
        if (site := self._site()) is not None and site.failed:
            try:  # nothing that a product hangs on is in it: it comes back by itself
                await site.reopen()
            except JournalError as error:
                self._log.error("record_failed", unit="site", why=str(error))

    def _runners(self) -> list[Runner]:
        found = [self._controller.runner(unit) for unit in self._controller.units()]
        return [runner for runner in found if runner is not None and not runner.batch.record_failed]
