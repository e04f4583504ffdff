"""The walker: it walks the recipe tree and skips what the record says is complete.

Walking for the first time, after a hold and after a crash is the same: every node has a stable path of ids
(`rep/feed/2/medium`), and what a node has done is on the record under its path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from recipes.expr import INVALID
from recipes.model import Operation
from recipes.steps import AnyVerb, children
from tilctl.engine.allocation import take
from tilctl.engine.batch import Batch
from tilctl.engine.context import Context
from tilctl.engine.errors import SafePoint, StepError
from tilctl.engine.freezing_run import FreezingRuns
from tilctl.engine.machine import DONE, Command, State, next_state
from tilctl.engine.missed import MISSED
from tilctl.engine.pacing import OPERATION
from tilctl.engine.prompts import Prompts
from tilctl.engine.verbs import HANDLERS
from tilctl.journal import events as ev
from tilctl.plant.sharing import Sharing


class Walker:
    """One walk through the procedure of a batch."""

    def __init__(
        self,
        batch: Batch,
        prompts: Prompts,
        sharing: Sharing,
        pause_wanted: Callable[[], bool],
        alarm: Callable[[str, str, str], None],
        clear: Callable[[str], None],
        freezing: FreezingRuns,
    ) -> None:
        self._batch = batch
        self._sharing = sharing
        self._pause_wanted = pause_wanted
        self._root = Context(batch, prompts, "", {}, self.steps, alarm, clear, freezing)

    async def run(self) -> None:
        """Walk to the end of the procedure.

        Raises StepError (hold), SafePoint (paused), ProcedureEnd (the recipe ends it), JournalError.
        """
        for operation in self._batch.recipe.procedure:
            if not self._batch.state.complete(operation.id):
                await self._operation(operation)

    async def steps(self, steps: tuple[AnyVerb, ...], path: str, aliases: Mapping[str, str]) -> None:
        """Walk a list of steps below a path."""
        for step in steps:
            await self._step(step, f"{path}/{step.id}", aliases)
            node = self._batch.state.node(f"{path}/{step.id}")
            if node is not None and (missed := node.phases.get(MISSED)) is not None and missed[1]["skip"]:
                return  # its moment had passed: what was to follow it is passed over

    async def _operation(self, operation: Operation) -> None:
        batch = self._batch
        self._safe_point()
        if batch.state.node(operation.id) is None:
            await batch.pacing.turn(operation.id, OPERATION, self._safe_point)
            await batch.record(ev.StepStarted(operation.id, "operation"))
        await batch.caught_up()  # after a restart the operation's own way back to running is still on its way to disk
        before = batch.state.states.get(operation.id, State.IDLE)
        if before is not State.RUNNING:
            await batch.record(ev.StateChanged(operation.id, before, State.RUNNING, Command.START))
        devices = list(dict.fromkeys(batch.equipment[name] for name in operation.using))
        if devices:
            await take(batch, self._sharing, operation.id, devices)
        await self.steps(operation.steps, operation.id, {})
        done = next_state(State.RUNNING, DONE) or State.COMPLETE
        batch.note(ev.StateChanged(operation.id, State.RUNNING, done))  # with the next one in one transaction
        await batch.record(ev.StepCompleted(operation.id))
        # Invariant: on record first, or a crash in between would give it to this batch and to the next.
        for device in devices:  # only here: a hold or a pause keeps shared equipment
            self._sharing.release(device, batch.name)

    async def _step(self, step: AnyVerb, path: str, aliases: Mapping[str, str]) -> None:
        batch = self._batch
        if batch.state.complete(path):
            return
        self._safe_point()
        context = self._root.at(path, aliases)
        if why := await self._not_walked(step, context):
            # Invariant: in one transaction, or a crash in between would have the step walked after all.
            batch.note(ev.StepStarted(path, step.verb, {"skipped": why}))
            await batch.record(ev.StepCompleted(path, {"skipped": True}))
            return
        await batch.record(ev.StepStarted(path, step.verb))
        try:
            data: dict[str, Any] = await HANDLERS[step.verb](context, step) or {}
        except StepError as error:
            error.path = error.path or path
            raise
        if step.exception_when is not None:
            found = context.evaluate(step.exception_when)
            if found is INVALID or found:
                await batch.record(ev.ExceptionRaised("recipe", f"'{step.exception_when}' is true", path))
        await batch.record(ev.StepCompleted(path, data))

    async def _not_walked(self, step: AnyVerb, context: Context) -> str:
        """Return why a step is passed over, "" where it is walked; waits for a person where the mode wants that."""
        if await self._is_false(step, context):
            return step.when or ""
        if not self._batch.pacing.waits(context.path, step.verb, inside=bool(children(step))):
            return ""
        if await self._batch.pacing.turn(context.path, step.verb, self._safe_point) == "skip":
            return "by a person"
        return (step.when or "") if await self._is_false(step, context) else ""  # it may have become so meanwhile

    async def _is_false(self, step: AnyVerb, context: Context) -> bool:
        if step.when is None or self._batch.state.node(context.path) is not None:
            return False
        await self._batch.caught_up()  # it is judged by what the step will read: an adjustment may be on its way
        return not context.truth(step.when)

    def _safe_point(self) -> None:
        if self._pause_wanted():
            raise SafePoint
