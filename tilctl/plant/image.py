"""The process image: the latest reading of every point, from which everyone reads and nobody polls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from devices.clock import Clock
from devices.reading import Quality, Reading

Watcher = Callable[[str, Mapping[str, Reading]], None]


class ProcessImage:
    """Readings by `device.point`.

    A reading turns stale when it is older than its device's limit, which follows the scan period in force, so
    that a slow scan is not mistaken for a silent device.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._log = structlog.get_logger("image")
        self.watcher_faults = 0
        self._readings: dict[str, Reading] = {}
        self._stale_after: dict[str, float] = {}
        self._watchers: list[Watcher] = []
        self._scans: dict[str, int] = {}
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    def watch(self, watcher: Watcher) -> None:
        """Call `watcher(device, readings)` on the loop after each scan; a watcher must not raise or block."""
        self._watchers.append(watcher)

    def expect(self, device: str, stale_after: float) -> None:
        """Set the age in seconds from which the readings of a device are stale."""
        self._stale_after[device] = stale_after

    def put(self, device: str, readings: Mapping[str, Reading]) -> None:
        """Take in the readings of one device (by point) and wake whoever waits for them."""
        for point, reading in readings.items():
            self._readings[f"{device}.{point}"] = reading
        self._scans[device] = self._scans.get(device, 0) + 1
        for future in self._waiting.pop(device, ()):
            if not future.done():
                future.set_result(None)
        self._tell(device, readings)

    def _tell(self, device: str, readings: Mapping[str, Reading]) -> None:
        """Invariant: a watcher that breaks blinds neither the scan nor the other watchers."""
        for watcher in self._watchers:
            try:
                watcher(device, readings)
            except Exception:  # noqa: BLE001 - whatever it is, the scan goes on
                self.watcher_faults += 1
                self._log.exception("watcher_failed", device=device)

    def lost(self, device: str) -> None:
        """Mark all readings of a device bad: it is not there, and its last values are no knowledge."""
        now = self._clock.monotonic()
        prefix = f"{device}."
        gone = {
            name.removeprefix(prefix): replace(reading, value=None, quality=Quality.BAD, at=now)
            for name, reading in self._readings.items()
            if name.startswith(prefix)
        }
        for point, reading in gone.items():
            self._readings[prefix + point] = reading
        self._tell(device, gone)

    def get(self, name: str) -> Reading | None:
        """Return the reading of `device.point` as seen now, or None when it was never read."""
        reading = self._readings.get(name)
        if reading is None:
            return None
        device = name.partition(".")[0]
        return reading.aged(self._clock.monotonic(), self._stale_after.get(device, 5.0))

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

    def oldest_age(self) -> float:
        """Return the age in seconds of the oldest reading, 0 when there is none."""
        now = self._clock.monotonic()
        return max((now - reading.at for reading in self._readings.values()), default=0.0)
