"""Scanning: each instrument is read on a schedule, not after a sleep; lateness is measured, nothing is caught up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

import structlog

from devices.clock import Clock
from devices.instrument import DeviceError, Instrument, Priority
from tilctl.plant.image import ProcessImage

_SLOW_EVERY = 10  # a slow block is read at every tenth scan of its device


@dataclass(frozen=True, slots=True)
class ScanPeriods:
    """Scan classes in seconds: `active` while an output acts, `quiet` for climate, `idle` for what rests."""

    active: float
    quiet: float
    idle: float


@dataclass
class ScanStats:
    """What the scanner measured: counts, and lateness in seconds."""

    scans: int = 0
    failures: int = 0
    missed: int = 0
    late_last: float = 0.0
    late_worst: float = 0.0


@dataclass
class _Schedule:
    instrument: Instrument
    resting: float
    active: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
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

    @property
    def stats(self) -> Mapping[str, ScanStats]:
        """What was measured, by instrument."""
        return {name: schedule.stats for name, schedule in self._schedules.items()}

    def start(self) -> None:
        """Begin to scan."""
        for name, schedule in self._schedules.items():
            self._tasks.append(asyncio.create_task(self._run(schedule), name=f"scan:{name}"))

    async def close(self) -> None:
        """End all scanning."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    @contextlib.contextmanager
    def active(self, *names: str) -> Generator[None]:
        """Scan the named instruments at the active pace inside the block."""
        schedules = [self._schedules[name] for name in dict.fromkeys(names)]
        for schedule in schedules:
            schedule.active += 1
            self._expect(schedule)
            schedule.wake.set()
        try:
            yield
        finally:
            for schedule in schedules:
                schedule.active -= 1
                self._expect(schedule)

    async def fresh(self, name: str) -> None:
        """Read an instrument now, outside its schedule; raises DeviceError."""
        schedule = self._schedules[name]
        await self._read(schedule, slow=True)

    def _period(self, schedule: _Schedule) -> float:
        return self._periods.active if schedule.active else schedule.resting

    def _expect(self, schedule: _Schedule) -> None:
        # When a slow scan turns fast, the old reading stays good until the read that this wakes.
        period = max(self._period(schedule), schedule.resting if schedule.active and schedule.wake.is_set() else 0.0)
        self._image.expect(schedule.instrument.name, max(5.0, 2.5 * period))

    async def _read(self, schedule: _Schedule, *, slow: bool) -> None:
        instrument = schedule.instrument
        for block in instrument.profile.blocks.values():
            if block.scan == "fast" or (slow and block.scan == "slow"):
                self._image.put(instrument.name, await instrument.read(block.id, Priority.DATA))

    async def _run(self, schedule: _Schedule) -> None:
        name = schedule.instrument.name
        due = self._clock.monotonic()
        count = 0
        failing = False
        while True:
            late = self._clock.monotonic() - due
            schedule.stats.late_last = late
            schedule.stats.late_worst = max(schedule.stats.late_worst, late)
            schedule.wake.clear()
            try:
                await self._read(schedule, slow=count % _SLOW_EVERY == 0)
            except DeviceError as error:
                schedule.stats.failures += 1
                if schedule.stats.failures == 1 or not failing:
                    self._log.warning("scan_failed", device=name, error=str(error))
                failing = True
                self._image.lost(name)
            else:
                if failing:
                    self._log.info("scan_recovered", device=name, failures=schedule.stats.failures)
                failing = False
                schedule.stats.scans += 1
                self._expect(schedule)
            count += 1
            due = await self._wait(schedule, due)

    async def _wait(self, schedule: _Schedule, due: float) -> float:
        """Wait for the next scan and return when it was due; a change of pace ends the wait."""
        period = self._period(schedule)
        now = self._clock.monotonic()
        due += period
        if due <= now:
            missed = int((now - due) // period) + 1
            schedule.stats.missed += missed
            due += missed * period
        try:
            async with asyncio.timeout_at(due):
                await schedule.wake.wait()
        except TimeoutError:
            return due
        return self._clock.monotonic()
