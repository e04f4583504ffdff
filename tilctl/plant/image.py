"""The process image: the latest reading of every point, from which everyone reads and nobody polls."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from devices.clock import Clock
from devices.profile_types import TEXT
from devices.reading import Quality, Reading, bad
from devices.role import BOOL, SYMBOL

Watcher = Callable[[str, Mapping[str, Reading]], None]
Before = Callable[[str, Mapping[str, Reading]], Mapping[str, Reading]]


_KINDS: Mapping[str, type] = {BOOL: bool, SYMBOL: str, TEXT: str}  # of values; of any other unit it is a number
MOST_FOR_EACH = 4  # readings for each point of a device that one read may bring, before it is looked at


class ProcessImage:
    """Readings by `device.point`.

    A reading turns stale when it is older than its device's limit, which follows the scan period in force, so
    that a slow scan is not mistaken for a silent device.
    """

    def __init__(self, clock: Clock) -> None:
        self.before: Before | None = None
        """Sees what a device said, before anybody else, and may make good readings uncertain."""
        self._clock = clock
        self._log = structlog.get_logger("image")
        self.watcher_faults = 0
        self.refused: dict[str, int] = {}  # device -> readings that were not its own, or no readings at all
        self._own: dict[str, Mapping[str, str]] = {}
        self._named: dict[str, Mapping[str, str]] = {}  # device -> point -> `device.point`
        self._told: set[tuple[str, str]] = set()  # what was logged once and is only counted from then on
        self._readings: dict[str, Reading] = {}
        self._stale_after: dict[str, float] = {}
        self._watchers: list[Watcher] = []
        self._scans: dict[str, int] = {}
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    def watch(self, watcher: Watcher) -> None:
        """Call `watcher(device, readings)` on the loop after each scan; a watcher must not raise or block."""
        self._watchers.append(watcher)

    def expect(self, device: str, stale_after: float) -> None:
        """Set the age in seconds from which the readings of a device, or one `device.point`, are stale."""
        self._stale_after[device] = stale_after

    def own(self, device: str, points: Mapping[str, str]) -> None:
        """Say which points a device has, with their units; from now on no other reading of it is taken."""
        self._own[device] = dict(points)
        self._named[device] = {point: f"{device}.{point}" for point in points}

    def named(self, device: str, readings: Mapping[str, Reading]) -> dict[str, Reading]:
        """Return readings of a device (by point) by `device.point`."""
        names = self._named.get(device)
        if names is None:
            return {f"{device}.{point}": reading for point, reading in readings.items()}
        return {names[point]: reading for point, reading in readings.items()}

    def put(self, device: str, readings: Mapping[str, Reading]) -> None:
        """Take in the readings of one device (by point) and wake whoever waits for them.

        Invariant: a value is the device's own, of its unit and kind, finite and not of the future; else it is bad.
        What is no point of the device is refused, counted, and logged once.
        """
        readings = self._take(device, readings)
        self._scans[device] = self._scans.get(device, 0) + 1
        for future in self._waiting.pop(device, ()):
            if not future.done():
                future.set_result(None)
        self._tell(device, readings)

    def show(self, device: str, readings: Mapping[str, Reading]) -> None:
        """Take in what a device read back outside of its scans, and tell nobody: the next scan is judged.

        Who acts by what is read would act on what he caused himself, as fast as the buses carry it.
        """
        self._take(device, readings)

    def put_part(self, device: str, readings: Mapping[str, Reading] | None) -> None:
        """Take in what a part of equipment read, None when it failed; nobody but those who look sees it."""
        if readings is None:
            self._lose(device)
        else:
            self._take(device, readings)

    def _take(self, device: str, readings: Mapping[str, Reading]) -> Mapping[str, Reading]:
        readings = self._looked_at(device, self._checked(device, readings))
        self._readings.update(self.named(device, readings))
        return readings

    def _looked_at(self, device: str, readings: Mapping[str, Reading]) -> Mapping[str, Reading]:
        """Invariant: who looks first and breaks keeps no reading from the image."""
        if self.before is None:
            return readings
        try:
            return self.before(device, readings)
        except Exception as error:  # noqa: BLE001 - whatever it is, the scan goes on
            self.watcher_faults += 1
            if self._first("before", type(error).__name__):
                self._log.exception("watcher_failed", device=device)
            return readings

    def _checked(self, device: str, readings: Mapping[str, Reading]) -> Mapping[str, Reading]:
        own = self._own.get(device)
        if own is None:
            return readings
        if len(readings) > MOST_FOR_EACH * len(own):
            self._refuse(device, len(readings), f"{len(readings)} readings at once, it has {len(own)} points")
            return {}
        now = self._clock.monotonic()
        if _plain(readings, own, now):
            return readings
        taken: dict[str, Reading] = {}
        for point, reading in readings.items():
            unit = own.get(point)
            if unit is None:
                self._refuse(device, 1, f"it has no point {point!r:.60}")
                continue
            why = _unfit(reading, unit, now)
            if why:
                self._refuse(device, 1, f"{point} {why}")
            taken[point] = bad(unit, now) if why else reading
        return taken

    def _refuse(self, device: str, count: int, why: str) -> None:
        self.refused[device] = self.refused.get(device, 0) + count
        if self._first(device, "refused"):
            self._log.warning("readings_refused", device=device, why=why, hint="its profile or driver is wrong")

    def _first(self, who: str, what: str) -> bool:
        known = (who, what) in self._told
        self._told.add((who, what))
        return not known

    def _tell(self, device: str, readings: Mapping[str, Reading]) -> None:
        """Invariant: a watcher that breaks blinds neither the scan nor the other watchers."""
        for watcher in self._watchers:
            try:
                watcher(device, readings)
            except Exception as error:  # noqa: BLE001 - whatever it is, the scan goes on
                self.watcher_faults += 1
                if self._first(f"{watcher}", type(error).__name__):
                    self._log.exception("watcher_failed", device=device)

    def lost(self, device: str) -> None:
        """Mark all readings of a device bad: it is not there, and its last values are no knowledge."""
        self._tell(device, self._lose(device))

    def _lose(self, device: str) -> Mapping[str, Reading]:
        now = self._clock.monotonic()
        prefix = f"{device}."
        gone = {
            name.removeprefix(prefix): replace(reading, value=None, quality=Quality.BAD, at=now)
            for name, reading in self._readings.items()
            if name.startswith(prefix)
        }
        for point, reading in gone.items():
            self._readings[prefix + point] = reading
        self._looked_at(device, gone)
        return gone

    def get(self, name: str) -> Reading | None:
        """Return the reading of `device.point` as seen now, or None when it was never read."""
        reading = self._readings.get(name)
        if reading is None:
            return None
        device = name.partition(".")[0]
        limit = self._stale_after.get(name) or self._stale_after.get(device, 5.0)
        return reading.aged(self._clock.monotonic(), limit)

    def age(self, reading: Reading) -> float:
        """Return how old a reading is now, in s."""
        return self._clock.monotonic() - reading.at

    def number(self, name: str) -> float | None:
        """Return the value of a point as a number, or None when it is not to be trusted."""
        reading = self.get(name)
        if reading is None or reading.quality not in (Quality.GOOD, Quality.UNCERTAIN):
            return None
        value = reading.value
        return float(value) if isinstance(value, (int, float)) else None

    def all(self) -> dict[str, Reading]:
        """Return every reading as seen now, by `device.point`."""
        found: dict[str, Reading] = {}
        for name in self._readings:
            reading = self.get(name)
            if reading is not None:
                found[name] = reading
        return found

    async def next_scan(self, device: str) -> None:
        """Wait for the next scan of a device."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(device, []).append(future)
        try:
            await future
        finally:
            waiting = self._waiting.get(device, [])
            if future in waiting:
                waiting.remove(future)


