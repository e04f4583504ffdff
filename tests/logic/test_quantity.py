"""Quantities: what may be written, what it means, and what a person is told who wrote something else."""

from __future__ import annotations

import contextlib
import math
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.dimension import resolve
from devices.quantity import (
    CANONICAL,
    DEGC,
    KELVIN,
    NUMBER,
    Dim,
    Quantity,
    QuantityError,
    dimension,
    parse,
    parse_as,
    show,
)
from devices.unit_names import NAMES

FINITE = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e200, max_value=1e200)
DIMS = st.sampled_from([Dim.of(unit) for unit in CANONICAL])
PLAIN_DIMS = DIMS.filter(lambda dim: dim != DEGC)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("37 degC", 37, "degC"),
        ("-196 degC", -196, "degC"),
        ("0.5 K", 0.5, "K"),
        ("5 L", 5000, "mL"),
        ("0.57 L", 570, "mL"),
        ("50 uL", 0.05, "mL"),
        ("1.5 kg", 1500, "g"),
        ("30 ng/mL", 3e-8, "g/mL"),
        ("5e6 cells", 5e6, "cells"),
        ("3000 IU/mL", 3000, "IU/mL"),
        ("30 min", 1800, "s"),
        ("14 d", 1209600, "s"),
        ("2 %", 2, "%"),
        ("2%", 2, "%"),
        ("80 mL/min", 80, "mL/min"),
        ("0.6 L/h", 10, "mL/min"),
        ("60 mL / h", 1, "mL/min"),
        ("-1 K/min", -1, "K/min"),
        ("4.5 g/L", 0.0045, "g/mL"),
        ("25 mmol/L", 25, "mmol/L"),
        ("0.5 mol/L", 500, "mmol/L"),
        ("2 bar", 2000, "mbar"),
        ("1 1/h", 24, "1/d"),
        ("7.2 pH", 7.2, "pH"),
        ("  14 ", 14, ""),
        ("1e6", 1e6, ""),
        (".5 L", 500, "mL"),
        ("-0 mL", 0, "mL"),
        ("5 mL^2/mL", 5, "mL"),
    ],
)
def test_a_text_becomes_its_canonical_quantity_exactly(text: str, value: float, unit: str) -> None:
    assert parse(text) == Quantity(value, unit)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("37 C", "write '37 degC'"),
        ("37 °C", "write '37 degC'"),
        ("37°C", "write '37 degC'"),
        ("5 l", "write '5 L'"),
        ("5 ML", "write '5 mL'"),
        ("5 l/min", "write '5 L/min'"),
        ("5 ml / hour", "write '5 mL/h'"),
        ("50 µL", "write '50 uL'"),
        ("30 mins", "write '30 min'"),
        ("3 hours", "write '3 h'"),
        ("5 mM", "write '5 mmol/L'"),
        ("5E6cells", "write '5E6 cells'"),
        ("5L", "write '5 L'"),
        ("5 parsec", "known: %"),
        ("5 L+L", "known: %"),
        ("-1 degC/min", "K/min"),
        ("5 L*d", "known: degC"),
        ("mL", "a number before the unit"),
        ("1,5 mL", "a point for decimals"),
        ("nan", "never NaN"),
        ("-inf mL", "never NaN"),
        ("", "for example"),
        ("five", "for example"),
        ("1:1", "for example"),
        ("1_000 mL", "for example"),
        ("\u0665 mL", "for example"),
        ("5 1", "for example"),
    ],
)
def test_a_wrong_text_is_refused_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(QuantityError) as caught:
        parse(text)
    assert hint in caught.value.hint
    assert caught.value.hint in str(caught.value)


@pytest.mark.parametrize("text", ["1e400 mL", "1e308 L", "1e999999999 mL", "9e-1000000000 mL", "9" * 70 + "e300 mL"])
def test_a_number_out_of_range_is_refused_and_costs_nothing(text: str) -> None:
    with pytest.raises(QuantityError, match="out of range"):
        parse(text)


