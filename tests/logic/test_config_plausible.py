"""A site file that loads but would protect nothing: wrong probes, corrections, bounds, addresses."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from devices.document import DocumentError
from tilctl.cli.simulated import site_for
from tilctl.config import Site, load_site
from tilctl.config.wiring import LONGEST_TIMEOUT_S
from tilctl.plant.outputs import PROTECT_WITHIN

EUROTHERM = "lab-eurotherm"
DEMO = Path(str(resources.files("tilctl.cli").joinpath("demo-site.yaml")))
Change = tuple[str, str]


def changed(folder: Path, *changes: Change, lab: str = EUROTHERM) -> Path:
    """Write the site of a lab with texts replaced, each once."""
    text = site_for(lab).read_text("utf-8")
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after, 1)
    path = folder / "site.yaml"
    path.write_text(text, "utf-8")
    return path


def loaded(folder: Path, *changes: Change, lab: str = EUROTHERM) -> Site:
    return load_site(changed(folder, *changes, lab=lab))


def refused(folder: Path, finding: str, at: str, *changes: Change, lab: str = EUROTHERM) -> None:
    """Assert that the site is refused with one finding, which stands at the key or value `at` and says what to do."""
    path = changed(folder, *changes, lab=lab)
    with pytest.raises(DocumentError) as caught:
        load_site(path)
    found = [d for d in caught.value.diagnostics if finding in d.message]
    assert found, str(caught.value)
    assert found[0].hint
    line = path.read_text("utf-8").splitlines()[found[0].line - 1]
    assert line[found[0].column - 1 :].startswith(at), f"{found[0].column} in {line!r}"


PLUG = (
    ("buses:\n", 'buses:\n  plugs: {kind: mqtt, url: "mqtt://127.0.0.1:1883"}\n'),
    ("devices:\n", "devices:\n  plug: {profile: shelly-gen2-plug, bus: plugs, prefix: plug-1}\n"),
)
SECOND = "probe: second_probe.temperature"
SAMPLE = "sample: freezer_sample.temperature"
WAVESHARE = (
    ("buses:\n", "buses:\n  line: {kind: modbus-rtu-tcp, host: 127.0.0.1, port: 5029}\n"),
    ("freezer_io: {profile: moxa-e1214, bus: freezing", "freezer_io: {profile: waveshare-relay-8ch, bus: line"),
)


@pytest.mark.parametrize(
    ("changes", "finding", "at"),
    [
        ([("co2: co2_probe.co2", "co2: flow_air.temperature")], "flow_air.temperature is in degC, expected %", "co2:"),
        ([("co2: co2_probe.co2", "co2: co2_probe.device_status")], "is a number without a unit, expected %", "co2:"),
        ([("co2: co2_probe.co2", "co2: second_probe.output")], "second_probe.output is set and not measured", "co2:"),
        ([("co2: co2_probe.co2", "co2: co2_probe.co2\n    humidity: heater.output")], "heater.output is set", "humid"),
        (
            [("co2: co2_probe.co2", "co2: co2_probe.co2\n    humidity: co2_probe.co2")],
            "no humidity by its name",
            "humid",
        ),
        ([(SECOND, "probe: heater.temperature")], "heater heats by its own probe", "probe:"),
        ([(SECOND, "probe: second_probe.output")], "second_probe.output is in %, expected degC", "probe:"),
        ([(SECOND, "probe: second_probe.program_mode")], "is a symbol, expected degC", "probe:"),
        ([(SECOND, "probe: second_probe.setpoint")], "second_probe.setpoint is set and not measured", "probe:"),
        ([(SECOND, "probe: second_probe.setpoint_now")], "second_probe.setpoint_now is set and not", "probe:"),
        ([(SECOND, "probe: second_probe.nothing")], "no point of second_probe is called 'nothing'", "probe:"),
        ([(SECOND, "probe: flow_air.temperature")], "is what a gas_flow (alicat-mc) reads of itself", "probe:"),
        ([*PLUG, (SECOND, "probe: plug.temperature")], "is what a plug (shelly-gen2-plug) reads of itself", "probe:"),
        ([(SAMPLE, "sample: co2_probe.co2")], "co2_probe.co2 is in %, expected degC", "sample:"),
        ([(SAMPLE, "sample: freezer_chamber.temperature")], "is the probe of the chamber", "sample:"),
        ([(SAMPLE, f"{SAMPLE}\n    ln2: freezer_sample.temperature")], "is in degC, expected %", "ln2:"),
        ([("carrier: flow_air", "carrier: flow_co2")], "nothing would be mixed", "carrier:"),
        ([("lasts: 5 min", "lasts: 0 s")], "0 s is not between 10 s and 60 min", "lasts:"),
        ([("lasts: 5 min", "lasts: -5 s")], "-5 s is not between 10 s and 60 min", "lasts:"),
        ([("lasts: 5 min", "lasts: 10 d")], "10 d is not between 10 s and 60 min", "lasts:"),
        ([("within: 0.8 K", "within: 100 K")], "100 K is not between 0.1 K and 5 K", "within:"),
        ([("within: 0.8 K", "within: 0 K")], "0 K is not between 0.1 K and 5 K", "within:"),
    ],
)
def test_a_point_that_does_not_measure_what_it_is_taken_for_is_refused(
    changes: list[Change], finding: str, at: str, tmp_path: Path
):
    refused(tmp_path, finding, at, *changes)


def test_a_probe_of_another_instrument_may_be_the_second(tmp_path: Path):
    spec = loaded(tmp_path, (SECOND, "probe: freezer_sample.temperature"), (SAMPLE, "sample: second_probe.temperature"))
    assert "incubator" in spec.equipment
    loaded(tmp_path, ("lasts: 5 min", "lasts: 10 s"), ("within: 0.8 K", "within: 5 K"))


PROBE = ("second_probe: {profile: eurotherm-epc3016, bus: climate, unit: 2", "temperature")
CELL = ("cell_1: {profile: laumas-tlb, bus: weighing, unit: 1", "gross")
CO2 = ("    settings: {set_pressure_compensation: 1013 mbar, set_temperature_compensation: 37 degC", "co2")
SET = (PROBE[0], "setpoint")
NOW = (PROBE[0], "setpoint_now")
DRIVE = ("drive_media: {profile: leadfluid-bt100s, bus: fluidics, unit: 1", "speed")


def correcting(device: tuple[str, str], points: str) -> list[Change]:
    """Return what corrects a point of a device by pairs."""
    entry, point = device
    made = f"  now: [{{what: x, points: {points}, made: 2026-01-05, by: ab, expires: 2099-12-31}}]\n"
    corrections = f", corrections: {{{point}: now}}}}"
    if entry.startswith("    "):  # an entry of several lines
        corrections = f"}}\n    corrections: {{{point}: now}}"
    return [(f"{entry}}}", entry + corrections), ("calibrations:\n", "calibrations:\n" + made)]


@pytest.mark.parametrize(
    ("device", "points", "finding", "at"),
    [
        (PROBE, "[[20 degC, 37 degC], [60 degC, 37 degC]]", "20 degC is corrected by +17 K, expected at most 3", "[20"),
        (PROBE, "[[36 degC, 37 degC], [38 degC, 37 degC]]", "what was measured must rise", "[38 degC"),
        (PROBE, "[[38 degC, 38 degC], [37 degC, 37 degC]]", "what was shown must rise", "[37 degC"),
        (PROBE, "[[37 degC, 38 degC], [38 degC, 37.5 degC]]", "what was measured must rise", "[38 degC"),
        (PROBE, "[[36.8 degC, 36.8 degC], [37.2 degC, 37 degC]]", "its slope is 0.5, expected 0.9 to 1.1", "[37.2"),
        (PROBE, "[[37 degC, 7 degC]]", "37 degC is corrected by -30 K, expected at most 3", "[37 degC"),
        (CELL, "[[0 g, 5 g], [1000 g, 5 g]]", "what was measured must rise", "[1000 g"),
        (CELL, "[[0 g, 1000 g], [1000 g, 0 g]]", "what was measured must rise", "[1000 g"),
        (CELL, "[[0 g, 0 g], [1000 g, 400 g]]", "its slope is 0.4, expected 0.5 to 2", "[1000 g"),
        (CELL, "[[0 g, 10 kg]]", "0 g is corrected by +10000 g, expected at most 5000", "[0 g"),
        (CO2, "[[5 %, 9 %]]", "5 % is corrected by +4 %, expected at most 3", "[5 %"),
        (SET, "[[37 degC, 37.5 degC]]", "setpoint of second_probe is set and not measured", "setpoint"),
        (DRIVE, "[[10 rpm, 11 rpm]]", "speed of drive_media is set and not measured", "speed"),
        (NOW, "[[37 degC, 37.5 degC]]", "setpoint_now of second_probe is set and not measured", "setpoint_now"),
    ],
)
def test_a_correction_that_makes_readings_meaningless_is_refused(
    device: tuple[str, str], points: str, finding: str, at: str, tmp_path: Path
):
    refused(tmp_path, finding, at, *correcting(device, points))


@pytest.mark.parametrize(
    ("device", "points"),
    [
        (PROBE, "[[0.2 degC, 0 degC], [37.4 degC, 37 degC]]"),
        (PROBE, "[[37 degC, 40 degC]]"),
        (CELL, "[[0 g, -1200 g], [5 kg, 3.9 kg], [10 kg, 9.02 kg]]"),
        (CO2, "[[5.2 %, 5 %]]"),
    ],
)
def test_what_a_calibration_finds_in_a_sound_instrument_is_taken(device: tuple[str, str], points: str, tmp_path: Path):
    assert loaded(tmp_path, *correcting(device, points)).calibrations["now"]


@pytest.mark.parametrize(
    ("points", "finding"),
    [
        ("[[10 rpm, 0.00001 mL/min], [11 rpm, 100 L/min]]", "one turn moves 1e-06 to 9.09e+03 mL"),
        ("[[10 rpm, 20 mL/min], [20 rpm, 90 mL/min]]", "2 times as much as at another"),
    ],
)
def test_a_pump_curve_that_no_pump_has_is_refused(points: str, finding: str, tmp_path: Path):
    curve = "[[10 rpm, 20 mL/min], [50 rpm, 100 mL/min], [100 rpm, 200 mL/min]]"
    refused(tmp_path, finding, "tubing:", (curve, points))


@pytest.mark.parametrize("digest", ["zzz", "F19ECE1877981ED1", "f19ece1877981ed"])
def test_a_programme_is_named_by_a_digest(digest: str, tmp_path: Path):
    refused(tmp_path, "is no digest of a programme", digest, ("f19ece1877981ed1", digest))


def test_a_start_contact_that_a_dead_controller_would_leave_closed_is_refused(tmp_path: Path):
    finding = "freezer_io (waveshare-relay-8ch) does not open its outputs by itself when its host is gone"
    refused(tmp_path, finding, "io:", *WAVESHARE)


FREEZER_IO = "freezer_io: {profile: moxa-e1214, bus: freezing, unit: 1}"


@pytest.mark.parametrize("unit", [0, 248, 255])
def test_a_unit_that_no_instrument_can_have_is_refused(unit: int, tmp_path: Path):
    refused(
        tmp_path, f"unit {unit} is not between 1 and 247", "unit:", (FREEZER_IO, FREEZER_IO.replace("1}", f"{unit}}}"))
    )


@pytest.mark.parametrize(
    "prefix", ["#", "+", "a/+/b", "a/#", "{id}", "a{prefix}", '"a\\0b"', '"a\\nb"', "$SYS/x", "/a", "a/", '" a"']
)
def test_a_prefix_that_is_not_the_beginning_of_topics_is_refused(prefix: str, tmp_path: Path):
    at = "prefix:"
    quoted = prefix if prefix.startswith('"') else f'"{prefix}"'
    changes = (PLUG[0], (PLUG[1][0], PLUG[1][1].replace("prefix: plug-1", f"prefix: {quoted}")))
    refused(tmp_path, "is not the beginning of the topics of one instrument", at, *changes)


def test_a_prefix_may_have_several_levels(tmp_path: Path):
    changes = (PLUG[0], (PLUG[1][0], PLUG[1][1].replace("prefix: plug-1", "prefix: Halle 3/plug_1")))
    assert loaded(tmp_path, *changes).devices["plug"].prefix == "Halle 3/plug_1"


GAS = "gas: {kind: modbus-tcp, host: 127.0.0.1, port: 5024"


@pytest.mark.parametrize(
    "here", ["modbus-tcp, host: 127.0.0.1", "modbus-tcp, host: LocalHost", "modbus-rtu-tcp, host: '::1'"]
)
def test_two_buses_on_one_port_are_refused(here: str, tmp_path: Path):
    refused(tmp_path, "climate is at", "port:", (GAS, f"gas: {{kind: {here}, port: 5020"))


def test_two_buses_on_one_serial_port_are_refused_by_whatever_name(tmp_path: Path):
    (tmp_path / "ttyUSB0").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "ttyUSB0")
    line = "{{kind: modbus-rtu, path: {}, baud: 19200, format: 8N1, timeout: 1 s}}"
    buses = [("gas", 5024, "ttyUSB0"), ("weighing", 5022, "by-id")]
    changes = [
        (
            f"{name}: {{kind: modbus-tcp, host: 127.0.0.1, port: {port}, timeout: 1 s}}",
            f"{name}: {line.format(tmp_path / path)}",
        )
        for name, port, path in buses
    ]
    refused(tmp_path, "gas is at", "path:", *changes)


@pytest.mark.parametrize(
    ("text", "finding", "at"),
    [
        ("timeout: 1 h", "a timeout of 60 min is more than 4 s", "timeout:"),
        ("timeout: 4.5 s", "a timeout of 4.5 s is more than 4 s", "timeout:"),
        ("timeout: 1 s, turnaround: 30 s", "a turnaround of 30 s is not between 0 s and 1 s", "turnaround:"),
        ("timeout: 1 s, turnaround: -1 s", "a turnaround of -1 s is not between 0 s and 1 s", "turnaround:"),
    ],
)
def test_a_bus_on_which_a_stop_would_come_too_late_is_refused(text: str, finding: str, at: str, tmp_path: Path):
    refused(tmp_path, finding, at, (f"{GAS}, timeout: 1 s", f"{GAS}, {text}"))


def test_a_stop_behind_an_instrument_that_hangs_leaves_before_it_is_given_up(tmp_path: Path):
    assert LONGEST_TIMEOUT_S < PROTECT_WITHIN
    assert loaded(tmp_path, (f"{GAS}, timeout: 1 s", f"{GAS}, timeout: 4 s")).buses["gas"].timeout == 4.0


@pytest.mark.parametrize(
    ("tag", "above", "finding"),
    [
        ("station.temperature", "4400 degC", "is not within what heater.temperature measures, -200 degC to 200 degC"),
        ("station.temperature", "-300 degC", "is not within what heater.temperature measures"),
        ("station.temperature", "150 degC", "would trip always, or too late; expected 20 degC to 60 degC"),
        ("station.temperature", "4 degC", "would trip always, or too late"),
        ("station.co2", "25 %", "is not within what co2_probe.co2 measures, -0.5 % to 25 %"),
        ("station.co2", "0 %", "would trip always, or too late; expected 1 % to 50 %"),
    ],
)
def test_an_interlock_that_never_or_always_trips_is_refused(tag: str, above: str, finding: str, tmp_path: Path):
    there = "when: station.temperature > 39 degC"
    refused(tmp_path, finding, "when:", (there, f"when: {tag} > {above}"))


def test_an_interlock_of_a_whole_instrument_is_held_against_its_own_range(tmp_path: Path):
    path = tmp_path / "site.yaml"
    text = DEMO.read_text("utf-8")
    path.write_text(text.replace("station.temperature > 39 degC", "station.temperature > 90 degC"), "utf-8")
    with pytest.raises(DocumentError, match=r"incubator\.temperature measures, -20 degC to 80 degC"):
        load_site(path)


def test_a_place_that_liquid_reaches_without_a_scale_is_refused(tmp_path: Path):
    finding = "p2 has no scale, and the line media serves its class (station)"
    for lab, scale in ((EUROTHERM, "cell_2.gross"), ("lab-watlow", "scales.mass_2")):
        refused(tmp_path, finding, "p2:", (f", scale: {scale}", ""), lab=lab)


def test_a_place_that_no_line_reaches_needs_no_scale(tmp_path: Path):
    text = DEMO.read_text("utf-8").replace("at: waste, port: 16, scale: scales.mass_16", "at: waste, port: 16")
    text = "\n".join(line for line in text.splitlines() if "id: waste" not in line)
    (tmp_path / "site.yaml").write_text(text, "utf-8")
    assert load_site(tmp_path / "site.yaml").units["cell1"].places["w1"].scale_device == ""
