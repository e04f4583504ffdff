"""Three starts that die before recovery is complete: the fourth watches and makes safe, and starts nothing."""

from __future__ import annotations

import asyncio

import pytest
from story import UNIT, Story

from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.journal.verify import read


def site_events(suite: Story, kind: str) -> list[ev.Event]:
    records, verdict = read(suite.folder / "data" / "site.db")
    assert verdict.ok
    return [record.event for record in records if record.event.kind == kind]


async def dead_in_recovery(suite: Story, times: int, *, apart: float = 1.0) -> None:
    """Let the controller die in its recovery so many times, in the moment in which its outage is on record."""
    suite.kill()
    await suite.bury()
    suite.kill_at(lambda record: isinstance(record.event, ev.Outage))
    for _ in range(times):
        await asyncio.sleep(apart)
        await suite.boot()
        assert not suite.alive
    suite.kill_at(None)


async def in_safe_mode(suite: Story, recipe: str = "still") -> None:
    suite.leaves_safe_mode = False
    await suite.start(recipe, **({"wait": "2 h"} if recipe == "still" else {}))
    await (suite.until("stay/one", "acting") if recipe == "still" else suite.until_flowed("pump_media", 10.0))
    await dead_in_recovery(suite, 3)
    await suite.boot()
    assert suite.controller.mode == "safe"


async def test_two_deaths_are_bad_luck(suite: Story) -> None:
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    await dead_in_recovery(suite, 2)
    await suite.boot()
    assert suite.controller.mode == "normal"
    assert suite.runner.state == "running"


async def test_the_fourth_start_after_three_deaths_only_watches(suite: Story) -> None:
    await in_safe_mode(suite)
    status = suite.controller.status(UNIT)
    assert status["mode"] == "safe"
    assert status["mode_reason"] == "3 starts within 10 min died before recovery was complete"
    assert not suite.controller.ready
    await suite.settle()
    assert suite.state.alarms["safe-mode"].priority == "critical"
    began = suite.loop.time()
    reads = suite.plant_suite.scanner.stats["incubator"].scans
    await asyncio.sleep(3 * 3600.0)
    assert suite.loop.time() - began > 7200.0
    assert suite.node("stay/one").status == "acting", "the wait is long over, but no procedure goes on"
    assert suite.plant_suite.scanner.stats["incubator"].scans > reads, "it watches"
    for verb, args in (("restart", {}), ("pause", {}), ("reset", {}), ("start", {"recipe": "still"})):
        outcome = await suite.do(verb, args, expect="refused")
        assert outcome.code == "safe_mode"
        assert "leave-safe-mode" in outcome.text


async def test_safe_mode_writes_nothing_of_its_own(suite: Story) -> None:
    await in_safe_mode(suite)
    suite.plant.devices["incubator"]._handlers["set_temperature"]({"value": 20.0})
    await suite.when(lambda: "target-lost-station.temperature" in suite.state.alarms, "it is noticed")
    assert suite.state.alarms["target-lost-station.temperature"].priority == "critical"
    assert suite.plant.climate.temperature.goal == 20.0, "it alarms, it does not write"
    await suite.do("leave-safe-mode")
    await suite.when(lambda: suite.plant.climate.temperature.goal == 36.0, "it is written when safe mode is left")


@pytest.mark.parametrize(("verb", "state"), [("hold", "held"), ("stop", "stopped"), ("abort", "aborted")])
async def test_making_safe_acts_in_safe_mode(suite: Story, verb: str, state: str) -> None:
    await in_safe_mode(suite, "small")
    assert suite.pump("pump_media").run is not None, "the pump ends its dose by itself"
    await suite.do(verb)
    assert suite.runner.state == state
    assert suite.pump("pump_media").run is None
    suite.check_ledger = False  # what the pump had moved is found out when safe mode is left


async def test_safe_mode_outlives_restarts_until_it_is_left(suite: Story) -> None:
    await in_safe_mode(suite)
    for _ in range(2):
        await suite.power_cut(seconds=3600.0)
        assert suite.controller.mode == "safe"
    assert [event.on for event in site_events(suite, "safe_mode")] == [True]
    outcome = await suite.do("leave-safe-mode")
    assert outcome.status == "done"
    assert suite.controller.mode == "normal"
    assert "safe-mode" not in suite.state.alarms
    assert [(event.on, event.by) for event in site_events(suite, "safe_mode")] == [(True, ""), (False, "test")]
    assert suite.runner.state == "running"
    await suite.power_cut()
    assert suite.controller.mode == "normal"
    assert (await suite.do("leave-safe-mode", expect="already")).status == "already"


async def test_deaths_after_recovery_do_not_count(suite: Story) -> None:
    suite.leaves_safe_mode = False
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    for _ in range(6):
        await suite.power_cut(seconds=1.0)
        assert suite.controller.mode == "normal"


async def test_deaths_far_apart_do_not_count(suite: Story) -> None:
    suite.leaves_safe_mode = False
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    await dead_in_recovery(suite, 3, apart=400.0)
    await suite.boot()
    assert suite.controller.mode == "normal"


async def test_a_death_after_it_was_left_is_one_death(suite: Story) -> None:
    await in_safe_mode(suite)
    suite.kill_at(lambda record: isinstance(record.event, ev.Recovered))
    leaving = suite.spawn(suite.do("leave-safe-mode", expect=None), "hands:leave")
    await asyncio.wait([leaving])
    assert not suite.alive
    suite.kill_at(None)
    await suite.bury()
    await suite.boot()
    assert suite.controller.mode == "normal"
    assert suite.runner.state == "running"


async def test_three_deaths_at_any_record_of_recovery_count(suite: Story) -> None:
    suite.leaves_safe_mode = False
    await suite.start("small")
    await suite.until_flowed("pump_media", 10.0)
    suite.kill()
    for kind in ("outage", "intent_closed", "recovered"):
        await suite.bury()

        def due(record: Record, kind: str = kind) -> bool:
            return record.event.kind == kind

        suite.kill_at(due)
        await suite.boot()
        assert not suite.alive, kind
    suite.kill_at(None)
    await suite.boot()
    assert suite.controller.mode == "safe"
