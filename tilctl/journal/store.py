"""The append-only store: one file, one chain, one writer, group commit off the loop.

An append takes its place in the chain at once and is acknowledged after the flush to the medium.  While one commit
is under way the next events gather, and go together into the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Self

from devices.clock import Clock
from tilctl.journal.chain import GENESIS, Record, Row, link
from tilctl.journal.disk import Disk
from tilctl.journal.events import Event
from tilctl.journal.storage import EventFile, TakenError
from tilctl.journal.verify import Verdict, read

PENDING_LIMIT = 10_000  # events awaiting the disk; at a healthy disk a handful
COMMIT_LIMIT = 1_000  # events in one transaction, so that no commit takes long


class JournalError(Exception):
    """The record cannot be kept, or not be trusted; says which file, why, and what to do."""


class JournalExistsError(JournalError):
    """A new journal was asked for where a file already is."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: there is a file already; a journal is never overwritten")


class JournalBroken(JournalError):
    """The file failed verification; `verdict` says where."""

    def __init__(self, path: Path, verdict: Verdict) -> None:
        where = "" if verdict.first_bad is None else f" (first bad event: {verdict.first_bad})"
        super().__init__(f"{path}: {verdict.reason}{where}")
        self.path = path
        self.verdict = verdict


class JournalFull(JournalError):
    """More events await the disk than may: the disk does not keep up."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(f"{path}: {limit} events await the disk, which does not keep up; nothing more is taken")


class JournalFailed(JournalError):
    """The disk failed or hangs (or the journal was closed): this event is not acknowledged, and no later one will be.

    Whether events that were under way reached the medium is known after opening the file again, not before.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}; no event is taken until the journal is opened again")


@dataclass(slots=True)
class CommitStatistics:
    """Counters for the metrics; seconds on the journal's clock."""

    commits: int = 0
    events: int = 0
    last_s: float = 0.0
    worst_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Pending:
    record: Record
    row: Row
    future: asyncio.Future[Record]
    since: float


