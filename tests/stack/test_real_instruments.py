"""Each profile of a real instrument: its simulator read by a program that shares no code with us, and by our driver.

Over RTU on a pseudo-terminal where the instrument speaks it, at the speed, format and unit number that its maker
delivers; over Modbus TCP where it has that. Addresses, types and word orders stand here by hand, from the makers'
manuals and public drivers that the profiles name; they are not read from the profiles, so that a mistake there is seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from devices.clock import SystemClock
from devices.modbus.bus import ModbusBus
from devices.modbus.driver import ModbusDevice
from devices.modbus.serial import serial_links
from devices.profile import load_profile, profile_ids
from simulators.parts import simulated
from simulators.rtu import RtuServer
from simulators.server import ModbusServer

HOLDING = "4"
FLOAT, INT = "4:float", "4:int"


@dataclass(frozen=True)
class Case:
    """One instrument: what its points read, what is commanded, and what then stands in its registers.

    `rtu` is speed, format and unit number of its line, `tcp` the unit number it has there; None where it has no such
    interface.  `expect` holds (table of mbpoll, PDU address, word order, value) after the commands, or a list of values
    that follow each other. `whole` are the registers (first PDU address: how many) that are read at once or not at all.
    """

    id: str
    rtu: tuple[int, str, int] | None = None
    tcp: int | None = None
    points: Mapping[str, Any] = field(default_factory=dict[str, Any])
    commands: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    expect: tuple[tuple[str, int, str, float | list[float]], ...] = ()
    reads: Mapping[str, Any] = field(default_factory=dict[str, Any])
    whole: Mapping[int, int] = field(default_factory=dict[int, int])


ABCD, CDAB = "ABCD", "CDAB"
CASES = [
    Case(
        "eurotherm-epc3016",
        (9600, "8N1", 1),
        1,
        {"temperature": 36.875, "setpoint_now": 37.0},
        (
            ("set_temperature", {"value": 37.5}),
            ("set_remote_timeout", {"value": 20.0}),
            ("load_remote", {"value": 30.0}),
            ("use_remote", {}),
            ("set_remote", {"value": 31.5}),
            ("set_ramp_units", {"program": 2}),
            ("set_cycles", {"program": 10}),
            ("ramp_segment", {"program": 2, "segment": 3, "target": -40.0, "rate": 10.0}),
            ("dwell_segment", {"program": 2, "segment": 4, "time": 90.0}),
            ("select_program", {"program": 2}),
            ("program_run", {}),
        ),
        (
            (FLOAT, 0x8000 + 2 * 1, ABCD, 36.875),  # n=1 Loop.Main.PV
            (FLOAT, 0x8000 + 2 * 5, ABCD, 37.0),  # n=5 WorkingSP
            (FLOAT, 0x8000 + 2 * 24, ABCD, 37.5),  # n=24 SP1
            (FLOAT, 0x8000 + 2 * 277, ABCD, 31.5),  # n=277 RemoteInput.Input
            (HOLDING, 276, ABCD, 1),  # n=276 RemoteLoc
            (HOLDING, 2308, ABCD, 20),  # n=2308 RemoteInput.Timeout
            (HOLDING, 516, ABCD, 0),  # degrees C
            (HOLDING, 8330 + 136 * 1, ABCD, 1),  # programme 2, RampUnits: 1 is a minute
            (HOLDING, 8332 + 136 * 9, ABCD, 1),  # programme 10, cycles
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
        (9600, "8N1", 1),
        None,
        {"temperature": 36.9},
        (
            ("set_temperature", {"value": 37.2}),
            ("load_remote", {"value": 4.0}),
            ("use_remote", {}),
            ("set_remote", {"value": -12.5}),
            ("program_run", {}),
        ),
        (
            (HOLDING, 1, ABCD, 369),
            (HOLDING, 24, ABCD, 372),
            (HOLDING, 26, ABCD, -125),
            (HOLDING, 276, ABCD, 1),  # AltSPSelect
            (HOLDING, 23, ABCD, 1),
        ),
        {"temperature": 36.9, "program_mode": "run"},
    ),
    Case(
        "watlow-f4t",
        None,
        1,
        {"temperature": 36.875, "setpoint_now": 37.0, "output": 12.5, "setpoint_low": -80.0, "setpoint_high": 45.0,
         "program": 7, "segment": 3, "alarm_2": 15, "limit_state": 28, "limit_status": 32},
        (
            ("set_temperature", {"value": 37.5}),
            ("select_program", {"program": 7}),
            ("select_step", {"segment": 2}),
            ("program_run", {}),
            ("standby", {}),
        ),
        (
            (FLOAT, 2820, CDAB, 36.875),
            (FLOAT, 2810, CDAB, 37.0),
            (FLOAT, 2808, CDAB, 12.5),
            (FLOAT, 2774, CDAB, [-80.0, 45.0]),
            (FLOAT, 2782, CDAB, 37.5),
            (HOLDING, 16558, ABCD, 7),
            (HOLDING, 16560, ABCD, 2),
            (HOLDING, 16568, ABCD, 149),  # running
            (HOLDING, 16588, ABCD, 7),
            (HOLDING, 16590, ABCD, 3),
            (HOLDING, 1356, ABCD, 61),  # none
            (HOLDING, 1456, ABCD, 15),
            (HOLDING, 11250, ABCD, 28),  # error
            (HOLDING, 11264, ABCD, 32),  # fail
            (HOLDING, 2730, ABCD, 62),
            (HOLDING, 2814, ABCD, 62),  # 62 is off
            (HOLDING, 6730, ABCD, 15),  # degrees C
        ),
        {"temperature": 36.875, "control_mode": "off", "alarm_2": 15.0},
    ),
    Case(
        "hamilton-visiferm-do",
        (19200, "8N2", 1),
        None,
        {"oxygen": 95.5, "oxygen_least": 0.0, "oxygen_most": 300.0, "oxygen_status": 0x8, "temperature": 36.75,
         "measurement_warnings": 0x12345, "hardware_errors": 0x6789A},
        (),
        (
            (INT, 2090 - 1, CDAB, 0x20),  # %-sat
            (FLOAT, 2090 - 1 + 2, CDAB, 95.5),
            (INT, 2090 - 1 + 4, CDAB, 0x8),  # a warning
            (FLOAT, 2090 - 1 + 6, CDAB, [0.0, 300.0]),
            (INT, 2410 - 1, CDAB, 0x4),  # degrees C
            (FLOAT, 2410 - 1 + 2, CDAB, 36.75),
            (INT, 4736 - 1, CDAB, [0x12345, 0, 0, 0]),
            (INT, 4800 - 1, CDAB, [0, 0, 0, 0x6789A]),
            ("4:hex", 1032 - 1, ABCD, [0x4F44, 0x4F55]),  # "ODOU"
        ),
        {"oxygen": 95.5, "oxygen_warning": True, "temperature": 36.75},
        {2090 - 1: 10, 2410 - 1: 10, 4736 - 1: 8, 4800 - 1: 8},
    ),
    Case(
        "hamilton-ph-arc",
        (19200, "8N2", 1),
        None,
        {"ph": 7.125, "ph_least": 0.0, "ph_most": 14.0, "temperature": 36.5, "calibration_warnings": 0x1,
         "measurement_errors": 1 << 15 | 1 << 25, "calibration_errors": 0x2, "hardware_errors": 1 << 24},
        (),
        (
            (INT, 2090 - 1, CDAB, 0x1000),
            (FLOAT, 2090 - 1 + 2, CDAB, 7.125),
            (FLOAT, 2090 - 1 + 6, CDAB, [0.0, 14.0]),
            (FLOAT, 2410 - 1 + 2, CDAB, 36.5),
            (INT, 4736 - 1, CDAB, [0, 1, 0, 0]),
            (INT, 4800 - 1, CDAB, [1 << 15 | 1 << 25, 2, 0, 1 << 24]),
            ("4:hex", 1032 - 1, ABCD, [0x4550, 0x4855]),  # "EPHU"
        ),
        {"ph": 7.125, "auxiliary_electrode_15": True, "auxiliary_electrode_16": False, "calibration_recommended": True,
         "quality_below_15_percent": True, "internal_communication": True},
        {2090 - 1: 10, 2410 - 1: 10, 4736 - 1: 8, 4800 - 1: 8},
    ),
    Case(
        "vaisala-gmp251",
        (19200, "8N2", 240),
        None,
        {"co2": 5.0, "device_status": 4, "co2_status": 256, "error_code": 0x1000 | 0x20000},
        (("set_pressure_compensation", {"value": 980.0}), ("set_temperature_compensation", {"value": 37.0})),
        (
            (FLOAT, 0x0000, CDAB, 50_000.0),
            (FLOAT, 0x0208, CDAB, [980.0, 37.0]),
            (HOLDING, 0x0800, ABCD, [4, 256]),  # a warning; not ready
            (INT, 0x0803, CDAB, 0x21000),
        ),
        {"co2": 5.0, "device_warning": True, "not_ready": True, "not_reliable": False, "out_of_range": True},
    ),
    Case(
        "alicat-mc",
        (19200, "8N1", 1),  # not in the pages of the manual that were seen
        None,
        {"gas": 4, "flow": 24.75, "flow_volumetric": 26.5, "pressure": 1012.5, "temperature": 22.25},
        (("set_flow", {"value": 25.5}), ("valve_hold_closed", {})),
        (
            (HOLDING, 1200 - 1, ABCD, 4),
            (INT, 1201 - 1, ABCD, 1 << 8),  # loop hold
            (FLOAT, 1203 - 1, ABCD, [1012.5, 22.25, 26.5, 24.75]),
            (FLOAT, 1010 - 1, ABCD, 25.5),
            (HOLDING, 1000 - 1, ABCD, [0, 1]),  # the result of the last command: done; its argument
        ),
        {"flow": 24.75, "gas": 4.0, "loop_hold": True},
    ),
    Case(
        "voegtlin-redy",
        (9600, "8N2", 1),
        None,
        {"flow": 24.75, "temperature": 21.5, "total": 1234.5, "valve": 40.5, "alarm": 2, "full_scale": 500.0},
        (("set_flow", {"value": 25.5}),),
        (
            (FLOAT, 0x0000, ABCD, [24.75, 21.5, 1234.5, 25.5]),
            (FLOAT, 0x000A, ABCD, 40.5),
            (HOLDING, 0x000C, ABCD, [2, 0, 1]),  # alarm, error, set point over Modbus
            (FLOAT, 0x6020, ABCD, 500.0),
            ("4:hex", 0x6046, ABCD, [0x6D4C, 0x2F6D, 0x696E]),  # "mL/min"
        ),
        {"flow": 24.75, "total": 1234.5, "full_scale": 500.0, "flow_unit": "mL/min"},
    ),
    Case(
        "leadfluid-bt100s",
        (9600, "8N1", 1),  # set in its menu
        None,
        {},
        (
            ("set_speed", {"value": 12.3}),
            ("set_direction", {"value": "counterclockwise"}),
            ("set_steps", {"value": 123_456.0}),
            ("dispense_mode", {"value": 1.0}),
            ("start", {}),
        ),
        (
            (HOLDING, 3100, ABCD, [123, 1, 1, 0, 0]),  # 12.3 rpm, direction, runs, full speed, internal control
            (INT, 3105, CDAB, 123_456),
            (HOLDING, 3001, ABCD, [1, 0]),  # dispense by volume, not by time
            (HOLDING, 3108, ABCD, 1),
            ("3", 1002, ABCD, 3200),
            ("3:hex", 1018, ABCD, [0x454C, 0x4441]),  # "LEAD", the bytes of each word swapped
        ),
        {"running": True, "speed": 12.3, "direction": "counterclockwise", "product_name": "BT100S"},
    ),
    Case(
        "longer-l100",
        (9600, "8N1", 1),
        None,
        {},
        (("set_speed", {"value": 12.34}), ("start", {})),
        ((HOLDING, 0x0001, ABCD, 1234), (HOLDING, 0x0004, ABCD, 1)),  # b0: it runs
        {"running": True, "reversed": False, "speed": 12.34},
    ),
    Case(
        "laumas-tlb",
        (9600, "8N1", 1),  # not in the page of the manual that was seen
        None,
        {"status": 5, "gross": 54_321.0, "net": 1234.0, "peak": 70_000.0, "division_code": 3},
        (),
        ((HOLDING, 6, ABCD, 5), (INT, 7, ABCD, [54_321, 1234, 70_000]), (HOLDING, 13, ABCD, 3)),
        {"gross": 54_321.0, "net": 1234.0, "peak": 70_000.0, "division_code": 3.0},
        {6: 8},
    ),
    Case(
        "moxa-e1214",
        None,
        1,
        {"di_2": True},
        (("set_output", {"channel": 3, "value": 1.0}),),
        (("0", 0, ABCD, [0, 0, 0, 1, 0, 0]), ("1", 0, ABCD, [0, 0, 1, 0, 0, 0])),
        {"do_3": True, "di_2": True},
    ),
    Case(
        "waveshare-relay-8ch",
        (9600, "8N1", 1),
        None,
        {"di_1": True},
        (("set_output", {"channel": 7, "value": 1.0}),),
        (("0", 0, ABCD, [0, 0, 0, 0, 0, 0, 0, 1]), ("1", 0, ABCD, [0, 1, 0, 0, 0, 0, 0, 0])),
        {"do_7": True, "di_1": True},
    ),
]  # fmt: skip
RUNS = [(case, over) for case in CASES for over in ("rtu", "tcp") if getattr(case, over) is not None]


async def polled(where: Sequence[str], there: str, table: str, addr: int, order: str, count: int) -> list[float]:
    """Return values that follow each other as mbpoll reads them."""
    words = ["mbpoll", *where, "-0", "-t", table, "-r", str(addr), "-c", str(count), "-1"]
    words += ["-B"] if order == ABCD and table.endswith((":int", ":float")) else []
    process = await asyncio.create_subprocess_exec(*words, there, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    printed, _ = await process.communicate()
    assert process.returncode == 0, f"{' '.join(words)}:\n{printed.decode()}"
    values = re.findall(r"^\[\d+\]:\s+(\S+)(?:\s+\((-?\d+)\))?", printed.decode(), re.MULTILINE)
    return [float(int(first, 16) if table.endswith("hex") else again or first) for first, again in values]


async def among(
    where: Sequence[str], there: str, whole: tuple[int, int], wanted: tuple[str, int, str], count: int
) -> list[float]:
    """Return values among those that mbpoll reads by one request, taken apart by hand."""
    (first, words), (table, addr, order) = whole, wanted
    image = [int(word) for word in await polled(where, there, f"{HOLDING}:hex", first, ABCD, words)]
    size = 1 if table == HOLDING else 2
    assert size == 1 or order in (ABCD, CDAB)
    found: list[float] = []
    for at in range(addr - first, addr - first + size * count, size):
        part = image[at : at + size] if order == ABCD else image[at : at + size][::-1]
        form = {HOLDING: ">H", INT: ">i", FLOAT: ">f"}[table]
        found.append(struct.unpack(form, struct.pack(f">{size}H", *part))[0])
    return found


@contextlib.asynccontextmanager
async def bench(case: Case, over: str, clock: SystemClock) -> AsyncIterator[tuple[ModbusBus, int, list[str], str]]:
    """Serve a case; give a bus to it, its unit number, and how mbpoll gets there once the bus is closed."""
    profile = load_profile(case.id)
    device = simulated(profile, {name: (lambda value=value: value) for name, value in case.points.items()})
    if over == "rtu":
        assert case.rtu is not None
        baud, form, unit = case.rtu
        server = RtuServer({unit: device}, clock)
        there = await server.start_pty()
        link = serial_links(clock, baud=baud, format=form, settle_s=0.0)
        bus = ModbusBus(case.id, there, 0, clock, link=link)
        where = ["-m", "rtu", "-b", str(baud), "-d", form[0], "-P", {"N": "none", "E": "even"}[form[1]], "-s", form[2]]
    else:
        assert case.tcp is not None
        unit, there = case.tcp, "127.0.0.1"
        server = ModbusServer({unit: device}, clock)
        port = await server.start()
        bus = ModbusBus(case.id, there, port, clock)
        where = ["-m", "tcp", "-p", str(port)]
    await bus.open()
    try:
        yield bus, unit, [*where, "-a", str(unit)], there
    finally:
        await bus.close()
        await server.close()


@pytest.mark.debian("mbpoll")
@pytest.mark.parametrize(("case", "over"), RUNS, ids=lambda it: it if isinstance(it, str) else it.id)
async def test_driver_and_independent_client_see_the_same_registers(case: Case, over: str):
    clock = SystemClock()
    profile = load_profile(case.id)
    async with bench(case, over, clock) as (bus, unit, where, there):
        driver = ModbusDevice(case.id, profile, bus, unit, clock)
        for name, args in case.commands:
            await driver.command(name, args)
        readings = await driver.read_all()
        for point, expected in case.reads.items():
            value = readings[point].value
            assert value == (pytest.approx(expected) if isinstance(expected, float) else expected), point
        await bus.close()  # a serial port has one owner
        for table, addr, order, expected in case.expect:
            values = expected if isinstance(expected, list) else [expected]
            whole = [(first, count) for first, count in case.whole.items() if first <= addr < first + count]
            if whole:
                found = await among(where, there, whole[0], (table, addr, order), len(values))
            else:
                found = await polled(where, there, table, addr, order, len(values))
            assert found == pytest.approx(values, rel=1e-6), (table, addr)
    clock.close()


def test_every_modbus_profile_of_a_real_instrument_is_looked_at_over_each_of_its_wires():
    real = {name for name in profile_ids() if load_profile(name).evidence != "simulated"}
    wires = {(name, kind) for name in real for kind in load_profile(name).kinds if kind != "mqtt"}
    assert wires == {(case.id, over) for case, over in RUNS}
    for case in CASES:
        made = load_profile(case.id).factory
        if made is not None and made.baud:
            assert case.rtu == (made.baud, made.format, made.rtu_unit), case.id


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
