"""Profiles: those of the product are sound, wrong ones are refused with a line, and frames are what they say."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codec import CodecError
from devices.document import DocumentError, parse
from devices.frames import ArgumentError, BlockDecoder, encode_command, holds, point_words, wanted
from devices.profile import compile_profile, load_profile, profile_ids
from devices.profile_types import Profile, Watchdog
from devices.reading import Quality
from devices.role import PARTS, ROLES

GOOD = """\
profile: {id: probe, version: 1, role: valves, maker: m, model: x, evidence: simulated, sources: [s]}
transport: {kinds: [tcp], offline_after: 2}
codec: {word_order: CDAB}
limits: {max_read: 20, max_write: 10}
asserts:
  - {fc: 3, addr: 90, type: uint16, equals: 0, why: unit must be C}
blocks:
  state: {fc: 3, addr: 10, count: 12, scan: fast}
points:
  suction: {block: state, addr: 10, type: uint16, stale_ms: 5000}
  delivery: {block: state, addr: 11, type: uint16, stale_ms: 5000}
  level: {block: state, addr: 12, type: int32, unit: mL, scale: 0.01, offset: 5, range: [0, 100], stale_ms: 5000}
  gain: {block: state, addr: 14, type: int16, scale: 0.3, nan: [-32768], stale_ms: 5000}
  mode: {block: state, addr: 15, type: uint16, symbols: {0: auto, 3: local}, stale_ms: 5000}
  pressure:
    block: state
    addr: 16
    type: float32
    unit: mbar
    stale_ms: 5000
    bad_when: [{point: mode, in: [3]}]
  flags: {block: state, addr: 18, type: bits16, bits: {0: leak, 15: worn}, stale_ms: 5000}
  label: {block: state, addr: 19, type: string, length: 2, stale_ms: 5000}
  lid: {block: state, addr: 21, type: bool, stale_ms: 5000}
commands:
  select:
    write:
      fc: 16
      addr: 40
      fields: [{arg: suction, type: uint16, min: 0, max: 16}, {arg: delivery, type: uint16, min: 0, max: 16}]
    idempotent: true
    verify: {within_ms: 500, points: [{point: suction, arg: suction}, {point: delivery, arg: delivery}]}
  close:
    write: {fc: 6, addr: 42, fields: [{value: 1, type: uint16}]}
    idempotent: true
    verify: {none: "the end switches are read by the operator"}
deny:
  - {range: [50, 60], why: passcodes}
