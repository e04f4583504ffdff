"""Deadband: a condition that has held goes on until its comparisons are off by it; never less than the condition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.quantity import Dim
from devices.reading import Quality
from recipes.expr import INVALID, Operand, compile
from recipes.hysteresis import fits, still
from recipes.kinds import BOOL, Type, number
from recipes.units import number as quantity

BAND = quantity(0.5, "K")


class At:
    """A chamber of so many degC, whose door may be open."""

    def __init__(self, temperature: float | None, *, door: bool | None = False) -> None:
        self.values = {"t": (temperature, "degC"), "door": (door, ""), "low": (36.0, "degC")}

    def lookup(self, name: str) -> Operand | None:
        value, unit = self.values[name]
        return Operand(name, value, unit, Quality.GOOD if value is not None else Quality.BAD)


class Types:
    def type_of(self, name: str) -> Type | None:
        return BOOL if name == "door" else number("degC")


@pytest.mark.parametrize(
    ("text", "goes_on_at", "over_at"),
    [
        ("t > 38 degC", 37.6, 37.5),
        ("t >= 38 degC", 37.5, 37.4),
        ("t < 36 degC", 36.4, 36.5),
        ("t <= 36 degC", 36.5, 36.6),
        ("not t within 1 K of 37 degC", 37.6, 37.4),
        ("t within 1 K of 37 degC", 38.5, 38.6),
        ("t > 38 degC or t < low", 36.4, 37.0),
        ("not (t <= 38 degC and t >= low)", 37.6, 37.0),
        ("t > 38 degC and not door", 37.6, 37.5),
    ],
)
def test_it_goes_on_within_the_band_and_is_over_beyond(text: str, goes_on_at: float, over_at: float) -> None:
    expression = compile(text)
    assert still(expression, At(goes_on_at), BAND) is True
    assert still(expression, At(over_at), BAND) is False


@given(st.floats(30.0, 45.0), st.sampled_from(["t > 38 degC", "t < 36 degC or t >= 38 degC", "t > low and not door"]))
def test_what_holds_goes_on_holding(temperature: float, text: str) -> None:
    expression, at = compile(text), At(temperature)
    if expression.truth(at) is True:
        assert still(expression, at, BAND) is True
    assert still(expression, at, quantity(0.0, "K")) is expression.truth(at), "no band, no difference"


def test_unknown_is_neither() -> None:
    assert still(compile("t > 38 degC"), At(None), BAND) is INVALID
    assert still(compile("not t within 1 K of 37 degC"), At(None), BAND) is INVALID
    assert still(compile("t > 38 degC and door"), At(40.0, door=None), BAND) is INVALID
    assert still(compile("t > 38 degC and door"), At(30.0, door=None), BAND) is False, "what is certain stays certain"


def test_a_band_of_another_kind_changes_nothing_and_is_found_beforehand() -> None:
    assert still(compile("t > 38 degC"), At(37.9), quantity(1.0, "%")) is False
    assert fits(compile("t > 38 degC"), Types(), Dim.of("K"))
    assert not fits(compile("t > 38 degC"), Types(), Dim.of("degC")), "a difference is in K"
    assert not fits(compile("door"), Types(), Dim.of("K"))
