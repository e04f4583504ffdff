"""How real instruments are reached, what they do by themselves, what is never written, what their codes mean.

Copied by hand from what makers and public drivers say, as in `test_real_profiles`; nothing is looked up in a profile.
What no source says stands as None: nobody may fill it in.
"""

from __future__ import annotations

import pytest

from devices.profile import load_profile, profile_ids
from devices.profile_types import Storage

# kinds, least gap in ms, TCP (port, unit), RTU (baud, format, unit), most registers of one read
Wire = tuple[tuple[str, ...], int, tuple[int, int] | None, tuple[int, str, int] | None, int]
WIRES: dict[str, Wire] = {
    "eurotherm-epc3016": (("tcp", "rtu"), 100, (502, 1), (9600, "8N1", 1), 125),
    "eurotherm-3216p": (("rtu",), 100, None, (9600, "8N1", 1), 32),
    "watlow-f4t": (("tcp",), 0, (502, 1), None, 125),
    "hamilton-visiferm-do": (("rtu",), 0, None, (19200, "8N2", 1), 125),
    "hamilton-ph-arc": (("rtu",), 0, None, (19200, "8N2", 1), 125),
    "vaisala-gmp251": (("rtu",), 0, None, (19200, "8N2", 240), 125),
    "alicat-mc": (("rtu",), 0, None, None, 125),
    "voegtlin-redy": (("rtu",), 4, None, (9600, "8N2", 1), 32),
    "leadfluid-bt100s": (("rtu",), 0, None, None, 125),
    "longer-l100": (("rtu",), 0, None, (9600, "8N1", 1), 16),
    "laumas-tlb": (("rtu",), 0, None, None, 32),
    "moxa-e1214": (("tcp",), 0, (502, 1), None, 125),
    "waveshare-relay-8ch": (("rtu",), 0, None, (9600, "8N1", 1), 8),
}

# when nobody talks to it (unknown: no source says), the command that makes it safe, what a power cut leaves
FAILSAFES: dict[str, tuple[str, str | None, dict[str, str]]] = {
    "watlow-f4t": ("unknown", "standby", {}),
    "hamilton-visiferm-do": ("unknown", None, {}),
    "hamilton-ph-arc": ("unknown", None, {}),
    "vaisala-gmp251": ("unknown", None, {"compensation": "defaults"}),
    "alicat-mc": ("unknown", "valve_hold_closed", {"setpoint": "lost"}),
    "voegtlin-redy": ("unknown", None, {}),
    "leadfluid-bt100s": ("keeps_running", "stop", {}),
    "longer-l100": ("keeps_running", "stop", {}),
    "laumas-tlb": ("unknown", None, {}),
    "waveshare-relay-8ch": ("unknown", None, {}),
}

DENIED: dict[str, list[tuple[int, int]]] = {
    "watlow-f4t": [(6730, 6730), (14080, 14080), (14664, 14674), (18606, 18606), (18888, 65535)],
    "hamilton-visiferm-do": [(4095, 4095), (4287, 4290), (5157, 5325), (8191, 8192)],
    "hamilton-ph-arc": [(4095, 4095), (4287, 4290), (5157, 5325), (8191, 8192)],
    "vaisala-gmp251": [(0x0200, 0x0207), (0x0304, 0x0309)],
    "alicat-mc": [(20, 21), (38, 39), (44, 45)],
    "voegtlin-redy": [(0x0013, 0x0013)],
    "leadfluid-bt100s": [(3107, 3108)],
    "longer-l100": [],
    "laumas-tlb": [(5, 5), (18, 65535)],
    "waveshare-relay-8ch": [],
}

_WATLOW_MODES = {10: "auto", 54: "manual", 62: "off"}
_TURNS = {0: "clockwise", 1: "counterclockwise"}
SYMBOLS: dict[str, dict[str, dict[int, str]]] = {
    "watlow-f4t": {
        "control_mode": _WATLOW_MODES,
        "mode_request": _WATLOW_MODES,
        "program_mode": {149: "run", 146: "hold", 1783: "timed_start"},
    },
    "hamilton-visiferm-do": {
        "oxygen_unit": {0x10: "vol_percent", 0x20: "sat_percent", 0x40: "ug_per_litre", 0x80: "mg_per_litre",
                        0x800000: "millibar"},
        "temperature_unit": {0x2: "kelvin", 0x4: "celsius", 0x8: "fahrenheit"},
    },
    "hamilton-ph-arc": {
        "ph_unit": {0x1000: "ph", 0x200000: "millivolt"},
        "temperature_unit": {0x2: "kelvin", 0x4: "celsius", 0x8: "fahrenheit"},
    },
    "voegtlin-redy": {
        "control": {0: "automatic", 1: "digital", 2: "analogue", 10: "valve", 20: "zero", 21: "full", 22: "closed"}
    },
    "leadfluid-bt100s": {
        "direction": _TURNS,
        "control": {0: "internal", 1: "external", 2: "foot", 3: "logic", 4: "logic_2"},
    },
}  # fmt: skip

