"""The append-only store: order, group commit, bounds, failure, cancellation, sameness."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from devices.clock import SystemClock
from tilctl.journal import events as ev
from tilctl.journal import store as store_module
from tilctl.journal.chain import GENESIS, Record, digest
from tilctl.journal.store import (
    Journal,
    JournalBroken,
    JournalExistsError,
    JournalFailed,
    JournalFull,
)
from tilctl.journal.verify import verify

FIRST = ev.SiteOpened("demo", "suite1", "0.1.0")


def note(number: int) -> ev.Noted:
    return ev.Noted("rep/medium", f"note {number}", exception=False)


class GatedClock(SystemClock):
    """A real clock whose storage works only while the gate is open: a disk that takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.works = 0
        self.asked = asyncio.Event()

    async def offload(self, work: Callable[[], Any]) -> Any:
        def gated() -> Any:
            assert self.gate.wait(10)
            return work()

        self.works += 1
        self.asked.set()
        return await super().offload(gated)


@pytest.fixture
async def clock() -> AsyncIterator[GatedClock]:
    clock = GatedClock()
    yield clock
    clock.gate.set()
    clock.close()


@pytest.fixture
async def journal(tmp_path: Path, clock: GatedClock) -> AsyncIterator[Journal]:
    journal = await Journal.create(tmp_path / "site.db", clock, FIRST)
    yield journal
    clock.gate.set()
    await journal.close()


def rows(path: Path) -> list[tuple[int, str, str, str, str]]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT seq, t, event, prev, hash FROM events ORDER BY seq").fetchall()


def names(folder: Path) -> list[str]:
    return sorted(child.name for child in folder.iterdir())


# --- order and commit


async def test_the_chain_is_what_the_file_holds_and_anyone_can_check_it(journal: Journal) -> None:
    records = [await journal.record(note(n)) for n in range(5)]
    assert [record.seq for record in records] == [2, 3, 4, 5, 6]
    before = GENESIS
    for seq, (number, t, event, prev, own) in enumerate(rows(journal.path), start=1):
        assert (number, prev) == (seq, before)
        assert own == digest(seq, t, event, prev)
        before = own
    assert journal.head == (6, before) == (records[-1].seq, records[-1].hash)
    assert verify(journal.path).head == before


async def test_an_acknowledged_event_is_on_disk_and_the_rest_waits(journal: Journal, clock: GatedClock) -> None:
    clock.gate.clear()
    futures = [journal.append(note(n)) for n in range(3)]
    await asyncio.sleep(0)
    assert (journal.head[0], journal.pending) == (1, 3)
    assert not any(future.done() for future in futures)
    assert len(rows(journal.path)) == 1
    clock.gate.set()
    assert (await futures[2]).seq == 4
    assert len(rows(journal.path)) == 4
    assert journal.pending == 0


async def test_appends_during_a_commit_share_the_next_one(journal: Journal, clock: GatedClock) -> None:
    before = clock.works
    clock.gate.clear()
    clock.asked.clear()
    first = journal.append(note(0))
    await clock.asked.wait()
    rest = [journal.append(note(n)) for n in range(1, 200)]
    clock.gate.set()
    await asyncio.gather(first, *rest)
    assert clock.works == before + 2
    assert (journal.statistics.commits, journal.statistics.events) == (2, 200)
    assert [json.loads(row[2]).get("text") for row in rows(journal.path)][1:] == [f"note {n}" for n in range(200)]


async def test_a_transaction_is_bounded(journal: Journal, clock: GatedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "COMMIT_LIMIT", 10)
    await asyncio.gather(*[journal.append(note(n)) for n in range(25)])
    assert journal.statistics.commits == 3


async def test_commits_are_told_in_order_and_before_the_waiters_go_on(journal: Journal) -> None:
    told: list[int] = []
    seen_by_waiter: list[list[int]] = []

    async def waiter(number: int) -> None:
        await journal.record(note(number))
        seen_by_waiter.append(list(told))

    journal.on_commit.append(lambda record: told.append(record.seq))
    await asyncio.gather(*[waiter(n) for n in range(20)])
    assert told == list(range(2, 22))
    assert all(seen == told for seen in seen_by_waiter)


