"""Exceptions of a recipe: taken by a person's restart alone, in place of what failed, once, over deaths too."""

from __future__ import annotations

from typing import Any

import pytest
from story import UNIT, Story

DOSE, HAND = "fill/first", "fill/first/except/by_hand"


def ways(suite: Story) -> dict[str, Any]:
    return suite.controller.status(UNIT)["ways"]


async def in_doubt(suite: Story) -> None:
    """Come to a dose that is in doubt: its flask is taken away meanwhile."""
    suite.hands.mine = {"reconcile"}
    suite.check_ledger = False
    await suite.start("excepted")
    await suite.until_flowed("pump_media", 40.0)
    suite.bench.call("take", {"port": "flask"})
    await suite.until_state("held")
    assert suite.state.intents[1].outcome == "in_doubt", suite.where()


async def test_a_restart_without_a_way_walks_what_failed_again(suite: Story) -> None:
    suite.hands.change = {"seen": {"well": "no"}}
    await suite.start("excepted")
    await suite.until_state("held")
    assert ways(suite) == {"give_up": {"path": "look", "title": "Leave the rest of the operation"}}
    suite.hands.change = {}
    await suite.do("restart")
    await suite.until_state("complete")
    assert suite.node("look/never").status == "complete"
    assert suite.events("exception_raised") == []


async def test_the_rest_of_an_operation_is_left_for_an_exception(suite: Story) -> None:
    suite.hands.change = {"seen": {"well": "no"}}
    await suite.start("excepted")
    await suite.until("fill/first", "acting")
    assert "is held" in (await suite.do("restart", {"way": "give_up"}, expect="refused")).text
    await suite.until_state("held")
    refused = await suite.do("restart", {"way": "by_hand"}, expect="refused")
    assert refused.code == "bad_parameter"
    assert "offered: give_up" in refused.text
    await suite.do("restart", {"way": "give_up"})
    await suite.until_state("complete")
    assert suite.node("look/except/give_up/why").status == "complete"
    assert suite.state.node("look/never") is None
    assert suite.node("look/seen").data == {"left": "give_up"}
    assert suite.node("last/end").status == "complete"
    first = suite.events("exception_raised")[0]
    assert (first.code, first.path) == ("except", "look")
    assert "give_up" in first.text
    assert suite.state.prompts["p2"].answered


async def test_a_dose_in_doubt_is_closed_before_something_takes_its_place(suite: Story) -> None:
    await in_doubt(suite)
    assert [*ways(suite)] == ["by_hand"]
    await suite.do("restart", {"way": "by_hand"})
    await suite.when(lambda: any(p["kind"] == "reconcile" for p in suite.controller.prompts(UNIT)), "it asks")
    assert suite.state.node(f"{HAND}/pour") is None, "nothing takes its place before that is known"
    number = next(p["id"] for p in suite.controller.prompts(UNIT) if p["kind"] == "reconcile")
    inputs = {"delivered": "45 mL", "why": "weighed", "sign.operator": "operator 7"}
    await suite.do("prompt-answer", {"prompt": number, "inputs": inputs})
    await suite.until(f"{HAND}/pour", "complete")
    await suite.until("fill/after", "complete")
    assert len(suite.intents(DOSE)) == 1, "what was missing is not dosed"
    assert suite.node(DOSE).data == {"except": "by_hand"}
    assert "poured" in suite.state.marks
    await suite.do("abort")


@pytest.mark.parametrize("number", range(1, 9))
async def test_a_death_beside_the_restart_takes_the_exception_or_not_and_never_half(suite: Story, number: int) -> None:
    suite.hands.change = {"seen": {"well": "no"}}
    await suite.start("excepted")
    await suite.until_state("held")
    seen = 0

    def reached(_: object) -> bool:
        nonlocal seen
        seen += 1
        return seen == number

    suite.kill_at(reached)
    await suite.do("restart", {"way": "give_up"}, expect=None)
    await suite.settle()
    suite.kill_at(None)
    await suite.power_cut(5.0)
    node = suite.node("look")
    if suite.runner.state == "held":
        await suite.do("restart", {} if "except" in node.phases else {"way": "give_up"})
    await suite.until_state("complete")
    assert [event.text for event in suite.events("noted")].count("the rest was left") == 1
    assert [event.code for event in suite.events("exception_raised")].count("except") == 1
    assert suite.state.node("look/never") is None
