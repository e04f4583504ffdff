"""What a profile says must be able to be true, and to be false: proofs, settings, addresses, the simulator's values."""

from __future__ import annotations

from pathlib import Path

import pytest

from devices.document import Diagnostic, DocumentError, parse
from devices.profile import compile_profile, load_profile, profile_ids
from devices.profile_sim import sim_value
from simulators.parts import simulated

TEXT = (Path(__file__).parents[2] / "devices" / "template.yaml").read_text("utf-8")
FLOW = "{arg: value, type: float32, unit: mL/min, min: 0, max: 500}"
PROOF = "{point: setpoint, arg: value, tolerance: 0.01}"
STOPPED = "{point: setpoint, equals: 0}"
MODE = "symbols: {0: local, 1: remote}"


def found(*changes: tuple[str, str], text: str = TEXT) -> tuple[Diagnostic, ...]:
    """Return what the check finds in the template with some text replaced, which stands in it once."""
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    try:
        compile_profile(parse(text, "p.yaml"))
    except DocumentError as error:
        return error.diagnostics
    return ()


WRONG = [
    # a proof by something else than what was asked for
    (PROOF, "{point: temperature, arg: value}", "temperature reads in degC, but the argument value is in mL/min"),
    (PROOF, "{point: mode, arg: value}", "mode reads one of its symbols, but the argument value is in mL/min"),
    (PROOF, "{point: valve_open, arg: value}", "valve_open reads true or false, but the argument value is in mL/min"),
    (FLOW, "{arg: value, type: float32, unit: rpm, min: 0, max: 500}", "the argument value is in rpm"),
    (FLOW, "{arg: value, type: float32, min: 0, max: 500}", "the argument value is a number without a unit"),
    (FLOW, "{arg: value, type: uint16, symbols: {0: shut}}", "the argument value is one of its symbols"),
    # a proof that never holds
    ("mL/min, range: [0, 500]", "mL/min, range: [0, 50]", "such a write could never be proven"),
    (STOPPED, "{point: setpoint, equals: 5000}", "setpoint never reads 5000: it is bad outside 0 to 500"),
    (STOPPED, "{point: setpoint, equals: nan}", "setpoint is never nan"),
    (STOPPED, "{point: setpoint, equals: inf}", "setpoint is never inf"),
    (STOPPED, "{point: setpoint, equals: 0.1}", "its registers (float32) then read 0.10000000149"),
    (STOPPED, "{point: temperature, equals: 20.05}", "temperature never reads 20.05: its registers (int16) then read"),
    (STOPPED, "{point: flow, equals: -9999}", "flow never reads -9999: it is bad outside -10 to 600"),
    # a proof that always holds
    ("tolerance: 0.01", "tolerance: 1e9", "1e+09 on setpoint is no tolerance for values of 0 to 500"),
    ("tolerance: 0.01", "tolerance: 250", "250 on setpoint is no tolerance"),
    (STOPPED, "{point: setpoint, equals: 0, tolerance: 250}", "all that setpoint reads is within 250 of 0"),
    (STOPPED, "{point: setpoint, in: [0, 400], tolerance: 125}", "all that setpoint reads is within 125 of 0, 400"),
    (STOPPED, "{point: mode, in: [local, remote]}", "mode is always one of local, remote: that shows nothing"),
    (STOPPED, '{point: valve_open, in: ["true", "false"]}', "valve_open is always one of true, false"),
    ("requires: [{point: mode, in: [remote]}]", "requires: [{point: mode, in: [remote, local]}]", "shows nothing"),
    # a check of two minds
    (STOPPED, "{point: setpoint, equals: 0, in: [1]}", "give one of `arg`, `equals` or `in`"),
    (STOPPED, "{point: mode, equals: local, tolerance: 1}", "mode is no number: it has no tolerance"),
    # settings that never stand
    ("expect: 0x1234", "expect: 0x12345", "74565 cannot stand in uint16"),
    ("expect: 0x1234", "expect: -1", "-1 cannot stand in uint16"),
    ("equals: 0, why", "equals: 70000, why", "70000.0 cannot stand in uint16"),
    ("equals: 0, why", "equals: 0.5, why", "0.5 cannot stand in uint16"),
    ("equals: 0, why", "in: [0, -3], why", "-3.0 cannot stand in uint16"),
    ("equals: 0, why", "in: [], why", "nothing is listed"),
    ("addr: 20, type: uint16, equals: 0", "addr: 20, type: float32, equals: 0.1", "0.1 cannot stand in float32"),
    ("addr: 20, type: uint16, equals: 0", "addr: 20, type: bool, equals: 2", "2.0 cannot stand in bool"),
    ("identity: {fc: 3", "identity: {fc: 1", "function code 1 carries bits: type must be bool, not uint16"),
    ("{fc: 3, addr: 20, type: uint16", "{fc: 2, addr: 20, type: float32", "type must be bool, not float32"),
    ("serial: {addr: 1, type: uint32}", "serial: {addr: 1, type: string}", "a string needs `length`"),
    # behind the last address
    ("target: {fc: 3, addr: 200", "target: {fc: 3, addr: 65535", "block target reaches address 65536"),
    ("addr: 20, type: uint16, equals", "addr: 65533, type: uint64, equals", "it reaches address 65536"),
    ("serial: {addr: 1,", "serial: {addr: 65535,", "it reaches address 65536"),
    (f"addr: 200\n      fields: [{FLOW}]", f"addr: 65535\n      fields: [{FLOW}]", "set_flow reaches address 65536"),
    (
        f"addr: 200\n      fields: [{FLOW}]", f"addr: 65520\n      rows: {{arg: rows, max: 9, fields: [{FLOW}]}}",
        "set_flow reaches address 65537",
    ),
    # scales and numbers that overflow
    (FLOW, "{arg: value, type: uint16, unit: mL/min, min: 0, max: 500, scale: 1e-320}", "is no scale of a register"),
    ("unit: degC, scale: 0.1", "unit: degC, scale: 1e-320", "is no scale of a register; expected 1e-12 to 1e+12"),
    ("unit: degC, scale: 0.1", "unit: degC, scale: -1e200", "-1e+200 is no scale of a register"),
    (FLOW, "{arg: value, type: uint16, unit: mL/min, scale: 1e-9, min: 0, max: 1e308}", "beyond any register"),
    (FLOW, "{arg: value, type: float32, unit: mL/min, scale: 0.01, min: 0, max: 1e37}", "does not fit float32"),
    ("range: [-10, 600]", f"range: [-10, 0x{'F' * 400}]", "is not a finite number"),
    ("addr: 103", f"addr: 0x{'F' * 400}", "is more than the 64 bits"),
    ("expect: 0x1234", f"expect: 0x{'F' * 400}", "is more than the 64 bits"),
    # symbols
    (MODE, "symbols: {0: remote, 1: remote}", "remote is the name of 0 and of 1"),
    (MODE, "symbols: {0: local, 1: remote, 70000: other}", "70000 cannot stand in uint16"),
    (MODE, "symbols: {0: local, 1: remote, -1: other}", "-1 cannot stand in uint16"),
    ("evidence: manual ", "evidence: bench ", "of open_checks 1 are left: 'the word order of flow"),
    # what the simulator reads
    ("mode: remote}", "mode: banana}", "mode cannot read 'banana': expected one of local, remote"),
    ('flow: "12.5"', "flow: twelve", "flow cannot read 'twelve': expected a number of mL/min, without its unit"),
    ('flow: "12.5"', 'flow: "nan"', "flow cannot read 'nan': expected a number of mL/min from -10 to 600"),
    ('temperature: "21.5"', 'temperature: "1e9"', "expected a number of degC from -20 to 80"),
    ("mode: remote}", "mode: remote, status: lit}", "expected a whole number, or names of sensor_fault, valve_open"),
    ("mode: remote}", 'mode: remote, status: "65536"}', "status cannot read '65536'"),
    ("mode: remote}", 'mode: remote, sensor_fault: "true"}', "there is no point sensor_fault"),
    ("model: registers", "model: nonsense", "a gas_flow is not simulated by nonsense"),
    ("model: registers", "model: pump", "a gas_flow is not simulated by pump"),
    ("unlisted: exception", "latency_ms: [-5, 10], unlisted: exception", "[-5, 10] ms is no latency"),
    ("unlisted: exception", "latency_ms: [20, 10], unlisted: exception", "[20, 10] ms is no latency"),
    ("unlisted: exception", "latency_ms: [10, 1e300], unlisted: exception", "is no latency"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "text"), WRONG)
