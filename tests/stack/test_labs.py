"""Whole batches on suites of instruments that can be bought: the recipe does not change, the site file does."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.engine.labs import programmer_site
from tests.stack.told import told
from tilctl.cli.rehearsing.worker import Job
from tilctl.cli.simulated import SITES, site_for

LABS = SITES[1:]
LIBRARY = Path(str(files("recipes"))) / "library"


def events(folder: Path, kind: str) -> list[Mapping[str, Any]]:
    """Return the events of a kind from the one record of a rehearsal."""
    (record,) = (folder / "data" / "batches").rglob("*.db")
    with sqlite3.connect(record) as base:
        rows = base.execute("SELECT event FROM events ORDER BY seq").fetchall()
    base.close()
    found = [json.loads(body) for (body,) in rows]
    return [event for event in found if event["kind"] == kind]


@pytest.mark.parametrize("lab", LABS)
def test_a_shakedown_runs_unchanged_on_instruments_that_can_be_bought(lab: str, tmp_path: Path):
    result = told(tmp_path, site=site_for(lab))
    assert (result.outcome, result.violations, result.doubled, result.in_doubt) == ("complete", [], 0, 0)
    assert result.commanded >= 10


def test_til_22d_runs_unchanged_on_a_lab_whose_pumps_do_not_count(tmp_path: Path):
    result = told(tmp_path, recipe="til-22d", site=site_for("lab-eurotherm"))
    assert (result.outcome, result.violations, result.held_s) == ("complete", [], 0.0)
    assert result.commanded >= 25


@pytest.mark.slow
def test_til_22d_runs_unchanged_on_the_other_lab(tmp_path: Path):
    result = told(tmp_path, recipe="til-22d", site=site_for("lab-watlow"))
    assert (result.outcome, result.violations, result.held_s) == ("complete", [], 0.0)


@pytest.mark.parametrize("lab", LABS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_dosed_twice_among_faults(lab: str, seed: int, tmp_path: Path):
    job = Job("shakedown", tmp_path, profile="rough", steps=("culture/fill/first",), horizon_s=16_000.0, seed=seed)
    faults, cuts = job.befalls()
    assert len(faults) > 20
    result = told(tmp_path, *faults, seed=seed, cuts=cuts, site=site_for(lab))
    assert (result.violations, result.doubled) == ([], 0)


def test_a_freezer_of_contacts_runs_the_programme_that_is_stored_in_it(tmp_path: Path):
    result = told(tmp_path, site=site_for("lab-eurotherm"))
    assert result.violations == []
    (report,) = events(tmp_path, "freeze_reported")
    assert report["data"]["ended_as"] == "complete"
    assert 250 < report["data"]["lasted_s"] < 500
    coldest = min(row[1] for row in report["data"]["series"] if row[1] is not None)
    assert coldest < -45.0  # our own probe in the chamber saw it


def recipe_with(folder: Path, profile: str) -> str:
    """Write the shakedown with another freezing profile; return its name."""
    text = (LIBRARY / "shakedown.yaml").read_text("utf-8")
    assert "S1-quick" in text
    text = text.replace("S1-quick", profile).replace("recipe: shakedown", "recipe: shakedown-chamber")
    (folder / "shakedown-chamber.yaml").write_text(text, "utf-8")
    return "shakedown-chamber"


def test_a_freezer_of_a_programmer_runs_by_itself_and_is_followed(tmp_path: Path):
    recipe = recipe_with(tmp_path, "S2-chamber")
    result = told(tmp_path, recipe=recipe, folders=(tmp_path,), site=programmer_site(tmp_path))
    assert (result.outcome, result.violations) == ("complete", [])
    (report,) = events(tmp_path, "freeze_reported")
    assert report["data"]["ended_as"] == "complete"
    assert min(row[1] for row in report["data"]["series"] if row[1] is not None) < -50.0
    assert min(row[3] for row in report["data"]["series"] if row[3] is not None) == pytest.approx(-60.0, abs=0.1)
    assert all(finding["ok"] for finding in report["data"]["findings"])


def test_a_programmer_refuses_a_profile_that_listens_to_the_sample(tmp_path: Path):
    recipe = recipe_with(tmp_path, "S1-quick")
    told(tmp_path, recipe=recipe, folders=(tmp_path,), site=programmer_site(tmp_path))
    texts = [alarm["text"] for alarm in events(tmp_path, "alarm_raised")]
    assert any("row 3 waits for an exotherm; the programmer sees none" in text for text in texts)
    assert any("row 4 listens to the sample; the programmer regulates its chamber only" in text for text in texts)
