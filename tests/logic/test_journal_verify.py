"""Tampering: whatever was done to a journal file, the verdict names the first bad event or says what is wrong."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from devices.clock import SystemClock
from tilctl.journal import events as ev
from tilctl.journal.chain import GENESIS, SCHEMA, Record, digest
from tilctl.journal.store import Journal
from tilctl.journal.verify import Verdict, read, verify

EVENTS = 12
TRIGGERS = [name for name in SCHEMA if SCHEMA[name].startswith("CREATE TRIGGER")]


def event(number: int) -> ev.Event:
    if number % 3 == 0:
        return ev.Moved("rep/medium", number, "cm2", "rep", 100.5 * number)
    return ev.Noted("rep/medium", f"nöte {number}", exception=bool(number % 2))


@pytest.fixture
async def clock() -> AsyncIterator[SystemClock]:
    clock = SystemClock()
    yield clock
    clock.close()


@pytest.fixture
async def path(tmp_path: Path, clock: SystemClock) -> Path:
    """A closed journal of EVENTS events and a heartbeat."""
    journal = await Journal.create(tmp_path / "batch.db", clock, ev.SiteOpened("demo", "suite1", "0.1.0"))
    for number in range(2, EVENTS + 1):
        await journal.record(event(number))
    await journal.beat("2026-01-05T08:00:00.000Z")
    await journal.close()
    return journal.path


@contextlib.contextmanager
def unlocked(path: Path) -> Iterator[sqlite3.Connection]:
    """Change a journal by force: triggers off, and back again as if nothing had been."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for name in TRIGGERS:
            connection.execute(f"DROP TRIGGER {name}")
        yield connection
        for name in TRIGGERS:
            connection.execute(SCHEMA[name])


def seal_again(connection: sqlite3.Connection, seq: int) -> None:
    """Give one event the hash of its present content, as a forger would."""
    row = connection.execute("SELECT seq, t, event, prev FROM events WHERE seq = ?", (seq,)).fetchone()
    connection.execute("UPDATE events SET hash = ? WHERE seq = ?", (digest(*row), seq))


def test_an_intact_journal(path: Path) -> None:
    records, verdict = read(path)
    assert verdict == verify(path) == Verdict(True, EVENTS, records[-1].hash, None, "")
    assert records[2].event == event(3)
    assert [child.name for child in path.parent.iterdir()] == ["batch.db"]  # looking leaves no trace


async def test_a_journal_that_is_being_written(path: Path, clock: SystemClock) -> None:
    journal = await Journal.open(path, clock)
    last = await journal.record(ev.BatchClosed())
    assert verify(path) == Verdict(True, EVENTS + 1, last.hash)
    await journal.close()


# --- single bytes


def test_every_single_byte_of_an_event_counts(path: Path) -> None:
    good = path.read_bytes()
    records = read(path)[0]
    copy = path.with_name("copy.db")
    for seq in (1, 5, EVENTS):
        record = records[seq - 1]
        text = ev.to_json(record.event).encode()
        stored = record.t.encode() + text + record.prev.encode() + record.hash.encode()
        start = good.index(stored)
        assert good.count(stored) == 1
        for offset in range(0, len(stored), 1 if seq == 5 else 7):
            bad = bytearray(good)
            bad[start + offset] ^= 1 << (offset % 8)
            copy.write_bytes(bad)
            verdict = verify(copy)
            assert (verdict.ok, verdict.first_bad, verdict.events) == (False, seq, seq - 1), (offset, verdict)
            assert f"event {seq}" in verdict.reason