def test_a_long_text_is_shortened_in_the_message() -> None:
    with pytest.raises(QuantityError) as caught:
        parse("5 " + "x" * 10_000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "unit", "message", "hint"),
    [
        ("5 L", "g", "'5 L' measures volume; expected mass in g", "density"),
        ("310 K", "degC", "expected temperature in degC", "differences"),
        ("1 degC", "K", "expected temperature difference in K", "a difference is written in K"),
        ("14", "mL", "'14' has no unit; expected volume in mL", "write '14 mL'"),
        ("5", "%", "expected percent in %", "write '5 %'"),
        ("3 mL", "", "expected a number without a unit", "leave the unit out"),
        ("5 l", "mL", "unknown unit 'l'; expected volume in mL", "write '5 L'"),
        ("5 IU", "cells", "'5 IU' measures activity; expected cells in cells", ""),
    ],
)
def test_another_dimension_is_refused(text: str, unit: str, message: str, hint: str) -> None:
    with pytest.raises(QuantityError) as caught:
        parse_as(text, unit)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_value_may_be_asked_for_in_another_unit_of_its_dimension() -> None:
    assert parse_as("5 L", "mL") == 5000
    assert parse_as("30 min", "h") == 0.5
    assert parse_as("1 L/h", "uL/h") == pytest.approx(1e6)
    with pytest.raises(QuantityError, match="out of range"):
        parse_as("1e308 mL", "ng*mL/g")  # no such thing as a unit: it only has the dimension of a volume
    with pytest.raises(QuantityError, match="unknown unit 'parsec'"):
        parse_as("5 L", "parsec")


@given(FINITE, st.sampled_from(CANONICAL))
def test_a_canonical_value_is_read_back_bit_for_bit(value: float, unit: str) -> None:
    assert parse(f"{value!r} {unit}") == Quantity(value, unit)
    assert parse_as(f"{value!r} {unit}", unit) == value


@given(st.integers(-(10**9), 10**9), st.integers(0, 6))
def test_a_decimal_in_litres_is_the_nearest_float_in_millilitres(digits: int, places: int) -> None:
    text = f"{digits}e-{places}"
    assert parse(f"{text} L").value == float(f"{digits}e{3 - places}")


@given(st.text(max_size=30))
def test_any_text_is_a_finite_quantity_or_a_quantity_error(text: str) -> None:
    with contextlib.suppress(QuantityError):
        found = parse(text)
        assert math.isfinite(found.value)
        assert found.unit in CANONICAL


@given(st.from_regex(r"[0-9]{1,3} [A-Za-z%/*^0-9 ]{1,12}", fullmatch=True))
def test_any_unit_text_is_a_quantity_or_a_quantity_error(text: str) -> None:
    with contextlib.suppress(QuantityError):
        assert parse(text).unit in CANONICAL


def test_every_canonical_unit_has_a_dimension_of_its_own() -> None:
    names = [dimension(unit) for unit in CANONICAL]
    assert len(set(names)) == len({Dim.of(unit) for unit in CANONICAL}) == len(CANONICAL)
    assert dimension("L") == "volume"
    assert dimension("K") == "temperature difference"
    for unit in CANONICAL:
        assert Dim.of(unit).unit == unit


def test_pint_is_not_imported_before_it_is_needed() -> None:
    code = (
        "import sys; from devices.quantity import parse; parse('37 degC'); parse('5 L'); parse('10 min');"
        "assert 'pint' not in sys.modules; parse('5 L/h'); assert 'pint' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_unit_of_one_name_is_what_pint_says_it_is(name: str) -> None:
    assert resolve(name) == resolve(f"{name} / g * g"), "the longer text takes the way through pint"


def test_a_quantity_error_survives_a_pickle() -> None:
    error = pickle.loads(pickle.dumps(QuantityError("a", "b", "c")))  # noqa: S301 - made here
    assert str(error) == "a; expected b (hint: c)"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (4900, "mL", "4900 mL"),
        (5e6, "cells", "5e6 cells"),
        (1.2e11, "cells", "1.2e11 cells"),
        (2e-7, "g/mL", "200 ng/mL"),
        (1800, "s", "30 min"),
        (90, "s", "90 s"),
        (-7200, "s", "-2 h"),
        (1209600, "s", "14 d"),
        (14, "", "14"),
    ],
)
def test_a_value_is_shown_as_people_read_it(value: float, unit: str, text: str) -> None:
    assert show(value, unit) == text
    assert str(Quantity(value, unit)) == text
    assert parse(text) == Quantity(value, unit)


