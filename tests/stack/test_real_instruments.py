"""Each profile of a real instrument: its simulator read by a program that shares no code with us, and by our driver.

Addresses, types and word orders stand here by hand, from the makers' manuals and public drivers that the profiles name;
they are not read from the profiles, so that a mistake there is seen.
"""

from __future__ import annotations

import asyncio
import re
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from devices.clock import SystemClock
from devices.modbus.bus import ModbusBus
from devices.modbus.driver import ModbusDevice
from devices.profile import load_profile, profile_ids
from simulators.parts import simulated
from simulators.server import ModbusServer

HOLDING, WORDS_SWAPPED = "4", "swapped"
FLOAT, INT = "4:float", "4:int"


@dataclass(frozen=True)
class Case:
    """One instrument: what its points read, what is commanded, and what then stands in its registers.

    `expect` holds (table of mbpoll, PDU address, word order, value) after the commands. `whole` are the registers
    (first PDU address: how many) that are read at once.
    """

    id: str
    points: Mapping[str, Any] = field(default_factory=dict[str, Any])
    commands: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    expect: tuple[tuple[str, int, str, float], ...] = ()
    reads: Mapping[str, Any] = field(default_factory=dict[str, Any])
    whole: Mapping[int, int] = field(default_factory=dict[int, int])