failsafe: {safe_command: close, on_comm_loss: unknown}
"""


def compiled(text: str = GOOD) -> Profile:
    return compile_profile(parse(text, "probe.yaml"))


def registers(profile: Profile, **values: float | bool | str) -> list[int]:
    block = profile.blocks["state"]
    image = [0] * block.count
    for name, value in values.items():
        point = profile.points[name]
        words = point_words(point, value)
        image[point.addr - block.addr : point.addr - block.addr + point.words] = words
    return image


def test_every_profile_of_the_product_loads_and_plays_its_role():
    simulated = [name for name in profile_ids() if name.startswith("sim-")]
    assert simulated == ["sim-freezer", "sim-incubator", "sim-pump", "sim-rocker", "sim-scales", "sim-valves"]
    assert {load_profile(name).role for name in simulated} == set(ROLES) - {"automaton"}, "that one publishes over MQTT"
    assert load_profile("closed-automaton").role == "automaton"
    assert {load_profile(name).role for name in profile_ids()} <= {*ROLES, *PARTS}
    assert len({load_profile(name).identity.setting.among for name in simulated}) == len(simulated)


def test_the_pump_frame_is_one_request_with_the_start_at_its_end():
    command = load_profile("sim-pump").commands["dispense"]
    words = encode_command(command, {"sequence": 7, "rate": 80.0, "volume": 4900.0})
    assert (command.fc, command.addr, command.idempotent) == (16, 0, False)
    assert words == list(struct.unpack(">6H", struct.pack(">HfIH", 7, 80.0, 490000, 1)))


def test_a_freezing_programme_fills_the_whole_table():
    command = load_profile("sim-freezer").commands["load_program"]
    row = {"kind": "ramp", "listen": "sample", "rate": -1.0, "target": -4.0, "end": "exotherm_or_time", "timeout": 600}
    words = encode_command(command, {"rows": [row, {**row, "kind": 1}]})
    assert words[:8] == list(struct.unpack(">8H", struct.pack(">HHffHH", 2, 1, -1.0, -4.0, 2, 600)))
    assert words[8] == 1
    assert words[16:] == [0] * 80
    with pytest.raises(ArgumentError, match="13 rows"):
        encode_command(command, {"rows": [row] * 13})
    with pytest.raises(ArgumentError, match="row 2: rate -51 K/min is outside -50 to 50 K/min"):
        encode_command(command, {"rows": [row, {**row, "rate": -51.0}]})
    with pytest.raises(ArgumentError, match="row 1 has no field ramp"):
        encode_command(command, {"rows": [{**row, "ramp": 1}]})


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ({"sequence": 1, "rate": 80}, "volume is missing"),
        ({"sequence": 1, "rate": 201, "volume": 10}, "rate 201 mL/min is outside 0.5 to 200 mL/min"),
        ({"sequence": 1, "rate": 80, "volume": 0.05}, "volume 0.05 mL is outside"),
        ({"sequence": 1, "rate": float("nan"), "volume": 10}, "finite"),
        ({"sequence": 1.5, "rate": 80, "volume": 10}, "whole number"),
        ({"sequence": 0, "rate": 80, "volume": 10}, "sequence 0 is outside 1 to 65535"),
        ({"sequence": 1, "rate": "fast", "volume": 10}, "finite number of mL/min"),
        ({"sequence": 1, "rate": 80, "volume": 10, "speed": 3}, "no argument speed"),
    ],
)
def test_arguments_outside_the_profile_are_never_encoded(args, text):
    with pytest.raises(ArgumentError, match=text):
        encode_command(load_profile("sim-pump").commands["dispense"], args)


@given(st.floats(0.1, 10000), st.floats(0.5, 200), st.integers(1, 65535))
def test_any_dose_within_the_limits_fits_and_is_rounded_to_the_count(volume, rate, sequence):
    words = encode_command(
        load_profile("sim-pump").commands["dispense"], {"sequence": sequence, "rate": rate, "volume": volume}
    )
    assert abs((words[3] << 16 | words[4]) / 100 - volume) <= 0.005 + 1e-9


@given(st.sampled_from(["sim-incubator", "sim-pump", "sim-scales", "sim-freezer", "sim-valves"]), st.data())
def test_what_a_simulator_encodes_the_driver_decodes(name, data):
    profile = load_profile(name)
    for block in profile.blocks.values():
        image, truth = [0] * block.count, {}
        for point in block.points:
            if point.symbols:
                value = data.draw(st.sampled_from(sorted(point.symbols.values())))
            elif point.unit == "bool":
                value = data.draw(st.booleans())
            else:
                low, high = point.range or (0, 65535)
                value = float(data.draw(st.integers(int(low), int(high))))
            image[point.addr - block.addr : point.addr - block.addr + point.words] = point_words(point, value)
            truth[point.name] = value
        readings = BlockDecoder(block).decode(image, 12.0)
        assert {n: readings[n].value for n in truth} == truth
        assert all(r.at == 12.0 and r.quality is Quality.GOOD for r in readings.values())


def test_values_come_in_their_unit_and_flags_by_name():
    profile = compiled()
    image = registers(
        profile, level=17.34, gain=-9, mode="auto", pressure=12.5, flags=0x8000, label="AB1", lid=True, suction=3
    )
    readings = BlockDecoder(profile.blocks["state"]).decode(image, 1.0)
    values = {name: reading.value for name, reading in readings.items()}
    assert values == {
        "suction": 3.0,
        "delivery": 0.0,
        "level": 17.34,
        "gain": -9.0,
        "mode": "auto",
        "pressure": 12.5,
        "flags": 0x8000,
        "leak": False,
        "worn": True,
        "label": "AB1",
        "lid": True,
    }
    assert {readings[n].unit for n in ("leak", "lid")} == {"bool"}
    assert (readings["level"].unit, readings["mode"].unit, readings["label"].unit) == ("mL", "symbol", "text")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("level", point_words(compiled().points["level"], 101.0)),  # out of range
        ("gain", [0x8000]),  # a sentinel that means "no value"
        ("mode", [1]),  # a state the profile does not know
        ("pressure", [0, 0x7FC0]),  # NaN, words swapped
        ("pressure", [0, 0x7F80]),  # infinity
        ("label", [0xFFFF, 0xFFFF]),
    ],
)
def test_what_is_not_plausible_is_bad_and_none(name, words):
    profile = compiled()
    point, image = profile.points[name], registers(profile, mode="auto")
    image[point.addr - 10 : point.addr - 10 + point.words] = words
    reading = BlockDecoder(profile.blocks["state"]).decode(image, 1.0)[name]
    assert (reading.value, reading.quality) == (None, Quality.BAD)


def test_a_value_is_bad_while_another_point_says_so():
    profile = compiled()
    decoder = BlockDecoder(profile.blocks["state"])
    assert decoder.decode(registers(profile, pressure=5.0, mode="auto"), 0.0)["pressure"].value == 5.0
    assert decoder.decode(registers(profile, pressure=5.0, mode="local"), 0.0)["pressure"].quality is Quality.BAD


def test_a_simulator_is_told_when_a_point_cannot_carry_its_value():
    with pytest.raises(CodecError):
        point_words(compiled().points["mode"], "remote")
    with pytest.raises(CodecError):
        point_words(compiled().points["suction"], -1)


def test_a_read_back_is_compared_with_what_the_register_can_hold():
    profile = load_profile("sim-incubator")
    command = profile.commands["set_temperature"]
    check = command.verify.checks[0]
    values = wanted(command, check, {"value": 37.3})
    words = [*encode_command(command, {"value": 37.3}), 0, 0]
    readings = BlockDecoder(profile.blocks["targets"]).decode(words, 0.0)
    assert holds(check, values, readings["temperature_target"])
    other = BlockDecoder(profile.blocks["targets"]).decode([*encode_command(command, {"value": 37.32}), 0, 0], 0.0)
    assert not holds(check, values, other["temperature_target"])
    assert not holds(check, values, None)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("addr: 21, type: bool", "addr: 22, type: bool", "outside block state"),
        ("count: 12", "count: 21", "more than limits.max_read"),
        ("unit: mbar", "unit: bar", "not a canonical unit"),
        ("block: state, addr: 21", "block: stat, addr: 21", "no block stat"),
        ("15: worn", "16: worn", "bits 0 to 15"),
        ("15: worn", "15: lid", "name of another point"),
        ("scale: 0.3", "scale: 0", "scale of 0"),
        ("range: [0, 100]", "range: [100, 0]", "low, high"),
        ("point: mode, in: [3]", "point: mode", "either `in` or `not_in`"),
        ("type: uint16, min: 0, max: 16}, {arg: del", "type: uint16, min: 0}, {arg: del", "suction has no limits"),
        ("type: uint16, min: 0, max: 16}, {arg: del", "type: uint16, min: 0, max: 65536}, {arg: del", "does not fit"),
        ("[{point: suction, arg: suction}", "[{point: suction, arg: x}", "no argument x"),
        ('none: "the end switches are read by the operator"', 'none: ""', "say why"),
        ("addr: 42, fields", "addr: 55, fields", "denied registers: passcodes"),
        ("fc: 6, addr: 42", "fc: 6, addr: 42, rows: {arg: r, max: 1, fields: [{arg: a, type: bool}]}", "one value"),
        ("safe_command: close", "safe_command: shut", "no command shut"),
        ("safe_command: close", "safe_command: select", "takes arguments"),
        ("role: valves", "role: valve", "no role valve"),
        ("delivery: {block: state, addr: 11", "deliver: {block: state, addr: 11", "must offer the point delivery"),
        ("  close:", "  shut:", "must offer the command close"),
        ("addr: 10, type: uint16", "addr: 10, type: uint16, colour: red", "colour"),
        ("fc: 3, addr: 10", "fc: 7, addr: 10", "fc"),
        ("addr: 90", "addr: 4x0090", "not a whole number"),
    ],
)  # fmt: skip
def test_a_wrong_profile_is_refused_with_its_line(old, new, text):
    assert GOOD.count(old) == 1
    line = 1 if "must offer" in text else GOOD[: GOOD.index(old)].count("\n") + 1
    with pytest.raises(DocumentError) as caught:
        compiled(GOOD.replace(old, new))
    found = [d for d in caught.value.diagnostics if text in str(d)]
    assert found, str(caught.value)
    assert line in {d.line for d in found}, str(caught.value)


def test_all_findings_come_at_once():
    with pytest.raises(DocumentError) as caught:
        compiled(GOOD.replace("unit: mbar", "unit: bar").replace("scale: 0.3", "scale: 0"))
    assert len(caught.value.diagnostics) == 2


def test_an_unknown_id_names_the_known_ones(tmp_path):
    with pytest.raises(DocumentError, match="sim-pump"):
        load_profile("sim-pmup")
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD, "utf-8")
    assert load_profile(str(path)).id == "probe"
    assert load_profile(path).sha256 == compiled().sha256


WATCHED = (
    GOOD.replace(
        "deny:",
        """\
  feed:
    write: {fc: 6, addr: 43, fields: [{arg: seconds, type: uint16, unit: s, min: 0, max: 60}]}
    idempotent: true
    verify: {points: [{point: left, arg: seconds}]}
