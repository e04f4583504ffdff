"""Trouble: a dead disk, hung and late instruments, silence at the wrong moment."""

from __future__ import annotations

import pytest
from pytest import approx
from story import UNIT, Story

from devices.instrument import DeviceState
from devices.reading import Quality

LIQUIDS = ("pump_media", "pump_cells", "pump_waste", "valves_media", "valves_cells", "valves_waste")


async def in_the_first_dose(suite: Story, moved: float = 20.0, recipe: str = "small", **parameters: str) -> None:
    await suite.start(recipe, **parameters)
    await suite.until_flowed("pump_media", moved)


async def answers(suite: Story, device: str) -> None:
    """Wait until an instrument has been read again, all of it, since now."""
    began = suite.clock.monotonic()

    def read_since() -> bool:
        names = [name for name in suite.plant_suite.image.all() if name.startswith(f"{device}.")]
        readings = [suite.plant_suite.image.get(name) for name in names]
        return bool(readings) and all(r and r.quality is Quality.GOOD and r.at >= began for r in readings)

    await suite.when(read_since, f"{device} answers", within=3700.0)  # it may be idle, and is read seldom


# --- the disk ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "state"), [("hold", "held"), ("abort", "aborted"), ("stop", "stopped")])
async def test_hold_stop_and_abort_act_when_the_disk_is_full(suite: Story, verb: str, state: str) -> None:
    suite.announced = {"record_failed", "event_not_on_record"}
    suite.check_ledger = False
    await in_the_first_dose(suite)
    suite.clock.disk_full = True
    before = suite.loop.time()
    outcome = await suite.do(verb)
    assert outcome.status == "done"
    pump = suite.pump("pump_media")
    assert pump.run is None, "the pump has stopped"
    assert (pump.suction, pump.delivery) == (0, 0)
    assert pump.log[-1].ended is not None
    assert pump.log[-1].ended - before < 1.0, "at once"
    assert suite.plant.climate.temperature.goal == 36.0
    status = suite.controller.status(UNIT)
    assert status["record"] == "failed"
    assert status["state"] == state
    assert suite.events("state_changed", path="")[-1].to_state == "running", "of all that the record knows nothing"


async def test_a_dead_disk_ends_the_dose_and_nothing_more_is_commanded(suite: Story) -> None:
    suite.announced = {"record_failed", "event_not_on_record"}
    suite.check_ledger = False
    await in_the_first_dose(suite)
    suite.clock.disk_full = True
    await suite.when(lambda: suite.runner.state == "held", "the engine notices")
    assert suite.pump("pump_media").run is None
    outcome = await suite.do("restart", expect="failed")
    assert outcome.code == "journal_failed"
    await suite.pass_time(3600)
    assert len(suite.pump("pump_media").log) == 1


async def test_a_dead_disk_refuses_a_start(suite: Story) -> None:
    suite.announced = {"record_failed"}
    suite.clock.disk_full = True
    outcome = await suite.do("start", {"recipe": "small"}, expect="failed")
    assert outcome.code == "journal_failed"
    assert suite.runner_or_none is None


# --- instruments that hang --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hung", LIQUIDS)
async def test_one_hung_instrument_does_not_keep_a_pump_running(suite: Story, hung: str) -> None:
    suite.announced = {"protective_write_failed"}
    suite.check_safe = suite.check_ledger = hung != "pump_media"
    await in_the_first_dose(suite, 5.0, first="400 mL")
    suite.faults(hung).silent = True
    began = suite.loop.time()
    outcome = await suite.do("hold", expect=None)
    assert outcome.status == "done"
    assert suite.runner.state == "held"
    alarms = {alarm.id: alarm.priority for alarm in suite.state.alarms.values()}
    assert alarms.get(f"not-safe-{hung}") == "critical", alarms
    assert not {name for name in alarms if name.startswith("not-safe-")} - {f"not-safe-{hung}"}, alarms
    ended = suite.pump("pump_media").log[0].ended
    if hung == "pump_media":
        assert (suite.pump("pump_media").suction, suite.pump("pump_media").delivery) == (0, 0), "pinched off"
    assert ended is not None
    assert ended - began < 12.0, "bounded: five seconds for the pumps, then the valves"
    assert suite.loop.time() - began < 75.0


