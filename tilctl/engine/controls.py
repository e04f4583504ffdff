"""The controls of one batch: readings that a recipe has put under control, looked at on every scan, in every state.

They move standing targets: what they did outlives this program in the instruments, and is folded from the record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog

from devices.quantity import show
from tilctl.engine.errors import StepError
from tilctl.engine.machine import State
from tilctl.engine.verbs.control import numbers
from tilctl.engine.verbs.set_target import write_target
from tilctl.journal import events as ev
from tilctl.journal.store import JournalError
from tilctl.plant.control.cascade import Cascade, exhausted, next_move

if TYPE_CHECKING:
    from tilctl.engine.runner import Runner
    from tilctl.engine.state import StandingControl

UNKNOWN_S = 30.0
"""s that a reading may be unknown before that is an alarm, as for the rules of liquids (engineering default)."""


class Controls:
    """Looks and moves for the batch of one runner; `tasks` are what is being written now."""

    def __init__(self, runner: Runner) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.moving: set[str] = set()  # targets that are being written: what they read back is not lost
        self._runner = runner
        self._batch = runner.batch
        self._busy: set[str] = set()
        self._unknown: dict[str, float] = {}  # reading -> since when (monotonic, s) nobody knows it
        self._failed: dict[str, float] = {}  # reading -> when (monotonic, s) a write for it failed last
        self._log = structlog.get_logger("controls").bind(batch=runner.batch.name)

    def look(self, device: str | None = None) -> None:
        """Judge the controls that read a device, all of them where none is named."""
        controls = self._batch.state.controls
        for alarm in [alarm for alarm in self._batch.state.alarms if _kept_by(alarm) not in ("", *controls)]:
            self._runner.clear(alarm)  # nothing keeps that reading any more
        self._unknown = {of: since for of, since in self._unknown.items() if of in controls}
        for of, standing in controls.items():
            read = self._batch.equipment.get(of.partition(".")[0])
            if device in (None, read):
                self._judge(standing, f"{read}.{of.partition('.')[2]}")

    def _judge(self, standing: StandingControl, point: str) -> None:
        runner, cascade = self._runner, standing.cascade
        if runner.recovering or runner.watch_only or runner.state is State.RESTARTING or self._batch.record_failed:
            return  # Invariant: nothing is moved whose cause cannot be put on the record first
        reading = self._batch.image.number(point)
        if reading is None:
            # Invariant: unknown is not low: it moves nothing, and somebody is told.
            self._not_known(cascade.of)
            return
        self._known(cascade.of)
        targets = numbers(self._batch)
        if (low := f"control-{cascade.of}-low") in self._batch.state.alarms and not cascade.too_low(reading):
            runner.clear(low)
        now, since = self._batch.clock.now(), standing.moved or standing.since
        if cascade.of in self._busy or now - since < timedelta(seconds=cascade.every_s):
            return
        if self._batch.clock.monotonic() - self._failed.get(cascade.of, float("-inf")) < cascade.every_s:
            return
        if exhausted(cascade, reading, targets):
            self._tell_exhausted(cascade, reading)
        late = [tag for tag in cascade.tags if tag in targets and tag not in self._batch.state.confirmed]
        if late:  # a write that failed, or that a death cut off: it stands on the record and is written once more
            if self._free(late[0]):
                self._begin(self._write(cascade.of, late[0], targets[late[0]]), cascade.of, late[0])
            return
        move = next_move(cascade, reading, targets)
        if move is not None and self._free(move.tag):
            event = ev.ControlMoved(standing.path, cascade.of, round(reading, 3), move.tag, move.value, move.unit)
            self._begin(self._move(event), cascade.of, move.tag)

    def _free(self, tag: str) -> bool:
        """Whether a target may be moved now: neither a declared safe value nor an interlock has it."""
        equipment, _, name = tag.partition(".")
        device = self._batch.equipment[equipment]
        return self._runner.standing.safe_value(tag) is None and not self._batch.plant.gate.barred(
            device, f"set_{name}"
        )

    def _begin(self, work: Coroutine[Any, Any, None], of: str, tag: str) -> None:
        self._busy.add(of)
        self.moving.add(tag)
        task = asyncio.create_task(work, name=f"control:{of}")
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        task.add_done_callback(lambda _: (self._busy.discard(of), self.moving.discard(tag)))
        task.add_done_callback(self._runner.ended)

    async def _move(self, event: ev.ControlMoved) -> None:
        """Invariant: intent before act: the move is on disk, with the reading that it is for, before it is written."""
        try:
            await self._batch.record(event)
        except JournalError as error:
            self._log.error("control_not_on_record", of=event.of, error=str(error))
            return
        await self._write(event.of, event.tag, event.value)

    async def _write(self, of: str, tag: str, value: float) -> None:
        alarm = f"control-{of}-output"
        try:
            await write_target(self._batch, tag, value)
            self._failed.pop(of, None)
            if alarm in self._batch.state.alarms:
                self._runner.clear(alarm)
        except (StepError, JournalError) as error:
            self._failed[of] = self._batch.clock.monotonic()
            self._runner.alarm(alarm, "high", f"{of} cannot be kept: {error}")

    def _tell_exhausted(self, cascade: Cascade, reading: float) -> None:
        wanted, shown = show(cascade.at, cascade.unit), show(round(reading, 1), cascade.unit)
        text = f"{cascade.of} is {shown}, wanted is {wanted}, and {', '.join(cascade.tags)} cannot go higher"
        self._runner.alarm(f"control-{cascade.of}-low", "high", text)

    def _not_known(self, of: str) -> None:
        now = self._batch.clock.monotonic()
        if now - self._unknown.setdefault(of, now) >= UNKNOWN_S:
            self._runner.alarm(f"control-{of}-invalid", "high", f"{of} is not known: what keeps it stands still")

    def _known(self, of: str) -> None:
        self._unknown.pop(of, None)
        if (alarm := f"control-{of}-invalid") in self._batch.state.alarms:
            self._runner.clear(alarm)


def _kept_by(alarm: str) -> str:
    """Return the reading whose control an alarm is about, "" where it is about none."""
    about, _, _ = alarm.rpartition("-")
    return about.removeprefix("control-") if about.startswith("control-") else ""
