"""Why is it not moving?  Every kind of waiting says what it waits for, with value, limit, quality, age and due time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from pytest import approx
from story import UNIT, Story

from devices.reading import Quality
from recipes.expr import Operand, compile
from recipes.limits import limits
from tilctl.cli.unit_view import status as as_text
from tilctl.engine.state import format_time, parse_time


def waits(suite: Story) -> list[dict[str, Any]]:
    return suite.controller.status(UNIT)["waits"]


async def test_a_question_whose_check_is_not_known_is_asked_anew_after_a_restart(suite: Story) -> None:
    suite.hands.mine = {"everything"}
    await suite.start("unsure")
    await suite.until("talk/warm", "acting")
    await suite.when(lambda: suite.controller.prompts(UNIT), "it is asked")
    assert [(w["path"], w["text"], w["prompt"]) for w in waits(suite)] == [("talk/warm", "operator: Is it warm", "p1")]
    await suite.answer("warm")  # optional: left out, and the check cannot be judged
    await suite.until_state("held")
    assert "cannot be judged" in suite.node("talk/warm").reason
    assert "operator: restart (talk/warm: " in waits(suite)[0]["text"]
    await suite.do("restart")
    await suite.when(lambda: suite.controller.prompts(UNIT), "it is asked again")
    assert suite.prompt("warm").spec["attempt"] == 2
    await suite.answer("warm", level="7")
    await suite.until("talk/warm", "complete")


async def test_a_condition_shows_each_operand_with_its_limit_and_when_time_will_end_it(suite: Story) -> None:
    suite.hands.change = {"warm": {"level": "7"}}
    await suite.start("unsure")
    await suite.until("talk/gas", "acting")
    await asyncio.sleep(600)
    (wait,) = waits(suite)
    assert wait["path"] == "talk/gas"
    assert wait["text"].startswith("wait until station.co2 < 5 % and since(day0) >= 2 h, at the latest ")
    assert wait["due"] == format_time(suite.node("talk/gas").started + timedelta(hours=1)), "the time-out comes first"
    gas, since = wait["operands"]
    assert (gas["name"], gas["limit"], gas["quality"], gas["unit"]) == ("station.co2", "< 5 %", "good", "%")
    assert gas["value"] == approx(6.0, abs=0.5)
    assert 0.0 <= gas["age_s"] <= 61.0
    assert (since["name"], since["limit"]) == ("since(day0)", ">= 2 h")
    shown = as_text(UNIT, suite.controller.status(UNIT))
    assert "station.co2 = " in shown
    assert ", wanted < 5 % (good" in shown

    suite.faults("incubator").silent = True
    await suite.when(lambda: waits(suite)[0]["operands"][0]["quality"] == "bad", "the incubator is lost")
    found = waits(suite)
    assert found[0]["operands"][0]["value"] is None
    silent = next(w for w in found if w.get("device") == "incubator")
    assert silent["text"].startswith(("incubator is offline: ", "incubator is checking: "))
    assert "no reply" in silent["text"]
    suite.faults("incubator").silent = False
    await suite.until("talk/span", "acting")
    (wait,) = (w for w in waits(suite) if w["path"])
    assert wait == {
        "path": "talk/span",
        "text": "wait for 10 min",
        "due": format_time(suite.node("talk/span").started + timedelta(minutes=10)),
    }


async def test_a_dose_shows_the_pump_settling_shows_its_end_and_an_answer_shows_when_it_counts(suite: Story) -> None:
    suite.hands.mine = {"resuspend"}
    await suite.start("shakedown")
    await suite.when(lambda: suite.plant.pumps["pump_media"].run is not None, "it flows")
    await suite.pass_time(3)
    dose = next(w for w in waits(suite) if w["text"].startswith("transfer media to "))
    assert dose["operands"][0]["name"] == "pump_media.running"
    assert dose["operands"][0]["limit"] == "== false"
    assert dose["operands"][1]["limit"].startswith("of ")
    assert dose["operands"][1]["quality"] == "good"

    await suite.when(lambda: any("after settling for 30 s" in w["text"] for w in waits(suite)), "cells settle", 86400)
    settling = next(w for w in waits(suite) if "after settling" in w["text"])
    started = suite.node(settling["path"]).started
    assert settling["due"] == format_time(started + timedelta(seconds=30))
    assert settling["text"].startswith("transfer pre[1] to waste"), "the name of the loop is the container of the round"

    await suite.when(
        lambda: any(p["path"].endswith("resuspend") for p in suite.controller.prompts(UNIT)), "asked", 86400
    )
    later = format_time(parse_time(suite.now()) + timedelta(seconds=90))
    number = suite.prompt("resuspend").id
    await suite.do("prompt-answer", {"prompt": number, "inputs": {}}, effective=later)
    assert {"text": f"the answer to {number} takes effect", "due": later}.items() <= waits(suite)[0].items()
    suite.hands.mine = set()
    await suite.when(lambda: any("freezing run S1-quick" in w["text"] for w in waits(suite)), "it freezes", 5 * 86400)
    run = next(w for w in waits(suite) if "freezing run" in w["text"])
    assert (run["operands"][0]["name"], run["operands"][0]["limit"]) == ("freezer.program_state", "== complete")


class Given:
    def lookup(self, name: str) -> Operand | None:
        known = {"a.t": Operand("a.t", 37.0, "degC"), "a.s": Operand("a.s", "idle"), "b.v": Operand("b.v", None)}
        known["c.v"] = Operand("c.v", 3.0, "mL", Quality.STALE)
        return known.get(name)


def test_limits_of_a_condition() -> None:
    def of(text: str) -> dict[str, str]:
        return limits(compile(text), Given())

    assert of("a.t > 38 degC") == {"a.t": "> 38 degC"}
    assert of("38 degC >= a.t") == {"a.t": "<= 38 degC"}
    assert of("a.s == running") == {"a.s": "== running"}
    assert of("a.t < b.v") == {"a.t": "< what is not known", "b.v": "> 37 degC"}
    assert of("a.t + 1 K > 38 degC") == {}, "a name inside a calculation has no limit of its own"
    assert of("not (a.t <= 2 * 3)") == {"a.t": "<= 6"}
    assert of("since(x) >= 90 min") == {"since(x)": ">= 90 min"}


async def test_an_answer_that_comes_with_a_stop_never_takes_effect(suite: Story) -> None:
    """On its way to disk when the stop comes: it is on record, and changes nothing in a batch that has ended."""
    suite.hands.mine = {"everything"}
    await suite.start("unsure")
    await suite.when(lambda: suite.controller.prompts(UNIT), "it is asked")
    await suite.settle()
    answering = suite.spawn(suite.answer("warm", None, level="7"), "hands:late")
    await asyncio.sleep(0)
    suite.runner.fire("stop", "at the same moment")
    await asyncio.wait([answering])
    await suite.until_state("stopped")
    await suite.settle()
    outcome = answering.result()
    kinds = [record.event.kind for record in suite.records()]
    assert "prompt_withdrawn" in kinds
    assert "prompt_answered" not in kinds
    assert "warm.level" not in suite.state.values
    assert outcome.status == "refused", outcome
    assert outcome.code == "no_prompt"
    suite.hands.mine = set()


async def test_an_answer_not_yet_in_force_dies_with_its_batch_also_over_a_restart(suite: Story) -> None:
    suite.hands.mine = {"everything"}
    await suite.start("unsure")
    await suite.when(lambda: suite.controller.prompts(UNIT), "it is asked")
    later = format_time(parse_time(suite.now()) + timedelta(minutes=5))
    await suite.do("prompt-answer", {"prompt": "p1", "inputs": {"level": "7"}}, effective=later)
    await suite.do("stop")
    await suite.power_cut(30)
    await asyncio.sleep(600)
    assert suite.events("prompt_withdrawn", prompt="p1")
    assert not suite.events("prompt_answered")
    assert "warm.level" not in suite.state.values
