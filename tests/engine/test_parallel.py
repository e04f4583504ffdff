"""`parallel`: branches at the same time, over holds, faults, ends, pauses and deaths."""

from __future__ import annotations

from typing import Any

from pytest import approx
from story import UNIT, Story
from test_freezing_run import come_to

from tilctl.journal.chain import Record

IN, OUT = "both/par/feed/in", "both/par/drain/out"


def waits(suite: Story) -> dict[str, str]:
    found: list[dict[str, Any]] = suite.controller.status(UNIT)["waits"]
    return {each["path"]: each["text"] for each in found}


def moved(suite: Story, path: str) -> float:
    return sum(intent.delivered_ml or 0.0 for intent in suite.intents(path))


async def both_flow(suite: Story, volume: float = 40.0, **parameters: str) -> None:
    await suite.start("beside", **parameters)
    await suite.until_flowed("pump_media", volume)
    await suite.until_flowed("pump_waste", volume)


def all_moved(suite: Story) -> None:
    for path in (IN, OUT):
        assert moved(suite, path) == approx(120.0, abs=6.0)
        assert {intent.outcome for intent in suite.intents(path)} <= {"done", "partial", "nothing"}


async def test_two_doses_at_once_and_one_line_in_turn(suite: Story) -> None:
    await both_flow(suite)
    assert list(suite.state.intents) == [1, 2]
    assert waits(suite).keys() >= {IN, OUT, "both/par/look/first"}
    await suite.until("both/line/one/a", "acting")
    await suite.until_flowed("pump_media", 5.0)
    has = "which both/line/one/a has"
    assert waits(suite)["both/line/two/b"] == f"waits for pump_media, {has}; waits for valves_media, {has}"
    await suite.until_state("complete")
    all_moved(suite)
    first, second = (suite.intents(f"both/line/{name}") for name in ("one/a", "two/b"))
    assert second[0].opened > first[-1].opened
    assert suite.node("both/par/drain/later").status == "complete", "it counts from a mark of another branch"


async def test_a_hold_stops_both_and_what_is_missing_comes_after_it(suite: Story) -> None:
    await both_flow(suite)
    await suite.do("hold")
    await suite.until_state("held")
    for path in (IN, OUT):
        assert [intent.outcome for intent in suite.intents(path)] == ["partial"]
    await suite.do("restart")
    await suite.until_state("complete")
    all_moved(suite)


async def test_what_fails_in_one_branch_holds_the_batch_once_the_others_are_finished(suite: Story) -> None:
    seen = "both/par/look/what/2/seen"
    suite.hands.change = {"seen": {"well": "bad"}}
    await both_flow(suite, then="fail")
    await suite.until_state("held")
    assert suite.state.held_for.startswith(f"{seen}: 'seen.well == good' does not hold")
    assert suite.node(seen).status == "failed"
    assert {intent.path: intent.outcome for intent in suite.state.intents.values()} == {IN: "partial", OUT: "partial"}
    kinds = [(r.event.kind, getattr(r.event, "to_state", "")) for r in suite.records()]
    last = max(i for i, (kind, _) in enumerate(kinds) if kind == "intent_closed")
    assert last < kinds.index(("state_changed", "holding"))
    assert [*waits(suite)] == [seen]
    suite.hands.change = {"seen": {"well": "good"}}
    await suite.do("restart")
    await suite.until_state("complete")
    all_moved(suite)


async def test_an_end_in_a_branch_ends_the_batch_with_every_dose_closed(suite: Story) -> None:
    await both_flow(suite, then="end")
    await suite.until_state("stopped")
    assert suite.state.reason == "enough seen"
    assert {intent.outcome for intent in suite.state.intents.values()} == {"partial"}
    assert suite.state.node("both/line") is None


async def test_a_pause_waits_for_the_steps_of_all_branches(suite: Story) -> None:
    await both_flow(suite)
    await suite.do("pause")
    await suite.until_state("paused")
    assert suite.node(IN).status == suite.node(OUT).status == suite.node("both/par/look/first").status == "complete"
    assert suite.state.node("both/par/look/what") is None
    await suite.do("resume")
    await suite.until_state("complete")
    all_moved(suite)


async def test_killed_at_every_event_of_two_branches_nothing_is_moved_twice(suite: Story) -> None:
    seen: set[tuple[str, str]] = set()

    def each(record: Record) -> bool:
        key = (record.event.kind, getattr(record.event, "path", ""))
        if not key[1].startswith(("both/par", "both/line")) or key in seen:
            return False
        seen.add(key)
        return True

    await suite.start("beside")
    suite.kill_at(each)
    await come_to(suite, lambda: suite.alive and suite.state.state == "complete", restart=True, most=150)
    assert suite.deaths > 25
    all_moved(suite)
    assert moved(suite, "both/line/one/a") == approx(60.0, abs=4.0)
    assert moved(suite, "both/line/two/b") == approx(60.0, abs=4.0)
