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

_MOST = 10**12  # writes; more were never made


class WriteLedger:
    """Counts by instrument and command; kept in a file, whose loss forgets counts and stops nothing.

    The file is `{"device.command": {"day": "2026-01-31", "today": 3, "total": 41}}`.
    """

    def __init__(self, clock: Clock, kept: Kept | None = None) -> None:
        """Begin with what `kept` holds."""
        self._clock = clock
        self._kept = kept or Kept(clock)
        self._counts: dict[str, dict[str, Any]] = {}
        self._saving: asyncio.Task[None] | None = None
        self._again = False
        self._log = structlog.get_logger("wear")

    def spend(self, device: str, command: Command, *, whatever: bool = False) -> str:
        """Count a write that is about to be sent; return why it may not be sent (then it is not counted), or "".

        Invariant: looking and counting are one step, or writes that come at once would all find room. `whatever`: a
        stop is counted and sent.
        """
        if command.storage is None:
            return ""
        if not whatever and (why := self._refusal(device, command)):
            return why
        count = self._count(device, command.name)
        count["today"] += 1
        count["total"] += 1
        self._again = True
        if self._saving is None or self._saving.done():
            self._saving = asyncio.create_task(self._save(), name="wear")
        return ""

    def _refusal(self, device: str, command: Command) -> str:
        storage = command.storage
        if storage is None:
            return ""
        count = self._count(device, command.name)
        if storage.per_day is not None and count["today"] >= storage.per_day:
            return f"{command.name} was written {count['today']} times today, its budget is {storage.per_day} a day"
        if storage.life is not None and count["total"] >= storage.life:
            return f"{command.name} was written {count['total']} times, the memory lasts {storage.life}"
        return ""

    def total(self, device: str, command: str) -> int:
        """Return how often a command was written, over all restarts."""
        return int(self._count(device, command)["total"])

    def counts(self, device: str, command: str) -> tuple[int, int]:
        """Return how often a command was written today, and over all restarts; 0 where it never was."""
        if f"{device}.{command}" not in self._counts and f"{device}.{command}" not in self._kept.data:
            return 0, 0
        count = self._count(device, command)
        return int(count["today"]), int(count["total"])

    async def close(self) -> None:
        """Wait until what was counted is in the file."""
        if self._saving is not None:
            await asyncio.wait((self._saving,))

    def _count(self, device: str, command: str) -> dict[str, Any]:
        day, key = self._clock.now().date().isoformat(), f"{device}.{command}"
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = self._kept_count(key)
            self._kept.data[key] = count
        if count["day"] != day:
            count["day"], count["today"] = day, 0
        return count

    def _kept_count(self, key: str) -> dict[str, Any]:
        """Return what the file says of a command; what cannot be read of it is said, and begins with 0."""
        found = self._kept.data.get(key, {})
        kept = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
        count: dict[str, Any] = {"day": str(kept.get("day", "")), "today": 0, "total": 0}
        for name in ("today", "total"):
            value = kept.get(name)
            if isinstance(value, int | float) and 0 <= value <= _MOST and value == int(value):
                count[name] = int(value)
            elif key in self._kept.data:
                self._log.error(
                    "wear_count_unreadable", command=key, entry=name, found=repr(value)[:100], counts_from=0
                )
        count["total"] = max(count["total"], count["today"])
        return count

    async def _save(self) -> None:
        while self._again:
            self._again = False
            try:
                await self._kept.save()
            except OSError as error:
                self._log.warning("wear_not_saved", error=str(error))