async def test_a_callback_that_raises_disturbs_nobody(journal: Journal) -> None:
    reported: list[Any] = []
    told: list[Record] = []

    def bad(record: Record) -> None:
        message = "a broken display"
        raise ValueError(message)

    loop = asyncio.get_running_loop()
    usual = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
    journal.on_commit += [bad, told.append]
    await journal.record(note(1))
    await journal.record(note(2))
    loop.set_exception_handler(usual)
    assert [record.seq for record in told] == [2, 3]
    assert [str(error) for error in reported] == ["a broken display"] * 2


async def test_a_refused_event_leaves_the_chain_as_it_was(journal: Journal) -> None:
    with pytest.raises(ev.EventError):
        journal.append(ev.Outage("a", "b", math.nan))
    assert (await journal.record(note(1))).seq == 2
    assert verify(journal.path).ok


async def test_the_queue_is_bounded(journal: Journal, clock: GatedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PENDING_LIMIT", 8)
    clock.gate.clear()
    futures = [journal.append(note(n)) for n in range(8)]
    with pytest.raises(JournalFull, match="8 events await the disk"):
        journal.append(note(8))
    clock.gate.set()
    await asyncio.gather(*futures)
    assert (await journal.record(note(9))).seq == 10  # the refused one left no gap
    assert verify(journal.path).ok


# --- cancellation


async def test_a_cancelled_caller_loses_nothing(journal: Journal, clock: GatedClock) -> None:
    clock.gate.clear()
    recording = asyncio.create_task(journal.record(note(0)))
    waiting = asyncio.ensure_future(journal.append(note(1)))
    bystander = journal.append(note(2))
    await asyncio.sleep(0)
    recording.cancel()
    waiting.cancel()
    await asyncio.wait([recording, waiting])
    assert recording.cancelled()
    assert waiting.cancelled()
    clock.gate.set()
    await bystander
    assert [json.loads(row[2]).get("text") for row in rows(journal.path)][1:] == ["note 1", "note 2", "note 0"]
    assert verify(journal.path).ok


async def test_a_broken_off_commit_leaves_no_waiter_and_takes_no_more(journal: Journal, clock: GatedClock) -> None:
    clock.gate.clear()
    clock.asked.clear()
    waiting = journal.append(note(0))
    await clock.asked.wait()
    committer = journal._committer
    assert committer is not None
    committer.cancel()
    with pytest.raises(JournalFailed, match="broken off"):
        await waiting
    with pytest.raises(JournalFailed):
        journal.append(note(1))
    clock.gate.set()
    await journal.close()
    assert verify(journal.path).ok


# --- failure of the disk


def full_disk(journal: Journal) -> None:
    """Let SQLite find no room for another page, as on a full disk."""
    file = journal._file
    assert file is not None
    pages = file._connection.execute("PRAGMA page_count").fetchone()[0]
    file._connection.execute(f"PRAGMA max_page_count={pages}")


async def test_a_full_disk_refuses_until_opened_again(journal: Journal, clock: GatedClock) -> None:
    told: list[JournalFailed] = []
    journal.on_failure.append(told.append)
    kept = await journal.record(note(0))
    await clock.offload(partial(full_disk, journal))
    big = [journal.append(ev.Noted("p", "x" * 5000, exception=False)) for _ in range(4)]
    results = await asyncio.gather(*big, return_exceptions=True)
    assert [type(result) for result in results] == [JournalFailed] * 4
    assert "full" in str(results[0])
    assert len(told) == 1
    assert journal.failed
    with pytest.raises(JournalFailed):
        journal.append(note(1))
    with pytest.raises(JournalFailed):
        await journal.record(note(1))
    with pytest.raises(JournalFailed):
        await journal.beat("2026-01-05T08:00:00.000Z")
    assert journal.head == (kept.seq, kept.hash)
    await journal.close()
    assert len(rows(journal.path)) == 2  # of the failed group nothing is on the record
    again = await Journal.open(journal.path, clock)
    assert again.records()[-1] == kept
    assert (await again.record(note(2))).prev == kept.hash
    await again.close()
    assert verify(journal.path).ok


async def test_events_queued_behind_a_failing_commit_fail_too(journal: Journal, clock: GatedClock) -> None:
    await clock.offload(partial(full_disk, journal))
    clock.gate.clear()
    clock.asked.clear()
    first = journal.append(ev.Noted("p", "x" * 50_000, exception=False))
    await clock.asked.wait()
    second = journal.append(note(1))
    clock.gate.set()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == [JournalFailed] * 2
    assert len(rows(journal.path)) == 1


async def test_a_medium_gone_read_only(journal: Journal, clock: GatedClock) -> None:
    def read_only() -> None:
        assert journal._file is not None
        journal._file._connection.execute("PRAGMA query_only=ON")

    await clock.offload(read_only)
    with pytest.raises(JournalFailed, match="readonly"):
        await journal.beat("2026-01-05T08:00:00.000Z")
    with pytest.raises(JournalFailed, match="readonly"):
        await journal.record(note(1))
    assert journal.last_beat() is None


async def test_a_second_writer_cannot_fork_the_chain(journal: Journal, clock: GatedClock) -> None:
    other = await Journal.open(journal.path, clock)
    mine = await journal.record(note(1))
    with pytest.raises(JournalFailed, match="after the last one only"):
        await other.record(note(2))
    await other.close()
    assert verify(journal.path).head == mine.hash
    await journal.record(note(3))


async def test_the_file_refuses_to_change_or_forget(journal: Journal) -> None:
    await journal.record(note(1))
    with contextlib.closing(sqlite3.connect(journal.path)) as connection:
        for statement in (
            "UPDATE events SET t = 'x'",
            "DELETE FROM events WHERE seq = 2",
            "INSERT OR REPLACE INTO events SELECT 2, t, event, prev, hash FROM events WHERE seq = 2",
            "INSERT INTO events VALUES (4, 'x', '{}', 'x', 'x')",
            "INSERT INTO events SELECT 3, t, event, prev, hash FROM events WHERE seq = 2",
        ):
            with pytest.raises(sqlite3.IntegrityError, match=r"never|only"):
                connection.execute(statement)


# --- opening and closing


async def test_reopening_finds_every_record_as_it_was(tmp_path: Path, clock: GatedClock) -> None:
    path = tmp_path / "batches" / "b1.db"
    journal = await Journal.create(path, clock, FIRST)
    live = journal.records() + [await journal.record(ev.ValuesSet("p", {"n": 3, "x": None})) for _ in range(10)]
    await journal.beat("2026-01-05T08:00:10.000Z")
    await journal.close()
    assert not path.with_name("b1.db-wal").exists()  # the file can be read alone
    again = await Journal.open(path, clock)
    assert again.records() == live
    assert again.head == (11, live[-1].hash)
    assert again.last_beat() == "2026-01-05T08:00:10.000Z"
    await again.close()


async def test_a_journal_is_never_overwritten(journal: Journal, clock: GatedClock) -> None:
    with pytest.raises(JournalExistsError, match="never overwritten"):
        await Journal.create(journal.path, clock, FIRST)
    assert verify(journal.path).ok


async def test_a_crash_while_creating_leaves_nothing_in_the_way(tmp_path: Path, clock: GatedClock) -> None:
    path = tmp_path / "b.db"
    path.with_name("b.db.new").write_bytes(b"half a database")
    path.with_name("b.db.new-journal").write_bytes(b"its roll-back journal")
    journal = await Journal.create(path, clock, FIRST)
    await journal.close()
    assert names(tmp_path) == ["b.db"]
    assert verify(path).ok


async def test_a_place_that_cannot_be_written_says_so(tmp_path: Path, clock: GatedClock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalFailed, match="cannot be created"):
        await Journal.create(tmp_path / "file" / "b.db", clock, FIRST)


async def test_a_broken_journal_is_not_opened(journal: Journal, clock: GatedClock) -> None:
    await journal.close()
    with contextlib.closing(sqlite3.connect(journal.path)) as connection, connection:
        connection.execute("DROP TRIGGER events_unchanged")
    with pytest.raises(JournalBroken, match="events_unchanged is missing") as caught:
        await Journal.open(journal.path, clock)
    assert not caught.value.verdict.ok
    with pytest.raises(JournalBroken, match="no such file"):
        await Journal.open(journal.path.with_name("absent.db"), clock)


async def test_closing_waits_for_what_is_pending_and_refuses_the_rest(journal: Journal, clock: GatedClock) -> None:
    clock.gate.clear()
    pending = journal.append(note(1))
    closing = asyncio.create_task(journal.close())
    await asyncio.sleep(0)
    with pytest.raises(JournalFailed, match="closed"):
        journal.append(note(2))
    clock.gate.set()
    await closing
    assert (await pending).seq == 2
    await journal.close()
    with pytest.raises(JournalFailed, match="closed"):
        await journal.beat("t")
    assert len(rows(journal.path)) == 2
