"""Relays that the host watchdog of their module has opened: they stay open until an order closes them again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from devices.clock import Clock
from devices.equipment.base import Parts
from devices.equipment.spec import build, planned
from devices.instrument import CommandRefused, Instrument, NotApplied, Priority
from devices.kept import Kept
from simulators.fittings import HOST_LOST_S, module
from tests.engine.labs import Lab, dosed, filled, in_lab, started
from tilctl.cli.commissioning.watchdog import WatchdogFailed, silent
from tilctl.cli.simulated import site_for
from tilctl.config import load_site

DOSE = {"sequence": 4, "rate": 100.0, "volume": 50.0}


def part(at: Lab, equipment: str, name: str) -> Instrument:
    """Return the driver of a part."""
    whole: Any = at.suite.instruments[equipment]
    return whole.parts[name]


def heard_of(at: Lab, device: str) -> list[tuple[str, float, bool]]:
    """Return what a module hears from now on: command, channel, value."""
    heard: list[tuple[str, float, bool]] = []
    at.plant.devices[device].heard.append(
        lambda command, args: heard.append((command, args["channel"], bool(args.get("value"))))
    )
    return heard


async def lost(at: Lab, device: str) -> None:
    """Let a module that has heard its host lose it."""
    at.plant.devices[device].read_bytes(2, 0, 6)
    await at.clock.sleep(HOST_LOST_S + 1.0)
    assert at.plant.devices[device].read_bytes(1, 0x1020, 6) == bytes((0, 1)) * 6


def test_a_relay_that_was_opened_by_its_watchdog_is_cleared_by_the_next_dose_only(tmp_path: Path):
    async def work(at: Lab) -> None:
        filled(at, 7, 500.0), filled(at, 1, 0.0)
        pump, module_ = at.suite.instruments["pump_media"], at.plant.devices["enables"]
        await at.suite.instruments["valves_media"].command("select", {"suction": 7, "delivery": 1})
        await lost(at, "enables")
        heard = heard_of(at, "enables")
        await pump.read_all()
        await pump.command("stop", {}, Priority.STOP)
        assert heard == [("set_output", 0, False)]  # neither a look nor a stop clears anything
        assert module_.reads("safe_0") is True
        await pump.command("dispense", DOSE)
        assert heard[1:] == [("set_output", 0, False), ("clear_safe", 0, False), ("set_output", 0, True)]
        assert [module_.reads(f"safe_{n}") for n in (0, 1)] == [False, True]  # and no other relay
        assert at.plant.pumps["pump_media"].run is not None

    in_lab(tmp_path, "lab-watlow", work)


def test_the_simulated_module_does_not_close_what_was_not_released(tmp_path: Path):
    """Else no rehearsal would show that a safe status was left standing."""

    async def work(at: Lab) -> None:
        enables = part(at, "pump_media", "enables")
        await lost(at, "enables")
        with pytest.raises(NotApplied):
            await enables.command("set_output", {"channel": 0, "value": 1})
        await enables.command("clear_safe", {"channel": 0})
        assert at.plant.devices["enables"].reads("do_0") is False
        await enables.command("set_output", {"channel": 0, "value": 1})

    in_lab(tmp_path, "lab-watlow", work)


def test_a_module_of_which_nothing_shows_that_it_noticed_is_no_barrier():
    site = load_site(site_for("lab-watlow"))
    spec, profiles = site.equipment["pump_media"], dict(site.profiles)
    clock = cast("Clock", None)  # on paper nothing waits
    kept = Kept(clock)
    assert build("pump_media", spec, Parts(planned(profiles), clock), kept)
    profiles["enables"] = replace(profiles["enables"], silence=None)
    with pytest.raises(ValueError, match=r"enables .*nothing shows that it has noticed that its host is gone"):
        build("pump_media", spec, Parts(planned(profiles), clock), kept)


def test_a_relay_that_was_not_opened_by_its_watchdog_is_not_cleared(tmp_path: Path):
    async def work(at: Lab) -> None:
        heard = heard_of(at, "enables")
        await dosed(at)
        assert heard == [("set_output", 0, True)]

    in_lab(tmp_path, "lab-watlow", work)


def test_a_dose_that_its_watchdog_ended_does_not_go_on_when_the_host_is_back(tmp_path: Path):
    async def work(at: Lab) -> None:
        pump: Any = at.suite.instruments["pump_media"]
        await dosed(at, 400.0)
        await at.clock.sleep(HOST_LOST_S + 1.0)
        at.plant.time()
        assert at.plant.pumps["pump_media"].run is None
        for _ in range(5):
            await pump.read_all()
            await at.clock.sleep(1.0)
        assert at.plant.devices["enables"].reads("do_0") is False
        assert at.plant.devices["enables"].reads("safe_0") is True
        assert at.suite.image.get("enables.safe_0").value is True  # and it is seen

    in_lab(tmp_path, "lab-watlow", work)


def test_a_relay_that_closes_when_its_safe_status_is_cleared_is_opened_and_no_dose_begins(tmp_path: Path):
    async def work(at: Lab) -> None:
        filled(at, 7, 500.0)
        await lost(at, "enables")
        device = at.plant.devices["enables"]

        def comes_back(command: str, _args: Any) -> None:
            if command == "clear_safe":
                device.bend("do_0", lambda _: True)

        device.heard.append(comes_back)
        heard = heard_of(at, "enables")
        with pytest.raises(CommandRefused, match="output 0 of enables was not closed"):
            await at.suite.instruments["pump_media"].command("dispense", DOSE)
        assert ("set_output", 0, True) not in heard
        assert heard[2] == ("set_output", 0, False)
        assert at.plant.pumps["pump_media"].run is None

    in_lab(tmp_path, "lab-watlow", work)


def test_a_relay_whose_safe_status_is_not_known_is_not_closed(tmp_path: Path):
    async def work(at: Lab) -> None:
        filled(at, 7, 500.0)
        heard = heard_of(at, "enables")
        enables = part(at, "pump_media", "enables")
        read = enables.read

        async def without(block: str, priority: Priority = Priority.DATA) -> Any:
            if block == "safe":
                at.fault("enables").refuse = 2
            try:
                return await read(block, priority)
            finally:
                at.fault("enables").refuse = 0

        enables.read = without  # type: ignore[method-assign]
        with pytest.raises(CommandRefused, match="was not closed"):
            await at.suite.instruments["pump_media"].command("dispense", DOSE)
        assert ("set_output", 0, True) not in heard

    in_lab(tmp_path, "lab-watlow", work)


def test_a_contact_freezer_is_started_through_a_module_that_had_lost_its_host(tmp_path: Path):
    async def work(at: Lab) -> None:
        await lost(at, "freezer_io")
        await started(at)
        assert at.plant.freezer.running
        await lost(at, "freezer_io")
        await at.suite.instruments["freezer"].command("abort", {}, Priority.STOP)
        assert at.plant.freezer.state == "aborted"

    in_lab(tmp_path, "lab-eurotherm", work)


def test_the_only_barrier_of_a_pump_that_does_not_count_is_proven_by_silence(tmp_path: Path):
    async def work(at: Lab) -> None:
        enables = part(at, "pump_media", "enables")
        told = await silent(enables, at.clock)
        assert "asked nothing for 11 s" in told
        assert "its safe status alone shows it" in told
        with pytest.raises(WatchdogFailed, match=r"safe_0 = True.* before it was tried"):
            await silent(enables, at.clock)
        for channel in range(6):
            await enables.command("clear_safe", {"channel": channel})
        await enables.command("set_output", {"channel": 1, "value": 1})
        heard = heard_of(at, "enables")
        assert "do_1 opened" in await silent(enables, at.clock)
        assert heard == []  # it is tried by silence, and by nothing else

    in_lab(tmp_path, "lab-watlow", work)


def test_a_module_whose_watchdog_is_not_enabled_fails_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "HOST_LOST_S", 60.0)

    async def work(at: Lab) -> None:
        enables = part(at, "pump_media", "enables")
        await enables.command("set_output", {"channel": 2, "value": 1})
        with pytest.raises(WatchdogFailed, match=r"shows safe_0 = False.*do_2 = True: see that its host watchdog"):
            await silent(enables, at.clock)

    in_lab(tmp_path, "lab-watlow", work)
