"""Making safe and keeping safe: the declared outputs of a batch's unit, applied, recorded, and tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tilctl.engine.batch import Batch
from tilctl.engine.intents import not_safe
from tilctl.journal import events as ev
from tilctl.plant.outputs import Protected

SAFE_AGAIN = 5.0  # s between tries to make a silent device safe


class Safekeeper:
    """Applies the declared outputs while the batch is in a state that has them."""

    def __init__(
        self,
        batch: Batch,
        wanted: Callable[[], bool],
        alarm: Callable[[str, str, str], None],
        clear: Callable[[str], None],
        ended: Callable[[asyncio.Task[None]], None],
    ) -> None:
        """`wanted` tells whether the outputs are to be kept safe now; `ended` is told when the keeping task is over."""
        self.task: asyncio.Task[None] | None = None
        self._batch = batch
        self._wanted = wanted
        self._alarm = alarm
        self._clear = clear
        self._ended = ended
        self._known: dict[str, str] = {}  # device -> error, as last put on the record

    async def make_safe(self) -> None:
        """Apply the declared outputs; what a device did not take is tried again until it does, or it is not wanted."""
        if await self._apply() and (self.task is None or self.task.done()):
            self.task = asyncio.create_task(self._keep_trying(), name=f"make-safe:{self._batch.name}")
            self.task.add_done_callback(self._ended)

    async def _apply(self) -> bool:
        """Apply the declared outputs; True when some device could not be made safe."""
        outcomes = await self._batch.plant.make_safe()
        self._note(outcomes)
        for protected in outcomes:
            alarm = not_safe(protected.device)
            if protected.error:
                self._alarm(alarm, "critical", f"{protected.device} could not be made safe: {protected.error}")
            elif alarm in self._batch.state.alarms:
                self._clear(alarm)
        return any(protected.error for protected in outcomes)

    def _note(self, outcomes: list[Protected]) -> None:
        """Put it on the record, but not again while nothing has changed: a silent device is tried every 5 s."""
        found = {each.device: each.error for each in outcomes}
        if found != self._known or not any(found.values()):
            rows = [
                {"device": each.device, "command": each.command, "error": each.error, "seconds": round(each.seconds, 3)}
                for each in outcomes
            ]
            self._batch.note(ev.MadeSafe(rows))
        self._known = found

    async def _keep_trying(self) -> None:
        """Invariant: Held means the declared outputs; a device that was silent gets them as soon as it answers."""
        while self._wanted():
            await self._batch.clock.sleep(SAFE_AGAIN)
            if self._wanted() and not await self._apply():
                return
