"""Branches at the same time, as the check, the words, the comparison and a dry run see them."""

from __future__ import annotations

import pytest

from recipes.catalog import load_text
from recipes.difference import differences
from recipes.master import master_record
from recipes.model import Recipe, step_at, walk
from recipes.steps import Parallel
from tests.logic.test_dryrun import tried
from tests.logic.test_recipe_check import GOOD, found, said
from tilctl.cli.dryrun.course import Course

COUNT = "  - sample: {id: count, from: pool"
TOP_UP = "{transfer: {id: %s, from: media, to: pool, volume: %s, rate: 50 mL/min, source: P}}"
SEEN = "{ask: {id: seen, text: How many?, inputs: {n: {range: 0..9}}, source: P}}"
REST = "{wait: {id: rest, for: 1 h, source: P}}"


def beside(*branches: str, called: str = "both") -> str:
    """Return a `parallel` of branches, each a list of steps as YAML, called a, b, ..."""
    named = ", ".join(f"{name}: [{steps}]" for name, steps in zip("abcdefghi", branches, strict=False))
    return f"{{parallel: {{id: {called}, branches: {{{named}}}}}}}"


def before_the_count(*branches: str) -> tuple[str, str]:
    return COUNT, f"  - {beside(*branches)[1:-1]}\n{COUNT}"


def codes(*branches: str) -> list[tuple[str, str]]:
    return said(*found(before_the_count(*branches)))


# --- what is found ----------------------------------------------------------------------------------------------------


def test_between_two_and_eight_branches_those_inside_counted() -> None:
    assert codes(SEEN, REST) == []
    eight = [REST.replace("id: rest", f"id: rest{n}") for n in range(8)]
    assert codes(*eight) == []
    within = beside(*eight[:7], called="inner")
    assert codes(within, SEEN) == []
    for wrong in ([REST], [*eight, SEEN], [within, SEEN, "{mark: {id: more}}"]):
        (finding,) = found(before_the_count(*wrong))
        assert finding.code == "schema"
        assert "two branches at least" in finding.message or "at most 8" in finding.message


def test_ids_tell_the_steps_of_all_branches_apart() -> None:
    assert codes(SEEN, SEEN) == [("id-duplicate", "error")]
    again = "{choose: {id: c, cases: [{else: [" + SEEN + "]}]}}"
    assert codes(again, SEEN) == [("id-duplicate", "error")]
    assert ("mark-duplicate", "error") in codes(SEEN, "{mark: {id: day0}}")


def test_what_one_branch_brings_may_be_missing_in_the_others_and_is_there_after_all() -> None:
    for first, second in ((SEEN, "n"), ("n", SEEN)):
        unguarded = [each if each != "n" else "{let: {id: n, values: {x: seen.n}}}" for each in (first, second)]
        assert codes(*unguarded) == [("name-maybe", "warning")], "whichever is written first"
        guarded = [each.replace("x: seen.n", "x: 'default(seen.n, 0)'") for each in unguarded]
        assert codes(*guarded) == []
    after = ("count.tvc > 1e6 cells", "count.tvc > 1e6 cells and seen.n > 1 and since(late) > 0 s")
    assert found(before_the_count(SEEN, "{mark: {id: late}}"), after) == []
    assert codes("{wait: {id: w, until: since(late) > 1 h, source: P}}", "{mark: {id: late}}") == [
        ("name-maybe", "warning")
    ]
    chain = "{let: {id: x, values: {v: 'default(y.v, 0)'}}}", "{let: {id: y, values: {v: 'default(seen.n, 0)'}}}"
    assert codes(*chain, SEEN) == [], "a value that hangs on one of another branch, and that on one of a third"


def test_an_end_in_a_branch_is_the_end() -> None:
    end = "{end: {as: stopped, reason: enough}}"
    assert ("unreachable", "error") in codes(SEEN, end)
    assert (
        codes(SEEN, "{choose: {id: c, cases: [{when: day > 9 d, steps: [" + end + "]}, {else: []}], source: P}}") == []
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("{unmount: {id: off, containers: media}}", TOP_UP % ("more", "100 mL")),
        ("{unmount: {id: off, containers: pre}}", "{sample: {id: seen, from: 'pre[1]', results: [tvc]}}"),
        ("{unmount: {id: off, containers: pre}}", "{for_each: {id: each, as: f, in: pre, steps: [" + REST + "]}}"),
        (
            "{unmount: {id: off, containers: pool}}",
            "{balance: {id: even, over: [pool, media], within: 3 %, source: P}}",
        ),
    ],
)
def test_what_is_mounted_in_one_branch_is_of_that_branch_alone(one: str, other: str) -> None:
    for branches in ((one, other), (other, one)):
        assert ("parallel-clash", "error") in codes(*branches)


