"""Alarms of the site and of instruments' profiles: with and without a batch, over restarts, on fresh data only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest_asyncio
from story import UNIT, Story, told

from simulators.faults.injector import Injector
from simulators.faults.model import Fault
from tilctl.guard.alarm import AlarmState
from tilctl.journal import alarms as ev
from tilctl.journal.verify import read

COLD = "site-chilly"


def declared(name: str, **fields: str) -> dict[str, str]:
    return {f"units.cell1.alarms.{name}.{key}": text for key, text in fields.items()}


CHILLY = declared(
    "chilly", when="station.temperature < 30 degC", **{"for": "60 s"}, deadband="0.5 K", priority="high", then="hold",
    unless="station.temperature_target < 30 degC", cause="a fault", action="look",
)  # fmt: skip


@pytest_asyncio.fixture
async def suite(tmp_path: Path) -> AsyncIterator[Story]:
    story = Story(tmp_path)
    story.site_overrides |= CHILLY
    async with told(story):
        yield story


def jump(suite: Story, temperature: float, target: float | None = None) -> None:
    """Bring the chamber to a temperature, and where it stays there."""
    with suite.plant.change() as t:
        if target is not None:
            suite.plant.climate.set_temperature(t, target)
        suite.plant.climate.temperature.jump(t, temperature)


def active(suite: Story, *names: str) -> bool:
    return all(name in alarms(suite) and alarms(suite)[name]["active"] for name in names)


def alarms(suite: Story) -> Mapping[str, Any]:
    return {row["alarm"]: row for row in suite.controller.status(UNIT)["alarms"]}


def site_events(suite: Story, kind: type[Any]) -> list[Any]:
    records, verdict = read(suite.folder / "data" / "site.db")
    assert verdict.ok
    return [record.event for record in records if isinstance(record.event, kind)]


async def heater_fails(suite: Story) -> Injector:
    injector = Injector([suite.plant], suite.servers, suite.plant.clock)
    injector.apply(Fault("incubator", "heater_fault"))
    return injector


async def test_an_idle_unit_is_watched_and_its_alarms_are_on_the_sites_record(suite: Story) -> None:
    injector = await heater_fails(suite)
    await suite.when(lambda: "incubator-heater_fault" in alarms(suite), "the profile's alarm", within=300.0)
    row = alarms(suite)["incubator-heater_fault"]
    assert (row["priority"], row["state"], row["active"]) == ("high", AlarmState.UNACKNOWLEDGED, True)
    assert row["help"]["action"].startswith("move the vessels")
    (raised,) = site_events(suite, ev.AlarmRaised)
    assert (raised.unit, raised.alarm) == (UNIT, "incubator-heater_fault")
    injector.close()
    await suite.when(lambda: alarms(suite)["incubator-heater_fault"]["state"] == "returned", "it is over", 300.0)
    assert (await suite.do("ack", {"alarm": "incubator-heater_fault"}, expect=None)).status == "done"
    assert "incubator-heater_fault" not in alarms(suite)


async def test_by_its_state_the_unit_suppresses_what_is_no_trouble_and_tells_when_it_is(suite: Story) -> None:
    jump(suite, 22.0, target=22.0)
    await suite.pass_time(900.0)
    row = alarms(suite)[COLD]
    assert row["active"], "it goes on underneath"
    assert not row["waiting"]
    assert row["aside"]["suppressed"]["by"] == "design"
    with suite.plant.change() as t:
        suite.plant.climate.set_temperature(t, 37.0)
    await suite.when(lambda: not alarms(suite)[COLD]["aside"], "it is wanted warm", 900.0)
    assert alarms(suite)[COLD]["waiting"]


async def test_what_the_design_lets_go_while_the_disk_is_dead_is_announced(tmp_path: Path) -> None:
    suite = Story(tmp_path)
    suite.site_overrides |= CHILLY | {"scan.idle": "1 s"}
    suite.announced |= {"alarm_not_on_record", "record_failed"}
    async with told(suite):
        jump(suite, 24.0, target=24.0)
        await suite.when(lambda: active(suite, COLD), "cold", within=900.0)
        await suite.settle()
        assert alarms(suite)[COLD]["aside"]
        suite.clock.disk_full = True
        jump(suite, 24.0, target=37.0)
        await suite.pass_time(20.0)
        suite.clock.disk_full = False
        await suite.start("still", wait="10 h")
        await suite.settle()
        assert active(suite, COLD)
        assert not alarms(suite)[COLD]["aside"], "it is to be warm, and is not"


async def test_what_is_active_goes_over_into_the_batch_and_back(tmp_path: Path) -> None:
    suite = Story(tmp_path)
    suite.site_overrides |= declared("damp", when="station.humidity > 1 %", priority="medium", latch="yes")
    async with told(suite):
        await suite.when(lambda: "site-damp" in alarms(suite), "idle", within=300.0)
        await suite.start("still", wait="10 h")
        await suite.until("stay/one", "acting")
        assert "site-damp" in suite.state.alarms
        assert alarms(suite)["site-damp"]["state"] == "unacknowledged"
        assert [event.by for event in site_events(suite, ev.AlarmAcknowledged)] == [f"batch {suite.runner.batch.name}"]
        await suite.do("stop")
        await suite.do("reset")
        await suite.when(lambda: "site-damp" in alarms(suite), "idle again", within=300.0)
        assert [event.alarm for event in site_events(suite, ev.AlarmRaised)] == ["site-damp", "site-damp"]


async def test_it_holds_its_batch_and_clears_with_its_deadband_only(suite: Story) -> None:
    suite.announced |= {"alarm"}
    await suite.start("still", wait="10 h")
    await suite.until("stay/one", "acting")
    jump(suite, 36.0)
    await suite.pass_time(600.0)
    injector = await heater_fails(suite)
    jump(suite, 29.9)
    await suite.until_state("held")
    assert "site-chilly" in suite.state.held_for
    raised = next(event for event in suite.events("alarm_raised") if event.alarm == COLD)
    assert raised.values["station.temperature"] < 30.0
    jump(suite, 30.3)
    await suite.pass_time(70.0)
    assert COLD in suite.state.alarms, "within the deadband it is still cold"
    injector.close()
    jump(suite, 31.0)
    await suite.when(lambda: COLD not in suite.state.alarms, "warm enough", 300.0)


async def test_a_silent_instrument_neither_raises_nor_clears_and_that_is_told(suite: Story) -> None:
    suite.announced |= {"protective_write_failed"}
    jump(suite, 29.0, target=37.0)
    injector = await heater_fails(suite)
    await suite.when(lambda: active(suite, COLD), "cold", 600.0)
    suite.faults("incubator").silent = True
    await suite.when(lambda: active(suite, f"{COLD}-invalid"), "and nobody knows any more", 900.0)
    await suite.settle()
    unknown = [row for row in alarms(suite).values() if row["alarm"].endswith("-invalid")]
    assert len(unknown) > 2
    told = [row["alarm"] for row in unknown if row["waiting"]]
    assert told == ["interlock-too_hot-invalid"], "one silent instrument is announced by the first, and as failed"
    assert alarms(suite)["device-incubator-failure"]["waiting"]
    jump(suite, 37.0)
    await suite.pass_time(1800.0)
    assert alarms(suite)[COLD]["active"], "unknown is not over"
    suite.faults("incubator").silent = False
    injector.close()
    await suite.when(lambda: not alarms(suite)[COLD]["active"], "seen to be warm", 2400.0)


async def test_after_a_restart_nothing_is_announced_anew_and_what_was_said_stands(suite: Story) -> None:
    jump(suite, 29.0, target=37.0)
    injector = await heater_fails(suite)
    await suite.when(lambda: active(suite, COLD, "incubator-heater_fault"), "cold", 600.0)
    assert (await suite.do("ack", {"alarm": COLD}, expect=None)).status == "done"
    args = {"alarm": "incubator-heater_fault", "for_": "20 min", "once": False}
    shelved = await suite.do("shelve", args, reason="known", expect=None)
    assert shelved.status == "done", shelved
    before = len(site_events(suite, ev.AlarmRaised))
    await suite.power_cut(30.0)
    await suite.pass_time(300.0)
    assert alarms(suite)[COLD]["state"] == "acknowledged"
    assert "shelved" in alarms(suite)["incubator-heater_fault"]["aside"]
    assert len(site_events(suite, ev.AlarmRaised)) == before
    await suite.pass_time(1200.0)
    row = alarms(suite)["incubator-heater_fault"]
    assert not row["aside"], "its time is over"
    assert row["waiting"]
    injector.close()


async def test_a_pending_alarm_is_looked_at_as_closely_as_an_acting_output(suite: Story) -> None:
    jump(suite, 36.0, target=36.0)
    await suite.pass_time(300.0)
    injector = await heater_fails(suite)
    jump(suite, 29.0)
    begun = suite.loop.time()
    await suite.when(lambda: active(suite, COLD), "cold", 600.0)
    assert suite.loop.time() - begun < 60.0 + 60.0 + 3.0, "one quiet scan to see it, then at the active pace"
    injector.close()


async def test_a_clock_that_is_set_back_hides_no_alarm_for_longer(tmp_path: Path) -> None:
    suite = Story(tmp_path)
    suite.site_overrides |= CHILLY | {"scan.idle": "1 s"}
    async with told(suite):
        jump(suite, 24.0, target=37.0)
        await heater_fails(suite)
        await suite.when(lambda: active(suite, COLD), "cold", within=900.0)
        await suite.do("shelve", {"alarm": COLD, "for_": "30 min", "once": False}, reason="known")
        suite.step_clock(-30 * 86400.0)
        await suite.pass_time(31 * 60.0)
        assert not alarms(suite)[COLD]["aside"], "its time is over"
        await suite.pass_time(31 * 60.0)
        assert alarms(suite)[COLD]["escalated"] == 1


async def test_who_waits_for_an_answer_waits_no_longer_for_a_clock_that_is_set_back(tmp_path: Path) -> None:
    suite = Story(tmp_path)
    suite.site_overrides |= CHILLY | {"scan.idle": "1 s"}
    async with told(suite):
        jump(suite, 24.0, target=37.0)
        await heater_fails(suite)
        await suite.when(lambda: active(suite, COLD), "cold", within=900.0)
        suite.step_clock(-30 * 86400.0)
        await suite.pass_time(65 * 60.0)
        assert alarms(suite)[COLD]["escalated"] == 2


async def test_what_is_set_aside_is_not_announced_for_a_moment_when_a_batch_takes_it_over(tmp_path: Path) -> None:
    suite = Story(tmp_path)
    suite.site_overrides |= declared("damp", when="station.humidity > 1 %", priority="medium")
    async with told(suite):
        await suite.when(lambda: active(suite, "site-damp"), "idle", within=700.0)
        out = {"alarm": "site-damp", "work_order": "7"}
        await suite.do("out-of-service", out, actor="anna (tech)", reason="it drifts")
        (idle,) = suite.controller.desks(UNIT)
        seen: list[bool] = []
        suite.controller.on_record.append(
            lambda _unit, _record: seen.append(any(alarm.announceable for alarm in idle.book))
        )
        await suite.start("still", wait="10 h")
        await suite.until("stay/one", "acting")
        assert alarms(suite)["site-damp"]["aside"]
        assert seen
        assert not any(seen)
