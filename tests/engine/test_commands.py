"""Commands and the record: acknowledged when on disk, known again after a restart, and bounded."""

from __future__ import annotations

import asyncio
import json

import pytest
from pytest import approx
from story import UNIT, Story

from tilctl.engine.port import Command, Outcome
from tilctl.journal import events as ev
from tilctl.journal.site import boots, noted_heads
from tilctl.journal.verify import read, verify


def command(verb: str, number: str, **args: object) -> Command:
    return Command(number, "test", UNIT, verb, args=args, content_sha256=f"sha-{number}")


async def given(suite: Story, verb: str, number: str, **args: object) -> tuple[Outcome, list[tuple[int, str]]]:
    """Give a command; return its outcome, and what `accepted` was told, which must be on disk at that moment."""
    told: list[tuple[int, str]] = []

    def accepted(seq: int, digest: str) -> None:
        told.append((seq, digest))
        journal = suite.controller.journal if suite.runner_or_none is None else suite.runner.batch.journal
        on_disk = {record.seq: record for record in read(journal.path)[0]}
        assert on_disk[seq].hash == digest
        assert on_disk[seq].event == ev.CommandReceived(number, "test", verb, dict(args), f"sha-{number}", "")

    return await suite.controller.execute(command(verb, number, **args), accepted), told


async def test_a_command_is_accepted_when_it_is_on_disk_and_not_before(suite: Story) -> None:
    for verb, args in (("start", {"recipe": "still"}), ("pause", {}), ("hold", {}), ("resume", {}), ("abort", {})):
        _, told = await given(suite, verb, f"c-{verb}", **args)
        assert len(told) == 1, verb


async def test_commands_are_known_again_after_a_kill(suite: Story) -> None:
    assert suite.controller.known_command(UNIT, "c-1") is None
    await given(suite, "start", "c-1", recipe="still")
    await suite.until("stay/one", "acting")
    await given(suite, "reset", "c-2")
    await given(suite, "hold", "c-3")
    suite.kill_at(lambda record: isinstance(record.event, ev.CommandReceived) and record.event.verb == "restart")
    await asyncio.wait([suite.spawn(given(suite, "restart", "c-4"), "hands:restart")])
    suite.kill_at(None)
    await suite.bury()
    await suite.boot()
    for number, status, code in (("c-1", "done", ""), ("c-2", "refused", "illegal_state"), ("c-3", "done", "")):
        known = suite.controller.known_command(UNIT, number)
        assert known is not None, number
        assert (known.reply["status"], known.reply["code"]) == (status, code), number
        assert known.content_sha256 == f"sha-{number}"
    unanswered = suite.controller.known_command(UNIT, "c-4")
    assert unanswered is not None
    assert (unanswered.reply["status"], unanswered.reply["code"]) == ("failed", "interrupted")
    assert suite.controller.known_command(UNIT, "c-5") is None


async def test_a_start_that_made_its_batch_before_a_kill_is_answered_so_when_it_is_repeated(suite: Story) -> None:
    suite.kill_at(lambda record: isinstance(record.event, ev.StateChanged))
    await asyncio.wait([suite.spawn(given(suite, "start", "c-1", recipe="still"), "hands:start")])
    suite.kill_at(None)
    await suite.bury()
    await suite.boot()
    known = suite.controller.known_command(UNIT, "c-1")
    assert known is not None
    assert (known.reply["status"], known.reply["text"]) == ("done", f"{suite.runner.batch.name} was started")
    other, _ = await given(suite, "start", "c-2", recipe="still")
    assert other.code == "illegal_state"


async def test_a_reset_is_answered_as_before_when_it_is_repeated(suite: Story) -> None:
    """The batch's record is put away by then: the site's own says it, in a later life of the controller too."""
    await given(suite, "start", "c-1", recipe="still", parameters={"wait": "1 s"})
    await suite.until_state("complete")
    outcome, told = await given(suite, "reset", "c-2")
    assert (outcome.status, len(told)) == ("done", 1)
    for _ in range(2):
        known = suite.controller.known_command(UNIT, "c-2")
        assert known is not None
        assert (known.content_sha256, known.reply["status"]) == ("sha-c-2", "done")
        assert known.reply["text"] == outcome.text
        await suite.power_cut(10.0)


async def test_a_unit_that_is_idle_has_nothing_to_reset(suite: Story) -> None:
    outcome, told = await given(suite, "reset", "c-1")
    assert (outcome.status, outcome.code, outcome.text) == ("already", "", "cell1 is idle: there is nothing to reset")
    assert len(told) == 1
    suite.kill_at(lambda record: record.event.kind == "state_changed" and record.event.to_state == "idle")
    await given(suite, "start", "c-2", recipe="still", parameters={"wait": "1 s"})
    await suite.until_state("complete")
    await asyncio.wait([suite.spawn(given(suite, "reset", "c-3"), "hands:reset")])
    suite.kill_at(None)
    await suite.bury()
    await suite.boot()
    assert suite.runner_or_none is None
    again, _ = await given(suite, "reset", "c-3")
    assert again.status == "already", "it was done, and the crash took the answer"


