"""Scanning: each instrument is read on a schedule, not after a sleep; lateness is measured, nothing is caught up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

import structlog

from devices.clock import Clock
from devices.instrument import DeviceError, DeviceOffline, Instrument, Priority, ReadFailed
from devices.reading import Reading
from devices.role import BOOL
from tilctl.plant.image import ProcessImage

_SLOW_EVERY = 10  # a slow block is read at every tenth scan of its device
READ_WITHIN = 10.0  # s for one block, whatever its driver does; a bus bounds each request far below that
EARLY = 0.001  # s; a timer of the system may fire a hair before its time
CLOSE_WITHIN = 5.0  # s; a driver that cannot be cancelled does not keep the controller from ending


@dataclass(frozen=True, slots=True)
class ScanPeriods:
    """Scan classes in seconds: `active` while an output acts, `quiet` for climate, `idle` for what rests."""

    active: float
    quiet: float
    idle: float


@dataclass
class ScanStats:
    """What the scanner measured of one instrument: counts, and lateness and duration in seconds.

    `turned` is when its task last came round (monotonic s, whether the read worked or not), `period` the pace in
    force: a task that has not turned for `period` and the time of its reads does not live.
    """

    scans: int = 0
    failures: int = 0
    broken: int = 0  # of the failures those that were the driver's own: not said by it, but raised in it
    hung: int = 0  # of the failures those that were ended after READ_WITHIN
    missed: int = 0
    late_last: float = 0.0
    late_worst: float = 0.0
    took_last: float = 0.0
    took_worst: float = 0.0
    turned: float = 0.0
    period: float = 0.0


@dataclass
class _Schedule:
    instrument: Instrument
    resting: float
    active: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    tried: asyncio.Event = field(default_factory=asyncio.Event)  # its first scan is over, whatever came of it
    stats: ScanStats = field(default_factory=ScanStats)


class Scanner:
    """One task for each instrument; `active` sharpens the pace of those that act."""

    def __init__(self, clock: Clock, image: ProcessImage, periods: ScanPeriods) -> None:
        self._clock = clock
        self._image = image
        self._periods = periods
        self._schedules: dict[str, _Schedule] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._log = structlog.get_logger("scan")

    def add(self, instrument: Instrument, *, quiet: bool) -> None:
        """Scan an instrument: at the quiet pace (climate) or at the idle pace while it rests."""
        resting = self._periods.quiet if quiet else self._periods.idle
        self._schedules[instrument.name] = _Schedule(instrument, resting)
        self._expect(self._schedules[instrument.name])
        profile = instrument.profile
        units = {name: point.unit for name, point in profile.points.items()}
        self._image.own(instrument.name, units | dict.fromkeys(profile.bits, BOOL))
        for point in (p for block in profile.blocks.values() if block.scan == "slow" for p in block.points):
            for name in (point.name, *point.bits.values()):
                self._image.expect(f"{instrument.name}.{name}", max(5.0, 2.5 * _SLOW_EVERY * resting))
        if "mqtt" in profile.kinds:  # it says what it has when it pleases: its profile knows how often that is
            for point in profile.points.values():
                patience = point.stale_ms / 1000 + max(5.0, 2.5 * resting)
                self._image.expect(f"{instrument.name}.{point.name}", patience)

    @property
    def stats(self) -> Mapping[str, ScanStats]:
        """What was measured, by instrument."""
        return {name: schedule.stats for name, schedule in self._schedules.items()}

    def dead(self) -> list[str]:
        """Return the instruments whose task has ended, which it never does while scanning goes on."""
        return [task.get_name().partition(":")[2] for task in self._tasks if task.done()]

    def start(self) -> None:
        """Begin to scan."""
        for name, schedule in self._schedules.items():
            self._tasks.append(asyncio.create_task(self._run(schedule), name=f"scan:{name}"))

    async def close(self) -> None:
        """End all scanning."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_WITHIN)
        self._tasks.clear()

    @contextlib.contextmanager
    def active(self, *names: str) -> Generator[None]:
        """Scan the named instruments at the active pace inside the block."""
        schedules = [self._schedules[name] for name in dict.fromkeys(names)]
        for schedule in schedules:
            schedule.active += 1
            schedule.wake.set()  # before what is expected, which goes by it
            self._expect(schedule)
        try:
            yield
        finally:
            for schedule in schedules:
                schedule.active -= 1
                self._expect(schedule)

    async def tried(self) -> None:
        """Wait until the first scan of every instrument is over, whatever came of it."""
        for schedule in self._schedules.values():
            await schedule.tried.wait()

    async def fresh(self, name: str) -> None:
        """Read an instrument now, outside its schedule; bounded in time, raises DeviceError and nothing else."""
        schedule = self._schedules[name]
        await self._read(schedule, slow=True)

    def _period(self, schedule: _Schedule) -> float:
        return self._periods.active if schedule.active else schedule.resting

    def _expect(self, schedule: _Schedule) -> None:
        # When a slow scan turns fast, the old reading stays good until the read that this wakes.
        period = max(self._period(schedule), schedule.resting if schedule.active and schedule.wake.is_set() else 0.0)
        self._image.expect(schedule.instrument.name, max(5.0, 2.5 * period))

    async def _read(self, schedule: _Schedule, *, slow: bool) -> None:
        """Read what is due into the image.  Invariant: whatever a driver does, this ends in time or as DeviceError."""
        instrument = schedule.instrument
        for block in instrument.profile.blocks.values():
            if block.scan == "fast" or (slow and block.scan == "slow"):
                self._image.put(instrument.name, await self._block(schedule, block.id))

    async def _block(self, schedule: _Schedule, block: str) -> Mapping[str, Reading]:
        instrument, stats = schedule.instrument, schedule.stats
        bound = asyncio.timeout(READ_WITHIN)
        fault: BaseException
        try:
            async with bound:
                return {**await instrument.read(block, Priority.DATA)}
        except DeviceError:
            raise
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise  # it was meant for us
            fault = error
        except Exception as error:  # noqa: BLE001 - Invariant: a driver harms its own device's quality only
            fault = error
        if isinstance(fault, TimeoutError) and bound.expired():
            stats.hung += 1
            raise DeviceOffline(instrument.name, f"block {block}: no end within {READ_WITHIN:g} s") from fault
        stats.broken += 1
        raise ReadFailed(instrument.name, f"block {block}: its driver failed: {fault!r:.200}") from fault

    async def _run(self, schedule: _Schedule) -> None:
        stats = schedule.stats
        due = self._clock.monotonic()
        count = 0
        failing = False
        while True:
            started = self._clock.monotonic()
            stats.late_last = started - due
            stats.late_worst = max(stats.late_worst, stats.late_last)
            schedule.wake.clear()
            failing = await self._scan(schedule, failing=failing, slow=count % _SLOW_EVERY == 0)
            schedule.tried.set()
            count += 1
            stats.turned, stats.period = self._clock.monotonic(), self._period(schedule)
            stats.took_last = stats.turned - started
            stats.took_worst = max(stats.took_worst, stats.took_last)
            due = await self._wait(schedule, due)

    async def _scan(self, schedule: _Schedule, *, failing: bool, slow: bool) -> bool:
        """Scan an instrument once and return whether that failed; logged when it begins to fail and when it ends."""
        stats, name = schedule.stats, schedule.instrument.name
        try:
            await self._read(schedule, slow=slow)
        except Exception as error:  # noqa: BLE001 - Invariant: the task of a scan survives everything
            stats.failures += 1
            if not isinstance(error, DeviceError):
                stats.broken += 1
            if not failing:
                self._log.warning("scan_failed", device=name, error=str(error) or repr(error))
            self._image.lost(name)
            return True
        if failing:
            self._log.info("scan_recovered", device=name, failures=stats.failures)
        stats.scans += 1
        self._expect(schedule)
        return False

    async def _wait(self, schedule: _Schedule, due: float) -> float:
        """Wait for the next scan and return when it was due; a change of pace ends the wait."""
        period = self._period(schedule)
        now = self._clock.monotonic()
        due += period
        if due <= now:
            missed = int((now - due) // period) + 1
            schedule.stats.missed += missed
            due += missed * period
        timer = asyncio.get_running_loop().call_at(due, schedule.wake.set)
        try:
            await schedule.wake.wait()
        finally:
            timer.cancel()
        now = self._clock.monotonic()
        return due if now >= due - EARLY else now
