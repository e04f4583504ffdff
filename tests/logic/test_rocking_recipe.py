"""til-rocking as a dry run: what is perfused follows the density, the volume stays, oxygen is kept."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import pytest

from recipes.catalog import load
from simulators.physics.donors import donor
from simulators.physics.parameters import Setting
from tilctl.cli.dryrun.course import Course, Dosed
from tilctl.cli.dryrun.run import Run
from tilctl.cli.dryrun.walk import Walk

FEED = "grow/keep/medium/feed"
FAST = Setting(replace(donor(3), mu_rep=1.0, lag=1.0))  # the fast ends of the stated ranges


@lru_cache
def walked() -> tuple[Course, Run]:
    run = Run(load("til-rocking"), 3, {}, FAST)
    return Walk(run).run(), run


def parts(way: str) -> list[Dosed]:
    course, _ = walked()
    assert course.ended == "complete", course.reason
    return [each for each in course.dosed if each.path.startswith(FEED) and each.path.endswith(way)]


def test_what_is_drawn_follows_the_counts_by_steps_and_never_falls() -> None:
    wanted = [each.wanted_ml for each in parts("draw")]
    assert {round(each * 12) for each in wanted} == {0, 500}, "mL a day, two hours at a time; 750 from 1e7 cells/mL on"
    assert wanted == sorted(wanted)
    course, _ = walked()
    first = next(each.path for each in parts("draw") if each.wanted_ml > 0)
    began = next(did.began for did in course.did if did.path == first)
    dense = [each for each in course.counts if each.t < began][-1]
    assert dense.seen >= 2e9, "cells in 1 L, by the count before"


def test_what_is_drawn_is_refilled() -> None:
    drawn, refilled = (sum(each.moved_ml for each in parts(way)) for way in ("draw", "refill"))
    assert drawn > 1500.0
    assert refilled == pytest.approx(drawn, abs=60.0), "samples too, and up to what the last part left open"


def test_oxygen_is_kept_by_rocking_first_and_then_by_gas() -> None:
    _, run = walked()
    tags = [tag.partition(".")[2] for _, tag, _ in run.controls.moves]
    assert tags[0] == "rocking"
    assert "gas_oxygen" in tags, "a fast donor wants more than 15 rpm"
    first_gas = tags.index("gas_oxygen")
    assert max(value for _, tag, value in run.controls.moves[:first_gas] if tag.endswith("rocking")) == 15.0
    assert run.course.alarms == [], "there was never little oxygen"
