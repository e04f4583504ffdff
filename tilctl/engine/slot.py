"""What runs on one unit: its batch, the guard beside it, and its trends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, TypeVarTuple

import structlog

from devices.clock import Clock
from devices.reading import Quality, Reading
from tilctl.engine.estimating import Estimator
from tilctl.engine.fluids import pictures_of
from tilctl.engine.forecast import Forecaster
from tilctl.engine.hourly import Hourly
from tilctl.engine.machine import FINAL, Command, State
from tilctl.engine.runner import Runner
from tilctl.engine.watches import watches_of
from tilctl.guard.board import Action, GuardBoard, Priority, Reactions, Watch
from tilctl.guard.book import AlarmBook
from tilctl.guard.desk import BY_DESIGN, Desk
from tilctl.guard.fluid import FluidGuard
from tilctl.history.store import History
from tilctl.journal import events as ev
from tilctl.plant.scanning import Scanner
from tilctl.plant.unit import UnitPlant

Ts = TypeVarTuple("Ts")
_WAITS_FOR_A_PERSON = (*FINAL, State.IDLE, State.HELD, State.PAUSED)


class Slot:
    """One unit as the controller keeps it; empty while the unit is idle."""

    def __init__(self, name: str, clock: Clock, trend_every: float, idle: Desk, scanner: Scanner) -> None:
        """`idle` keeps the alarms of the unit while it has no batch."""
        self.name = name
        self.idle = idle
        self.runner: Runner | None = None
        self.starting = False
        self.commands = Hourly()
        self.leaving = False  # a batch is being put away: the unit is free when that is over
        self.wanted: Command | None = None  # hold, stop or abort that came while the batch was being started
        self._clock = clock
        self._trend_every = trend_every
        self._scanner = scanner
        self._guard: GuardBoard | None = None
        self.fluids: FluidGuard | None = None
        self._estimator: Estimator | None = None
        self._alarms: GuardBoard | None = None  # those of the site and of profiles: with and without a batch
        self._sharp: frozenset[str] = frozenset()  # devices that are scanned at the active pace for a pending alarm
        self._pace = ExitStack()
        self._history: History | None = None
        self._seen: dict[str, bool] = {}  # device.point -> whether it is this unit's
        self._trended: dict[str, float] = {}  # instrument -> when its readings last went into the trends
        self.faults = 0  # how often something of this unit broke while it was scanned
        self._told: set[tuple[str, type[Exception]]] = set()  # what was logged, and held for, once
        self._log = structlog.get_logger("slot").bind(unit=name)
        self._outside = ExitStack()
        self._declared: tuple[Watch, ...] = ()

    @property
    def state(self) -> State:
        """The state of the unit's batch, Idle where there is none."""
        return State.IDLE if self.runner is None else self.runner.state

    @property
    def desk(self) -> Desk:
        """Where the alarms of this unit are noted now."""
        return self.idle if self.runner is None else self.runner.desk

    def watch(self, watches: Sequence[Watch]) -> None:
        """Begin to watch the alarms of the site: the records are open, nothing has been read yet."""
        for desk in {id(desk): desk for desk in (self.idle, self.desk)}.values():
            desk.known(watches)
        self._declared = tuple(watches)
        reactions = Reactions(self._raise, self._clear, self._act, self._by_design)
        book = self.desk.book
        self._alarms = GuardBoard(self._clock, watches, reactions, book.active, suppressed_by_design(book))
        for desk in {id(desk): desk for desk in (self.idle, self.desk)}.values():
            desk.changed()
        if self.runner is not None:  # a death between two records may have left it at both, or half of it
            self._hand_over(self._alarms, self.runner)

    def watch_also(self, watches: Sequence[Watch]) -> None:
        """Learn of alarms that are judged for the site, and concern a batch here while it has shared equipment."""
        self.desk.known(watches)
        self._declared = (*self._declared, *watches)

    def install(self, runner: Runner, history: History) -> None:
        """Take a batch: from now on it is watched and its trends are kept."""
        self.runner = runner
        self._history = history
        self._told.clear()
        watches, book = watches_of(runner.batch), runner.batch.state.book
        runner.desk.known((*self._declared, *watches))
        runner.desk.escalate_s = self.idle.escalate_s
        reactions = Reactions(runner.alarm, runner.clear, runner.act, runner.desk.by_design)
        self._guard = GuardBoard(self._clock, watches, reactions, book.active, suppressed_by_design(book))
        self.fluids = FluidGuard(runner.batch.plant, pictures_of(runner.batch), reactions, [*runner.batch.state.alarms])
        Forecaster(runner.batch, reactions).look()
        self._estimator = Estimator(runner.batch, reactions)
        runner.changed.append(self._changed)
        if self._alarms is not None:
            self._hand_over(self._alarms, runner)
        self.tell_clock()

    def _hand_over(self, alarms: GuardBoard, runner: Runner) -> None:
        """Note on the batch's record what is active, or set aside, in the idle unit."""
        runner.desk.set_aside_as(self.idle)
        alarms.retold(runner.desk.standing())
        for alarm in self.idle.standing():
            self.idle.hand_over(alarm, f"batch {runner.batch.name}")
        self.idle.gone_over(runner.desk)

    async def clear(self, *, keep: bool = False) -> None:
        """Let the batch go: its trends and, unless it is to be kept open, its record are closed."""
        runner, history, fluids = self.runner, self._history, self.fluids
        self.runner = self._guard = self._history = self.fluids = self._estimator = None
        if fluids is not None:
            await fluids.close()
        if runner is not None:
            if keep and self._alarms is not None:  # put away, not left for another life of the controller
                self.idle.take_over(runner.desk)
                self._alarms.retold(self.idle.standing())
            await runner.close(keep=keep)
        if history is not None:
            await history.close()
        self._outside.close()

    def _changed(self) -> None:
        if self.state is State.RESTARTING and self._guard is not None:
            self._guard.rearm()
            if self.fluids is not None:
                self.fluids.rearm()
        self.tell_clock()

    def _raise(self, alarm: str, priority: Priority, text: str, values: dict[str, Any]) -> None:
        if self.runner is None:
            self.idle.raise_(alarm, priority, text, "", values)
        else:
            self.runner.alarm(alarm, priority, text, values)

    def _clear(self, alarm: str) -> None:
        self.desk.clear(alarm)

    def _act(self, alarm: str, action: Action, text: str) -> None:
        if self.runner is not None:
            self.runner.act(alarm, action, text)

    def _by_design(self, alarm: str, suppressed: bool) -> None:
        self.desk.by_design(alarm, suppressed)

    def judged(self, device: str | None) -> None:
        """Judge the alarms of the site on what a device has just read; all of them where none is named.

        Invariant: with and without a batch, whoever owns the device, in every mode of the controller.
        """
        if self._alarms is None:
            return
        self._bordered("alarms", self._alarms.scan, self.runner, device)
        if device is None and self._guard is not None:
            self._bordered("guard", self._guard.scan, self.runner)
        if device is None and self.runner is not None:  # what nobody can read any more is told of too
            self._bordered("controls", self.runner.controls.look, self.runner)
        pending = self._alarms.pending()
        if self._guard is not None:
            pending |= self._guard.pending()
        if pending != self._sharp:  # a pending alarm is looked at as closely as an acting output
            self._sharp = pending
            with self._pace:
                self._pace = ExitStack()
                self._pace.enter_context(self._scanner.active(*pending))

    def estimated(self) -> bool:
        """Estimate anew where it is time to; return whether that was done.  What breaks there concerns nothing else."""
        before = self._estimator
        if before is None or not before.due:
            return False
        self._bordered("estimates", before.tick, None)
        return True

    def close(self) -> None:
        """Wait for nothing any more."""
        self.idle.close()
        self._pace.close()

    def tell_clock(self) -> None:
        """Tell a virtual clock whether this unit waits for a person: to begin, to go on, or to clear away."""
        self._outside.close()
        recovering = self.runner is not None and self.runner.recovering  # a held batch too: that takes time
        watched = self.runner is not None and self.runner.watch_only  # safe mode, which a person has to leave
        if watched or (self.state in _WAITS_FOR_A_PERSON and not recovering):
            self._outside.enter_context(self._clock.outside(f"{self.name} is {self.state.value}"))

    def scanned(self, device: str, readings: Mapping[str, Reading]) -> None:
        """Judge the guards and keep the trends, on readings of one instrument by `device.point`.

        Invariant: what breaks here harms this batch alone: never the scan, the image or another unit.
        """
        runner, guard, history = self.runner, self._guard, self._history
        if runner is None or guard is None or history is None:
            return
        if self.fluids is not None:
            self._bordered("fluids", self.fluids.scanned, runner, device)
        if device in runner.batch.equipment.values():  # what conditions of a recipe can read
            self._bordered("guard", guard.scan, runner, device)
            self._bordered("targets", runner.standing.keep_targets, runner, device)
            self._bordered("controls", runner.controls.look, runner, device)
        self._bordered("watchdog", runner.standing.see_watchdog, runner, device)
        self._bordered("identity", runner.standing.see_identity, runner, device)
        now = self._clock.monotonic()
        if now - self._trended.get(device, -1e9) >= self._trend_every:
            self._trended[device] = now
            self._bordered("trends", self._keep_trends, None, history, runner.batch.plant, readings)

    def _keep_trends(self, history: History, plant: UnitPlant, readings: Mapping[str, Reading]) -> None:
        seen, values, quality = self._seen, dict[str, float | None](), dict[str, Quality]()
        for name, reading in readings.items():
            mine = seen.get(name)
            if mine is None:
                mine = seen[name] = plant.sees(name)
            if mine:
                values[name] = _trend(reading)
                quality[name] = reading.quality
        if values:
            history.sample(self._clock.now().timestamp(), values, quality)

    def _bordered(self, what: str, work: Callable[[*Ts], None], protects: Runner | None, *args: *Ts) -> None:
        """Do some work of this unit; where it breaks, what protects the batch (a guard) holds it, with an alarm."""
        try:
            work(*args)
        except Exception as error:  # noqa: BLE001 - see scanned
            self.faults += 1
            if (what, type(error)) not in self._told:
                self._told.add((what, type(error)))
                self._log.exception("unit_fault", part=what)
                if protects is not None:
                    text = f"internal error in {what}: {error!r:.200}"
                    protects.fire(Command.HOLD, text)  # Actuate first, report second.
                    protects.alarm("internal-error", "critical", text)

    async def note_trends(self, *, final: bool) -> None:
        """Put the hashes of the trends on the record: of whole hours, at the end of a batch of the rest too."""
        if self.runner is None or self._history is None:
            return
        if final:
            await self._history.flush()
        while (block := self._history.roll(final=final)) is not None:
            self.runner.batch.note(ev.HistoryBlock(block.t0, block.t1, block.blocks, block.sha256, block.first))


def suppressed_by_design(book: AlarmBook) -> frozenset[str]:
    """Return the alarms that are suppressed by design, by the book."""
    flags = ((alarm.id, alarm.aside.get("suppressed")) for alarm in book)
    return frozenset(alarm for alarm, flag in flags if flag is not None and flag.by == BY_DESIGN)


def _trend(reading: Reading) -> float | None:
    value = reading.value
    return value if type(value) is float else float(value) if isinstance(value, (bool, int, float)) else None
