"""Trends: packed without loss, bound to the record by hashes, and never in the way of control."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.clock import SystemClock
from devices.reading import Quality
from tilctl.history import store as store_module
from tilctl.history.blocks import Block, OpenBlock, Sample, unpack
from tilctl.history.file import HistoryError, read, stored
from tilctl.history.store import BlockHash, History, block_hash

T0 = 1_767_600_000.0  # 2026-01-05T08:00:00Z
ALL = (0.0, 4e9)


class GatedClock(SystemClock):
    """A real clock whose storage works only while the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    async def offload(self, work: Callable[[], Any]) -> Any:
        def gated() -> Any:
            assert self.gate.wait(10)
            return work()

        return await super().offload(gated)


@pytest.fixture
async def clock() -> AsyncIterator[GatedClock]:
    clock = GatedClock()
    yield clock
    clock.gate.set()
    clock.close()


@pytest.fixture
async def history(tmp_path: Path, clock: GatedClock) -> AsyncIterator[History]:
    history = History(tmp_path / "history" / "b1.db", clock)
    yield history
    clock.gate.set()
    await history.close()


def fill(history: History, start: float, count: int, step: float = 1.0) -> None:
    for n in range(count):
        history.sample(start + n * step, {"station.temperature": 37.0 + n / 8, "pump.total": 1e6 + n / 10})


