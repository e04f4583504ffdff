"""The journal on a disk that fails, fills up, hangs, and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from devices.clock import SystemClock
from devices.storage import StorageThread
from tilctl.journal import disk as disk_module
from tilctl.journal import events as ev
from tilctl.journal.chain import Record, Row
from tilctl.journal.disk import Disk, DiskHangs, Space, space
from tilctl.journal.store import Journal, JournalBroken, JournalFailed
from tilctl.journal.verify import read, verify

FIRST = ev.SiteOpened("demo", "suite1", "0.1.0")


def note(number: int) -> ev.Noted:
    return ev.Noted("rep/medium", f"note {number}", exception=False)


class BadDisk:
    """Stands between a journal and its file: what is asked of the disk may fail, hang, or be done and not be told."""

    def __init__(self, journal: Journal) -> None:
        assert journal._file is not None
        self._write, self._beat = journal._file.write, journal._file.beat
        self.error: OSError | None = None
        self.late: OSError | None = None  # raised after the write, which is on the medium then
        self.gate = threading.Event()
        self.gate.set()
        self.hangs = threading.Event()  # set while something hangs in it
        journal._file.write = self.write  # type: ignore[method-assign]
        journal._file.beat = self.beat  # type: ignore[method-assign]

    def write(self, rows: Sequence[Row]) -> None:
        self._before()
        self._write(rows)
        if self.late is not None:
            raise self.late

    def beat(self, t: str) -> None:
        self._before()
        self._beat(t)

    def _before(self) -> None:
        if not self.gate.is_set():
            self.hangs.set()
            assert self.gate.wait(20)
        if self.error is not None:
            raise self.error


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SystemClock]:
    monkeypatch.setattr(disk_module, "WITHIN", 0.3)
    clock = SystemClock()
    yield clock
    clock.close()


@pytest.fixture
async def journal(tmp_path: Path, clock: SystemClock) -> AsyncIterator[Journal]:
    journal = await Journal.create(tmp_path / "b.db", clock, FIRST)
    yield journal
    await journal.close()


@pytest.fixture
def bad(journal: Journal) -> BadDisk:
    return BadDisk(journal)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  of another thread
            await asyncio.sleep(0.002)


# --- EIO, and a disk that comes back


async def test_an_error_of_the_medium_fails_the_journal_until_it_is_opened_again(journal: Journal, bad: BadDisk):
    told: list[JournalFailed] = []
    journal.on_failure.append(told.append)
    kept = await journal.record(note(1))
    bad.error = OSError(errno.EIO, "Input/output error")
    with pytest.raises(JournalFailed, match="Input/output error"):
        await journal.record(note(2))
    bad.error = None  # it would take writes again: nobody may begin by himself
    with pytest.raises(JournalFailed):
        journal.append(note(3))
    assert (len(told), journal.failed) == (1, True)
    assert await journal.reopen() == []
    assert not journal.failed
    after = await journal.record(note(4))
    assert (after.seq, after.prev) == (kept.seq + 1, kept.hash)
    assert verify(journal.path).head == after.hash


async def test_what_reached_the_medium_without_being_told_is_told_when_it_is_opened_again(
    journal: Journal, bad: BadDisk
):
    told: list[Record] = []
    journal.on_commit.append(told.append)
    bad.late = OSError(errno.EIO, "flush failed")
    with pytest.raises(JournalFailed):
        await journal.record(note(1))
    assert (journal.head[0], told) == (1, [])
    found = await journal.reopen()
    assert [record.event for record in found] == [note(1)]
    await until(lambda: told == found)
    assert (await journal.record(note(2))).prev == found[-1].hash
    assert verify(journal.path).events == 3


async def test_a_failed_journal_tells_its_next_failure_too(journal: Journal, bad: BadDisk):
    told: list[JournalFailed] = []
    journal.on_failure.append(told.append)
    for _ in range(2):
        again = BadDisk(journal)
        again.error = OSError(errno.ENOSPC, "No space left on device")
        with pytest.raises(JournalFailed, match="No space"):
            await journal.record(note(1))
        await journal.reopen()
    assert len(told) == 2


async def test_it_is_not_opened_again_while_the_disk_fails(journal: Journal, bad: BadDisk):
    bad.error = OSError(errno.EIO, "Input/output error")
    with pytest.raises(JournalFailed):
        await journal.record(note(1))
    moved = journal.path.rename(journal.path.with_name("away.db"))
    with pytest.raises(JournalBroken, match="no such file"):
        await journal.reopen()
    assert journal.failed
    moved.rename(journal.path)
    await journal.reopen()
    assert (await journal.record(note(2))).seq == 2


async def test_a_file_that_lost_acknowledged_events_is_not_taken(journal: Journal, bad: BadDisk, tmp_path: Path):
    old = tmp_path / "old"
    old.mkdir()
    await journal.record(note(1))
    await journal.close()  # an older copy of the file ...
    shutil.copy(journal.path, old / "b.db")
    clock = SystemClock()
    again = await Journal.open(journal.path, clock)
    await again.record(note(2))
    fault = BadDisk(again)
    fault.error = OSError(errno.EIO, "Input/output error")
    with pytest.raises(JournalFailed):
        await again.record(note(3))
    assert again._file is not None
    await clock.offload(again._file.close)
    shutil.copy(old / "b.db", journal.path)  # ... put back over it
    with pytest.raises(JournalBroken, match="events up to 3 were acknowledged"):
        await again.reopen()
    assert again.failed
    await again.close()
    clock.close()


async def test_a_journal_that_is_well_or_closed_is_not_opened_again(journal: Journal):
    file = journal._file
    assert await journal.reopen() == []
    assert journal._file is file
    await journal.close()
    assert await journal.reopen() == []
    assert journal.failed


# --- a disk that hangs


async def test_a_commit_that_hangs_is_a_failure_after_its_deadline(journal: Journal, bad: BadDisk):
    told: list[JournalFailed] = []
    journal.on_failure.append(told.append)
    bad.gate.clear()
    hanging = asyncio.create_task(journal.record(note(1)))
    await until(bad.hangs.is_set)
    queued = asyncio.create_task(journal.record(note(2)))
    await asyncio.sleep(0)
    assert journal.waiting_s >= 0.0
    for task in (hanging, queued):
        with pytest.raises(JournalFailed, match=r"did not answer within 0\.3 s"):
            await task
    assert journal.failed
    assert (journal.head[0], journal.pending) == (1, 0)
    await until(lambda: told)
    with pytest.raises(JournalFailed, match="still hangs"):
        await journal.reopen()
    bad.gate.set()
    await until(lambda: not journal._disk.out)
    assert journal.head[0] == 1  # what came late is not acknowledged
    assert len(read(journal.path)[0]) == 2  # though it is on the medium
    found = await journal.reopen()
    assert [record.event for record in found] == [note(1)]  # the one behind it was never begun
    assert (await journal.record(note(3))).seq == 3
    assert verify(journal.path).ok


async def test_a_sign_of_life_that_hangs_is_a_failure_too(journal: Journal, bad: BadDisk):
    bad.gate.clear()
    with pytest.raises(JournalFailed, match="did not answer"):
        await journal.beat("2026-01-05T08:00:00.000Z")
    assert journal.failed
    bad.gate.set()


async def test_a_process_that_was_stopped_blames_no_disk(journal: Journal, bad: BadDisk):
    """The deadline is counted in parts: after a long stop of the process one part of it is over, not all."""
    loop = asyncio.get_running_loop()
    bad.gate.clear()
    waiting = asyncio.create_task(journal.record(note(1)))
    await until(bad.hangs.is_set)
    usual, stopped = loop.time, [0.0]
    loop.time = lambda: usual() + stopped[0]  # type: ignore[method-assign]
    stopped[0] = 60.0
    await asyncio.sleep(0.01)
    bad.gate.set()
    assert (await waiting).seq == 2
    loop.time = usual  # type: ignore[method-assign]


async def test_a_hanging_disk_keeps_nothing_from_closing(tmp_path: Path, clock: SystemClock):
    journal = await Journal.create(tmp_path / "b.db", clock, FIRST)
    bad = BadDisk(journal)
    bad.gate.clear()
    lost = journal.append(note(1))
    async with asyncio.timeout(5):
        await journal.close()
    assert isinstance(lost.exception(), JournalFailed)
    assert journal._disk.out
    assert not clock._storage.close(within=0.05)
    bad.gate.set()
    assert clock._storage.close()


def test_the_storage_thread_takes_nothing_after_its_end():
    thread = StorageThread("store")

    async def use() -> list[int]:
        return [await thread.run(lambda n=n: n) for n in range(3)]

    assert asyncio.run(use()) == [0, 1, 2]
    assert thread.close()
    with pytest.raises(RuntimeError, match="store thread is closed"):
        asyncio.run(thread.run(lambda: 1))


async def test_what_was_cancelled_before_its_turn_is_never_done(clock: SystemClock):
    gate, done = threading.Event(), []
    first = asyncio.create_task(clock.offload(lambda: gate.wait(10)))
    second = asyncio.create_task(clock.offload(lambda: done.append(2)))
    await asyncio.sleep(0.01)
    second.cancel()
    await asyncio.wait([second])
    gate.set()
    await first
    await clock.offload(lambda: done.append(3))
    assert done == [3]


async def test_work_that_fails_by_itself_says_its_own_error(clock: SystemClock):
    def work() -> None:
        raise TimeoutError(errno.ETIMEDOUT, "the server of the files does not answer")

    with pytest.raises(TimeoutError, match="server of the files") as caught:
        await Disk(clock).run(work)
    assert not isinstance(caught.value, DiskHangs)


# --- space


@pytest.mark.parametrize(
    ("free", "total", "low"),
    [
        (99e6, 500e6, True),
        (101e6, 500e6, False),
        (400e6, 10e9, True),  # 5 % of 10 GB are 500 MB
        (900e6, 4e12, True),
        (1.1e9, 4e12, False),  # of a large disk not more than 1 GB is asked
    ],
)
def test_space_is_low_below_a_share_within_limits(free: float, total: float, low: bool):
    assert Space(int(free), int(total)).low is low


def test_space_is_that_of_the_file_system(tmp_path: Path):
    found, expected = space(tmp_path), shutil.disk_usage(tmp_path)
    assert found.total == expected.total
    assert abs(found.free - expected.free) < 50e6
    assert "MB free, at least" in str(found)
    with pytest.raises(OSError, match="nowhere"):
        space(tmp_path / "nowhere")


# --- torn tails


def torn(source: Path, target: Path, wal: bytes) -> Path:
    shutil.copy(source, target)
    target.with_name(target.name + "-wal").write_bytes(wal)
    target.with_name(target.name + "-shm").unlink(missing_ok=True)
    return target


async def test_a_log_torn_anywhere_gives_what_was_acknowledged_before(tmp_path: Path, clock: SystemClock):
    """Cut behind each transaction's end the file holds it whole; cut at any byte before, all of it is missing.

    Every byte of the frames' headers and around them is tried, and each seventh of the pages, which SQLite only sums.
    """
    folder = tmp_path / "live"
    journal = await Journal.create(folder / "b.db", clock, FIRST)
    wal = folder / "b.db-wal"
    await journal.record(note(0))
    ends: list[tuple[int, int]] = []  # size of the log, events acknowledged by then
    for batch in (1, 3):  # events that share a transaction
        await asyncio.gather(*[journal.append(ev.Noted("p", "x" * 700, exception=False)) for _ in range(batch)])
        ends.append((wal.stat().st_size, journal.head[0]))
    whole, first = wal.read_bytes(), read(journal.path)[0]
    main = tmp_path / "main.db"
    shutil.copy(journal.path, main)
    await journal.close()
    seen: dict[int, int] = {}
    start = ends[0][0]
    path = torn(main, tmp_path / "torn.db", whole)
    page = int.from_bytes(whole[8:12], "big")
    for cut in range(len(whole), start - 1, -1):
        into = (cut - 32) % (24 + page)  # a log is a header of 32 bytes and frames of 24 and a page
        if 32 < into < 16 + page and into % 7:
            continue
        os.truncate(tmp_path / "torn.db-wal", cut)
        (tmp_path / "torn.db-shm").unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM events").fetchone()
        acknowledged = max(events for size, events in ends if size <= cut)
        assert count == acknowledged, f"cut at byte {cut} of {len(whole)}"
        seen[count] = cut
    assert sorted(seen) == [events for _, events in ends]
    for cut in [end + extra for end, _ in ends for extra in (-1, 0, 1) if start <= end + extra <= len(whole)]:
        path = torn(main, tmp_path / "torn.db", whole[:cut])
        records, verdict = read(path)
        expected = max(events for size, events in ends if size <= cut)
        assert (verdict.ok, records) == (True, first[:expected])
        opened = await Journal.open(path, clock)  # and it goes on from there
        assert (await opened.record(note(9))).seq == expected + 1
        await opened.close()
        assert verify(path).ok


async def test_garbage_behind_the_last_transaction_is_not_taken_for_one(tmp_path: Path, clock: SystemClock):
    folder = tmp_path / "live"
    journal = await Journal.create(folder / "b.db", clock, FIRST)
    await journal.record(note(0))
    whole = (folder / "b.db-wal").read_bytes()
    main = tmp_path / "main.db"
    shutil.copy(journal.path, main)
    head = journal.head
    await journal.close()
    for tail in (b"\0" * 4096, b"\xff" * 9000, whole[32:4152]):  # also an earlier frame once more
        path = torn(main, tmp_path / "torn.db", whole + tail)
        records, verdict = read(path)
        assert verdict.ok
        assert (records[-1].seq, records[-1].hash) == head


async def test_a_flipped_bit_in_the_log_ends_the_record_before_it(tmp_path: Path, clock: SystemClock):
    folder = tmp_path / "live"
    journal = await Journal.create(folder / "b.db", clock, FIRST)
    ends = [0]
    for number in range(3):
        await journal.record(note(number))
        ends.append((folder / "b.db-wal").stat().st_size)
    whole, main = bytearray((folder / "b.db-wal").read_bytes()), tmp_path / "main.db"
    shutil.copy(journal.path, main)
    await journal.close()
    for position in range(ends[2] + 24, len(whole), 97):
        spoilt = bytearray(whole)
        spoilt[position] ^= 0x10
        records, verdict = read(torn(main, tmp_path / "torn.db", bytes(spoilt)))
        assert (verdict.ok, len(records)) == (True, 3), f"bit at {position}"
