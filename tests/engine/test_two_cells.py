"""Two batches on one controller with one freezer: who gets it, who waits and in which order, over everything."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest
from cells import TwoCells

from tilctl.engine.state import Intent, parse_time


async def both_want_it(cells: TwoCells, inside: str = "10 min") -> None:
    """cell1 has the freezer, cell2 waits for it."""
    await cells.begin("cell1", "share", before="1 min", inside=inside)
    await cells.begin("cell2", "share", before="2 min", inside="5 min")
    await cells.until_at("cell1", "cold/inside")
    await cells.until_phase("cell2", "asked")
    await cells.settle()


def given_back(cells: TwoCells, unit: str) -> datetime:
    records = cells.records_of(unit)
    return next(parse_time(r.t) for r in records if r.event.kind == "step_completed" and r.event.path == "cold")


async def test_two_batches_run_at_once_and_the_freezer_goes_in_the_order_of_asking(cells: TwoCells) -> None:
    await both_want_it(cells)
    first, second = cells.name("cell1"), cells.name("cell2")
    assert (cells.sharing.owner("freezer"), cells.sharing.queue("freezer")) == (first, (second,))
    assert cells.phases("cell2") == ["asked"], "nothing of the operation began before the grant"
    assert "cold/mine" not in cells.of("cell2").nodes
    since = cells.of("cell1").nodes["cold"].phases["granted"][0]
    shown = since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    text = f"waits for freezer, held by {first} since {shown}, 1st in the queue"
    assert cells.waits("cell2") == [text]
    await cells.until_in("cell1", "complete")
    await cells.until_at("cell2", "cold/inside")
    assert cells.sharing.owner("freezer") == second
    granted = cells.of("cell2").nodes["cold"].phases["granted"][0]
    assert granted >= given_back(cells, "cell1"), "granted when it was given back, not before"
    await cells.until_in("cell2", "complete")
    assert cells.sharing.owner("freezer") is None


async def test_a_hold_in_the_queue_keeps_the_place_and_the_turn(cells: TwoCells) -> None:
    await both_want_it(cells)
    second, asked = cells.name("cell2"), cells.of("cell2").nodes["cold"].phases["asked"]
    await cells.do("hold", unit="cell2")
    assert cells.sharing.queue("freezer") == (second,)
    assert cells.waits("cell2")[0] == "operator: restart (hold by test)"
    assert "1st in the queue" in cells.waits("cell2")[1], "also what comes after the restart is shown"
    await cells.do("restart", unit="cell2")
    await cells.until_in("cell2", "running")
    await cells.settle()
    assert cells.sharing.queue("freezer") == (second,)
    assert cells.of("cell2").nodes["cold"].phases["asked"] == asked, "asked once"
    await cells.do("hold", unit="cell2")
    await cells.until_in("cell1", "complete")
    assert cells.sharing.owner("freezer") == second, "its turn does not pass while it is held"
    assert cells.phases("cell2") == ["asked"], "nothing walks while it is held"
    await cells.do("restart", unit="cell2")
    await cells.until_in("cell2", "complete")


@pytest.mark.parametrize("verb", ["abort", "stop"])
async def test_who_ends_in_the_queue_leaves_it(cells: TwoCells, verb: str) -> None:
    await both_want_it(cells)
    await cells.do(verb, unit="cell2")
    assert cells.sharing.queue("freezer") == ()
    await cells.until_in("cell1", "complete")
    assert cells.sharing.owner("freezer") is None


async def test_the_owner_keeps_it_while_held_and_gives_it_back_when_stopped(cells: TwoCells) -> None:
    await both_want_it(cells)
    first, second = cells.name("cell1"), cells.name("cell2")
    await cells.do("hold")
    await asyncio.sleep(7200)
    assert cells.sharing.owner("freezer") == first, "never stolen"
    await cells.do("stop")
    assert cells.sharing.owner("freezer") == second, "nothing runs in it: it goes on at once"
    await cells.until_in("cell2", "complete")


async def test_after_a_power_cut_the_owner_comes_before_those_who_wait(cells: TwoCells) -> None:
    """cell1 is recovered first and waits; it must not get what is cell2's."""
    await cells.begin("cell2", "share", before="1 min", inside="30 min")
    await cells.begin("cell1", "share", before="2 min")
    await cells.until_at("cell2", "cold/inside")
    await cells.until_phase("cell1", "asked")
    await cells.settle()
    first, second = cells.name("cell2"), cells.name("cell1")
    shown = cells.waits("cell1")
    for outage in (0.0, 120.0):
        await cells.power_cut(outage)
        await cells.settle()
        assert (cells.sharing.owner("freezer"), cells.sharing.queue("freezer")) == (first, (second,))
        assert cells.waits("cell1") == shown, "held since the same moment, at the same place"
    assert cells.phases("cell1") == ["asked"]
    await cells.until_in("cell2", "complete")
    await cells.until_in("cell1", "complete")
    assert cells.of("cell1").nodes["cold/mine"].started > cells.of("cell2").nodes["cold/inside"].started


BOUNDARIES = [("step_phase", "asked"), ("step_phase", "granted"), ("step_completed", "cold"), ("batch_ended", "")]