def count_blocks(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT count(*) FROM blocks").fetchone()[0]


# --- the format


def test_values_come_back_exactly_with_gaps_and_qualities() -> None:
    block = OpenBlock()
    block.add(T0, {"a": 0.1, "b": 37.5}, {})
    block.add(T0 + 1, {"a": None, "b": 1e300, "flag": True}, {"b": Quality.UNCERTAIN, "a": Quality.GOOD})
    block.add(T0 + 2, {"flag": False, "state": "running", "n": math.nan}, {"flag": Quality.STALE})
    packed = block.pack()
    assert (packed.t0, packed.t1, packed.samples) == (T0, T0 + 2, 3)
    assert unpack(packed) == {
        "a": [Sample(T0, 0.1, Quality.GOOD), Sample(T0 + 1, None, Quality.BAD)],
        "b": [Sample(T0, 37.5, Quality.GOOD), Sample(T0 + 1, 1e300, Quality.UNCERTAIN)],
        "flag": [Sample(T0 + 1, 1.0, Quality.GOOD), Sample(T0 + 2, 0.0, Quality.STALE)],
        "n": [Sample(T0 + 2, None, Quality.BAD)],
    }
    assert unpack(packed, ["b"]).keys() == {"b"}


@given(
    st.lists(st.dictionaries(st.sampled_from("abcd"), st.none() | st.floats(allow_nan=False)), min_size=1, max_size=70)
)
def test_any_samples_come_back(samples: list[dict[str, float | None]]) -> None:
    block = OpenBlock()
    for n, values in enumerate(samples):
        block.add(T0 + n, values, {})
    found = unpack(block.pack())
    for tag in "abcd":
        expected = [(T0 + n, values[tag]) for n, values in enumerate(samples) if tag in values]
        usable = [(t, None if v is None or math.isinf(v) else v) for t, v in expected]
        assert [(sample.t, sample.value) for sample in found.get(tag, [])] == usable


def test_same_samples_same_bytes_whatever_the_order_of_tags() -> None:
    one, two = OpenBlock(), OpenBlock()
    one.add(T0, {"a": 1.5, "b": 2.5}, {})
    two.add(T0, {"b": 2.5, "a": 1.5}, {})
    assert one.pack() == two.pack()
    assert one.pack().sha256() == two.pack().sha256()


def test_a_minute_of_an_instrument_is_small() -> None:
    block = OpenBlock()
    for n in range(60):
        block.add(T0 + n, {f"tag{k}": 37.0 + (n * k % 7) / 64 for k in range(60)}, {})
    assert len(block.pack().data) < 60 * 60 * 4 / 3


@pytest.mark.parametrize("data", [b"", b"no zlib", None])
def test_a_damaged_block_says_so(data: bytes | None) -> None:
    block = OpenBlock()
    block.add(T0, {"a": 1.0}, {})
    good = block.pack()
    bad = Block(good.t0, good.t1, good.samples + 1, good.columns, good.data if data is None else data)
    with pytest.raises(ValueError, match="damaged"):
        unpack(bad)


# --- storing and reading


async def test_samples_are_read_back_by_tag_and_time(history: History) -> None:
    fill(history, T0, 150)
    await history.flush()
    assert count_blocks(history.path) == 3
    found = read(history.path, ["pump.total", "unknown"], T0 + 50, T0 + 69)
    assert found.keys() == {"pump.total"}
    assert [(s.t, s.value) for s in found["pump.total"]] == [(T0 + n, 1e6 + n / 10) for n in range(50, 70)]
    assert len(read(history.path, None, *ALL)["station.temperature"]) == 150


async def test_blocks_are_a_minute_when_busy_and_ten_when_quiet(history: History) -> None:
    fill(history, T0, 600)
    await history.flush()
    assert count_blocks(history.path) == 10
    fill(history, T0 + 600, 30, step=60.0)
    await history.flush()
    assert count_blocks(history.path) == 13


async def test_a_clock_set_back_begins_a_new_block(history: History) -> None:
    fill(history, T0 + 100, 10)
    fill(history, T0 + 95, 10)
    await history.flush()
    assert count_blocks(history.path) == 2
    times = [sample.t for sample in read(history.path, ["pump.total"], *ALL)["pump.total"]]
    assert sorted(times) == sorted([T0 + 100 + n for n in range(10)] + [T0 + 95 + n for n in range(10)])


async def test_nothing_is_touched_before_the_first_block(history: History) -> None:
    history.sample(T0, {"a": 1.0})
    assert not history.path.parent.exists()
    await history.close()
    assert read(history.path, ["a"], *ALL) == {"a": [Sample(T0, 1.0, Quality.GOOD)]}
    assert [child.name for child in history.path.parent.iterdir()] == ["b1.db"]


async def test_reading_what_is_no_history(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("t,value\n" * 1000)
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE blocks (x)")
    for name, says in (("absent", "no such"), ("text", "not a database"), ("other.db", "not a history")):
        with pytest.raises(HistoryError, match=says):
            read(tmp_path / name, None, *ALL)


# --- hashes for the record


async def test_each_hour_has_one_hash_that_anyone_can_recompute(history: History) -> None:
    assert history.roll() is None
    fill(history, T0, 3600 + 61)
    await history.flush()
    rolled = history.roll()
    assert rolled is not None
    assert history.roll() is None  # the second hour is not over
    assert (rolled.first, rolled.blocks) == (1, 60)
    assert (rolled.t0, rolled.t1) == ("2026-01-05T08:00:00.000Z", "2026-01-05T08:59:59.000Z")
    with contextlib.closing(sqlite3.connect(history.path)) as connection:
        rows = connection.execute("SELECT columns, data FROM blocks ORDER BY number LIMIT 60").fetchall()
    parts = [hashlib.sha256(columns.encode() + b"\n" + data).digest() for columns, data in rows]
    assert rolled.sha256 == hashlib.sha256(b"".join(parts)).hexdigest()
    assert block_hash(stored(history.path, rolled.first, rolled.blocks)) == rolled
    last = history.roll(final=True)
    assert last is not None
    assert (last.first, last.blocks) == (61, 2)
    assert history.roll(final=True) is None


async def test_a_changed_trend_does_not_have_its_hash(history: History) -> None:
    fill(history, T0, 60)
    await history.flush()
    rolled = history.roll(final=True)
    assert rolled is not None
    await history.close()
    forged = OpenBlock()
    for n in range(60):
        forged.add(T0 + n, {"station.temperature": 37.0, "pump.total": 1e6}, {})
    with contextlib.closing(sqlite3.connect(history.path)) as connection, connection:
        connection.execute("UPDATE blocks SET data = ?", (forged.pack().data,))
    assert block_hash(stored(history.path, 1, 1)).sha256 != rolled.sha256


async def test_after_a_crash_no_hour_is_left_out(tmp_path: Path, clock: GatedClock) -> None:
    path = tmp_path / "h.db"
    before = History(path, clock)
    fill(before, T0, 3600 + 1800)
    await before.flush()
    first = before.roll()
    fill(before, T0 + 5400, 61)  # the next block notes that the first hour is on the record
    await before.flush()
    # here the process dies: nothing is closed, and what the file holds is all that is left
    after = History(path, clock)
    fill(after, T0 + 7000, 600 + 60)
    await after.flush()
    second = after.roll()
    assert first is not None
    assert second is not None
    assert (first.first, first.blocks, second.first) == (1, 60, 61)
    assert block_hash(stored(path, second.first, second.blocks)) == second
    assert second.t1 == "2026-01-05T09:59:59.000Z"
    await after.close()
    await before.close()


async def test_same_samples_same_hashes(tmp_path: Path, clock: GatedClock) -> None:
    rolled: list[BlockHash | None] = []
    for run in range(2):
        history = History(tmp_path / f"{run}.db", clock)
        fill(history, T0, 700)
        await history.flush()
        rolled.append(history.roll(final=True))
        await history.close()
    assert rolled[0] is not None
    assert rolled[0] == rolled[1]


# --- never in the way of control


async def test_a_slow_disk_drops_and_counts(
    history: History, clock: GatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PENDING_LIMIT", 3)
    clock.gate.clear()
    fill(history, T0, 600)
    assert history.statistics.dropped_samples > 0
    clock.gate.set()
    await history.flush()
    kept = len(read(history.path, ["pump.total"], *ALL)["pump.total"])
    assert kept + history.statistics.dropped_samples == 600
    assert history.statistics.samples == 600


@pytest.mark.parametrize("content", [b"this is a text file\n" * 100, "other"])
async def test_a_file_that_is_not_ours_is_left_alone(tmp_path: Path, clock: GatedClock, content: bytes | str) -> None:
    path = tmp_path / "h.db"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    history = History(path, clock)
    fill(history, T0, 61)
    await history.close()
    assert path.read_bytes() == before
    assert (history.statistics.failures, history.statistics.dropped_samples) == (2, 61)
    assert str(path) in history.statistics.trouble
    assert history.roll(final=True) is None


async def test_a_full_disk_is_counted_and_overcome(history: History, clock: GatedClock) -> None:
    fill(history, T0, 60)
    await history.flush()

    def limit(pages: int) -> None:
        connection = history._file._connection
        assert connection is not None
        connection.execute(f"PRAGMA max_page_count={pages}")

    await clock.offload(lambda: limit(1))
    for n in range(60):
        history.sample(T0 + 60 + n, {f"tag{k}": math.sin(n * k) for k in range(60)})
    await history.flush()
    assert (history.statistics.failures, history.statistics.dropped_samples) == (1, 60)
    assert "full" in history.statistics.trouble
    await clock.offload(lambda: limit(100_000))
    fill(history, T0 + 120, 60)
    await history.flush()
    rolled = history.roll(final=True)
    assert rolled is not None
    assert rolled.blocks == 2
    assert block_hash(stored(history.path, 1, 2)) == rolled


@pytest.mark.parametrize("t", [math.nan, math.inf, -1.0, 1e300])
async def test_a_senseless_time_is_dropped(history: History, t: float) -> None:
    history.sample(T0, {"a": 1.0})
    history.sample(t, {"a": 1.0})
    history.sample(T0 + 1, {"a": 2.0})
    await history.flush()
    assert history.statistics.dropped_samples == 1
    assert len(read(history.path, None, *ALL)["a"]) == 2


async def test_a_flood_within_a_minute_is_bounded(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "BLOCK_MOST_SAMPLES", 100)
    for n in range(150):
        history.sample(T0 + n / 1000, {"a": 1.0})
    assert history.statistics.dropped_samples == 50
    history.sample(T0 + 60, {"a": 1.0})
    await history.flush()
    assert history.statistics.blocks == 2


async def test_a_cancelled_flush_loses_nothing(history: History, clock: GatedClock) -> None:
    clock.gate.clear()
    fill(history, T0, 10)
    flushing = asyncio.create_task(history.flush())
    await asyncio.sleep(0)
    flushing.cancel()
    await asyncio.wait([flushing])
    clock.gate.set()
    await history.flush()
    assert len(read(history.path, ["pump.total"], *ALL)["pump.total"]) == 10