def test_a_flipped_byte_anywhere_is_found_or_changes_no_event(path: Path) -> None:
    good = path.read_bytes()
    records = read(path)[0]
    copy = path.with_name("copy.db")
    copy.write_bytes(good)
    randomness = random.Random(1)
    offsets = list(range(100)) + [4096 * page + i for page in range(len(good) // 4096) for i in range(48)]
    offsets += randomness.sample(range(len(good)), 400)
    found = 0
    with copy.open("r+b", buffering=0) as file:
        for offset in offsets:
            file.seek(offset)
            file.write(bytes([good[offset] ^ (1 << randomness.randrange(8))]))
            left, verdict = read(copy)
            found += not verdict.ok
            assert left == records[: verdict.events]
            assert bool(verdict.reason) != verdict.ok
            assert not verdict.ok or left == records
            file.seek(offset)
            file.write(good[offset : offset + 1])
    assert found > len(offsets) / 4
    assert verify(copy).ok


# --- whole events


@pytest.mark.parametrize("seq", [1, 2, 7, EVENTS - 1])
def test_a_removed_event(path: Path, seq: int) -> None:
    with unlocked(path) as connection:
        connection.execute("DELETE FROM events WHERE seq = ?", (seq,))
    verdict = verify(path)
    assert (verdict.ok, verdict.first_bad, verdict.events) == (False, seq, seq - 1)
    assert f"event {seq} is missing" in verdict.reason


def test_a_removed_event_with_the_rest_closed_up(path: Path) -> None:
    with unlocked(path) as connection:
        connection.execute("DELETE FROM events WHERE seq = 5")
        for seq in range(6, EVENTS + 1):
            connection.execute("UPDATE events SET seq = ? WHERE seq = ?", (seq - 1, seq))
    assert (verify(path).ok, verify(path).first_bad) == (False, 5)


def test_swapped_events(path: Path) -> None:
    with unlocked(path) as connection:
        for old, new in ((5, 99), (6, 5), (99, 6)):
            connection.execute("UPDATE events SET seq = ? WHERE seq = ?", (new, old))
    verdict = verify(path)
    assert (verdict.ok, verdict.first_bad) == (False, 5)
    assert "does not follow" in verdict.reason


def test_swapped_contents(path: Path) -> None:
    with unlocked(path) as connection:
        texts = dict(connection.execute("SELECT seq, event FROM events"))
        connection.execute("UPDATE events SET event = ? WHERE seq = 8", (texts[9],))
        connection.execute("UPDATE events SET event = ? WHERE seq = 9", (texts[8],))
    assert (verify(path).ok, verify(path).first_bad) == (False, 8)


def test_an_event_put_in_between(path: Path) -> None:
    with unlocked(path) as connection:
        for seq in range(EVENTS, 5, -1):
            connection.execute("UPDATE events SET seq = ? WHERE seq = ?", (seq + 1, seq))
        connection.execute("INSERT INTO events SELECT 6, t, event, hash, '' FROM events WHERE seq = 5")
        seal_again(connection, 6)
    verdict = verify(path)  # the forged event is well made; the one after it gives it away
    assert (verdict.ok, verdict.first_bad) == (False, 7)


@pytest.mark.parametrize("seq", [0, -3])
def test_an_event_put_before_the_first(path: Path, seq: int) -> None:
    with unlocked(path) as connection:
        connection.execute("INSERT INTO events SELECT ?, t, event, prev, hash FROM events WHERE seq = 1", (seq,))
    verdict = verify(path)
    assert (verdict.ok, verdict.first_bad) == (False, 1)
    assert f"numbered {seq}" in verdict.reason


@pytest.mark.parametrize("seq", [1, 6])
def test_a_forged_event_breaks_the_one_after_it(path: Path, seq: int) -> None:
    with unlocked(path) as connection:
        connection.execute("UPDATE events SET event = ? WHERE seq = ?", (ev.to_json(event(99)), seq))
        assert verify(path).first_bad is None  # the triggers are off: the layout tells before the chain does
        seal_again(connection, seq)
    assert (verify(path).ok, verify(path).first_bad) == (False, seq + 1)


def test_a_chain_forged_to_the_end_is_found_by_a_noted_head(path: Path) -> None:
    noted = read(path)[0][9].hash
    with unlocked(path) as connection:
        connection.execute("UPDATE events SET event = ? WHERE seq = 6", (ev.to_json(event(99)),))
        seal_again(connection, 6)
        for seq in range(7, EVENTS + 1):
            connection.execute(
                "UPDATE events SET prev = (SELECT hash FROM events WHERE seq = ? - 1) WHERE seq = ?", (seq, seq)
            )
            seal_again(connection, seq)
    assert verify(path).ok
    verdict = verify(path, noted)
    assert not verdict.ok
    assert "rewritten" in verdict.reason


def test_events_cut_from_the_end_are_found_by_a_noted_head(path: Path) -> None:
    records = read(path)[0]
    with unlocked(path) as connection:
        connection.execute("DELETE FROM events WHERE seq > 8")
    assert verify(path) == Verdict(True, 8, records[7].hash)
    assert verify(path, records[7].hash).ok
    assert verify(path, records[3].hash).ok  # a head noted earlier: the record has grown since
    verdict = verify(path, records[8].hash)
    assert (verdict.ok, verdict.events, verdict.head) == (False, 8, records[7].hash)
    assert "cut short" in verdict.reason


def test_all_events_removed(path: Path) -> None:
    with unlocked(path) as connection:
        connection.execute("DELETE FROM events")
    assert verify(path) == Verdict(False, 0, GENESIS, 1, "the journal holds no event: its first one is missing")


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("t", "2026-01-05 08:00:00", "time or its hashes are malformed"),
        ("hash", "00", "malformed"),
        ("prev", "F" * 64, "malformed"),
        ("prev", "f" * 64, "does not follow"),
        ("event", "", "was altered"),
        ("event", b"\xff\xfe".decode("latin-1"), "was altered"),
    ],
)
def test_single_fields(path: Path, column: str, value: str, says: str) -> None:
    with unlocked(path) as connection:
        connection.execute("UPDATE events SET column = ? WHERE seq = 4".replace("column", column), (value,))
    verdict = verify(path)
    assert (verdict.ok, verdict.first_bad) == (False, 4)
    assert says in verdict.reason