_HAMILTON = {0: "temperature_outside_measuring", 1: "temperature_outside_operating", 2: "calibration_flagged"}
BITS: dict[str, dict[str, dict[int, str]]] = {
    "hamilton-visiferm-do": {
        "oxygen_status": {**_HAMILTON, 3: "oxygen_warning", 4: "oxygen_error"},
        "temperature_status": {3: "temperature_warning", 4: "temperature_error"},
    },
    "hamilton-ph-arc": {
        "ph_status": {**_HAMILTON, 3: "ph_warning", 4: "ph_error"},
        "temperature_status": {3: "temperature_warning", 4: "temperature_error"},
        "calibration_warnings": {0: "calibration_recommended", 1: "calibration_failed"},
        "measurement_errors": {5: "glass_resistance_high", 6: "glass_resistance_low", 7: "reference_resistance_high",
                               8: "reference_resistance_low",
                               15: "auxiliary_electrode_15", 16: "auxiliary_electrode_16",
                               17: "auxiliary_electrode_17", 18: "auxiliary_electrode_18",
                               25: "temperature_sensor_defective"},
        "calibration_errors": {1: "quality_below_15_percent"},
        "hardware_errors": {24: "internal_communication"},
    },
    "vaisala-gmp251": {
        "device_status": {0: "critical_error", 1: "device_error", 2: "device_warning"},
        "co2_status": {1: "not_reliable", 8: "not_ready"},
        "error_code": {12: "out_of_range", 13: "heater_error", 17: "voltage_1v7_error"},
    },
    "alicat-mc": {
        "status": {0: "temperature_over", 1: "temperature_under", 2: "volumetric_over", 3: "volumetric_under",
                   4: "mass_over", 5: "mass_under", 6: "pressure_over", 7: "totaliser_over", 8: "loop_hold",
                   9: "adc_error", 10: "exhaust", 11: "opl", 12: "tmf",
                   13: "measurement_aborted"},
    },
    "longer-l100": {"control": {0: "running", 4: "reversed"}},
}  # fmt: skip


@pytest.mark.parametrize("profile", WIRES)
def test_an_instrument_is_reached_as_its_maker_delivers_it(profile: str):
    loaded = load_profile(profile)
    made = loaded.factory
    tcp = (made.port, made.tcp_unit) if made and made.port else None
    rtu = (made.baud, made.format, made.rtu_unit) if made and made.baud else None
    assert (loaded.kinds, round(loaded.gap_s * 1000), tcp, rtu, loaded.max_read) == WIRES[profile]


@pytest.mark.parametrize("profile", FAILSAFES)
def test_what_it_does_by_itself_is_as_its_maker_says(profile: str):
    loaded = load_profile(profile)
    assert (loaded.on_comm_loss, loaded.safe_command, dict(loaded.after_power_loss)) == FAILSAFES[profile]


@pytest.mark.parametrize("profile", DENIED)
def test_what_nothing_may_write_is_denied_and_no_more(profile: str):
    assert [(deny.first, deny.last) for deny in load_profile(profile).deny] == DENIED[profile]


@pytest.mark.parametrize("profile", DENIED)
def test_codes_mean_what_the_maker_says(profile: str):
    points = load_profile(profile).points
    found = {name: dict(point.symbols) for name, point in points.items() if point.symbols}
    assert found == SYMBOLS.get(profile, {})
    assert {name: dict(point.bits) for name, point in points.items() if point.bits} == BITS.get(profile, {})


def test_no_real_instrument_is_left_out():
    real = {name for name in profile_ids() if load_profile(name).evidence != "simulated"}
    modbus = {name for name in real if load_profile(name).kinds != ("mqtt",)}
    assert {*WIRES} == modbus
    elsewhere = {"eurotherm-epc3016", "eurotherm-3216p", "moxa-e1214"}  # with their watchdogs and programmes
    assert {*DENIED} == {*FAILSAFES} == modbus - elsewhere


# what a site has to say of its one unit: settings that its power loses, points whose right value it alone knows
GIVEN: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "vaisala-gmp251": (("set_pressure_compensation", "set_temperature_compensation"), set()),
    "alicat-mc": ((), {"gas"}),
    "voegtlin-redy": ((), {"flow_unit", "full_scale"}),
    "laumas-tlb": ((), {"division_code"}),
}


@pytest.mark.parametrize("profile", DENIED)
def test_what_only_a_site_can_know_is_asked_of_it(profile: str):
    loaded = load_profile(profile)
    assert (loaded.on_connect, {*loaded.at_commissioning}) == GIVEN.get(profile, ((), set()))


def test_a_budget_of_writes_names_no_life_that_no_source_gives():
    watlow = load_profile("watlow-f4t").commands
    assert watlow["set_temperature"].storage == Storage(per_day=100, life=None)
    assert watlow["program_run"].after_s == {"program_reset": 2.0}, "the public library waits 0.5 to 2 s"


def test_the_result_register_of_an_alicat_proves_nothing_alone():
    commands = load_profile("alicat-mc").commands
    for name, held in (("valve_hold_closed", True), ("valve_release", False)):
        assert ("loop_hold", (held,)) in [(check.point, check.among) for check in commands[name].verify.checks]
    assert commands["reset_total"].verify.reason
