"""Profiles of real instruments against what their manuals and drivers say, copied here by hand: places, types, frames.

Nothing is looked up in the profiles: a wrong address there is red here.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import pytest

from devices.codec import WordOrder
from devices.document import DocumentError, parse
from devices.frames import ArgumentError, BlockDecoder, command_address, encode_command
from devices.profile import compile_profile, load_profile, profile_ids
from tests.logic import eurotherm_by_hand as eurotherm

# profile -> point -> (function that reads it, wire address, type, word order, unit, scale)
PLACES: dict[str, dict[str, tuple[int, int, str, str, str, float]]] = {
    **eurotherm.PLACES,
    "watlow-f4t": {
        "temperature": (3, 2820, "float32", "CDAB", "degC", 1),
        "setpoint_now": (3, 2810, "float32", "CDAB", "degC", 1),
        "setpoint": (3, 2782, "float32", "CDAB", "degC", 1),
        "setpoint_high": (3, 2776, "float32", "CDAB", "degC", 1),
        "setpoint_low": (3, 2774, "float32", "CDAB", "degC", 1),
        "output": (3, 2808, "float32", "CDAB", "%", 1),
        "mode_request": (3, 2730, "uint16", "CDAB", "symbol", 1),
        "control_mode": (3, 2814, "uint16", "CDAB", "symbol", 1),
        "program_mode": (3, 16568, "uint16", "CDAB", "symbol", 1),
        "program": (3, 16588, "uint16", "CDAB", "", 1),
        "segment": (3, 16590, "uint16", "CDAB", "", 1),
        "alarm_1": (3, 1356, "uint16", "CDAB", "", 1),
        "alarm_6": (3, 1856, "uint16", "CDAB", "", 1),
        "limit_state": (3, 11250, "uint16", "CDAB", "", 1),
        "limit_status": (3, 11264, "uint16", "CDAB", "", 1),
    },
    "hamilton-visiferm-do": {
        "oxygen_unit": (3, 2089, "uint32", "CDAB", "symbol", 1),
        "oxygen": (3, 2091, "float32", "CDAB", "%", 1),
        "oxygen_status": (3, 2093, "bits32", "CDAB", "", 1),
        "temperature_unit": (3, 2409, "uint32", "CDAB", "symbol", 1),
        "temperature": (3, 2411, "float32", "CDAB", "degC", 1),
        "measurement_warnings": (3, 4735, "bits32", "CDAB", "", 1),
        "hardware_errors": (3, 4805, "bits32", "CDAB", "", 1),
    },
    "hamilton-ph-arc": {
        "ph_unit": (3, 2089, "uint32", "CDAB", "symbol", 1),
        "ph": (3, 2091, "float32", "CDAB", "pH", 1),
        "ph_status": (3, 2093, "bits32", "CDAB", "", 1),
        "temperature": (3, 2411, "float32", "CDAB", "degC", 1),
        "calibration_warnings": (3, 4737, "bits32", "CDAB", "", 1),
        "measurement_errors": (3, 4799, "bits32", "CDAB", "", 1),
        "calibration_errors": (3, 4801, "bits32", "CDAB", "", 1),
    },
    "vaisala-gmp251": {
        "co2": (3, 0, "float32", "CDAB", "%", 0.0001),
        "device_status": (3, 2048, "bits16", "CDAB", "", 1),
        "co2_status": (3, 2049, "bits16", "CDAB", "", 1),
        "error_code": (3, 2051, "bits32", "CDAB", "", 1),
        "pressure_compensation": (3, 520, "float32", "CDAB", "mbar", 1),
        "temperature_compensation": (3, 522, "float32", "CDAB", "degC", 1),
    },
    "alicat-mc": {
        "command_result": (3, 999, "uint16", "ABCD", "", 1),
        "setpoint": (3, 1009, "float32", "ABCD", "mL/min", 1),
        "gas": (3, 1199, "uint16", "ABCD", "", 1),
        "status": (3, 1200, "bits32", "ABCD", "", 1),
        "pressure": (3, 1202, "float32", "ABCD", "mbar", 1),
        "temperature": (3, 1204, "float32", "ABCD", "degC", 1),
        "flow_volumetric": (3, 1206, "float32", "ABCD", "mL/min", 1),
        "flow": (3, 1208, "float32", "ABCD", "mL/min", 1),
    },
    "leadfluid-bt100s": {
        "steps_per_turn": (4, 1002, "uint16", "CDAB", "", 1),
        "maker_name": (4, 1018, "string", "BADC", "text", 1),
        "product_name": (4, 1023, "string", "BADC", "text", 1),
        "dispense_mode": (3, 3001, "bool", "CDAB", "bool", 1),
        "time_mode": (3, 3002, "bool", "CDAB", "bool", 1),
        "speed": (3, 3100, "uint16", "CDAB", "rpm", 0.1),
        "direction": (3, 3101, "uint16", "CDAB", "symbol", 1),
        "running": (3, 3102, "bool", "CDAB", "bool", 1),
        "control": (3, 3104, "uint16", "CDAB", "symbol", 1),
        "steps": (3, 3105, "uint32", "CDAB", "", 1),
        "dispense_time": (3, 3109, "uint16", "CDAB", "s", 0.1),
    },
    "laumas-tlb": {
        "status": (3, 6, "uint16", "ABCD", "", 1),
        "gross": (3, 7, "uint32", "ABCD", "g", 1),
        "net": (3, 9, "uint32", "ABCD", "g", 1),
        "peak": (3, 11, "uint32", "ABCD", "g", 1),
        "division_code": (3, 13, "uint16", "ABCD", "", 1),
    },
    "moxa-e1214": {
        "do_0": (1, 0, "bool", "ABCD", "bool", 1),
        "do_5": (1, 5, "bool", "ABCD", "bool", 1),
        "di_0": (2, 0, "bool", "ABCD", "bool", 1),
        "di_5": (2, 5, "bool", "ABCD", "bool", 1),
        "safe_5": (1, 4133, "bool", "ABCD", "bool", 1),
    },
    "longer-l100": {
        "speed": (3, 1, "uint16", "ABCD", "rpm", 0.01),
        "control": (3, 4, "bits16", "ABCD", "", 1),
    },
    "voegtlin-redy": {
        "flow": (3, 0, "float32", "ABCD", "mL/min", 1),
        "temperature": (3, 2, "float32", "ABCD", "degC", 1),
        "total": (3, 4, "float32", "ABCD", "mL", 1),
        "setpoint": (3, 6, "float32", "ABCD", "mL/min", 1),
        "valve": (3, 10, "float32", "ABCD", "%", 1),
        "alarm": (3, 12, "uint16", "ABCD", "", 1),
        "error": (3, 13, "uint16", "ABCD", "", 1),
        "control": (3, 14, "uint16", "ABCD", "symbol", 1),
        "full_scale": (3, 24608, "float32", "ABCD", "mL/min", 1),
        "fluid": (3, 0x6042, "string", "ABCD", "text", 1),
        "flow_unit": (3, 0x6046, "string", "ABCD", "text", 1),
    },
    "waveshare-relay-8ch": {
        "do_0": (1, 0, "bool", "ABCD", "bool", 1),
        "do_7": (1, 7, "bool", "ABCD", "bool", 1),
        "di_7": (2, 7, "bool", "ABCD", "bool", 1),
    },
}


def high_first(value: float) -> tuple[int, int]:
    """Return a float32 as two words, ABCD."""
    high, low = struct.unpack(">2H", struct.pack(">f", value))
    return high, low


def low_first(value: float) -> tuple[int, int]:
    """Return a float32 as two words, CDAB."""
    high, low = high_first(value)
    return low, high


# profile, command, arguments, then the one request: function, wire address, words
FRAMES: list[tuple[str, str, Mapping[str, Any], int, int, tuple[int, ...]]] = [
    *eurotherm.FRAMES,
    ("watlow-f4t", "set_temperature", {"value": 37.0}, 16, 2782, (0x0000, 0x4214)),
    ("watlow-f4t", "standby", {}, 6, 2730, (62,)),
    ("watlow-f4t", "select_program", {"program": 7}, 6, 16558, (7,)),
    ("watlow-f4t", "select_step", {"segment": 2}, 6, 16560, (2,)),
    ("watlow-f4t", "program_run", {}, 6, 16562, (1782,)),
    ("watlow-f4t", "program_resume", {}, 6, 16564, (147,)),
    ("watlow-f4t", "program_hold", {}, 6, 16566, (146,)),
    ("watlow-f4t", "program_reset", {}, 6, 16566, (148,)),
    ("vaisala-gmp251", "set_pressure_compensation", {"value": 1000.0}, 16, 520, low_first(1000.0)),
    ("vaisala-gmp251", "set_temperature_compensation", {"value": 37.0}, 16, 522, (0x0000, 0x4214)),
    ("alicat-mc", "set_flow", {"value": 37.0}, 16, 1009, (0x4214, 0x0000)),
    ("alicat-mc", "valve_hold_closed", {}, 16, 999, (6, 1)),
    ("alicat-mc", "valve_release", {}, 16, 999, (6, 0)),
    ("alicat-mc", "reset_total", {}, 16, 999, (5, 0)),
    ("leadfluid-bt100s", "set_speed", {"value": 12.3}, 6, 3100, (123,)),
    ("leadfluid-bt100s", "set_direction", {"value": "clockwise"}, 6, 3101, (0,)),
    ("leadfluid-bt100s", "set_steps", {"value": 0x0001_86A0}, 16, 3105, (0x86A0, 0x0001)),
    ("leadfluid-bt100s", "dispense_mode", {"value": 1}, 6, 3001, (1,)),
    ("leadfluid-bt100s", "start", {}, 6, 3102, (1,)),
    ("leadfluid-bt100s", "stop", {}, 6, 3102, (0,)),
    ("longer-l100", "set_speed", {"value": 12.34}, 6, 1, (1234,)),
    ("moxa-e1214", "set_output", {"channel": 5, "value": 1}, 5, 5, (1,)),
    ("moxa-e1214", "pulse", {"channel": 2, "value": 1}, 5, 0x0012, (1,)),
    ("moxa-e1214", "clear_safe", {"channel": 5}, 5, 0x1025, (0,)),
    ("voegtlin-redy", "set_flow", {"value": 37.0}, 16, 6, (0x4214, 0x0000)),
    ("waveshare-relay-8ch", "set_output", {"channel": 7, "value": 0}, 5, 7, (0,)),
]  # fmt: skip

# What an instrument must hold for its profile to be true: profile -> {wire address: value}
ASSERTED = {
    "eurotherm-epc3016": {516: 0, 199: 0},  # degrees C; operator mode
    "watlow-f4t": {6730: 15},  # degrees C
    "leadfluid-bt100s": {3002: 0, 3104: 0, 3108: 1},  # no dose by time, internal control, low word first
    "voegtlin-redy": {0x000E: 1},  # set point over Modbus
}

DENIED = [
    ("eurotherm-epc3016", "program_run", 10573, 514),
    ("eurotherm-epc3016", "program_run", 10573, 1060),
    ("eurotherm-epc3016", "set_temperature", 0x8030, 0x8000 + 2 * 519),
    ("eurotherm-epc3016", "set_temperature", 0x8030, 0x8000 + 2 * 1071),
    ("eurotherm-epc3016", "set_temperature", 0x8030, 0x8000 + 2 * 12290 - 1),  # its second word is within
    ("eurotherm-3216p", "set_temperature", 24, 131),
    ("eurotherm-3216p", "set_temperature", 24, 12548),
    ("watlow-f4t", "standby", 2730, 14670),
    ("watlow-f4t", "select_program", 16558, 18890),  # edit: add, delete
    ("watlow-f4t", "select_program", 16558, 19094 + 170),
    ("watlow-f4t", "standby", 2730, 6730),
    ("vaisala-gmp251", "set_pressure_compensation", 0x0208, 0x0200),
    ("vaisala-gmp251", "set_pressure_compensation", 0x0208, 0x0304),
    ("leadfluid-bt100s", "set_speed", 3100, 3107),
]


def request(profile: str, name: str, args: Mapping[str, Any]) -> tuple[int, int, tuple[int, ...]]:
    """Return function, address and words of the one request of a command."""
    command = load_profile(profile).commands[name]
    return command.fc, command_address(command, args), tuple(encode_command(command, args))


def text_of(profile: str) -> str:
    return (files("devices") / "profiles" / f"{profile}.yaml").read_text("utf-8")


@pytest.mark.parametrize("profile", PLACES)
def test_points_stand_where_the_maker_says(profile: str):
    loaded = load_profile(profile)
    for name, place in PLACES[profile].items():
        point = loaded.points[name]
        block = loaded.blocks[point.block]
        found = (block.fc, point.addr, str(point.type), str(point.order), point.unit, point.scale)
        assert found == place, name


@pytest.mark.parametrize("row", FRAMES, ids=lambda row: f"{row[0]}-{row[1]}")
def test_commands_are_the_requests_that_the_maker_describes(row: Any):
    profile, name, args, fc, addr, words = row
    assert request(profile, name, args) == (fc, addr, words)


def test_every_command_has_a_request_written_here():
    kept = {("longer-l100", "start"), ("longer-l100", "stop")}  # below
    also = {("eurotherm-3216p", f"program_{word}") for word in ("run", "hold", "reset")} | {
        ("eurotherm-epc3016", "leave_standby"),
        ("eurotherm-epc3016", "acknowledge"),
        ("watlow-f4t", "leave_standby"),
    }
    written = {(row[0], row[1]) for row in FRAMES} | kept | also
    assert written == {(profile, name) for profile in PLACES for name in load_profile(profile).commands}


@pytest.mark.parametrize(
    ("profile", "name", "fc", "addr", "word"),
    [
        ("eurotherm-3216p", "program_run", 6, 23, 1),
        ("eurotherm-3216p", "program_hold", 6, 23, 2),
        ("eurotherm-3216p", "program_reset", 6, 23, 0),
        ("eurotherm-epc3016", "leave_standby", 6, 1085, 0),
        ("eurotherm-epc3016", "acknowledge", 6, 274, 1),
        ("watlow-f4t", "leave_standby", 6, 2730, 10),
    ],
)
def test_short_commands(profile: str, name: str, fc: int, addr: int, word: int):
    command = load_profile(profile).commands[name]
    assert (command.fc, command.addr, encode_command(command, {})) == (fc, addr, [word])


@pytest.mark.parametrize(("name", "word"), [("start", 0x0011), ("stop", 0x0010)])
def test_the_longer_keeps_its_direction(name: str, word: int):
    command = load_profile("longer-l100").commands[name]
    assert (command.fc, command.addr) == (6, 4)
    assert encode_command(command, {}, {"control": 0xFFFF}) == [word]
    assert encode_command(command, {}, {"control": 0x0001}) == [word & 1]


def test_every_modbus_profile_of_a_real_instrument_stands_here():
    real = {name for name in profile_ids() if load_profile(name).evidence != "simulated"}
    assert {name for name in real if load_profile(name).kinds != ("mqtt",)} == {*PLACES}


@pytest.mark.parametrize("profile", PLACES)
def test_limits_read_backs_and_what_is_open_are_told(profile: str):
    loaded = load_profile(profile)
    assert loaded.evidence in ("driver", "manual", "manual+driver"), "nothing was seen on a bench"
    assert loaded.sources
    assert loaded.open_checks
    for command in loaded.commands.values():
        assert command.verify.blocks or len(command.verify.reason) > 20, command.name
        for slot in command.fields:
            assert slot.arg is None or slot.symbols or (slot.min is not None and slot.max is not None), command.name


@pytest.mark.parametrize("profile", PLACES)
def test_settings_that_must_stand_are_asserted(profile: str):
    asserted = {setting.addr: setting.among for setting in load_profile(profile).asserts}
    assert asserted == {addr: (value,) for addr, value in ASSERTED.get(profile, {}).items()}


def test_how_a_unit_was_set_up_is_for_the_site_to_say():
    for profile, points in eurotherm.LEFT_TO_THE_SITE.items():
        loaded = load_profile(profile)
        assert {*loaded.at_commissioning} == {*points}
        for name, place in points.items():
            point = loaded.points[name]
            assert (loaded.blocks[point.block].fc, point.addr, str(point.type)) == place
        assert {*loaded.after_power_loss.values()} == {"configured"}, "no fact: it is how it was set up"


@pytest.mark.parametrize(("profile", "command", "addr", "denied"), DENIED)
def test_a_command_to_what_must_not_be_written_is_refused(profile: str, command: str, addr: int, denied: int):
    text = text_of(profile)
    written = {f"addr: {number}" for number in (addr, f"0x{addr:04X}", f"0x{addr:X}")}
    head, body = text.split(f"\n  {command}:\n", 1)
    (old,) = [word for word in written if word in body.split("\n", 2)[0]]
    wrong = f"{head}\n  {command}:\n{body.replace(old, f'addr: {denied}', 1)}"
    with pytest.raises(DocumentError, match="writes denied registers"):
        compile_profile(parse(wrong, f"{profile}.yaml"))


def test_the_example_of_the_vaisala_manual_decides_the_word_order():
    probe = load_profile("vaisala-gmp251")
    gas = BlockDecoder(probe.blocks["gas"]).decode([0xD47A, 0x43E8], 0.0)
    assert gas["co2"].value == pytest.approx(0.046566, rel=1e-4)
    with pytest.raises(DocumentError, match="contradicts its example"):
        compile_profile(parse(text_of("vaisala-gmp251").replace("word_order: CDAB", "word_order: ABCD"), "x.yaml"))


@pytest.mark.parametrize(
    ("profile", "command", "args"),
    [
        ("eurotherm-epc3016", "set_temperature", {"value": 60.0}),
        ("eurotherm-epc3016", "ramp_segment", {"program": 11, "segment": 1, "target": 4.0, "rate": 1.0}),
        ("eurotherm-epc3016", "ramp_segment", {"program": 1, "segment": 17, "target": 4.0, "rate": 1.0}),
        ("eurotherm-epc3016", "ramp_segment", {"program": 1, "segment": 1, "target": 4.0, "rate": -1.0}),
        ("eurotherm-3216p", "set_segment", {"segment": 9, "dwell": 60, "target": 4.0, "rate": 1.0}),
        ("vaisala-gmp251", "set_pressure_compensation", {"value": 699.0}),
        ("vaisala-gmp251", "set_temperature_compensation", {"value": 81.0}),
        ("leadfluid-bt100s", "set_steps", {"value": 0}),
        ("leadfluid-bt100s", "set_steps", {"value": 4_000_000_000}),
        ("leadfluid-bt100s", "dispense_mode", {"value": 2}),
        ("moxa-e1214", "set_output", {"channel": 6, "value": 1}),
        ("waveshare-relay-8ch", "set_output", {"channel": 8, "value": 1}),
    ],
)
def test_nothing_outside_the_limits_is_made_into_a_request(profile: str, command: str, args: Mapping[str, Any]):
    with pytest.raises(ArgumentError):
        request(profile, command, args)


def test_memory_that_wears_has_a_budget():
    budgets = {
        (profile, name): (command.storage.per_day, command.storage.life)
        for profile in PLACES
        for name, command in load_profile(profile).commands.items()
        if command.storage is not None
    }
    for profile in ("eurotherm-epc3016", "eurotherm-3216p"):
        assert budgets[profile, "set_temperature"] == (100, 100_000)
        assert load_profile(profile).commands["set_temperature"].only_on_change
        assert (profile, "set_remote") not in budgets, "the remote set point is volatile"
    assert not [key for key in budgets if key[0] in ("vaisala-gmp251", "alicat-mc")]


def test_the_names_of_a_leadfluid_have_the_bytes_of_each_word_swapped():
    pump = load_profile("leadfluid-bt100s")
    assert pump.points["maker_name"].order is WordOrder.BADC
    registers = [0] * 30
    registers[18:23] = [0x454C, 0x4441, 0x4C46, 0x4955, 0x0044]  # LE AD FL UI D
    assert BlockDecoder(pump.blocks["motor"]).decode(registers, 0.0)["maker_name"].value == "LEADFLUID"
