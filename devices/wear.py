"""The write ledger: how often memory that wears was written, and a refusal where its budget is spent.

Some instruments keep set points in memory that lasts so many changes (Eurotherm HA026230: typically 100,000) and then
stop working.  Each profile declares the budget of each command; the ledger counts what this controller wrote, over all
restarts.  What others write to the instrument it cannot know.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import structlog

from devices.clock import Clock
from devices.kept import Kept
from devices.profile_types import Command


class WriteLedger:
    """Counts by instrument and command; kept in a file, whose loss forgets counts and stops nothing.

    The file is `{"device.command": {"day": "2026-01-31", "today": 3, "total": 41}}`.
    """

    def __init__(self, clock: Clock, kept: Kept | None = None) -> None:
        """Begin with what `kept` holds."""
        self._clock = clock
        self._kept = kept or Kept(clock)
        self._saving: asyncio.Task[None] | None = None
        self._again = False
        self._log = structlog.get_logger("wear")

    def refusal(self, device: str, command: Command) -> str:
        """Return why a command may not be written once more, "" where it may."""
        storage = command.storage
        if storage is None:
            return ""
        count = self._count(device, command.name)
        if storage.per_day is not None and count["today"] >= storage.per_day:
            return f"{command.name} was written {count['today']} times today, its budget is {storage.per_day} a day"
        if storage.life is not None and count["total"] >= storage.life:
            return f"{command.name} was written {count['total']} times, the memory lasts {storage.life}"
        return ""

    def wrote(self, device: str, command: Command) -> None:
        """Count a write that is about to be sent."""
        if command.storage is None:
            return
        count = self._count(device, command.name)
        count["today"] += 1
        count["total"] += 1
        self._again = True
        if self._saving is None or self._saving.done():
            self._saving = asyncio.create_task(self._save(), name="wear")

    def total(self, device: str, command: str) -> int:
        """Return how often a command was written, over all restarts."""
        return int(self._count(device, command)["total"])

    async def close(self) -> None:
        """Wait until what was counted is in the file."""
        if self._saving is not None:
            await asyncio.wait((self._saving,))

    def _count(self, device: str, command: str) -> dict[str, Any]:
        day = self._clock.now().date().isoformat()
        found = self._kept.data.get(f"{device}.{command}")
        count = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
        if not all(isinstance(count.get(key), int) for key in ("today", "total")):
            count = {"day": day, "today": 0, "total": 0}
        self._kept.data[f"{device}.{command}"] = count
        if count.get("day") != day:
            count["day"], count["today"] = day, 0
        return count

    async def _save(self) -> None:
        while self._again:
            self._again = False
            try:
                await self._kept.save()
            except OSError as error:
                self._log.warning("wear_not_saved", error=str(error))
