"""Trends: what the instruments said, minute by minute, in a file of its own beside the record.

Nothing here ever raises into control or waits for the disk: a sample is taken or counted as dropped.  Each hour's
blocks are hashed, and the hash goes on the record (`HistoryBlock`), which binds the trends to it.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import sqlite3
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType

from devices.clock import Clock
from devices.reading import Quality, Value
from tilctl.history.blocks import OpenBlock
from tilctl.history.file import HistoryError, HistoryFile, Stored

BLOCK_S = 60.0  # a block is full at this age and so many samples ...
BLOCK_SAMPLES = 60
BLOCK_LONGEST_S = 600.0  # ... or at this age; what a crash can lose of the trends
BLOCK_MOST_SAMPLES = 6_000
DISK_WITHIN = 10.0  # s that anybody waits for the disk here
PENDING_LIMIT = 120  # blocks awaiting the disk
UNCOVERED_LIMIT = 10_000  # stored blocks that await their hash on the record: a week at one a minute
_HOUR_S = 3600.0
_END_OF_TIME = 253_402_300_800.0  # the year 10000, where dates end
_NO_QUALITY: Mapping[str, Quality] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class BlockHash:
    """What the record says of some blocks: SHA-256 over their hashes, in order; see the event `HistoryBlock`."""

    t0: str
    t1: str
    blocks: int
    sha256: str
    first: int


@dataclass(slots=True)
class HistoryStatistics:
    """Counters for the metrics; `trouble` is the last failure in words."""

    samples: int = 0
    blocks: int = 0
    dropped_samples: int = 0
    failures: int = 0
    trouble: str = ""


class History:
    """The trends of one batch.  All methods are for the loop."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Touch nothing yet: the file is opened, or made, with the first block."""
        self.path = path
        self.statistics = HistoryStatistics()
        self._clock = clock
        self._file = HistoryFile(path)
        self._open = OpenBlock()
        self._pending: deque[OpenBlock] = deque()
        self._uncovered: deque[Stored] = deque(maxlen=UNCOVERED_LIMIT)
        self._covered: int | None = None
        self._writer: asyncio.Task[None] | None = None

    def sample(self, t: float, values: Mapping[str, Value], quality: Mapping[str, Quality] = _NO_QUALITY) -> None:
        """Take the values of some tags at `t` (UNIX seconds UTC, as of `clock.now().timestamp()`).

        None and what is not finite is kept as bad; a quality not given is good; texts are not trended.
        """
        times = self._open.times
        if times and _is_full(times, t):
            self._seal()
        if not 0.0 <= t < _END_OF_TIME or len(self._open.times) >= BLOCK_MOST_SAMPLES:
            self.statistics.dropped_samples += 1
            return
        self._open.add(t, values, quality)
        self.statistics.samples += 1

    def roll(self, *, final: bool = False) -> BlockHash | None:
        """Return the hash over the oldest complete hour that is on disk and not on the record yet, else None.

        With `final` (after `flush`, at the end of a batch) the hour need not be complete.  Call it until it returns
        None; each answer is to be recorded as `HistoryBlock`.  After a crash an hour may be answered twice, never not.
        """
        if not self._uncovered:
            return None
        hour = _hour(self._uncovered[0].t0)
        if not final and _hour(self._uncovered[-1].t0) == hour:
            return None
        blocks = list(takewhile(lambda stored: _hour(stored.t0) == hour, self._uncovered))
        for _ in blocks:
            self._uncovered.popleft()
        self._covered = blocks[-1].number
        return block_hash(blocks)

    async def flush(self) -> None:
        """Seal the block in the making and wait, a bounded time, until everything is on disk, or counted as lost."""
        self._seal()
        if self._writer is not None and not self._writer.done():
            await asyncio.wait([self._writer], timeout=DISK_WITHIN)

    async def close(self) -> None:
        """Write what there is and close the file."""
        await self.flush()
        if self._writer is not None and not self._writer.done():  # the disk hangs: what is under way is left behind
            self._writer.cancel()
            await asyncio.wait([self._writer])
            self._count_failure(0, TimeoutError(f"the disk did not answer within {DISK_WITHIN:g} s"))
            return
        try:
            async with asyncio.timeout(DISK_WITHIN):
                await self._clock.offload(partial(self._file.close, self._covered))
        except (sqlite3.Error, OSError) as error:
            self._count_failure(0, error)

    def _seal(self) -> None:
        count = len(self._open.times)
        if count == 0:
            return
        block, self._open = self._open, OpenBlock()
        if len(self._pending) >= PENDING_LIMIT:
            self.statistics.dropped_samples += count
            return
        self._pending.append(block)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name=f"history {self.path.name}")

    async def _write(self) -> None:
        while self._pending:
            block = self._pending.popleft()
            try:
                stored = await self._clock.offload(partial(self._file.store, block, self._covered))
            except (sqlite3.Error, OSError, HistoryError) as error:
                self._count_failure(len(block.times), error)
            else:
                self.statistics.blocks += 1
                self._uncovered.extend(stored)

    def _count_failure(self, samples: int, error: Exception) -> None:
        self.statistics.failures += 1
        self.statistics.dropped_samples += samples
        self.statistics.trouble = f"{self.path}: {error}"


def block_hash(blocks: Iterable[Stored]) -> BlockHash:
    """Return the hash over blocks that follow each other; there must be one at least."""
    rows = list(blocks)
    total = hashlib.sha256(b"".join(row.sha256 for row in rows)).hexdigest()
    return BlockHash(_iso(rows[0].t0), _iso(rows[-1].t1), len(rows), total, rows[0].number)


def _is_full(times: list[float], t: float) -> bool:
    """Whether a block is to be sealed before a sample at `t`; also at a new hour and where the clock was set back."""
    age = t - times[0]
    return (
        (age >= BLOCK_S and len(times) >= BLOCK_SAMPLES)
        or age >= BLOCK_LONGEST_S
        or t < times[-1]
        or t // _HOUR_S != times[0] // _HOUR_S
    )


def _hour(t: float) -> int:
    return math.floor(t / _HOUR_S)


def _iso(t: float) -> str:
    return datetime.fromtimestamp(t, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
