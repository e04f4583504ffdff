"""Interlocks and permissives of a site file: what they come to, and what is wrong with them, told in its place."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from devices.document import DocumentError
from tilctl.cli.simulated import site_for
from tilctl.config import Site, load_site
from tilctl.config.interlock import Rules, differences, only_limit, read_rules

DEMO = Path(str(resources.files("tilctl.cli").joinpath("demo-site.yaml")))
HOT = "when: station.temperature > 39 degC"
CUT = "then: {station: cut}"


def written(folder: Path, *rules: str, permissive: str = "", lab: Path = DEMO, shared: str = "") -> Path:
    """Write a site whose unit has other rules; `shared` are whole lines at its end."""
    text = re.sub(r"    interlocks:\n(?: {6,}.*\n)+", "", lab.read_text("utf-8"))
    text = re.sub(r"permissives:\n(?: {2,}.*\n)+", "", text)
    own = "    interlocks:\n" + "".join(f"      {rule}\n" for rule in rules) if rules else ""
    own += f"    permissives:\n      {permissive}\n" if permissive else ""
    (folder / "site.yaml").write_text(text.replace("shared:\n", f"{own}shared:\n") + shared, "utf-8")
    return folder / "site.yaml"


def loaded(folder: Path, *rules: str, permissive: str = "", shared: str = "") -> Site:
    return load_site(written(folder, *rules, permissive=permissive, shared=shared))


def rules(folder: Path, *told: str, permissive: str = "") -> Rules:
    return loaded(folder, *told, permissive=permissive).units["cell1"].rules


@pytest.mark.parametrize("lab", ["demo-site", "lab-eurotherm", "lab-watlow"])
def test_the_shipped_sites_cut_the_heater_off_at_39_degrees(lab: str):
    site = load_site(site_for(lab))
    interlock = site.units["cell1"].rules.interlocks["too_hot"]
    limit = only_limit(interlock.condition, interlock.reads, "degC")
    assert limit is not None
    assert (limit.at, limit.operator, limit.value) == ("incubator.temperature", ">", 39.0)
    assert [(o.device, o.command, o.undone_by) for o in interlock.outputs] == [
        ("incubator", "cut_heater", ("set_temperature",))
    ]
    assert (interlock.reset, interlock.may_bypass, interlock.source) == ("restart", True, "P")
    assert ("ln2" in site.rules.permissives) is (lab != "lab-eurotherm")


def test_the_short_form_is_that_of_a_cut(tmp_path: Path):
    short = rules(tmp_path, "too_hot: {tag: station.temperature, above: 44 degC}").interlocks["too_hot"]
    long = rules(tmp_path, f"too_hot: {{when: station.temperature > 44 degC, {CUT}}}").interlocks["too_hot"]
    assert short == long


def test_pumps_come_before_the_valves_of_their_lines_and_are_never_bypassed_unless_said(tmp_path: Path):
    rule = (
        "full: {when: p1.mass > 4 kg, then: {pumps: stop, valves: closed}, reset: manual, for: 2 s, off_delay: 1 min}"
    )
    found = rules(tmp_path, rule).interlocks["full"]
    outputs = {output.device: output for output in found.outputs}
    assert list(outputs)[:3] == ["pump_media", "pump_waste", "pump_cells"]
    assert outputs["valves_waste"].after == ("pump_waste",)
    assert (outputs["pump_media"].command, outputs["pump_media"].undone_by) == ("stop", ("dispense",))
    assert (outputs["valves_media"].command, outputs["valves_media"].undone_by) == ("close", ("select",))
    assert (found.for_s, found.off_delay_s, found.may_bypass) == (2.0, 60.0, False)
    assert found.reads == {"p1.mass": "scales.mass_1"}
    assert rules(tmp_path, rule.replace("reset:", "bypass: allowed, reset:")).interlocks["full"].may_bypass


def test_what_is_frozen_is_read_again_as_it_was(tmp_path: Path):
    own = rules(tmp_path, f"hot: {{{HOT}, {CUT}, deadband: 0.5 K, cause: a, action: b}}", permissive=PERMISSIVE)
    again = read_rules(own.written())
    assert again == own
    assert differences(own, again) == []
    other = rules(
        tmp_path, f"hot: {{{HOT}, {CUT}, deadband: 1 K, cause: a, action: b}}", "b: {tag: station.co2, above: 9 %}"
    )
    assert differences(own, other) == ["b is new", "hot differs in deadband", "ln2 is gone"]
    with pytest.raises(ValueError, match="cannot be read"):
        read_rules({"interlocks": {"hot": {"name": 1}}})


@pytest.mark.parametrize(
    ("rule", "finding"),
    [
        (f"hot: {{{HOT}}}", "hot says neither or both of what it has to"),
        (f"hot: {{{CUT}}}", "hot says neither or both"),
        ("hot: {tag: station.temperature}", "hot says neither or both"),
        (f"hot: {{{HOT}, {CUT}, tag: station.co2, above: 9 %}}", "hot says neither or both"),
        ("hot: {tag: station.light, above: 3 %}", "no tag of this unit is called 'station.light'"),
        ("hot: {tag: station.temperature, above: 44 %}", "degC"),
        (f"hot: {{when: station.light > 3, {CUT}}}", "no name 'station.light' here (column 1)"),
        (f"hot: {{when: station.temperature > 39 mL, {CUT}}}", "(column"),
        (f"hot: {{when: station.temperature + 1 K, {CUT}}}", "and no condition"),
        (f"hot: {{when: 1 > 2, {CUT}}}", "reads no instrument"),
        (f"hot: {{when: station.temperature >, {CUT}}}", "column"),
        (f"hot: {{when: station.temperature > 90 degC, {CUT}}}", "is not within what incubator.temperature measures"),
        (f"hot: {{when: 150 degC < station.temperature, {CUT}}}", "is not within what incubator.temperature measures"),
        (
            f"hot: {{when: station.co2 > 9 % and station.temperature > 10 degC, {CUT}}}",
            "would trip always, or too late",
        ),
        (f"hot: {{when: station.temperature < -90 degC, {CUT}}}", "below -90 degC is not within"),
        (f"hot: {{{HOT}, then: {{}}}}", "it does nothing"),
        (f"hot: {{{HOT}, then: {{freezer1: abort}}}}", "no output of cell1 is called 'freezer1'"),
        (f"hot: {{{HOT}, then: {{station: explode}}}}", "incubator cannot be told to 'explode'"),
        (f"hot: {{{HOT}, then: {{station: close}}}}", "incubator (sim-incubator) cannot close"),
        (f"hot: {{{HOT}, then: {{pumps: closed}}}}", "pumps cannot be 'closed'"),
        (f"hot: {{{HOT}, {CUT}, deadband: 1 %}}", "a deadband of 1 % fits no comparison"),
        (f"hot: {{{HOT}, {CUT}, deadband: 0 K}}", "a deadband of 0 K fits no comparison"),
        (f"hot: {{{HOT}, {CUT}, deadband: soon}}", "soon"),
        (f"hot: {{{HOT}, {CUT}, for: 3 K}}", "3 K"),
        (f"hot: {{{HOT}, {CUT}, reset: never}}", "reset"),
    ],
)
def test_an_interlock_that_cannot_do_its_work_is_refused(rule: str, finding: str, tmp_path: Path):
    path = written(tmp_path, rule)
    with pytest.raises(DocumentError) as caught:
        load_site(path)
    assert finding in str(caught.value)
    line = path.read_text("utf-8").splitlines()[caught.value.diagnostics[0].line - 1]
    assert "hot:" in line


PERMISSIVE = "ln2: {forbids: [station.set_temperature], needs: freezer1.ln2_level >= 40 %}"


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("station.set_temperature", "station.explode", "has no command 'explode'"),
        ("station.set_temperature", "station.cut_heater", "incubator.cut_heater makes safe: nothing may forbid that"),
        ("station.set_temperature", "pumps.stop", "pump_media.stop makes safe"),
        ("station.set_temperature", "freezer1.start", "no output of cell1 is called 'freezer1'"),
        ("[station.set_temperature]", "[]", "forbids"),
        ("ln2_level", "ln3_level", "no name 'freezer1.ln3_level' here"),
        ("ln2:", "hot:", "an interlock is called hot too"),
    ],
)
def test_a_permissive_that_forbids_nothing_sensible_is_refused(old: str, new: str, finding: str, tmp_path: Path):
    with pytest.raises(DocumentError) as caught:
        loaded(tmp_path, f"hot: {{{HOT}, {CUT}}}", permissive=PERMISSIVE.replace(old, new))
    assert finding in str(caught.value)


def test_a_permissive_forbids_of_all_pumps(tmp_path: Path):
    told = "no_waste: {forbids: [pumps.dispense, valves_media.select], needs: w1.mass < 8 kg}"
    found = rules(tmp_path, permissive=told).permissives["no_waste"]
    assert found.forbids == (
        ("pump_media", "dispense"), ("pump_waste", "dispense"), ("pump_cells", "dispense"), ("valves_media", "select")
    )  # fmt: skip


def test_the_rules_of_shared_equipment_have_names_of_their_own(tmp_path: Path):
    shared = "interlocks:\n  too_hot: {when: freezer1.chamber_temperature > 30 degC, then: {freezer1: abort}}\n"
    site = loaded(tmp_path, shared=shared)
    assert [(o.device, o.command) for o in site.rules.interlocks["too_hot"].outputs] == [("freezer", "abort")]
    with pytest.raises(DocumentError, match="cell1 has a rule called too_hot too"):
        loaded(tmp_path, f"too_hot: {{{HOT}, {CUT}}}", shared=shared)


def test_a_level_that_nothing_measures_permits_nothing_for_ever(tmp_path: Path):
    asked = "permissives:\n  ln2: {forbids: [freezer1.start], needs: freezer1.ln2_level >= 40 %}\n"
    path = written(tmp_path, lab=site_for("lab-eurotherm"), shared=asked)
    with pytest.raises(DocumentError, match="freezer has nothing that measures ln2_level: this would forbid for ever"):
        load_site(path)


def test_no_interlock_hangs_on_a_broker(tmp_path: Path):
    path = written(tmp_path, f"hot: {{when: plug.power > 100 W, {CUT}}}")
    text = path.read_text("utf-8").replace("buses:\n", 'buses:\n  plugs: {kind: mqtt, url: "mqtt://127.0.0.1:1883"}\n')
    text = text.replace("devices:\n", "devices:\n  plug: {profile: shelly-gen2-plug, bus: plugs, prefix: plug-1}\n")
    path.write_text(text, "utf-8")
    with pytest.raises(DocumentError, match="plug is reached over MQTT: it must not be what an interlock relies on"):
        load_site(path)
