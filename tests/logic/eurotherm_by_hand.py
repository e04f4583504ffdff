"""What Eurotherm's map says of an EPC3016 and a 3216P, copied by hand for the tests: places, frames, settings."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any


def high_first(value: float) -> tuple[int, int]:
    """Return a float32 as two words, ABCD."""
    high, low = struct.unpack(">2H", struct.pack(">f", value))
    return high, low


# profile -> point -> (function that reads it, wire address, type, word order, unit, scale)
PLACES: dict[str, dict[str, tuple[int, int, str, str, str, float]]] = {
    "eurotherm-epc3016": {
        "temperature": (3, 32770, "float32", "ABCD", "degC", 1),  # n=1
        "target": (3, 32772, "float32", "ABCD", "degC", 1),  # n=2
        "output": (3, 32776, "float32", "ABCD", "%", 1),  # n=4
        "setpoint_now": (3, 32778, "float32", "ABCD", "degC", 1),  # n=5
        "setpoint": (3, 32816, "float32", "ABCD", "degC", 1),  # n=24
        "setpoint_high": (3, 32990, "float32", "ABCD", "degC", 1),  # n=111
        "setpoint_low": (3, 32992, "float32", "ABCD", "degC", 1),  # n=112
        "remote_setpoint": (3, 33322, "float32", "ABCD", "degC", 1),  # n=277
        "watchdog_timeout": (3, 35106, "int32", "ABCD", "s", 0.001),  # n=1169
        "remote_timeout": (3, 2308, "uint16", "ABCD", "s", 1),
        "remote_enabled": (3, 1666, "bool", "ABCD", "bool", 1),
        "auto_manual": (3, 273, "uint16", "ABCD", "symbol", 1),
        "setpoint_source": (3, 276, "uint16", "ABCD", "symbol", 1),
        "setpoint_selected": (3, 15, "uint16", "ABCD", "symbol", 1),
        "program_time_left": (3, 32768 + 2 * 58, "int32", "ABCD", "s", 0.001),
        "segment_time_left": (3, 32768 + 2 * 63, "int32", "ABCD", "s", 0.001),
        "programs": (3, 10588, "uint16", "ABCD", "", 1),
        "segments_per_program": (3, 10589, "uint16", "ABCD", "", 1),
        "recovery_strategy": (3, 518, "uint16", "ABCD", "", 1),
        "servo_to": (3, 520, "uint16", "ABCD", "", 1),
        "alarm_1_status": (3, 2113, "uint16", "ABCD", "", 1),
        "alarm_2_status": (3, 2137, "uint16", "ABCD", "", 1),
        "alarm_3_status": (3, 2161, "uint16", "ABCD", "", 1),
        "alarm_4_status": (3, 2185, "uint16", "ABCD", "", 1),
        "alarm_5_status": (3, 2209, "uint16", "ABCD", "", 1),
        "alarm_6_status": (3, 2233, "uint16", "ABCD", "", 1),
        "program": (3, 22, "uint16", "ABCD", "", 1),
        "program_mode": (3, 23, "uint16", "ABCD", "symbol", 1),
        "segment": (3, 56, "uint16", "ABCD", "", 1),
        "status_word": (3, 75, "uint16", "ABCD", "", 1),
        "loop_break": (3, 263, "bool", "ABCD", "bool", 1),
        "alarm_word": (3, 1072, "uint16", "ABCD", "", 1),
        "new_alarm": (3, 1073, "bool", "ABCD", "bool", 1),
        "standby": (3, 1085, "bool", "ABCD", "bool", 1),
        "sensor_break": (3, 1931, "bool", "ABCD", "bool", 1),
        "pv_status": (3, 1932, "uint16", "ABCD", "", 1),
        "remote_status": (3, 2312, "uint16", "ABCD", "", 1),
    },
    "eurotherm-3216p": {
        "temperature": (3, 1, "int16", "ABCD", "degC", 0.1),
        "setpoint_now": (3, 5, "int16", "ABCD", "degC", 0.1),
        "program_mode": (3, 23, "uint16", "ABCD", "symbol", 1),
        "setpoint": (3, 24, "int16", "ABCD", "degC", 0.1),
        "remote_setpoint": (3, 26, "int16", "ABCD", "degC", 0.1),
        "target": (3, 2, "int16", "ABCD", "degC", 0.1),
        "setpoint_selected": (3, 15, "uint16", "ABCD", "symbol", 1),
        "setpoint_source": (3, 276, "uint16", "ABCD", "symbol", 1),
        "setpoint_high": (3, 111, "int16", "ABCD", "degC", 0.1),
        "setpoint_low": (3, 112, "int16", "ABCD", "degC", 0.1),
        "holdback": (3, 327, "uint16", "ABCD", "", 1),
        "end_type": (3, 328, "uint16", "ABCD", "", 1),
        "power_fail": (3, 333, "uint16", "ABCD", "", 1),
        "instrument_status": (3, 75, "bits16", "ABCD", "", 1),
        "dwell_units": (3, 321, "uint16", "ABCD", "symbol", 1),
        "ramp_units": (3, 531, "uint16", "ABCD", "symbol", 1),
    },
}

# profile, command, arguments, then the one request: function, wire address, words
FRAMES: list[tuple[str, str, Mapping[str, Any], int, int, tuple[int, ...]]] = [
    ("eurotherm-epc3016", "set_temperature", {"value": 37.0}, 16, 32816, (0x4214, 0x0000)),
    ("eurotherm-epc3016", "set_remote", {"value": -40.0}, 16, 33322, (0xC220, 0x0000)),
    ("eurotherm-epc3016", "load_remote", {"value": 37.0}, 16, 33322, (0x4214, 0x0000)),
    ("eurotherm-epc3016", "set_remote_timeout", {"value": 30}, 6, 2308, (30,)),
    ("eurotherm-epc3016", "use_remote", {}, 6, 276, (1,)),
    ("eurotherm-epc3016", "use_local", {}, 6, 276, (0,)),
    ("eurotherm-epc3016", "select_program", {"program": 3}, 6, 22, (3,)),
    ("eurotherm-epc3016", "set_holdback", {"program": 1}, 6, 8328, (0,)),
    ("eurotherm-epc3016", "set_dwell_units", {"program": 2}, 6, 8331 + 136, (0,)),  # s
    ("eurotherm-epc3016", "set_cycles", {"program": 2}, 6, 8332 + 136, (1,)),
    ("eurotherm-epc3016", "set_end_type", {"program": 10}, 6, 8334 + 9 * 136, (0,)),  # dwell
    ("eurotherm-epc3016", "set_ramp_units", {"program": 10}, 6, 8330 + 9 * 136, (1,)),
    ("eurotherm-epc3016", "ramp_segment", {"program": 1, "segment": 1, "target": -45.0, "rate": 1.0}, 16, 49440,
     (1, 0x8000, *high_first(-45.0), *high_first(1.0))),
    ("eurotherm-epc3016", "ramp_segment", {"program": 10, "segment": 16, "target": 4.0, "rate": 2.0}, 16, 52128,
     (1, 0x8000, *high_first(4.0), *high_first(2.0))),  # n = 8336 + 136 * 9 + 8 * 15 = 9680
    ("eurotherm-epc3016", "dwell_segment", {"program": 1, "segment": 2, "time": 600.0}, 16, 49456,
     (3, 0x8000, 0, 0, 0x0009, 0x27C0)),  # 600 000 ms
    ("eurotherm-epc3016", "end_segment", {"program": 2, "segment": 1}, 16, 49712, (0, 0x8000)),
    ("eurotherm-epc3016", "program_run", {}, 6, 10573, (1,)),
    ("eurotherm-epc3016", "program_hold", {}, 6, 10574, (1,)),
    ("eurotherm-epc3016", "program_reset", {}, 6, 10575, (1,)),
    ("eurotherm-epc3016", "standby", {}, 6, 1085, (1,)),
    ("eurotherm-3216p", "set_temperature", {"value": -12.5}, 6, 24, (0xFF83,)),
    ("eurotherm-3216p", "set_remote", {"value": 37.0}, 6, 26, (370,)),
    ("eurotherm-3216p", "load_remote", {"value": -12.5}, 6, 26, (0xFF83,)),
    ("eurotherm-3216p", "use_remote", {}, 6, 276, (1,)),
    ("eurotherm-3216p", "use_local", {}, 6, 276, (0,)),
    ("eurotherm-3216p", "set_segment", {"segment": 8, "dwell": 600, "target": -40.0, "rate": 1.5}, 16, 1301,
     (10, 0xFE70, 15)),  # 1280 + 3 * 7: minutes, tenths
]  # fmt: skip

# (profile, name in the site file) -> where it is read, and nothing that would be expected of every unit
LEFT_TO_THE_SITE = {
    "eurotherm-epc3016": {"recovery_strategy": (3, 518, "uint16"), "servo_to": (3, 520, "uint16")},
    "eurotherm-3216p": {"power_fail": (3, 333, "uint16")},
}
