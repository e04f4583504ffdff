"""Making safe and keeping safe: the declared outputs of a batch's unit, applied, recorded, and tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from devices.instrument import DeviceState
from tilctl.engine.batch import Batch
from tilctl.engine.intents import not_safe
from tilctl.journal import events as ev
from tilctl.plant.outputs import Protected

SAFE_AGAIN = 5.0  # s between tries to make a silent device safe
SAFE_AGAIN_MOST = 900.0
"""s between tries to give a value to one that answers and does not take it: its memory may wear, 100 changes a day."""


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

    async def _apply(self) -> list[Protected]:
        """Apply the declared outputs; return what could not be made safe."""
        outcomes = await self._batch.plant.make_safe()
        self._note(outcomes)
        for protected in outcomes:
            alarm = not_safe(protected.device)
            if protected.error:
                self._alarm(alarm, "critical", f"{protected.device} could not be made safe: {protected.error}")
            elif alarm in self._batch.state.alarms:
                self._clear(alarm)
        return [protected for protected in outcomes if protected.error]

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
        pause = SAFE_AGAIN
        while self._wanted():
            await self._batch.clock.sleep(pause)
            if not self._wanted():
                return
            failed = await self._apply()
            if not failed:
                return
            pause = min(2 * pause, SAFE_AGAIN_MOST) if all(map(self._takes_no_value, failed)) else SAFE_AGAIN

    def _takes_no_value(self, failed: Protected) -> bool:
        """Tell whether a device answers, and what it did not take is a value; a stop is tried again at once."""
        instrument = self._batch.plant.instruments[failed.device]
        command = instrument.profile.commands.get(failed.command)
        return instrument.status.state is DeviceState.ONLINE and command is not None and bool(command.args)