def test_a_container_of_several_branches_must_hold_what_comes_in_any_order() -> None:
    fits = TOP_UP % ("one", "200 mL"), TOP_UP % ("two", "200 mL")
    assert codes(*fits) == []
    much = TOP_UP % ("one", "300 mL"), TOP_UP % ("two", "400 mL")
    findings = found(before_the_count(*much))
    assert ("overfill-possible", "warning") in said(*findings), "the vessels are emptied into it before"
    assert "'pool' is filled or emptied in several branches and would hold up to" in findings[0].message
    levels = [TOP_UP.replace("volume: %s", "tolerance: 1 mL, up_to: %s") % (name, "3.8 L") for name in ("one", "two")]
    assert codes(*levels) == [], "a level is a level, however often"
    assert ("overfill-possible", "warning") in codes(*levels, TOP_UP % ("three", "200 mL"))
    full = ("pool: 0 mL}", "pool: ask}")
    out = "{transfer: {id: %s, from: pool, to: media, volume: 1 mL, rate: 50 mL/min, one_shot: true, source: P}}"
    drawn = found(before_the_count(out % "one", out % "two"), full)
    assert not [each for each in drawn if "in several branches" in each.message and "'pool'" in each.message]


def test_a_branch_reckons_with_all_that_another_may_have_done_by_then() -> None:
    out = "{transfer: {id: out, from: pool, to: media, all: true, rate: 50 mL/min, source: P}}"
    fill = "{transfer: {id: %s, from: media, to: 'pre[1]', volume: %s, rate: 50 mL/min, source: P}}"
    by_volume = fill % ("by", "pool.volume / 4")
    assert codes(by_volume, REST) == [], "alone it knows what the pool holds: 3.2 L at most"
    warned = codes(by_volume, out, TOP_UP % ("more", "700 mL"))
    assert ("overfill-possible", "warning") in warned


def test_places_are_counted_for_all_branches_at_once() -> None:
    vessel = (
        "  media:   {kind: bag",
        "  more:    {kind: vessel, count: '2', limit: 1 L, source: P}\n  media:   {kind: bag",
    )
    up = "{mount: {id: up, containers: more, volume: 0 mL, source: P}}"
    four = ("n: {range: 1..4}", "n: {range: 1..2}")
    assert said(*found(vessel, four, before_the_count(up, REST))) == []
    other = vessel[0], vessel[1].replace("  media:", "  third:   {kind: vessel, limit: 1 L, source: P}\n  media:")
    third = "{mount: {id: third_up, containers: third, volume: 0 mL, source: P}}"
    gone = f"{third}, {{unmount: {{id: third_off, containers: third}}}}"
    for branches in ((up, gone), (gone, up)):
        assert set(said(*found(other, four, before_the_count(*branches)))) == {("positions", "error")}


# --- what is read -----------------------------------------------------------------------------------------------------


def recipe_with(*branches: str) -> Recipe:
    old, new = before_the_count(*branches)
    return load_text(GOOD.replace(old, new), "small.yaml")


def test_a_path_names_the_branch() -> None:
    recipe = recipe_with("{repeat: {id: turns, max: 3, source: P, steps: [" + SEEN + "]}}", REST)
    assert isinstance(step_at(recipe, "work/both"), Parallel)
    seen = step_at(recipe, "work/both/a/turns/2/seen")
    assert seen is not None
    assert (seen.verb, seen.id) == ("ask", "seen")
    assert step_at(recipe, "work/both/b/turns/2/seen") is None
    assert step_at(recipe, "work/both/seen") is None
    paths = [path for path, _ in walk(recipe.procedure[1].steps, "work")]
    assert {"work/both", "work/both/a/turns/seen", "work/both/b/rest"} <= set(paths)


