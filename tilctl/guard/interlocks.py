"""Interlocks of the site: over its limit, an instrument is cut off by itself, without engine, record, broker, metrics.

Judged on each scan of the instrument that reads the tag, whether a batch runs or not, and while the controller
recovers.  Unknown is not false: a reading that is not to be trusted neither trips nor clears.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from devices.reading import Quality, Reading
from tilctl.config.site import Interlock, UnitSite
from tilctl.plant.outputs import OutputGate

TRUSTED = (Quality.GOOD, Quality.UNCERTAIN)


@dataclass(frozen=True, slots=True)
class Reactions:
    """What is told at each scan over a limit: (unit, interlock, text), and after acting (unit, interlock, error).

    Both return at once and never raise.
    """

    tripped: Callable[[str, str, str], None]
    acted: Callable[[str, str, str], None]


class Interlocks:
    """All interlocks of a site."""

    def __init__(self, units: Mapping[str, UnitSite], gate: OutputGate, reactions: Reactions) -> None:
        self._gate = gate
        self._reactions = reactions
        self._at: dict[str, list[tuple[str, Interlock]]] = {}
        for name, unit in units.items():
            for interlock in unit.interlocks.values():
                self._at.setdefault(interlock.device, []).append((name, interlock))
        self._over: set[tuple[str, str]] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._log = structlog.get_logger("interlocks")

    def scanned(self, device: str, readings: Mapping[str, Reading]) -> None:
        """Judge what one instrument has just read, by its points; cut it off at every scan that is over a limit."""
        for unit, interlock in self._at.get(device, ()):
            reading = readings.get(interlock.point)
            if reading is None or reading.quality not in TRUSTED or not isinstance(reading.value, (int, float)):
                continue
            key = (unit, interlock.name)
            if reading.value <= interlock.above:
                self._over.discard(key)
                continue
            # Invariant: at each scan, not once: what was switched on again meanwhile is off again one scan later.
            self._cut_off(unit, interlock)  # Actuate first, report second.
            text = f"{interlock.tag} is {reading.value:.2f}, over {interlock.above:g}: {device} is cut off"
            if key not in self._over:
                self._over.add(key)
                self._log.warning("interlock_tripped", unit=unit, interlock=interlock.name, text=text)
            self._reactions.tripped(unit, interlock.name, text)

    async def close(self) -> None:
        """End what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _cut_off(self, unit: str, interlock: Interlock) -> None:
        device = interlock.device
        if device in self._tasks:  # the one before is bounded, and this comes again with the next scan
            return
        work = self._act(unit, interlock)
        task = self._tasks[device] = asyncio.create_task(work, name=f"interlock:{device}")
        task.add_done_callback(lambda _: self._tasks.pop(device, None))

    async def _act(self, unit: str, interlock: Interlock) -> None:
        protected = await self._gate.protect(interlock.device, interlock.command)
        self._reactions.acted(unit, interlock.name, protected.error)