def test_what_cannot_be_true_or_cannot_be_false_is_found_at_its_line(old: str, new: str, text: str) -> None:
    hits = [finding for finding in found((old, new)) if text in finding.message]
    assert hits, found((old, new))
    assert all(
        hit.line in {line(old), line(old) + new.count("\n"), line(PROOF), line("      addr: 200")} for hit in hits
    )
    assert all(hit.column > 1 for hit in hits)


def line(part: str) -> int:
    return TEXT[: TEXT.index(part)].count("\n") + 1


RIGHT = [
    (STOPPED, "{point: setpoint, in: [0, 1], tolerance: 100}"),
    (STOPPED, "{point: temperature, equals: 20.1}"),
    (STOPPED, "{point: setpoint, equals: 0.1, tolerance: 0.001}"),
    (STOPPED, '{point: valve_open, equals: "false"}'),
    (STOPPED, "{point: mode, in: [local]}"),
    ("tolerance: 0.01", "tolerance: 249"),
    ("  target: {fc: 3", "  last: {fc: 3, addr: 65535, count: 1, scan: slow}\n  target: {fc: 3"),
    ("addr: 20, type: uint16, equals: 0", "addr: 20, type: float32, equals: 0.5"),
    ("addr: 20, type: uint16, equals: 0", "addr: 65532, type: int64, in: [-1, 1]"),
    ("range: [300, 339]", "range: [90, 110]"),  # denied to commands; blocks may read it
    ("mode: remote}", "mode: local, status: 'sensor_fault, warming_up'}"),
    ("mode: remote}", 'mode: local, status: "3"}'),
    ("model: registers", "model: gas_flow"),
    ("unlisted: exception", "latency_ms: [2, 10], unlisted: exception"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), RIGHT)