deny:""",
    )
    .replace(
        "  lid: {block: state",
        "  left: {block: state, addr: 13, type: uint16, unit: s, stale_ms: 5000}\n  lid: {block: state",
    )
    .replace(
        "safe_command: close,",
        "watchdog: {command: feed, timeout: 20 s, period: 5 s, action: stop, armed: left, tripped: leak},\n"
        "  after_power_loss: {position: closed}, safe_command: close,",
    )
)


def test_a_watchdog_is_compiled() -> None:
    profile = compiled(WATCHED)
    assert profile.watchdog == Watchdog("feed", "seconds", 20.0, 5.0, "stop", "left", "leak")
    assert profile.after_power_loss == {"position": "closed"}
    assert compiled().watchdog is None


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("command: feed, timeout", "command: feet, timeout", "no idempotent command"),
        ("command: feed, timeout", "command: select, timeout", "no idempotent command"),
        ("timeout: 20 s", "timeout: 20", "no unit"),
        ("timeout: 20 s", "timeout: 90 s", "cannot be armed with 90 s"),
        ("period: 5 s", "period: 11 s", "one lost feed"),
        ("armed: left", "armed: gain", "no point in s"),
        ("tripped: leak", "tripped: gain", "neither a bit nor a bool"),
        ("action: stop", "action: explode", "stop"),
        ("position: closed", "position: ajar", "closed"),
    ],
)
def test_a_wrong_watchdog_is_refused_with_its_line(old: str, new: str, text: str) -> None:
    assert WATCHED.count(old) == 1
    with pytest.raises(DocumentError) as caught:
        compiled(WATCHED.replace(old, new))
    found = [d for d in caught.value.diagnostics if text in str(d)]
    assert found, str(caught.value)
    assert WATCHED[: WATCHED.index(old)].count("\n") + 1 in {d.line for d in found}


def test_a_watchdog_that_cannot_be_disarmed_or_done_twice_is_refused() -> None:
    for old, new, text in (
        ("unit: s, min: 0, max: 60", "unit: s, min: 1, max: 60", "cannot disarm"),
        (
            "min: 0, max: 60}]}\n    idempotent: true",
            "min: 0, max: 60}]}\n    idempotent: false",
            "no idempotent command",
        ),
    ):
        assert WATCHED.count(old) == 1
        with pytest.raises(DocumentError, match=text):
            compiled(WATCHED.replace(old, new))


def test_the_pump_declares_its_watchdog() -> None:
    watchdog = load_profile("sim-pump").watchdog
    assert watchdog == Watchdog("set_watchdog", "seconds", 15.0, 5.0, "stop", "watchdog", "watchdog_tripped")
