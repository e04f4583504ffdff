"""Recipes of the library that last a day at most, and doses by stock, on the simulated plant."""

from __future__ import annotations

import pytest

from recipes.catalog import find, load, load_text
from tilctl.cli.dryrun.course import Course
from tilctl.cli.dryrun.walk import dry_run


def changed(name: str, *changes: tuple[str, str], seed: int = 3, **parameters: str) -> Course:
    text = find(name).text
    for old, new in changes:
        assert text.count(old) >= 1, old
        text = text.replace(old, new)
    return dry_run(load_text(text, f"{name}.yaml"), seed, parameters)


@pytest.mark.parametrize(("method", "hours"), [("warm", (1.5, 1.75)), ("overnight", (14.0, 14.25))])
def test_enzymes_have_their_time_and_not_more(method: str, hours: tuple[float, float]) -> None:
    course = dry_run(load("tumour-digestion"), 3, {"method": method})
    assert (course.ended, course.exceptions, course.alarms) == ("complete", [], []), course.reason
    assert hours[0] <= (course.marks["quenched"] - course.marks["enzymes_in"]) / 3600.0 <= hours[1]
    assert course.plant is not None
    flask = next(c for c in course.plant.fluidics.at.values() if c is not None and c.name == "flask")
    assert flask.contents.concentration("viable") == pytest.approx(1e6, rel=0.4), "counts differ by a tenth or two"
    assert flask.fragments == 0.0


def test_a_quarter_of_an_hour_too_long_in_enzymes_is_an_alarm() -> None:
    late = (("due: 10 min, on_overdue: continue, source: P", "source: P"), ("plan.time + 15 min", "plan.time + 1 min"))
    assert changed("tumour-digestion", *late).alarms == ["over_time"]
    assert changed("tumour-digestion").alarms == []


def test_too_few_cells_out_of_the_tissue_end_the_batch() -> None:
    course = dry_run(load("tumour-digestion"), 3, {"floor": "1e8 cells"})
    assert (course.ended, "below the minimum" in course.reason) == ("stopped", True)


def test_a_thawed_bag_is_looked_at_twice_and_handed_over_within_three_hours() -> None:
    course = dry_run(load("thaw-to-infusion"), 3)
    assert (course.ended, course.exceptions, course.alarms) == ("complete", [], []), course.reason
    counts = [each.t - course.marks["thawed"] for each in course.sampled]
    assert counts[0] < 3600.0 <= counts[1] <= 2 * 3600.0
    assert course.marks["handed_over"] - course.marks["thawed"] < 3 * 3600.0


@pytest.mark.parametrize(("first", "ended"), [("release", "complete"), ("discard", "stopped")])
def test_what_fails_its_gate_after_the_thaw_is_for_quality(first: str, ended: str) -> None:
    other = {"release": "discard", "discard": "release"}[first]
    course = changed("thaw-to-infusion", ("[release, discard]", f"[{first}, {other}]"), min_viability="95 %")
    assert course.ended == ended
    assert "look/gate/2/qa" in course.asked
    assert any("look/first" in each for each in course.exceptions)
    at_once = changed("thaw-to-infusion", ("[wait, discard]", "[discard, wait]"), min_viability="95 %")
    assert (at_once.ended, len(at_once.sampled)) == ("stopped", 1)


def test_a_thawed_bag_has_no_way_back_into_a_freezer() -> None:
    recipe = load("thaw-to-infusion")
    assert not recipe.equipment
    assert all(step.verb != "freeze" for operation in recipe.procedure for step in operation.steps)


def test_til_16d_doses_by_stock_and_is_stimulated_by_it() -> None:
    course = dry_run(load("til-16d"), 3)
    dosed = {each.path: each.wanted_ml for each in course.dosed if each.source in ("okt3", "il2")}
    assert dosed["priming/fill/1/okt3"] == pytest.approx(15.0), "30 ng/mL in 500 mL, by 1 ug/mL"
    assert dosed["priming/fill/1/il2"] == pytest.approx(15.0), "6000 IU/mL in 500 mL, by 2e5 IU/mL"
    assert dosed["restimulation/add/1/okt3"] == pytest.approx(30.0)
    water = changed("til-16d", ("stock solution: OKT3 1 ug/mL", "stock solution: water"))
    assert water.counts[0].true < 0.5 * course.counts[0].true, "without OKT3 the cells are not stimulated"
