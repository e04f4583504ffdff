"""Virtual time shared between processes: 8 bytes in a mapped file, which outlive whoever wrote them.

One writes at a time: the loop of the controller while that lives, the one who killed it while it is dead.  The plant in
a process of its own only reads, when a request comes: whoever sent that waits for the reply, and the time stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import struct
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_SECONDS = struct.Struct("d")  # native and aligned: another process sees the old value or the new one, never a mixture
_LOOK_S = 0.001  # real; how often a wait for virtual time looks at the page


class Page:
    """Virtual seconds in a file; made with 0 when it is not there.  Raises OSError."""

    def __init__(self, path: Path) -> None:
        """Map the file."""
        self.path = path
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if os.fstat(handle).st_size < _SECONDS.size:
                os.ftruncate(handle, _SECONDS.size)
            self._map = mmap.mmap(handle, _SECONDS.size)
        finally:
            os.close(handle)

    def read(self) -> float:
        """Return the virtual time, s."""
        seconds: float = _SECONDS.unpack_from(self._map)[0]
        return seconds

    def write(self, seconds: float) -> None:
        """Set the virtual time, s."""
        _SECONDS.pack_into(self._map, 0, seconds)

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()


class PageClock:
    """The clock of a plant in a process of its own (`devices.clock.Clock`), on a real loop; it only reads the page."""

    def __init__(self, page: Page, epoch: datetime) -> None:
        """Take the time from `page`; UTC is `epoch` plus that.  Raises RuntimeError when no loop runs."""
        self._page = page
        self._epoch = epoch
        self._loop = asyncio.get_running_loop()

    def now(self) -> datetime:
        """Return the virtual moment, aware UTC."""
        return self.utc(self._page.read())

    def monotonic(self) -> float:
        """Return virtual seconds."""
        return self._page.read()

    def utc(self, monotonic: float) -> datetime:
        """Return the UTC moment of a virtual time (s)."""
        return self._epoch + timedelta(seconds=monotonic)

    def synchronised(self) -> bool | None:
        """Return True: virtual time has no server to lose."""
        return True

    def machine(self) -> tuple[str, float] | None:
        """Return one boot for the life of the page, and its seconds."""
        return "page", self._page.read()

    async def sleep(self, seconds: float) -> None:
        """Wait for virtual `seconds`."""
        await self.sleep_until(self._page.read() + seconds)

    async def sleep_until(self, monotonic: float) -> None:
        """Wait until another process has moved the time there."""
        await asyncio.sleep(0)
        while self._page.read() < monotonic:  # noqa: ASYNC110  another process moves it, and has no event for us
            await asyncio.sleep(_LOOK_S)

    def hold(self, label: str) -> contextlib.AbstractContextManager[None]:
        """Do nothing: the time is moved elsewhere."""
        return contextlib.nullcontext()

    def outside(self, label: str) -> contextlib.AbstractContextManager[None]:
        """Do nothing: the time is moved elsewhere."""
        return contextlib.nullcontext()

    def enter(self, callback: Callable[[], None]) -> None:
        """Run `callback` on the loop, from any thread; dropped when the loop has closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    async def offload(self, work: Callable[[], T]) -> T:
        """Run `work` in the loop's thread."""
        await asyncio.sleep(0)
        return work()

    def close(self) -> None:
        """Do nothing: the page belongs to who made it."""
