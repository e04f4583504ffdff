"""Alarms of a site file and of profiles: what they may name, and what is wrong with them, each at its place."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from devices.document import DocumentError
from tilctl.config import Site, load_site
from tilctl.config.alarms import of_profile

DEMO = Path(str(resources.files("tilctl.cli").joinpath("demo-site.yaml")))
GOOD = {"when": "station.temperature < 30 degC", "for": "10 min", "deadband": "0.5 K", "priority": "high"}


def site(where: str = "units.cell1.alarms", profiles: str = "", **changes: str) -> Site:
    fields = GOOD | {key.rstrip("_"): text for key, text in changes.items()}
    overrides = {f"{where}.chilly.{key}": text for key, text in fields.items()}
    return load_site(DEMO, overrides | ({"profiles": profiles} if profiles else {}))


def test_a_name_is_a_tag_a_mass_at_a_place_or_a_point_of_an_instrument() -> None:
    for name, unit, at in (
        ("station.temperature", "degC", "incubator.temperature"),
        ("p1.mass", "g", "scales.mass_1"),
        ("pump_media.rate", "mL/min", "pump_media.rate"),
        ("freezer1.ln2_level", "%", "freezer.ln2_level"),
    ):
        found = site(when=f"{name} > 1 {unit}", deadband=f"1 {'K' if unit == 'degC' else unit}")
        alarm = found.units["cell1"].alarms["chilly"]
        assert (alarm.name, alarm.reads) == ("site-chilly", {name: at})


def test_what_is_of_no_unit_is_of_the_site() -> None:
    found = site("alarms", when="freezer1.ln2_level < 40 %", deadband="5 %")
    assert found.alarms["chilly"].reads == {"freezer1.ln2_level": "freezer.ln2_level"}
    assert "chilly" not in found.units["cell1"].alarms


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("when", "station.temprature < 30 degC", "no name 'station.temprature'"),
        ("when", "station.temperature < 30 %", "does not go with"),
        ("when", "station.temperature", "a condition is wanted"),
        ("when", "station.temperature <", "ends too early"),
        ("when", "freezer1.program_state == 3", "does not go with"),
        ("when", "since(day0) > 3 d", "no name 'since(day0)'"),
        ("unless", "station.door", "no name 'station.door'"),
        ("for", "10", "10"),
        ("for", "-5 min", "for is from 0 s to 24 h"),
        ("for", "1e99 min", "for is from 0 s to 24 h"),
        ("off_delay", "-1 s", "off_delay is from 0 s to 24 h"),
        ("re_alarm", "0 s", "re_alarm is from 60 s to 168 h"),
        ("re_alarm", "1e300 s", "re_alarm is from 60 s to 168 h"),
        ("deadband", "-0.5 K", "a difference above 0"),
        ("deadband", "0 K", "a difference above 0"),
        ("when", "1 K < 2 K", "reads nothing"),
        ("unless", "true", "reads nothing"),
        ("off_delay", "2 mL", "2 mL"),
        ("re_alarm", "soon", "soon"),
        ("deadband", "5 %", "no comparison of the condition"),
        ("deadband", "some", "some"),
        ("priority", "urgent", "critical"),
        ("then", "abort", "hold"),
        ("latch", "perhaps", "yes"),
        ("wen", "x", "wen"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(field: str, text: str, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        site(**{field: text})
    assert message in str(caught.value)
    assert len(caught.value.diagnostics) == 1


def test_a_profile_brings_its_own_and_a_wrong_one_refuses_the_site(tmp_path: Path) -> None:
    profile = site().profiles["incubator"]
    alarm = of_profile("incubator", profile)["incubator-heater_fault"]
    assert alarm.reads == {"heater_fault": "incubator.heater_fault"}
    text = (Path(str(resources.files("devices"))) / "profiles" / "sim-incubator.yaml").read_text()
    for wrong, message in (
        ("heater_falt == true", "no name 'heater_falt'"),
        ("temperature > 3 %", "does not go with"),
        ("temperature", "a condition is wanted"),
    ):
        (tmp_path / "sim-incubator.yaml").write_text(text.replace("when: heater_fault == true", f"when: {wrong}"))
        with pytest.raises(DocumentError, match="alarm heater_fault of profile sim-incubator") as caught:
            site(profiles=str(tmp_path))
        assert message in str(caught.value)


def test_an_alarm_of_a_unit_is_not_called_as_one_of_the_site() -> None:
    again = {"alarms.chilly.when": "freezer1.ln2_level < 5 %", "alarms.chilly.priority": "low"}
    fields = {f"units.cell1.alarms.chilly.{key}": text for key, text in GOOD.items()}
    with pytest.raises(DocumentError, match="the site has an alarm called 'chilly' too"):
        load_site(DEMO, fields | again)


@pytest.mark.parametrize("text", ["re_alarm: 1e300 s", "off_delay: 1e9 h", "re_alarm: 0 s"])
def test_an_amount_of_time_of_a_profile_that_makes_no_sense_refuses_the_site(tmp_path: Path, text: str) -> None:
    profile = (Path(str(resources.files("devices"))) / "profiles" / "sim-incubator.yaml").read_text()
    wrong = profile.replace("when: heater_fault == true", f"when: heater_fault == true\n    {text}", 1)
    (tmp_path / "sim-incubator.yaml").write_text(wrong)
    with pytest.raises(DocumentError, match="is from"):
        site(profiles=str(tmp_path))
