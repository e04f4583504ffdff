"""A heater that runs away is cut off within one scan, whatever else is dead; its batch waits for a person."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pytest import approx
from story import UNIT, Story, told

from devices.reading import Quality, Reading
from simulators.faults.injector import Injector
from simulators.faults.model import Fault

LIMIT = 39.0  # degC, of the demonstration's site
AS_SHIPPED = "station.temperature > 39 degC"
SCAN = 1.0  # s, as in production


@pytest_asyncio.fixture
async def suite(tmp_path: Path) -> AsyncIterator[Story]:
    """A suite whose climate is scanned each second; there is neither a broker nor a listener for metrics."""
    story = Story(tmp_path)
    story.site_overrides |= {"scan.quiet": f"{SCAN:g} s", "units.cell1.interlocks.too_hot.when": AS_SHIPPED}
    async with told(story):
        yield story


class Seen:
    """When the chamber was first read over its limit, and when its heater was cut off each time (s, virtual)."""

    def __init__(self, suite: Story) -> None:
        self.over: float | None = None
        self.cuts: list[float] = []
        self._suite = suite
        suite.plant.devices["incubator"].heard.append(self._heard)
        suite.controller.suite.image.watch(self._scanned)

    def _heard(self, command: str, _args: Any) -> None:
        if command == "cut_heater":
            self.cuts.append(self._suite.loop.time())

    def _scanned(self, device: str, readings: Any) -> None:
        reading = readings.get("temperature")
        if device == "incubator" and self.over is None and reading is not None and (reading.value or 0.0) > LIMIT:
            self.over = self._suite.loop.time()


def runaway(suite: Story, for_s: float | None = None) -> Injector:
    injector = Injector([suite.plant], suite.servers, suite.plant.clock)
    injector.apply(Fault("incubator", "heater_runaway", for_s=for_s, args={"to": 60.0}))
    return injector


def chamber(suite: Story) -> float:
    return suite.plant.climate.temperature.at(suite.plant.time())


async def cut_off_within_one_scan(suite: Story, seen: Seen) -> None:
    await suite.when(lambda: seen.cuts, "the heater is cut off", within=3600.0)
    assert seen.over is not None
    assert seen.cuts[0] - seen.over < SCAN
    assert chamber(suite) < LIMIT + 0.5, "it was seen in time"
    peak = chamber(suite)
    await suite.pass_time(600.0)
    assert chamber(suite) < peak - 5.0, "the heater is off, though it wants to be on"


async def waiting(suite: Story) -> None:
    await suite.start("still", wait="9 h")
    await suite.until("stay/one", "acting")
    with suite.plant.change() as t:
        suite.plant.climate.temperature.jump(t, 36.0)  # an hour later


async def test_a_runaway_heater_is_cut_off_and_its_batch_held_until_a_person_restarts_it(suite: Story) -> None:
    await waiting(suite)
    seen = Seen(suite)
    injector = runaway(suite)
    await cut_off_within_one_scan(suite, seen)
    await suite.until_state("held")
    assert suite.state.alarms["interlock-too_hot"].priority == "critical"
    assert "station.temperature is 39." in suite.state.held_for
    assert suite.controller.status(UNIT)["targets"]["station.temperature"]["value"] == 36.0, "the target stands"
    cuts = len(seen.cuts)
    await suite.pass_time(3600.0)
    assert len(seen.cuts) == cuts, "below its limit it is left alone"
    injector.close()
    assert chamber(suite) < 25.0, "and nothing switches it on by itself"
    await suite.do("restart")
    assert "interlock-too_hot" not in suite.state.alarms
    await suite.when(lambda: chamber(suite) > 35.5, "it is warm again", within=4 * 3600.0)


async def test_restarted_into_the_same_trouble_it_is_cut_off_again(suite: Story) -> None:
    await waiting(suite)
    seen = Seen(suite)
    runaway(suite)
    await suite.until_state("held")
    outcome = await suite.do("restart")
    assert outcome.text == f"{UNIT} is held", "it is not over yet"
    assert "interlock too_hot is tripped" in suite.state.alarms["restart-failed"].text
    await suite.when(lambda: chamber(suite) < LIMIT - 1.0, "that is over", within=600.0)
    await suite.do("restart")
    cuts = len(seen.cuts)
    await suite.when(lambda: len(seen.cuts) > cuts, "it is cut off again", within=3600.0)
    await suite.until_state("held")
    assert "interlock-too_hot" in suite.state.alarms
    assert chamber(suite) < LIMIT + 0.5


async def hangs(_work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().create_future()


async def refuses(_work: Callable[[], Any]) -> Any:
    raise OSError(5, "Input/output error")


@pytest.mark.parametrize("disk", [hangs, refuses])
@pytest.mark.parametrize("noticed", [True, False])
async def test_with_a_dead_disk_and_nobody_to_tell_it_is_cut_off_within_one_scan(
    suite: Story, monkeypatch: pytest.MonkeyPatch, disk: Any, noticed: bool
) -> None:
    """The disk dies long before, and the batch is held for that; or its first write to fail is that of the trip."""
    suite.announced = {"record_failed", "event_not_on_record", "internal_error"}
    suite.check_ledger = False
    await waiting(suite)
    seen = Seen(suite)
    monkeypatch.setattr(suite.clock, "offload", disk)
    if noticed:
        suite.runner.alarm("test", "low", "something to write")
        await suite.when(lambda: suite.runner.state != "running", "the disk is given up", within=60.0)
    runaway(suite)
    await cut_off_within_one_scan(suite, seen)
    assert suite.runner.state in ("holding", "held")
    monkeypatch.undo()
    suite.clock.disk_full = True


async def test_without_a_batch_and_while_another_life_recovers_it_is_cut_off_too(suite: Story) -> None:
    idle = Seen(suite)
    runaway(suite)
    await cut_off_within_one_scan(suite, idle)
    assert suite.runner_or_none is None
    suite.kill()
    await suite.bury()
    with suite.plant.change() as t:
        suite.plant.climate.set_temperature(t, 36.0)  # a hand at the panel switches it on again
    await suite.pass_time(3600.0)
    assert chamber(suite) > 55.0, "nobody looks"
    began = suite.loop.time()
    await suite.boot()
    await suite.when(lambda: suite.plant.climate.heater_cut, "it is cut off", within=10.0)
    assert suite.loop.time() - began < 10.0


async def test_an_incubator_that_does_not_take_it_is_an_alarm_and_tried_at_each_scan(suite: Story) -> None:
    suite.announced = {"protective_write_failed"}
    await waiting(suite)
    seen = Seen(suite)
    injector = runaway(suite)
    deaf = Fault("incubator", "not_applied")
    injector.apply(deaf)
    await suite.when(lambda: "not-cut-off-too_hot" in suite.state.alarms, "it is told", within=3600.0)
    assert not suite.plant.climate.heater_cut
    assert suite.state.alarms["not-cut-off-too_hot"].priority == "critical"
    injector.end(deaf)
    await suite.when(lambda: "not-cut-off-too_hot" not in suite.state.alarms, "it was taken", within=30.0)
    assert suite.plant.climate.heater_cut
    assert seen.over is not None


async def test_what_cannot_be_read_neither_trips_nor_clears(suite: Story) -> None:
    suite.announced = {"protective_write_failed"}
    await waiting(suite)
    seen = Seen(suite)
    injector = runaway(suite)
    blind = Fault("incubator", "nan", args={"point": "temperature"})
    injector.apply(blind)
    await suite.pass_time(1800.0)
    assert chamber(suite) > LIMIT + 5.0
    assert seen.cuts == []
    injector.end(blind)
    ended = suite.loop.time()
    await suite.when(lambda: seen.cuts, "it is seen", within=10.0)
    assert seen.cuts[0] - ended == approx(SCAN, abs=SCAN)


@pytest.mark.parametrize(
    ("quality", "trips"),
    [(Quality.GOOD, True), (Quality.UNCERTAIN, True), (Quality.STALE, False)],
)
async def test_a_reading_trips_by_its_quality(suite: Story, quality: Quality, trips: bool) -> None:
    """An instrument that stands still goes on answering with what it last knew: that is stale, whatever it says."""
    seen = Seen(suite)
    reading = Reading(LIMIT + 1.0, "degC", quality, suite.clock.monotonic())
    suite.controller.suite.image.put("incubator", {"temperature": reading})
    await suite.pass_time(0.5)
    assert bool(seen.cuts) is trips
