"""`control` in the language: what its check finds, what is printed of it, and what two recipes differ in."""

from __future__ import annotations

import pytest

from devices.document import parse
from recipes.catalog import load_document
from recipes.check import check
from recipes.difference import differences
from recipes.ranges import Range
from recipes.words import details, sentence

GOOD = """\
recipe: kept
version: "1.0.0"
title: Oxygen kept
status: draft
sources: {P: engineering default}
equipment:
  station: {role: bioreactor, needs: [temperature, co2, oxygen, rocking, gas_oxygen], positions: 1, source: P}
parameters:
  wanted: {default: 40 %, range: 10..80 %, source: P}
procedure:
- operation: keep
  steps:
  - set: {id: before, station.rocking: 8 rpm, source: P}
  - control:
      id: oxygen
      of: station.oxygen
      at: wanted
      deadband: 5 %
      every: 5 min
      by:
      - {set: station.rocking, range: 6..15 rpm, step: 1 rpm}
      - {set: station.gas_oxygen, range: 21..40 %, step: 2 %}
      source: P
  - wait: {id: rest, for: 12 h, source: P}
  - control: {id: off, of: station.oxygen, stop: true}
  - set: {id: slow, station.rocking: 6 rpm, source: P}
"""
OFF = "  - control: {id: off, of: station.oxygen, stop: true}\n"
SECOND = """\
  - control:
      {id: warm, of: station.temperature, at: 37 degC, deadband: 0.5 K, every: 1 h, source: P,
       by: [{set: station.rocking, range: 6..7 rpm, step: 1 rpm}]}
"""
TWO = """\
  - control: {id: off, of: station.oxygen, stop: true}
  - parallel:
      id: both
      source: P
      branches:
        one:
        - control:
            {id: again, of: station.oxygen, at: 40 %, deadband: 5 %, every: 5 min, source: P,
             by: [{set: station.rocking, range: 6..15 rpm, step: 1 rpm}]}
        two: [{set: {id: fast, station.rocking: 9 rpm, source: P}}]
"""
BESIDE = """\
  - parallel:
      id: both
      source: P
      branches:
        one: [{control: {id: off, of: station.oxygen, stop: true}}]
        two: [{set: {id: fast, station.rocking: 9 rpm, source: P}}]
"""
BRANCH = """\
  - choose:
      id: perhaps
      cases:
      - {when: station.co2 > 5 %, steps: [{control: {id: off, of: station.oxygen, stop: true}}]}
      - {else: []}
      source: P
"""


def found(*changes: tuple[str, str], limits: dict[str, Range] | None = None) -> list[tuple[str, str]]:
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return [
        (each.code, f"{each.line}: {each.message} ({each.hint})")
        for each in check(parse(text, "kept.yaml"), limits=limits)[1]
    ]


def test_a_good_control_draws_nothing() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        ([("of: station.oxygen\n", "of: station.oxigen\n")], "name-unknown", "station.oxigen"),
        ([("of: station.oxygen\n", "of: wanted\n")], "name-unknown", "no reading of equipment"),
        ([("at: wanted", "at: 40 rpm")], "dimension", "rpm"),
        ([("deadband: 5 %", "deadband: 0 %")], "range", "no difference"),
        ([("deadband: 5 %", "deadband: 5 K")], "dimension", "%"),
        ([("every: 5 min", "every: 5 s")], "range", "at least 30 s"),
        ([("range: 6..15 rpm", "range: 6..15 %")], "dimension", "rpm"),
        ([("step: 1 rpm", "step: 20 rpm")], "range", "more than the whole range"),
        ([("set: station.gas_oxygen", "set: station.oxygen")], "tag-unknown", "cannot be set"),
        ([("set: station.gas_oxygen", "set: station.temperature")], "dimension", ""),
        ([("station.gas_oxygen, range: 21..40 %, step: 2 %", "station.rocking, range: 6..7 rpm, step: 1 rpm")],
         "control-tag", "moved twice"),
        ([("oxygen, rocking, gas_oxygen]", "oxygen, rocking]")], "tag-unknown", "station.gas_oxygen"),
        ([(OFF, "")], "control-tag", "moved by the control of station.oxygen"),
        ([(OFF, BRANCH)], "control-tag", "moved by the control of station.oxygen"),
        ([(OFF, SECOND + OFF)], "control-tag", "already"),
        ([(OFF, BESIDE)], "control-tag", "moved by the control of station.oxygen"),
        ([("  - wait: {id: rest, for: 12 h, source: P}\n" + OFF, TWO)], "parallel-clash", "'station.rocking' is set"),
        ([(OFF, OFF + OFF.replace("id: off", "id: again"))], "control-tag", "nothing controls"),
        ([("      every: 5 min\n", "")], "schema", "control needs every"),
        ([("stop: true}", "stop: true, at: 3 %}")], "schema", "what is stopped has only `of`"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_one_is_found(changes: list[tuple[str, str]], code: str, told: str) -> None:
    findings = found(*changes)
    assert any(each == code and told in text for each, text in findings), findings


def test_its_ranges_are_held_against_what_the_equipment_takes() -> None:
    limits = {"station.rocking": Range(0.0, 12.0, "rpm"), "station.gas_oxygen": Range(21.0, 50.0, "%")}
    assert [code for code, _ in found(limits=limits)] == ["limit"]


def test_it_is_told_in_words_and_compared_field_by_field() -> None:
    recipe = load_document(parse(GOOD, "kept.yaml"))
    begin, end = recipe.procedure[0].steps[1], recipe.procedure[0].steps[3]
    assert sentence(begin, recipe) == (
        "Keep station.oxygen at wanted, 5 % either way, by station.rocking, then station.gas_oxygen: "
        "one step every 5 min at most, until this is replaced or stopped."
    )
    assert ("Moves", "station.gas_oxygen within 21..40 %, by 2 %") in details(begin, recipe)
    assert sentence(end, recipe) == "Stop keeping station.oxygen; the targets stay as they are."
    other = load_document(
        parse(GOOD.replace("step: 2 %", "step: 3 %").replace("deadband: 5 %", "deadband: 6 %"), "o.yaml")
    )
    told = [each.words for each in differences(recipe, other)]
    assert told == ["keep/oxygen: deadband 5 % -> 6 %", "keep/oxygen: move 2 step 2 % -> 3 %"]
