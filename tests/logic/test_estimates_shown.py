"""Where people see estimates: batch records, comparisons, plans, dry runs, the view of a unit, metrics."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from recipes import shelf
from recipes.catalog import load, load_text
from recipes.difference import differences
from recipes.estimates import Estimate
from recipes.master import master_record
from recipes.model import Recipe
from recipes.schema import recipe_schema
from simulators.physics.donors import population_donor
from simulators.physics.parameters import Setting
from tilctl.cli.dryrun.walk import dry_run
from tilctl.cli.planning.plan import as_data, make_plan
from tilctl.cli.planning.text import text
from tilctl.cli.unit_view import status
from tilctl.config.working import Working, parse_hours, parse_weekdays
from tilctl.gateway.metrics import Figures, Snapshot, UnitFigures

ROW: dict[str, Any] = {
    "name": "cells", "use": "advise", "now": 5e8, "low": 4e8, "high": 6.5e8, "why": "",
    "forecast": {
        "at": "day >= 22 d", "t": "2026-01-27T08:00:00.000Z", "floor": 1e9, "now": 4e9, "low": 1e9, "high": 2e10,
        "short": False, "why": "",
    },
    "data": 2, "last": "2026-01-21T08:00:00.000Z", "not_used": ["count16.tvc is 12 times what was expected"],
}  # fmt: skip
UNKNOWN: dict[str, Any] = ROW | {
    "now": None, "low": None, "high": None, "why": "nothing was measured since it began", "not_used": [],
    "forecast": ROW["forecast"] | {"now": None, "low": None, "high": None, "short": None},
}  # fmt: skip


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load("nci-rep-grex")


def changed(recipe: Recipe, **more: object) -> Recipe:
    declared = recipe.estimates["cells"].model_copy(update=more)
    return recipe.model_copy(update={"estimates": {"cells": declared}})


def test_a_batch_record_says_what_is_estimated_of_what_and_what_for(recipe: Recipe) -> None:
    (table,) = [each for each in master_record(recipe, "", "").before if each.title == "Estimates"]
    ((name, cells, made, forecast, use, source),) = table.rows
    assert (name, use, source) == ("cells", "advises", "GKU, P")
    assert cells == "rep, grow and gathered, from day0 to harvested"
    assert "counts count7.tvc; glucose early.glucose and late.glucose; 14 mmol/L in fresh; no cells into waste" in made
    assert forecast.startswith("when day is at least 13.75 d, against harvest_floor; known 2.5 d before")


def test_a_comparison_tells_of_every_field_of_it(recipe: Recipe) -> None:
    (use,) = differences(recipe, changed(recipe, use="decide"))
    assert (use.part, use.words) == ("estimate", "cells: use advise -> decide")
    assert not differences(recipe, recipe)
    gone = differences(recipe, recipe.model_copy(update={"estimates": {}}))
    assert [(each.part, each.change) for each in gone] == [("estimate", "removed")]


def test_the_flat_text_that_a_batch_keeps_has_it() -> None:
    flat = shelf.read("til-22d", shelf.RECIPES)
    assert load_text(flat.text, "flat.yaml").estimates == load("til-22d").estimates
    assert load("til-22d").estimates


def test_the_schema_for_editors_knows_it() -> None:
    schema = recipe_schema()
    assert "estimates" in schema["properties"]
    assert set(schema["$defs"]["Estimate"]["properties"]) == {
        (field.alias or name) for name, field in Estimate.model_fields.items()
    }


def test_a_plan_says_whether_a_forecast_is_known_in_time(recipe: Recipe) -> None:
    working = Working(UTC, *parse_hours("08:00-17:00"), parse_weekdays("mon-fri"), frozenset())  # type: ignore[arg-type]
    plan = make_plan(recipe, {}, datetime(2026, 3, 2, 8, tzinfo=UTC), "Etc/UTC", working)
    (outlook,) = plan.timeline.outlooks
    assert outlook.known is not None
    assert outlook.known < outlook.due < outlook.end
    assert "Forecasts" in text(plan)
    (data,) = as_data(plan)["forecasts"]
    assert data["estimate"] == "cells"


def test_a_dry_run_raises_what_the_engine_would(recipe: Recipe) -> None:
    slow = next(seed for seed in range(100) if not population_donor(seed).expands)
    course = dry_run(recipe, slow, {}, Setting(population_donor(slow)))
    assert course.alarms.count("below-floor-cells") == 1


def test_the_view_of_a_unit_tells_what_is_known_and_why_something_is_not() -> None:
    shown = status("cell1", {"state": "running", "estimates": [ROW]})
    line = next(line for line in shown.splitlines() if "estimate" in line)
    assert line.strip() == (
        "estimate cells: 5e8 cells (4e8 to 6.5e8, 95 %); when day >= 22 d: 4e9 cells (1e9 to 2e10, 95 %), "
        "1e9 cells are wanted; not used: count16.tvc is 12 times what was expected"
    )
    assert "estimate cells: nothing was measured" in status("cell1", {"state": "running", "estimates": [UNKNOWN]})


def test_a_figure_of_what_is_not_known_is_not_exported() -> None:
    def samples(row: dict[str, Any]) -> dict[tuple[str, ...], float]:
        snapshot = Snapshot(units={"cell1": UnitFigures(50, 1, 1.0, 0, [row])}, readings={}, now=0.0)
        metrics = Figures(lambda: snapshot, {}).collect()
        found = [s for metric in metrics if metric.name.startswith("tilctl_estimate") for s in metric.samples]
        return {(s.name, *s.labels.values()): s.value for s in found}

    known = samples(ROW)
    assert known["tilctl_estimate_known", "cell1", "cells"] == 1.0
    assert known["tilctl_estimate_short", "cell1", "cells"] == 0.0
    assert known["tilctl_estimate_cells", "cell1", "cells", "end", "high"] == 2e10
    assert samples(UNKNOWN) == {("tilctl_estimate_known", "cell1", "cells"): 0.0}
