"""Excursions injected: seen within their debounce, acted on, over when they are over (`deploy/EXCURSIONS.md`).

Liquids have their stories in `test_fluid_guard.py`, interlocks in `test_interlocks.py`, doses in doubt in
`test_unlucky_doses.py`, restarts and clocks in `test_recovery*.py` and `test_time.py`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from story import HERE, UNIT, Story, told

from simulators.faults.injector import Injector
from simulators.faults.model import Fault
from tilctl.guard.board import INVALID_AFTER

LIBRARY = HERE.parents[1] / "recipes" / "library"
QUIET = 20.0  # s between scans of the climate, while no alarm is pending
SEEN = QUIET + 3.0  # s from the fault to the first scan that sees it, and from the end of a delay to the next


@pytest_asyncio.fixture
async def suite(tmp_path: Path) -> AsyncIterator[Story]:
    story = Story(tmp_path)
    story.site_overrides |= {"scan.quiet": f"{QUIET:g} s"}
    async with told(story):
        yield story


def active(suite: Story, alarm: str) -> bool:
    return any(row["alarm"] == alarm and row["active"] for row in suite.controller.status(UNIT)["alarms"])


async def watched(suite: Story) -> None:
    """Wait in a batch whose guards are those of til-22d over its climate."""
    guards = yaml.safe_load((LIBRARY / "til-22d.yaml").read_text())["guards"]
    climate = [guard | {"source": "P"} for guard in guards if guard["id"] in ("warm", "cold", "co2_low", "co2_high")]
    for guard in climate:
        guard.pop("while", None)
    text = (HERE / "recipes" / "still.yaml").read_text()
    text = text.replace("recipe: still", "recipe: watched").replace("36 degC", "37 degC").replace("6 %", "5 %")
    guarded = yaml.safe_dump(climate, default_flow_style=True, width=9999)
    text = re.sub("procedure:", f"guards: {guarded}procedure:", text)
    (suite.folder / "watched.yaml").write_text(text)
    await suite.start("watched", wait="10 h")
    await suite.until("stay/one", "acting")
    with suite.plant.change() as t:
        suite.plant.climate.temperature.jump(t, 37.0)
        suite.plant.climate.co2.jump(t, 5.0)
    await suite.when(lambda: not any(active(suite, g["id"]) for g in climate), "all is well", 1800.0)
    await suite.pass_time(700.0)  # what leapt in a moment is doubted for ten minutes


def befalls(suite: Story, where: str, what: str, **args: Any) -> Injector:
    injector = Injector([suite.plant], suite.servers, suite.plant.clock)
    injector.apply(Fault(where, what, args=args))
    return injector


@pytest.mark.parametrize(
    ("alarm", "point", "by", "debounce", "state"),
    [
        ("warm", "temperature", 1.5, 60.0, "held"),
        ("cold", "temperature", -1.5, 600.0, "running"),
        ("co2_low", "co2", -1.5, 900.0, "running"),
        ("co2_high", "co2", 1.5, 900.0, "running"),
        ("site-cold_chamber", "temperature", -8.0, 1800.0, "running"),
    ],
)
async def test_the_climate(suite: Story, alarm: str, point: str, by: float, debounce: float, state: str) -> None:
    await watched(suite)
    begun = suite.loop.time()
    injector = befalls(suite, "incubator", "offset", point=point, by=by)
    await suite.pass_time(debounce - 1.0)
    assert not active(suite, alarm), "not before its debounce"
    await suite.when(lambda: active(suite, alarm), alarm, 2 * SEEN)
    assert suite.loop.time() - begun <= debounce + SEEN
    if state != "running":
        await suite.until_state(state, within=10.0)
    assert suite.runner.state == state
    injector.close()
    over = suite.loop.time()
    await suite.when(lambda: not active(suite, alarm), "it is over", 2 * SEEN)
    assert suite.loop.time() - over <= SEEN


@pytest.mark.parametrize(("what", "debounce"), [("stuck", 600.0), ("nan", 0.0), ("sensor_break", 0.0)])
async def test_a_sensor_that_says_nothing_is_told_of_and_neither_fires_nor_clears(
    suite: Story, what: str, debounce: float
) -> None:
    await watched(suite)
    suite.announced |= {"scan_failed"}
    begun = suite.loop.time()
    injector = befalls(suite, "incubator", what, point="temperature")
    await suite.when(lambda: active(suite, "warm-invalid"), "unknown", debounce + INVALID_AFTER + 2 * SEEN)
    assert suite.loop.time() - begun >= debounce + INVALID_AFTER - SEEN
    await suite.when(lambda: active(suite, "device-incubator-failure"), "and its device has failed", 2 * SEEN)
    assert not active(suite, "warm")
    assert suite.runner.state == "running"
    injector.close()
    await suite.when(lambda: not active(suite, "warm-invalid"), "known again", 2 * SEEN)


async def freezing(suite: Story) -> None:
    await suite.start("freezing")
    await suite.when(lambda: suite.plant.freezer.running, "the run is on")
    await suite.pass_time(30.0)


@pytest.mark.parametrize(
    ("alarm", "point", "by", "debounce"),
    [
        ("freezer-ln2_low", "ln2_level", -85.0, 20.0),
        ("freezer-too_cold", "chamber_temperature", -12.0, 20.0),
        ("freezer-too_warm", "chamber_temperature", 12.0, 60.0),
    ],
)
async def test_a_freezing_run_in_trouble_is_alarmed_of_on_its_batch_and_goes_on(
    suite: Story, alarm: str, point: str, by: float, debounce: float
) -> None:
    await freezing(suite)
    begun = suite.loop.time()
    injector = befalls(suite, "freezer", "offset", point=point, by=by)
    await suite.when(lambda: alarm in suite.state.alarms, alarm, debounce + SEEN)
    assert suite.loop.time() - begun >= debounce
    assert suite.state.alarms[alarm].priority == "critical"
    assert suite.state.alarms[alarm].help["action"]
    assert suite.plant.freezer.running, "a run that has started is never stopped"
    injector.close()
    await suite.when(lambda: alarm not in suite.state.alarms, "it is over", SEEN)


async def test_without_enough_ln2_no_run_is_started_and_that_is_said(suite: Story) -> None:
    befalls(suite, "freezer", "offset", point="ln2_level", by=-85.0)
    await suite.start("freezing")
    await suite.until_state("held")
    assert "there is not enough LN2" in suite.state.held_for
    assert not suite.plant.freezer.running
    assert suite.plant.freezer.sequence == 0