ABCD, CDAB = "ABCD", "CDAB"
CASES = [
    Case(
        "eurotherm-epc3016",
        {"temperature": 36.875, "setpoint_now": 37.0},
        (
            ("set_temperature", {"value": 37.5}),
            ("set_ramp_units", {"program": 2}),
            ("ramp_segment", {"program": 2, "segment": 3, "target": -40.0, "rate": 10.0}),
            ("dwell_segment", {"program": 2, "segment": 4, "time": 90.0}),
            ("select_program", {"program": 2}),
            ("program_run", {}),
        ),
        (
            (FLOAT, 0x8000 + 2 * 1, ABCD, 36.875),  # n=1 Loop.Main.PV
            (FLOAT, 0x8000 + 2 * 5, ABCD, 37.0),  # n=5 WorkingSP
            (FLOAT, 0x8000 + 2 * 24, ABCD, 37.5),  # n=24 SP1
            (HOLDING, 8330 + 136 * 1, ABCD, 1),  # programme 2, RampUnits: 1 is a minute
            (HOLDING, 22, ABCD, 2),  # n=22 ProgramNumber
            (HOLDING, 23, ABCD, 2),  # n=23 Run.Mode: 2 is run
            (HOLDING, 0x8000 + 2 * (8336 + 136 * 1 + 8 * 2), ABCD, 1),  # programme 2, segment 3: 1 is ramp-rate
            (FLOAT, 0x8000 + 2 * (8336 + 136 * 1 + 8 * 2 + 1), ABCD, -40.0),
            (FLOAT, 0x8000 + 2 * (8336 + 136 * 1 + 8 * 2 + 2), ABCD, 10.0),
            (HOLDING, 0x8000 + 2 * (8336 + 136 * 1 + 8 * 3), ABCD, 3),  # segment 4: 3 is dwell
            (INT, 0x8000 + 2 * (8336 + 136 * 1 + 8 * 3 + 2), ABCD, 90_000),  # times in ms
        ),
        {"temperature": 36.875, "program_mode": "run"},
    ),
    Case(
        "eurotherm-3216p",
        {"temperature": 36.9},
        (("set_temperature", {"value": 37.2}), ("set_remote", {"value": -12.5}), ("program_run", {})),
        ((HOLDING, 1, ABCD, 369), (HOLDING, 24, ABCD, 372), (HOLDING, 26, ABCD, -125), (HOLDING, 23, ABCD, 1)),
        {"temperature": 36.9, "program_mode": "run"},
    ),
    Case(
        "watlow-f4t",
        {"temperature": 36.875},
        (
            ("set_temperature", {"value": 37.5}),
            ("select_program", {"program": 7}),
            ("program_run", {}),
            ("standby", {}),
        ),
        (
            (FLOAT, 2820, CDAB, 36.875),
            (FLOAT, 2782, CDAB, 37.5),
            (HOLDING, 16558, ABCD, 7),
            (HOLDING, 16568, ABCD, 149),  # running
            (HOLDING, 2730, ABCD, 62),
            (HOLDING, 2814, ABCD, 62),  # 62 is off
            (HOLDING, 6730, ABCD, 15),  # degrees C
        ),
        {"temperature": 36.875, "control_mode": "off"},
    ),
    Case(
        "hamilton-visiferm-do",
        {"oxygen": 95.5, "temperature": 36.75},
        (),
        (
            (INT, 2090 - 1, CDAB, 0x20),  # %-sat
            (FLOAT, 2090 - 1 + 2, CDAB, 95.5),
            (INT, 2410 - 1, CDAB, 0x4),  # degrees C
            (FLOAT, 2410 - 1 + 2, CDAB, 36.75),
        ),
        {"oxygen": 95.5, "temperature": 36.75},
        {2090 - 1: 10, 2410 - 1: 10},
    ),
    Case(
        "hamilton-ph-arc",
        {"ph": 7.125},
        (),
        ((INT, 2090 - 1, CDAB, 0x1000), (FLOAT, 2090 - 1 + 2, CDAB, 7.125)),
        {"ph": 7.125},
        {2090 - 1: 10},
    ),
    Case(
        "vaisala-gmp251",
        {"co2": 5.0},
        (("set_pressure_compensation", {"value": 980.0}),),
        ((FLOAT, 0x0000, CDAB, 50_000.0), (FLOAT, 0x0208, CDAB, 980.0), (HOLDING, 0x0800, ABCD, 0)),
        {"co2": 5.0},
    ),
    Case(
        "alicat-mc",
        {"flow": 24.75},
        (("set_flow", {"value": 25.5}), ("valve_hold_closed", {})),
        (
            (FLOAT, 1209 - 1, ABCD, 24.75),
            (FLOAT, 1010 - 1, ABCD, 25.5),
            (HOLDING, 1000 - 1, ABCD, 0),  # the result of the last command: done
            (HOLDING, 1001 - 1, ABCD, 1),
        ),
        {"flow": 24.75},
    ),
    Case(
        "voegtlin-redy",
        {"flow": 24.75, "temperature": 21.5},
        (("set_flow", {"value": 25.5}),),
        (
            (FLOAT, 0x0000, ABCD, 24.75),
            (FLOAT, 0x0002, ABCD, 21.5),
            (FLOAT, 0x0006, ABCD, 25.5),
            (HOLDING, 0x000E, ABCD, 1),
        ),
        {"flow": 24.75},
    ),
    Case(
        "leadfluid-bt100s",
        {},
        (
            ("set_speed", {"value": 12.3}),
            ("set_steps", {"value": 123_456.0}),
            ("dispense_mode", {"value": 1.0}),
            ("start", {}),
        ),
        (
            (HOLDING, 3100, ABCD, 123),
            (HOLDING, 3102, ABCD, 1),
            (INT, 3105, CDAB, 123_456),
            (HOLDING, 3001, ABCD, 1),
            (HOLDING, 3108, ABCD, 1),
            ("3", 1002, ABCD, 3200),
        ),
        {"running": True, "speed": 12.3},
    ),
    Case(
        "longer-l100",
        {},
        (("set_speed", {"value": 12.34}), ("start", {})),
        ((HOLDING, 0x0001, ABCD, 1234), (HOLDING, 0x0004, ABCD, 1)),
        {"running": True},
    ),
    Case("laumas-tlb", {"gross": 1234.0}, (), ((INT, 7, ABCD, 1234),), {"gross": 1234.0}, {6: 8}),
    Case(
        "moxa-e1214",
        {"di_2": True},
        (("set_output", {"channel": 3, "value": 1.0}),),
        (("0", 3, ABCD, 1), ("0", 2, ABCD, 0), ("1", 2, ABCD, 1), ("1", 3, ABCD, 0)),
        {"do_3": True, "di_2": True},
    ),
    Case(
        "waveshare-relay-8ch",
        {},
        (("set_output", {"channel": 7, "value": 1.0}),),
        (("0", 7, ABCD, 1), ("0", 6, ABCD, 0)),
        {"do_7": True},
    ),
]


