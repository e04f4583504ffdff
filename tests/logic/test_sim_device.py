"""The register image of a simulated instrument, and how it understands commands."""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from devices.document import parse
from devices.frames import BlockDecoder, encode_command
from devices.profile import compile_profile, load_profile
from devices.profile_types import Profile, Sim, Storage
from simulators.device import ModbusFault, SimDevice
from simulators.parts import simulated

PUMP_VALUES: dict[str, Any] = {
    "running": True,
    "status": ["air_in_line"],
    "rate": 80.5,
    "total": 12.34,
    "dispensed": 2.0,
    "sequence": 7,
    "boots": 3,
    "watchdog": 0,
}

ODD = """
profile: {id: odd, version: 1, role: scale, maker: test, model: odd, evidence: simulated, sources: [test]}
transport: {kinds: [tcp]}
codec: {word_order: ORDER}
identity: {fc: 3, addr: 50, type: uint32, expect: 66051, serial: {addr: 52, type: string, length: 3}}
asserts: [{fc: 3, addr: 60, type: float32, equals: 1.5, why: test}]
blocks:
  values: {fc: 3, addr: 10, count: 20, scan: fast}
  coils: {fc: 1, addr: 100, count: 10, scan: fast}
  mass: {fc: 4, addr: 0, count: 32, scan: fast}
points:
MASSES
  real: {block: values, addr: 11, type: float32, stale_ms: 1000}
  double: {block: values, addr: 13, type: float64, stale_ms: 1000}
  big: {block: values, addr: 17, type: uint64, stale_ms: 1000}
  cold: {block: values, addr: 21, type: int32, unit: degC, scale: 0.1, offset: 5, nan: [-9999], stale_ms: 1000}
  name: {block: values, addr: 24, type: string, length: 4, stale_ms: 1000}
  mode: {block: values, addr: 28, type: int16, symbols: {-1: back, 1: forth}, stale_ms: 1000}
  lamp: {block: coils, addr: 103, type: bool, stale_ms: 1000}
commands:
  lamp_on: {write: {fc: 5, addr: 103, fields: [{arg: lit, type: bool}]}, idempotent: true, verify: {none: test}}
  lamps: {write: {fc: 15, addr: 104, fields: [{arg: a, type: bool}, {arg: b, type: bool}, {arg: c, type: bool}]},
          idempotent: true, verify: {none: test}}
  set: {write: {fc: 16, addr: 11, fields: [{arg: value, type: float32, min: -1, max: 100.1}]},
        idempotent: true, verify: {none: test}}
failsafe: {on_comm_loss: keeps_running}
"""


def odd(order: str = "ABCD") -> Profile:
    masses = "".join(
        f"  mass_{i + 1}: {{block: mass, addr: {2 * i}, type: float32, unit: g, stale_ms: 1000}}\n" for i in range(16)
    )
    return compile_profile(parse(ODD.replace("ORDER", order).replace("MASSES\n", masses), "odd.yaml"))


def device(
    profile: Profile, values: Mapping[str, Any], log: list[Any] | None = None, serial: int | str = 0
) -> SimDevice:
    """Return a device with constant values, whose handlers write into `log`."""
    taken = [] if log is None else log
    values = {f"mass_{i + 1}": float(i) for i in range(16)} | dict(values)
    return SimDevice(
        profile,
        {name: (lambda name=name: values[name]) for name in profile.points},
        {name: (lambda args, name=name: taken.append((name, args))) for name in profile.commands},
        serial=serial,
    )


def pump(log: list[Any] | None = None) -> SimDevice:
    return device(load_profile("sim-pump"), PUMP_VALUES, log, serial=4711)


# --- the image ---


@pytest.mark.parametrize("order", ["ABCD", "CDAB", "BADC", "DCBA"])
def test_what_the_driver_decodes_is_what_the_device_means(order: str) -> None:
    values = {
        "real": 36.5,
        "double": -1e300,
        "big": 2**50 + 5,
        "cold": -80.3,
        "name": "bag-12",
        "mode": "back",
        "lamp": True,
    }
    profile = odd(order)
    simulated = device(profile, values, serial="A-17")
    for block in (profile.blocks["values"], profile.blocks["coils"]):
        readings = BlockDecoder(block).decode(simulated.read(block.fc, block.addr, block.count), at=0.0)
        for point in block.points:
            got = readings[point.name].value
            assert got == (pytest.approx(values[point.name]) if point.name == "cold" else values[point.name])
    identity = simulated.read(3, 50, 5)
    words = {"ABCD": [1, 0x0203], "CDAB": [0x0203, 1], "BADC": [0x0100, 0x0302], "DCBA": [0x0302, 0x0100]}
    assert identity[:2] == words[order]
    assert b"".join(struct.pack(">H", w) for w in identity[2:]) in (b"A-17\0\0", b"-A71\0\0")