async def test_a_reason_goes_on_the_record(suite: Story) -> None:
    await suite.start("still")
    await suite.until("stay/one", "acting")
    order = Command("c-9", "tablet", UNIT, "hold", reason="the door will not close")
    await suite.controller.execute(order, lambda seq, digest: None)
    changes = suite.events("state_changed", path="", command="hold")
    assert [change.reason for change in changes] == ["the door will not close"]


async def test_status_is_answered_in_every_state_and_changes_nothing(suite: Story) -> None:
    assert (await suite.do("status")).text == "cell1 is idle"
    await suite.start("shakedown")
    await suite.until_flowed("pump_media", 5.0)
    assert (await suite.do("status")).text == "cell1 is running"
    status = suite.controller.status(UNIT)
    json.dumps(status, allow_nan=False)
    assert status["batch"] == suite.runner.batch.name
    assert (status["recipe"], status["operation"], status["path"]) == ("shakedown", "culture", "culture/fill/1/first")
    assert "transfer media to pre[1], 100 mL" in [wait["text"] for wait in status["waits"]]
    assert status["targets"]["station.temperature"] == {"value": 37.0, "unit": "degC"}
    assert {c["name"]: c["place"] for c in status["containers"]} == {
        "pre[1]": "p1", "pre[2]": "p2", "media": "h1", "pool": "h2", "waste": "w1",
    }  # fmt: skip
    assert status["readings"]["pump_media.running"]["v"] is True


async def test_why_it_does_not_move_names_every_operand(suite: Story) -> None:
    await suite.start("small")
    await suite.until("empty/static", "acting")
    began = suite.state.marks["day0"]
    await suite.pass_time(10.0)
    (wait,) = suite.controller.status(UNIT)["waits"]
    assert wait["text"] == "incubate until since(day0) >= 1 min"
    (operand,) = wait["operands"]
    assert (operand["name"], operand["unit"], operand["quality"]) == ("since(day0)", "s", "good")
    assert operand["value"] == approx((suite.controller.clock.now() - began).total_seconds(), abs=0.01)
    assert operand["value"] >= 10.0
    await suite.until_state("complete")


@pytest.mark.parametrize(("rest", "late"), [("2 h", []), ("4 h", ["ended with since(fed) at 0.17 d"])])
async def test_a_window_counts_from_the_mark_of_its_condition(suite: Story, rest: str, late: list[str]) -> None:
    await suite.start("windowed", rest=rest)
    await suite.until_state("complete")
    outside = suite.events("exception_raised", code="outside_window")
    assert [event.text.partition(",")[0] for event in outside] == late


async def test_refusals_are_recorded_but_cannot_fill_the_disk(suite: Story) -> None:
    for number in range(1200):
        suite.controller.note_refusal(ev.CommandRefused("x", UNIT, "start", f"r-{number}", "malformed", "no JSON"))
    await suite.settle()
    path = suite.controller.journal.path
    assert len([r for r in read(path)[0] if r.event.kind == "command_refused"]) == 1000
    await suite.pass_time(3600)
    suite.controller.note_refusal(ev.CommandRefused("x", UNIT, "start", "later", "malformed", "no JSON"))
    await suite.settle()
    assert len([r for r in read(path)[0] if r.event.kind == "command_refused"]) == 1001


async def test_the_site_knows_boots_signs_of_life_and_heads(suite: Story) -> None:
    await suite.start("still", wait="2 h")
    site, name = suite.controller.journal, suite.runner.batch.name
    await suite.when(lambda: name in noted_heads(read(site.path)[0]), "its head is noted", within=3700.0)
    assert site.last_beat() is not None
    head = noted_heads(read(site.path)[0])[name]
    assert verify(suite.file(), head.hash).ok
    assert head.seq > 10
    await suite.power_cut(seconds=60.0)
    found = boots(read(suite.controller.journal.path)[0])
    assert [boot.boot for _, boot in found] == ["boot-1", "boot-2"]
    assert found[0][1].previous_beat is None
    assert found[1][1].previous_beat is not None


async def test_a_batch_is_linked_to_its_site_and_frozen_with_all_it_needs(suite: Story) -> None:
    await suite.start("shakedown", fill_volume="150 mL")
    created = suite.records()[0].event
    assert isinstance(created, ev.BatchCreated)
    site = read(suite.controller.journal.path)[0]
    assert created.site_head in {record.hash for record in site}
    assert created.parameters == {"fill_volume": "150 mL"}
    assert created.bindings == {"station": "incubator", "freezer": "freezer"}
    assert "recipe: shakedown" in created.recipe_text
    assert "profile: S1-quick" in created.profiles["S1-quick"]
    await suite.until("culture/fill/1/first", "acting")
    await suite.when(lambda: suite.intents("culture/fill/1/first"), "the dose is ordered")
    assert suite.intents("culture/fill/1/first")[0].args["volume"] == 75.0
