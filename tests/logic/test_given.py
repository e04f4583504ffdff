"""What only a site knows of its one unit: settings that power loses, values expected; and what no driver ever sends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from devices.document import DocumentError, parse
from devices.given import Given
from devices.instrument import CommandRefused, DeviceState, NotApplied, Priority, ReadFailed
from devices.modbus.bus import ModbusBus
from devices.modbus.driver import ModbusDevice
from devices.profile import compile_profile, load_profile
from devices.profile_types import Deny, Profile
from devices.wear import WriteLedger
from simulators.device import SimDevice
from simulators.memory import memory_links
from simulators.parts import simulated
from simulators.suite import Suite
from simulators.virtual import VirtualClock
from simulators.virtual import run as run_virtually
from tilctl.cli.commissioning.looking import Looked
from tilctl.cli.examining import trust
from tilctl.cli.profiling.sheet import plain, sheet
from tilctl.cli.rehearsing.parts import PartsOracle
from tilctl.cli.rehearsing.violations import Book
from tilctl.config import Site, load_site

PROBE = "vaisala-gmp251"
SETTINGS = {"set_pressure_compensation": 980.0, "set_temperature_compensation": 37.0}
PRESSURE, TEMPERATURE = 0x0208, 0x020A


@dataclass
class Stand:
    """One instrument in memory, in virtual time, and what was written to it."""

    device: SimDevice
    servers: Suite
    bus: ModbusBus
    clock: VirtualClock
    heard: list[tuple[str, float]]

    def driver(self, given: Given, profile: Profile | None = None) -> ModbusDevice:
        return ModbusDevice(
            "it", profile or self.device.profile, self.bus, 1, self.clock, WriteLedger(self.clock), given
        )

    async def reconnected(self) -> None:
        generation = self.bus.generation
        self.servers.servers["bus"].cut()
        while self.bus.generation == generation:
            await self.clock.sleep(0.1)


def told(profile: str, story: Callable[[Stand], Awaitable[Any]], **values: Any) -> Any:
    """Tell a story of one instrument in memory, in virtual time."""
    device = simulated(load_profile(profile), {name: (lambda value=value: value) for name, value in values.items()})

    async def main(clock: VirtualClock) -> Any:
        servers = Suite({"bus": {1: device}}, clock)
        bus = ModbusBus("bus", "", 0, clock, link=memory_links(servers, clock)["bus"])
        heard: list[tuple[str, float]] = []
        device.heard.append(lambda name, args: heard.append((name, *args.values())))
        await bus.open()
        try:
            return await story(Stand(device, servers, bus, clock, heard))
        finally:
            await bus.close()
            await servers.close()

    return run_virtually(main, seed=1, watchdog_s=20.0)


# --- settings that power loses ------------------------------------------------------------------------------------


def test_settings_are_written_once_on_each_connection_and_read_back():
    async def story(stand: Stand) -> None:
        probe = stand.driver(Given(SETTINGS))
        for _ in range(3):
            await probe.read_all()
        assert stand.heard == list(SETTINGS.items())
        readings = await probe.read("compensation")
        assert (readings["pressure_compensation"].value, readings["temperature_compensation"].value) == (980.0, 37.0)
        await stand.reconnected()
        await probe.read_all()
        assert stand.heard == 2 * list(SETTINGS.items())

    told(PROBE, story)


def test_settings_that_got_lost_on_a_standing_connection_are_written_again():
    async def story(stand: Stand) -> None:
        probe = stand.driver(Given(SETTINGS))
        await probe.read_all()
        stand.device.power(on=False)
        stand.device.power(on=True)
        seen = await probe.read("compensation")
        assert seen["pressure_compensation"].value == 980.0, "that of its power-up, 1013, is told by nobody"
        await probe.read_all()
        assert stand.heard == 2 * list(SETTINGS.items())
        await stand.clock.sleep(3700.0)
        await probe.read_all()
        assert stand.heard == 2 * list(SETTINGS.items()), "the hourly check looks, and writes only what does not stand"

    told(PROBE, story)


def test_an_instrument_that_does_not_take_its_settings_is_in_fault():
    async def story(stand: Stand) -> None:
        probe = stand.driver(Given(SETTINGS))
        stand.device.deaf = True
        with pytest.raises(
            ReadFailed, match="not set as the site wants it: set_pressure_compensation was written once"
        ):
            await probe.read("gas")
        assert probe.status.state is DeviceState.FAULT
        with pytest.raises(ReadFailed):
            await probe.read("gas")
        stand.device.deaf = False
        await stand.clock.sleep(60.0)
        assert (await probe.read("gas"))["co2"].value == 5.0
        assert probe.status.state is DeviceState.ONLINE

    told(PROBE, story, co2=5.0)


def test_without_settings_nothing_is_written():
    async def story(stand: Stand) -> None:
        await stand.driver(Given()).read_all()
        assert stand.heard == []

    told(PROBE, story)
    assert [text.split()[0] for text in Given().missing(load_profile(PROBE))] == list(SETTINGS)
    assert Given(SETTINGS).missing(load_profile(PROBE)) == []


TEMPLATE = (Path(__file__).parents[2] / "devices" / "template.yaml").read_text("utf-8")


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("", "on_connect: [set_flux]", "there is no command set_flux"),
        ("storage: {kind: volatile}", "storage: {kind: eeprom, per_day: 9}", "set_flow writes memory that wears"),
        ("idempotent: true                             #", "idempotent: false #", "set_flow is not idempotent"),
        ("verify: {within_ms: 2000, points: [{point: setpoint, arg: value, tolerance: 0.01}]}",
         'verify: {none: "it is not to be seen"}', "set_flow is not read back by points"),
        ("", "on_connect: [stop]", "stop does not take one value alone"),
        ("", "at_commissioning: {gas: it matters}", "there is no point gas"),
        ("", "at_commissioning: {mode: ' '}", "say why mode has to be known"),
        ("    storage: {kind: volatile}", "    after: {begin: 500}", "there is no command begin"),
    ],
)  # fmt: skip
def test_what_would_be_unsafe_to_write_on_each_connection_is_found(old: str, new: str, finding: str):
    text = TEMPLATE.replace(
        "    requires: [{point: mode, in: [remote]}]      # must be read, fresh, before it is sent\n", ""
    )
    asked = "on_connect: [set_flow]" if old else new
    text = text.replace(old, new, 1) if old else text
    with pytest.raises(DocumentError) as found:
        compile_profile(parse(f"{text}\n{asked}\n", "mine.yaml"))
    assert finding in str(found.value)


# --- values known at commissioning --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "point", "right", "wrong"),
    [
        ("alicat-mc", "gas", 4.0, 8),
        ("laumas-tlb", "division_code", 4.0, 5),
        ("voegtlin-redy", "flow_unit", "mL/min", "L/min"),
        ("voegtlin-redy", "full_scale", 500.0, 1000.0),
    ],
)
def test_an_instrument_that_is_not_set_as_at_commissioning_is_in_fault(
    profile: str, point: str, right: Any, wrong: Any
):
    async def story(stand: Stand) -> None:
        driver = stand.driver(Given(expected={point: right}))
        await driver.read_all()
        stand.device.bend(point, lambda _: wrong)
        await stand.clock.sleep(3601.0)
        with pytest.raises(ReadFailed, match=f"{point} reads .*, the site expects {right}"):
            await driver.read_all()
        assert driver.status.state is DeviceState.FAULT

    told(profile, story, **{point: right})


# --- what no driver sends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", [Priority.COMMAND, Priority.STOP])
def test_a_write_to_denied_registers_is_not_sent_whoever_made_the_command(priority: Priority):
    """The compiler would refuse this profile; here it is bypassed."""

    async def story(stand: Stand) -> None:
        profile = replace(stand.device.profile, deny=(Deny(TEMPERATURE + 1, TEMPERATURE + 1, "not this one"),))
        driver = stand.driver(Given(), profile)
        await driver.read_all()
        with pytest.raises(CommandRefused, match=r"denied registers \(523 to 523\): not this one"):
            await driver.command("set_temperature_compensation", {"value": 37.0}, priority)
        assert stand.heard == []
        await driver.command("set_pressure_compensation", {"value": 980.0}, priority)
        with pytest.raises(ReadFailed, match="denied registers"):
            await stand.driver(Given(SETTINGS), profile).read("gas")
        assert [name for name, _ in stand.heard] == 2 * ["set_pressure_compensation"]

    told(PROBE, story)


def test_a_held_valve_is_not_proven_by_the_result_of_an_earlier_command():
    async def story(stand: Stand) -> None:
        driver = stand.driver(Given())
        await driver.command("valve_hold_closed", {})
        await driver.command("valve_release", {})
        stand.device.deaf = True  # acknowledged and discarded; the result register still reads 0
        assert (await driver.read("command"))["command_result"].value == 0.0
        with pytest.raises(NotApplied, match="loop_hold = True"):
            await driver.command("valve_hold_closed", {})

    told("alicat-mc", story)


def test_a_start_waits_for_two_seconds_after_a_terminate():
    async def story(stand: Stand) -> float:
        driver = stand.driver(Given())
        await driver.command("program_reset", {})
        began = stand.clock.monotonic()
        await driver.command("program_run", {})
        return stand.clock.monotonic() - began

    assert told("watlow-f4t", story) >= 2.0


# --- in the site file ---------------------------------------------------------------------------------------------

LAB = Path(__file__).parents[2] / "tilctl" / "cli" / "lab-eurotherm.yaml"


def lab(folder: Path, old: str, new: str) -> Site:
    text = LAB.read_text("utf-8")
    assert old in text
    path = folder / "site.yaml"
    path.write_text(text.replace(old, new, 1), "utf-8")
    return load_site(path)


def test_a_site_gives_settings_and_expectations_with_units(tmp_path: Path):
    flow = "flow_co2: {profile: alicat-mc, bus: gas, unit: 1"
    site = lab(tmp_path, flow, f"{flow}, expect: {{gas: 4}}")
    assert site.devices["co2_probe"].given == Given(
        {"set_pressure_compensation": 1013.0, "set_temperature_compensation": 37.0}
    )
    assert site.devices["flow_co2"].given == Given(expected={"gas": 4.0})
    warned = {finding.check for finding in trust.given(site) if finding.status == "warn"}
    assert "device flow_air" in warned
    assert not {"device co2_probe", "device flow_co2"} & warned


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("1013 mbar", "1013 degC", "1013 degC"),
        ("1013 mbar", "2 bar", "outside 700 to 1500 mbar"),
        ("set_pressure_compensation: 1013 mbar", "set_flow: 3", "no setting of a vaisala-gmp251 is called 'set_flow'"),
        (
            "settings: {",
            "expect: {co2: 5 %}\n    settings: {",
            "no point to expect of a vaisala-gmp251 is called 'co2'",
        ),
        (
            "alicat-mc, bus: gas, unit: 1",
            "alicat-mc, bus: gas, unit: 1, expect: {gas: argon}",
            "gas is a number, not 'argon'",
        ),
    ],
)
def test_what_a_site_gives_wrongly_is_found(old: str, new: str, finding: str, tmp_path: Path):
    with pytest.raises(DocumentError) as found:
        lab(tmp_path, old, new)
    assert finding in str(found.value)


def test_a_check_warns_of_an_instrument_that_runs_on_what_it_has_at_power_up():
    profile = load_profile(PROBE)
    looked = Looked("co2_probe", profile, missing=Given({"set_pressure_compensation": 980.0}).missing(profile))
    warnings = [line for line in looked.lines() if "warning" in line]
    assert len(warnings) == 1
    assert "set_temperature_compensation is not given: it runs on what it has at power-up" in warnings[0]
    assert looked.as_json()["missing"] == looked.missing


def test_a_sheet_tells_what_a_site_has_to_give_and_which_pause_a_command_needs():
    probe, watlow, gas = (plain(sheet(load_profile(name))) for name in (PROBE, "watlow-f4t", "alicat-mc"))
    assert "set_pressure_compensation, with the value that the site gives" in probe
    assert "2 s after program_reset" in watlow
    assert "gas: the flow is right only for the gas" in gas


@pytest.mark.parametrize(("value", "wrong"), [(1013.0, 0), (1014.0, 1)])
def test_a_rehearsal_takes_a_setting_for_right_only_with_the_value_of_the_site(value: float, wrong: int):
    book = Book(1, lambda: 0)

    def judged(*_: object) -> None:
        book.note("alive", "a setting is no batch's")

    never: Any = None
    oracle = PartsOracle(load_site(LAB), book, never, never, judged, judged, judged)
    oracle.hears("co2_probe", "set_pressure_compensation", {"value": value})
    assert [found.invariant for found in book.kept] == wrong * ["inside_limits"]