async def test_all_pumps_hung_the_valves_close(suite: Story) -> None:
    suite.announced = {"protective_write_failed"}
    suite.check_safe = suite.check_ledger = False
    await in_the_first_dose(suite, 5.0, first="400 mL")
    for pump in ("pump_media", "pump_cells", "pump_waste"):
        suite.faults(pump).silent = True
    began = suite.loop.time()
    await suite.do("abort")
    assert suite.runner.state == "aborted"
    ended = suite.pump("pump_media").log[0].ended
    assert ended is not None
    assert ended - began < 15.0
    assert {n for n in suite.state.alarms if n.startswith("not-safe-pump")} == {
        "not-safe-pump_media", "not-safe-pump_cells", "not-safe-pump_waste",
    }  # fmt: skip


async def test_an_instrument_that_answers_again_is_made_safe_and_its_alarm_clears(suite: Story) -> None:
    suite.announced = {"protective_write_failed"}
    suite.check_safe = False
    await in_the_first_dose(suite, 5.0)
    suite.faults("pump_cells").silent = True
    await suite.do("hold")
    assert "not-safe-pump_cells" in suite.state.alarms
    suite.faults("pump_cells").silent = False
    await suite.when(lambda: "not-safe-pump_cells" not in suite.state.alarms, "it is safe", within=60.0)
    assert suite.runner.state == "held"
    await suite.do("stop")
    assert "not-safe-pump_cells" not in suite.state.alarms


# --- late and absent --------------------------------------------------------------------------------------------------


async def test_a_pump_that_is_late_within_its_time_out_changes_nothing(suite: Story) -> None:
    await in_the_first_dose(suite)
    suite.faults("pump_media").delay_s = 0.7
    await suite.until("fill/first", "complete")
    assert suite.faults("pump_media").late > 3
    assert [i.outcome for i in suite.intents("fill/first")] == ["done"]
    assert suite.state.alarms == {}
    assert suite.plant_suite.buses["fluidics"].statistics.timeouts == 0
    suite.faults("pump_media").delay_s = 0.0
    await suite.until_state("complete")


async def test_a_pump_that_is_later_than_its_time_out_is_held_and_dosed_once(suite: Story) -> None:
    suite.announced = {"protective_write_failed"}
    suite.check_safe = False
    await in_the_first_dose(suite)
    suite.faults("pump_media").delay_s = 1.4
    await suite.until_state("held")
    assert suite.plant_suite.buses["fluidics"].statistics.timeouts > 0
    assert len(suite.pump("pump_media").log) == 1
    suite.faults("pump_media").delay_s = 0.0
    await answers(suite, "pump_media")
    await suite.do("restart")
    await suite.until("fill/first", "complete")
    assert sum(run.moved_ml for run in suite.pump("pump_media").log) == approx(60.0, abs=3.0)
    await suite.until_state("complete")


async def test_scanning_a_late_incubator_in_time_and_too_late(suite: Story) -> None:
    suite.announced = set()
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")

    def reading() -> tuple[float | None, str]:
        shown = suite.controller.status(UNIT)["readings"]["incubator.temperature"]
        return shown["v"], shown["q"]

    before = suite.faults("incubator").late
    suite.faults("incubator").delay_s = 0.9
    await suite.when(lambda: suite.faults("incubator").late >= before + 4, "it was late often", within=600.0)
    assert reading()[1] == "good"
    suite.faults("incubator").delay_s = 1.1
    await suite.when(lambda: reading() == (None, "bad"), "a lost instrument has no last value", within=600.0)
    suite.faults("incubator").delay_s = 0.0
    await suite.when(lambda: reading()[1] == "good", "it is back", within=600.0)
    assert suite.runner.state == "running", "a slow reading is no reason to stop"