async def output(port: int, unit: int, table: str, addr: int, *more: str) -> str:
    """Return what mbpoll prints."""
    words = ["mbpoll", "-m", "tcp", "-p", str(port), "-a", str(unit), "-0", "-t", table, "-r", str(addr), "-1", *more]
    process = await asyncio.create_subprocess_exec(
        *words, "127.0.0.1", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, f"{' '.join(words)}:\n{printed.decode()}"
    return printed.decode()


async def polled(port: int, unit: int, table: str, addr: int, order: str) -> float:
    """Return one value as mbpoll reads it."""
    printed = await output(port, unit, table, addr, *(["-B"] if order == ABCD and ":" in table else []))
    (value,) = re.findall(r"^\[\d+\]:\s+(\S+)(?:\s+\((-?\d+)\))?", printed, re.MULTILINE)
    return float(value[1] or value[0])


async def polled_at_once(port: int, unit: int, first: int, count: int, wanted: tuple[str, int, str]) -> float:
    """Return one value of two registers among those that mbpoll reads by one request."""
    table, addr, order = wanted
    printed = await output(port, unit, f"{HOLDING}:hex", first, "-c", str(count))
    words = [int(word, 16) for word in re.findall(r"^\[\d+\]:\s+0x([0-9A-F]{4})", printed, re.MULTILINE)]
    assert len(words) == count
    pair = words[addr - first : addr - first + 2]
    image = struct.pack(">2H", *(pair if order == ABCD else reversed(pair)))
    return struct.unpack(">f" if table == FLOAT else ">i", image)[0]


@pytest.mark.debian("mbpoll")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_driver_and_independent_client_see_the_same_registers(case: Case):
    clock = SystemClock()
    profile = load_profile(case.id)
    device = simulated(profile, {name: (lambda value=value: value) for name, value in case.points.items()})
    unit = profile.factory.rtu_unit or profile.factory.tcp_unit if profile.factory else 1
    server = ModbusServer({unit: device}, clock)
    port = await server.start()
    bus = ModbusBus(case.id, "127.0.0.1", port, clock)
    await bus.open()
    try:
        driver = ModbusDevice(case.id, profile, bus, unit, clock)
        for name, args in case.commands:
            await driver.command(name, args)
        readings = await driver.read_all()
        for point, expected in case.reads.items():
            value = readings[point].value
            assert value == (pytest.approx(expected) if isinstance(expected, float) else expected), point
        for table, addr, order, expected in case.expect:
            whole = [(first, count) for first, count in case.whole.items() if first <= addr < first + count]
            if whole:
                found = await polled_at_once(port, unit, *whole[0], (table, addr, order))
            else:
                found = await polled(port, unit, table, addr, order)
            assert found == pytest.approx(expected, rel=1e-6), (table, addr)
    finally:
        await bus.close()
        await server.close()
        clock.close()


def test_every_modbus_profile_of_a_real_instrument_is_looked_at():
    real = {name for name in profile_ids() if load_profile(name).evidence != "simulated"}
    modbus = {name for name in real if load_profile(name).kinds != ("mqtt",)}
    assert modbus == {case.id for case in CASES}


@pytest.mark.parametrize(
    ("profile", "first", "last"),
    [
        ("eurotherm-epc3016", 514, 519),  # configuration
        ("eurotherm-epc3016", 1056, 1071),  # passcodes
        ("hamilton-visiferm-do", 8191, 8192),  # factory recall
        ("hamilton-ph-arc", 4287, 4290),  # operator level
        ("vaisala-gmp251", 0x0200, 0x0207),  # power-up compensation: 30,000 writes
        ("laumas-tlb", 5, 5),  # the command register: 99 stores set points
        ("leadfluid-bt100s", 3107, 3108),
    ],
)
def test_what_must_not_be_written_is_denied(profile: str, first: int, last: int):
    assert any(deny.first <= first and last <= deny.last for deny in load_profile(profile).deny)
