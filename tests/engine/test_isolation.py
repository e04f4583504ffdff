"""One device, driver or batch that goes wrong harms itself alone: the other cell is scanned in time and goes on."""

from __future__ import annotations

import asyncio
import math
import struct
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cells import CELLS, TwoCells
from story import told

from devices.reading import Quality, Reading
from recipes.expr import Operand, compile
from tilctl.engine.waiting import seconds_until
from tilctl.plant.scanning import READ_WITHIN

LAG = 0.25  # s by which a fault of one batch may delay the scan of another
SICK = "incubator"


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[TwoCells]:
    """Two cells, scanned each second, with a driver of cell1's incubator that may go wrong."""
    story = TwoCells(tmp_path)
    story.site_overrides |= {"scan.quiet": "1 s", "scan.idle": "2 s"}
    story.to_fit = (SICK,)
    async with told(story):
        yield story


def own_devices(cells: TwoCells, unit: str) -> list[str]:
    plant = cells.plant_suite.units[unit]
    return [*plant.devices, "scales" if unit == "cell1" else "scales_2"]


def healthy(cells: TwoCells, devices: list[str]) -> None:
    """These were scanned in time, without one failure, and all that they said is good."""
    stats = cells.plant_suite.scanner.stats
    for device in devices:
        seen = stats[device]
        assert seen.late_worst <= LAG, f"{device} was scanned {seen.late_worst:.3f} s late"
        assert (seen.failures, seen.broken, seen.hung, seen.missed) == (0, 0, 0, 0), f"{device}: {seen}"
        assert seen.scans >= 10, device
    for name, reading in cells.plant_suite.image.all().items():
        if name.partition(".")[0] in devices:
            assert reading.quality is Quality.GOOD, f"{name} is {reading.quality}"


def of(cells: TwoCells, device: str) -> dict[str, Reading]:
    return {n: r for n, r in cells.plant_suite.image.all().items() if n.startswith(f"{device}.")}


def logged(cells: TwoCells, event: str) -> list[Any]:
    return [entry for entry in cells.logs.entries if entry["event"] == event]


def raises(error: BaseException) -> Callable[[TwoCells], Any]:
    def mood_of(cells: TwoCells) -> Any:
        async def read(_block: str) -> Any:
            raise error

        return read

    return mood_of


def says(make: Callable[[float], Any]) -> Callable[[TwoCells], Any]:
    """Answer at once with what `make(now)` gives."""

    def mood_of(cells: TwoCells) -> Any:
        async def read(_block: str) -> Any:
            return make(cells.loop.time())

        return read

    return mood_of


def hangs(_cells: TwoCells) -> Any:
    async def read(_block: str) -> Any:
        await asyncio.get_running_loop().create_future()

    return read


def warm(value: Any, at: float, unit: str = "degC", quality: Quality = Quality.GOOD) -> dict[str, Reading]:
    return {"temperature": Reading(value, unit, quality, at)}


