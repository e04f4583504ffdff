"""How a unit was set up: what a profile leaves to the site, what a silence shows, and what a command requires."""

from __future__ import annotations

from pathlib import Path

import pytest

from devices.instrument import CommandRefused, DeviceState, ReadFailed
from devices.modbus.driver import ModbusDevice
from devices.profile_types import Silence
from simulators.parts import simulated
from simulators.virtual import VirtualClock
from tests.engine.labs import Lab, in_lab
from tests.logic.test_profile_quirks import IDEMPOTENT, profile, refusal, served
from tilctl.cli.profiling.sheet import plain, sheet
from tilctl.cli.simulated import site_for

KEEPS = "failsafe: {on_comm_loss: keeps_running}"
SAFE = ("blocks:\n", "blocks:\n  safe: {fc: 1, addr: 0, count: 2, scan: fast}\n")
BITS = ("safe_0: {block: safe, addr: 0, type: bool", "do_0: {block: safe, addr: 1, type: bool")
POINTS = ("points:\n", "points:\n" + "".join(f"  {bit}, stale_ms: 5000}}\n" for bit in BITS))
STOPS = "failsafe: {on_comm_loss: stops, silence: {within: 10 s, safe: [safe_0], opened: [do_0]}}"


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ((KEEPS, KEEPS.replace("}", ", after_power_loss: {run: configured}}")), "name the point that reads it in"),
        ((KEEPS, STOPS.replace("stops", "keeps_running")), "it does not stop when nobody talks to it"),
        ((KEEPS, STOPS), "safe_0 is neither a bit nor a bool point"),
        ((KEEPS, STOPS.replace("[safe_0]", "[]").replace("[do_0]", "[]")), "nothing shows that it has noticed"),
        ((IDEMPOTENT, f"{IDEMPOTENT}\n    requires: [{{point: mode}}]"), "give either `in` or `not_in`"),
        ((IDEMPOTENT, f"{IDEMPOTENT}\n    requires: [{{point: mode, not_in: [away]}}]"), "mode has no symbol away"),
    ],
)
def test_what_cannot_be_meant_is_found(change: tuple[str, str], finding: str, tmp_path: Path):
    assert finding in refusal(tmp_path, change)


def test_what_shows_a_silence_is_compiled_and_told(tmp_path: Path):
    made = profile(tmp_path, SAFE, POINTS, (KEEPS, STOPS))
    assert made.silence == Silence(10.0, ("safe_0",), ("do_0",))
    assert "within 10 s without a request safe_0 read true, and do_0 false" in plain(sheet(made))


def test_a_command_may_require_that_a_point_is_not_something(tmp_path: Path):
    requires = f"{IDEMPOTENT}\n    requires: [{{point: mode, not_in: [local]}}, {{point: flow, not_in: [99]}}]"
    device = simulated(profile(tmp_path, (IDEMPOTENT, requires)))

    async def work(it: ModbusDevice, _clock: VirtualClock) -> None:
        await it.read_all()
        with pytest.raises(CommandRefused, match="mode is local, it must be anything but local"):
            await it.command("set_flow", {"value": 5.0})
        device.written[3, 24] = 1
        await it.command("set_flow", {"value": 5.0})
        device.bend("health", lambda _: ["broken"])  # what is not known is not right either
        await it.read("status")
        with pytest.raises(CommandRefused, match="flow is not known, it must be anything but 99"):
            await it.command("set_flow", {"value": 6.0})

    served(device, tmp_path, work)


HEATER = "  heater: {profile: eurotherm-epc3016, bus: climate, unit: 1"


def site(folder: Path, expect: str) -> Path:
    text = site_for("lab-eurotherm").read_text("utf-8")
    assert text.count(HEATER) == 1
    path = folder / "site.yaml"
    path.write_text(text.replace(HEATER, HEATER + expect), "utf-8")
    return path


def test_a_unit_that_is_set_up_otherwise_than_the_site_expects_is_a_fault(tmp_path: Path):
    async def work(at: Lab) -> None:
        incubator, heater = at.suite.instruments["incubator"], at.plant.devices["heater"]
        await incubator.read_all()
        assert incubator.status.state is DeviceState.ONLINE
        heater.bend("recovery_strategy", lambda _: 3)
        await at.clock.sleep(3601.0)
        assert (await incubator.read_all())["temperature_target"].value is None
        assert incubator.status.state is DeviceState.FAULT
        assert (
            "recovery_strategy reads 3.0, the site expects 0.0 (what it does after a power cut)"
            in incubator.status.text
        )
        with pytest.raises((CommandRefused, ReadFailed), match="recovery_strategy reads 3"):
            await incubator.command("set_temperature", {"value": 37.0})

    in_lab(tmp_path, "", work, site(tmp_path, ", expect: {recovery_strategy: 0, servo_to: 0}"))
