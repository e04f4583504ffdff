"""Making safe and keeping safe: the declared outputs of a batch's unit, applied, recorded, and tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from devices.instrument import DeviceState
from tilctl.engine.batch import Batch
from tilctl.engine.intents import not_safe
from tilctl.journal import events as ev
from tilctl.plant.outputs import Protected

SAFE_AGAIN = 5.0  # s between tries to make a silent device safe
SAFE_AGAIN_MOST = 900.0
"""s between tries to give a value to one that answers and does not take it: its memory may wear, 100 changes a day."""

ENDS = ("stop", "close")  # commands that end a flow, whatever a batch does

_Output = tuple[str, str]
"""Device and command."""


@dataclass(frozen=True, slots=True)
class _Again:
    """When an output is tried again (monotonic s), and the pause (s) before that."""

    at: float
    pause: float


class Safekeeper:
    """Applies the declared outputs while the batch is in a state that has them."""

    def __init__(
        self,
        batch: Batch,
        wanted: Callable[[], bool],
        alarm: Callable[[str, str, str], None],
        stands: Callable[[str], bool],
        clear: Callable[[str], None],
        ended: Callable[[asyncio.Task[None]], None],
    ) -> None:
        """`wanted` tells whether the outputs are to be kept safe now; `ended` is told when the keeping task is over."""
        self.task: asyncio.Task[None] | None = None
        self._batch = batch
        self._wanted = wanted
        self._alarm = alarm
        self._stands = stands
        self._clear = clear
        self._ended = ended
        self._known: dict[_Output, str] = {}  # -> error, as last put on the record
        self._failing: dict[_Output, _Again] = {}

    async def make_safe(self, only: set[_Output] | None = None) -> None:
        """Apply the declared outputs, `only` these where given.

        What a device did not take is tried again until it does, or it is not wanted.
        """
        await self._apply(only)
        self._try_on()

    def goes_on(self) -> None:
        """Try on what the record says is not safe, while the batch goes on: its lines that nothing uses."""
        lines = self._batch.plant.site.lines
        ends = [*((line.pump, "stop") for line in lines), *((line.valves, "close") for line in lines)]
        for output in dict.fromkeys(ends):
            if not_safe(output[0]) in self._batch.state.alarms:
                self._failing.setdefault(output, _Again(self._batch.clock.monotonic(), SAFE_AGAIN))
        self._try_on()

    def _try_on(self) -> None:
        if self._failing and (self.task is None or self.task.done()):
            self.task = asyncio.create_task(self._keep_trying(), name=f"make-safe:{self._batch.name}")
            self.task.add_done_callback(self._ended)

    async def _apply(self, only: set[_Output] | None = None) -> None:
        """Apply the declared outputs, `only` those where given; see what was not taken, and when to try that again."""
        outcomes = await self._batch.plant.make_safe(only)
        now = self._batch.clock.monotonic()
        done = {each.device for each in outcomes}
        for output in (set(self._failing) if only is None else only) - {_of(each) for each in outcomes}:
            if self._failing.pop(output, None) is not None:  # an interlock has cut it off meanwhile, which is safer
                done.add(output[0])
        for each in outcomes:
            before = self._failing.pop(_of(each), None)
            if each.error:
                grown = before is not None and self._takes_no_value(each)
                pause = min(2 * before.pause, SAFE_AGAIN_MOST) if before is not None and grown else SAFE_AGAIN
                self._failing[_of(each)] = _Again(now + pause, pause)
        self._note(outcomes)
        for each in outcomes:
            if each.error:
                self._alarm(not_safe(each.device), "critical", f"{each.device} could not be made safe: {each.error}")
        for device in sorted(done - {device for device, _ in self._failing}):
            # By what was noted last too: the record is behind while its disk is slow, and nobody asks again later.
            if self._stands(not_safe(device)) or not_safe(device) in self._batch.state.alarms:
                self._clear(not_safe(device))

    def _note(self, outcomes: list[Protected]) -> None:
        """Put it on the record, but not again while nothing has changed: a silent device is tried every 5 s."""
        found = {_of(each): each.error for each in outcomes}
        if found.items() - self._known.items() or not any(found.values()):
            rows = [
                {"device": each.device, "command": each.command, "error": each.error, "seconds": round(each.seconds, 3)}
                for each in outcomes
            ]
            self._batch.note(ev.MadeSafe(rows))
        self._known |= found

    async def _keep_trying(self) -> None:
        """Invariant: Held means the declared outputs; a device that was silent gets them as soon as it answers.

        Each is tried for itself: one that is silent spends no memory of another that has what it should.  Once the
        batch goes on, pumps and valves are tried further, and values are not.
        """
        clock = self._batch.clock
        while self._failing:
            # Invariant: never longer, also for what is tried seldom: something else may be failing by then.
            wait = min(again.at for again in self._failing.values()) - clock.monotonic()
            await clock.sleep(min(max(wait, 0.0), SAFE_AGAIN))
            due = {output for output, again in self._failing.items() if again.at <= clock.monotonic()}
            if self._wanted():
                if due:
                    await self._apply(due)
                continue
            for output in list(self._failing):
                if output[1] not in ENDS:
                    del self._failing[output]
            for output in sorted(due & self._failing.keys()):
                await self._apply_unused(output)

    async def _apply_unused(self, output: _Output) -> None:
        """Stop or close what no step uses; what one uses is stopped and closed by it."""
        exclusion = self._batch.exclusion
        if not exclusion.free(output[0]):
            self._failing[output] = _Again(self._batch.clock.monotonic() + SAFE_AGAIN, SAFE_AGAIN)
            return
        # Invariant: nothing is closed under a dose: no step begins one with it meanwhile.
        async with exclusion.alone("make-safe", (output[0],)):
            await self._apply({output})

    def _takes_no_value(self, failed: Protected) -> bool:
        """Tell whether a device answers, and what it did not take is a value; a stop is tried again at once."""
        instrument = self._batch.plant.instruments[failed.device]
        command = instrument.profile.commands.get(failed.command)
        return instrument.status.state is DeviceState.ONLINE and command is not None and bool(command.args)


def _of(protected: Protected) -> _Output:
    return protected.device, protected.command