BROKEN: dict[str, Callable[[TwoCells], Any]] = {
    "never returns": hangs,
    "value error": raises(ValueError("no such register")),
    "struct error in decoding": raises(struct.error("unpack requires a buffer of 8 bytes")),
    "cancels itself": raises(asyncio.CancelledError()),
    "a time-out of its own": raises(TimeoutError()),
    "recursion": raises(RecursionError("too deep")),
    "returns nothing": says(lambda _now: None),
    "returns a list": says(lambda _now: [1.0, 2.0]),
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_driver_that_breaks_loses_its_own_device_only(pair: TwoCells, how: str) -> None:
    for unit in CELLS:
        await pair.begin(unit, "still", wait="2 min")
    await pair.until_at("cell2", "stay/one")
    began = pair.loop.time()
    sick = pair.wayward[SICK]
    sick.mood = BROKEN[how](pair)
    await asyncio.sleep(60)
    stats = pair.plant_suite.scanner.stats[SICK]
    assert pair.plant_suite.scanner.dead() == []
    assert {r.quality for r in of(pair, SICK).values()} == {Quality.BAD}, "lost, and it is said"
    assert {r.value for r in of(pair, SICK).values()} == {None}
    counted = stats.hung if how == "never returns" else stats.broken
    assert counted >= (60 / (READ_WITHIN + 1) - 1 if how == "never returns" else 50), "tried again at its own pace"
    assert stats.failures <= 61, "and not faster"
    failed = [entry for entry in logged(pair, "scan_failed") if entry["device"] == SICK]
    assert len(failed) == 1, "said once"
    assert SICK in failed[0]["error"]
    others = [d for unit in CELLS for d in own_devices(pair, unit) if d != SICK]
    healthy(pair, others)
    assert pair.runner_of("cell2").state == "running"

    sick.mood = None
    await asyncio.sleep(READ_WITHIN + 2)
    assert {r.quality for r in of(pair, SICK).values()} == {Quality.GOOD}, "it came back by itself"
    assert [e["device"] for e in logged(pair, "scan_recovered")] == [SICK]
    await pair.until_at("cell2", "stay/two")
    assert pair.loop.time() - began == pytest.approx(120.0, abs=1.0), "cell2 went on to the second"


LYING: dict[str, tuple[Callable[[TwoCells], Any], Quality]] = {
    "not a number": (says(lambda now: warm(math.nan, now)), Quality.BAD),
    "infinite": (says(lambda now: warm(-math.inf, now)), Quality.BAD),
    "in another unit": (says(lambda now: warm(310.1, now, "K")), Quality.BAD),
    "a text": (says(lambda now: warm("warm", now)), Quality.BAD),
    "true": (says(lambda now: warm(value=True, at=now)), Quality.BAD),
    "good without a value": (says(lambda now: warm(None, now)), Quality.BAD),
    "of the future": (says(lambda now: warm(37.0, now + 3600)), Quality.BAD),
    "of no time": (says(lambda now: warm(37.0, math.nan)), Quality.BAD),
    "no reading at all": (says(lambda _now: {"temperature": 37.0}), Quality.BAD),
    "old": (says(lambda _now: warm(37.0, 10.0)), Quality.STALE),
    "of points that it has not": (
        says(lambda now: {"running": Reading(value=True, unit="bool", quality=Quality.GOOD, at=now)}),
        Quality.STALE,
    ),
    "far too many": (
        says(lambda now: {f"p{i}": Reading(1.0, "degC", Quality.GOOD, now) for i in range(10_000)}),
        Quality.STALE,
    ),
    "nothing": (says(lambda _now: {}), Quality.STALE),
}


@pytest.mark.parametrize("how", LYING)
async def test_a_driver_that_lies_spoils_the_quality_of_its_own_device_only(pair: TwoCells, how: str) -> None:
    for unit in CELLS:
        await pair.begin(unit, "guarded", wait="10 min")
    await pair.until_at("cell2", "stay/one")
    mood, expected = LYING[how]
    before = set(pair.plant_suite.image.all())
    pair.wayward[SICK].mood = mood(pair)
    await asyncio.sleep(45)
    reading = pair.plant_suite.image.get(f"{SICK}.temperature")
    assert reading is not None
    assert reading.quality is expected
    assert (reading.value is None) is (expected is Quality.BAD)
    assert pair.plant_suite.image.number(f"{SICK}.temperature") is None, "nobody gets a number out of it"
    assert reading.unit == "degC"
    assert set(pair.plant_suite.image.all()) == before, "nothing new came into the image"
    refused = pair.plant_suite.image.refused.get(SICK, 0)
    if how in ("old", "nothing"):
        assert refused == 0
    else:
        assert refused >= 40
        assert len([e for e in logged(pair, "readings_refused") if e["device"] == SICK]) == 1, "said once"
    healthy(pair, [d for unit in CELLS for d in own_devices(pair, unit) if d != SICK])
    assert "warm-invalid" in pair.of("cell1").alarms, "a guard that cannot be judged alarms, of its own batch"
    assert not pair.of("cell2").alarms
    assert [pair.runner_of(unit).state for unit in CELLS] == ["running", "running"], "unknown is not false"
    pair.wayward[SICK].mood = None
    await asyncio.sleep(15)
    assert "warm-invalid" not in pair.of("cell1").alarms


async def test_a_driver_that_answers_at_once_is_asked_at_its_pace(pair: TwoCells) -> None:
    await pair.begin("cell2", "still", wait="1 min")
    sick = pair.wayward[SICK]
    sick.mood = says(lambda now: warm(37.0, now))(pair)
    before = sick.asked
    await asyncio.sleep(60)
    blocks = len(sick.profile.blocks)
    assert sick.asked - before <= 61 * blocks, "a flood of answers makes no flood of questions"
    healthy(pair, own_devices(pair, "cell2"))


# --- one cell's trouble and the other cell's scan ---------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0.95, 1.5], ids=["late by nearly its time-out", "later than its time-out"])
async def test_a_device_that_is_late_on_every_request_delays_no_other_bus(pair: TwoCells, delay: float) -> None:
    await pair.begin("cell2", "small")
    pair.fail("scales", "delay_s", delay)
    pair.fail(SICK, "delay_s", delay)
    await pair.until_in("cell2", "complete")
    assert pair.plant_suite.scanner.stats["scales"].took_worst >= min(delay, 1.0), "it was late indeed"
    healthy(pair, own_devices(pair, "cell2"))


async def test_making_safe_with_hung_devices_delays_no_scan_of_the_other_cell(pair: TwoCells) -> None:
    pair.announced |= {"protective_write_failed", "record_failed", "target_not_written"}
    for unit in CELLS:
        await pair.begin(unit, "small")
    await pair.until_at("cell1", "fill/first")
    for device in ("pump_media", "pump_cells", "valves_media", "valves_cells", "valves_waste"):
        pair.fail(device, "silent")
    pair.check_safe = pair.check_ledger = False
    began = pair.loop.time()
    await pair.do("hold", expect=None)
    assert pair.loop.time() - began > 3.0, "it took its time"
    assert any(alarm.startswith("not-safe-") for alarm in pair.of("cell1").alarms)
    assert not [a for a in pair.of("cell2").alarms if a.startswith("not-safe-")]
    await pair.until_in("cell2", "complete")
    healthy(pair, own_devices(pair, "cell2"))
    for device in ("pump_media", "pump_cells", "valves_media", "valves_cells", "valves_waste"):
        pair.fail(device, "silent", value=False)
    await pair.when(lambda: not [a for a in pair.of("cell1").alarms if a.startswith("not-safe-")], "safe in the end")


class Names:
    """A scope in which every name is a number, as a cheap lookup would give it."""

    def lookup(self, name: str) -> Operand | None:
        return Operand(name, 1000.0, "s" if name == "day" or name.startswith("since(") else "degC")


def test_the_most_expensive_expression_that_a_recipe_may_hold_takes_a_part_of_the_lag() -> None:
    """It is judged in one go on the loop that all cells share.  CPU time: a busy machine says the same."""
    part = "(since(m) > 9 d or t.a > 50 degC)"
    text = " and ".join([part] * 26)
    assert 900 < len(text) <= 1000, "as long as one may be"
    expression = compile(text)
    began = time.process_time()
    assert seconds_until(expression, Names()) is not None
    once = time.process_time() - began
    assert once < LAG / 2, f"{once * 1000:.0f} ms"


# --- what breaks inside the controller --------------------------------------------------------------------------------


class Fault(Exception):
    """Nobody has thought of this one."""


def broken(*_args: Any, **_kwargs: Any) -> Any:
    raise Fault("broken on purpose")


async def test_a_guard_that_breaks_holds_its_own_batch_and_the_other_guards_go_on(pair: TwoCells) -> None:
    pair.announced.add("watch_failed")
    for unit in CELLS:
        await pair.begin(unit, "guarded", wait="10 min")
    await pair.until_at("cell2", "stay/one")
    board = pair.controller._slots["cell1"]._guard
    assert board is not None
    first, others = board._watches[0], board._watches[1:]
    right, first.condition = first.condition, broken
    await pair.until_in("cell1", "held")
    assert pair.of("cell1").alarms["internal-error-warm"].priority == "critical"
    assert "warm does not work" in pair.waits("cell1")[0], "the reason is told"
    assert len(logged(pair, "watch_failed")) == 1
    assert pair.runner_of("cell2").state == "running"
    assert not pair.of("cell2").alarms
    judged: list[str] = []
    for watch in others:
        watch.condition = lambda watch=watch: judged.append(watch.id)  # None: not known
    await asyncio.sleep(3)
    assert {"hot", "gassed"} <= set(judged), "beside the broken one the others are judged"

    await pair.do("restart")  # a person goes on without it
    await asyncio.sleep(5)
    assert pair.runner_of("cell1").state == "running"
    assert "internal-error-warm" in pair.of("cell1").alarms, "the alarm stays"
    first.condition = right
    await pair.when(lambda: "internal-error-warm" not in pair.of("cell1").alarms, "it works again")
    healthy(pair, own_devices(pair, "cell2"))


@pytest.mark.parametrize("part", ["guard", "targets", "trends"])
async def test_what_breaks_for_one_unit_in_a_scan_disturbs_neither_the_other_nor_the_scan(
    pair: TwoCells, part: str
) -> None:
    pair.announced.add("unit_fault")
    for unit in CELLS:
        await pair.begin(unit, "guarded", wait="5 min")
    await pair.until_at("cell2", "stay/one")
    slot = pair.controller._slots["cell1"]
    if part == "guard":
        slot._guard.scan = broken  # type: ignore[union-attr]
    elif part == "targets":
        slot.runner.standing.keep_targets = broken  # type: ignore[union-attr]
    else:
        slot._history.sample = broken  # type: ignore[union-attr]
    await asyncio.sleep(30)
    assert slot.faults >= 2
    assert [entry["unit"] for entry in logged(pair, "unit_fault")] == ["cell1"], "said once, with the unit"
    if part == "trends":
        assert pair.runner_of("cell1").state == "running", "the outside never steers"
    else:
        assert pair.runner_of("cell1").state == "held"
        assert pair.of("cell1").alarms["internal-error"].priority == "critical"
    assert pair.runner_of("cell2").state == "running"
    assert not pair.of("cell2").alarms
    assert pair.plant_suite.image.watcher_faults == 0
    healthy(pair, [device for unit in CELLS for device in own_devices(pair, unit)])
    del (slot._guard if part == "guard" else slot.runner.standing if part == "targets" else slot._history).__dict__[
        {"guard": "scan", "targets": "keep_targets", "trends": "sample"}[part]
    ]


async def test_who_looks_on_and_breaks_keeps_nobody_else_from_seeing(pair: TwoCells) -> None:
    pair.announced |= {"watcher_failed", "observer_failed", "callback_failed"}
    seen: list[str] = []
    pair.controller.on_scan.insert(0, broken)
    pair.controller.on_record.insert(0, broken)
    pair.controller.on_status.insert(0, broken)
    pair.controller.on_scan.append(lambda readings: seen.append(next(iter(readings)).partition(".")[0]))
    for unit in CELLS:
        await pair.begin(unit, "share", before="10 s", inside="10 s")
    for unit in CELLS:
        await pair.when(lambda unit=unit: pair.of(unit).result == "complete", f"{unit} is complete")
    assert set(own_devices(pair, "cell2")) <= set(seen)
    assert len(logged(pair, "callback_failed")) <= 3, "said once for each"
    healthy(pair, own_devices(pair, "cell2"))


async def test_an_event_that_cannot_be_written_is_counted_and_stops_no_protection(pair: TwoCells) -> None:
    pair.announced.add("event_not_written")
    await pair.begin("cell1", "still")
    await pair.until_at("cell1", "stay/one")
    runner = pair.runner_of("cell1")
    runner.alarm("strange", "high", "a value that is none", {"value": math.nan})
    assert runner.batch.unwritten == 1
    assert runner.batch.record_failed == "", "the record itself is well"
    await pair.do("hold")
    assert pair.of("cell1").state == "held"
    assert "strange" not in pair.of("cell1").alarms
