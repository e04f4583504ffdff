"""`control`: the oxygen of a rocked bag is kept by bounded moves, in every state, by readings that are known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import pytest_asyncio
from rocking import Rocking
from story import UNIT, told

from simulators.faults.injector import Injector
from simulators.faults.model import Fault
from tilctl.engine.state import parse_time

EVERY = timedelta(minutes=5)
HOUR = 3600.0


@pytest_asyncio.fixture
async def suite(tmp_path: Path) -> AsyncIterator[Rocking]:
    async with told(Rocking(tmp_path)) as story:
        yield story


async def kept(suite: Rocking, cells: float, **parameters: str) -> None:
    """Start, and have cells in the bag once its oxygen is kept."""
    await suite.start("kept", **parameters)
    await suite.until("keep/rest", "acting")
    suite.seed(cells)


def moves(suite: Rocking) -> list[tuple[str, float]]:
    return [(event.tag, event.value) for event in suite.events("control_moved")]


def oxygen(suite: Rocking) -> float:
    value = suite.plant.devices["incubator"].reads("oxygen")
    assert isinstance(value, float)
    return value


async def test_the_first_output_goes_up_first_and_the_last_comes_down_first(suite: Rocking) -> None:
    await kept(suite, 1.3e10)
    targets = suite.state.targets
    assert (targets["station.rocking"], targets["station.gas_oxygen"]) == ((6.0, "rpm"), (21.0, "%")), "from the bottom"
    await suite.pass_time(4 * HOUR)
    made = moves(suite)
    top = made.index(("station.rocking", 15.0))
    assert made[: top + 1] == [("station.rocking", float(rpm)) for rpm in range(7, 16)]
    assert {tag for tag, _ in made[top + 1 :]} <= {"station.gas_oxygen"}
    assert oxygen(suite) == pytest.approx(40.0, abs=9.0)
    times = [parse_time(record.t) for record in suite.records() if record.event.kind == "control_moved"]
    assert all(later - earlier >= EVERY for earlier, later in pairwise(times))
    suite.seed(0.1e10)
    await suite.pass_time(5 * HOUR)
    assert suite.state.targets["station.gas_oxygen"][0] == 21.0
    down = moves(suite)[len(made) :]
    first_rpm = next(number for number, (tag, _) in enumerate(down) if tag == "station.rocking")
    assert all(tag == "station.rocking" for tag, _ in down[first_rpm:])
    status = suite.controller.status(UNIT)["controls"]["station.oxygen"]
    assert (status["at"], status["by"]) == (40.0, ["station.rocking", "station.gas_oxygen"])
    assert not suite.state.alarms


async def test_it_goes_on_while_held_and_stopped_for_hold_is_not_off(suite: Rocking) -> None:
    await kept(suite, 0.8e10)
    await suite.do("hold")
    await suite.until_state("held")
    await suite.pass_time(HOUR)
    held = len(moves(suite))
    assert held >= 5
    assert "target-lost-station.rocking" not in suite.state.book.active
    assert not suite.events("alarm_raised", alarm="target-lost-station.rocking"), "its own moves are not lost targets"
    await suite.do("stop")
    await suite.until_state("stopped")
    await suite.pass_time(HOUR)
    assert len(moves(suite)) > held
    assert oxygen(suite) > 25.0


async def test_a_reading_that_is_not_known_moves_nothing(suite: Rocking) -> None:
    await kept(suite, 0.8e10)
    await suite.pass_time(0.5 * HOUR)
    before = len(moves(suite))
    suite.plant.devices["incubator"].bend("oxygen", lambda _: None)
    await suite.when(lambda: "control-station.oxygen-invalid" in suite.state.alarms, "somebody is told", HOUR)
    await suite.pass_time(HOUR)
    assert len(moves(suite)) <= before + 1
    suite.plant.devices["incubator"].bend("oxygen")
    await suite.when(lambda: "control-station.oxygen-invalid" not in suite.state.alarms, "it is over", HOUR)
    await suite.pass_time(HOUR)
    assert len(moves(suite)) > before + 1


async def test_all_at_the_top_and_still_too_low_is_told(suite: Rocking) -> None:
    await kept(suite, 1.0e10, wanted="80 %")
    suite.seed(2.4e10)
    await suite.when(lambda: "control-station.oxygen-low" in suite.state.alarms, "somebody is told", 6 * HOUR)
    assert suite.state.targets["station.rocking"][0] == 15.0
    assert suite.state.targets["station.gas_oxygen"][0] == 40.0, "the last step ends at the top"
    suite.seed(0.1e10)
    await suite.when(lambda: "control-station.oxygen-low" not in suite.state.alarms, "it is over", 2 * HOUR)


async def test_after_a_crash_it_goes_on_where_it_was(suite: Rocking) -> None:
    await kept(suite, 0.9e10)
    await suite.when(lambda: len(suite.events("control_moved")) == 2, "it has moved", HOUR)
    made = moves(suite)
    suite.kill_at(lambda record: record.event.kind == "control_moved")  # on disk, and not written
    await suite.when(lambda: not suite.alive, "it dies")
    await suite.bury()
    suite.kill_at(None)
    await suite.pass_time(30.0)
    assert suite.rpm == pytest.approx(made[-1][1])
    await suite.boot()
    await suite.pass_time(120.0)
    last = moves(suite)[-1]
    assert last[1] == made[-1][1] + 1.0
    assert suite.rpm == pytest.approx(last[1]), "what stands on the record is set again"
    await suite.pass_time(1800.0)
    if suite.state.state == "held":
        await suite.do("restart")
    await suite.pass_time(1800.0)
    assert len(moves(suite)) > len(made) + 2


async def test_what_it_moves_is_set_again_only_when_it_has_ended(suite: Rocking) -> None:
    await suite.start("kept")
    await suite.until("keep/rest", "acting")
    suite.seed(0.5e10)
    await suite.until_state("complete", within=14 * HOUR)
    assert suite.state.controls == {}
    assert suite.state.targets["station.rocking"][0] == 6.0
    done = len(moves(suite))
    suite.seed(1.0e10)
    await suite.pass_time(HOUR)
    assert len(moves(suite)) == done


async def test_a_move_that_is_not_taken_is_told_and_tried_again(suite: Rocking) -> None:
    await kept(suite, 0.9e10)
    suite.announced |= {"target_not_written"}
    suite.plant.devices["incubator"].deaf = True
    await suite.when(lambda: "control-station.oxygen-output" in suite.state.alarms, "somebody is told", HOUR)
    assert len(moves(suite)) == 1
    suite.plant.devices["incubator"].deaf = False
    await suite.when(lambda: "control-station.oxygen-output" not in suite.state.alarms, "it is over", HOUR)
    assert moves(suite) == [("station.rocking", 7.0)], "the one that failed is written again before the next is made"
    await suite.pass_time(30.0)
    assert suite.rpm >= 7.0


async def test_a_move_that_takes_its_time_is_no_lost_target(tmp_path: Path) -> None:
    story = Rocking(tmp_path)
    story.site_overrides |= {"scan.quiet": "1 s"}
    async with told(story) as suite:
        await kept(suite, 0.9e10)
        await suite.do("hold")
        await suite.until_state("held")
        slow = Fault("incubator", "late", args={"delay": 0.9})
        Injector([suite.plant], suite.servers, suite.plant.clock).apply(slow)
        await suite.when(lambda: len(suite.events("control_moved")) >= 3, "it has moved", HOUR)
        assert not suite.events("alarm_raised", alarm="target-lost-station.rocking")


async def test_what_it_could_not_keep_is_no_alarm_once_nothing_keeps_it(suite: Rocking) -> None:
    await kept(suite, 6e10)
    await suite.when(lambda: LOW in suite.state.alarms, "it is told", within=11 * HOUR)
    await suite.pass_time(12 * HOUR)
    assert not suite.state.controls
    assert LOW not in suite.state.alarms


LOW = "control-station.oxygen-low"
