"""What a start finds in the folder of the records: a copy, one too many, one that is gone, one that was cut short."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from story import UNIT, Story

from tilctl.engine.records import LOST
from tilctl.journal import events as ev
from tilctl.journal.store import JournalError
from tilctl.journal.verify import read


def copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target)) as made:
        live.backup(made)


def remove(record: Path) -> None:
    for path in record.parent.glob(f"{record.name}*"):
        path.unlink()


async def waiting(suite: Story) -> Path:
    await suite.start("still", wait="9 h")
    await suite.until("stay/one", "acting")
    return suite.file()


async def dead(suite: Story) -> None:
    suite.kill()
    await suite.bury()


async def refused(suite: Story, boot: Callable[[], Awaitable[None]]) -> str:
    """Return why the controller does not start; no instrument has heard a write."""
    goal = suite.plant.climate.temperature.goal
    with pytest.raises(JournalError) as caught:
        await boot()
    suite.alive = False
    await asyncio.sleep(60.0)
    assert suite.plant.climate.temperature.goal == goal
    await suite.bury()
    return str(caught.value)


async def test_a_copy_beside_a_record_is_named_and_nothing_starts(suite: Story) -> None:
    record = await waiting(suite)
    extra = record.with_name(f"{record.stem}_copy.db")
    copy(record, extra)
    await dead(suite)
    text = await refused(suite, suite.boot)
    assert f"{extra}: this is a copy of the record of {record.stem}" in text
    assert "move the copy out of" in text
    remove(extra)
    await suite.boot()
    assert suite.runner.state == "running"


async def test_two_batches_of_one_unit_are_for_a_person_to_sort_out(suite: Story) -> None:
    record = await waiting(suite)
    kept = suite.folder / "kept.db"
    copy(record, kept)
    await suite.do("abort")
    await suite.do("reset")
    await asyncio.sleep(5.0)
    second = await waiting(suite)
    await dead(suite)
    shutil.copy(kept, record)
    text = await refused(suite, suite.boot)
    assert record.stem in text
    assert second.stem in text
    assert f"is under way on {UNIT} as well" in text
    remove(record)
    await suite.boot()
    assert suite.runner.batch.name == second.stem


async def test_a_record_that_is_gone_is_missed(suite: Story) -> None:
    record = await waiting(suite)
    kept = suite.folder / "kept.db"
    await dead(suite)
    shutil.copy(record, kept)
    remove(record)
    text = await refused(suite, suite.boot)
    assert f"{record}: the record of the batch on {UNIT} is gone" in text
    assert f"{record.with_suffix('')}{LOST}" in text
    shutil.copy(kept, record)
    await suite.boot()
    assert suite.runner.state == "running", "put back, it goes on"


async def test_a_record_that_is_lost_for_good_is_so_by_a_persons_word(suite: Story) -> None:
    record = await waiting(suite)
    await dead(suite)
    remove(record)
    record.with_name(f"{record.stem}{LOST}").touch()
    await suite.boot()
    assert suite.runner_or_none is None
    records, verdict = read(suite.folder / "data" / "site.db")
    assert verdict.ok
    said = [record.event for record in records if isinstance(record.event, ev.BatchPutAway)]
    assert [(event.batch, event.result) for event in said] == [(record.stem, "lost")]
    await suite.start("still", wait="1 s")
    await suite.until_state("complete")
    await suite.do("reset")
    await suite.power_cut(5.0)
    assert suite.runner_or_none is None, "what was put away is not missed, wherever its record is"


async def test_what_was_put_away_may_be_taken_elsewhere(suite: Story) -> None:
    await suite.start("still", wait="1 s")
    await suite.until_state("complete")
    await suite.do("reset")
    await dead(suite)
    for path in (suite.folder / "data" / "batches" / "closed").glob("*"):
        path.unlink()
    await suite.boot()
    assert suite.controller.ready


async def test_a_record_that_ends_before_what_the_site_has_noted_is_held_for(suite: Story) -> None:
    record = await waiting(suite)
    older = suite.folder / "older.db"
    copy(record, older)
    await suite.do("hold")
    await suite.do("restart")
    await asyncio.sleep(3 * 3600.0)  # its head is noted hourly
    await dead(suite)
    remove(record)
    shutil.copy(older, record)
    await suite.boot()
    await suite.until_state("held", within=60.0)
    await suite.settle()
    assert "which it does not hold" in suite.state.held_for
    assert suite.state.alarms["not-on-record"].priority == "critical"
    await suite.do("restart")
    await suite.until_state("complete", within=48 * 3600.0)
    await asyncio.sleep(2 * 3600.0)
    await suite.power_cut(5.0)
    assert "not-on-record" not in suite.state.alarms, "accepted once, it is not asked again"


@pytest.mark.parametrize(
    ("renamed", "says"),
    [
        ({"p1: {at": "q1: {at"}, "no place p1, where "),
        ({"incubator: {prof": "chamber: {prof", "device: incubator": "device: chamber"}, "no device incubator"),
    ],
)
async def test_a_site_file_that_lacks_what_a_batch_has_starts_nothing_and_names_it(
    suite: Story, renamed: dict[str, str], says: str
) -> None:
    await suite.start("small")
    await suite.until_flowed("pump_media", 5.0)
    whole = suite.site_file
    await dead(suite)
    changed = suite.folder / "changed.yaml"
    text = whole.read_text("utf-8")
    for old, new in renamed.items():
        text = text.replace(old, new)
    changed.write_text(text, "utf-8")
    suite.edit_site(changed)
    text = await refused(suite, suite.boot)
    assert says in text, text
    assert "name them as before" in text
    suite.edit_site(whole)
    await suite.boot()
    await suite.until_state("held")  # a dose was under way
