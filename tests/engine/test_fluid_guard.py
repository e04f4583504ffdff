"""Liquids that go wrong are stopped on the devices themselves, in every state, whatever else is dead."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from story import HERE, UNIT, Story, told

from devices.reading import Quality, Reading
from simulators.faults.injector import Injector
from simulators.faults.model import Fault
from simulators.physics.contents import Contents, draw, pour
from tilctl.guard.board import Reactions

SCAN = 1.0  # s, as in production; there is neither a broker nor a listener for metrics
RESTING = 20.0  # s
TROUBLE = {"record_failed", "event_not_on_record"}


def scanned(tmp_path: Path, idle: float) -> Story:
    story = Story(tmp_path)
    story.site_overrides |= {"scan.idle": f"{idle:g} s"}
    story.check_ledger = False
    return story


@pytest_asyncio.fixture
async def suite(tmp_path: Path) -> AsyncIterator[Story]:
    """A suite whose scales are read each second while something flows, and seldom else, which takes less time."""
    async with told(scanned(tmp_path, RESTING)) as story:
        yield story


@pytest_asyncio.fixture
async def sharp(tmp_path: Path) -> AsyncIterator[Story]:
    """A suite whose scales are read each second, whatever happens."""
    async with told(scanned(tmp_path, SCAN)) as story:
        yield story


def variant(suite: Story, *changes: tuple[str, str]) -> str:
    """Make a recipe of `small` with other numbers."""
    text = (HERE / "recipes" / "small.yaml").read_text("utf-8")
    for old, new in (("recipe: small", "recipe: other"), *changes):
        assert old in text, old
        text = text.replace(old, new)
    (suite.folder / "other.yaml").write_text(text)
    return "other"


def befalls(suite: Story, where: str, what: str, **args: float) -> None:
    Injector([suite.plant], suite.servers, suite.plant.clock).apply(Fault(where, what, args=args))


def alarms(suite: Story) -> dict[str, str]:
    return {a["alarm"]: a["priority"] for a in suite.controller.status(UNIT)["alarms"] if a["active"]}


def ours(suite: Story) -> set[str]:
    rules = ("overfill", "under", "dry", "occlusion", "leak", "wrong", "delivery", "fluid")
    return {alarm for alarm in alarms(suite) if alarm.partition("-")[0] in rules}


async def tripped(suite: Story, alarm: str, within: float = 900.0) -> None:
    """Wait for an alarm; by then its pumps stand and the valves of their lines are closed, within one scan."""
    await suite.when(lambda: alarm in alarms(suite), alarm, within)
    await suite.when(lambda: all(pump.run is None for pump in suite.plant.pumps.values()), "pumps stand", SCAN)
    await suite.when(
        lambda: all(not pump.suction for pump in suite.plant.pumps.values()), "valves are closed", 2 * SCAN
    )
    assert suite.runner.state in ("holding", "held")


def running(suite: Story, pump: str = "pump_media") -> Any:
    run = suite.pump(pump).log[-1]
    assert run.ended is not None
    return run


async def test_nothing_alarms_in_a_batch_that_goes_well(suite: Story) -> None:
    await suite.start("small", first="200 mL")
    await suite.until_state("complete")
    assert ours(suite) == set()
    assert not suite.events("alarm_raised")


async def test_an_occlusion_is_stopped_and_a_restart_takes_up_the_rest(suite: Story) -> None:
    await suite.start("small", first="200 mL")
    await suite.until_flowed("pump_media", 30.0)
    suite.plant.pumps["pump_media"].blocked = since = suite.plant.time()
    await tripped(suite, "occlusion-media")
    assert running(suite).ended - since < 22.0 + 2 * SCAN
    assert alarms(suite)["occlusion-media"] == "high"
    await suite.until_state("held")
    assert "media does not fall as it counts" in suite.state.held_for
    suite.plant.pumps["pump_media"].blocked = None
    if suite.state.open_intents():
        suite.hands.look()
    await suite.do("restart")
    await suite.until_state("complete")
    assert ours(suite) == set(), "a restart is a person's word"


async def test_it_needs_no_engine_that_reacts(suite: Story) -> None:
    await suite.start("small", first="200 mL")
    await suite.until_flowed("pump_media", 30.0)
    fluids = suite.controller._slots[UNIT].fluids
    assert fluids is not None
    fluids._reactions = Reactions(lambda *_: None, lambda *_: None, lambda *_: None)
    suite.plant.pumps["pump_media"].blocked = since = suite.plant.time()
    await suite.when(lambda: suite.pump("pump_media").run is None, "it stands", 60.0)
    assert running(suite).ended - since < 22.0 + 2 * SCAN
    assert suite.runner.state == "running"


async def test_a_slow_dose_takes_longer_to_judge_and_is_judged(suite: Story) -> None:
    recipe = variant(suite, ("volume: first, rate: 150 mL/min", "volume: first, rate: 5 mL/min"))
    await suite.start(recipe, first="60 mL")
    await suite.until_flowed("pump_media", 30.0)
    assert ours(suite) == set()
    suite.plant.pumps["pump_media"].blocked = since = suite.plant.time()
    suite.plant.pumps["pump_media"].occluded = False
    await tripped(suite, "occlusion-media")
    assert running(suite).ended - since < 150.0


async def test_a_bag_that_is_empty_before_its_time(suite: Story) -> None:
    suite.hands.hang["media"] = 150.0
    await suite.start("small", first="450 mL")
    await tripped(suite, "dry-run-media")
    assert alarms(suite)["dry-run-media"] == "medium"
    assert running(suite).counted_ml - running(suite).moved_ml < 25.0, "5 s of air, and a scan"


@pytest.mark.parametrize("slip", [0.4, -0.4])
async def test_a_pump_that_gives_too_little_or_too_much(suite: Story, slip: float) -> None:
    await suite.start("small", first="400 mL")
    await suite.until_flowed("pump_media", 20.0)
    suite.plant.pumps["pump_media"].slip = slip
    await tripped(suite, "delivery-media")
    assert alarms(suite)["delivery-media"] == "high"


async def test_a_vessel_that_holds_less_than_the_ledger_says_keeps_what_is_to_be_left(suite: Story) -> None:
    recipe = variant(suite, ("leave: 50 mL, rate: 150 mL/min", "leave: 50 mL, rate: 30 mL/min"))
    await suite.start(recipe, first="100 mL", second="100 mL")
    await suite.until("empty/static", "acting")
    with suite.plant.change():
        flask = suite.plant.place(1)
        assert flask is not None
        draw(flask.contents, 18.0, 1.0)
    suite.plant.aside.brought_ml -= 18.0
    await tripped(suite, "under-draw-flask", 3600.0)
    assert alarms(suite)["under-draw-flask"] == "high"
    assert flask.contents.volume > 35.0


async def test_a_stuck_clamp_that_lets_another_bag_flow(suite: Story) -> None:
    await suite.start("small", first="200 mL")
    await suite.until("fill/waste_in", "complete")
    waste = suite.plant.place(16)
    assert waste is not None
    with suite.plant.change():
        pour(Contents(volume=1000.0, mass=1005.0), waste.contents)
    suite.plant.aside.brought_ml += 1000.0
    await suite.when(lambda: suite.pump("pump_media").run is not None, "it turns")
    with suite.plant.change():
        suite.plant.fluidics.select("pump_media", 16, 1)
    await tripped(suite, "wrong-source-media", 60.0)
    assert alarms(suite)["wrong-source-media"] == "critical"
    assert suite.plant.place(7).contents.volume > 1800.0


def pour_by_hand(suite: Story, sequence: int) -> None:
    """A hand at the panel of the pump."""
    with suite.plant.change():
        suite.plant.fluidics.select("pump_media", 7, 1)
        suite.plant.fluidics.start("pump_media", sequence, 60.0, 400.0, suite.plant.time())


async def overfilled(suite: Story) -> None:
    """The flask fills by another way than the recipe's: past its limit of 500 mL."""
    await suite.start("small", first="440 mL")
    await suite.until("fill/between", "complete")
    await suite.do("hold")
    pour_by_hand(suite, 999)


