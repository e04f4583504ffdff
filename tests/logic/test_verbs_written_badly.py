"""Each verb written badly: an error on its own line, that says what was expected or what to do."""

from __future__ import annotations

import pytest

from devices.diagnostic import Diagnostic
from devices.document import DocumentError, parse
from recipes.check import check
from recipes.steps import VERBS
from tests.logic.test_recipe_check import GOOD

PERFUSE = "{id: x, vessel: 'pre[1]', medium: media, waste: pool, between: 0..1 L/d, keep: 400 mL, flow: 1 mL/min, %s}"
BEFORE = "  - balance: {id: closes"
WRONG: dict[str, list[tuple[str, str]]] = {
    "ask": [("{id: x}", "text"), ("{id: x, text: How many?, due: 5 mL}", "wanted: s")],
    "balance": [("{id: x, over: [pool]}", "within"), ("{id: x, over: [tub], within: 3 %}", "tub")],
    "choose": [("{id: x, cases: []}", "at least one"), ("{id: x, cases: [{when: tvc, steps: []}, {else: []}]}", "tvc")],
    "control": [("{id: x, of: station.co2}", "stop: true"), ("{id: x, of: station.wind, stop: true}", "station.wind")],
    "end": [("{id: x, as: complete}", "reason"), ("{id: x, as: done, reason: enough}", "one of complete, stopped")],
    "for_each": [
        ("{id: x, as: f, in: pre, steps: []}", "at least one"),
        ("{id: x, as: g, in: pool, steps: [{mark: {}}]}", "no family"),
    ],
    "freeze": [
        ("{id: x, with: fridge, load: product, profile: S1-quick}", "fridge"),
        ("{id: x, with: freezer, load: product, profile: S99}", "S99"),
    ],
    "incubate": [("{id: x}", "until"), ("{id: x, until: day >= 2 mL}", "time (s)")],
    "let": [("{id: x, values: {}}", "at least one"), ("{id: x, values: {n: 1 mL + 1 g}}", "mass")],
    "mark": [("{id: Day}", "form"), ("{id: x, at: day0}", "at")],
    "mount": [("{id: x, containers: []}", "at least one"), ("{id: x, containers: tub}", "tub")],
    "note": [("{id: x}", "text"), ("{id: x, text: '{nowhere}'}", "nowhere")],
    "parallel": [
        ("{id: x, branches: {one: [{mark: {}}]}}", "two"),
        ("{id: x, branches: {one: [], two: [{mark: {}}]}}", "at least one"),
    ],
    "perfuse": [
        (PERFUSE % "rate: 1 L, longest: 2 d", "flow (mL/min) is wanted"),
        (PERFUSE % "rate: 1 L/d, longest: 1 h", "no room"),
    ],
    "release": [
        ("{id: x, conditions: {}}", "at least one"),
        ("{id: x, conditions: {clean: {when: count.sterility == no_growth}}}", "pending: [count.sterility]"),
    ],
    "repeat": [
        ("{id: x, max: 0, steps: [{mark: {}}]}", "greater than or equal to 1"),
        ("{id: x, max: 3, steps: []}", "at least one"),
    ],
    "sample": [("{id: x, from: pool, results: []}", "at least one"), ("{id: x, from: pool, results: [ph]}", "ph")],
    "set": [("{id: x}", "targets"), ("{id: x, station.temperature: 300 mL}", "degC")],
    "transfer": [
        ("{id: x, from: media, to: pool, rate: 30 mL/min}", "exactly one of"),
        ("{id: x, from: media, to: pool, volume: 5 degC, rate: 30 mL/min}", "volume (mL)"),
    ],
    "unmount": [("{id: x, containers: []}", "at least one"), ("{id: x, containers: tub}", "tub")],
    "wait": [("{id: x}", "exactly one"), ("{id: x, until: station.temperature}", "condition")],
}  # fmt: skip


def found(verb: str, body: str) -> tuple[int, list[Diagnostic]]:
    """Return the line on which the step stands, and what is found in the recipe."""
    text = GOOD.replace(BEFORE, f"  - {verb}: {body}\n{BEFORE}")
    line = next(number for number, row in enumerate(text.splitlines(), start=1) if row == f"  - {verb}: {body}")
    try:
        return line, check(parse(text, "small.yaml"))[1]
    except DocumentError as error:
        return line, list(error.diagnostics)


def test_every_verb_is_here() -> None:
    assert WRONG.keys() == set(VERBS)


@pytest.mark.parametrize(("verb", "body", "says"), [(verb, *each) for verb, cases in WRONG.items() for each in cases])
def test_a_verb_written_badly_is_told_where_it_stands(verb: str, body: str, says: str) -> None:
    line, findings = found(verb, body)
    errors = [each for each in findings if each.severity == "error" and each.line == line]
    assert errors, [str(each) for each in findings]
    assert any(says in f"{each.message} {each.hint}" for each in errors), [str(each) for each in errors]


@pytest.mark.parametrize("verb", VERBS)
def test_a_field_that_no_verb_has_is_told_by_name(verb: str) -> None:
    body = WRONG[verb][0][0].replace("{id:", "{colour: blue, id:", 1)
    line, findings = found(verb, body)
    assert any("colour" in each.message and each.line == line for each in findings), [str(each) for each in findings]
