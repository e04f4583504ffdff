"""Places that are rocked, in the site file: what rocks them can stand still, and its outputs are made safe."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from devices.document import DocumentError
from tilctl.config import Safe, Site, load_site

LAB = Path(str(resources.files("tilctl.cli").joinpath("lab-rocking.yaml")))


def load(tmp_path: Path, old: str, new: str) -> Site:
    text = LAB.read_text()
    assert old in text
    path = tmp_path / "site.yaml"
    path.write_text(text.replace(old, new, 1))
    return load_site(path)


def refusal(tmp_path: Path, old: str, new: str) -> str:
    with pytest.raises(DocumentError) as caught:
        load(tmp_path, old, new)
    assert all(each.line >= 1 for each in caught.value.diagnostics)
    return str(caught.value)


def test_the_lab_has_one_rocked_place() -> None:
    unit = load_site(LAB).units["cell1"]
    assert [place.name for place in unit.places.values() if place.rocked_by] == ["p1"]
    assert unit.places["p1"].rocked_by == "incubator", "the instrument that plays the role"
    assert unit.culture_safe["station.rocking"] == Safe("keep")


def test_every_output_of_a_rocker_is_made_safe(tmp_path: Path) -> None:
    told = refusal(tmp_path, "      station.rocking: keep ", "      # ")
    assert "station.rocking has no safe state" in told
    told = refusal(tmp_path, "station.gas_oxygen: keep", "station.gas_oxygen: 5 rpm")
    assert "site-quantity" in told


def test_what_rocks_a_place_is_a_role_of_the_unit(tmp_path: Path) -> None:
    assert "no role of this unit is called 'tray'" in refusal(tmp_path, "rocked_by: station", "rocked_by: tray")


def test_what_cannot_stand_still_rocks_no_place_that_is_weighed(tmp_path: Path) -> None:
    told = refusal(tmp_path, "profile: sim-rocker", "profile: sim-incubator")
    assert "incubator (profile sim-incubator) cannot stand still for p1 to be weighed" in told
    assert "site-rocker" in told
