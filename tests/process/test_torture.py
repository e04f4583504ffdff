"""Torture: SIGKILL at random instants and at boundaries; nothing acknowledged is lost, nothing is dosed twice.

The long form is `./run torture --kills 1000`.  The two controllers that are wrong on purpose show that the oracles see.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from simulators.page import Page
from simulators.virtual import VirtualClock, VirtualLoop

ROOT = Path(__file__).parents[2]


def torture(*words: str, within: float = 200.0) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture", "--json", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=within, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_page_carries_the_time_from_one_loop_to_the_next(tmp_path: Path) -> None:
    page = Page(tmp_path / "page")

    def live(seconds: float) -> float:
        loop = VirtualLoop(page=Page(tmp_path / "page"), soft=())
        try:
            clock = VirtualClock(loop)
            loop.run_until_complete(clock.sleep(seconds))
            return clock.monotonic()
        finally:
            loop.close()

    assert live(90.0) == 90.0
    assert page.read() == 90.0, "another process sees where it ended"
    page.write(page.read() + 900.0)  # an outage
    assert live(10.0) == 1000.0


LABS = ("lab-watlow", "lab-eurotherm")


@pytest.mark.parametrize("site", ["demo-site", *(pytest.param(lab, marks=pytest.mark.slow) for lab in LABS)])
def test_a_batch_that_is_killed_at_random_instants(site: str, tmp_path: Path) -> None:
    status, said = torture("--kills", "12", "--jobs", "1", "--site", site, "--out", str(tmp_path / "out"))
    assert said["findings"] == []
    assert status == 0
    assert (said["lost"], said["doubled"]) == (0, 0)
    assert said["kills"] == 12
    assert said["acknowledged"] >= 10
    assert set(said["final_state"]) == {"complete"}
    assert said["recovery_seconds"]["max"] > 0


@pytest.mark.slow
def test_a_controller_that_repeats_an_interrupted_dose_is_caught(tmp_path: Path) -> None:
    status, said = torture("--kills", "400", "--jobs", "1", "--wrong", "repeats", "--out", str(tmp_path / "out"))
    assert status == 1
    assert said["doubled"] > 0


@pytest.mark.slow
def test_a_controller_that_acknowledges_before_the_commit_is_caught(tmp_path: Path) -> None:
    status, said = torture("--kills", "400", "--jobs", "1", "--wrong", "early", "--out", str(tmp_path / "out"))
    assert status == 1
    assert said["lost"] > 0


@pytest.mark.slow
def test_starved_of_cpu(tmp_path: Path) -> None:
    status, said = torture("--kills", "20", "--starve", "--out", str(tmp_path / "out"), within=600)
    assert said["findings"] == []
    assert status == 0


@pytest.mark.slow
def test_a_kill_at_every_boundary_of_a_batch(tmp_path: Path) -> None:
    status, said = torture("--points", "--out", str(tmp_path / "out"), within=1800)
    assert said["findings"] == []
    assert status == 0
    assert said["kills"] > 300
