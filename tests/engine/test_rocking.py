"""A rocked bag stands still to be weighed and dosed, never for long, and rocks again whatever becomes of us."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from rocking import Rocking
from story import UNIT, Story, told

from simulators.faults.injector import Injector
from simulators.faults.model import Fault
from tilctl.engine.state import parse_time
from tilctl.plant.stillness import MOST_STILL_S, PAUSE_S, RENEW_S


@pytest_asyncio.fixture
async def suite(tmp_path: Path) -> AsyncIterator[Rocking]:
    async with told(Rocking(tmp_path)) as story:
        yield story


async def test_it_stands_for_a_dose_and_a_weighing_and_rocks_between_them(suite: Rocking) -> None:
    await suite.start("rocked")
    await suite.until("rock/fill", "acting")
    assert suite.paused == [], "what rests needs no pause"
    assert suite.state.ledger.get("bag").place == "p1", "the rocked place is for what is made to be rocked"
    assert suite.state.ledger.get("other").place == "p2"
    await suite.until_flowed("pump_media", 50.0)
    assert suite.rpm == 0.0
    await suite.until("rock/rest", "acting")
    assert suite.paused[0] == PAUSE_S
    assert suite.paused[-1] == 0.0
    await suite.pass_time(60.0)
    assert suite.rpm == pytest.approx(10.0)
    await suite.until_flowed("pump_waste", 50.0)
    assert suite.rpm == 0.0
    await suite.until_state("complete")
    await suite.pass_time(60.0)
    assert suite.rpm == pytest.approx(10.0)
    assert not suite.state.alarms, "neither leak nor overfill is seen in what rocking does to the scales"
    assert not suite.events("exception")
    assert [len(suite.intents(f"rock/{step}")) for step in ("prime", "fill", "draw")] == [1, 1, 1]


async def test_a_long_dose_is_given_in_parts_between_which_it_rocks(suite: Rocking) -> None:
    await suite.start("rocked", rate="20 mL/min")
    await suite.until("rock/fill", "acting")
    await suite.when(lambda: "rests" in suite.node("rock/fill").phases, "it rests")
    (wait,) = [each for each in suite.controller.status(UNIT)["waits"] if each["path"] == "rock/fill"]
    assert "in parts between which what is rocked gets oxygen" in wait["text"]
    assert parse_time(wait["due"]) > suite.clock.now()
    await suite.pass_time(60.0)
    assert suite.rpm == pytest.approx(10.0)
    await suite.until("rock/rest", "acting")
    parts = suite.intents("rock/fill")
    assert [part.outcome for part in parts] == ["done", "done"]
    assert float(parts[0].args["volume"]) == pytest.approx(20.0 * (MOST_STILL_S - 150.0) / 60.0)
    assert sum(part.delivered_ml or 0.0 for part in parts) == pytest.approx(300.0, abs=9.0)
    await suite.until_state("complete")


async def test_a_controller_that_dies_in_a_dose_leaves_a_bag_that_rocks(suite: Rocking) -> None:
    await suite.start("rocked")
    await suite.until_flowed("pump_media", 220.0)
    suite.kill()
    await suite.bury()
    await suite.pass_time(PAUSE_S - RENEW_S)
    await suite.pass_time(RENEW_S + 15.0)
    assert suite.rpm == pytest.approx(10.0), "it has gone on by itself"
    assert suite.pump("pump_media").run is None, "its own watchdog has stopped the pump"
    await suite.boot()
    await suite.until_state("held")
    assert [i.outcome for i in suite.intents("rock/fill")] == ["partial"], "weighed while it stood, closed by evidence"
    await suite.pass_time(60.0)
    assert suite.rpm == pytest.approx(10.0)
    await suite.do("restart")
    await suite.until_state("complete")
    moved = sum(i.delivered_ml or 0.0 for i in suite.intents("rock/fill"))
    assert moved == pytest.approx(300.0, abs=9.0)


@pytest.mark.parametrize("verb", ["hold", "stop", "abort"])
async def test_it_rocks_again_when_people_end_a_dose(suite: Rocking, verb: str) -> None:
    await suite.start("rocked")
    await suite.until_flowed("pump_media", 220.0)
    await suite.do(verb)
    await suite.until_state({"hold": "held", "stop": "stopped", "abort": "aborted"}[verb])
    await suite.pass_time(150.0)
    assert suite.rpm == pytest.approx(10.0)
    assert suite.paused[-1] == 0.0
    assert [i.outcome for i in suite.intents("rock/fill")] == ["partial"]


def shaky(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let twice as much of the rocking be left in the masses: 0.6 % of the load, 7 g of a full bag (1 sigma)."""
    monkeypatch.setattr("simulators.physics.rocker.RIPPLE_LEFT", 0.4)