def test_what_can_be_both_is_no_mistake(old: str, new: str) -> None:
    assert found((old, new)) == ()


def test_each_profile_of_the_product_and_the_template_pass() -> None:
    assert found() == ()
    assert all(load_profile(name).id == name for name in profile_ids())


def test_bench_needs_every_open_check_settled() -> None:
    left = (
        "open_checks:                                   # what has to be looked at on the instrument before `bench`\n"
    )
    left += '    - "the word order of flow, against the display"\n'
    assert found(("evidence: manual ", "evidence: bench "), (left, "open_checks: []\n")) == ()


def test_a_count_whose_every_value_would_do_proves_nothing() -> None:
    gain = "  gain: {block: values, addr: 103, type: uint16, range: [3, 5], nan: [4], stale_ms: 5000}\n"
    points = ("  setpoint: {block", gain + "  setpoint: {block")
    (every,) = found(points, (STOPPED, "{point: gain, in: [3, 4.2, 5]}"))
    assert "gain never reads 4.2" in every.message
    (none,) = found(points, (STOPPED, "{point: gain, equals: 4}"))
    assert "then read no value, by `nan`" in none.message
    (every,) = found((points[0], gain.replace("nan: [4], ", "") + points[0]), (STOPPED, "{point: gain, in: [3, 4, 5]}"))
    assert "that shows nothing" in every.message
    (wide,) = found(
        (points[0], gain.replace("range: [3, 5], ", "") + points[0]),
        (STOPPED, "{point: gain, equals: 3, tolerance: 40000}"),
    )
    assert "that shows nothing" in wide.message


