"""Whole batches on suites of instruments that can be bought: the recipe does not change, the site file does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "process"))
from cell import TILCTL, free_port, tilctl

from tests.engine.labs import programmer_site
from tests.stack.told import events, told
from tilctl.cli.rehearsing.worker import Job
from tilctl.cli.simulated import SITES, site_for

LABS = SITES[1:]
LIBRARY = Path(str(files("recipes"))) / "library"


@pytest.mark.parametrize("lab", LABS)
def test_a_shakedown_runs_unchanged_on_instruments_that_can_be_bought(lab: str, tmp_path: Path):
    result = told(tmp_path, site=site_for(lab))
    assert (result.outcome, result.violations, result.doubled, result.in_doubt) == ("complete", [], 0, 0)
    assert result.commanded >= 10


def on_a_serial_port(folder: Path, port: Path) -> Path:
    """Write the site of the second lab with its flow controllers on a serial port."""
    lines = site_for("lab-watlow").read_text("utf-8").splitlines()
    (at,) = (i for i, line in enumerate(lines) if line.startswith("  gas: {kind: modbus-rtu-tcp"))
    lines[at] = f"  gas: {{kind: modbus-rtu, path: {port}, baud: 9600, format: 8N2, timeout: 1 s}}"
    (folder / "serial.yaml").write_text("\n".join(lines), "utf-8")
    return folder / "serial.yaml"


@pytest.mark.parametrize("sockets", [pytest.param(False, marks=pytest.mark.slow), True])
def test_frames_of_rtu_give_the_same_record_in_every_run(sockets: bool, tmp_path: Path):
    first, second = (told(tmp_path / str(run), site=site_for("lab-watlow"), sockets=sockets) for run in (1, 2))
    assert (first.outcome, first.violations) == ("complete", [])
    assert first.head == second.head


@pytest.mark.parametrize("sockets", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_line_of_a_serial_port_among_faults(sockets: bool, tmp_path: Path):
    job = Job("shakedown", tmp_path, profile="rough", steps=("culture/fill/first",), horizon_s=16_000.0, seed=5)
    faults, cuts = job.befalls()
    site = on_a_serial_port(tmp_path, tmp_path / "line")
    result = told(tmp_path, *faults, seed=5, cuts=cuts, site=site, sockets=sockets)
    assert (result.violations, result.doubled, result.sockets) == ([], 0, sockets)
    assert result.outcome != "not started"


def test_a_simulated_suite_takes_the_place_of_a_serial_port(tmp_path: Path):
    port = tmp_path / "line"
    port.symlink_to(tmp_path / "a pseudo-terminal that is gone")
    site = on_a_serial_port(tmp_path, port)
    with simulated(site) as told_of:
        assert str(port.readlink()) == told_of["ports"]["gas"]
        done = tilctl("device", "read", "flow_co2", "flow", "--site", site)
        assert (done.returncode, "L/min" in done.stdout) == (0, True), done.stdout + done.stderr
        with simulated(site) as nothing:
            assert nothing == {}, "a port that somebody has is not taken"
        assert port.is_symlink()
    assert not port.is_symlink()


@contextmanager
def simulated(site: Path) -> Iterator[dict[str, Any]]:
    """Run `tilctl simulate` on free ports; give what it says when it is ready, {} where it ends instead."""
    text, count = re.subn(r"port: 50\d\d", lambda _: f"port: {free_port()}", site.read_text("utf-8"))
    assert count > 5
    (site.parent / "free.yaml").write_text(text, "utf-8")
    words = [*TILCTL, "simulate", "--site", str(site.parent / "free.yaml")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield json.loads(line) if line else {}
        finally:
            process.terminate()
            assert process.wait(20) == (0 if line else 3)


@pytest.mark.slow
@pytest.mark.parametrize("lab", LABS)
def test_til_22d_runs_unchanged_on_each_lab(lab: str, tmp_path: Path):
    result = told(tmp_path, recipe="til-22d", site=site_for(lab))
    assert (result.outcome, result.violations, result.held_s) == ("complete", [], 0.0)


@pytest.mark.parametrize("lab", LABS)
@pytest.mark.parametrize("seed", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
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