def test_a_master_record_shows_each_branch() -> None:
    lines = [line for part in master_record(recipe_with(SEEN, REST), "", "").parts for line in part.lines]
    at = next(index for index, line in enumerate(lines) if line.id == "both")
    told = [(line.number, line.sentence) for line in lines[at : at + 5]]
    first = told[0][0]
    assert told == [
        (first, "At the same time, until all of them are done (a and b):"),
        (f"{first}.1", "Branch a:"),
        (f"{first}.1.1", "How many?"),
        (f"{first}.2", "Branch b:"),
        (f"{first}.2.1", "Wait for 1 h."),
    ]


def test_recipes_are_compared_branch_by_branch() -> None:
    old, new = recipe_with(SEEN, REST), recipe_with(SEEN, REST.replace("1 h", "2 h"), "{mark: {id: late}}")
    assert [each.words for each in differences(old, old)] == []
    assert [each.words for each in differences(old, new)] == [
        "work/both: branch c added",
        "work/both/b/rest: for 1 h -> 2 h",
        "work/both/c/late: added: Record this moment as late.",
    ]
    moved = recipe_with(REST, SEEN)
    (first, second) = differences(old, moved)
    assert {first.change, second.change} == {"moved"}
    assert "work/both, branch " in first.new


# --- a dry run --------------------------------------------------------------------------------------------------------


def times(course: Course) -> dict[str, tuple[float, float]]:
    return {did.path: (did.began, did.ended) for did in course.did}


ONE = "{transfer: {id: one, from: medium, to: 'rep[1]', volume: 200 mL, rate: 10 mL/min, source: P}}"
TWO = "{transfer: {id: two, from: medium, to: 'rep[2]', volume: 300 mL, rate: 10 mL/min, source: P}}"


def test_branches_of_a_dry_run_go_on_beside_each_other() -> None:
    half = REST.replace("id: rest, for: 1 h", "id: half, for: 30 min")
    course = tried(beside(f"{REST}, {{mark: {{id: after}}}}", f"{half}, {SEEN}")[1:-1])
    assert course.ended == "complete", course.reason
    at = times(course)
    began = at["work/both/a/rest"][0]
    assert at["work/both/b/half"][0] == began
    assert at["work/both/b/seen"][0] == began + 1800.0
    assert course.marks["after"] == began + 3600.0
    assert course.seconds == max(ended for _, ended in at.values())


def test_in_a_dry_run_too_a_line_is_used_by_one_after_the_other() -> None:
    course = tried(beside(ONE, TWO, REST)[1:-1])
    assert course.ended == "complete", course.reason
    at = times(course)
    assert at["work/both/a/one"][0] == at["work/both/b/two"][0]
    assert at["work/both/b/two"][1] - at["work/both/a/one"][1] >= 1790.0, "it waited for the pump"
    assert [dosed.path for dosed in course.dosed] == ["work/both/a/one", "work/both/b/two"]


def test_a_branch_waits_for_what_another_brings_or_never_ends() -> None:
    waits = "{wait: {id: w, until: 'default(seen.n >= 0, false)'}}"
    course = tried(beside(waits, f"{REST}, {SEEN}")[1:-1])
    assert course.ended == "complete", course.reason
    at = times(course)
    assert at["work/both/a/w"][1] == at["work/both/b/seen"][1]
    never = "{choose: {id: c, cases: [{when: day > 9 d, steps: [" + SEEN + "]}, {else: []}], source: P}}"
    course = tried(beside(waits, f"{REST}, {never}")[1:-1])
    assert (course.ended, "never comes true" in course.reason) == ("held", True)
    first = "{wait: {id: w, until: 'default(y.n >= 0, false)'}}, {let: {id: x, values: {n: '1'}}}"
    second = "{wait: {id: v, until: 'default(x.n >= 0, false)'}}, {let: {id: y, values: {n: '1'}}}"
    course = tried(beside(first, second)[1:-1])
    assert (course.ended, course.reason) == ("held", "every branch waits for another one")


def test_what_ends_one_branch_ends_a_dry_run() -> None:
    end = "{wait: {id: soon, for: 10 min, source: P}}, {end: {as: stopped, reason: enough}}"
    course = tried(beside(beside(REST, end, called="inner"), TWO)[1:-1])
    assert (course.ended, course.reason) == ("stopped", "enough")
    low = "{transfer: {id: much, from: medium, to: 'rep[1]', volume: 990 mL, rate: 100 mL/min, source: P}}"
    course = tried(beside(f"{low}", REST)[1:-1])
    assert (course.ended, "over-full" in course.reason) == ("held", True)
