"""Library recipes on the simulated suite: whole batches of the real controller, with and without faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stack.told import events, told
from tilctl.cli.rehearsing.worker import Job, rehearse
from tilctl.cli.simulated import SITES, site_for

# days simulated, and the cells that the last count may be for the simulated donor 1: a simulation, not biology
WHOLE = {
    "til-16d": ("harvest/count16", (16.0, 17.0), (2e9, 1e10)),
}


def counted(folder: Path, path: str) -> float:
    """Return the viable cells that a count put on the record."""
    (found,) = (event["values"] for event in events(folder, "values_set") if event["path"] == path)
    return float(found["tvc"])


@pytest.mark.slow
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("name", WHOLE)
def test_a_recipe_of_the_library_runs_whole_on_each_suite(name: str, site: str, tmp_path: Path):
    path, days, cells = WHOLE[name]
    result = told(tmp_path, recipe=name, site=site_for(site))
    assert (result.outcome, result.violations, result.held_s) == ("complete", [], 0.0)
    assert (result.doubled, result.in_doubt) == (0, 0)
    assert days[0] <= result.simulated_s / 86_400 <= days[1]
    assert cells[0] <= counted(tmp_path, path) <= cells[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_a_recipe_of_the_library_breaks_nothing_among_faults(name: str, tmp_path: Path):
    job = Job(name, tmp_path, profile="rough", horizon_s=WHOLE[name][1][0] * 86_400, seed=1)
    result = rehearse(job)
    assert (result.violations, result.doubled) == ([], 0)
    assert result.kills > 0
    assert result.outcome in ("complete", "stopped", "aborted")