def test_no_value_is_the_sentinel_or_not_a_number() -> None:
    profile = odd()
    values = {"real": None, "double": None, "big": 0, "cold": None, "name": "", "mode": "forth", "lamp": False}
    simulated = device(profile, values)
    block = profile.blocks["values"]
    readings = BlockDecoder(block).decode(simulated.read(block.fc, block.addr, block.count), at=0.0)
    assert [readings[name].value for name in ("real", "double", "cold")] == [None, None, None]
    assert math.isnan(struct.unpack(">f", struct.pack(">2H", *simulated.read(3, 11, 2)))[0])


def test_a_totaliser_counts_on_and_its_register_rolls_over() -> None:
    profile = load_profile("sim-pump")
    simulated = device(profile, {**PUMP_VALUES, "total": 2**32 / 100 + 1.5})
    assert simulated.read(4, 4, 2) == [0, 150]


def test_parts_of_blocks_and_neighbouring_blocks_can_be_read_and_holes_cannot() -> None:
    simulated = pump()
    assert simulated.read(4, 8, 2) == [7, 3]
    assert simulated.read(4, 100, 3) == [0x5102, 0, 4711]
    for fc, addr, count, code in [(4, 10, 2, 2), (4, 50, 1, 2), (1, 0, 1, 1), (4, 0, 126, 3), (4, 0, 0, 3)]:
        with pytest.raises(ModbusFault) as caught:
            simulated.read(fc, addr, count)
        assert caught.value.code == code, (fc, addr, count)


def test_over_the_wire_an_atomic_block_is_read_whole_or_not_at_all() -> None:
    simulated = pump()
    assert simulated.read_bytes(4, 0, 11) == struct.pack(">11H", *simulated.read(4, 0, 11))
    assert simulated.read_bytes(4, 100, 3), "no block, and not atomic"
    for addr, count in ((0, 10), (8, 2), (0, 12), (10, 1)):
        with pytest.raises(ModbusFault) as caught:
            simulated.read_bytes(4, addr, count)
        assert caught.value.code == 2, (addr, count)
    assert device(odd(), dict.fromkeys(odd().points, 0) | {"mode": "back", "name": ""}).read_bytes(3, 11, 2)


def test_memory_that_wears_takes_as_many_writes_as_its_profile_says() -> None:
    whole = load_profile("eurotherm-epc3016")
    storing = replace(whole.commands["set_temperature"], storage=Storage(per_day=None, life=2))
    worn = simulated(replace(whole, commands={**whole.commands, "set_temperature": storing}))
    command = whole.commands["set_temperature"]
    for value, reads in ((20.0, 20.0), (21.0, 21.0), (22.0, 21.0), (23.0, 21.0)):
        worn.write(command.fc, command.addr, encode_command(command, {"value": value}))
        assert worn.reads("setpoint") == reads
    assert worn.stores == {"set_temperature": 4}
    worn.power(on=False)
    worn.power(on=True)
    worn.write(command.fc, command.addr, encode_command(command, {"value": 24.0}))
    assert worn.reads("setpoint") == 21.0, "power does not mend it"
    worn.replace(4712)
    worn.write(command.fc, command.addr, encode_command(command, {"value": 24.0}))
    assert (worn.reads("setpoint"), worn.stores) == (24.0, {"set_temperature": 1})


@pytest.mark.parametrize(
    ("unlisted", "fc", "addr", "count", "code"),
    [
        ("discard", 16, 900, 2, 0),  # acknowledged, and thrown away
        ("discard", 5, 900, 1, 2),  # that is said of function 16 alone
        ("discard", 16, 9, 4, 2),  # it touches registers that are there, and cannot be written so
        ("discard", 16, 11, 2, 0),  # a command
        ("undefined", 16, 900, 2, 2),
        ("exception", 16, 900, 2, 2),
    ],
)
def test_a_block_write_to_what_is_not_there(unlisted: str, fc: int, addr: int, count: int, code: int) -> None:
    log: list[Any] = []
    profile = replace(odd(), sim=Sim("none", unlisted=unlisted))
    odd_one = device(profile, dict.fromkeys(profile.points, 0) | {"mode": "back", "name": ""}, log)
    with pytest.raises(ModbusFault, match=f"{code:#04x}") if code else contextlib.nullcontext():
        odd_one.write(fc, addr, [0] * count)
    assert [name for name, _ in log] == (["set"] if addr == 11 else [])
    assert all(place[1] != 900 for place in odd_one.written), "nothing of it is kept"
    if unlisted == "exception":
        with pytest.raises(ModbusFault):
            odd_one.read_bytes(3, 900, 1)
    else:
        assert len(odd_one.read_bytes(3, 900, 1)) == 2


