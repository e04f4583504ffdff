"""The disk under the journal: work with a deadline, so that one that hangs is a failure and not a silence."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from devices.clock import Clock

T = TypeVar("T")
WITHIN = 10.0  # s for a commit; a healthy disk takes milliseconds, one that spins up a few seconds
LOOKS = 10  # the deadline is counted in so many parts: a process that was stopped meanwhile loses one of them only
LOW_BYTES = 100_000_000  # free space under which a batch is not started: months of record, with room for logs
LOW_SHARE = 0.05
LOW_AT_MOST = 1_000_000_000  # of a large disk a share would be more than anybody needs


class DiskHangs(OSError):
    """Work was not done within its deadline; whether it will be is not known."""


class _Job:
    """Where work is: `out` from its beginning to its end."""

    def __init__(self) -> None:
        self.out = False

    def follow(self, work: Callable[[], T]) -> T:
        self.out = True
        try:
            return work()
        finally:
            self.out = False


class Disk:
    """Runs storage work of one file, each with a deadline by the monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._jobs: list[_Job] = []  # those that were given up and may still come back

    @property
    def out(self) -> bool:
        """Whether work that was given up has still not come back: the file is not to be trusted with a second."""
        self._jobs = [job for job in self._jobs if job.out]
        return bool(self._jobs)

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns; raises DiskHangs when it takes longer, and what the work raises."""
        job = _Job()
        task = asyncio.ensure_future(self._clock.offload(partial(job.follow, work)))
        try:
            for _ in range(LOOKS):
                done, _ = await asyncio.wait((task,), timeout=WITHIN / LOOKS)
                if done:
                    return task.result()
            raise DiskHangs(f"the disk did not answer within {WITHIN:g} s")
        finally:
            if not task.done():
                task.cancel()  # what has begun goes on in its thread, and nobody hears what comes of it
                self._jobs.append(job)


@dataclass(frozen=True, slots=True)
class Space:
    """Free and total bytes of the file system that holds the data."""

    free: int
    total: int

    @property
    def low(self) -> bool:
        """Whether there is too little room to begin something of weeks."""
        return self.free < self.wanted

    @property
    def wanted(self) -> int:
        """Free bytes under which it is low: 5 %, but at least 100 MB and at most 1 GB."""
        return max(LOW_BYTES, min(LOW_AT_MOST, int(self.total * LOW_SHARE)))

    def __str__(self) -> str:
        return f"{self.free / 1e6:.0f} MB of {self.total / 1e6:.0f} MB free, at least {self.wanted / 1e6:.0f} MB wanted"


def space(path: Path) -> Space:
    """Return the space of the file system of `path`; raises OSError.  Blocking."""
    figures = os.statvfs(path)
    return Space(figures.f_bavail * figures.f_frsize, figures.f_blocks * figures.f_frsize)
