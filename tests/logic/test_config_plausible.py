"""A site file that loads but would protect nothing: wrong probes, corrections, bounds, addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from devices.document import DocumentError
from tilctl.cli.simulated import site_for
from tilctl.config import Site, load_site

EUROTHERM = "lab-eurotherm"
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


@pytest.mark.parametrize("digest", ["zzz", "F19ECE1877981ED1", "f19ece1877981ed"])
def test_a_programme_is_named_by_a_digest(digest: str, tmp_path: Path):
    refused(tmp_path, "is no digest of a programme", digest, ("f19ece1877981ed1", digest))


def test_a_start_contact_that_a_dead_controller_would_leave_closed_is_refused(tmp_path: Path):
    finding = "freezer_io (waveshare-relay-8ch) does not open its outputs by itself when its host is gone"
    refused(tmp_path, finding, "io:", *WAVESHARE)
