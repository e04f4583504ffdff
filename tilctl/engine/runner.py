"""The runner: the state machine of one batch, the task that walks it, and the logic of its transient states.

State changes are synchronous and come first; what they need (stopping the walk, making safe) runs in tasks of ours,
and is put on the record as it happens.  HOLD, STOP and ABORT act before anything is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Literal

import structlog

from tilctl.engine import identity
from tilctl.engine.assertions import wrong_after, wrong_with
from tilctl.engine.batch import Batch
from tilctl.engine.beside import UNNOTED
from tilctl.engine.controls import Controls
from tilctl.engine.errors import InDoubt, ProcedureEnd, SafePoint, StepError
from tilctl.engine.freezing_run import FreezingRuns
from tilctl.engine.machine import DONE, FAULT, FINAL, SAFE_STATES, Command, State, next_state
from tilctl.engine.prompts import Prompts
from tilctl.engine.releases import Releases
from tilctl.engine.safekeeper import Safekeeper
from tilctl.engine.standing import Standing
from tilctl.engine.state import StepStatus
from tilctl.engine.verbs.set_target import write_target
from tilctl.engine.walker import Walker
from tilctl.guard.board import Action, Priority
from tilctl.guard.desk import Desk
from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.journal.store import JournalError
from tilctl.plant.sharing import Sharing

_RESTART_CLEARS = ("target-lost-", "invariant-", "interlock-")
CLEARED_BY_RESTART = (
    "restart-failed", "step-failed", "restarted", "recovery-failed", "clock-stepped", identity.REPLACED,
    identity.MISMATCH, UNNOTED,
)  # fmt: skip
STOP_WALK_WITHIN = 120.0  # s for a step to close its evidence; pumps and valves are stopped beside it, at once


class Runner:
    """Runs one batch."""

    def __init__(self, batch: Batch, sharing: Sharing) -> None:
        self.batch = batch
        self.prompts = Prompts(batch)
        self.state = batch.state.state
        self.changed: list[Callable[[], None]] = []
        self.recovering = False  # recovery reads everything first, and then writes what was lost itself
        self.watch_only = False  # safe mode: nothing is written but what makes safe
        self.unsound: list[str] = []  # why it may not go on by itself after a start, found before its recovery
        self.judged_by: tuple[str, ...] = ()  # instruments that its interlocks read
        self.keeps: Callable[[str], bool] = lambda _alarm: False  # alarms that an interlock still has a cause for
        self.sharing = sharing
        self._walk: asyncio.Task[None] | None = None
        self._transient: asyncio.Task[None] | None = None
        batch.journal.on_failure.append(self._disk_failed)
        batch.observers.append(self._judge)
        self.desk = Desk(batch.clock, batch.note, batch.state.book)
        self._safekeeper = Safekeeper(
            batch, lambda: self.state in SAFE_STATES, self.alarm, self.desk.stands, self.clear, self.ended
        )
        self.freezing = FreezingRuns(batch, self.alarm, self.clear, lambda why: self.fire(FAULT, why), self.ended)
        self._since = batch.clock.monotonic()  # of the present state
        self._again = asyncio.Lock()  # Invariant: however often safety is asked for, the buses carry it once at a time
        self._asked_again = False
        self.standing = Standing(self)
        self.controls = Controls(self)
        self.releases = Releases(batch, self.prompts, self.alarm, self.clear)
        self._log = structlog.get_logger("runner").bind(batch=batch.name)

    # --- what people and the guard may cause ----------------------------------------------------------------------

    def fire(self, event: str, reason: str = "") -> bool:
        """Take a transition, and start what the new state has to do; False where it is not legal."""
        target = next_state(self.state, event)
        if target is None:
            return False
        before, self.state = self.state, target
        self._since = self.batch.clock.monotonic()
        self._begin(target, reason)  # Actuate first, report second.
        self.batch.pacing.look()  # a pause ends the walk where it waits for a person
        self.batch.note(ev.StateChanged("", before, target, event, reason))
        self._propagate(before, event, reason)
        self._log.info("state", state=target.value, before=before.value, event_name=str(event), reason=reason)
        for callback in self.changed:
            callback()
        return True

    def alarm(
        self, alarm: str, priority: Priority | str, text: str, values: Mapping[str, Any] | None = None, path: str = ""
    ) -> None:
        """Raise an alarm, once while it is active."""
        if not self.desk.stands(alarm):
            self._log.warning("alarm", alarm=alarm, priority=str(priority), text=text)
            self.desk.raise_(alarm, priority_of(priority), text, path, values)

    def clear(self, alarm: str) -> None:
        """Clear an alarm."""
        self.desk.clear(alarm)

    def violated(self, name: str, text: str) -> None:
        """Invariant: what must never be is a culture-safe hold with an alarm, of this batch alone, and no crash."""
        self.fire(FAULT, f"internal error: {text}")
        self.alarm(f"invariant-{name}", "critical", f"{text}; report it with the journal")

    def look(self) -> str:
        """Check what must hold of a batch at any time; return what does not, "" where all is well."""
        wrong = wrong_with(self.batch, self.state, self._since, self._walk, self._transient)
        if wrong:
            self.violated(*wrong)
        return wrong[1] if wrong else ""

    def _judge(self, record: Record) -> None:
        """See what follows from an event: for its alarms, and for what must hold of the ledger and the intents."""
        if record.event.kind.startswith("alarm_"):
            self.desk.changed()
        text = wrong_after(self.batch, record)
        if text:
            self.violated("record", text)

    def act(self, alarm: str, action: Action, text: str) -> None:
        """Do what a guard wants: hold or stop, at once."""
        event = Command.HOLD if action == "hold" else Command.STOP
        if self.fire(event, f"{alarm}: {text}"):
            self.batch.note(ev.GuardActed(alarm, action))

    def ended(self, task: asyncio.Task[None]) -> None:
        """Hold the batch when a task beside the walk broke."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("internal_error", task=task.get_name(), exc_info=error)
            self.violated("task", f"{task.get_name()} broke: {error!r}")

    # --- life -----------------------------------------------------------------------------------------------------

    def resume_walk(self) -> None:
        """Go on walking in the present (running) state: after boot, when every step may resume."""
        self._walk = asyncio.create_task(self._walking(), name=f"walk:{self.batch.name}")
        self._safekeeper.goes_on()

    def go_on(self) -> None:
        """Go on after boot where every step may: walk, in Pausing to the next safe point, or finish restarting."""
        if self.state is State.RESTARTING:
            self.resume_transient("")
        else:
            self.resume_walk()

    def resume_transient(self, reason: str) -> None:
        """Begin again what a transient state has to do: after boot."""
        self._begin(self.state, reason)

    async def settled(self) -> None:
        """Wait until no transient work is under way."""
        while self._transient is not None and not self._transient.done():
            await asyncio.wait([self._transient])
        await self.batch.beside.settled()

    async def close(self, *, keep: bool = False) -> None:
        """End all tasks of this batch, as a crash would, but tidily; the record says where to go on.

        `keep` leaves the record open, for its last events.
        """
        tasks = [
            task
            for task in (
                self._walk,
                self._transient,
                self._safekeeper.task,
                *self.standing.tasks,
                *self.controls.tasks,
                *self.releases.tasks,
            )
            if task is not None
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.freezing.close()
        await self.prompts.close()
        self.desk.close()
        if not keep:
            await self.batch.journal.close()

    # --- transient states -----------------------------------------------------------------------------------------

    def _begin(self, state: State, reason: str) -> None:
        match state:
            case State.RUNNING:
                self.resume_walk()
            case State.HOLDING:
                self._spawn(lambda: self._holding(reason))
            case State.RESTARTING:
                self._spawn(self._restarting)
            case State.STOPPING:
                self._spawn(lambda: self._ending("stopped", reason))
            case State.ABORTING:
                self._spawn(lambda: self._ending("aborted", reason))
            case _:
                pass

    def _spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        older = self._transient
        if older is not None and not older.done():
            older.cancel()
        self._transient = asyncio.create_task(self._guarded(work), name=f"transient:{self.batch.name}")

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except JournalError as error:  # making safe is done by then; the record is dead and says so elsewhere
            self._record_lost(error)
        except Exception as error:  # noqa: BLE001 - Invariant: a fault of the program never leaves a batch in between
            self._log.exception("internal_error")
            self.alarm("internal-error", "critical", f"internal error: {error!r}")
            if self.state is State.RESTARTING:
                self.fire(FAULT, f"internal error: {error!r}")
            elif self.state in (State.HOLDING, State.STOPPING, State.ABORTING):
                self.fire(DONE, f"internal error: {error!r}")

    def _disk_failed(self, error: JournalError) -> None:
        """Hold at once when the record dies, whatever the walk waits for; a transient state ends by itself."""
        self.batch.record_failed = str(error)
        self.fire(FAULT, f"the record cannot be written: {error}")

    def _record_lost(self, error: JournalError) -> None:
        """Go on without the record where that is protective: a transient state comes to its end, a walk is held."""
        self.batch.record_failed = str(error)
        self._log.error("record_failed", error=str(error))
        if self.state in (State.HOLDING, State.STOPPING, State.ABORTING):
            self.fire(DONE, "without the record")
        else:
            self.fire(FAULT, f"the record cannot be written: {error}")

    async def _make_safe(self) -> None:
        """Apply the declared outputs beside stopping the walk; neither waits for the other."""
        await asyncio.gather(self._safekeeper.make_safe(), self._stop_walk())

    async def make_safe_again(self, only: set[tuple[str, str]] | None = None) -> None:
        """Apply the declared outputs once more, in a state that has them already; never raises.

        `only` those of these devices and commands, where given; who asks meanwhile is given all of them.
        """
        while self.state in SAFE_STATES and not self._again.locked():
            async with self._again:
                self._asked_again = False
                await self._safekeeper.make_safe(only)
            if not self._asked_again:
                return
            only = None
        self._asked_again = True

    async def _holding(self, reason: str) -> None:
        await self._make_safe()
        await self.batch.caught_up()  # a step that has just failed, or is in doubt, is not only held
        for node in list(self.batch.state.nodes.values()):
            if node.status is StepStatus.ACTING and node.verb != "operation":
                await self.batch.record(ev.StepHeld(node.path, reason))
        self.fire(DONE, reason)

    async def _restarting(self) -> None:
        """Re-establish what must hold before the procedure goes on: the standing targets."""
        if self._walk is not None and not self._walk.done():
            self.fire(FAULT, "the step that was held has not come to its end yet: wait a minute, then restart")
            return
        try:
            for tag, (value, _unit) in list(self.batch.state.targets.items()):
                if isinstance(value, (int, float)):
                    await write_target(self.batch, tag, float(value))
        except StepError as error:
            self.alarm("restart-failed", "high", f"{error.reason} ({error.hint})")
            self.fire(FAULT, error.reason)
            return
        identity.accept(self.batch)
        self.standing.restored()
        for alarm in list(self.batch.state.alarms):
            if alarm in CLEARED_BY_RESTART or (alarm.startswith(_RESTART_CLEARS) and not self.keeps(alarm)):
                self.clear(alarm)
        self.fire(DONE)

    async def _ending(self, result: Literal["stopped", "aborted"], reason: str) -> None:
        await self._make_safe()
        self.prompts.withdraw(f"batch {result}", keep=self.releases.kept())
        if self.batch.state.result != result:  # an abort is final, also of a batch that was stopped
            await self.batch.record(ev.BatchEnded(result, reason))
        self._give_back()
        self.fire(DONE, reason)

    async def _stop_walk(self) -> None:
        walk = self._walk
        if walk is None or walk.done() or walk is asyncio.current_task():
            return
        walk.cancel()
        await asyncio.wait([walk], timeout=STOP_WALK_WITHIN)

    # --- walking --------------------------------------------------------------------------------------------------

    async def _walking(self) -> None:
        walker = Walker(
            self.batch, self.prompts, self.sharing, lambda: self.state is State.PAUSING, self.alarm, self.clear,
            self.freezing,
        )  # fmt: skip
        if self.state not in (State.RUNNING, State.PAUSING):
            return  # Invariant: nothing walks but in these two states
        try:
            try:
                if (
                    self.batch.state.result != "complete"
                ):  # else it died, or was held, when only its last state was left
                    await walker.run()
            except ProcedureEnd as end:
                await self._end_of_procedure(end.result, end.reason)
            else:
                await self._end_of_procedure("complete", self.batch.state.reason)
        except SafePoint:
            self.fire(DONE)
        except StepError as error:
            self._failed(error)
        except JournalError as error:
            self._record_lost(error)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - Invariant: a fault of the program is a culture-safe hold, not a crash to off
            self._log.exception("internal_error")
            hint = "report it with the journal; cells are kept at their targets"
            self._failed(StepError(f"internal error: {error!r}", hint))

    async def _end_of_procedure(self, result: Literal["complete", "stopped", "aborted"], reason: str) -> None:
        if result != "complete":
            self.fire(Command.STOP if result == "stopped" else Command.ABORT, reason)
            return
        if self.state is State.PAUSING:  # paused after its last step: the end comes when it is resumed
            self.fire(DONE)
            return
        if self.batch.state.result != result:
            operation = self.batch.state.operation  # `end` leaves the operation that it stands in
            if self.batch.state.states.get(operation) is State.RUNNING:
                self.batch.note(ev.StateChanged(operation, State.RUNNING, State.COMPLETE, DONE, reason))
            await self.batch.record(ev.BatchEnded(result, reason))
        self._give_back()
        self.fire(DONE, reason)

    def _failed(self, error: StepError) -> None:
        """Hold for a step, or for several at once.

        Invariant: nothing is waited for, so that no crash leaves the notes without the hold.
        """
        acting = [node.path for node in self.batch.state.nodes.values() if node.status is StepStatus.ACTING]
        failed: list[str] = []
        for each in error.each:
            for event in each.notes:
                self.batch.note(event)
            if isinstance(each, InDoubt):
                path = self.batch.state.intents[each.intent].path
                self.batch.note(ev.StepInDoubt(path, each.intent, each.reason))
                self.alarm(f"in-doubt-{each.intent}", "high", each.reason)
                continue
            failed.append(f"{each.reason} ({each.hint})")
            if each.path or acting:
                self.batch.note(ev.StepFailed(each.path or acting[-1], each.reason, each.hint))
        if failed:
            self.alarm("step-failed", "high", "; ".join(failed))
        self.fire(FAULT, "; ".join(f"{each.reason} ({each.hint})" for each in error.each))

    def _give_back(self) -> None:
        """Leave the queues and give shared equipment back; a freezer that still runs goes to nobody before it rests."""
        for device in self.batch.shared:
            self.sharing.release(device, self.batch.name)

    def _propagate(self, before: State, event: str, reason: str) -> None:
        """Take the same transition in the operation under way; its end is the walker's to say."""
        operation = self.batch.state.operation
        state = self.batch.state.states.get(operation, State.IDLE) if operation else State.IDLE
        if state in FINAL or state is State.IDLE:
            return
        if self.state not in (State.COMPLETE, State.IDLE):
            self.batch.note(ev.StateChanged(operation, before, self.state, event, reason))


def priority_of(word: Priority | str) -> Priority:
    """Return a priority by its word; raises ValueError for another word."""
    match word:
        case "critical" | "high" | "medium" | "low":
            return word
        case _:
            raise ValueError(f"{word!r} is no priority")
