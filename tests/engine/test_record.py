"""A record that fails and comes back, in place: what a person has to do, and what is on it afterwards."""

from __future__ import annotations

import asyncio

import pytest
from pytest import approx
from story import UNIT, Story

from tilctl.journal import disk as disk_module
from tilctl.journal.verify import verify


async def until_the_disk_is_full(suite: Story) -> None:
    suite.announced = {"record_failed", "event_not_on_record"}
    await suite.start("small")
    await suite.until_flowed("pump_media", 20.0)
    suite.clock.disk_full = True
    await suite.when(lambda: suite.runner.state == "held", "the engine notices")


async def test_restart_opens_the_record_again_and_the_batch_goes_on(suite: Story) -> None:
    await until_the_disk_is_full(suite)
    began = len(suite.events("intent_opened"))
    refused = await suite.do("restart", expect="failed")
    assert refused.code == "journal_failed"
    assert "still fails" in refused.text
    await asyncio.sleep(600)
    assert suite.pump("pump_media").run is None
    assert len(suite.events("intent_opened")) == began
    suite.clock.disk_full = False
    await asyncio.sleep(600)
    assert suite.runner.state == "held", "a disk that is well again starts nothing by itself"
    assert (await suite.do("restart")).status == "done"
    assert suite.controller.status(UNIT)["record"] == "ok"
    (lost,) = [e for e in suite.events("exception_raised") if e.code == "record-failed"]
    assert "No space left" in lost.text
    states = [(e.from_state, e.to_state) for e in suite.events("state_changed", path="")]
    assert ("running", "held") in states, "what the batch came to without its record is on it"
    await suite.when(lambda: suite.runner.state == "complete", "the batch ends")
    first = [e for e in suite.events("intent_closed") if e.path == "fill/first"]
    moved = sum(e.delivered_ml or 0.0 for e in first)
    ordered = suite.events("step_completed", path="fill/first")[0].data["ordered_ml"]
    assert moved == approx(ordered, abs=4.0)
    assert verify(suite.runner.batch.journal.path).ok


async def test_no_write_reaches_a_pump_while_nothing_can_be_recorded(suite: Story) -> None:
    await until_the_disk_is_full(suite)
    heard = {name: len(pump.log) for name, pump in suite.plant.pumps.items()}
    for verb in ("restart", "resume", "pause"):
        await suite.do(verb, expect=None)
    await asyncio.sleep(3600)
    assert {name: len(pump.log) for name, pump in suite.plant.pumps.items()} == heard
    assert suite.plant.climate.temperature.goal == 36.0, "the cells stay at their target"
    suite.check_ledger = False


@pytest.mark.parametrize(("verb", "state", "result"), [("abort", "aborted", "aborted"), ("stop", "stopped", "stopped")])
async def test_what_ended_without_a_record_is_on_it_before_the_unit_is_freed(
    suite: Story, verb: str, state: str, result: str
) -> None:
    suite.check_ledger = False
    await until_the_disk_is_full(suite)
    assert (await suite.do(verb)).status == "done"
    assert suite.runner.state == state
    assert (await suite.do("reset", expect="failed")).code == "journal_failed"
    assert suite.runner.state == state
    suite.clock.disk_full = False
    path = suite.runner.batch.journal.path
    assert (await suite.do("reset")).status == "done"
    closed = path.parent / "closed" / path.name
    assert verify(closed).ok
    from tilctl.journal.verify import read  # noqa: PLC0415

    events = [record.event for record in read(closed)[0]]
    assert [e.result for e in events if e.kind == "batch_ended"] == [result]
    assert [e.to_state for e in events if e.kind == "state_changed" and e.path == ""][-2:] == [state, "idle"]


async def test_a_start_opens_the_record_of_the_site_again(suite: Story) -> None:
    suite.announced = {"record_failed"}
    suite.clock.disk_full = True
    assert (await suite.do("start", {"recipe": "small"}, expect="failed")).code == "journal_failed"
    suite.clock.disk_full = False
    assert (await suite.do("start", {"recipe": "small"})).status == "done"
    await suite.when(lambda: suite.runner.state == "complete", "the batch ends")


async def test_a_batch_is_not_started_on_a_disk_that_is_nearly_full(
    suite: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_module, "LOW_BYTES", 1 << 60)
    outcome = await suite.do("start", {"recipe": "small"}, expect="refused")
    assert outcome.code == "disk_low"
    assert "make room" in outcome.text
    assert suite.runner_or_none is None