def test_text_that_is_no_text(path: Path) -> None:
    with unlocked(path) as connection:
        connection.execute("UPDATE events SET event = CAST(x'ff00fe' AS TEXT) WHERE seq = 4")
    assert "not text" in verify(path).reason


def test_an_event_of_a_later_version_is_named_as_such(path: Path) -> None:
    with unlocked(path) as connection:
        connection.execute('UPDATE events SET event = \'{"kind":"teleported"}\' WHERE seq = ?', (EVENTS,))
        seal_again(connection, EVENTS)
    verdict = verify(path)
    assert (verdict.ok, verdict.first_bad) == (False, EVENTS)
    assert "no event of kind 'teleported'" in verdict.reason
    assert "version" in verdict.reason


# --- the file as a whole


def test_a_dropped_trigger_an_added_table_another_layout(path: Path) -> None:
    changes = {
        "DROP TRIGGER events_stay": "events_stay is missing",
        "CREATE TABLE more (x)": "more is not as this program makes it",
        "CREATE TRIGGER also AFTER INSERT ON events BEGIN DELETE FROM heartbeat; END": "also is not",
        "PRAGMA user_version=2": "layout 2, this program reads layout 1",
        "PRAGMA application_id=7": "another application",
    }
    for statement, says in changes.items():
        copy = path.with_name("copy.db")
        shutil.copyfile(path, copy)
        with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            connection.execute(statement)
        verdict = verify(copy)
        assert (verdict.ok, verdict.first_bad) == (False, None)
        assert says in verdict.reason


def test_events_that_are_a_view(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for name in TRIGGERS:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("ALTER TABLE events RENAME TO hidden")
        connection.execute("CREATE VIEW events AS SELECT * FROM hidden")
    assert "the layout was altered" in verify(path).reason


def test_a_truncated_file_at_any_length(path: Path) -> None:
    good = path.read_bytes()
    records = read(path)[0]
    copy = path.with_name("copy.db")
    for size in sorted({1, 15, 16, 99, 100, 511, 512, 4095, *range(1024, len(good), 1024), len(good) - 1}):
        copy.write_bytes(good[:size])
        left, verdict = read(copy)
        assert not verdict.ok, size
        assert verdict.reason
        assert left == records[: len(left)]


def write_text(path: Path) -> None:
    path.write_text("seq,event\n1,this is a text file\n" * 100)


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_other(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE moz_places (url)")


def write_noise(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + random.Random(2).randbytes(8192))


def make_directory(path: Path) -> None:
    path.mkdir()


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (write_text, "not an SQLite database"),
        (write_nothing, "the file is empty"),
        (write_other, "another application"),
        (write_noise, "not"),
        (make_directory, "a directory or a device"),
        (make_pipe, "a directory or a device"),
        (lambda _: None, "no such file"),
    ],
)
def test_what_is_no_journal(tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    path = tmp_path / "what.db"
    make(path)
    verdict = verify(path)
    assert (verdict.ok, verdict.events, verdict.head, verdict.first_bad) == (False, 0, GENESIS, None)
    assert says in verdict.reason


def test_a_locked_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilctl.journal.verify.BUSY_S", 0.05)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("UPDATE heartbeat SET t = 'x'")
        assert path.with_name("batch.db-wal").exists()
        assert "locked by another process" in verify(path).reason
        connection.execute("ROLLBACK")
    assert verify(path).ok


def test_damage_outside_the_events(path: Path) -> None:
    """A page that belongs to no event any more: the chain is whole, and the verdict says so."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'heartbeat'").fetchone()[0]
        page = connection.execute("PRAGMA page_size").fetchone()[0]
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    with path.open("r+b") as file:
        file.seek((root - 1) * page)
        file.write(b"\x00" * 16)
    verdict = verify(path)
    assert not verdict.ok
    assert verdict.events == EVENTS
    assert "damaged" in verdict.reason


def test_a_record_can_be_checked_without_this_program(path: Path) -> None:
    """The recipe in the documentation of `tilctl.journal.chain`, with nothing but the standard library."""
    before = "0" * 64
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for seq, t, text, prev, own in connection.execute("SELECT seq, t, event, prev, hash FROM events ORDER BY seq"):
            assert hashlib.sha256(f'[{seq},"{t}",{text},"{prev}"]'.encode()).hexdigest() == own
            whole = json.dumps(
                [seq, t, json.loads(text), prev], sort_keys=True, separators=(",", ":"), ensure_ascii=False
            )
            assert hashlib.sha256(whole.encode()).hexdigest() == own
            assert prev == before
            before = own
    assert before == read(path)[0][-1].hash


def test_records_carry_the_chain(path: Path) -> None:
    records = read(path)[0]
    assert isinstance(records[0], Record)
    assert [record.prev for record in records[1:]] == [record.hash for record in records[:-1]]
