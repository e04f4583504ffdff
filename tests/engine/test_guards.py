"""Guards over a real batch: they fire after their delay, in every state, and unknown is not false."""

from __future__ import annotations

import asyncio

from pytest import approx
from story import Story


def heat(suite: Story, goal: float) -> None:
    """Let the chamber go its own way, whatever its controller says."""
    with suite.plant.change() as t:
        suite.plant.climate.temperature.aim(t, goal)


def gas(suite: Story, goal: float) -> None:
    with suite.plant.change() as t:
        suite.plant.climate.co2.aim(t, goal)


async def test_a_guard_holds_after_its_delay_and_clears(suite: Story) -> None:
    await suite.start("guarded")
    await suite.until("stay/one", "acting")
    await asyncio.sleep(1200)
    heat(suite, 41.0)
    await suite.when(lambda: suite.plant.climate.temperature.at(suite.plant.time()) > 38.6, "it is too warm")
    crossed = suite.loop.time()
    assert suite.runner.state == "running", "not before its delay"
    await suite.until_state("held")
    assert suite.loop.time() - crossed == approx(180.0, abs=130.0), "three minutes, seen at a scan each minute"
    assert suite.state.alarms["warm"].priority == "high"
    raised = suite.events("alarm_raised", alarm="warm")[0]
    assert raised.values["station.temperature"] > 38.5
    assert [(e.alarm, e.action) for e in suite.events("guard_acted")] == [("warm", "hold")]
    assert "warm: station.temperature > 38.5" in suite.node("stay/one").reason

    heat(suite, 36.0)
    await suite.when(lambda: "warm" not in suite.state.alarms, "it clears")
    assert suite.runner.state == "held", "what is cooler again does not restart by itself"
    await suite.do("restart")
    await suite.until("stay/two", "acting")


async def test_a_guard_acts_again_when_it_is_restarted_into_the_same_trouble(suite: Story) -> None:
    await suite.start("guarded")
    await suite.until("stay/one", "acting")
    heat(suite, 41.0)
    await suite.until_state("held")
    await suite.do("restart")
    heat(suite, 41.0)
    await suite.until_state("held")
    assert [e.alarm for e in suite.events("guard_acted")] == ["warm", "warm"]
    assert len(suite.events("alarm_raised", alarm="warm")) == 1, "it was one alarm all the time"
    await suite.do("restart")
    heat(suite, 15.0)
    await suite.when(lambda: "warm" not in suite.state.alarms, "it cooled down, and the alarm went with it")
    assert suite.runner.state == "running"


async def test_a_guard_whose_alarm_stands_acts_again_in_the_next_life(suite: Story) -> None:
    await suite.start("guarded")
    await suite.until("stay/one", "acting")
    heat(suite, 41.0)
    await suite.until_state("held")
    await suite.do("restart")
    heat(suite, 41.0)
    await suite.until_state("running")
    await suite.until("stay/one", "acting")
    await suite.power_cut(seconds=5)
    heat(suite, 41.0)
    await suite.when(lambda: len(suite.events("guard_acted")) == 2, "it acts again")
    assert suite.runner.state in ("holding", "held")
    assert len(suite.events("alarm_raised", alarm="warm")) == 1, "it was one alarm all the time"


async def test_a_guard_may_stop_also_while_the_batch_is_held(suite: Story) -> None:
    await suite.start("guarded")
    await suite.until("stay/one", "acting")
    await suite.do("hold")
    heat(suite, 60.0)
    await suite.until_state("stopped")
    assert suite.state.alarms["hot"].priority == "critical"
    assert [e.alarm for e in suite.events("guard_acted")] == ["hot"], "warm had nothing to hold any more"
    assert suite.state.result == "stopped"


