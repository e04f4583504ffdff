"""Recipes as models: verbs, ids, the odd keys, ranges, and what is imported when."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from devices.document import DocumentError, parse, validate
from devices.quantity import QuantityError
from recipes import catalog, steps
from recipes.model import Operation, Recipe, step_at, walk
from recipes.ranges import parse_range

HEADER = """
recipe: small
version: "1.0.0"
title: A small one
status: draft
procedure:
- operation: only
  steps:
"""


def recipe(*lines: str) -> Recipe:
    text = HEADER + "".join(f"  - {line}\n" for line in lines)
    return validate(parse(text, "small.yaml"), Recipe, "schema")


def only(*lines: str) -> steps.AnyVerb:
    return recipe(*lines).procedure[0].steps[0]


def refused(*lines: str) -> str:
    with pytest.raises(DocumentError) as caught:
        recipe(*lines)
    return str(caught.value)


def test_a_step_without_an_id_is_called_by_its_verb() -> None:
    assert only("mark: {}").id == "mark"
    assert only("mark:").id == "mark"
    assert only("mark: {id: day0}").id == "day0"


def test_keys_that_are_words_of_python() -> None:
    step = only("transfer: {id: t, from: a, to: b, all: true, rate: 5 mL/min}")
    assert isinstance(step, steps.Transfer)
    assert (step.from_, step.to, step.amount, step.all, step.tolerance) == ("a", "b", "all", True, "5 %")
    loop = only("for_each: {as: f, in: pre, steps: [{mark: {}}]}")
    assert isinstance(loop, steps.ForEach)
    assert (loop.as_, loop.in_, loop.steps[0].verb) == ("f", "pre", "mark")
    wait = only("wait: {for: 10 min}")
    assert isinstance(wait, steps.Wait)
    assert wait.for_ == "10 min"


def test_set_gathers_its_tags() -> None:
    step = only("set: {id: climate, station.temperature: 37 degC, station.co2: 5 %, source: P}")
    assert isinstance(step, steps.Set)
    assert step.targets == {"station.temperature": "37 degC", "station.co2": "5 %"}
    assert step.source == "P"


def test_branches() -> None:
    step = only("choose: {cases: [{when: a.b == no, steps: [{mark: {}}]}, {else: []}]}")
    assert isinstance(step, steps.Choose)
    assert [(case.when, len(case.steps)) for case in step.cases] == [("a.b == no", 1), (None, 0)]


def test_counts_and_volumes_of_a_mount() -> None:
    step = only("mount: {containers: [a, b], count: {b: x.n}, volume: {a: 5 mL}}")
    assert isinstance(step, steps.Mount)
    assert [step.count_of(name) for name in "ab"] == [None, "x.n"]
    assert [step.volume_of(name) for name in "ab"] == ["5 mL", "ask"]
    plain = only("mount: {containers: a, count: 2}")
    assert isinstance(plain, steps.Mount)
    assert (plain.containers, plain.count_of("a"), plain.volume_of("a")) == (("a",), "2", "ask")


def test_a_sample_waits_for_what_is_not_deferred() -> None:
    step = only("sample: {from: a, results: [x, y], defer: [y]}")
    assert isinstance(step, steps.Sample)
    assert (step.awaited, step.deferred) == (("x",), ("y",))
    later = only("sample: {from: a, results: [x, y], wait: false}")
    assert isinstance(later, steps.Sample)
    assert (later.awaited, later.deferred) == ((), ("x", "y"))


def test_inputs_know_their_type() -> None:
    step = only("ask: {text: t, inputs: {a: {choices: [x, no]}, b: {range: 1..4}, c: {unit: mL}, d: {}}}")
    assert isinstance(step, steps.Ask)
    assert [each.type for each in step.inputs.values()] == ["choice", "number", "number", "text"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("transfer: {from: a, to: b, volume: 1 L, all: true, rate: 1 mL/min}", "exactly one of"),
        ("transfer: {from: a, to: b, rate: 1 mL/min}", "exactly one of"),
        ("wait: {until: a, for: 1 s}", "exactly one of"),
        ("wait: {}", "exactly one of"),
        ("choose: {cases: [{steps: []}]}", "needs a condition"),
        ("choose: {cases: [{when: a, else: []}]}", "no other key"),
        ("pour: {from: a}", "no verb 'pour'"),
        ("{mark: {}, note: {text: x}}", "one verb"),
        ("mark: {verb: note}", "no field"),
        ("mark: soon", "must be a mapping"),
        ("mark: {id: Day0}", "Day0"),
        ("transfer: {from: a, to: b, all: yes, rate: 1 mL/min}", "neither true nor false"),
        ("transfer: {from: a, to: b, all: true, rte: 1 mL/min}", "unknown key 'rte'"),
    ],
)
def test_refused_at_its_place(line: str, message: str) -> None:
    text = refused(line)
    assert message in text
    assert text.startswith("small.yaml:9:")


def test_nothing_changes_after_loading() -> None:
    step = only("mark: {}")
    with pytest.raises(ValidationError):
        step.id = "other"


def test_walk_gives_paths_of_ids() -> None:
    loaded = recipe(
        "for_each: {id: l, as: f, in: pre, steps: [{mark: {id: m}}]}",
        "choose: {id: c, cases: [{when: x, steps: [{note: {text: t}}]}, {else: [{end: {as: stopped, reason: r}}]}]}",
    )
    operation: Operation = loaded.procedure[0]
    assert [path for path, _ in walk(operation.steps, operation.id)] == [
        "only/l", "only/l/m", "only/c", "only/c/note", "only/c/end"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "low", "high", "unit"),
    [
        ("1..4", 1, 4, ""),
        ("1e6..1e8 cells", 1e6, 1e8, "cells"),
        ("10 d..12 d", 864000, 1036800, "s"),
        ("0..48 h", 0, 172800, "s"),
        ("0.5 .. 2 mL", 0.5, 2, "mL"),
        ("-4 degC..2 degC", -4, 2, "degC"),
        ("90 min..2 h", 5400, 7200, "s"),
    ],
)
def test_ranges(text: str, low: float, high: float, unit: str) -> None:
    found = parse_range(text)
    assert (found.low, found.high, found.unit) == (low, high, unit)
    assert low in found
    assert high + 1 not in found


@pytest.mark.parametrize("text", ["4..1", "1 mL..2 g", "5", "1..", "a..b", "1 ml..2 ml"])
def test_broken_ranges(text: str) -> None:
    with pytest.raises(QuantityError):
        parse_range(text)


def test_a_bare_range_takes_the_unit_that_is_given() -> None:
    assert parse_range("0..2", "h").high == 7200


def test_reading_a_model_brings_neither_pint_nor_lark() -> None:
    code = "import sys, recipes.model, recipes.catalog, recipes.expr; print({'pint', 'lark'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_path_of_the_engine_leads_to_the_step_of_its_branch_and_round() -> None:
    recipe = catalog.load("nci-rep-grex")
    early, late = (step_at(recipe, f"split/feed/{branch}/static") for branch in (1, 2))
    assert early is not None
    assert late is not None
    assert (early.verb, early.window, late.window) == ("incubate", "11 d..12 d", "8 d..9 d")
    low = step_at(recipe, "split/feed/2/daily/4/low/1/exchange/3/out")
    assert low is not None
    assert low.verb == "transfer"
    assert step_at(recipe, "split/feed/3/static") is None
    assert step_at(recipe, "nothing/feed") is None
    for operation in recipe.procedure:
        for path, step in walk(operation.steps, operation.id):
            found = step_at(recipe, path)
            assert found is not None
            assert found.id == step.id