async def test_what_rocking_does_to_the_scales_is_neither_a_leak_nor_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaky(monkeypatch)
    story = Rocking(tmp_path)
    story.site_overrides |= {"scan.idle": "10 s"}
    text = (Path(__file__).parent / "recipes" / "rocked.yaml").read_text("utf-8")
    full = text.replace("recipe: rocked", "recipe: full").replace(
        "rate: rate, tolerance: 3 %", "rate: rate, tolerance: 3 mL"
    )
    (tmp_path / "full.yaml").write_text(full)
    async with told(story) as suite:
        await suite.start("full", fill="968 mL")
        await suite.until("rock/rest", "acting")
        bag = suite.plant.place(1)
        assert bag is not None
        assert 1176.0 - bag.contents.volume < 12.0, "within two sigma of where pumps are stopped"
        await suite.until("rock/draw", "acting")
        await suite.pass_time(1.0)
        assert not suite.state.alarms
        await suite.until_state("complete")
        assert not suite.events("alarm_raised", priority="critical")


async def test_a_leak_of_a_rocked_bag_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shaky(monkeypatch)
    story = Rocking(tmp_path)
    story.site_overrides |= {"scan.idle": "10 s"}
    story.check_ledger = False
    async with told(story) as suite:
        await suite.start("rocked", fill="800 mL")
        await suite.until("rock/rest", "acting")
        Injector([suite.plant], suite.servers, suite.plant.clock).apply(
            Fault("scales", "leak", args={"port": 1, "rate": 8.0})
        )
        await suite.until_state("held", within=1800.0)
        assert "leak" in suite.state.alarms
        await suite.pass_time(60.0)
        assert suite.rpm == pytest.approx(10.0), "hold is not off: it rocks on"


async def test_a_unit_without_what_the_recipe_needs_is_refused(tmp_path: Path) -> None:
    async with told(Story(tmp_path)) as suite:
        outcome = await suite.do("start", {"recipe": "rocked", "parameters": {}}, expect="refused")
        assert outcome.code == "not_ready"
        assert "incubator (sim-incubator) has no oxygen, ph, rocking, gas_oxygen, set_rocking" in outcome.text


async def test_a_speed_that_is_lost_is_set_again(suite: Rocking) -> None:
    await suite.start("rocked")
    await suite.until("rock/rest", "acting")
    await suite.pass_time(60.0)
    suite.plant.devices["incubator"].do("set_rocking", {"value": 2.0})  # a hand at the panel
    lost = "target-lost-station.rocking"
    await suite.when(lambda: suite.events("alarm_raised", alarm=lost), "it is noticed", within=600.0)
    await suite.pass_time(30.0)
    assert suite.rpm == pytest.approx(10.0)
    assert suite.node("rock/rest").status == "acting"


async def test_a_rocker_that_does_not_stand_is_not_weighed_on(suite: Rocking) -> None:
    await suite.start("rocked")
    await suite.until("rock/rest", "acting")
    await suite.pass_time(60.0)
    suite.plant.devices["incubator"].deaf = True
    await suite.until_state("held")
    assert "incubator" in suite.node("rock/draw").reason
    assert not suite.intents("rock/draw"), "nothing was drawn"
    suite.plant.devices["incubator"].deaf = False
    await suite.do("restart")
    await suite.until_state("complete")