async def test_an_overfill_is_stopped_while_held(sharp: Story) -> None:
    await overfilled(sharp)
    await sharp.when(lambda: "overfill-flask" in alarms(sharp), "overfill", 600.0)
    await sharp.when(lambda: sharp.pump("pump_media").run is None, "it stands", 2 * SCAN)
    assert alarms(sharp)["overfill-flask"] == "critical"
    flask = sharp.plant.place(1)
    assert flask is not None
    assert flask.contents.volume < 490.0 + 4.0
    fluids = sharp.controller._slots[UNIT].fluids
    assert fluids is not None
    assert "flask at p1 holds" in fluids.refuses("pump_media", "dispense"), "nothing begins before a person has looked"
    assert fluids.refuses("pump_media", "stop") == ""
    await sharp.do("restart")  # a person takes it as it is; the recipe fills on
    await sharp.when(lambda: sharp.state.intents_of("fill/second"), "it goes on", 60.0)
    await tripped(sharp, "overfill-flask", 60.0)
    assert flask.contents.volume < 500.0


@pytest.mark.parametrize(("quality", "trips"), [(Quality.UNCERTAIN, True), (Quality.STALE, False)])
async def test_what_is_not_known_does_not_trip(suite: Story, quality: Quality, trips: bool) -> None:
    await suite.start(variant(suite, ("since(day0) >= 1 min", "since(day0) >= 5 h")))
    await suite.until("empty/static", "acting")
    image = suite.plant_suite.image
    await image.next_scan("scales")
    begun, judged = suite.clock.monotonic(), image.before

    def drops(device: str, readings: Mapping[str, Reading]) -> Mapping[str, Reading]:
        """By drops, as no hand does it, up to 600 mL."""
        readings = readings if judged is None else judged(device, readings)
        if device != "scales":
            return readings
        mass = 240.0 + 40.0 * (suite.clock.monotonic() - begun)
        return {**readings, "mass_1": replace(readings["mass_1"], value=mass, quality=quality)}

    image.before = drops
    with suite.plant_suite.scanner.active("scales"):
        await suite.pass_time(13.0)
    assert ("overfill-flask" in alarms(suite)) is trips
    assert (suite.runner.state == "running") is not trips


