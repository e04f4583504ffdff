"""`repeat`: turns at settled moments, over crashes, outages and unknown conditions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from story import UNIT, Story
from test_freezing_run import come_to

from tilctl.engine.state import parse_time
from tilctl.journal.chain import Record

LOOK = "looks/look"


def begun(suite: Story) -> list[float]:
    """Return when each turn began, in hours since the first step."""
    first = suite.node("looks").started
    turns = [suite.state.nodes.get(f"{LOOK}/{number}/glucose") for number in range(1, 10)]
    return [round((node.started - first) / timedelta(hours=1), 3) for node in turns if node is not None]


async def looked(suite: Story, turn: int, seen: str) -> None:
    path = f"{LOOK}/{turn}/glucose"
    await suite.when(lambda: any(p["path"] == path for p in suite.controller.prompts(UNIT)), f"turn {turn} is asked")
    await suite.answer(path, seen=seen)


def waits(suite: Story) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = suite.controller.status(UNIT)["waits"]
    return found


async def begin(suite: Story, **parameters: str) -> None:
    suite.hands.mine = {"everything"}
    await suite.start("turns", **parameters)


async def test_turns_begin_on_the_moment_until_the_condition_and_others_go_by_number(suite: Story) -> None:
    await begin(suite)
    await looked(suite, 1, "1 mmol/L")
    await suite.when(
        lambda: any("turn 2 of at most 5" in each["text"] for each in waits(suite)), "it says what it waits for"
    )
    (wait,) = [each for each in waits(suite) if "turn 2" in each["text"]]
    assert parse_time(wait["due"]) == suite.node("looks").started + timedelta(hours=1)
    assert {"glucose.seen", "since(day0)"} <= {each["name"] for each in wait["operands"]}
    await looked(suite, 2, "2 mmol/L")
    await looked(suite, 3, "4 mmol/L")
    await suite.until_state("complete")
    assert begun(suite) == [0.0, 1.0, 2.0], "whatever an answer takes"
    assert [suite.node(f"looks/twice/{n}/rest").status for n in (1, 2)] == ["complete", "complete"]
    assert suite.state.nodes.get("looks/twice/3/rest") is None


async def test_the_condition_ends_the_wait_for_the_next_turn(suite: Story) -> None:
    await begin(suite, last="90 min")
    await looked(suite, 1, "1 mmol/L")
    await looked(suite, 2, "1 mmol/L")
    await suite.until("looks/twice/1/rest", "acting")
    assert suite.node("looks/twice/1/rest").started - suite.node("looks").started == timedelta(minutes=90)
    assert begun(suite) == [0.0, 1.0]


async def test_what_is_true_before_the_first_turn_needs_none(suite: Story) -> None:
    await begin(suite, enough="0 mmol/L")
    await looked(suite, 1, "0 mmol/L")
    await suite.until_state("complete")
    suite.hands.mine = set()
    await suite.do("reset")
    await suite.start("turns", last="1 min")
    await suite.until_state("complete")
    assert begun(suite) == [0.0]


async def test_too_many_turns_are_for_a_person(suite: Story) -> None:
    await begin(suite)
    for turn in range(1, 6):
        await looked(suite, turn, "1 mmol/L")
    await suite.until_state("held")
    assert "is not true after 5 turns" in suite.state.held_for
    await suite.do("restart")
    await suite.until_state("held")
    assert len(begun(suite)) == 5, "a restart is no sixth turn"


@pytest.mark.parametrize("away_h", [0.2, 3.6])
async def test_over_an_outage_moments_stay_and_those_that_passed_are_not_made_up_for(
    suite: Story, away_h: float
) -> None:
    await begin(suite)
    await looked(suite, 1, "1 mmol/L")
    await suite.until(f"{LOOK}/1/rest", "complete")
    await suite.power_cut(away_h * 3600.0)
    if suite.runner.state == "held":
        await suite.do("restart")
    await looked(suite, 2, "1 mmol/L")
    await looked(suite, 3, "5 mmol/L")
    await suite.until_state("complete")
    missed = [each.text for each in suite.events("exception_raised", code="missed")]
    if away_h < 1:
        assert begun(suite) == [0.0, 1.0, 2.0]
        assert missed == []
    else:
        assert begun(suite)[1:] == [pytest.approx(away_h + 0.2, abs=0.2), 4.0]
        assert missed == ["2 turns were passed over, before turn 2"]


async def test_killed_at_every_event_the_turns_are_the_same(suite: Story) -> None:
    seen: set[tuple[str, str]] = set()

    def each(record: Record) -> bool:
        key = (record.event.kind, getattr(record.event, "path", ""))
        if not key[1].startswith("looks") or key in seen:
            return False
        seen.add(key)
        return True

    await suite.start("turns", enough="100 mmol/L", last="150 min")
    suite.kill_at(each)
    await come_to(suite, lambda: suite.alive and suite.state.state == "complete", restart=True)
    assert suite.deaths > 20
    assert begun(suite) == pytest.approx([0.0, 1.0, 2.0], abs=0.02)  # a start of the controller takes some seconds
    assert not suite.events("exception_raised", code="missed")


async def test_what_an_earlier_turn_brought_is_never_taken_for_this_turns(suite: Story) -> None:
    suite.hands.mine = {"everything"}
    await suite.start("rounds")
    await suite.when(lambda: len(suite.controller.prompts(UNIT)) == 2, "turn 2 is asked, turn 1 was not answered")
    first, second = suite.controller.prompts(UNIT)
    assert (first["path"], second["path"]) == ("looks/look/1/glucose", "looks/look/2/glucose")
    await suite.answer(first["path"], seen="1 mmol/L")
    await suite.until_state("complete")
    assert "glucose.seen" not in suite.state.values
    noted = [each.path for each in suite.events("noted")]
    assert noted == ["looks/look/1/old/1/branch"], "neither a late answer nor a branch of the last turn decides"
    assert [each.path for each in suite.events("exception_raised", code="late")] == ["looks/look/1/glucose"]


async def test_killed_at_every_event_of_loops_within_loops_nothing_is_dosed_twice(suite: Story) -> None:
    seen: set[tuple[str, str]] = set()

    def each(record: Record) -> bool:
        key = (record.event.kind, getattr(record.event, "path", ""))
        if not key[1].startswith("fill/rounds") or key in seen or "/rounds/2/each/2" not in key[1]:
            return False
        seen.add(key)
        return True

    await suite.start("nested")
    suite.kill_at(each)
    await come_to(suite, lambda: suite.alive and suite.state.state == "complete", restart=True)
    assert suite.deaths > 10
    doses = [path for path, node in suite.state.nodes.items() if node.verb == "transfer"]
    assert doses == [f"fill/rounds/{r}/each/{f}/again/{n}/more" for r in (1, 2) for f in (1, 2) for n in (1, 2, 3)]
    assert sum(each.delivered_ml or 0.0 for each in suite.state.intents.values()) == pytest.approx(240.0, abs=12.0)
