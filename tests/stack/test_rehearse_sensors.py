"""A rehearsal in which every sensor fails once: nothing is dosed twice or silently false, and each failure is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulators.faults.model import Fault
from tests.stack.told import told
from tilctl.cli.simulated import site_for

SENSORS = [
    ("incubator", "temperature"), ("incubator", "co2"), ("incubator", "humidity"),
    ("scales", "mass_1"), ("scales", "mass_7"), ("scales", "mass_16"),
    ("freezer", "chamber_temperature"), ("freezer", "ln2_level"),
]  # fmt: skip
LASTS_S, APART_S = 120.0, 240.0


@pytest.mark.parametrize("how", ["nan", "stuck"])
def test_every_sensor_fails_once(how: str, tmp_path: Path) -> None:
    faults = [
        Fault(device, how, time_s=300.0 + APART_S * index, for_s=LASTS_S, args={"point": point})
        for index, (device, point) in enumerate(SENSORS)
    ]
    text = site_for("demo-site").read_text("utf-8")
    sharp = text.replace("quiet: 120 s, idle: 30 min", "quiet: 20 s, idle: 20 s")  # or nobody would look meanwhile
    assert sharp != text
    (tmp_path / "site.yaml").write_text(sharp, "utf-8")
    result = told(tmp_path, *faults, site=tmp_path / "site.yaml")
    assert result.violations == []
    assert result.doubled == 0
    assert result.outcome in ("complete", "stopped", "aborted")
    assert sum(result.faults.values()) == len(SENSORS)
    told_of = {alarm.partition(" ")[2] for alarm in result.alarms}
    if how == "nan":
        failed = {"device-incubator-failure", "device-scales-failure", "device-freezer-failure"}
        assert failed <= told_of, "each instrument whose sensor says nothing has failed, and that is told"
        assert any(alarm.endswith("-invalid") for alarm in told_of), "and what it blinds"
    assert not [alarm for alarm in told_of if alarm.startswith(("internal-error", "invariant"))]
