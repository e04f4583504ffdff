"""Making safe: whatever hangs, everything else is safe within two seconds, and what was done is on the record."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from story import UNIT, Story

from tilctl.engine.machine import State
from tilctl.engine.safekeeper import SAFE_AGAIN
from tilctl.journal import events as ev

PUMPS = ("pump_media", "pump_cells", "pump_waste")
VALVES = ("valves_media", "valves_cells", "valves_waste")
WITHIN = 2.0  # s


async def dosing(suite: Story) -> None:
    await suite.start("small", first="400 mL")
    await suite.until_flowed("pump_media", 5.0)


async def protected(suite: Story, verb: str = "hold") -> dict[str, float]:
    """Give the command and return after how many seconds each device was safe, those that were not left out."""
    await suite.do(verb, expect=None)
    first = suite.events("made_safe")[0]
    assert {each["device"] for each in first.outcomes} == {*PUMPS, *VALVES}
    return {each["device"]: each["seconds"] for each in first.outcomes if not each["error"]}


@pytest.mark.parametrize("hung", [*PUMPS, *VALVES])
async def test_one_device_of_six_hangs_and_the_five_others_are_safe_within_two_seconds(suite: Story, hung: str) -> None:
    suite.announced = {"protective_write_failed"}
    suite.check_safe = suite.check_ledger = hung != "pump_media"
    await dosing(suite)
    suite.faults(hung).silent = True
    began = suite.loop.time()
    others = await protected(suite)
    assert set(others) == {*PUMPS, *VALVES} - {hung}
    # Valves wait for the pump of their own line alone, and for that at most a second.
    assert max(others.values()) <= WITHIN - 1.0 * (hung == "pump_media"), others
    alarms = {alarm.id: alarm.priority for alarm in suite.state.alarms.values() if alarm.id.startswith("not-safe")}
    assert alarms == {f"not-safe-{hung}": "critical"}
    media = suite.pump("pump_media")
    assert media.log[0].ended is not None
    assert media.log[0].ended - began <= WITHIN, "stopped, or pinched off"
    if hung != "valves_media":
        assert (media.suction, media.delivery) == (0, 0)


async def test_all_pumps_hang_and_all_valves_are_closed_within_two_seconds(suite: Story) -> None:
    suite.announced = {"protective_write_failed"}
    suite.check_safe = suite.check_ledger = False
    await dosing(suite)
    for pump in PUMPS:
        suite.faults(pump).silent = True
    began = suite.loop.time()
    others = await protected(suite)
    assert set(others) == set(VALVES)
    ended = suite.pump("pump_media").log[0].ended
    assert ended is not None
    assert ended - began <= 2 * WITHIN, "three that hang on one bus"


async def test_scales_that_are_gone_delay_nothing(suite: Story) -> None:
    suite.hands.mine = {"reconcile"}
    suite.check_ledger = False
    await dosing(suite)
    suite.faults("scales").silent = True
    others = await protected(suite)
    assert set(others) == {*PUMPS, *VALVES}
    assert max(others.values()) <= 0.5
    assert suite.intents("fill/first")[0].outcome == "in_doubt"


async def test_what_was_done_is_on_the_record_and_not_again_while_nothing_changes(suite: Story) -> None:
    suite.announced = {"protective_write_failed"}
    suite.check_safe = False
    await dosing(suite)
    suite.faults("pump_cells").silent = True
    await suite.do("hold")
    await asyncio.sleep(600)
    events = suite.events("made_safe")
    assert len(events) <= 4, "the words of a time-out may differ; not one each five seconds for ten minutes"
    assert any(each["error"] for each in events[-1].outcomes if each["device"] == "pump_cells")
    suite.faults("pump_cells").silent = False
    await suite.when(lambda: "not-safe-pump_cells" not in suite.state.alarms, "it is safe again", within=60.0)
    assert not any(each["error"] for each in suite.events("made_safe")[-1].outcomes)


async def unsafe(suite: Story) -> None:
    """Have a batch run again whose valves of the waste line could not be closed."""
    suite.announced = {"protective_write_failed"}
    suite.check_safe = False
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    suite.faults("valves_waste").silent = True
    await suite.do("hold")
    await suite.when(lambda: NOT_CLOSED in suite.state.alarms, "it is told", within=60.0)
    await suite.do("restart")
    await asyncio.sleep(60.0)
    assert NOT_CLOSED in suite.state.alarms


NOT_CLOSED = "not-safe-valves_waste"


async def test_what_is_not_safe_when_a_person_restarts_is_tried_on(suite: Story) -> None:
    await unsafe(suite)
    suite.plant.pumps["pump_waste"].delivery = 3  # as a fault or a hand left it
    suite.faults("valves_waste").silent = False
    await suite.when(lambda: NOT_CLOSED not in suite.state.alarms, "it is safe", within=60.0)
    assert suite.runner.state == "running"
    assert suite.plant.pumps["pump_waste"].delivery == 0


async def test_what_a_step_uses_is_not_made_safe_beneath_it(suite: Story) -> None:
    await unsafe(suite)
    async with suite.runner.batch.exclusion.alone("stay/other", ["valves_waste"]):
        suite.faults("valves_waste").silent = False
        await asyncio.sleep(60.0)
        assert NOT_CLOSED in suite.state.alarms
    await suite.when(lambda: NOT_CLOSED not in suite.state.alarms, "it is safe", within=60.0)


async def test_a_controller_that_comes_back_tries_on_what_was_not_safe(suite: Story) -> None:
    await unsafe(suite)
    suite.faults("valves_waste").silent = False
    await suite.power_cut()
    await suite.when(lambda: suite.runner.state == "running", "it goes on by itself", within=60.0)
    await suite.when(lambda: NOT_CLOSED not in suite.state.alarms, "it is safe", within=60.0)


# --- what must never be -----------------------------------------------------------------------------------------------


async def held_for(suite: Story, name: str) -> str:
    await suite.until_state("held", within=600.0)
    alarm = suite.state.alarms[f"invariant-{name}"]
    assert alarm.priority == "critical"
    assert suite.plant.climate.temperature.goal == 36.0, "a hold is not off"
    assert suite.pump("pump_media").run is None
    return alarm.text


async def test_a_batch_that_runs_with_nothing_walking_is_held(suite: Story) -> None:
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    walk = suite.runner._walk
    walk.cancel()  # nobody in the product does this; a fault of the program might
    await asyncio.wait((walk,))
    assert "nothing walks" in suite.runner.look()
    assert "nothing walks" in await held_for(suite, "walk")
    assert suite.runner.look() == "", "once held, it is in order"
    await suite.do("restart")
    assert suite.state.alarms == {}
    assert suite.runner.look() == ""


async def test_a_transient_state_that_nothing_works_on_is_seen(suite: Story) -> None:
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    await suite.do("hold")
    suite.runner.state = State.HOLDING
    assert "nothing works on it" in suite.runner.look()
    suite.runner.state = State.HELD


async def test_a_device_with_another_owner_is_a_hold(suite: Story) -> None:
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    suite.plant_suite.gate._owners["pump_cells"] = "somebody-else"
    assert suite.runner.look()
    assert "pump_cells belongs to somebody-else" in await held_for(suite, "owner")
    suite.plant_suite.gate._owners["pump_cells"] = suite.runner.batch.name


async def test_an_intent_that_is_closed_twice_books_once_and_is_a_hold(suite: Story) -> None:
    await suite.start("small")
    await suite.until("fill/first", "complete")
    intent = suite.intents("fill/first")[0]
    before = suite.state.ledger.get("flask").volume_ml
    again = ev.IntentClosed(intent.number, intent.path, "done", intent.delivered_ml, intent.counted_ml, {})
    await suite.runner.batch.record(again)
    assert suite.state.ledger.get("flask").volume_ml == before
    assert "closed twice" in await held_for(suite, "record")


@pytest.mark.parametrize(("volume", "words"), [(700.0, "its limit is 500 mL"), (-900.0, "less than nothing")])
async def test_a_ledger_that_cannot_be_is_a_hold(suite: Story, volume: float, words: str) -> None:
    suite.check_ledger = False
    await suite.start("small")
    await suite.until("fill/first", "complete")
    await suite.runner.batch.record(ev.Moved("fill/first", 0, "media", "flask", volume))
    assert words in await held_for(suite, "record")


async def test_a_task_that_breaks_beside_the_walk_holds_its_batch(
    suite: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.announced = {"internal_error"}
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")

    async def broken(batch: object, tag: str, value: float) -> None:
        raise ZeroDivisionError("a fault of the program")

    monkeypatch.setattr("tilctl.engine.standing.write_target", broken)
    suite.plant.devices["incubator"].write(16, 0, [0x41C8, 0x0000])  # 25 degC, at the panel
    await suite.until_state("held")
    assert "ZeroDivisionError" in suite.state.alarms["invariant-task"].text
    monkeypatch.undo()
    await suite.do("restart")
    assert suite.controller.status(UNIT)["state"] == "running"


async def test_what_breaks_in_the_keep_alive_holds_its_batch_and_the_sign_of_life_goes_on(
    suite: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.announced = {"internal_error"}
    await suite.start("still", wait="9 h")
    await suite.until("stay/one", "acting")

    async def broken(*, final: bool) -> None:
        raise ZeroDivisionError("a fault of the program")

    monkeypatch.setattr(suite.controller._slots[UNIT], "note_trends", broken)
    await suite.until_state("held", within=3 * 3600.0)
    assert "ZeroDivisionError" in suite.state.alarms["invariant-upkeep"].text
    before = suite.controller.journal.last_beat()
    await asyncio.sleep(2 * 3600)
    assert suite.controller.journal.last_beat() != before
    monkeypatch.undo()


async def test_a_device_that_is_silent_for_hours_is_told_of_ever_more_seldom_and_when_it_is_back(suite: Story) -> None:
    suite.announced = {"protective_write_failed"}
    await suite.start("still", wait="9 h")
    await suite.until("stay/one", "acting")
    suite.faults("pump_cells").silent = True
    began = suite.loop.time()
    await suite.do("hold")

    def told(event: str) -> list[int]:
        return [entry["tries"] for entry in suite.logs.entries if entry["event"] == event]

    await suite.when(lambda: suite.loop.time() - began > 1.7 * 3600.0, "hours have passed", within=4 * 3600.0)
    tries = told("protective_write_failed")
    assert tries[0] == 1
    assert tries[-1] > 200
    assert 6 <= len(tries) <= 10, "not all that were made"
    assert max(b - a for a, b in pairwise(tries)) < 3600.0 / SAFE_AGAIN, "and still at least one an hour"
    assert not told("protective_write_recovered")
    suite.faults("pump_cells").silent = False
    await suite.when(lambda: "not-safe-pump_cells" not in suite.state.alarms, "it is safe again", within=60.0)
    (over,) = told("protective_write_recovered")
    assert over >= tries[-1]
    await suite.do("abort")
    assert len(told("protective_write_recovered")) == 1, "once"
