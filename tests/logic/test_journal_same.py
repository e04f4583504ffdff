"""Same inputs, same head, bit for bit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from devices.clock import SystemClock
from simulators import virtual
from simulators.virtual import VirtualClock
from tilctl.journal import events as ev
from tilctl.journal.chain import stamp
from tilctl.journal.store import Journal
from tilctl.journal.verify import read, verify

FIRST = ev.SiteOpened("demo", "suite1", "0.1.0")


class ScriptedClock(SystemClock):
    """Virtual for records: the n-th look at it is n * 250 ms after the epoch; storage runs inline."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def now(self) -> datetime:
        self.looks += 1
        return datetime(2026, 1, 5, 8, 0, tzinfo=UTC) + timedelta(milliseconds=250 * self.looks)

    async def offload(self, work: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        return work()


async def test_same_inputs_give_the_same_head(tmp_path: Path) -> None:
    heads: set[str] = set()
    for run in range(2):
        clock = ScriptedClock()
        journal = await Journal.create(tmp_path / f"{run}.db", clock, FIRST)

        async def task(name: str, count: int, journal: Journal = journal) -> None:
            for n in range(count):
                await journal.record(ev.Noted(name, str(n), exception=False))
                journal.append(ev.AlarmCleared(f"{name}{n}"))

        await asyncio.gather(*[task(name, 5 + i) for i, name in enumerate("abc")])
        await journal.close()
        heads.add(verify(journal.path).head)
        clock.close()
    assert len(heads) == 1


def test_a_rehearsal_gives_the_same_head_each_time(tmp_path: Path) -> None:
    """Under the virtual clock: days pass, several tasks write, commits are at quiet points."""

    async def main(path: Path, clock: VirtualClock) -> tuple[int, str]:
        journal = await Journal.create(path, clock, FIRST)

        async def task(name: str, pause: float) -> None:
            for n in range(50):
                await journal.record(ev.Noted(name, str(n), exception=False))
                journal.append(ev.AlarmCleared(name))
                await clock.sleep(pause)

        await asyncio.gather(*[task(name, 3600.0 + 1800.0 * (n % 2)) for n, name in enumerate("abcd")])
        await journal.close()
        return journal.head

    heads = [virtual.run(partial(main, tmp_path / f"{run}.db")) for run in range(2)]
    assert heads[0] == heads[1]
    assert heads[0][0] == 401
    records = read(tmp_path / "0.db")[0]
    assert (records[0].t, records[-1].t) == ("2026-01-05T08:00:00.000Z", "2026-01-08T09:30:00.000Z")


def test_times_of_records_are_utc_with_milliseconds() -> None:
    moment = datetime(2026, 1, 5, 9, 0, 0, 1999, tzinfo=UTC) + timedelta(0)
    assert stamp(moment) == "2026-01-05T09:00:00.001Z"