# -- dimensions ------------------------------------------------------------------------------------------------------


def test_volume_over_flow_is_time_in_coherent_units() -> None:
    volume, flow = Dim.of("mL"), Dim.of("mL/min")
    assert volume / flow == Dim.of("s")
    assert volume.coherent(5000) / flow.coherent(80) == pytest.approx(3750)
    assert flow.factor == pytest.approx(1 / 60)
    assert Dim.of("cells") / Dim.of("cells/mL") == volume
    assert Dim.of("g") / Dim.of("g/mL") == volume
    assert Dim.of("mmol/L").coherent(1000) == 1
    assert Dim.of("1/d") * Dim.of("s") == NUMBER


def test_a_scale_temperature_only_moves_by_differences() -> None:
    assert DEGC.minus(DEGC) == KELVIN
    assert DEGC.minus(KELVIN) == DEGC
    assert DEGC.plus(KELVIN) == KELVIN.plus(DEGC) == DEGC
    assert KELVIN.plus(KELVIN) == KELVIN
    for refused in (
        lambda: DEGC.plus(DEGC),
        lambda: KELVIN.minus(DEGC),
        lambda: DEGC * NUMBER,
        lambda: NUMBER * DEGC,
        lambda: DEGC / DEGC,
        lambda: NUMBER / DEGC,
    ):
        with pytest.raises(QuantityError) as caught:
            refused()
        assert caught.value.hint


@pytest.mark.parametrize(
    ("left", "right", "hint"),
    [("g", "mL", "density"), ("%", "", "give the number a unit"), ("cells", "IU", ""), ("rpm", "1/d", "")],
)
def test_different_dimensions_are_not_added(left: str, right: str, hint: str) -> None:
    for combine in (Dim.of(left).plus, Dim.of(left).minus):
        with pytest.raises(QuantityError, match="cannot") as caught:
            combine(Dim.of(right))
        assert hint in caught.value.hint


def test_a_dimension_without_a_unit_of_its_own_is_named_by_its_parts() -> None:
    odd = Dim.of("mL") * Dim.of("s") / Dim.of("K") / Dim.of("K")
    assert not odd.known
    assert odd.unit == odd.name == "mL*s/K^2"
    assert odd.factor == 1
    assert (NUMBER / odd / Dim.of("s")).unit == "K^2/mL/s^2"
    assert (NUMBER / Dim.of("K")).unit == "1/K"


@given(PLAIN_DIMS, PLAIN_DIMS, PLAIN_DIMS)
def test_dimensions_are_a_group_under_multiplication(a: Dim, b: Dim, c: Dim) -> None:
    assert a * b == b * a
    assert (a * b) * c == a * (b * c)
    assert a * b / b == a
    assert a * NUMBER == a / NUMBER == a


@given(DIMS, DIMS)
def test_what_a_difference_took_away_a_sum_gives_back(a: Dim, b: Dim) -> None:
    try:
        difference = a.minus(b)
    except QuantityError:
        return
    assert difference.plus(b) == a


@given(FINITE, DIMS)
def test_coherent_and_canonical_are_inverse(value: float, dim: Dim) -> None:
    assert dim.canonical(dim.coherent(value)) == pytest.approx(value, rel=1e-15)
    assert dim.coherent(1) == pytest.approx(dim.factor)
