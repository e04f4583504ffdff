"""The recipes of the library, each rehearsed whole, the long ones on every suite of instruments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.stack.told import events, told
from tilctl.cli.rehearsing.worker import Job, rehearse
from tilctl.cli.simulated import SITES, site_for

ROCKING = ("lab-rocking", "lab-rocking-drives")  # with a rocker
SEED = 3  # a donor that grows well


@dataclass(frozen=True)
class Whole:
    """A recipe with parameters, and what comes of it: days simulated, cells of the last count.

    The figures are those of one simulated donor: a simulation, not biology.
    """

    recipe: str
    count: str
    days: tuple[float, float]
    cells: tuple[float, float]
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    sites: tuple[str, ...] = SITES


WHOLE = (
    Whole("til-16d", "harvest/count16", (16.0, 17.0), (2e9, 2e10)),
    Whole("nci-rep-grex", "harvest/count14", (13.75, 14.25), (1e9, 8e9)),
    Whole("nci-rep-grex", "harvest/count14", (13.75, 14.25), (1e9, 8e9), {"feeding": "rule"}),
    Whole("nci-rep-grex", "harvest/count14", (13.75, 14.25), (1e9, 8e9), {"feeding": "both"}),
    Whole("nci-young-pre-rep", "pooling/pooled_count", (10.0, 18.25), (5e7, 1e9)),
    Whole("nci-rep-bag", "harvest/count14", (13.75, 14.25), (1e9, 8e9)),
    Whole("til-feeder-free", "harvest/count_end", (23.9, 25.0), (1e9, 1e10)),
    Whole("nci-rep-bag", "harvest/count14", (13.75, 14.25), (1e9, 8e9), {"bag_fill": "1 L"}),
    Whole("til-rocking", "harvest/count14", (13.5, 14.25), (1e9, 2e10), sites=ROCKING),
)


def name_of(whole: Whole) -> str:
    return " ".join((whole.recipe, *whole.parameters.values()))


def counted(folder: Path, path: str) -> float:
    """Return the viable cells that a count put on the record."""
    (found,) = (event["values"] for event in events(folder, "values_set") if event["path"] == path)
    return float(found["tvc"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("whole", "site"), [pytest.param(each, site, id=f"{name_of(each)} {site}") for each in WHOLE for site in each.sites]
)
def test_a_recipe_of_the_library_runs_whole_on_each_suite(whole: Whole, site: str, tmp_path: Path) -> None:
    result = told(tmp_path, recipe=whole.recipe, seed=SEED, parameters=whole.parameters, site=site_for(site))
    assert (result.outcome, result.violations, result.held_s) == ("complete", [], 0.0)
    assert (result.doubled, result.in_doubt) == (0, 0)
    assert whole.days[0] <= result.simulated_s / 86_400 <= whole.days[1]
    assert whole.cells[0] <= counted(tmp_path, whole.count) <= whole.cells[1]


@pytest.mark.slow
@pytest.mark.parametrize("whole", WHOLE, ids=name_of)
def test_a_recipe_of_the_library_breaks_nothing_among_faults(whole: Whole, tmp_path: Path) -> None:
    horizon = whole.days[0] * 86_400
    job = Job(
        whole.recipe,
        tmp_path,
        parameters=whole.parameters,
        profile="rough",
        horizon_s=horizon,
        seed=SEED,
        site=site_for(whole.sites[0]),
    )
    result = rehearse(job)
    assert (result.violations, result.doubled) == ([], 0)
    assert result.kills > 0
    assert result.outcome in ("complete", "stopped", "aborted")


@pytest.mark.parametrize("recipe", ["tumour-digestion", "thaw-to-infusion"])
def test_a_recipe_of_a_few_hours_runs_whole_under_the_controller(recipe: str, tmp_path: Path) -> None:
    result = told(tmp_path, recipe=recipe, seed=SEED)
    assert (result.outcome, result.violations, result.held_s) == ("complete", [], 0.0)
    assert (result.doubled, result.in_doubt) == (0, 0)
    assert result.simulated_s < 86_400


@pytest.mark.slow
def test_half_of_the_medium_is_exchanged_on_the_days_on_which_glucose_is_low(tmp_path: Path) -> None:
    told(tmp_path, recipe="nci-rep-grex", seed=SEED, parameters={"feeding": "rule"})
    seen = {
        int(event["path"].split("/")[4]): event["values"]["glucose"]
        for event in events(tmp_path, "values_set")
        if event["path"].startswith("split/feed/2/daily/") and event["path"].endswith("/late")
    }
    exchanged = {
        int(event["path"].split("/")[4]) for event in events(tmp_path, "intent_opened") if "/low/" in event["path"]
    }
    assert list(seen) == list(range(1, len(seen) + 1)) == [1, 2, 3, 4, 5, 6]
    assert exchanged == {turn for turn, glucose in seen.items() if glucose < 5.5}
    assert 0 < len(exchanged) < len(seen)
