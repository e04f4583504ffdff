"""The site file: what loads, what is refused, and that each finding tells where it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from devices.document import DocumentError
from devices.profile import Profile, load_profile
from tilctl.config import Safe, Site, load_site

DEMO = Path(str(resources.files("tilctl.cli").joinpath("demo-site.yaml")))
DEPLOY = Path(__file__).parents[2] / "deploy" / "site.yaml"


def load(tmp_path: Path, old: str = "", new: str = "", **overrides: str) -> Site:
    """Load the demo site with one text replaced."""
    text = DEMO.read_text()
    assert old in text, f"the demo site has no {old!r}"
    path = tmp_path / "site.yaml"
    path.write_text(text.replace(old, new, 1) if old else text)
    return load_site(path, overrides or None)


def refusal(tmp_path: Path, old: str, new: str) -> str:
    with pytest.raises(DocumentError) as caught:
        load(tmp_path, old, new)
    for diagnostic in caught.value.diagnostics:
        assert diagnostic.line >= 1
        assert diagnostic.file.endswith("site.yaml")
    return str(caught.value)


@pytest.mark.parametrize("path", [DEMO, DEPLOY], ids=["demo", "deploy"])
def test_shipped_site_files_load(path: Path):
    site = load_site(path)
    unit = site.units["cell1"]
    assert site.topic_prefix == "til/v1/demo/suite1"
    assert [p.name for p in unit.places.values() if p.at == "station"] == ["p1", "p2", "p3", "p4", "p5", "p6"]
    assert unit.places["w1"].port == 16
    assert (unit.places["p1"].scale_device, unit.places["p1"].scale_point) == ("scales", "mass_1")
    assert unit.culture_safe["station.temperature"] == Safe("keep")
    assert site.shared["freezer1"].device == "freezer"


def test_shipped_site_files_differ_only_where_a_rehearsal_differs():
    demo, deploy = load_site(DEMO), load_site(DEPLOY)
    assert demo.scheduled_commands
    assert not deploy.scheduled_commands
    assert (demo.scan.active, demo.scan.quiet, demo.scan.idle) == (2.0, 120.0, 1800.0)
    assert (deploy.scan.active, deploy.scan.quiet, deploy.scan.idle) == (1.0, 1.0, 1.0)
    assert (demo.units, demo.devices, demo.buses, demo.shared) == (
        deploy.units,
        deploy.devices,
        deploy.buses,
        deploy.shared,
    )


def test_first_line_that_fits_is_taken(tmp_path: Path):
    unit = load(tmp_path).units["cell1"]
    found = {pair: line.id for pair in PAIRS if (line := unit.line(*pair)) is not None}
    assert found == {
        ("hook", "station"): "media",
        ("station", "waste"): "waste",
        ("station", "hook"): "cells",
        ("station", "station"): "cells",
        ("hook", "hook"): "cells",
    }
    assert unit.line("waste", "station") is None


PAIRS = [(a, b) for a in ("station", "hook", "waste") for b in ("station", "hook", "waste")]


def test_a_safe_value_is_read_in_canonical_units(tmp_path: Path):
    site = load(tmp_path, "station.temperature: keep", "station.temperature: 37 degC")
    assert site.units["cell1"].culture_safe["station.temperature"] == Safe("value", 37.0)


def test_an_instrument_without_a_safe_command_has_no_interlock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def load_without(name: str, folders: Sequence[Path] = ()) -> Profile:
        return replace(load_profile(name), safe_command=None)

    monkeypatch.setattr("tilctl.config.loading.load_profile", load_without)
    assert "incubator cannot be cut off: its profile sim-incubator has no `safe_command`" in refusal(tmp_path, "", "")


def test_overrides_replace_single_entries_and_only_addresses_leave_the_hash_alone(tmp_path: Path):
    plain = load(tmp_path)
    changed = load(
        tmp_path, **{"buses.climate.port": "15020", "mqtt.url": "mqtt://broker:1884", "data": str(tmp_path / "d")}
    )
    assert (changed.buses["climate"].port, changed.mqtt_url, changed.data) == (
        15020,
        "mqtt://broker:1884",
        tmp_path / "d",
    )
    assert changed.sha256 == plain.sha256
    assert load(tmp_path, **{"scan.quiet": "30 s"}).sha256 != plain.sha256


def test_a_relative_data_directory_is_beside_the_file(tmp_path: Path):
    assert load(tmp_path).data == tmp_path / "data"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("bus: climate, unit: 1", "bus: climat, unit: 1", "no bus is called 'climat'"),
        ("device: incubator", "device: oven", "no device is called 'oven'"),
        ("device: incubator", "device: pump_media", "pump_media is a pump"),
        ("role: bioreactor", "role: kettle", "no role is called 'kettle'"),
        ("profile: sim-incubator", "profile: sim-oven", "profile 'sim-oven' cannot be used"),
        ("scale: scales.mass_1}", "scale: scales.mass_99}", "no point of scales is called 'mass_99'"),
        ("scale: scales.mass_2}", "scale: scales.mass_1}", "scales.mass_1 is bound 2 times"),
        ("role: freezer, device: freezer", "role: bioreactor, device: incubator", "incubator is bound 2 times"),
        ("p2: {at: station, port: 2,", "p2: {at: station, port: 1,", "p1 is at port 1 already"),
        ("bus: fluidics, unit: 2", "bus: fluidics, unit: 1", "pump_media has unit 1 on fluidics already"),
        ("pump: pump_media", "pump: valves_media", "valves_media is a valves"),
        ("station.co2: keep, ", "", "station.co2 has no safe state"),
        ("valves: valves_media}", "valves: valves_media, dead: 4 g}", "mL"),
        ("valves: valves_media}", "valves: valves_media, prime: 2 L}", "a line does not hold 2 L"),
        ("valves: valves_media}", "valves: valves_media, dead: -1 mL}", "a line does not hold -1 mL"),
        ("pumps: stop, ", "", "pumps has no safe state"),
        ("pumps: stop", "pumps: keep", "pumps cannot be 'keep'"),
        ("station.co2: keep", "station.co2: keep, station.light: 3", "no output is called 'station.light'"),
        ("station.temperature: keep", "station.temperature: 37 mL", "degC"),
        ("active: 2 s", "active: 0 s", "not more than zero"),
        ("timeout: 1 s", "timeout: 1 mL", "mL"),
        ("mqtt://127.0.0.1:1883", "http://127.0.0.1:1883", "is not a broker address"),
        ("mqtt://127.0.0.1:1883", "mqtt://me:secret@127.0.0.1", "does not belong into the address"),
        ("Etc/UTC", "Mars/Olympus", "no time zone"),
        ("Etc/UTC", "Europe", "no time zone"),
        ("site: demo", "site: demo/x", "site"),
        ("port: 9464", "port: 99464", "port"),
        ("node: suite1", "node: suite1\nnode: suite2", "node"),
        ("site: demo", "site: demo\nplanet: earth", "planet"),
    ],
)
def test_what_is_wrong_is_refused_and_named(tmp_path: Path, old: str, new: str, expected: str):
    assert expected in refusal(tmp_path, old, new)


def test_everything_wrong_is_reported_together_with_its_line(tmp_path: Path):
    text = DEMO.read_text().replace("device: incubator", "device: oven").replace("pump: pump_waste", "pump: nothing")
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(DocumentError) as caught:
        load_site(tmp_path / "site.yaml")
    lines = text.splitlines()
    found = [diagnostic for diagnostic in caught.value.diagnostics if "station." not in diagnostic.message]
    assert len(found) == 2
    for diagnostic, word in zip(found, ("oven", "nothing"), strict=True):
        assert word in lines[diagnostic.line - 1]


def test_an_override_below_a_plain_value_is_refused(tmp_path: Path):
    with pytest.raises(DocumentError, match="site has no entries"):
        load(tmp_path, **{"site.name": "x"})


@pytest.mark.parametrize(
    ("working", "says"),
    [
        ("{hours: 8-17}", "no working hours"),
        ("{hours: 17:00-08:00}", "end before they begin"),
        ("{days: mon-fry}", "no weekdays"),
        ("{holidays: [25.12.2026]}", "no date"),
        ("{from: 08:00}", "from"),
    ],
)
def test_working_time_that_is_none_is_refused_where_it_stands(tmp_path: Path, working: str, says: str) -> None:
    told = refusal(tmp_path, "time_zone: Etc/UTC\n", f"time_zone: Etc/UTC\nworking: {working}\n")
    assert says in told
    assert "site.yaml:6" in told


def test_working_time_is_that_of_each_unit_and_absent_where_the_site_is_silent(tmp_path: Path) -> None:
    assert load(tmp_path).units["cell1"].working is None
    site = load(tmp_path, "time_zone: Etc/UTC\n", "time_zone: Etc/UTC\nworking: {hours: 09:00-12:00, days: sat}\n")
    working = site.units["cell1"].working
    assert working is not None
    assert working.weekdays == {5}
