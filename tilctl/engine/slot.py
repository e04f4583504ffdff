"""What runs on one unit: its batch, the guard beside it, and its trends."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from devices.clock import Clock
from devices.reading import Reading
from tilctl.engine.machine import FINAL, Command, State
from tilctl.engine.runner import Runner
from tilctl.engine.watches import watches_of
from tilctl.guard.board import GuardBoard, Reactions
from tilctl.history.store import History
from tilctl.journal import events as ev

_WAITS_FOR_A_PERSON = (*FINAL, State.IDLE, State.HELD, State.PAUSED)


class Slot:
    """One unit as the controller keeps it; empty while the unit is idle."""

    def __init__(self, name: str, clock: Clock, trend_every: float) -> None:
        self.name = name
        self.runner: Runner | None = None
        self.starting = False
        self.wanted: Command | None = None  # hold, stop or abort that came while the batch was being started
        self._clock = clock
        self._trend_every = trend_every
        self._guard: GuardBoard | None = None
        self._history: History | None = None
        self._trended: dict[str, float] = {}  # instrument -> when its readings last went into the trends
        self._outside = ExitStack()

    @property
    def state(self) -> State:
        """The state of the unit's batch, Idle where there is none."""
        return State.IDLE if self.runner is None else self.runner.state

    def install(self, runner: Runner, history: History) -> None:
        """Take a batch: from now on it is watched and its trends are kept."""
        self.runner = runner
        self._history = history
        reactions = Reactions(runner.alarm, runner.clear, runner.act)
        self._guard = GuardBoard(self._clock, watches_of(runner.batch), reactions, runner.batch.state.alarms)
        runner.changed.append(self._changed)
        self.tell_clock()

    async def clear(self, *, keep: bool = False) -> None:
        """Let the batch go: its trends and, unless it is to be kept open, its record are closed."""
        runner, history = self.runner, self._history
        self.runner = self._guard = self._history = None
        if runner is not None:
            await runner.close(keep=keep)
        if history is not None:
            await history.close()
        self._outside.close()

    def _changed(self) -> None:
        if self.state is State.RESTARTING and self._guard is not None:
            self._guard.rearm()
        self.tell_clock()

    def tell_clock(self) -> None:
        """Tell a virtual clock whether this unit waits for a person: to begin, to go on, or to clear away."""
        self._outside.close()
        if self.state in _WAITS_FOR_A_PERSON:
            self._outside.enter_context(self._clock.outside(f"{self.name} is {self.state.value}"))

    def scanned(self, device: str, readings: Mapping[str, Reading]) -> None:
        """Judge the guards and keep the trends, on readings of one instrument by `device.point`."""
        if self.runner is None or self._guard is None or self._history is None:
            return
        if device in self.runner.batch.equipment.values():  # what conditions of a recipe can read
            self._guard.scan()
            self.runner.keep_targets(device)
        now = self._clock.monotonic()
        if now - self._trended.get(device, -1e9) >= self._trend_every:
            self._trended[device] = now
            values = {name: _trend(reading) for name, reading in readings.items()}
            quality = {name: reading.quality for name, reading in readings.items()}
            self._history.sample(self._clock.now().timestamp(), values, quality)

    async def note_trends(self, *, final: bool) -> None:
        """Put the hashes of the trends on the record: of whole hours, at the end of a batch of the rest too."""
        if self.runner is None or self._history is None:
            return
        if final:
            await self._history.flush()
        while (block := self._history.roll(final=final)) is not None:
            self.runner.batch.note(ev.HistoryBlock(block.t0, block.t1, block.blocks, block.sha256, block.first))


def _trend(reading: Reading) -> float | None:
    return float(reading.value) if isinstance(reading.value, (bool, int, float)) else None
