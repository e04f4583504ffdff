"""Quantities: text with a unit at the edges, a plain float in the canonical unit inside.

`parse_as("5 L", "mL")` is 5000.0.  What may be written is in `devices.unit_names`, what may be added and multiplied in
`devices.dimension`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from devices.dimension import BY_POWERS, CANONICAL, DEGC, KELVIN, NUMBER, Dim, QuantityError, resolve
from devices.unit_names import LONGEST, NAMES, quoted, suggest

__all__ = [
    "CANONICAL",
    "DEGC",
    "KELVIN",
    "NUMBER",
    "Dim",
    "Quantity",
    "QuantityError",
    "dimension",
    "parse",
    "parse_as",
    "show",
]

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3}(?!\d))?", re.ASCII)
_EXPONENT = re.compile(r"[eE][+-]?\d", re.ASCII)
_SPANS = (("d", 86400), ("h", 3600), ("min", 60))
_MASSES = ((1e-3, "mg"), (1e-6, "ug"), (1e-9, "ng"))
_SMALL_G = 0.01  # g; what a scale shows stays in grams


@dataclass(frozen=True, slots=True)
class Quantity:
    """A finite number in the canonical unit `unit` (one of `CANONICAL`)."""

    value: float
    unit: str

    def __str__(self) -> str:
        return show(self.value, self.unit)


def show(value: float, unit: str) -> str:
    """Return a value and its unit as people read it: `4900 mL`, `5e6 cells`, `30 min` (1800 s), `30 ng/mL`, `14`."""
    if unit == "s":
        value, unit = next(((value / size, name) for name, size in _SPANS if abs(value) >= 2 * size), (value, unit))
    elif unit in ("g", "g/mL") and 0.0 < abs(value) < _SMALL_G:
        size, name = next(((size, name) for size, name in _MASSES if abs(value) >= size * 0.9999995), _MASSES[-1])
        value, unit = value / size, unit.replace("g", name, 1)
    digits = re.sub(r"e\+?(-?)0*", r"e\1", f"{value:.6g}")
    return f"{digits} {unit}".rstrip()


def dimension(unit: str) -> str:
    """Return the name of a unit's dimension, such as `volume`; raises QuantityError for an unknown unit."""
    return Dim.of(unit).name


@lru_cache(maxsize=4096)
def parse(text: str) -> Quantity:
    """Return a text such as `5 L` as a quantity in its canonical unit (5000 mL); a bare number has the unit "".

    Raises QuantityError, with a hint, for NaN, infinity, an unknown unit, or a dimension that has no canonical unit.
    """
    number, unit = _split(text)
    try:
        dim, coherent = resolve(unit)
    except QuantityError as error:
        right = suggest(unit)
        hint = f"write '{number} {right}'" if right else error.hint
        raise QuantityError(f"{quoted(text)} has an {error.what}", hint=hint) from None
    if not dim.known:
        hint = "a rate of temperature is written in K/min" if "degC" in unit else f"known: {_known()}"
        raise QuantityError(f"{quoted(text)} is in {unit}, which nothing here is measured in", hint=hint)
    canonical, per = BY_POWERS[dim.powers]
    return Quantity(_finite(Fraction(number) * coherent * per, text), canonical)


@lru_cache(maxsize=4096)
def parse_as(text: str, unit: str) -> float:
    """Return the value of a text such as `5 L` in `unit`, which is canonical as a rule (`h` gives hours as well).

    Raises QuantityError when the dimension differs, or the text is not a quantity.
    """
    dim, coherent = resolve(unit)
    wanted = f"{dim.name} in {unit}" if unit else "a number without a unit"
    try:
        found = parse(text)
    except QuantityError as error:
        raise QuantityError(error.what, error.expected or wanted, error.hint) from error
    if Dim.of(found.unit) != dim:
        what = f"measures {dimension(found.unit)}" if found.unit else "has no unit"
        raise QuantityError(f"{quoted(text)} {what}", wanted, _differs(text, found.unit, unit))
    if unit == dim.unit:
        return found.value
    return _finite(Fraction(found.value) / (coherent * BY_POWERS[dim.powers][1]), text)


def _finite(value: Fraction, text: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise QuantityError(f"{quoted(text)} is out of range", "a finite number") from error


def _differs(text: str, found: str, wanted: str) -> str:
    if not found:
        return f"write '{text.strip()} {wanted}'"
    if not wanted:
        return "leave the unit out"
    return {
        ("K", "degC"): "K is for differences; a temperature is written in degC",
        ("degC", "K"): "degC is for temperatures; a difference is written in K",
        ("g", "mL"): "mass becomes volume only through a declared density",
        ("mL", "g"): "volume becomes mass only through a declared density",
    }.get((found, wanted), "")


def _split(text: str) -> tuple[str, str]:
    """Return the number and the unit as written; raises QuantityError."""
    bare = text.strip()
    if not bare:
        raise QuantityError("no quantity is given", "a number and a unit", "for example '5 L' or '37 degC'")
    match = _NUMBER.match(bare) if len(bare) <= LONGEST else None
    if match is None:
        raise QuantityError(f"{quoted(text)} is not a quantity", "a number and a unit", _number_hint(bare))
    number, rest = match.group(), bare[match.end() :]
    unit = rest.strip()
    if not math.isfinite(float(number)) or _EXPONENT.match(rest):
        raise QuantityError(f"{quoted(text)} is out of range", "a finite number")
    if unit.startswith((",", ".", ":", "_", "+", "-")) or (unit[:1].isdecimal() and unit[:2] != "1/"):
        raise QuantityError(f"{quoted(text)} is not a quantity", "a number and a unit", _number_hint(bare))
    # The percent sign is the one unit that people write without a space and that cannot be mistaken.
    if unit and rest == unit and unit != "%":
        right = suggest(unit) or unit
        hint = f"write '{number} {right}'"
        raise QuantityError(f"{quoted(text)} lacks a space between number and unit", hint=hint)
    return number, unit


def _number_hint(bare: str) -> str:
    low = bare.lower().lstrip("+-")
    if low.startswith(("nan", "inf")):
        return "a value that is not known is left out, never NaN or infinity"
    if "," in bare:
        return "write a point for decimals and nothing for thousands: 1234.5"
    if low.split(" ", 1)[0] in {name.lower() for name in NAMES}:
        return f"write a number before the unit: '1 {bare}'"
    return "for example '5 L', '37 degC' or '5e6 cells'"


def _known() -> str:
    return ", ".join(name for name in CANONICAL if name)
