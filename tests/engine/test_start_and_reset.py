"""Commands that meet: a start and a reset, two starts, a repetition and the next batch, far too many of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from story import UNIT, Story

from tests.engine.test_safe_mode import in_safe_mode
from tilctl.engine.controller import COMMANDS_AN_HOUR
from tilctl.engine.port import Command, Outcome
from tilctl.journal import events as ev
from tilctl.journal.verify import read

T = TypeVar("T")


async def given(suite: Story, name: str, verb: str, args: dict[str, Any] | None = None) -> Outcome:
    command = Command(name, name, UNIT, verb, args=args or {}, content_sha256=f"sha-{name}")
    return await suite.controller.execute(command, lambda seq, digest: None)


def files(suite: Story) -> list[str]:
    return sorted(path.stem for path in (suite.folder / "data" / "batches").glob("*.db"))


def at_work_on_disk(suite: Story, number: int, act: Callable[[], None]) -> None:
    """Do something in the moment in which the controller gives the disk its work for the so-manieth time from now."""
    offload, count = suite.clock.offload, 0

    async def counted(work: Callable[[], T]) -> T:
        nonlocal count
        count += 1
        if count == number:
            act()
        return await offload(work)

    suite.clock.offload = counted  # type: ignore[method-assign]


@pytest.mark.parametrize("number", range(1, 13))
async def test_a_start_that_meets_a_reset_begins_after_it_or_not_at_all(suite: Story, number: int) -> None:
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    await suite.do("abort")
    begun: list[asyncio.Task[Outcome]] = []
    args = {"recipe": "still", "parameters": {"wait": "2 h"}}
    at_work_on_disk(suite, number, lambda: begun.append(suite.spawn(given(suite, "S", "start", args), "hands:start")))
    reset = await given(suite, "R", "reset")
    assert reset.status == "done"
    await asyncio.sleep(1.0)
    outcomes = await asyncio.gather(*begun)
    for outcome in outcomes:
        assert outcome.status == "done" or outcome.code in ("busy", "illegal_state"), outcome
    if not any(outcome.status == "done" for outcome in outcomes):
        assert files(suite) == [], "nothing is left that a later start could take for a batch"
        await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    assert files(suite) == [suite.runner.batch.name]
    await suite.power_cut(5.0)
    assert suite.runner.state == "running"


async def test_two_resets_at_once_are_one(suite: Story) -> None:
    await suite.start("still", wait="1 s")
    await suite.until_state("complete")
    outcomes = await asyncio.gather(given(suite, "R1", "reset"), given(suite, "R2", "reset"))
    assert sorted(outcome.status for outcome in outcomes) == ["done", "refused"]
    assert {outcome.code for outcome in outcomes} == {"", "busy"}
    assert suite.runner_or_none is None
    assert files(suite) == []


@pytest.mark.parametrize("delay", range(0, 40, 3))
async def test_of_two_starts_at_once_the_second_is_refused(suite: Story, delay: int) -> None:
    async def later() -> Outcome:
        for _ in range(delay):
            await asyncio.sleep(0)
        return await given(suite, "B", "start", {"recipe": "small"})

    first, second = await asyncio.gather(given(suite, "A", "start", {"recipe": "still"}), later())
    assert (first.status, second.status, second.code) == ("done", "refused", "illegal_state")


async def test_a_start_that_breaks_leaves_no_batch(suite: Story) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("adopt")

    suite.controller._adopt = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="adopt"):
        await given(suite, "A", "start", {"recipe": "still"})
    del suite.controller._adopt
    assert files(suite) == []
    assert (await given(suite, "B", "start", {"recipe": "still", "parameters": {"wait": "1 s"}})).status == "done"
    await suite.until_state("complete")


async def test_a_late_repetition_of_an_answer_does_not_answer_the_next_batch(suite: Story) -> None:
    suite.hands.mine = {"everything"}
    args: dict[str, Any] = {}
    for number in (1, 2):
        await suite.start("questions")
        await suite.until("talk/form", "acting")
        await suite.settle()
        if number == 2:
            break
        args = {"prompt": suite.prompt("form").id, "inputs": {}}
        assert (await given(suite, "late", "prompt-answer", args)).code == "bad_answer"
        await suite.do("abort")
        await suite.do("reset")
    assert suite.prompt("form").id == args["prompt"]
    known = suite.controller.known_command(UNIT, "late")
    assert known is not None, "the door answers it with what it was answered, and asks nobody else"
    assert known.reply["code"] == "bad_answer"


async def test_what_changes_nothing_fills_no_record(suite: Story) -> None:
    await suite.start("still", wait="9 h")
    await suite.until("stay/one", "acting")
    for number in range(COMMANDS_AN_HOUR + 200):
        outcome = await suite.do("resume", expect=None)
        assert outcome.code == ("" if number < COMMANDS_AN_HOUR - 1 else "too_many"), number
    before = len(suite.records())
    assert (await suite.do("hold")).status == "done", "what makes safe is heard whatever came before"
    for _ in range(200):
        await suite.do("hold", expect="already")
    await suite.settle()
    written = [record.event for record in suite.records()[before:]]
    assert sum(isinstance(event, ev.CommandReceived) for event in written) == 1
    assert sum(isinstance(event, ev.MadeSafe) for event in written) <= 4, "nor any bus"
    await asyncio.sleep(3600.0)
    await suite.do("restart")
    assert suite.runner.state == "running", "an hour later commands are taken again"


@pytest.mark.parametrize("whose", ["site", "batch"])
async def test_leaving_safe_mode_with_a_record_that_failed(suite: Story, whose: str) -> None:
    """It stays in safe mode, or leaves it whole: never in between."""
    await in_safe_mode(suite)
    suite.announced |= {"record_failed", "event_not_on_record", "recovery_failed"}
    suite.clock.disk_full = True
    if whose == "site":
        await suite.when(lambda: suite.controller.journal.failed, "its sign of life fails")
    else:
        await suite.do("hold", expect=None)
        await suite.when(lambda: suite.runner.batch.journal.failed, "the batch's record fails")
    assert (await suite.do("leave-safe-mode", expect="failed")).code == "journal_failed"
    assert suite.controller.mode == "safe"
    assert (await suite.do("restart", expect="refused")).code == "safe_mode"
    suite.clock.disk_full = False
    await suite.do("leave-safe-mode")
    assert suite.controller.ready
    assert not suite.runner.watch_only
    await suite.until_state("held", "running")
    assert len(suite.events("recovered")) == 1
    records, verdict = read(suite.folder / "data" / "site.db")
    assert verdict.ok
    assert [record.event.on for record in records if isinstance(record.event, ev.SafeMode)] == [True, False]