@pytest.mark.parametrize("absent", ["incubator", "scales", "pump_waste", "freezer"])
async def test_start_names_the_instruments_that_do_not_answer(suite: Story, absent: str) -> None:
    suite.faults(absent).silent = True
    instrument = suite.plant_suite.instruments[absent]
    await suite.when(lambda: instrument.status.state is DeviceState.OFFLINE, "it is given up", within=3700.0)
    outcome = await suite.do("start", {"recipe": "shakedown"}, expect="refused")
    assert outcome.code == "not_ready"
    assert f"{absent} is offline" in outcome.text, outcome.text
    assert suite.runner_or_none is None
    suite.faults(absent).silent = False
    await suite.when(lambda: instrument.status.state is DeviceState.ONLINE, "it is back", within=3700.0)
    assert (await suite.start("shakedown")).status == "done"


async def test_start_before_the_instruments_were_ever_seen(suite: Story) -> None:
    await suite.controller.close()
    suite.alive = False
    suite.faults("scales").silent = True
    await suite.boot()
    outcome = await suite.do("start", {"recipe": "small"}, expect="refused")
    assert outcome.code == "not_ready"
    assert "scales" in outcome.text


# --- evidence that does not close -------------------------------------------------------------------------------------


async def test_scales_silent_at_the_end_of_a_dose_go_to_a_person(suite: Story) -> None:
    suite.hands.mine = {"reconcile"}
    await in_the_first_dose(suite, 40.0)
    suite.faults("scales").silent = True
    await suite.until_state("held")
    assert suite.node("fill/first").status == "in_doubt"
    intent = suite.intents("fill/first")[0]
    assert (intent.outcome, intent.delivered_ml) == ("in_doubt", None)
    assert suite.pump("pump_media").log[0].counted_ml == approx(60.0)
    assert suite.state.alarms["in-doubt-1"].priority == "high"
    assert suite.state.ledger.get("flask").volume_ml == 0.0, "nothing is booked that is not known"

    suite.faults("scales").silent = False
    await answers(suite, "scales")
    await suite.do("restart")
    await suite.when(lambda: suite.controller.prompts(UNIT), "a person is asked")
    prompt = suite.controller.prompts(UNIT)[0]
    assert (prompt["kind"], prompt["path"]) == ("reconcile", "fill/first")
    assert "media" in prompt["text"]
    assert "flask" in prompt["text"]
    assert len(suite.pump("pump_media").log) == 1

    wrong = await suite.answer(prompt["id"], expect="refused", delivered="900 mL", why="", **{"sign.operator": "x"})
    assert wrong.code == "bad_answer"
    real = suite.pump("pump_media").log[0].moved_ml
    await suite.answer(prompt["id"], delivered=f"{real:.1f} mL", why="weighed", **{"sign.operator": "operator 7"})
    await suite.until("fill/first", "complete")
    closed = suite.events("intent_closed", path="fill/first")
    assert [(e.outcome, e.by) for e in closed] == [("in_doubt", "device"), ("done", "person")]
    assert suite.state.ledger.get("flask").volume_ml == approx(real, abs=0.1)
    assert "in-doubt-1" not in suite.state.alarms
    assert [run.sequence for run in suite.pump("pump_media").log] == [1], "never commanded again"
    await suite.until_state("complete")


async def test_a_person_says_that_less_went_over_and_the_rest_is_a_new_intent(suite: Story) -> None:
    suite.hands.mine = {"reconcile"}
    await in_the_first_dose(suite, 20.0)
    suite.faults("scales").silent = True
    await suite.do("hold")
    assert suite.intents("fill/first")[0].outcome == "in_doubt"
    assert suite.state.alarms["in-doubt-1"].priority == "high", "nobody restarts it without knowing"
    real = suite.pump("pump_media").log[0].moved_ml
    assert real < 50.0
    suite.faults("scales").silent = False
    await answers(suite, "scales")
    await suite.do("restart")
    await suite.when(lambda: suite.controller.prompts(UNIT), "a person is asked")
    await suite.answer("first", delivered=f"{real:.1f} mL", why="weighed", **{"sign.operator": "operator 7"})
    await suite.until("fill/first", "complete")
    assert [i.outcome for i in suite.intents("fill/first")] == ["partial", "done"]
    assert sum(run.moved_ml for run in suite.pump("pump_media").log) == approx(60.0, abs=3.0)