async def test_what_came_while_nobody_weighed_it_is_no_other_bag(suite: Story) -> None:
    """It was full of what flowed, and the scale said nothing meanwhile: that is an overfill, not a hand."""
    await suite.start(variant(suite, ("since(day0) >= 1 min", "since(day0) >= 5 h")))
    await suite.until("empty/static", "acting")
    image = suite.plant_suite.image
    judged, mass, quality = image.before, 240.0, Quality.GOOD

    def shown(device: str, readings: Mapping[str, Reading]) -> Mapping[str, Reading]:
        readings = readings if judged is None else judged(device, readings)
        if device != "scales":
            return readings
        return {**readings, "mass_1": replace(readings["mass_1"], value=mass, quality=quality)}

    image.before = shown
    with suite.plant_suite.scanner.active("scales"):
        await suite.pass_time(3.0)
        quality = Quality.STALE
        await suite.pass_time(10.0)
        mass, quality = 800.0, Quality.GOOD
        await suite.when(lambda: "overfill-flask" in alarms(suite), "an overfill", within=5.0)
        await suite.until_state("held")
        quality = Quality.STALE
        await suite.pass_time(3.0)
        await suite.do("restart")
        assert "overfill-flask" in alarms(suite), "a person cannot take as it is what nobody weighs"
        fluids = suite.controller._slots[UNIT].fluids
        assert fluids is not None
        assert "flask" in fluids.refuses("pump_media", "dispense")


