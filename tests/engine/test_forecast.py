"""What the rest of a recipe takes is held against what the containers hold, long before it is short."""

from __future__ import annotations

import pytest
from pytest import approx
from story import HERE, UNIT, Story

from tilctl.engine.forecast import outlook
from tilctl.engine.port import Command


def short(suite: Story) -> dict[str, str]:
    return {name: alarm.text for name, alarm in suite.state.alarms.items() if name.startswith("short-")}


async def mounted(suite: Story, media: str, **parameters: str) -> None:
    suite.hands.change["media_in"] = {"volume.media": media}
    suite.hands.hang["media"] = float(media.split(maxsplit=1)[0])
    suite.hands.mine.add("flask_in")
    await suite.start("small", **parameters)
    await suite.when(lambda: any(p.path == "fill/flask_in" for p in suite.state.prompts.values()), "flask is asked for")


async def test_a_bag_that_will_not_do_is_told_of_before_anything_is_moved(suite: Story) -> None:
    await mounted(suite, "300 mL", first="200 mL", second="150 mL")
    await suite.when(lambda: short(suite), "it is told")
    text = short(suite)["short-media"]
    assert "media holds 300 mL, the rest of the recipe takes 350 mL from it (at worst 354 mL)" in text
    assert "before fill/second" in text
    assert suite.state.alarms["short-media"].priority == "medium"
    assert suite.runner.state == "running", "it warns, it stops nothing"
    assert suite.controller.status(UNIT)["ledger"]["forecast"] == [text]
    args = {"container": "media", "volume": "500 mL", "second": {"user": "ben", "role": "verifier"}}
    command = Command("c", "test", UNIT, "correct", args=args, reason="a fuller bag", actor="anna (operator)")
    assert (await suite.controller.execute(command, lambda *_: None)).status == "done"
    assert short(suite) == {}
    suite.check_ledger = False


async def test_a_bag_that_will_do_is_not(suite: Story) -> None:
    await mounted(suite, "352 mL", first="200 mL", second="150 mL")
    await suite.settle()
    assert short(suite) == {}
    (media,) = [each for each in outlook(suite.runner.batch) if each.name == "media"]
    assert (media.takes_ml, media.worst_ml, media.short_at) == (350.0, 354.0, "")
    suite.hands.mine.clear()
    suite.hands.look()
    await suite.until("fill/between", "complete")
    (media,) = [each for each in outlook(suite.runner.batch) if each.name == "media"]
    assert media.takes_ml == approx(150.0), "what was moved is not taken again"
    await suite.until_state("complete")
    assert not suite.events("alarm_raised")


CHOICE = """  - choose:
      id: fork
      cases:
      - when: station.temperature > 60 degC
        steps:
        - transfer: {id: much, from: media, to: flask, volume: 120 mL, rate: 150 mL/min, source: P}
      - else: []
"""


@pytest.mark.parametrize("unknown", ["  - let: {id: x, values: {v: later.v}}\n", CHOICE])
async def test_of_what_nobody_knows_nothing_is_said(suite: Story, unknown: str) -> None:
    text = (HERE / "recipes" / "small.yaml").read_text("utf-8").replace("recipe: small", "recipe: fork")
    ask = "  - ask: {id: later, text: How much, inputs: {v: {unit: mL, range: 1..900 mL}}, source: P}\n"
    volume = "second" if unknown is CHOICE else "x.v"
    text = text.replace("  - transfer: {id: second", f"{ask}{unknown}  - transfer: {{id: second")
    text = text.replace("volume: second,", f"volume: {volume},")
    (suite.folder / "fork.yaml").write_text(text)
    suite.hands.change["media_in"] = {"volume.media": "300 mL"}
    suite.hands.hang["media"] = 300.0
    suite.hands.mine.add("later")
    await suite.start("fork", first="200 mL", second="150 mL")
    await suite.when(lambda: any(p.path == "fill/later" for p in suite.state.prompts.values()), "it is asked")
    assert short(suite) == {}


async def test_the_library_is_foreseen_in_a_loop_over_what_hangs(suite: Story) -> None:
    suite.hands.change["bags_in"] = {"volume.media": "250 mL"}
    suite.hands.hang["media"] = 250.0
    suite.hands.change["fragments"] = {"flasks": "2"}
    suite.hands.mine.add("waste_in")
    await suite.start("shakedown")
    await suite.when(lambda: short(suite), "it is told")
    text = short(suite)["short-media"]
    assert "takes 400 mL from it" in text
    assert "before culture/fill/2/" in text


TURNS = """  - repeat:
      id: turns
      max: 2
      steps:
      - ask: {id: now, text: How much, inputs: {v: {unit: mL, range: 1..900 mL}}, source: P}
      - transfer: {id: more, from: media, to: flask, volume: now.v, rate: 150 mL/min, source: P}
      source: P
"""


async def test_what_was_said_in_one_turn_is_not_what_the_next_will_take(suite: Story) -> None:
    text = (HERE / "recipes" / "small.yaml").read_text("utf-8").replace("recipe: small", "recipe: turning")
    text = text.replace("  - transfer: {id: second", f"{TURNS}  - transfer: {{id: second")
    (suite.folder / "turning.yaml").write_text(text)
    suite.hands.change["media_in"] = {"volume.media": "300 mL"}
    suite.hands.hang["media"] = 300.0
    suite.hands.mine.add("now")
    await suite.start("turning", first="50 mL", second="10 mL")
    for turn in (1, 2):
        path = f"fill/turns/{turn}/now"
        await suite.when(lambda path=path: any(p.path == path for p in suite.state.prompts.values()), "it is asked")
        if turn == 1:
            await suite.answer(path, v="160 mL")
    assert short(suite) == {}
    assert not suite.events("alarm_raised")
    await suite.answer("fill/turns/2/now", v="20 mL")
    await suite.until_state("complete")
