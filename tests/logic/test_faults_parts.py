"""Faults of parts that a lab can buy: each shows what its own profile says, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devices.document import DocumentError
from devices.instrument import DeviceState, NotApplied, ReadFailed
from devices.modbus.driver import CHECK_PERIOD_S
from devices.profile import load_profile, profile_ids
from devices.profile_types import Profile, Setting
from devices.reading import Quality
from simulators.faults import Fault, Injector
from simulators.faults.signs import Sign, another, broken, switched
from tests.engine.labs import Lab, in_lab

BROKEN = {  # (profile, point): the point that says so, what it reads then
    ("eurotherm-epc3016", "temperature"): ("sensor_break", True),
    ("eurotherm-3216p", "temperature"): ("instrument_status", ["sensor_break"]),
    ("hamilton-ph-arc", "ph"): ("ph_status", ["ph_error"]),
    ("hamilton-visiferm-do", "oxygen"): ("oxygen_status", ["oxygen_error"]),
    ("alicat-mc", "flow"): ("status", ["adc_error"]),
    ("vaisala-gmp251", "co2"): ("device_status", ["critical_error"]),
    ("voegtlin-redy", "flow"): ("error", 1),
    ("sim-incubator", "temperature"): ("temperature", None),
}
WEARS = "incubator"  # by its heater, in both labs


def injector(at: Lab) -> Injector:
    return Injector([at.plant], at.servers, at.clock)


def signs(profile: Profile, point: str) -> list[Sign]:
    return broken(profile, profile.points[point], lambda: 7, 11)


@pytest.mark.parametrize(("profile", "point"), BROKEN)
def test_a_break_is_said_as_the_profile_has_it(profile: str, point: str) -> None:
    loaded = load_profile(profile)
    said, reads = BROKEN[profile, point]
    first = signs(loaded, point)[0]
    assert (first.point, first.bend([] if loaded.points[said].bits else 0.0)) == (said, reads)
    if said != point:
        value = signs(loaded, point)[1]
        low, high = loaded.points[point].range or (0.0, 1.0)
        read = value.bend(1.0)
        assert value.point == point
        assert isinstance(read, float)
        assert low <= read <= high


def test_a_whole_number_whose_profile_says_nothing_cannot_show_a_break() -> None:
    assert signs(load_profile("sim-pump"), "sequence") == []


def test_units_and_modes_are_those_that_the_profile_asserts() -> None:
    found: dict[str, dict[str, Any]] = {}
    for name in profile_ids():
        profile = load_profile(name)
        for which in ("unit", "mode"):
            what = switched(profile, which)
            if isinstance(what, Setting):
                found.setdefault(which, {})[name] = what.addr, another(what)
                assert not what.holds(another(what))
            elif what is not None:
                found.setdefault(which, {})[name] = what.point
    assert found["unit"].pop("watlow-f4t")[0] == 6730
    assert found["unit"].pop("hamilton-ph-arc") == "ph_unit"
    assert found["unit"].pop("hamilton-visiferm-do") == "oxygen_unit"
    assert found["mode"].pop("voegtlin-redy") == "control"
    assert "sim-incubator" not in found["unit"] | found["mode"]


def test_memory_that_is_worn_acknowledges_and_keeps_the_old_value(tmp_path: Path) -> None:
    async def work(at: Lab) -> None:
        heater, faults = at.suite.devices["heater"], injector(at)
        await heater.read_all()
        await heater.command("set_temperature", {"value": 30.0})
        assert at.plant.devices["heater"].stores == {"set_temperature": 1}
        fault = Fault(WEARS, "eeprom_worn", time_s=0.0, for_s=600.0, args={"left": 1.0})
        assert faults.apply(fault)
        await heater.command("set_temperature", {"value": 31.0})
        for value in (32.0, 33.0):
            with pytest.raises(NotApplied):
                await heater.command("set_temperature", {"value": value})
        assert (await heater.read_all())["setpoint"].value == 31.0
        assert at.plant.climate.targets["temperature"] == 31.0
        await heater.command("set_remote_timeout", {"value": 60.0})  # volatile: it does not wear
        assert not faults.apply(Fault("pump_media", "eeprom_worn", time_s=0.0)), "its drive has no such memory"
        await at.clock.sleep(601.0)
        await heater.command("set_temperature", {"value": 34.0})
        assert at.plant.devices["heater"].stores == {"set_temperature": 5}

    in_lab(tmp_path, "lab-eurotherm", work)


def test_a_broken_sensor_of_a_part_makes_its_value_bad(tmp_path: Path) -> None:
    async def work(at: Lab) -> None:
        heater, faults = at.suite.devices["heater"], injector(at)
        assert (await heater.read_all())["temperature"].quality is Quality.GOOD
        assert faults.apply(Fault("incubator", "sensor_break", time_s=0.0, for_s=60.0, args={"point": "temperature"}))
        assert faults.apply(Fault("heater", "sensor_break", time_s=0.0, for_s=90.0, args={"point": "temperature"}))
        readings = await heater.read_all()
        assert (readings["sensor_break"].value, readings["temperature"].quality) == (True, Quality.BAD)
        assert readings["temperature"].value is None
        await at.clock.sleep(61.0)
        assert (await heater.read_all())["temperature"].quality is Quality.BAD, "the second is not over"
        await at.clock.sleep(30.0)
        assert (await heater.read_all())["temperature"].quality is Quality.GOOD

    in_lab(tmp_path, "lab-eurotherm", work)


def test_a_unit_that_somebody_switched_is_found_within_the_hour(tmp_path: Path) -> None:
    async def work(at: Lab) -> None:
        heater, faults = at.suite.devices["heater"], injector(at)
        await heater.read_all()
        args = {"target": "unit"}
        assert faults.apply(Fault("incubator", "local_change", time_s=0.0, for_s=CHECK_PERIOD_S + 60.0, args=args))
        assert faults.apply(Fault("heater", "local_change", time_s=0.0, for_s=60.0, args=args))
        await at.clock.sleep(CHECK_PERIOD_S + 1.0)
        with pytest.raises(ReadFailed, match=r"register 6730 reads .* expected 15"):
            await heater.read_all()
        assert heater.status.state is DeviceState.FAULT
        await at.clock.sleep(400.0)
        await heater.read_all()
        assert heater.status.state is DeviceState.ONLINE

    in_lab(tmp_path, "lab-watlow", work)


def test_a_mode_that_somebody_switched_is_found_at_the_drive(tmp_path: Path) -> None:
    async def work(at: Lab) -> None:
        drive, faults = at.suite.devices["drive_media"], injector(at)
        assert faults.apply(Fault("pump_media", "local_change", time_s=0.0, for_s=60.0, args={"target": "mode"}))
        with pytest.raises(ReadFailed, match="register 3002"):
            await drive.read_all()
        assert not faults.apply(Fault("drive_media", "local_change", time_s=0.0, args={"target": "unit"}))

    in_lab(tmp_path, "lab-eurotherm", work)


def test_an_io_module_opens_its_outputs_when_its_watchdog_trips(tmp_path: Path) -> None:
    async def work(at: Lab) -> None:
        module, faults = at.suite.devices["enables"], injector(at)
        await module.command("set_output", {"channel": 1, "value": True})
        assert (await module.read_all())["do_1"].value is True
        assert faults.apply(Fault("enables", "watchdog_trip", time_s=0.0))
        assert (await module.read_all())["do_1"].value is False
        await module.command("set_output", {"channel": 1, "value": True})
        assert not faults.apply(Fault("heater", "watchdog_trip", time_s=0.0)), "the profile knows of none"

    in_lab(tmp_path, "lab-watlow", work)


def test_a_part_has_the_faults_of_any_instrument_and_no_others(tmp_path: Path) -> None:
    async def work(at: Lab) -> None:
        faults = injector(at)
        faults.apply(Fault("co2_probe", "bad_crc", time_s=0.0, for_s=60.0))
        assert at.fault("co2_probe").bad_crc
        assert not at.fault("flow_co2").bad_crc
        for wrong in (Fault("co2_probe", "occlusion", time_s=0.0), Fault("nothing", "silent", time_s=0.0)):
            with pytest.raises(DocumentError):
                faults.apply(wrong)
        faults.close()
        assert not at.fault("co2_probe").bad_crc

    in_lab(tmp_path, "lab-eurotherm", work)