def _plain(readings: Mapping[str, Reading], own: Mapping[str, str], now: float) -> bool:
    """Tell quickly of the usual readings that all may be taken; of any others `_unfit` says more."""
    for point, reading in readings.items():
        unit = own.get(point)
        if unit is None or type(reading) is not Reading or reading.unit != unit or not reading.at <= now:
            return False
        value = reading.value
        kind = type(value)
        if reading.quality is Quality.BAD or kind is not _KINDS.get(unit, float):
            return False
        if kind is float and not math.isfinite(value):  # type: ignore[arg-type]
            return False
    return True


def _unfit(reading: Reading, unit: str, now: float) -> str:
    """Return why a reading may not be taken as it is, "" where it may."""
    if type(reading) is not Reading:
        return f"brought {type(reading).__name__}, not a reading"
    if reading.unit != unit:
        return f"is in {reading.unit!r:.40}, expected {unit!r}"
    if not reading.at <= now:  # also what is no number
        return "is of the future"
    value = reading.value
    if (value is None) is not (reading.quality is Quality.BAD):
        return f"is {reading.quality} with {'no' if value is None else 'a'} value"
    if value is None:
        return ""
    if unit == BOOL:
        return "" if isinstance(value, bool) else "is neither true nor false"
    if unit in (SYMBOL, TEXT):
        return "" if isinstance(value, str) else "is no text"
    if isinstance(value, (bool, str)):
        return "is no number"
    return "" if math.isfinite(value) else "is not a finite number"
