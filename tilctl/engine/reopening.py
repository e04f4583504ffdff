"""A record that failed is opened again in place, by a command of a person; the batch stays as it is until then.

What happened meanwhile was done without a record (hold, stop and abort act all the same).  The record says so
afterwards: an exception with the reason, and the state in which the batch really is.  Doses that were under way are
closed by evidence when their step is walked again, as after a crash.
"""

from __future__ import annotations

from pathlib import Path

from devices.clock import Clock
from tilctl.engine.beside import UNNOTED, told
from tilctl.engine.machine import FAULT, FINAL, State
from tilctl.engine.runner import Runner
from tilctl.engine.state import StepStatus
from tilctl.journal import events as ev
from tilctl.journal.disk import Disk, space
from tilctl.journal.store import Journal, JournalError

REOPENS = ("start", "restart", "reset", "leave-safe-mode")
"""Commands that mean to go on: they open a failed record again first."""


async def reopen_records(site: Journal, runner: Runner | None) -> str:
    """Open again what has failed of a unit's records; "" when all of them take events, else why not."""
    try:
        await site.reopen()
        if runner is not None:
            async with runner.batch.reopening:  # who comes second finds it open, with all that is to be said on it
                if runner.batch.journal.failed:
                    await _reopen(runner)
    except JournalError as error:
        return str(error)
    return ""


async def note_mark(runner: Runner) -> None:
    """Hold for the mark that was left for a batch, put it on record, and take it back."""
    batch, mark = runner.batch, runner.batch.beside.mark
    if mark is None:
        return
    text = told(mark)
    runner.fire(FAULT, text)  # one that is paused, too; one that is held already, or over, stays that
    runner.alarm(UNNOTED, "critical", text)
    batch.note(ev.ExceptionRaised(UNNOTED, text, ""))
    try:
        await batch.caught_up()
    except JournalError:
        return  # Invariant: the mark stands until what it says is on the medium
    if not batch.journal.failed:
        await batch.beside.forget()


async def too_little_space(clock: Clock, data: Path) -> str:
    """Return why no batch is begun on this disk, "" where there is room."""
    try:
        found = await Disk(clock).run(lambda: space(data))
    except OSError as error:
        return f"the data folder {data} cannot be looked at: {error}"
    return f"the disk of {data} is nearly full ({found}): make room first" if found.low else ""


async def _reopen(runner: Runner) -> None:
    batch, why = runner.batch, runner.batch.record_failed
    await batch.journal.reopen()
    batch.found = batch.journal.head[0]
    await batch.record(ev.ExceptionRaised("record-failed", f"meanwhile nothing could be put on the record: {why}", ""))
    state, now = batch.state, runner.state
    reason = "found when the record was opened again"
    # Invariant: what the batch came to without its record is on it before anything else.
    operation = state.operation
    if state.state is not now:
        await batch.record(ev.StateChanged("", state.state, now, "fault", reason))
    before = state.states.get(operation, State.IDLE) if operation else State.IDLE
    if before not in FINAL and before is not State.IDLE and before is not now:
        await batch.record(ev.StateChanged(operation, before, now, "fault", reason))
    if now in (State.STOPPED, State.ABORTED):
        result = "stopped" if now is State.STOPPED else "aborted"
        if state.result != result:
            await batch.record(ev.BatchEnded(result, reason))
    if now is State.HELD:
        for node in list(state.nodes.values()):
            if node.status is StepStatus.ACTING and node.verb != "operation":
                await batch.record(ev.StepHeld(node.path, reason))
    for alarm, aside in list(batch.beside.aside.items()):  # Invariant: first; what is suppressed is never announced
        await batch.record(aside)
        del batch.beside.aside[alarm]
    for alarm, (_, event) in list(batch.beside.alarms.items()):
        if isinstance(event, ev.AlarmRaised) is (alarm not in state.alarms):
            await batch.record(event)
        del batch.beside.alarms[alarm]
    runner.prompts.reopened()
    batch.record_failed = ""
    await batch.beside.forget()
