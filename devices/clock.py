"""Time as a port: everything that waits or stamps a record asks a clock.

Two kinds of time are kept apart. `monotonic` (seconds) carries every wait and is never stepped; `now`
(aware UTC) is for records and the calendar only.  Under `SystemClock` the three rehearsal verbs are plain:
`hold` and `outside` do nothing, `offload` runs work in the storage thread.  A virtual clock gives them
meaning: a *hold* stops virtual time for something that no virtual timer may end; *outside* marks a wait for
a person, for whom virtual time stands; *offload* runs the work when nothing else can happen.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol, TypeVar

from devices.storage import StorageThread

T = TypeVar("T")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIMEX_BYTES = 512  # room for the kernel's struct timex (208 bytes on 64-bit Linux), of which only the result is used
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised


class Clock(Protocol):
    """What the product knows of time."""

    def now(self) -> datetime:
        """Return the present moment, aware UTC, for records."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that is never stepped, for waits and ages."""
        ...

    def utc(self, monotonic: float) -> datetime:
        """Return the UTC moment that belongs to a monotonic time of this boot."""
        ...

    def synchronised(self) -> bool | None:
        """Return whether `now` follows a time server; None where the system does not tell."""
        ...

    def machine(self) -> tuple[str, float] | None:
        """Return which boot of the machine this is and the seconds since it; None where the system does not tell.

        Never stepped, and the same for every process of that boot: it bridges a restart of the controller.
        """
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` of this clock."""
        ...

    async def sleep_until(self, monotonic: float) -> None:
        """Wait until `monotonic()` has reached the given time; returns at once if it has passed."""
        ...

    def hold(self, label: str) -> contextlib.AbstractContextManager[None]:
        """Stop virtual time inside the block (a reply or a commit is awaited from another thread)."""
        ...

    def outside(self, label: str) -> contextlib.AbstractContextManager[None]:
        """Mark a wait for a person: virtual time stands until the block is left."""
        ...

    def enter(self, callback: Callable[[], None]) -> None:
        """Run `callback` on the loop; may be called from any thread."""
        ...

    async def offload(self, work: Callable[[], T]) -> T:
        """Run blocking storage work off the loop, in order of asking, and return its result."""
        ...

    def close(self) -> None:
        """Release the storage thread, after its queued work is done."""
        ...


class SystemClock:
    """The real clock of this machine, on the running loop."""

    def __init__(self) -> None:
        """Bind to the running loop; raises RuntimeError when there is none."""
        self._loop = asyncio.get_running_loop()
        self._storage = StorageThread("journal")

    def now(self) -> datetime:
        """Return the present UTC moment."""
        return datetime.fromtimestamp(time.time(), UTC)

    def monotonic(self) -> float:
        """Return the loop's time in seconds."""
        return self._loop.time()

    def utc(self, monotonic: float) -> datetime:
        """Return the UTC moment of a monotonic time, by the present offset of the two clocks."""
        return self.now() + timedelta(seconds=monotonic - self.monotonic())

    def synchronised(self) -> bool | None:
        """Return what the kernel says (adjtimex); None on systems without it."""
        try:
            state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
        except (AttributeError, OSError):
            return None
        return None if state < 0 else state != _TIME_ERROR

    def machine(self) -> tuple[str, float] | None:
        """Return the kernel's boot id and CLOCK_BOOTTIME; None on systems without them."""
        try:
            return _BOOT_ID.read_text("ascii").strip(), time.clock_gettime(time.CLOCK_BOOTTIME)
        except (AttributeError, OSError):
            return None

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        await asyncio.sleep(seconds)

    async def sleep_until(self, monotonic: float) -> None:
        """Wait until the given monotonic time."""
        await asyncio.sleep(max(0.0, monotonic - self.monotonic()))

    def hold(self, label: str) -> contextlib.AbstractContextManager[None]:
        """Do nothing: real time cannot be stopped."""
        return contextlib.nullcontext()

    def outside(self, label: str) -> contextlib.AbstractContextManager[None]:
        """Do nothing: real time goes on while a person thinks."""
        return contextlib.nullcontext()

    def enter(self, callback: Callable[[], None]) -> None:
        """Run `callback` on the loop, from any thread; dropped when the loop has closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    async def offload(self, work: Callable[[], T]) -> T:
        """Run `work` in the storage thread."""
        return await self._storage.run(work)

    def close(self) -> None:
        """Wait for queued storage work, at most a few seconds, then end the thread."""
        self._storage.close()
