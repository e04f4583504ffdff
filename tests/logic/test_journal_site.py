"""The journal of the site: boots, heads of batches, and whose journal it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devices.clock import SystemClock
from tilctl.journal import events as ev
from tilctl.journal.site import SiteJournal, WrongSiteError, boots, noted_heads
from tilctl.journal.store import Journal
from tilctl.journal.verify import read, verify

FIRST = ev.SiteOpened("demo", "suite1", "0.1.0")


@pytest.fixture
async def clock() -> AsyncIterator[SystemClock]:
    clock = SystemClock()
    yield clock
    clock.close()


async def test_the_site_journal_tells_of_boots_and_batches(tmp_path: Path, clock: SystemClock) -> None:
    path = tmp_path / "site.db"
    site = await SiteJournal.start(path, clock, FIRST, "boot-1")
    batch = await Journal.create(tmp_path / "b1.db", clock, FIRST)
    await site.note_head("b1", batch)
    await batch.record(ev.Marked("day0", "2026-01-05T08:00:00.000Z"))
    await site.note_head("b1", batch)
    await site.beat("2026-01-05T08:00:10.000Z")
    await site.close()
    await batch.close()
    again = await SiteJournal.start(path, clock, FIRST, "boot-2")
    await again.close()
    records = read(path)[0]
    assert [boot for _, boot in boots(records)] == [
        ev.BootStarted("boot-1", "0.1.0", None),
        ev.BootStarted("boot-2", "0.1.0", "2026-01-05T08:00:10.000Z"),
    ]
    assert noted_heads(records)["b1"] == ev.BatchHead("b1", *batch.head)
    assert verify(batch.path, noted_heads(records)["b1"].hash).ok


async def test_the_journal_of_another_site_is_not_taken(tmp_path: Path, clock: SystemClock) -> None:
    path = tmp_path / "site.db"
    await (await SiteJournal.start(path, clock, FIRST, "boot-1")).close()
    with pytest.raises(WrongSiteError, match="site demo, node suite1, not of site other"):
        await SiteJournal.start(path, clock, ev.SiteOpened("other", "suite1", "0.1.0"), "boot-2")
    batch = await Journal.create(tmp_path / "b.db", clock, ev.BatchClosed())
    await batch.close()
    with pytest.raises(WrongSiteError, match="of a batch"):
        await SiteJournal.start(tmp_path / "b.db", clock, FIRST, "boot-2")