async def test_an_overfill_is_stopped_with_a_dead_disk_and_again_when_it_goes_on(sharp: Story) -> None:
    sharp.announced |= TROUBLE
    await overfilled(sharp)
    sharp.clock.disk_full = True
    await sharp.when(lambda: "overfill-flask" in alarms(sharp), "overfill", 600.0)
    await sharp.when(lambda: sharp.pump("pump_media").run is None, "it stands", 2 * SCAN)
    assert sharp.runner.batch.journal.failed
    pour_by_hand(sharp, 1000)  # a scan of the pump tells that it turns, and then one of the scales is judged
    await sharp.when(lambda: sharp.pump("pump_media").run is None, "it is off again", 2 * SCAN + 1.0)


async def test_a_leak_is_stopped_while_nothing_is_walked(suite: Story) -> None:
    await suite.start(variant(suite, ("since(day0) >= 1 min", "since(day0) >= 5 h")))
    await suite.until("empty/static", "acting")
    await suite.pass_time(700.0)
    assert ours(suite) == set()
    befalls(suite, "scales", "leak", port=7, rate=4.0)
    began = suite.loop.time()
    await tripped(suite, "leak", 1200.0)
    assert 300.0 + 120.0 <= suite.loop.time() - began <= 330.0 + 120.0 + 2 * RESTING
    assert "sterility deviation" in suite.state.alarms["leak"].text
    await suite.until_state("held")
    await suite.do("restart")
    await suite.when(lambda: "leak" not in suite.state.alarms, "taken by a person", 60.0)
    await tripped(suite, "leak", 1200.0)


async def test_a_pump_that_says_nothing_for_a_moment_hides_no_leak_and_for_long_says_so(suite: Story) -> None:
    await suite.start(variant(suite, ("since(day0) >= 1 min", "since(day0) >= 5 h")))
    await suite.until("empty/static", "acting")
    image = suite.plant_suite.image
    judged, begun = image.before, suite.loop.time()
    for_good = False

    def loses(device: str, readings: Mapping[str, Reading]) -> Mapping[str, Reading]:
        """Lose the word of one pump, at every fifth minute and then for good."""
        readings = readings if judged is None else judged(device, readings)
        if device != "pump_waste" or not (for_good or (suite.loop.time() - begun) % 300.0 < 60.0):
            return readings
        return {**readings, "running": replace(readings["running"], quality=Quality.STALE)}

    image.before = loses
    await suite.pass_time(700.0)
    befalls(suite, "scales", "leak", port=7, rate=4.0)
    await tripped(suite, "leak", 1200.0)
    for_good = True
    await suite.when(lambda: "fluid-pump_waste-invalid" in alarms(suite), "not judged", 600.0)
    assert "whether it turns" in suite.state.alarms["fluid-pump_waste-invalid"].text


async def test_a_scale_that_is_silent_neither_trips_nor_clears_and_says_so(suite: Story) -> None:
    await suite.start(variant(suite, ("since(day0) >= 1 min", "since(day0) >= 5 h")))
    await suite.until("empty/static", "acting")
    suite.announced |= {"scan_failed"}
    suite.faults("scales").silent = True
    began = suite.loop.time()
    await suite.when(lambda: "fluid-scales-invalid" in alarms(suite), "not judged", 120.0)
    assert suite.loop.time() - began < 30.0 + 3 * RESTING
    assert suite.runner.state == "running"
    suite.faults("scales").silent = False
    await suite.when(lambda: "fluid-scales-invalid" not in alarms(suite), "judged again", 300.0)


@pytest.mark.parametrize("port", [1, 7])
async def test_nothing_is_pumped_to_or_from_where_nothing_hangs(suite: Story, port: int) -> None:
    await suite.start("small", first="100 mL", second="200 mL")
    await suite.until("fill/between", "acting")
    taken = suite.plant.place(port)
    assert taken is not None
    suite.bench_of(UNIT).call("take", {"port": port})
    begun = len(suite.pump("pump_media").log)
    await suite.until_state("held", within=7200.0)
    assert len(suite.pump("pump_media").log) == begun, "not a drop"
    assert "put it back" in suite.state.held_for
    with suite.plant.change():
        suite.plant.fluidics.at[port] = taken
    if suite.state.open_intents():
        suite.hands.look()
    await suite.do("restart")
    await suite.until_state("complete")