class Journal:
    """One journal file, open for writing.  All methods are for the loop; what blocks goes through `clock.offload`."""

    def __init__(self, path: Path, clock: Clock, file: EventFile, records: Sequence[Record], beat: str | None) -> None:
        """Take over an open file; use `create` or `open`."""
        self.path = path
        self.on_commit: list[Callable[[Record], None]] = []
        self.on_failure: list[Callable[[JournalFailed], None]] = []
        self.statistics = CommitStatistics()
        self._clock = clock
        self._disk = Disk(clock)
        self._closed = False
        self._file: EventFile | None = file
        self._found = records
        self._beat = beat
        self._beaten = clock.monotonic()
        self._head = (records[-1].seq, records[-1].hash)
        self._tail = self._head
        self._pending: deque[_Pending] = deque()
        self._committer: asyncio.Task[None] | None = None
        self._refusal = ""
        self._reopening = asyncio.Lock()

    @classmethod
    async def create(cls, path: Path, clock: Clock, first: Event) -> Self:
        """Make a new journal whose first event is `first`, on disk when this returns.

        Raises JournalExistsError, JournalFailed (the disk), EventError (`first` cannot be written).
        """
        record, row = link(first, clock.now(), (0, GENESIS))

        def work() -> EventFile:
            EventFile.create(path, row)
            return EventFile(path)

        try:
            file = await clock.offload(work)
        except TakenError as error:
            raise JournalExistsError(path) from error
        except (sqlite3.Error, OSError) as error:
            raise JournalFailed(path, f"cannot be created ({error})") from error
        return cls(path, clock, file, [record], None)

    @classmethod
    async def open(cls, path: Path, clock: Clock) -> Self:
        """Open an existing journal after verifying the whole of it; raises JournalBroken, JournalFailed (the disk)."""

        def work() -> tuple[EventFile, list[Record], str | None]:
            records, verdict = read(path)
            if not verdict.ok:
                raise JournalBroken(path, verdict)
            file = EventFile(path)
            return file, records, file.last_beat()

        try:
            file, records, beat = await clock.offload(work)
        except (sqlite3.Error, OSError) as error:
            raise JournalFailed(path, f"cannot be opened ({error})") from error
        return cls(path, clock, file, records, beat)

    @property
    def head(self) -> tuple[int, str]:
        """The last event on disk: its sequence number and hash."""
        return self._head

    @property
    def pending(self) -> int:
        """How many events await the disk."""
        return len(self._pending)

    @property
    def waiting_s(self) -> float:
        """Return for how long the oldest event has been awaiting the disk, in s."""
        return self._clock.monotonic() - self._pending[0].since if self._pending else 0.0

    @property
    def failed(self) -> bool:
        """Whether events are refused since the disk failed, or since `close`."""
        return bool(self._refusal)

    def records(self) -> list[Record]:
        """Return the events that were on disk when the journal was opened or created."""
        return list(self._found)

    def append(self, event: Event) -> asyncio.Future[Record]:
        """Give an event its place in the chain; the future resolves when it is on disk.

        Order of calls is the order of the record.  Cancelling the future takes nothing back.  Raises JournalFailed or
        JournalFull where the event is not taken, EventError where it cannot be written.  The future's failure is
        JournalFailed; a future that nobody awaits is no loss, for `on_failure` tells.
        """
        if self._refusal:
            raise JournalFailed(self.path, self._refusal)
        if len(self._pending) >= PENDING_LIMIT:
            raise JournalFull(self.path, PENDING_LIMIT)
        record, row = link(event, self._clock.now(), self._tail)
        self._tail = (record.seq, record.hash)
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._pending.append(_Pending(record, row, future, self._clock.monotonic()))
        if self._committer is None or self._committer.done():
            self._committer = asyncio.create_task(self._commit(), name=f"journal {self.path.name}")
        return future

    async def record(self, event: Event) -> Record:
        """Append and wait until the event is on disk; a caller that is cancelled meanwhile takes nothing back."""
        return await asyncio.shield(self.append(event))

    async def beat(self, t: str) -> None:
        """Write the sign of life, outside the chain; raises JournalFailed."""
        file = self._file
        if self._refusal or file is None:
            raise JournalFailed(self.path, self._refusal)
        try:
            await self._disk.run(partial(file.beat, t))
        except (sqlite3.Error, OSError) as error:
            self._refuse(f"the disk failed ({error})")
            raise JournalFailed(self.path, self._refusal) from error
        self._beat, self._beaten = t, self._clock.monotonic()

    @property
    def beat_age_s(self) -> float:
        """How long ago the last sign of life of this process (at first: the opening) reached the disk, in s."""
        return self._clock.monotonic() - self._beaten

    def last_beat(self) -> str | None:
        """Return the last sign of life: before the first `beat`, that of the boot before."""
        return self._beat

    async def close(self) -> None:
        """Wait for what is pending, then close the file; refuses later appends at once.  May be called again."""
        self._closed = True
        self._refusal = self._refusal or "the journal is closed"
        with contextlib.suppress(sqlite3.Error, OSError):
            await self._let_go()

    async def reopen(self) -> list[Record]:
        """Open the file again after the disk failed, in place: verify it, and take events from now on.

        Returns the records that are on it beyond those that were acknowledged: what was under way and had reached the
        medium after all; `on_commit` is told of them.  Does nothing for a journal that has not failed.

        Invariant: the file must hold every event that was acknowledged, and take a new sign of life.  Raises
        JournalBroken where it does not hold them, JournalFailed where the disk still fails, or where a commit that
        was given up has not come back yet.
        """
        async with self._reopening:  # Invariant: one writer; who comes second finds it open
            return await self._reopen() if self._refusal and not self._closed else []

    async def _reopen(self) -> list[Record]:
        def work() -> tuple[EventFile, list[Record], str | None]:
            records, verdict = read(self.path)
            if not verdict.ok:
                raise JournalBroken(self.path, verdict)
            file = EventFile(self.path)
            try:
                beat = file.last_beat()
                file.beat(beat or records[0].t)  # a disk that takes nothing is found here
            except sqlite3.Error:
                file.close()
                raise
            return file, records, beat

        try:
            await self._let_go()
            if self._disk.out:
                raise JournalFailed(self.path, "the disk still hangs: an earlier write has not come back")
            file, records, self._beat = await self._disk.run(work)
        except (sqlite3.Error, OSError) as error:
            raise JournalFailed(self.path, f"the disk still fails ({error})") from error
        seq, digest = self._head
        if len(records) < seq or records[seq - 1].hash != digest:
            await self._disk.run(file.close)
            text = f"events up to {seq} were acknowledged, and it does not hold them: restore the file from a copy"
            raise JournalBroken(self.path, Verdict(False, len(records), records[-1].hash, None, text))
        if self._closed:  # meanwhile
            await self._disk.run(file.close)
            return []
        self._file, self._refusal, self._beaten = file, "", self._clock.monotonic()
        self._head = self._tail = (records[-1].seq, records[-1].hash)
        for record in records[seq:]:
            self._tell(record)
        return records[seq:]

    async def _let_go(self) -> None:
        """Wait for the commit under way and close the file; what hangs is left.  Raises sqlite3.Error, OSError."""
        if self._committer is not None and not self._committer.done():
            await asyncio.wait([self._committer])
        if self._file is not None and not self._disk.out:
            await self._disk.run(self._file.close)
            self._file = None

    async def _commit(self) -> None:
        """Commit until nothing is pending; whatever ends this leaves no future open."""
        try:
            while self._pending and self._file is not None:
                group = list(islice(self._pending, COMMIT_LIMIT))
                started = self._clock.monotonic()
                await self._disk.run(partial(self._file.write, [item.row for item in group]))
                self._acknowledge(group, self._clock.monotonic() - started)
        except (sqlite3.Error, OSError) as error:
            self._fail_pending(f"the disk failed ({error})")
        finally:
            if self._pending:
                self._fail_pending("the commit was broken off")

    def _acknowledge(self, group: list[_Pending], seconds: float) -> None:
        """Tell that a group is on disk: first the callbacks, in order of the record, then the waiters."""
        self._head = (group[-1].record.seq, group[-1].record.hash)
        counts = self.statistics
        counts.commits, counts.events = counts.commits + 1, counts.events + len(group)
        counts.last_s, counts.worst_s = seconds, max(counts.worst_s, seconds)
        for item in group:
            self._pending.popleft()
            self._tell(item.record)
        for item in group:
            if not item.future.done():
                item.future.set_result(item.record)

    def _tell(self, record: Record) -> None:
        for callback in self.on_commit:  # by the loop: one that raises is reported there and disturbs nobody
            asyncio.get_running_loop().call_soon(callback, record)

    def _refuse(self, why: str) -> None:
        """Take no event from now on, and say so once."""
        if self._refusal:
            return
        self._refusal = why
        for callback in self.on_failure:
            asyncio.get_running_loop().call_soon(callback, JournalFailed(self.path, why))

    def _fail_pending(self, why: str) -> None:
        self._refuse(why)
        while self._pending:
            future = self._pending.popleft().future
            if not future.done():
                future.set_exception(JournalFailed(self.path, why))
                future.exception()  # counts as seen: nobody need await an append
