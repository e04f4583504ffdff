"""Equipment, calibrations and buses of a site file: what cannot work is refused before anything is opened."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from devices.calibration import Calibration, Curve, corrected, newest_of
from devices.document import DocumentError
from tilctl.cli.simulated import site_for
from tilctl.config import load_site

EUROTHERM, WATLOW = "lab-eurotherm", "lab-watlow"


def refusal(folder: Path, lab: str, *changes: tuple[str, str]) -> str:
    text = site_for(lab).read_text("utf-8")
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after)
    path = folder / "site.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(DocumentError) as found:
        load_site(path)
    return str(found.value)


HEATER = "{profile: eurotherm-epc3016, bus: climate"
SERIAL = "{kind: modbus-rtu, path: /dev/ttyUSB0, baud: 19200"
PLUG = "  enables: {profile: shelly-gen2-plug, bus: plugs, prefix: shellyplus1pm-a8032ab12345}"


@pytest.mark.parametrize(
    ("lab", "changes", "finding"),
    [
        (WATLOW, [(", enable: {io: enables, channel: 0}", "")], "does not bound a dose by itself"),
        (
            WATLOW,
            [("  enables: {profile: moxa-e1214, bus: relays", "  enables: {profile: waveshare-relay-8ch, bus: relays")],
            "does not open its outputs by itself when its host is gone",
        ),
        (
            WATLOW,
            [
                ("  enables: {profile: moxa-e1214, bus: relays, unit: 1}", PLUG),
                ("  relays: {kind: modbus-tcp, host: 127.0.0.1, port: 5025, timeout: 1 s}\n", ""),
            ],
            "must not be the only barrier against heat or overdose",
        ),
        (WATLOW, [("tubing: tubing_media", "tubing: tubing_nobody")], "no calibration is called 'tubing_nobody'"),
        (WATLOW, [("[100 rpm, 200 mL/min]", "[100 rpm, 90 mL/min]")], "a pump curve is pairs of rpm"),
        (WATLOW, [("[100 rpm, 200 mL/min]", "[100 rpm, fast]")], "'fast' is no quantity of a calibration"),
        (WATLOW, [("made: 2026-01-05", "made: yesterday")], "'yesterday' is no date"),
        (WATLOW, [("expires: 2099-12-31", "expires: 2025-12-31")], "it expires before it was made"),
        (
            WATLOW,
            [("io: enables, channel: 1", "io: enables, channel: 0")],
            "enables.do_0 is used by pump_media already",
        ),
        (WATLOW, [("io: enables, channel: 1", "io: enables, channel: 7")], "no contact of enables is called 'do_7'"),
        (EUROTHERM, [("    hold: 1\n", "    hold: 0\n")], "freezer_io.do_0 is used by freezer already"),
        (EUROTHERM, [("    alarm: 1\n", "    alarm: 0\n")], "freezer_io.di_0 is used by freezer already"),
        (WATLOW, [("drive: drive_cells", "drive: drive_media")], "drive_media is a part of pump_media already"),
        (WATLOW, [("drive: drive_cells", "drive: scales")], "scales is a scale (profile sim-scales), and a pump_drive"),
        (WATLOW, [("co2: co2_probe.co2", "co2: co2_probe.oxygen")], "no point of co2_probe is called 'oxygen'"),
        (WATLOW, [("co2: co2_probe.co2", "co2: co2_probe")], "is no point of a device"),
        (WATLOW, [("total: 500 mL/min", "total: 500 mL")], "mL/min"),
        (WATLOW, [("device: incubator}", "device: heater}")], "heater is a part of incubator"),
        (WATLOW, [("  pump_media: {kind: pump", "  enables: {kind: pump")], "enables is the name of a device already"),
        (WATLOW, [("kind: climate", "kind: weather")], "kind"),
        (EUROTHERM, [("cell_3.gross", "cell_3.division_code")], "no point of cell_3 is called 'division_code'"),
        (EUROTHERM, [("within: 0.8 K", "within: 0.8 degC")], "K"),
        (EUROTHERM, [("freezer_sample.temperature", "nobody.temperature")], "no device is called 'nobody'"),
        (
            EUROTHERM,
            [("heater: {profile: eurotherm-epc3016, bus: climate, unit: 1}", f"heater: {HEATER}, prefix: a}}")],
            "it needs `unit`",
        ),
        (
            EUROTHERM,
            [("{kind: modbus-tcp, host: 127.0.0.1, port: 5024, timeout: 1 s}", f"{SERIAL}, format: 7E1}}")],
            "format",
        ),
        (
            EUROTHERM,
            [("{kind: modbus-tcp, host: 127.0.0.1, port: 5023, timeout: 1 s}", f"{SERIAL}, format: 8N1}}")],
            "speaks tcp, freezing is",
        ),
        (
            EUROTHERM,
            [(f"{HEATER}, unit: 1}}", f"{HEATER}, unit: 1, corrections: {{temperature: x}}}}")],
            "no calibration is called 'x'",
        ),
        (
            EUROTHERM,
            [(f"{HEATER}, unit: 1}}", f"{HEATER}, unit: 1, corrections: {{temperature: tubing_media}}}}")],
            "tubing_media is in rpm and mL/min, expected degC and degC",
        ),
        (EUROTHERM, [("[100 rpm, 198 mL/min]", "[100 degC, 198 mL/min]")], "its pairs are not in the same units"),
        (
            EUROTHERM,
            [(f"{HEATER}, unit: 1}}", f"{HEATER}, unit: 1, corrections: {{program_mode: tubing_media}}}}")],
            "no number of heater",
        ),
    ],
)
def test_what_cannot_work_is_refused(lab: str, changes: list[tuple[str, str]], finding: str, tmp_path: Path):
    text = refusal(tmp_path, lab, *changes)
    assert finding in text
    assert "site.yaml:" in text


def test_buses_of_every_kind_are_read(tmp_path: Path):
    text = site_for(EUROTHERM).read_text("utf-8")
    serial = "{kind: modbus-rtu, path: /dev/ttyUSB0, baud: 19200, format: 8N2, turnaround: 5 ms, local_echo: yes}"
    text = text.replace("gas: {kind: modbus-tcp, host: 127.0.0.1, port: 5024, timeout: 1 s}", f"gas: {serial}")
    gateway = "{kind: modbus-rtu-tcp, host: 10.0.0.2, port: 4001, baud: 9600, timeout: 2 s}"
    text = text.replace(
        "weighing: {kind: modbus-tcp, host: 127.0.0.1, port: 5022, timeout: 1 s}", f"weighing: {gateway}"
    )
    path = tmp_path / "site.yaml"
    path.write_text(text, "utf-8")
    buses = load_site(path).buses
    assert (buses["gas"].path, buses["gas"].baud, buses["gas"].format) == ("/dev/ttyUSB0", 19_200, "8N2")
    assert (buses["gas"].turnaround, buses["gas"].local_echo) == (0.005, True)
    assert buses["gas"].address == "/dev/ttyUSB0 at 19200 8N2"
    assert (buses["weighing"].host, buses["weighing"].port, buses["weighing"].timeout) == ("10.0.0.2", 4001, 2.0)


def test_a_profile_of_the_sites_own_folder_is_used(tmp_path: Path):
    (tmp_path / "ours").mkdir()
    text = site_for(WATLOW).read_text("utf-8").replace("devices:\n", "profiles: ours\ndevices:\n", 1)
    own = (Path(site_for(WATLOW)).parents[2] / "devices" / "profiles" / "watlow-f4t.yaml").read_text("utf-8")
    (tmp_path / "ours" / "watlow-f4t.yaml").write_text(own.replace("model: F4T", "model: F4T of ours"), "utf-8")
    path = tmp_path / "site.yaml"
    path.write_text(text, "utf-8")
    assert load_site(path).profiles["heater"].model == "F4T of ours"


def test_the_newest_calibration_is_in_force_and_the_older_ones_are_history():
    def made(day: str, most: float) -> Calibration:
        return Calibration("tubing", ((10.0, 20.0), (100.0, most)), date.fromisoformat(day), "ab", date(2026, 12, 31))

    history = (made("2026-01-01", 200.0), made("2026-06-01", 190.0), made("2026-12-01", 180.0))
    assert newest_of(history[::-1]) is history[2]
    assert not history[0].expired(date(2026, 12, 31))
    assert history[0].expired(date(2027, 1, 1))


def test_a_pump_curve_goes_both_ways_and_through_the_origin():
    curve = Curve(((10.0, 20.0), (100.0, 180.0)))
    assert curve.rate(5.0) == pytest.approx(10.0)
    assert curve.speed(100.0) == pytest.approx(55.0)
    assert curve.rate(curve.speed(123.4)) == pytest.approx(123.4)
    assert curve.most == 180.0
    assert curve.per_turn(10.0) == pytest.approx(2.0)


def test_a_probe_is_corrected_by_an_offset_or_by_straight_lines():
    assert corrected(((37.0, 37.2),), 30.0) == pytest.approx(30.2)
    assert corrected(((0.0, 1.0), (100.0, 103.0)), 50.0) == pytest.approx(52.0)
    assert corrected(((0.0, 1.0), (100.0, 103.0)), 200.0) == pytest.approx(205.0)
