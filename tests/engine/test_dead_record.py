"""A record that takes nothing, is opened again, or was put back to an older copy: what must not be forgotten by it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from story import HERE, UNIT, Story
from test_guards import heat

from tilctl.engine.port import Command
from tilctl.journal import events as ev
from tilctl.journal.backup import backup, restore
from tilctl.journal.storage import EventFile

TROUBLE = {"record_failed", "event_not_on_record", "internal_error"}


class FullDisk:
    """A disk without free blocks: a database cannot grow; what is written over in place is written."""

    full = False

    def guard(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any) -> Any:
            if self.full:
                raise sqlite3.OperationalError("database or disk is full")
            return work(*args)

        return guarded


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, suite: Story) -> Iterator[FullDisk]:
    found = FullDisk()
    for name in ("write", "beat"):
        monkeypatch.setattr(EventFile, name, found.guard(getattr(EventFile, name)))
    suite.announced |= TROUBLE
    yield found
    found.full = False


async def again(suite: Story, seconds: float = 0.0) -> None:
    """The process ends, somebody makes room, and the service is started."""
    await asyncio.sleep(1)
    suite.kill()
    await suite.bury()
    await asyncio.sleep(seconds)
    await suite.boot()
    await asyncio.sleep(60)


async def staying(suite: Story) -> None:
    await suite.start("still", wait="9 h")
    await suite.until("stay/one", "acting")


async def die(suite: Story) -> None:
    """Meet the full disk with an event of no weight."""
    suite.runner.batch.note(ev.AlarmCleared("nothing"))
    await suite.when(lambda: suite.runner.batch.journal.failed, "the record has failed")
    await asyncio.sleep(60)


def variant(suite: Story, name: str, *changes: tuple[str, str]) -> str:
    text = (HERE / "recipes" / f"{name}.yaml").read_text("utf-8")
    for old, new in (("recipe: " + name, f"recipe: {name}x"), *changes):
        assert old in text, old
        text = text.replace(old, new)
    (suite.folder / f"{name}x.yaml").write_text(text)
    return name + "x"


# --- what is done without a record ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "became"), [("hold", "held"), ("stop", "stopped"), ("abort", "aborted")])
async def test_what_a_person_did_on_a_full_disk_stands_after_a_restart(
    suite: Story, disk: FullDisk, verb: str, became: str
) -> None:
    await staying(suite)
    disk.full = True
    outcome = await suite.do(verb)
    assert outcome.code == "not_on_record"
    assert f"is {became}; NOT ON RECORD" in outcome.text
    assert "a mark is left" in outcome.text
    disk.full = False
    await again(suite)
    assert suite.runner.state == "held"
    (alarm,) = [a for a in suite.controller.status(UNIT)["alarms"] if a["alarm"] == "not-on-record"]
    assert f"it came to {became}" in alarm["text"]
    assert f"{verb} by test" in alarm["text"]
    assert [e for e in suite.events("exception_raised") if f"it came to {became}" in e.text]
    await suite.do("restart")  # a person decides, once
    await again(suite)
    assert suite.runner.state == "running"
    assert "not-on-record" not in suite.state.alarms


async def test_the_hold_of_an_ending_service_stands_too(suite: Story, disk: FullDisk) -> None:
    await staying(suite)
    disk.full = True
    suite.runner.fire("hold", "SIGTERM: the service was told to end")
    await suite.runner.settled()  # which is all that an ending service waits for
    disk.full = False
    await again(suite, 3600)
    assert suite.runner.state == "held"
    assert "SIGTERM" in suite.state.alarms["not-on-record"].text


async def test_a_paused_batch_is_held_by_its_mark(suite: Story, disk: FullDisk) -> None:
    await staying(suite)
    await suite.do("pause", expect=None)
    await asyncio.sleep(1)
    before = suite.runner.state
    disk.full = True
    await suite.do("hold")
    disk.full = False
    await again(suite)
    assert before in ("paused", "pausing")
    assert suite.runner.state == "held"


async def test_where_no_mark_can_be_left_the_answer_says_so(suite: Story) -> None:
    suite.announced |= TROUBLE
    await staying(suite)
    suite.clock.disk_full = True  # nothing at all is written
    outcome = await suite.do("hold")
    assert "no mark could be left" in outcome.text
    assert suite.runner.state == "held"


async def test_a_record_that_is_opened_again_takes_its_mark_back(suite: Story, disk: FullDisk) -> None:
    await staying(suite)
    disk.full = True
    assert (await suite.do("hold")).code == "not_on_record"
    disk.full = False
    assert (await suite.do("restart")).code == ""
    await again(suite)
    assert suite.runner.state == "running"


async def test_a_torn_mark_holds(suite: Story) -> None:
    await staying(suite)
    suite.kill()
    await suite.bury()
    (path,) = (suite.folder / "data").glob("unit.*.mark")
    path.write_bytes(b'{"batch": "cel' + b"\0" * 1000)
    await suite.boot()
    await asyncio.sleep(60)
    assert suite.runner.state == "held"
    assert "cannot be read" in suite.state.alarms["not-on-record"].text


async def test_the_mark_of_another_batch_is_no_affair_of_this_one(suite: Story, disk: FullDisk) -> None:
    await staying(suite)
    disk.full = True
    await suite.do("hold")
    (path,) = (suite.folder / "data").glob("unit.*.mark")
    left = path.read_bytes()
    assert len(left) == 1024  # written over in place
    disk.full = False
    await suite.do("restart")
    path.write_bytes(left.replace(suite.runner.batch.name.encode(), b"cell1-before"))
    await again(suite)
    assert suite.runner.state == "running"


# --- alarms -----------------------------------------------------------------------------------------------------------


async def test_an_alarm_that_cannot_be_noted_is_shown_and_noted_later(suite: Story, disk: FullDisk) -> None:
    await suite.start(variant(suite, "guarded", ("priority: high, then: hold", "priority: high")), wait="10 h")
    await suite.until("stay/one", "acting")
    disk.full = True
    await die(suite)
    heat(suite, 41.0)
    await asyncio.sleep(2 * 3600)
    shown = {a["alarm"]: a for a in suite.controller.status(UNIT)["alarms"]}
    assert shown["warm"]["on_record"] is False
    disk.full = False
    heat(suite, 41.0)
    await suite.do("restart")
    await asyncio.sleep(60)
    assert "warm" in suite.state.alarms
    assert [a["alarm"] for a in suite.controller.status(UNIT)["alarms"]].count("warm") == 1
    assert [e.alarm for e in suite.events("alarm_raised")].count("warm") == 1


async def test_an_alarm_that_went_meanwhile_is_not_noted(suite: Story, disk: FullDisk) -> None:
    await staying(suite)
    suite.runner.alarm("before", "low", "it stands on record")
    await suite.settle()
    disk.full = True
    await die(suite)
    suite.runner.clear("before")
    suite.runner.alarm("between", "low", "it comes")
    suite.runner.clear("between")
    for number in range(300):
        suite.runner.alarm(f"many-{number}", "low", "there are many")
    assert len(suite.controller.status(UNIT)["alarms"]) <= 101
    disk.full = False
    await suite.do("restart")
    assert not {"before", "between"} & set(suite.state.alarms)
    assert "many-0" in suite.state.alarms


# --- opened again -----------------------------------------------------------------------------------------------------


async def give(suite: Story, name: str) -> tuple[str, str]:
    outcome = await suite.controller.execute(Command(name, "test", UNIT, "restart"), lambda seq, digest: None)
    return outcome.status, outcome.text


@pytest.mark.parametrize("at", range(1, 9))
async def test_two_restarts_at_once_open_a_failed_record_once(
    suite: Story, disk: FullDisk, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """The second comes while the first is at its `at`-th piece of work with the disk."""
    await staying(suite)
    disk.full = True
    await die(suite)
    disk.full = False
    told: list[int] = []
    suite.runner.batch.journal.on_commit.append(lambda record: told.append(record.seq))
    second: list[asyncio.Task[tuple[str, str]]] = []
    clock, works, offload = suite.clock, 0, suite.clock.offload

    async def striking(work: Callable[[], Any]) -> Any:
        nonlocal works
        works += 1
        if works == at:
            second.append(asyncio.create_task(give(suite, "second")))
        return await offload(work)

    monkeypatch.setattr(clock, "offload", striking)
    first = await give(suite, "first")
    await asyncio.sleep(10)
    outcomes = [first, *await asyncio.gather(*second)]
    assert second, "there is less work with the disk than that"
    assert [status for status, _ in outcomes if status == "failed"] == [], outcomes
    assert told == sorted(set(told))
    assert not suite.runner.batch.journal.failed
    assert suite.runner.state == "running"
    assert [e.code for e in suite.events("exception_raised")].count("record-failed") == 1


# --- put back to an older copy ----------------------------------------------------------------------------------------


def small_doses(suite: Story) -> str:
    """Doses far below what a scale can tell, with time between them."""
    dose = "tolerance: 2 mL, source: P}\n"
    return variant(
        suite, "small",
        (f"{dose}  - note: {{id: between", "tolerance: 2 mL, on_restart: resume, source: P}\n  - note: {id: between"),
        ("default: 60 mL", "default: 8 mL"), ("default: 40 mL", "default: 6 mL"), ("leave: 50 mL", "leave: 5 mL"),
        ("  - note: {id: between", "  - wait: {id: w1, for: 10 min}\n  - note: {id: between"),
        ("- operation: empty", "  - wait: {id: w2, for: 2 h}\n- operation: empty"),
    )  # fmt: skip


async def test_a_restored_older_record_doses_nothing_again_without_a_person(suite: Story, tmp_path: Path) -> None:
    await suite.start(small_doses(suite))
    await suite.until("fill/w1", "acting")
    data = suite.folder / "data"
    backup(data, tmp_path / "copy", "2026-01-05T08:00:00Z", "0")
    await suite.until("fill/w2", "acting")
    given = [(run.sequence, run.commanded_ml) for run in suite.pump("pump_media").log]
    site = suite.controller.site
    for aside in ("aside", "again"):  # a restore that is repeated says the same
        suite.kill()
        await suite.bury()
        restore(tmp_path / "copy", data, site.name, site.node, replace=True, aside=aside)
        await suite.boot()
        await asyncio.sleep(1200)
        assert suite.runner.state == "held"
        assert [(run.sequence, run.commanded_ml) for run in suite.pump("pump_media").log] == given
        text = suite.state.alarms["not-on-record"].text
        assert text.startswith("the record was restored from a backup taken at 2026-01-05T08:00:00Z")
    suite.check_ledger = False  # a person goes on; the dose is given again with the eyes open
    await suite.do("restart")
    assert suite.runner.state == "running"
    assert "not-on-record" not in suite.state.alarms


async def test_what_the_design_wants_meanwhile_is_on_record_when_it_is_opened_again(
    suite: Story, disk: FullDisk
) -> None:
    await staying(suite)
    suite.runner.desk.raise_("odd", "high", "text")
    suite.runner.desk.by_design("odd", suppressed=True)
    await suite.settle()
    disk.full = True
    await die(suite)
    suite.runner.desk.by_design("odd", suppressed=False)
    disk.full = False
    await suite.do("restart", expect=None)
    await suite.settle()
    assert not suite.state.alarms["odd"].aside


async def test_what_breaks_over_the_record_keeps_no_hold_and_no_guard_from_acting(
    suite: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.announced |= {"callback_failed"}
    await suite.start("still", wait="9 h")
    await suite.until("stay/one", "acting")

    def breaks() -> None:
        raise RuntimeError("a fault of the program")

    controller = suite.controller
    monkeypatch.setattr(controller._alarms, "note_lost", breaks)
    monkeypatch.setattr(controller.interlocking.records, "note_lost", breaks)
    judged: list[str] = []
    slot = controller._slots[UNIT]
    monkeypatch.setattr(slot, "scanned", lambda device, _named: judged.append(device))
    await suite.plant_suite.image.next_scan("incubator")
    await suite.when(lambda: "incubator" in judged, "its guards are asked", within=5.0)
    await suite.do("hold")
    await suite.until_state("held")
