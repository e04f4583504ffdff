"""`tilctl device list`, `check`, `probe`, `read` and `write` at simulated instruments, over real sockets."""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from devices.profile import load_profile
from simulators.parts import simulated
from tilctl.cli.run import only_one
from tilctl.config import load_site

sys.path.insert(0, str(Path(__file__).parent))

from commissioned import TEMPLATE, Plant, ask, free_port, notes, running, serial_line, target, tilctl


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with running(tmp_path_factory.mktemp("plant")) as served:
        yield served


# --- list


def test_the_list_asks_nobody_and_says_how_far_each_may_be_trusted(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    site = plant.site(tmp_path)
    with only_one(load_site(site)):  # beside a running controller too
        code, out, err = tilctl(capsys, "list", "--site", site)
    assert (code, err) == (0, "")
    assert next(line.split() for line in out.splitlines()) == [
        "incubator", "bioreactor", "sim-incubator", "simulated", "climate", "1",
    ]  # fmt: skip
    assert len(out.splitlines()) == 9
    told = [json.loads(line) for line in tilctl(capsys, "list", "--site", site, "--json")[1].splitlines()]
    assert told[1]["name"] == "pump_media"
    assert (told[1]["evidence"], told[1]["bus"], told[1]["unit"]) == ("simulated", "fluidics", 1)


# --- check


def test_all_instruments_are_well_and_say_who_they_are(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    site = plant.site(tmp_path)
    code, out, err = tilctl(capsys, "check", "--site", site, "--json")
    told = {each["name"]: each for each in map(json.loads, out.splitlines())}
    assert (code, err) == (0, "")
    assert len(told) == 9
    assert all(each["well"] for each in told.values())
    assert [block["block"] for block in told["incubator"]["blocks"]] == ["pv", "targets"]
    assert told["incubator"]["latency_ms"]["requests"] == 3, "identity and two blocks, each once"
    assert told["incubator"]["latency_ms"]["max"] > 0
    serials = [each["serial"] for each in told.values()]
    assert all(serials)
    code, out, _ = tilctl(capsys, "check", "incubator", "--site", site)
    assert code == 0
    assert out.startswith("incubator: well: tilctl simulated incubator, profile sim-incubator (evidence simulated)\n")
    assert f"serial number {told['incubator']['serial']}, no settings to look at" in out
    assert "block pv: 9 of 9 good" in out
    assert told["freezer"]["bad"] == ["sample_temperature"], "there is no sample in it: told, and no fault"
    assert not (tmp_path / "data" / "site.db").exists(), "looking is no event"


def test_another_instrument_is_found_and_the_rest_is_checked(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    site = plant.site(tmp_path, ("pump_waste: {profile: sim-pump, bus: fluidics, unit: 3}",
                                 "pump_waste: {profile: sim-pump, bus: climate, unit: 1}"),
                      ("incubator: {profile: sim-incubator, bus: climate, unit: 1}",
                       "incubator: {profile: sim-incubator, bus: climate, unit: 2}"))  # fmt: skip
    code, out, _ = tilctl(capsys, "check", "pump_waste", "incubator", "pump_media", "--site", site)
    assert code == 1
    waste, incubator, media = out.split("incubator: NOT")[0], out, out
    assert "pump_waste: NOT WELL" in waste
    assert "register 100 reads 20737, expected 20738" in waste
    assert "incubator: NOT WELL" in incubator
    assert "the device did not answer" in incubator
    assert "pump_media: well" in media


def test_a_bus_that_nobody_serves_is_said(capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path):
    site = plant.site(tmp_path, (f"port: {plant.ports['climate']}", f"port: {free_port()}"))
    code, out, _ = tilctl(capsys, "check", "incubator", "--site", site)
    assert code == 1
    assert "Connection refused" in out or "Connect call failed" in out


def pump(folder: Path, *changes: tuple[str, str]) -> str:
    """Write the profile of the simulated pump with changes; return its path."""
    text = (files("devices") / "profiles" / "sim-pump.yaml").read_text()
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "pump.yaml").write_text(text)
    return str(folder / "pump.yaml")


MEDIA = "pump_media: {profile: sim-pump, bus"


def test_a_watchdog_is_tried_only_after_yes_and_is_seen_to_act(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    mine = pump(tmp_path, ("timeout: 15 s, period: 5 s", "timeout: 2 s, period: 1 s"))
    site = plant.site(tmp_path, (MEDIA, f"pump_media: {{profile: {mine}, bus"))
    code, out, err = tilctl(capsys, "check", "pump_media", "--site", site, "--watchdog")
    assert (code, out) == (2, "")
    assert "armed with 2 s, not fed; it should then do: stop" in err
    assert "--yes" in err
    code, out, _ = tilctl(capsys, "check", "pump_media", "scales", "--site", site, "--watchdog", "--yes", "--json")
    told, scales = map(json.loads, out.splitlines())
    assert (code, told["well"]) == (0, True), told
    seconds = float(told["watchdog"].split("acted after ")[1].split(" s")[0])
    assert 1.5 < seconds < 5
    assert scales["watchdog"] == "it has none"
    assert "watchdogs of pump_media, scales are tried" in notes(site)[0].text
    assert "acted after" in notes(site)[1].text
    state = ask(plant.ports["fluidics"], 1, 4, 0, 0, 0, 11)[2:]
    assert struct.unpack(">11H", state)[10] == 0, "disarmed"
    assert not struct.unpack(">11H", state)[1] & 8, "and not tripped any more"


def test_a_watchdog_that_does_not_act_is_not_well_and_is_disarmed(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    mine = pump(
        tmp_path,
        ("timeout: 15 s, period: 5 s", "timeout: 2 s, period: 1 s"),
        # it counts in tenths of what the profile says: armed with 2 s it waits for 20 s
        ("unit: s, stale_ms: 5000}    #", "unit: s, scale: 0.1, stale_ms: 5000}    #"),
        ("unit: s, min: 0, max: 3600}", "unit: s, scale: 0.1, min: 0, max: 3600}"),
    )
    site = plant.site(tmp_path, (MEDIA, f"pump_media: {{profile: {mine}, bus"))
    code, out, _ = tilctl(capsys, "check", "pump_media", "--site", site, "--watchdog", "--yes")
    assert code == 1
    assert "pump_media: NOT WELL" in out
    assert "armed with 2 s and not fed for 7 s, it did not act" in out
    assert struct.unpack(">11H", ask(plant.ports["fluidics"], 1, 4, 0, 0, 0, 11)[2:])[10] == 0


def test_a_watchdog_that_acts_too_early_is_not_well(capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path):
    mine = pump(
        tmp_path,
        # it counts twice as fast as the profile says: armed with 4 s it waits for 2 s
        ("timeout: 15 s, period: 5 s", "timeout: 4 s, period: 2 s"),
        ("unit: s, stale_ms: 5000}    #", "unit: s, scale: 2, stale_ms: 5000}    #"),
        ("unit: s, min: 0, max: 3600}", "unit: s, scale: 2, min: 0, max: 3600}"),
    )
    site = plant.site(tmp_path, (MEDIA, f"pump_media: {{profile: {mine}, bus"))
    code, out, _ = tilctl(capsys, "check", "pump_media", "--site", site, "--watchdog", "--yes")
    assert code == 1
    assert "armed with 4 s, it acted after 2." in out


def test_a_watchdog_that_stays_tripped_is_not_well(capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path):
    mine = pump(tmp_path, ("timeout: 15 s, period: 5 s", "timeout: 2 s, period: 1 s"), ("kinds: [tcp]", "kinds: [rtu]"))
    armed: list[float] = []
    seconds = [0]

    def heard(args: Mapping[str, Any]) -> None:
        seconds[0] = args["seconds"]
        armed.extend([time.monotonic()] if seconds[0] else [])

    values = {
        "status": lambda: ["watchdog_tripped"] if armed and time.monotonic() > armed[0] + 2 else [],
        "watchdog": lambda: seconds[0],
    }
    with serial_line(simulated(load_profile(Path(mine)), values, {"set_watchdog": heard})) as path:
        site = plant.site(
            tmp_path,
            ("buses:\n", f"buses:\n  line: {{kind: modbus-rtu, path: {path}, baud: 115200, format: 8N1}}\n"),
            ("devices:\n", f"devices:\n  old: {{profile: {mine}, bus: line, unit: 2}}\n"),
        )
        code, out, _ = tilctl(capsys, "check", "old", "--site", site, "--watchdog", "--yes")
    assert code == 1
    assert "but it cannot be disarmed: watchdog = 0.0, watchdog_tripped = True" in out
    assert seconds == [0]


def test_a_part_without_the_value_that_it_is_for_is_not_well(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    text = TEMPLATE.read_text()
    mine = tmp_path / "mine.yaml"
    mine.write_text(text.replace('values: {flow: "12.5"', 'values: {status: sensor_fault, flow: "12.5"'))
    assert mine.read_text() != text
    with serial_line(simulated(load_profile(mine))) as path:
        site = plant.site(
            tmp_path,
            ("buses:\n", f"buses:\n  gas: {{kind: modbus-rtu, path: {path}, baud: 115200, format: 8N1}}\n"),
            ("devices:\n", f"devices:\n  mfc: {{profile: {mine}, bus: gas, unit: 2}}\n"),
        )
        code, out, _ = tilctl(capsys, "check", "mfc", "--site", site)
        assert code == 1
        assert "wrong: flow has no value, and it is what a gas_flow is for" in out
        code, out, _ = tilctl(capsys, "read", "mfc", "flow", "--site", site)
        assert (code, out) == (1, "mfc.flow = no value (bad)\n")


# --- probe, read


def test_a_probe_shows_the_very_words_of_the_wire(capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path):
    site = plant.site(tmp_path)
    code, out, _ = tilctl(capsys, "probe", "incubator", "--site", site, "--count", 1, "--json")
    told = {point["point"]: point for point in json.loads(out)["points"]}
    assert code == 0
    raw = told["temperature_target"]["raw"]
    assert raw == [f"{word:04X}" for word in struct.unpack(">2H", ask(plant.ports["climate"], 1, 3, 0, 0, 0, 4)[2:6])]
    assert told["temperature_target"]["value"] == pytest.approx(target(plant))
    point = told["temperature"]
    assert (point["unit"], point["quality"], point["block"]) == ("degC", "good", "pv")
    for name in ("temperature", "co2", "humidity", "temperature_target", "co2_target"):
        value = struct.unpack(">f", bytes.fromhex("".join(told[name]["raw"])))[0]
        assert told[name]["value"] == pytest.approx(value), name
    assert 0 <= point["age_s"] < 5
    assert point["latency_ms"] > 0
    assert told["door_open"]["value"] is False


def test_a_probe_is_a_table_read_again_and_again(capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path):
    site = plant.site(tmp_path)
    code, out, _ = tilctl(capsys, "probe", "incubator", "--site", site, "--count", 3, "--every", "50ms")
    assert code == 0
    assert out.count("incubator: tilctl simulated incubator (sim-incubator, evidence simulated)") == 3
    row = next(line for line in out.splitlines() if line.startswith("temperature_target"))
    assert row.split()[1] == "targets"
    assert row.split()[5:7] == ["degC", "good"]
    assert out.splitlines()[1].split() == [
        "point",
        "block",
        "raw",
        "words",
        "value",
        "unit",
        "quality",
        "age",
        "s",
        "ms",
    ]


def test_a_probe_goes_on_when_an_instrument_does_not_answer(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    site = plant.site(tmp_path, ("bus: climate, unit: 1", "bus: climate, unit: 9"))
    code, out, _ = tilctl(capsys, "probe", "incubator", "--site", site, "--count", 2, "--every", "50 ms", "--json")
    looks = [json.loads(line) for line in out.splitlines()]
    assert (code, len(looks)) == (1, 2)
    assert {point["value"] for look in looks for point in look["points"]} == {None}
    assert all("did not answer" in point["trouble"] for point in looks[0]["points"])


def test_one_point_is_read(capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path):
    site = plant.site(tmp_path)
    code, out, _ = tilctl(capsys, "read", "incubator", "temperature_target", "--site", site, "--json")
    told = json.loads(out)
    assert (code, told["unit"], told["quality"]) == (0, "degC", "good")
    assert told["value"] == pytest.approx(target(plant))
    assert tilctl(capsys, "read", "incubator", "door_open", "--site", site)[1] == "incubator.door_open = false (good)\n"
    code, out, err = tilctl(capsys, "read", "incubator", "pressure", "--site", site)
    assert (code, out) == (2, "")
    assert "no point 'pressure'; it has temperature," in err


def test_a_point_without_a_value_ends_a_probe_as_it_ends_a_read(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    site = plant.site(tmp_path)
    assert tilctl(capsys, "read", "freezer", "sample_temperature", "--site", site)[0] == 1
    code, out, _ = tilctl(capsys, "probe", "freezer", "--count", "1", "--site", site, "--json")
    qualities = {point["point"]: point["quality"] for point in json.loads(out)["points"]}
    assert (code, qualities["sample_temperature"]) == (1, "bad")


def test_how_far_the_profile_may_be_trusted_is_told_with_each_reading_and_write(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    site = plant.site(tmp_path)
    err = tilctl(capsys, "read", "incubator", "temperature", "--site", site)[2]
    assert err == "incubator: profile sim-incubator, evidence simulated\n"
    words = ("write", "incubator", "set_temperature", "value=37", "--site", site, "--yes")
    assert "(sim-incubator, evidence simulated, unit 1 on climate)" in tilctl(capsys, *words)[2]
    for json_words in (("read", "incubator", "temperature", "--site", site), words):
        assert json.loads(tilctl(capsys, *json_words, "--json")[1])["evidence"] == "simulated"


# --- write


def test_nothing_is_sent_without_yes_and_what_would_be_is_shown(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    site, before = plant.site(tmp_path), target(plant)
    code, out, err = tilctl(capsys, "write", "incubator", "set_temperature", "value=36.5 degC", "--site", site)
    assert (code, out) == (2, "")
    assert "function code 16, address 0 (0x0000): 0x4212 0x0000" in err
    assert "temperature_target = value +-0.01, heater_cut = false, within 2 s" in err
    assert "nothing was sent: add --yes" in err
    assert target(plant) == before
    assert not (tmp_path / "data").exists()


def test_a_write_is_on_record_before_and_after_and_is_read_back(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    site = plant.site(tmp_path)
    for value, text in ((36.25, "value=36.25"), (37.0, "value=37 degC"), (36.5, "value= 36.5 degC")):
        code, out, err = tilctl(capsys, "write", "incubator", "set_temperature", text, "--site", site, "--yes")
        assert code == 0, err
        assert target(plant) == pytest.approx(value, abs=1e-3)
        assert f"temperature_target = {value:g} degC (good)" in out
    before, after = notes(site)[:2]
    assert "incubator is to set_temperature, value = 36.25 degC, by " in before.text
    assert "incubator did set_temperature, value = 36.25 degC: temperature_target = 36.25 degC" in after.text
    assert not before.exception


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("set_temperature", "value=60"), "value 60 degC is outside 4 to 42 degC"),
        (("set_temperature", "value=37 mL"), "degC"),
        (("set_temperature", "value=nan"), "not a finite number"),
        (("set_temperature", "value=warm"), "value"),
        (("set_temperature",), "set_temperature needs value: value=4..42 degC"),
        (("set_temperature", "value=37", "rate=1"), "no argument rate; its arguments: value=4..42 degC"),
        (("set_temperature", "value=37", "value=38"), "given twice"),
        (("set_temperature", "value"), "expected name=value"),
        (("register_4", "value=1"), "no command 'register_4'; it has set_temperature, set_co2, cut_heater"),
    ],
)
def test_nothing_but_a_command_within_its_limits_is_sent(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path, words: tuple[str, ...], says: str
):
    site, before = plant.site(tmp_path), target(plant)
    code, out, err = tilctl(capsys, "write", "incubator", *words, "--site", site, "--yes")
    assert (code, out) == (2, "")
    assert says in err
    assert target(plant) == before
    assert not (tmp_path / "data").exists(), "nothing happened, nothing is on record"


def test_tables_are_not_written_by_hand(capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path):
    code, _, err = tilctl(capsys, "write", "freezer", "load_program", "rows=1", "--site", plant.site(tmp_path), "--yes")
    assert code == 2
    assert "takes a table (rows)" in err


def test_a_write_that_is_refused_is_on_record_as_an_exception(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    site = plant.site(tmp_path, ("bus: climate, unit: 1", "bus: climate, unit: 9"))
    code, _, err = tilctl(capsys, "write", "incubator", "set_temperature", "value=37", "--site", site, "--yes")
    assert code == 3
    assert "did not answer" in err
    before, after = notes(site)
    assert (before.exception, after.exception) == (False, True)
    assert "did not answer" in after.text