async def test_a_silent_incubator_neither_fires_nor_clears_and_alarms(suite: Story) -> None:
    await suite.start("guarded")
    await suite.until("stay/one", "acting")
    await asyncio.sleep(600)
    suite.faults("incubator").silent = True
    heat(suite, 41.0)
    await suite.when(lambda: "warm-invalid" in suite.state.alarms, "unknown is an alarm")
    assert suite.state.alarms["warm-invalid"].priority == "medium"
    await asyncio.sleep(1200)
    assert suite.runner.state == "running", "unknown is not warm"
    assert "warm" not in suite.state.alarms
    suite.faults("incubator").silent = False
    await suite.until_state("held")
    assert "warm-invalid" not in suite.state.alarms
    assert "warm" in suite.state.alarms

    suite.faults("incubator").silent = True
    await suite.when(lambda: "warm-invalid" in suite.state.alarms, "unknown again")
    heat(suite, 30.0)
    await asyncio.sleep(3600)
    assert "warm" in suite.state.alarms, "unknown is not cool"
    suite.faults("incubator").silent = False
    await suite.when(lambda: not {"warm", "warm-invalid"} & set(suite.state.alarms), "it is known to be cool")


async def test_a_guard_with_a_span_watches_between_its_marks_only(suite: Story) -> None:
    await suite.start("guarded", wait="10 min")
    await suite.until("stay/before", "acting")
    suite.plant.climate.co2.tau = 1.0
    gas(suite, 15.0)
    await suite.until("stay/one", "acting")
    assert suite.events("alarm_raised", alarm="gassed") == []
    await suite.when(lambda: "gassed" in suite.state.alarms, "watched from its first mark on")
    await suite.until("stay/two", "acting")
    await suite.when(lambda: "gassed" not in suite.state.alarms, "and no longer than to its second")
    await suite.until_state("complete")
    assert len(suite.events("alarm_raised", alarm="gassed")) == 1
    assert suite.events("guard_acted") == []


async def test_a_biological_clock_warns_and_goes_on_while_held(suite: Story) -> None:
    await suite.start("guarded")
    await suite.until("stay/one", "acting")
    began = suite.state.marks["begun"]
    await suite.do("hold")
    await suite.when(lambda: "trial-warn" in suite.state.alarms, "cells do not stop when a batch is held")
    assert (suite.clock.now() - began).total_seconds() == approx(1800.0, abs=61.0)
    await suite.when(lambda: "trial-limit" in suite.state.alarms, "over its limit")
    assert suite.state.alarms["trial-limit"].priority == "high"
    await suite.do("restart")
    await suite.until("stay/two", "acting")
    await suite.when(lambda: not suite.state.alarms, "the clock is stopped by its second mark")


async def test_guards_end_with_the_batch(suite: Story) -> None:
    await suite.start("guarded")
    await suite.until("stay/one", "acting")
    heat(suite, 41.0)
    await suite.until_state("held")
    await suite.do("stop")
    await suite.when(lambda: "warm" not in suite.state.alarms, "cleared", within=300)
    await asyncio.sleep(3600)
    assert len(suite.events("alarm_raised", alarm="warm")) == 1


async def test_a_guard_that_stands_over_a_kill_is_not_announced_again(suite: Story) -> None:
    await suite.start("guarded")
    await suite.until("stay/one", "acting")
    heat(suite, 41.0)
    await suite.until_state("held")
    await suite.power_cut()
    await asyncio.sleep(600)
    assert len(suite.events("alarm_raised", alarm="warm")) == 1
    heat(suite, 36.0)
    await suite.when(lambda: "warm" not in suite.state.alarms, "it clears in the next life")


async def test_a_target_that_was_changed_by_hand_is_put_right(suite: Story) -> None:
    await suite.start("guarded")
    await suite.until("stay/one", "acting")
    await asyncio.sleep(120)
    suite.plant.devices["incubator"].write(16, 0, [0x41C8, 0x0000])  # 25 degC, at the panel
    assert suite.plant.climate.temperature.goal == 25.0
    await suite.when(lambda: suite.plant.climate.temperature.goal == 36.0, "written again", within=1300)
    await suite.settle()
    assert [e.alarm for e in suite.events("alarm_raised")] == ["target-lost-station.temperature"]
    await suite.when(lambda: not suite.state.alarms, "and the alarm goes")
