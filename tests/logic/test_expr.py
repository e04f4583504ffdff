"""Expressions: grammar, units, three-valued logic, and the agreement of checking, evaluating and bounding."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from devices.quantity import Dim, Quantity
from devices.reading import Quality
from recipes import bounds, kinds, syntax, units
from recipes.expr import INVALID, ExprError, Operand, compile, explain, reference
from recipes.syntax import MAX_HEIGHT
from recipes.template import render


class Scope:
    """Operands by name; None stands for a name that is not known."""

    def __init__(self, **operands: Operand) -> None:
        self.operands = {name.replace("__", "."): operand for name, operand in operands.items()}

    def lookup(self, name: str) -> Operand | None:
        return self.operands.get(name)


def of(value: float | bool | str | None, unit: str = "", quality: Quality = Quality.GOOD) -> Operand:
    return Operand("", value, unit, quality)


CELL = Scope(
    seed__volume=of(150.0, "mL"),
    count__tvc=of(2.4e9, "cells"),
    count__viability=of(91.0, "%"),
    arrive__band=of("no"),
    station__temperature=of(36.8, "degC"),
    freezer__ready=of(True),
    day=of(16 * 86400.0, "s"),
    n=of(4.0),
    g__index=of(2.0),
    old=of(5.0, "mL", Quality.STALE),
    poor=of(5.0, "mL", Quality.BAD),
    vague=of(5.0, "mL", Quality.UNCERTAIN),
)
CELL.operands |= {"cm4[2].volume": of(12.0, "mL"), "pre[1].volume": of(900.0, "mL"), "since(rep_start)": of(60.0, "s")}


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("5 L - seed.volume", 4850.0, "mL"),
        ("5 L / 80 mL/min", 3750.0, "s"),
        ("80 mL/min * 2 min", 160.0, "mL"),
        ("31 mL/min", 31.0, "mL/min"),
        ("ceil(count.tvc / 1e9 cells)", 3.0, ""),
        ("clamp(ceil(count.tvc / 1e9 cells), 1, 2)", 2.0, ""),
        ("stepped(seed.volume, 1, 100 mL, 2, 200 mL, 3)", 2.0, ""),
        ("stepped(seed.volume, 1, 150 mL, 2, 200 mL, 3)", 2.0, ""),
        ("stepped(seed.volume, 500 mL/d, 1 mL, 750 mL/d) * 1 d", 750.0, "mL"),
        ("stepped(1 mL, 5, 100 mL, 2)", 5.0, ""),
        ("floor(2.9) + round(2.6) + abs(-1)", 6.0, ""),
        ("min(seed.volume, 100 mL) + max(1 mL, 2 mL)", 102.0, "mL"),
        ("station.temperature - 4 degC", 32.8, "K"),
        ("station.temperature + 1 K", 37.8, "degC"),
        ("-4 degC", -4.0, "degC"),
        ("-seed.volume", -150.0, "mL"),
        ("2 - -3", 5.0, ""),
        ("2 + 3 * 4 - 6 / 2", 11.0, ""),
        ("(2 + 3) * 4", 20.0, ""),
        ("seed.volume * 1.02 g/mL", 153.0, "g"),
        ("3000 IU/mL * 2 mL", 6000.0, "IU"),
        ("day * 1 1/d", 16.0, ""),
        ("12 L/n", 3000.0, "mL"),
        ("cm4[g.index].volume + pre[1].volume", 912.0, "mL"),
        ("80 %", 80.0, "%"),
        ("since(rep_start)", 60.0, "s"),
        ("default(old, 3 mL)", 3.0, "mL"),
        ("vague", 5.0, "mL"),
    ],
)
def test_numbers(text: str, value: float, unit: str) -> None:
    found = compile(text).evaluate(CELL)
    assert isinstance(found, Quantity)
    assert (pytest.approx(value), unit) == (found.value, found.unit)


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("station.temperature within 0.5 K of 37 degC", True),
        ("station.temperature within 0.1 K of 37 degC", False),
        ("arrive.band == no", True),
        ('arrive.band != "no"', False),
        ("day >= 16 d and count.viability >= 80 %", True),
        ("freezer.ready == true", True),
        ("not freezer.ready", False),
        ("1 L == 1000 mL", True),
        ("n != 4", False),
        ("false or true and false", False),
        ("known(old) or known(n)", True),
    ],
)
def test_conditions(text: str, truth: bool) -> None:
    assert compile(text).evaluate(CELL) is truth


@pytest.mark.parametrize(
    ("text", "column", "hint"),
    [
        ("5 ml", 1, "5 mL"),
        ("1 L + 5L", 7, "5 L"),
        ("a = b", 3, "=="),
        ("5 L -", 6, "missing"),
        ("(1 + 2", 7, "missing"),
        ("a < b < c", 7, "within"),
        ("and x", 1, "names"),
        ("seed.Volume", 6, "names"),
        ("frobnicate(1)", 1, "min"),
        ("min(1)", 1, ""),
        ("since(1)", 1, "since(rep_start)"),
        ("a[1][2]", 5, "family[1]"),
        ("1 + 3 foo", 5, ""),
    ],
)
def test_refused_with_a_column(text: str, column: int, hint: str) -> None:
    with pytest.raises(ExprError) as caught:
        compile(text)
    assert caught.value.column == column
    assert hint in caught.value.hint


@pytest.mark.parametrize("sign", [" + ", " and ", "*"])
def test_a_chain_is_refused_before_it_is_too_deep_to_be_walked(sign: str) -> None:
    with pytest.raises(ExprError, match="too many parts"):
        compile(sign.join(["n"] * (MAX_HEIGHT + 1)))
    longest = compile("+".join(["n"] * MAX_HEIGHT))
    assert longest.evaluate(CELL) == Quantity(4.0 * MAX_HEIGHT, "")


def test_long_and_deep_expressions_are_refused() -> None:
    with pytest.raises(ExprError):
        compile("1 + " * 400 + "1")
    with pytest.raises(ExprError, match="deep"):
        compile("not " * 100 + "true")


@pytest.mark.parametrize(
    "text",
    ["1 mL + 1 g", "37 degC * 2", "37 degC + 37 degC", "1 K - 37 degC", "-station.temperature", "ceil(1 mL)",
     "1 % < 0.8", "min(1, 1 mL)", "1 K within 1 mL of 1 K", "abs(1 degC)", "default(n, 1 mL)", "1 == 1 mL",
     "stepped(1 mL, 1, 2 g, 2)", "stepped(1 mL, 1, 2 mL, 2 g)"],
)  # fmt: skip
def test_dimensions_are_refused_by_check_and_by_evaluation(text: str) -> None:
    expression = compile(text)
    with pytest.raises(ExprError) as caught:
        expression.check(TYPES)
    assert caught.value.code == "dimension"
    with pytest.raises(ExprError):
        expression.evaluate(CELL)


@pytest.mark.parametrize(
    "text", ["1 and true", "not 1", "true + 1", "true < false", "arrive.band and true", "true == 1"]
)
def test_kinds_are_refused_by_check_and_by_evaluation(text: str) -> None:
    with pytest.raises(ExprError):
        compile(text).check(TYPES)
    with pytest.raises(ExprError):
        compile(text).evaluate(CELL)


def test_a_choice_that_can_never_be_is_found_by_the_check() -> None:
    with pytest.raises(ExprError, match="never") as caught:
        compile("arrive.band == nope").check(TYPES)
    assert "yes, no" in caught.value.hint


TRUTHS = {"true": True, "false": False, "1 mL < poor": INVALID}


@pytest.mark.parametrize(("left", "right"), list(product(TRUTHS, TRUTHS)))
def test_kleene(left: str, right: str) -> None:
    a, b = TRUTHS[left], TRUTHS[right]
    conjunction = False if a is False or b is False else INVALID if INVALID in (a, b) else True
    disjunction = True if a is True or b is True else INVALID if INVALID in (a, b) else False
    assert compile(f"({left}) and ({right})").evaluate(CELL) is conjunction
    assert compile(f"({left}) or ({right})").evaluate(CELL) is disjunction


def test_not_of_invalid_is_invalid() -> None:
    assert compile("not (poor > 1 mL)").evaluate(CELL) is INVALID


@pytest.mark.parametrize("bad", ["poor", "old", "nowhere", "seed.volume / 0", "cm4[old].volume", "cm4[1.5].volume"])
@pytest.mark.parametrize(
    "around",
    ["{} + 1 mL", "1 mL - {}", "{} * 2", "2 / {}", "-({})", "{} < 1 mL", "1 mL == {}", "min({}, 1 mL)", "abs({})",
     "clamp(1 mL, {}, 2 mL)", "{} within 1 mL of 2 mL", "1 mL within {} of 2 mL", "default({}, poor)",
     "stepped({}, 1, 2 mL, 2)", "stepped(1 mL, 1, {}, 2)", "stepped(1 mL, {}, 2 mL, 2 mL)"],
)  # fmt: skip
def test_invalid_goes_through(bad: str, around: str) -> None:
    assert compile(around.format(bad)).evaluate(CELL) is INVALID


@pytest.mark.parametrize("text", ["1e308 * 1e308", "1 / 0", "clamp(1, 3, 2)", "0 / 0", "stepped(1, 1, n, 2, n, 3)"])
def test_no_such_number_is_invalid(text: str) -> None:
    assert compile(text).evaluate(CELL) is INVALID


def test_invalid_has_no_truth() -> None:
    with pytest.raises(TypeError, match="INVALID"):
        bool(INVALID)


def test_names_leave_out_choices_and_indices() -> None:
    found = compile("arrive.band == no and cm4[g.index].volume > since(day0) * 1 mL/min").names
    assert found == {"arrive.band", "cm4[].volume", "g.index", "since(day0)"}


def test_explain_shows_every_operand_also_behind_a_decided_or() -> None:
    shown = explain(compile("freezer.ready or nowhere > old"), CELL)
    assert [(operand.value, operand.quality) for operand in shown] == [
        (True, Quality.GOOD),
        (None, Quality.BAD),
        (5.0, Quality.STALE),
    ]


def test_number_and_truth_refuse_what_they_do_not_give() -> None:
    assert compile("1 L").number(CELL, "mL") == 1000.0
    assert compile("poor").number(CELL, "mL") is INVALID
    assert compile("n > 1").truth(CELL) is True
    with pytest.raises(ExprError, match="wanted mL"):
        compile("1 g").number(CELL, "mL")
    with pytest.raises(ExprError, match="no condition"):
        compile("1 g").truth(CELL)


def test_references() -> None:
    assert reference("rep").resolve(CELL) == "rep"
    assert reference("cm4[g.index + 1]").resolve(CELL) == "cm4[3]"
    assert reference("cm4[nowhere]").resolve(CELL) is INVALID
    with pytest.raises(ExprError, match="names no container"):
        reference("cm4.volume")


def test_templates() -> None:
    text = "Draw {seed.volume} {{now}}, {count.tvc / 2}, {arrive.band}, {freezer.ready}, {nowhere}"
    assert render(text, CELL) == "Draw 150 mL {now}, 1.2e9 cells, no, yes, unknown"
    with pytest.raises(ExprError) as caught:
        render("ab {1 +} c", CELL)
    assert caught.value.column == 8
    with pytest.raises(ExprError, match="brace"):
        render("a } b", CELL)


# generated ------------------------------------------------------------------------------------------------------------


class Types:
    """The types of the operands of CELL, and of generated ones."""

    def type_of(self, name: str) -> kinds.Type | None:
        if name in ("nowhere", "since(nowhere)"):
            return None
        if name == "arrive.band":
            return kinds.choice(("yes", "no"))
        operand = next((op for key, op in CELL.operands.items() if key.replace("2", "").replace("1", "") == name), None)
        if operand is None:
            return None
        return kinds.BOOL if isinstance(operand.value, bool) else kinds.number(operand.unit)


TYPES = Types()
VARIABLES = (
    "seed.volume",
    "count.tvc",
    "count.viability",
    "station.temperature",
    "freezer.ready",
    "day",
    "n",
    "poor",
    "old",
)
LITERALS = (
    "2",
    "0",
    "3 mL",
    "1.5 L",
    "2 g",
    "37 degC",
    "2 K",
    "40 %",
    "1e9 cells",
    "80 mL/min",
    "1 d",
    "true",
    "false",
)


def _joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, inner)
    operators = st.sampled_from(("+", "-", "*", "/", "<", ">=", "==", "!=", "and", "or"))
    return st.one_of(
        st.tuples(pair, operators).map(lambda given: f"({given[0][0]} {given[1]} {given[0][1]})"),
        inner.map(lambda text: f"(-{text})"),
        inner.map(lambda text: f"(not {text})"),
        pair.map(lambda both: f"min({both[0]}, {both[1]})"),
        pair.map(lambda both: f"default({both[0]}, {both[1]})"),
        inner.map(lambda text: f"known({text})"),
        inner.map(lambda text: f"abs({text})"),
        inner.map(lambda text: f"ceil({text})"),
        st.tuples(inner, inner, inner).map(lambda three: f"({three[0]} within {three[1]} of {three[2]})"),
        st.tuples(inner, inner, inner).map(lambda three: f"clamp({three[0]}, {three[1]}, {three[2]})"),
    )


EXPRESSIONS = st.recursive(st.sampled_from(VARIABLES + LITERALS), _joined, max_leaves=6)


@settings(max_examples=400, deadline=None)
@given(EXPRESSIONS)
def test_what_the_check_lets_pass_evaluates_to_what_it_said(text: str) -> None:
    expression = compile(text)
    try:
        kind = expression.check(TYPES)
    except ExprError:
        return
    found = expression.evaluate(CELL)
    if found is INVALID:
        return
    if isinstance(found, Quantity):
        assert kind == kinds.Type("number", Dim.of(found.unit)) or kind.dim.unit == found.unit
        assert math.isfinite(found.value)
    else:
        assert kind.kind == ("bool" if isinstance(found, bool) else "choice")


@settings(max_examples=400, deadline=None)
@given(EXPRESSIONS)
def test_what_evaluates_to_a_value_without_unknowns_passes_the_check(text: str) -> None:
    expression = compile(text)
    assume(not {"poor", "old"} & expression.names and "known" not in text)
    try:
        found = expression.evaluate(CELL)
    except ExprError:
        with pytest.raises(ExprError):
            expression.check(TYPES)
        return
    if found is INVALID:
        return
    if " / " in text or "clamp" in text:  # what is no number (by zero, an empty clamp) hides what stands in a default
        return
    expression.check(TYPES)


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS, st.data())
def test_no_unknown_operand_changes_a_decided_truth(text: str, data: st.DataObject) -> None:
    """What is certain with an operand unknown stays so whatever the operand turns out to be."""
    expression = compile(text)
    assume("known" not in text and "default" not in text)
    try:
        expression.check(TYPES)
    except ExprError:
        return
    unknown = data.draw(st.sampled_from(VARIABLES))
    less = Scope()
    less.operands = {**CELL.operands, unknown: Operand(unknown, None)}
    certain = expression.evaluate(less)
    if certain is not INVALID:
        assert expression.evaluate(CELL) == certain


BOUNDED = {"a": (0.0, 10.0), "b": (-5.0, 5.0), "c": (1.0, 4.0)}
PLAIN = st.recursive(
    st.sampled_from((*BOUNDED, "2", "0.5", "3")),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda x: f"({x[0]} {x[1]} {x[2]})"),
        st.tuples(st.sampled_from(("min", "max")), inner, inner).map(lambda x: f"{x[0]}({x[1]}, {x[2]})"),
        inner.map(lambda text: f"ceil({text})"),
        inner.map(lambda text: f"abs({text})"),
        inner.map(lambda text: f"clamp({text}, 1, 5)"),
        st.tuples(inner, inner, inner).map(lambda x: f"stepped({x[0]}, {x[1]}, 2, {x[2]}, 4, a)"),
    ),
    max_leaves=6,
)


class Bounds:
    def bound_of(self, name: syntax.Name) -> bounds.Bound | None:
        return bounds.between(*BOUNDED[name.pattern], name.pattern)


@settings(max_examples=400, deadline=None)
@given(PLAIN, st.tuples(*[st.floats(0, 1)] * 3))
def test_bounds_hold(text: str, shares: tuple[float, ...]) -> None:
    values = {
        name: low + share * (high - low) for (name, (low, high)), share in zip(BOUNDED.items(), shares, strict=True)
    }
    found = compile(text).evaluate(Scope(**{name: of(value) for name, value in values.items()}))
    low, high = bounds.bound(compile(text).node, Bounds()).interval
    if isinstance(found, Quantity):
        slack = 1e-9 * (1 + abs(found.value) + sum(abs(edge) for edge in (low, high) if math.isfinite(edge)))
        assert low - slack <= found.value <= high + slack


def test_bounds_keep_sums_together() -> None:
    left = bounds.bound(compile("10 - b").node, Bounds())
    assert left.interval == (5.0, 15.0)
    assert left.plus(bounds.bound(compile("b").node, Bounds())).interval == (10.0, 10.0)


@pytest.mark.parametrize("text", ["stepped(1, 1, 2, 3, 4)", "stepped(1, 1, 4, 3, 4, 5)", "stepped(1, 1, 4, 3, 3, 5)"])
def test_steps_that_do_not_rise_in_pairs_are_refused(text: str) -> None:
    with pytest.raises(ExprError, match="stepped"):
        compile(text).check(TYPES)


def test_units_are_described_for_people() -> None:
    assert units.described(Dim.of("mL")) == "volume (mL)"