async def test_a_pump_that_falls_silent_in_a_dose(suite: Story) -> None:
    suite.announced = {"protective_write_failed"}
    suite.check_safe = False
    await in_the_first_dose(suite, 10.0)
    suite.faults("pump_media").silent = True
    await suite.until_state("held")
    assert suite.intents("fill/first")[0].outcome == "in_doubt"
    assert suite.state.alarms["not-safe-pump_media"].priority == "critical"
    assert "in-doubt-1" in suite.state.alarms, "whoever is called sees that a dose is in doubt"
    assert suite.node("fill/first").status == "in_doubt"
    suite.faults("pump_media").silent = False
    await answers(suite, "pump_media")
    await suite.do("restart")
    await suite.until_state("complete")
    assert [i.outcome for i in suite.intents("fill/first")] == ["partial", "done"], "as the person found: not all of it"
    assert suite.intents("fill/first")[0].delivered_ml < 40.0, "it was not fed, and stopped by itself"
    log = suite.pump("pump_media").log
    assert [run.sequence for run in log] == [1, 2, 3]
    assert sum(run.moved_ml for run in log[:2]) == approx(60.0, abs=3.0)


async def test_a_silent_pump_is_given_up_long_before_its_dose_would_be_over(suite: Story) -> None:
    suite.announced = {"protective_write_failed"}
    suite.check_safe = suite.check_ledger = False
    await in_the_first_dose(suite, 10.0, first="450 mL")
    began = suite.loop.time()
    suite.faults("pump_media").silent = True
    await suite.until_state("held")
    assert suite.loop.time() - began < 75.0
    pump = suite.pump("pump_media")
    assert (pump.suction, pump.delivery) == (0, 0), "what cannot be stopped is pinched off"
    assert suite.plant.place(1).contents.volume < 150.0


async def test_a_pump_that_loses_power_in_a_dose(suite: Story) -> None:
    await in_the_first_dose(suite, 20.0)
    with suite.plant.change() as t:
        suite.pump("pump_media").power_cycle(t)
        suite.plant.fluidics.refresh()
    await suite.until("fill/first", "complete")
    # The first dose lost its count: the scales closed it, the review is told, and the rest was a new intent.
    intents = suite.intents("fill/first")
    assert [(i.outcome, i.counted_ml is None) for i in intents] == [("partial", True), ("done", False)]
    log = suite.pump("pump_media").log
    assert sum(run.moved_ml for run in log[:2]) == approx(60.0, abs=3.0)
    assert intents[0].delivered_ml == approx(log[0].moved_ml, abs=1.5)
    (raised,) = suite.events("exception_raised", path="fill/first")
    assert raised.code == "evidence"
    assert "closed by mass alone" in raised.text
    assert "the pump was restarted: boot 1, now 2" in raised.text


async def test_the_totaliser_rolls_over_in_a_dose(suite: Story) -> None:
    suite.plant.pumps["pump_media"].counts = 2**32 - 2000  # 20 mL before its end
    await in_the_first_dose(suite, 30.0)
    await suite.until("fill/first", "complete")
    intent = suite.intents("fill/first")[0]
    assert intent.outcome == "done"
    assert intent.counted_ml == approx(60.0, abs=0.01)
    await suite.until_state("complete")


async def test_an_incubator_that_does_not_take_its_target(suite: Story) -> None:
    await answers(suite, "incubator")
    suite.faults("incubator").refuse = 0
    await suite.start("still")
    await suite.until("stay/one", "acting")
    await suite.do("hold")
    suite.faults("incubator").refuse = 4
    await suite.do("restart")
    assert suite.runner.state == "held", "the environment comes first"
    assert "station." in suite.state.alarms["restart-failed"].text
    suite.faults("incubator").refuse = 0
    await answers(suite, "incubator")
    await suite.do("restart")
    assert suite.runner.state == "running"
    assert "restart-failed" not in suite.state.alarms
