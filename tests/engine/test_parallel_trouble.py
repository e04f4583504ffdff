"""`parallel` in trouble: doses in doubt, several faults at once, a dead record; and people who are asked by many."""

from __future__ import annotations

import asyncio

import pytest
from pytest import approx
from story import UNIT, Story
from test_dead_record import FullDisk, disk
from test_freezing_run import come_to
from test_parallel import IN, OUT, both_flow, moved, waits
from test_unlucky_doses import strike

from tilctl.journal.chain import Record

__all__ = ["disk"]
A, B = "both/line/one/a", "both/line/two/b"


def blind(suite: Story, *pumps: str) -> None:
    """Lose the counts of pumps and, for a while, the scales: nobody can tell what went over."""
    for pump in pumps:
        strike(suite, pump, "reboot")
    strike(suite, "scales", "silent", 100.0)


def asked(suite: Story) -> list[str]:
    return [str(each["path"]) for each in suite.controller.prompts(UNIT)]


async def told(suite: Story, path: str, delivered: float) -> None:
    answer = {"delivered": f"{delivered:.1f} mL", "why": "weighed it", "sign.operator": "badge 7"}
    await suite.answer(path, **answer)


async def test_a_dose_in_doubt_is_closed_by_a_person_before_anybody_else_has_its_line(suite: Story) -> None:
    suite.hands.mine = {"reconcile"}
    await suite.start("beside")
    await suite.until(A, "acting")
    await suite.until_flowed("pump_media", 25.0)
    blind(suite, "pump_media")
    await suite.until_state("held")
    assert [intent.outcome for intent in suite.intents(A)] == ["in_doubt"]
    await asyncio.sleep(120)
    await suite.do("restart")
    await suite.when(lambda: asked(suite) == [A], "a person is asked")
    await asyncio.sleep(300)
    assert suite.intents(B) == []
    assert f"waits for pump_media, which {A} has" in waits(suite)[B]
    real = suite.plant.place(1).contents.volume - moved(suite, IN)
    await told(suite, A, real)
    await suite.until_state("complete")
    assert moved(suite, A) == approx(60.0, abs=4.0)
    assert moved(suite, B) == approx(60.0, abs=4.0)


async def test_a_batch_that_was_to_end_ends_over_no_dose_in_doubt(suite: Story) -> None:
    suite.hands.mine = {"reconcile"}
    await both_flow(suite, then="end")
    blind(suite)
    await suite.until_state("held")
    assert {intent.outcome for intent in suite.state.intents.values()} == {"in_doubt"}
    for path in (IN, OUT):
        assert f"{path}: what went over is in doubt, and the batch was to end (enough seen)" in suite.state.held_for
        assert suite.node(path).status == "in_doubt"
    assert waits(suite).keys() == {IN, OUT}
    await asyncio.sleep(120)
    await suite.do("restart")
    for path in (IN, OUT):
        await suite.when(lambda path=path: asked(suite) == [path], "a person is asked")
        assert suite.runner.state == "running"
        await told(suite, path, 50.0)
    await suite.until_state("stopped")
    assert len(suite.state.intents) == 2, "nothing more is moved by a batch that is about to end"
    suite.check_ledger = False


async def test_two_that_fail_at_once_are_both_told(suite: Story) -> None:
    suite.hands.mine = {"well", "clean"}
    await suite.start("crowd")
    await suite.when(lambda: {"all/par/ask/well", "all/par/again/clean"} <= set(asked(suite)), "both are asked")
    moment = suite.moment(suite.now(), 60.0)
    for step in ("well", "clean"):
        answer = {"prompt": suite.prompt(step).id, "inputs": {"so": "bad"}}
        await suite.do("prompt-answer", answer, effective=moment)
    await suite.until_state("held")
    for path in ("all/par/ask/well", "all/par/again/clean"):
        assert f"{path}: '{path[-5:].lstrip('/')}.so == good' does not hold" in suite.state.held_for
        assert suite.node(path).status == "failed"
    assert {"all/par/ask/well", "all/par/again/clean"} == waits(suite).keys()
    suite.hands.mine.clear()
    suite.hands.change = {"well": {"so": "good"}, "clean": {"so": "good"}}
    await suite.do("restart")
    await suite.until_state("complete")


async def test_a_dead_record_stops_both_doses(suite: Story, disk: FullDisk) -> None:
    await both_flow(suite)
    disk.full = True
    await suite.when(lambda: suite.runner.state == "held", "it is held")
    assert all(pump.run is None for pump in suite.plant.pumps.values())
    disk.full = False
    await asyncio.sleep(120)
    await suite.do("restart", expect=None)
    await suite.until_state("complete")
    assert moved(suite, IN) == approx(120.0, abs=6.0)
    assert moved(suite, OUT) == approx(120.0, abs=6.0)


async def test_a_container_is_not_touched_while_somebody_draws_from_it(suite: Story) -> None:
    suite.hands.mine = {"count"}
    await suite.start("crowd")
    out = "all/par/look/both/draw/out"
    await suite.until(out, "acting")
    await asyncio.sleep(600)
    assert waits(suite)[out] == "waits for spare, which all/par/look/both/count/count has"
    assert suite.intents(out) == []
    await suite.answer("count", tvc="1e6 cells")
    await suite.until_state("complete")
    places = {each.name: each.place for each in suite.state.ledger if each.place.startswith("p")}
    assert sorted(places.values()) == ["p1", "p2", "p3"], "mounts at the same time plan places of their own"


@pytest.mark.slow  # test_parallel.py kills the same at the events of two doses
async def test_killed_at_every_event_of_branches_with_loops_and_branches_in_them(suite: Story) -> None:
    seen: set[tuple[str, str]] = set()

    def each(record: Record) -> bool:
        key = (record.event.kind, getattr(record.event, "path", ""))
        here = key[1].startswith(("all/par/look", "all/par/feed/rounds/2/each/2")) or key[1] == "all/up/vessels/two"
        fresh = here and key not in seen
        seen.add(key)
        return fresh

    suite.hands.change = {"well": {"so": "good"}, "clean": {"so": "good"}}
    await suite.start("crowd")
    suite.kill_at(each)
    await come_to(suite, lambda: suite.alive and suite.state.state == "complete", restart=True, most=250)
    assert suite.deaths > 20
    fed = [
        moved(suite, path)
        for path, node in suite.state.nodes.items()
        if path.startswith("all/par/feed") and node.verb == "transfer"
    ]
    assert len(fed) == 4
    assert sum(fed) == approx(100.0, abs=8.0)
    assert moved(suite, "all/par/look/both/draw/out") == approx(60.0, abs=4.0)
    assert len(suite.events("prompt_opened")) == 7
