"""What stands in the instruments in every state: the declared values of a held batch, and the instruments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pytest import approx
from story import UNIT, Story
from test_unlucky_doses import strike

from tilctl.config.interlock import Permissive, Rules
from tilctl.config.site import Safe


def goal(suite: Story) -> float:
    return suite.plant.climate.temperature.goal


async def held_with_a_declared_value(suite: Story, beforehand: Callable[[], None] = lambda: None) -> None:
    suite.kill()
    await suite.bury()
    site = suite._site
    assert site is not None
    unit = site.units[UNIT]
    declared = {**unit.culture_safe, "station.temperature": Safe("value", 33.0)}
    suite._site = replace(site, units={**site.units, UNIT: replace(unit, culture_safe=declared)})
    await suite.boot()
    await suite.start("still", wait="9 h")
    await suite.until("stay/one", "acting")
    assert goal(suite) == approx(36.0)
    beforehand()
    await suite.do("hold")
    await suite.until_state("held")


async def test_a_declared_value_stands_while_the_batch_is_held_and_goes_with_the_restart(suite: Story) -> None:
    await held_with_a_declared_value(suite)
    for _ in range(25):
        await asyncio.sleep(60)
        assert goal(suite) == approx(33.0), "nobody writes the standing target over it"
    assert not suite.state.alarms
    await suite.power_cut(10)
    await asyncio.sleep(120)
    assert (suite.runner.state, goal(suite)) == ("held", approx(33.0)), "nor does a recovery"
    await suite.do("restart")
    await suite.until_state("running")
    assert goal(suite) == approx(36.0)
    await asyncio.sleep(1500)
    assert goal(suite) == approx(36.0)
    assert not suite.events("alarm_raised")


async def test_a_declared_value_that_is_lost_is_written_again(suite: Story) -> None:
    await held_with_a_declared_value(suite)
    strike(suite, "incubator", "local_change", target="temperature", value=30.0)
    assert goal(suite) == approx(30.0)
    await suite.when(lambda: abs(goal(suite) - 33.0) < 0.01, "it is put right")


async def test_an_instrument_that_takes_no_target_is_not_written_to_without_end(suite: Story) -> None:
    """Memory that wears takes a hundred changes a day: an instrument that takes none must not spend them."""

    def tried() -> int:
        return sum(entry["event"] == "target_not_written" for entry in suite.logs.entries)

    await suite.start("still", wait="9 h")
    await suite.until("stay/one", "acting")
    suite.announced.add("target_not_written")
    strike(suite, "incubator", "not_applied", 6 * 3600.0)
    strike(suite, "incubator", "local_change", target="temperature", value=30.0)
    await suite.when(lambda: "target-lost-station.temperature" in suite.state.alarms, "it is told", 1800.0)
    await suite.pass_time(3.0 * 3600.0)
    before = tried()
    await suite.pass_time(2.5 * 3600.0)
    assert 3 <= tried() - before <= 10, "at most four an hour"
    assert goal(suite) == approx(30.0)
    assert "target-lost-station.temperature" in suite.state.alarms
    await suite.when(lambda: abs(goal(suite) - 36.0) < 0.01, "it is tried on and on", 3600.0)
    await suite.when(lambda: not suite.state.alarms, "and is over", 1800.0)


async def test_a_declared_value_that_is_not_taken_is_tried_ever_more_seldom(suite: Story) -> None:
    await held_with_a_declared_value(suite)
    suite.announced.add("protective_write_failed")
    strike(suite, "incubator", "not_applied", 4 * 3600.0)
    strike(suite, "incubator", "local_change", target="temperature", value=30.0)
    await suite.when(lambda: "not-safe-incubator" in suite.state.alarms, "it is told", 1800.0)
    await suite.pass_time(3 * 3600.0)
    assert goal(suite) == approx(30.0)
    await suite.when(lambda: abs(goal(suite) - 33.0) < 0.01, "it is tried on and on", 2 * 3600.0)
    tries = [entry["tries"] for entry in suite.logs.entries if entry["event"] == "protective_write_failed"]
    assert 10 < tries[-1] < 60, "not one each 5 s for four hours"


async def test_a_declared_value_is_left_alone_once_taken_while_another_instrument_is_silent(suite: Story) -> None:
    """What makes safe is sent whatever the budget of a memory that wears: only to whoever did not take it."""
    suite.announced = {"protective_write_failed"}
    suite.check_safe = False
    sent: list[tuple[str, str]] = []

    def beforehand() -> None:
        suite.faults("pump_media").silent = True
        suite.plant_suite.gate.observers.append(lambda act: sent.append((act.device, act.command)))

    await held_with_a_declared_value(suite, beforehand)
    await asyncio.sleep(600)
    assert goal(suite) == approx(33.0)
    assert sent.count(("incubator", "set_temperature")) == 1
    assert sent.count(("valves_media", "close")) == sent.count(("pump_cells", "stop")) == 1
    assert sent.count(("pump_media", "stop")) > 50, "it is stopped as soon as it answers"
    suite.faults("pump_media").silent = False
    await suite.when(lambda: "not-safe-pump_media" not in suite.state.alarms, "it is safe", within=60.0)


async def test_a_declared_value_is_written_whatever_a_permissive_says_of_beginning(suite: Story) -> None:
    def beforehand() -> None:
        reads = {"station.temperature": "incubator.temperature"}
        cool = Permissive("cool", "station.temperature < 10 degC", reads, forbids=(("incubator", "set_temperature"),))
        suite.controller.interlocking.rules.enforce(UNIT, Rules({}, {"cool": cool}))
        assert "cool does not permit it" in suite.plant_suite.gate.barred("incubator", "set_temperature")

    await held_with_a_declared_value(suite, beforehand)
    assert goal(suite) == approx(33.0)


async def test_a_declared_value_that_is_not_taken_is_tried_as_seldom_while_another_is_silent(suite: Story) -> None:
    suite.announced = {"protective_write_failed", "target_not_written"}
    suite.check_safe = False
    sent: list[tuple[str, str]] = []

    def beforehand() -> None:
        suite.faults("pump_media").silent = True
        strike(suite, "incubator", "not_applied", 4 * 3600.0)
        suite.plant_suite.gate.observers.append(lambda act: sent.append((act.device, act.command)))

    await held_with_a_declared_value(suite, beforehand)
    await suite.pass_time(3600.0)
    assert "not-safe-incubator" in suite.state.alarms
    assert sent.count(("incubator", "set_temperature")) <= 30, "not one each 5 s"
    assert sent.count(("pump_media", "stop")) > 300
    suite.faults("pump_media").silent = False
    await suite.when(lambda: "not-safe-pump_media" not in suite.state.alarms, "it is safe", within=60.0)


async def test_what_is_silent_is_tried_soon_whatever_else_is_tried_seldom(suite: Story) -> None:
    suite.announced = {"protective_write_failed"}
    suite.check_safe = False
    await held_with_a_declared_value(suite, lambda: strike(suite, "incubator", "not_applied", 4 * 3600.0))
    await suite.pass_time(3600.0)
    suite.faults("pump_media").silent = True
    await suite.do("hold", expect="already")
    await suite.when(lambda: "not-safe-pump_media" in suite.state.alarms, "it is told", within=60.0)
    suite.faults("pump_media").silent = False
    await suite.when(lambda: "not-safe-pump_media" not in suite.state.alarms, "it is safe", within=30.0)


async def test_an_alarm_that_is_over_before_it_is_on_disk_ends_too(
    suite: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.announced = {"protective_write_failed"}
    suite.check_safe = False
    await suite.start("still", wait="9 h")
    await suite.until("stay/one", "acting")
    await suite.do("hold")
    offload = suite.clock.offload

    async def slow(work: Callable[[], Any]) -> Any:
        await suite.pass_time(7.0)
        return await offload(work)

    monkeypatch.setattr(suite.clock, "offload", slow)
    suite.faults("pump_media").silent = True
    again = asyncio.create_task(suite.do("hold", expect="already"))
    await suite.when(lambda: suite.runner.desk.stands("not-safe-pump_media"), "it is noted", within=30.0)
    suite.faults("pump_media").silent = False
    await again
    await suite.pass_time(60.0)
    monkeypatch.undo()
    await suite.settle()
    assert suite.events("alarm_raised", alarm="not-safe-pump_media")
    assert "not-safe-pump_media" not in suite.state.alarms


async def test_an_instrument_that_is_exchanged_while_the_batch_runs_holds_it(suite: Story) -> None:
    suite.hands.mine = {"media_in"}
    await suite.start("small")
    await suite.until("fill/media_in", "acting")
    await suite.settle()
    known = suite.plant_suite.instruments["pump_media"].serial
    strike(suite, "pump_media", "replaced")
    strike(suite, "bus:fluidics", "cut")
    await suite.until_state("held")
    assert suite.plant_suite.instruments["pump_media"].serial != known
    assert "device-replaced" in suite.state.alarms
    assert not suite.pump("pump_media").log, "nothing was dosed with a pump that nobody knows"
    await suite.do("restart")
    await suite.until_state("running")
    assert "device-replaced" not in suite.state.alarms
    suite.hands.mine = set()
    suite.hands.look()
    await suite.until("fill/second", "complete")
    assert next(e.serial for e in suite.events("device_seen", device="pump_media")) == known
