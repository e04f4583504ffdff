"""Soft sensors: what they are told, what they make of it, and that what breaks in them is told and not raised."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator

import pytest
from pytest import approx

from recipes.estimates import Estimate
from tilctl.estimation import filter as filter_
from tilctl.estimation.account import Account
from tilctl.estimation.course import Cells, Course, course_of
from tilctl.estimation.estimates import Estimates, Follower
from tilctl.estimation.inputs import Count, Lost, Probe, Start, Uptake

DAY = 86_400.0


def declared(**more: object) -> Estimate:
    given = {
        "of": ["rep", "grow"], "from": "begun", "to": "done", "start": "1e7 cells", "counts": ["count.tvc"],
        "glucose": ["daily.glucose"], "medium": {"fresh": "14 mmol/L"}, "supernatant": ["waste"],
        "forecast": {"at": "day >= 12 d", "floor": "1e9 cells"},
    }  # fmt: skip
    return Estimate.model_validate(given | more)


def told(**more: object) -> Account:
    """A litre of culture that has begun."""
    account = Account(declared(**more))
    account.mounted("rep", 1000.0)
    account.mark(0.0, "begun", lambda _: 1e7)
    return account


def known(course: Course, day: float) -> Cells:
    cells = course.at(day * DAY)
    assert cells is not None
    assert cells.low < cells.now < cells.high
    return cells


def width(cells: Cells) -> float:
    return cells.high / cells.low


# --- what it is told ----------------------------------------------------------------------------------------


def test_an_uptake_is_what_two_samples_differ_by_less_what_was_removed_and_with_what_was_fed() -> None:
    account = told()
    account.value(4 * DAY, "daily.glucose", 10.0)
    account.moved(4.1 * DAY, "rep", "waste", 500.0)
    account.moved(4.1 * DAY, "fresh", "rep", 500.0)
    account.value(5 * DAY, "daily.glucose", 7.0)
    found = account.inputs[-1]
    assert isinstance(found, Uptake)
    assert (found.since, found.t) == (4 * DAY, 5 * DAY)
    assert found.mmol == approx(10.0 * 0.5 + 14.0 * 0.5 - 7.0), "mmol in a litre"
    assert found.sd == approx(math.hypot(0.05 * 10 * 0.5, 0.05 * 14 * 0.5, 0.05 * 7.0))


def test_a_medium_of_which_nothing_is_known_makes_an_uptake_less_certain() -> None:
    sure, unsure = told(), told(medium={})
    for account in (sure, unsure):
        account.value(4 * DAY, "daily.glucose", 10.0)
        account.moved(4.1 * DAY, "rep", "waste", 200.0)
        account.moved(4.1 * DAY, "fresh", "rep", 200.0)
        account.value(5 * DAY, "daily.glucose", 6.0)
    a, b = sure.inputs[-1], unsure.inputs[-1]
    assert isinstance(a, Uptake)
    assert isinstance(b, Uptake)
    assert b.sd > 1.5 * a.sd


def test_what_two_samples_cannot_tell_apart_is_held_against_the_older_of_them() -> None:
    account = told()
    for day, glucose in ((1, 14.0), (2, 13.9), (3, 13.5), (4, 10.0)):
        account.value(day * DAY, "daily.glucose", glucose)
    (uptake,) = [each for each in account.inputs if isinstance(each, Uptake)]
    assert uptake.t == 4 * DAY
    assert uptake.mmol == approx(3.5, abs=0.5)


def test_cells_leave_with_a_sample_and_stay_with_a_supernatant_and_go_along_in_a_split() -> None:
    account = told()
    account.mounted("grow[1]", 0.0)
    account.moved(DAY, "rep", "waste", 500.0)
    account.moved(DAY, "rep", "grow[1]", 250.0)
    assert [type(each) for each in account.inputs] == [Start]
    account.moved(DAY, "rep", "samples", 5.0)
    assert account.inputs[-1] == Lost(DAY, 0.01)
    assert account.volume_ml == approx(495.0)


def test_where_most_cells_are_taken_out_the_culture_is_over() -> None:
    account = told()
    account.moved(9 * DAY, "rep", "bag", 600.0)
    assert not account.runs
    account.value(10 * DAY, "count.tvc", 1e9)
    assert not [each for each in account.inputs if isinstance(each, Count)]


def test_nothing_counts_before_its_mark_or_after_its_other() -> None:
    account = Account(declared())
    account.mounted("rep", 1000.0)
    account.value(0.0, "count.tvc", 1e7)
    account.mark(DAY, "begun", lambda _: None)
    account.mark(5 * DAY, "done", lambda _: None)
    account.value(6 * DAY, "count.tvc", 1e9)
    assert account.inputs == [Start(DAY, None)]


def test_oxygen_says_something_only_where_some_of_it_is_missing() -> None:
    account = told(oxygen={"tag": "station.oxygen", "renewal": "10 min"})
    account.reading(3 * DAY, "oxygen", 95.0, {"renewal": 600.0})
    assert len(account.inputs) == 1
    account.reading(4 * DAY, "oxygen", 60.0, {"renewal": 600.0})
    found = account.inputs[-1]
    assert isinstance(found, Probe)
    assert found.value == approx(0.205 * 0.4 * 1.0 * 144.0), "mmol a day: 40 % of 0.205 mmol, each ten minutes"
    account.reading(5 * DAY, "oxygen", 60.0, {"renewal": 1200.0, "gas": 41.8})
    found = account.inputs[-1]
    assert isinstance(found, Probe)
    assert found.value == approx(0.205 * 1.4 * 1.0 * 72.0), "of twice as much in the gas, each twenty"


# --- what it makes of it ------------------------------------------------------------------------------------


def test_a_start_alone_is_a_guess_and_no_estimate() -> None:
    assert course_of([Start(0.0, 1e7)], 1.5 * DAY).at(3 * DAY) is None


def test_a_count_is_believed_and_what_comes_after_it_is_less_and_less_certain() -> None:
    course = course_of([Start(0.0, 1e7), Count(5 * DAY, 1.4e8, "count.tvc")], 1.5 * DAY)
    assert known(course, 5).now == approx(1.4e8, rel=0.1)
    widths = [width(known(course, day)) for day in (5, 6, 8, 12)]
    assert widths == sorted(widths)
    assert widths[0] < 1.7, "about the error of a count"
    assert known(course, 12).now > 5 * known(course, 5).now


def test_cells_that_did_not_grow_are_not_expected_to() -> None:
    slow = course_of([Start(0.0, 1e7), Count(5 * DAY, 1.2e7, "count.tvc")], 1.5 * DAY)
    assert known(slow, 11).high < 1e9


def test_glucose_narrows_what_a_count_leaves_open() -> None:
    inputs = [Start(0.0, 1e7), Count(5 * DAY, 1.4e8, "count.tvc")]
    fed = Uptake(9 * DAY, 8 * DAY, 1.0, 0.1, "daily.glucose")  # 1 mmol a day: about 1e9 cells that take 1 pmol
    without, glucose = course_of(inputs, 1.5 * DAY), course_of([*inputs, fed], 1.5 * DAY)
    assert width(known(glucose, 9)) < width(known(without, 9))
    assert width(known(glucose, 9)) > 2.0, "what a cell takes up is not known to a factor of two"
    again = course_of([*inputs, fed, Count(9 * DAY, 6e8, "count.tvc")], 1.5 * DAY)
    later = [Uptake(10 * DAY, 9 * DAY, 1.5, 0.1, "daily.glucose")]
    taught = course_of([*inputs, fed, Count(9 * DAY, 6e8, "count.tvc"), *later], 1.5 * DAY)
    assert width(known(taught, 10)) < width(known(again, 10))


def test_feeders_eat_and_are_seen_by_a_field_but_are_no_cells_of_the_patient() -> None:
    alone = [Start(0.0, 1e7), Probe(2 * DAY, "capacitance", 5e8, 0.08, "station.live_density")]
    fed = [Start(0.0, 1e7, 1.2e9), Probe(2 * DAY, "capacitance", 5e8, 0.08, "station.live_density")]
    assert course_of(alone, 1.5 * DAY).refused, "fifty times what was expected"
    assert not course_of(fed, 1.5 * DAY).refused
    assert known(course_of(fed, 1.5 * DAY), 2).now < 5e7
    eaten = [Start(0.0, 1e7, 5e9), Uptake(2 * DAY, DAY, 0.4, 0.05, "daily.glucose")]  # 2.5e9 feeders eat 0.37 mmol
    assert course_of(eaten, 1.5 * DAY).used == []


def test_oxygen_is_weighed_by_what_a_cell_breathes() -> None:
    breathed = Probe(6 * DAY, "oxygen", 0.3, 0.1, "station.oxygen")
    course = course_of([Start(0.0, 1e7), breathed], 1.5 * DAY, oxygen=True)
    assert known(course, 6).low < 0.3e9 / 0.75 < known(course, 6).high


def test_a_count_beyond_belief_is_not_used_and_two_that_agree_are() -> None:
    inputs = [Start(0.0, 1e7), Count(5 * DAY, 1.4e8, "count.tvc"), Count(5.1 * DAY, 1.5e9, "count.tvc")]
    course = course_of(inputs, 1.5 * DAY)
    (refused,) = course.refused
    assert refused.name == "count.tvc"
    assert course.doubted.startswith("count.tvc is ")
    assert known(course, 5.1).now < 3e8
    course.take(Count(5.3 * DAY, 1.6e9, "count.tvc"))
    assert course.doubted == ""
    assert known(course, 5.3).now == approx(1.6e9, rel=0.3)


def test_the_same_inputs_give_the_same_course_however_they_come() -> None:
    inputs = [
        Start(0.0, 1e7, 1e8), Count(5 * DAY, 1.4e8, "count.tvc"), Uptake(7 * DAY, 6 * DAY, 0.6, 0.1, "daily.glucose"),
        Lost(7 * DAY, 0.01),
    ]  # fmt: skip
    once, by_one = course_of(inputs, 1.5 * DAY), Course(1.5 * DAY)
    for each in inputs:
        by_one.at(each.t)
        by_one.take(each)
        by_one.at(each.t + DAY)
    assert by_one.at(9 * DAY) == once.at(9 * DAY)


# --- what is told of it -------------------------------------------------------------------------------------


def followed(counted: float, **more: object) -> Follower:
    estimates = Estimates({"cells": declared(**more)})
    estimates.mounted("rep", 1000.0)
    estimates.mark(0.0, "begun", lambda _: 1e7)
    estimates.value(5 * DAY, "count.tvc", counted)
    return estimates.all["cells"]


def floor(_text: str) -> float:
    return 1e9


def test_a_forecast_needs_data_and_old_data_tell_nothing() -> None:
    early = Follower("cells", declared())
    assert early.look(0.0, floor, lambda _: None).why == "it begins at the mark begun"
    early.account.mark(0.0, "begun", lambda _: 1e7)
    assert "nothing was measured" in early.look(DAY, floor, lambda _: None).why
    early.account.value(2 * DAY, "count.tvc", 1e7)
    sight = early.look(2 * DAY, floor, lambda _: 10 * DAY)
    assert sight.cells is not None
    assert (sight.end, sight.short) == (None, None)
    assert sight.no_end == "its data reach 2 d so far, it needs 2.5 d"
    stale = early.look(7 * DAY, floor, lambda _: 5 * DAY)
    assert stale.why == "its last data are 5 d old, 4 d are allowed"
    assert [stale.value(name) for name in ("now", "low", "at_end")] == [None] * 3


def test_short_is_what_even_the_upper_end_says() -> None:
    slow, fast = followed(1.2e7), followed(1.4e8)
    assert slow.look(5 * DAY, floor, lambda _: 6 * DAY).short is True
    sight = fast.look(5 * DAY, floor, lambda _: 6 * DAY)
    assert sight.short is False
    assert sight.end is not None
    assert (sight.value("at_end_low"), sight.value("at_end_high")) == (sight.end.low, sight.end.high)
    assert sight.value("at_end") == sight.end.now
    assert fast.look(5 * DAY, lambda _: 1e15, lambda _: 6 * DAY).short is True


def test_what_breaks_is_a_reason_and_raises_nothing() -> None:
    follower = followed(1.4e8)

    def breaks(_text: str) -> float:
        raise ZeroDivisionError

    assert follower.look(5 * DAY, breaks, lambda _: 1.0).why == "it does not work: ZeroDivisionError()"
    lost = followed(1.4e8)
    lost.caught_up()
    at = lost.course._filter
    assert at is not None
    at.cov = at.cov * math.nan
    assert lost.look(5 * DAY, floor, lambda _: 6 * DAY).why == "it knows nothing of the cells any more"
    assert lost.look(6 * DAY, floor, lambda _: 6 * DAY).why.startswith("it does not work: ")
    lost.account.value(6 * DAY, "count.tvc", 1.4e8)
    assert lost.look(6 * DAY, floor, lambda _: 6 * DAY).why.startswith("it does not work: "), "and stays so"


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    filter_.library.cache_clear()
    monkeypatch.setitem(sys.modules, "pykalman", None)
    yield
    filter_.library.cache_clear()


def test_without_the_library_nothing_is_known_and_it_says_what_to_install(without_library: None) -> None:
    follower = followed(1.4e8)
    assert "extra `estimates`" in follower.look(5 * DAY, floor, lambda _: 6 * DAY).why
    assert follower.unavailable


def test_nothing_that_starts_the_program_imports_the_filter() -> None:
    text = """
import sys
import tilctl.cli.main, tilctl.engine.controller, tilctl.estimation.estimates, tilctl.cli.dryrun.walk
print([name for name in ("numpy", "scipy", "pykalman") if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", text], check=True, capture_output=True, text=True).stdout == "[]\n"
