"""What faults of the wire, of worn memory and of hands at a panel excuse in a rehearsal, and what they do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulators.faults.model import Fault
from simulators.physics.fluid import Dispense
from simulators.physics.thermal import Climate
from simulators.virtual import run as run_virtually
from tests.stack.test_labs import events
from tests.stack.test_rehearse_oracles import books_less
from tests.stack.told import found, told
from tilctl.cli.rehearsing.doses import ENDLESS_ML
from tilctl.cli.rehearsing.guarding import GuardOracle
from tilctl.cli.rehearsing.violations import Book
from tilctl.cli.rehearsing.world import Plan, World
from tilctl.cli.rehearsing.written import Written
from tilctl.cli.simulated import site_for

LONG = 1e6
FILL = "culture/fill/first"
UNSEEN = (
    Fault("pump_media", "watchdog_trip", step=FILL, after_s=8.0),
    Fault("bus:fluidics", "idle_close", time_s=1.0, for_s=LONG, args={"idle": 5.0}),
    Fault("bus:fluidics", "second_client_refused", time_s=1.0, for_s=LONG),
)


def in_world(folder: Path, site: str, work: Callable[[World], Any]) -> Any:
    """Do something in a world that has not begun."""

    async def main(clock: Any) -> Any:
        plan = Plan("shakedown", 1, folder, faults=UNSEEN, site=site_for(site))
        world = World(plan, clock)
        try:
            return work(world)
        finally:
            world.harness.close()

    return run_virtually(main, watchdog_s=30.0)


def befalls(world: World, *faults: Fault) -> None:
    for fault in faults:
        world.harness._inject(fault)  # pyright: ignore[reportPrivateUsage] - as its schedule does


def test_a_controller_lives_with_what_nobody_sees(tmp_path: Path) -> None:
    result = told(tmp_path, *UNSEEN)
    assert (result.violations, result.doubled) == ([], 0)
    assert dict(result.faults) == {"idle_close": 1, "second_client_refused": 1, "watchdog_trip": 1}


def test_what_nobody_sees_excuses_no_wrong_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    books_less(monkeypatch)
    assert "ledger" in found(told(tmp_path, *UNSEEN))


@pytest.mark.parametrize(
    ("fault", "troubled"),
    [
        (UNSEEN[0], False),
        (UNSEEN[1], False),
        (UNSEEN[2], False),
        (Fault("drive_media", "garbage_before", time_s=0.0, for_s=60.0), True),
        (Fault("bus:fluidics", "bad_crc", time_s=0.0, for_s=60.0), True),
        (Fault("pump_media", "local_change", time_s=0.0, for_s=60.0, args={"target": "mode"}), True),
        (Fault("drive_cells", "bad_crc", time_s=0.0, for_s=60.0), False),
        (Fault("bus:gas", "bad_crc", time_s=0.0, for_s=60.0), False),
    ],
)
def test_a_pump_is_out_of_reach_by_faults_of_its_parts_and_their_bus(
    tmp_path: Path, fault: Fault, troubled: bool
) -> None:
    def work(world: World) -> bool:
        befalls(world, fault)
        return world.harness.troubled("pump_media")

    assert in_world(tmp_path, "lab-eurotherm", work) is troubled


def test_what_an_instrument_has_not_is_counted_apart_and_excuses_nothing(tmp_path: Path) -> None:
    def work(world: World) -> tuple[int, dict[str, int], bool]:
        befalls(
            world,
            Fault("incubator", "eeprom_worn", time_s=0.0, for_s=LONG),
            Fault("pump_media", "local_change", time_s=0.0, for_s=LONG, args={"target": "unit"}),
            Fault("valves_media", "watchdog_trip", time_s=0.0),
        )
        return world.harness.not_applicable, dict(world.harness.counts()), world.harness.troubled("pump_media")

    assert in_world(tmp_path, "demo-site", work) == (3, {}, False)


@pytest.mark.parametrize(
    ("what", "args", "blind"),
    [
        ("eeprom_worn", {"left": 0.0}, False),
        ("local_change", {"target": "temperature", "value": 30.0}, False),
        ("local_change", {"target": "unit"}, True),
        ("sensor_break", {"point": "temperature"}, True),
        ("bad_crc", {}, True),
    ],
)
def test_only_what_hides_the_chamber_excuses_its_guards(what: str, args: dict[str, Any], blind: bool) -> None:
    climate, book = Climate(), Book(1, lambda: 7)
    now = [0.0]
    oracle = GuardOracle(climate, book, Written(), lambda: now[0], lambda: now[0], lambda: False)
    oracle._hot = 44.0  # pyright: ignore[reportPrivateUsage] - as the site says
    climate.temperature.jump(0.0, 60.0)
    climate.temperature.aim(0.0, 60.0)
    oracle.befalls(Fault("incubator", what, time_s=0.0, for_s=3600.0, args=args), ["incubator"])
    for _ in range(60):
        oracle._interlock(now[0], 190.0, blind=now[0] < oracle._blind_until)  # pyright: ignore[reportPrivateUsage]
        now[0] += 30.0
    assert bool(book.kept) is not blind


def test_worn_memory_of_the_heater_is_told_and_never_written_to_without_end(tmp_path: Path) -> None:
    worn = Fault("incubator", "eeprom_worn", time_s=9000.0, for_s=3600.0)
    hand = Fault("incubator", "local_change", time_s=9060.0, args={"target": "temperature", "value": 25.0})
    result = told(tmp_path, worn, hand, site=site_for("lab-eurotherm"))
    assert result.violations == []
    assert dict(result.faults) == {"eeprom_worn": 1, "local_change": 1}


@pytest.mark.parametrize(("endless", "died", "more"), [(True, True, 20.0), (True, False, 0.0), (False, True, 0.0)])
def test_a_dead_controller_excuses_what_a_drive_moves_until_it_is_missed(
    tmp_path: Path, endless: bool, died: bool, more: float
) -> None:
    """A drive that bounds no dose runs on until the module that enables it has not been asked for 10 s."""

    def work(world: World) -> float:
        run = Dispense(1, ENDLESS_ML if endless else 100.0, 120.0, 0.0, 7, 1)
        if died:
            world.invariants.doses.dies()
        return world.invariants.doses._orphaned(run)  # pyright: ignore[reportPrivateUsage]

    assert in_world(tmp_path, "lab-watlow", work) == pytest.approx(more)


def test_a_gateway_that_closes_idle_connections_is_nobodys_trouble(tmp_path: Path) -> None:
    """The climate is read each two minutes, the gateway closes after seconds: again and again, and never in the way."""
    idle = Fault("bus:climate", "idle_close", time_s=100.0, for_s=LONG, args={"idle": 5.5})
    result = told(tmp_path, idle)
    assert (result.outcome, result.violations, result.held_s) == ("complete", [], 0.0)
    assert events(tmp_path, "alarm_raised") == []