def test_a_tolerance_around_a_value_needs_a_range() -> None:
    bare = (", range: [0, 500]", "")
    (finding,) = found(bare, (STOPPED, "{point: setpoint, equals: 0, tolerance: 1e9}"))
    assert "setpoint has no range" in finding.message
    assert found(bare) == ()


def test_zero_and_one_are_proven_by_false_and_true() -> None:
    drive = (Path(__file__).parents[2] / "devices" / "profiles" / "leadfluid-bt100s.yaml").read_text("utf-8")
    assert found(text=drive) == ()
    (finding,) = found(
        ("{arg: value, type: uint16, min: 0, max: 1}", "{arg: value, type: uint16, min: 0, max: 2}"), text=drive
    )
    assert "dispense_mode reads true or false, but the argument value is a number without a unit" in finding.message


@pytest.mark.parametrize(("command", "means"), [("stop", "false"), ("start", "true")])
def test_a_pump_that_runs_is_no_proof_of_its_stop(command: str, means: str) -> None:
    drive = (Path(__file__).parents[2] / "devices" / "profiles" / "leadfluid-bt100s.yaml").read_text("utf-8")
    other = "true" if means == "false" else "false"
    (finding,) = found((f"{{point: running, equals: {means}}}", f"{{point: running, equals: {other}}}"), text=drive)
    assert f"{command} of a pump_drive is proven by running = {other}: it means {means}" in finding.message
    assert finding.hint == f"equals: {means}"


@pytest.mark.parametrize(("last", "ends"), [(267, ""), (268, "set_flow reaches address 65537; the last one is 65535")])
def test_an_index_is_part_of_where_a_command_ends(last: int, ends: str) -> None:
    place = "addr: 200\n      fields: [{arg"
    index = f"addr: 65000\n      index: [{{arg: channel, last: {last}, stride: 2}}]\n      fields: [{{arg"
    assert [finding.message for finding in found((place, index)) if "reaches" in finding.message] == [ends][: len(ends)]


def test_the_simulator_reads_what_the_check_has_passed() -> None:
    changes = ("mode: remote}", "mode: local, status: 'sensor_fault, warming_up', temperature: \"-20\"}")
    text = TEXT.replace('temperature: "21.5", ', "").replace(*changes)
    profile = compile_profile(parse(text, "p.yaml"))
    device = simulated(profile)
    assert [device.reads(name) for name in ("flow", "temperature", "mode", "status")] == [12.5, -20.0, "local", 0b1001]
    with pytest.raises(ValueError, match="true or false"):
        sim_value(load_profile("leadfluid-bt100s").points["running"], "on")


@pytest.mark.parametrize(
    ("new", "text"),
    [
        ("anticlockwise", "direction never reads anticlockwise, which the argument value may be"),
        ("clockwise", "clockwise is the name of 0 and of 1"),
    ],
)
def test_the_symbols_of_an_argument_are_read_back_by_name(new: str, text: str) -> None:
    drive = (Path(__file__).parents[2] / "devices" / "profiles" / "leadfluid-bt100s.yaml").read_text("utf-8")
    old = "fields: [{arg: value, type: uint16, symbols: {0: clockwise, 1: counterclockwise}}]"
    assert any(text in finding.message for finding in found((old, old.replace("counterclockwise", new)), text=drive))


def test_a_text_that_no_register_holds_is_no_identity() -> None:
    (finding,) = found(("type: uint16, expect: 0x1234", "type: string, length: 1, starts: EPH"))
    assert "'EPH' is longer than 2 characters" in finding.message
    assert found(("type: uint16, expect: 0x1234", "type: string, length: 2, starts: EPH")) == ()
