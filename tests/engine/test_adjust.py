"""Parameters adjusted while a batch runs: for steps that begin afterwards, within limits, on record, once."""

from __future__ import annotations

import asyncio

import pytest
from story import UNIT, Story

from tilctl.engine.port import Command, Outcome
from tilctl.engine.state import parse_time
from tilctl.journal.changes import ParameterAdjusted
from tilctl.record.summary import summarize

ANNA = {"user": "anna", "role": "process_engineer", "actor": "anna (process_engineer)", "reason": "slow growth"}


async def adjust(suite: Story, parameter: str, value: str, expect: str | None = "done", **said: str) -> Outcome:
    args = {"parameter": parameter, "value": value, "was": said.pop("was", "")}
    return await suite.do("adjust", args, expect=expect, **(ANNA | said))


def lasted(suite: Story, path: str) -> float:
    times = {record.event.kind: record.t for record in suite.records() if getattr(record.event, "path", "") == path}
    return (parse_time(times["step_completed"]) - parse_time(times["step_started"])).total_seconds()


async def test_what_has_begun_keeps_its_value_and_what_begins_has_the_new_one(suite: Story) -> None:
    await suite.start("adjustable")
    await suite.until("stay/one", "acting")
    told = await adjust(suite, "pause", "10 min")
    assert told.text == "pause is 10 min (was 5 min), for steps that begin from now on: stay/two, later/rounds/each"
    await adjust(suite, "warm", "37 degC")
    assert suite.state.targets["station.temperature"] == (36.0, "degC"), "a step sets targets, nothing else"
    (wait,) = suite.controller.status(UNIT)["waits"]
    assert wait["text"] == "wait for pause"
    await suite.do("hold")
    await suite.do("restart")
    assert suite.controller.status(UNIT)["adjustable"][0] == {
        "name": "pause", "label": "how long each wait is", "value": "10 min", "limits": "1..30 min, by process_engineer"
    }  # fmt: skip
    await suite.until("stay/two", "acting")
    assert lasted(suite, "stay/one") == pytest.approx(300.0, abs=1.0), "walked again it is as when it began"
    await suite.until("later/rounds/1/each", "acting")
    assert lasted(suite, "stay/two") == pytest.approx(600.0, abs=1.0)
    assert suite.state.targets["station.temperature"] == (37.0, "degC")
    await adjust(suite, "pause", "2 min")
    await suite.until_state("complete")
    assert [lasted(suite, f"later/rounds/{n}/each") for n in (1, 2)] == pytest.approx([600.0, 120.0], abs=1.0)
    said = [(it.code, it.text) for it in summarize(suite.records()).exceptions if it.code == "adjusted"]
    assert said[0] == ("adjusted", "pause adjusted from 5 min to 10 min, by anna (process_engineer): slow growth")
    assert len(said) == 3


REFUSED: list[tuple[str, str, dict[str, str], str]] = [
    ("pause", "31 min", {}, "bad_parameter"),
    ("pause", "30 s", {}, "bad_parameter"),
    ("pause", "5 mL", {}, "bad_parameter"),
    ("way", "far", {"role": "quality"}, "bad_parameter"),
    ("fixed", "20 s", {}, "not_adjustable"),
    ("nothing", "20 s", {}, "not_adjustable"),
    ("pause", "6 min", {"user": "", "role": "", "actor": ""}, "no_actor"),
    ("pause", "6 min", {"reason": " "}, "no_reason"),
    ("pause", "6 min", {"role": "quality"}, "role_not_allowed"),
    ("pause", "6 min", {"was": "7 min"}, "version_mismatch"),
]


async def test_nothing_else_is_adjusted(suite: Story) -> None:
    await suite.start("adjustable")
    await suite.until("stay/one", "acting")
    for parameter, value, said, code in REFUSED:
        outcome = await adjust(suite, parameter, value, "refused", **said)
        assert outcome.code == code, (parameter, value, said)
        assert outcome.text
    assert not suite.events("parameter_adjusted")


async def test_what_no_step_will_read_any_more_is_refused(suite: Story) -> None:
    assert (await adjust(suite, "pause", "6 min", "refused")).code == "illegal_state"
    await suite.start("adjustable", pause="60 s")
    await suite.until("later/rounds/2/each", "acting")
    assert (await adjust(suite, "warm", "37 degC", "refused")).code == "not_read"
    assert (await adjust(suite, "way", "long", "refused", role="quality")).code == "not_read"
    await suite.until("later/end", "acting")
    assert (await adjust(suite, "pause", "6 min", "refused")).code == "not_read"
    await suite.until_state("complete")
    assert (await adjust(suite, "pause", "6 min", "refused")).code == "illegal_state"


async def test_a_condition_of_a_step_is_judged_by_the_new_value(suite: Story) -> None:
    await suite.start("adjustable", pause="60 s")
    await suite.until("stay/two", "acting")
    await adjust(suite, "way", "long", role="quality")
    assert (await adjust(suite, "way", "long", "already", role="quality")).text == "way is long already"
    assert (await adjust(suite, "pause", "1 min", "already")).text == "pause is 60 s already"
    await suite.until("later/end", "acting")
    assert not suite.node("later/extra").data


@pytest.mark.parametrize("kind", ["command_received", "parameter_adjusted", "command_answered"])
async def test_a_kill_at_each_event_leaves_it_done_or_not(suite: Story, kind: str) -> None:
    await suite.start("adjustable")
    await suite.until("stay/one", "acting")
    order = Command(
        "c-9", "tablet", UNIT, "adjust", args={"parameter": "pause", "value": "10 min", "was": ""},
        content_sha256="sha", reason=ANNA["reason"], actor=ANNA["actor"], user=ANNA["user"], role=ANNA["role"],
    )  # fmt: skip
    suite.kill_at(lambda record: record.event.kind == kind)
    await asyncio.wait([suite.spawn(suite.controller.execute(order, lambda seq, digest: None), "hands:adjust")])
    suite.kill_at(None)
    await suite.bury()
    await suite.boot()
    known = suite.controller.known_command(UNIT, "c-9")
    assert known is not None
    done = kind != "command_received"
    assert known.reply["status"] == ("done" if done else "failed")
    again = await suite.controller.execute(order, lambda seq, digest: None)
    assert again.status == ("already" if done else "done")
    adjusted = suite.events("parameter_adjusted")
    assert adjusted == [ParameterAdjusted("pause", "5 min", "10 min", ANNA["reason"], ANNA["actor"], "c-9")]
    await suite.until("later/warmer", "complete")
    assert [lasted(suite, f"stay/{name}") for name in ("one", "two")] == pytest.approx([300.0, 600.0], abs=2.0)
