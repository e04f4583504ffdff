"""Exceptions in the language: checked where they may be walked, in words, in the master record, in differences."""

from __future__ import annotations

import pytest

from devices.document import parse, validate
from recipes.check import check
from recipes.difference import differences
from recipes.master import master_record
from recipes.model import Recipe, step_at
from recipes.words import details
from tests.logic.test_recipe_check import GOOD

BY_HAND = """\
exceptions:
  by_hand:
    title: Poured by hand
    steps:
    - ask: {id: pour, text: Pour the rest, inputs: {volume: {unit: mL, range: 0..800 mL}}, source: P}
    - mark: {id: poured}
procedure:
- operation: prepare
"""
FAILS = (
    "closes, over: [pool, product], within: 3 %",
    "closes, over: [pool, product], on_failure: by_hand, within: 3 %",
)


def text(*changes: tuple[str, str]) -> str:
    found = GOOD.replace("procedure:\n- operation: prepare\n", BY_HAND)
    for old, new in changes:
        assert found.count(old) == 1, old
        found = found.replace(old, new)
    return found


def codes(*changes: tuple[str, str]) -> list[tuple[str, str]]:
    return [(each.code, each.message) for each in check(parse(text(*changes), "small.yaml"))[1]]


def read(*changes: tuple[str, str]) -> Recipe:
    return validate(parse(text(*changes), "small.yaml"), Recipe, "schema")


def test_one_that_is_named_draws_nothing_and_one_that_is_not_cannot_be_reached() -> None:
    assert codes(FAILS) == []
    assert [code for code, _ in codes()] == ["unreachable"]


def test_its_steps_are_checked_once_however_many_may_fail() -> None:
    broken = ("text: Pour the rest", "text: 'Pour {nothing}'")
    twice = ("- operation: finish\n", "- operation: finish\n  on_failure: by_hand\n")
    found = codes(FAILS, twice, broken, ("    - mark: {id: poured}\n", ""))
    assert [code for code, _ in found] == ["text"]


def test_what_it_or_the_failed_step_brings_may_not_be_there_afterwards() -> None:
    last = ("  - unmount: {id: clear, ", "  - note: {id: told, text: x, when: %s}\n  - unmount: {id: clear, ")
    for name in ("pour.volume > 1 mL", "since(poured) > 1 d"):
        assert "name-maybe" in [code for code, _ in codes(FAILS, (last[0], last[1] % name))], name
    failing = ("id: plan, text: How many?,", "id: plan, text: How many?, on_failure: by_hand,")
    assert ("name-maybe", "'plan.n' may have no value here, and then this waits and alarms") in codes(failing)


def test_a_liquid_that_an_exception_moves_counts_at_its_worst() -> None:
    pour = (
        "    - mark: {id: poured}\n",
        "    - transfer: {from: media, to: pool, volume: 3.9 L, rate: 50 mL/min, source: P}\n",
    )
    (found, *_) = [message for code, message in codes(FAILS, pour) if code.startswith("overfill")]
    assert "'pool' would hold" in found


@pytest.mark.parametrize("where", ["step", "branch"])
def test_its_word_in_paths_is_no_id(where: str) -> None:
    new = (
        "- mark: {id: except}"
        if where == "step"
        else "- parallel: {branches: {except: [{note: {text: a}}], b: [{note: {text: b}}]}}"
    )
    assert ("name-taken", "'except' stands in paths before an exception") in codes(
        FAILS, ("  - mark: {id: day0}", f"  {new}\n  - mark: {{id: day0}}")
    )


def test_a_step_inside_a_parallel_has_none() -> None:
    both = (
        "  - parallel: {branches: {a: [{wait: {for: 1 h, on_failure: by_hand, source: P}}], b: [{note: {text: b}}]}}\n"
    )
    found = codes(FAILS, ("  - mark: {id: day0}", f"{both}  - mark: {{id: day0}}"))
    assert [code for code, _ in found] == ["exception-step"]


def test_the_steps_of_one_are_found_by_their_paths() -> None:
    recipe = read(FAILS)
    step = step_at(recipe, "finish/closes/except/by_hand/pour")
    assert step is not None
    assert step.verb == "ask"
    assert step_at(recipe, "finish/except/by_hand/poured") is not None
    assert step_at(recipe, "finish/closes/except/nothing/pour") is None


def test_it_is_in_the_words_the_master_record_and_the_differences() -> None:
    recipe = read(FAILS)
    step = step_at(recipe, "finish/closes")
    assert step is not None
    said = dict(details(step, recipe))
    assert said["When it fails"] == "held; a restart may take by_hand in its place: Poured by hand"
    part = master_record(recipe, "0" * 64, "well").parts[-1]
    assert part.title == "Exception by_hand: Poured by hand"
    assert [line.number for line in part.lines] == ["by_hand.1", "by_hand.2"]
    other = read(FAILS, ("text: Pour the rest", "text: Pour it all"), ("title: Poured by hand", "title: By hand"))
    assert [each.words for each in differences(recipe, recipe)] == []
    told = [each.words for each in differences(recipe, other)]
    assert told == [
        "except/by_hand: title Poured by hand -> By hand",
        "except/by_hand/pour: text Pour the rest -> Pour it all",
    ]