@pytest.mark.parametrize("first", ["cell1", "cell2"])
@pytest.mark.parametrize(("kind", "what"), BOUNDARIES, ids=[f"{kind} {what}".strip() for kind, what in BOUNDARIES])
async def test_killed_at_each_boundary_of_sharing_it_has_one_owner(
    cells: TwoCells, first: str, kind: str, what: str
) -> None:
    """cell1 dies over its own record, as the one who has it and as the one who waits."""
    other = "cell2" if first == "cell1" else "cell1"
    cells.kill_at(
        lambda record: (
            record.event.kind == kind
            and what in ("", getattr(record.event, "phase", None), getattr(record.event, "path", None))
        )
    )
    await cells.begin(first, "share", before="1 min", inside="2 min")
    await cells.begin(other, "share", before="2 min", inside="2 min")
    await cells.when(lambda: not cells.alive, "it is killed")
    cells.kill_at(None)
    await cells.bury()
    await cells.boot()
    for unit in ("cell1", "cell2"):
        await cells.when(lambda unit=unit: cells.of(unit).result == "complete", f"{unit} comes to its end")
    began = {unit: cells.of(unit).nodes["cold/mine"].started for unit in ("cell1", "cell2")}
    over = {unit: given_back(cells, unit) for unit in began}
    early, late = sorted(began, key=lambda unit: began[unit])
    assert early == first, "the order of asking is kept"
    assert began[late] >= over[early], "never two at once"
    assert cells.sharing.owner("freezer") is None


async def run_in_the_freezer(cells: TwoCells) -> None:
    """cell1 has a run in the freezer, cell2 waits for it."""
    await cells.begin("cell1", "freezing")
    await cells.when(lambda: cells.plant.freezer.running, "the run is on")
    await cells.begin("cell2", "share", before="1 s", inside="5 min")
    await cells.until_phase("cell2", "asked")
    await cells.settle()


@pytest.mark.parametrize("cut", [False, True], ids=["", "power cut"])
async def test_a_run_outlives_its_aborted_batch_and_keeps_the_freezer_until_it_has_ended(
    cells: TwoCells, cut: bool
) -> None:
    await run_in_the_freezer(cells)
    first = cells.name("cell1")
    await cells.do("abort")
    if cut:
        await cells.power_cut()
    await cells.settle()
    assert cells.plant.freezer.running, "abort never stops a run"
    assert cells.sharing.owner("freezer") == first
    assert f"held by {first}" in cells.waits("cell2")[0]
    assert "until its run has ended" in cells.waits("cell2")[0]
    await cells.when(lambda: not cells.plant.freezer.running, "the run ends")
    assert cells.phases("cell2") == ["asked"], "nothing began while the freezer ran"
    await cells.until_at("cell2", "cold/inside")
    assert cells.sharing.owner("freezer") == cells.name("cell2")
    await cells.until_in("cell2", "complete")


async def test_a_held_owner_with_a_run_keeps_the_freezer(cells: TwoCells) -> None:
    await run_in_the_freezer(cells)
    await cells.do("hold")
    await cells.when(lambda: not cells.plant.freezer.running, "the run ends by itself")
    await asyncio.sleep(3600)
    assert cells.sharing.owner("freezer") == cells.name("cell1"), "its bags are still in there"
    assert cells.phases("cell2") == ["asked"]
    await cells.do("restart")
    await cells.until_in("cell1", "complete")
    await cells.until_in("cell2", "complete")


@pytest.mark.parametrize("cut", [False, True], ids=["", "power cut"])
async def test_a_run_whose_batch_was_aborted_keeps_the_freezer_and_its_unit_until_it_is_judged(
    cells: TwoCells, cut: bool
) -> None:
    await run_in_the_freezer(cells)
    await cells.do("abort")
    if cut:
        await cells.power_cut()
    await cells.settle()
    assert (await cells.do("reset", expect="refused")).code == "illegal_state"
    assert cells.plant.freezer.running
    assert cells.sharing.queue("freezer") == (cells.name("cell2"),)
    await cells.when(lambda: all(intent.outcome for intent in runs_of(cells)), "the run is judged")
    assert [intent.outcome for intent in runs_of(cells)] == ["done"]
    await cells.do("reset")
    await cells.until_in("cell2", "complete")
    await cells.begin("cell1", "share", before="1 s", inside="1 min")
    await cells.until_in("cell1", "complete")


def runs_of(cells: TwoCells) -> list[Intent]:
    """The freezing runs of cell1's batch."""
    return [intent for intent in cells.of("cell1").intents.values() if intent.action == "start"]


async def test_who_waits_is_told_to_the_outside_when_others_move(cells: TwoCells) -> None:
    """The status of cell2 changes by what cell1 does; nothing comes onto cell2's record then."""
    told: list[str] = []
    await both_want_it(cells)
    cells.controller.on_status.append(told.append)
    await cells.do("hold", unit="cell2")
    told.clear()
    await cells.do("stop")
    assert "cell2" in told
    assert "queue" not in " ".join(cells.waits("cell2"))


async def test_a_freezer_on_two_records_goes_to_the_earlier_and_the_other_waits(cells: TwoCells) -> None:
    """It cannot be; if a backup was put back it can: the boot survives it and nobody is pushed out."""
    await both_want_it(cells, "30 min")
    batch = cells.runner_of("cell2").batch
    from tilctl.journal import events as ev  # noqa: PLC0415

    await batch.record(ev.StepPhase("cold", "granted", {"devices": ["freezer"]}))
    cells.announced.add("shared_device_has_an_owner")
    await cells.power_cut()
    await cells.settle()
    assert cells.sharing.owner("freezer") == cells.name("cell1")
    assert cells.sharing.queue("freezer") == (cells.name("cell2"),)
    await cells.until_in("cell1", "complete")
    await cells.until_in("cell2", "complete")