def test_a_device_that_does_not_match_its_profile_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"sim-pump: no getter for \['boots'\], and nothing in the profile for \['x'\]"
    ):
        SimDevice(load_profile("sim-pump"), {**{n: int for n in PUMP_VALUES if n != "boots"}, "x": int}, {})
    with pytest.raises(ValueError, match="no handler for"):
        SimDevice(load_profile("sim-pump"), dict.fromkeys(PUMP_VALUES, int), {})


# --- commands ---


def test_the_command_that_the_frame_means_gets_its_arguments_in_their_units() -> None:
    profile, log = load_profile("sim-pump"), []
    simulated = device(profile, PUMP_VALUES, log)
    simulated.write(16, 0, encode_command(profile.commands["dispense"], {"sequence": 9, "rate": 80.0, "volume": 4.9}))
    simulated.write(6, 6, [0])
    assert log == [("dispense", {"sequence": 9, "rate": 80.0, "volume": 4.9}), ("stop", {})]
    valves, log = load_profile("sim-valves"), []
    simulated = device(valves, {"suction": 0, "delivery": 0}, log)
    simulated.write(16, 0, [3, 7])
    simulated.write(16, 0, [0, 0])
    assert log == [("select", {"suction": 3, "delivery": 7}), ("close", {})]


@pytest.mark.parametrize(
    ("fc", "addr", "words", "code"),
    [
        (16, 0, [9, *struct.unpack(">2H", struct.pack(">f", 200.5)), 0, 490, 1], 3),  # rate above its limit
        (16, 0, [9, *struct.unpack(">2H", struct.pack(">f", math.nan)), 0, 490, 1], 3),
        (16, 0, [0, *struct.unpack(">2H", struct.pack(">f", 80.0)), 0, 490, 1], 3),  # sequence below its limit
        (16, 0, [9, *struct.unpack(">2H", struct.pack(">f", 80.0)), 0, 490, 2], 3),  # not the fixed value
        (16, 0, [9, 0, 0], 2),  # half a frame
        (6, 8, [0], 2),
        (6, 6, [1], 3),
        (15, 6, [0], 1),
    ],
)
def test_a_frame_outside_the_limits_does_nothing(fc: int, addr: int, words: list[int], code: int) -> None:
    log: list[Any] = []
    with pytest.raises(ModbusFault) as caught:
        pump(log).write(fc, addr, words)
    assert (caught.value.code, log) == (code, [])


def test_a_table_comes_as_rows_and_reads_back_until_the_power_goes() -> None:
    profile, log = load_profile("sim-freezer"), []
    values = dict.fromkeys(profile.points, 0) | {"program_state": "idle"}
    simulated = device(profile, values, log)
    rows = [
        {"kind": "hold", "listen": "sample", "rate": 0.0, "target": 4.0, "end": "target", "timeout": 600},
        {"kind": "ramp", "listen": "chamber", "rate": -1.0, "target": -5.0, "end": "exotherm_or_time", "timeout": 60},
    ]
    words = encode_command(profile.commands["load_program"], {"rows": rows})
    simulated.write(16, 100, words)
    assert log == [("load_program", {"rows": rows})]
    assert simulated.read(3, 100, 96) == words
    simulated.write(16, 100, words[:8])  # a shorter table is a table too
    assert log[1] == ("load_program", {"rows": rows[:1]})
    simulated.power(on=True)
    assert simulated.read(3, 100, 96) == [0] * 96


def test_what_a_handler_refuses_is_not_remembered() -> None:
    profile = load_profile("sim-freezer")

    def busy(args: Mapping[str, Any]) -> None:
        raise ModbusFault(6)

    values = dict.fromkeys(profile.points, lambda: 0) | {"program_state": lambda: "running"}
    simulated = SimDevice(profile, values, dict.fromkeys(profile.commands, busy))
    with pytest.raises(ModbusFault) as caught:
        simulated.write(16, 100, [2, 0, 0, 0, 0, 0, 0, 60])
    assert caught.value.code == 6
    assert simulated.read(3, 100, 8) == [0] * 8
