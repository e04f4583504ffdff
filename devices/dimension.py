"""Dimensions and their canonical units, with coherent arithmetic.

Temperature has two dimensions: `degC` is a point on a scale, `K` a difference.  `%` (0 to 100), `cells` and `IU`
are dimensions of their own, so that none of them passes for a bare number, or for one another.  pint does the algebra
of composed units, on a registry that holds the names of `devices.unit_names` only; it is imported when the first unit
that is not canonical is met.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any, cast

from devices.unit_names import BASES, DERIVED, LONGEST, NAMES, quoted, suggest

# What each canonical unit is: name of the dimension, powers of the bases, and how many of it make one coherent unit
# (1 mL/s = 60 mL/min).
UNITS: dict[str, tuple[str, dict[str, int], int]] = {
    "": ("number", {}, 1),
    "degC": ("temperature", {"degC": 1}, 1),
    "K": ("temperature difference", {"K": 1}, 1),
    "mL": ("volume", {"mL": 1}, 1),
    "g": ("mass", {"g": 1}, 1),
    "s": ("time", {"s": 1}, 1),
    "mL/min": ("flow", {"mL": 1, "s": -1}, 60),
    "g/min": ("mass flow", {"g": 1, "s": -1}, 60),
    "mbar": ("pressure", {"mbar": 1}, 1),
    "mmol": ("amount", {"mmol": 1}, 1),
    "mmol/L": ("concentration", {"mmol": 1, "mL": -1}, 1000),
    "IU": ("activity", {"IU": 1}, 1),
    "IU/mL": ("activity concentration", {"IU": 1, "mL": -1}, 1),
    "cells": ("cells", {"cells": 1}, 1),
    "cells/mL": ("cell density", {"cells": 1, "mL": -1}, 1),
    "rpm": ("rotation", {"rpm": 1}, 1),
    "%": ("percent", {"%": 1}, 1),
    "g/mL": ("density", {"g": 1, "mL": -1}, 1),
    "K/min": ("temperature rate", {"K": 1, "s": -1}, 60),
    "W": ("power", {"W": 1}, 1),
    "1/d": ("rate", {"s": -1}, 86400),
    "pH": ("acidity", {"pH": 1}, 1),
}
CANONICAL: tuple[str, ...] = tuple(UNITS)

_UNIT = re.compile(r"(?:1|[A-Za-z%]+(?:\^\d)?)(?:[*/][A-Za-z%]+(?:\^\d)?)*", re.ASCII)
_NAME = re.compile(r"[A-Za-z%]+", re.ASCII)


class QuantityError(ValueError):
    """A quantity that cannot be used: what was written, what was expected, and how to write it."""

    def __init__(self, what: str, expected: str = "", hint: str = "") -> None:
        super().__init__(what, expected, hint)
        self.what = what
        self.expected = expected
        self.hint = hint

    @property
    def message(self) -> str:
        """Return the message without its hint."""
        return f"{self.what}; expected {self.expected}" if self.expected else self.what

    def __str__(self) -> str:
        return f"{self.message} (hint: {self.hint})" if self.hint else self.message


@dataclass(frozen=True, slots=True)
class Dim:
    """A dimension: the powers of `BASES`, in their order.

    Arithmetic is coherent: values multiply and divide in `coherent` units (mL/s, not mL/min), and come back to the
    canonical unit with `canonical`.  A scale temperature (degC) neither multiplies nor divides.
    """

    powers: tuple[int, ...]

    @staticmethod
    def of(unit: str) -> Dim:
        """Return the dimension of a unit; raises QuantityError for a unit that is not known."""
        return resolve(unit)[0]

    @property
    def unit(self) -> str:
        """The canonical unit, or a composed name (`mL*s`) where none is declared."""
        return BY_POWERS[self.powers][0] if self.known else _compose(self.powers)

    @property
    def name(self) -> str:
        """The name of the dimension (`volume`), or the composed unit where none is declared."""
        return UNITS[self.unit][0] if self.known else _compose(self.powers)

    @property
    def known(self) -> bool:
        """Whether a canonical unit is declared for this dimension; a final result must have one."""
        return self.powers in BY_POWERS

    @property
    def factor(self) -> float:
        """One canonical unit in coherent units (1 mL/min is 1/60 mL/s)."""
        return 1.0 / self._per()

    def coherent(self, value: float) -> float:
        """Return a canonical value (mL/min) in the coherent unit (mL/s)."""
        return value / self._per()

    def canonical(self, value: float) -> float:
        """Return a coherent value (mL/s) in the canonical unit (mL/min)."""
        return value * self._per()

    def __mul__(self, other: Dim) -> Dim:
        """Return the dimension of a product; raises QuantityError for degC."""
        _refuse_scale("multiplied", self, other)
        return Dim(tuple(a + b for a, b in zip(self.powers, other.powers, strict=True)))

    def __truediv__(self, other: Dim) -> Dim:
        """Return the dimension of a quotient; raises QuantityError for degC."""
        _refuse_scale("divided", self, other)
        return Dim(tuple(a - b for a, b in zip(self.powers, other.powers, strict=True)))

    def plus(self, other: Dim) -> Dim:
        """Return the dimension of a sum; raises QuantityError where the two cannot be added."""
        if self == other and self != DEGC:
            return self
        if {self, other} == {DEGC, KELVIN}:
            return DEGC
        raise _unlike("add", self, other)

    def minus(self, other: Dim) -> Dim:
        """Return the dimension of a difference (degC - degC is K); raises QuantityError where there is none."""
        if self == DEGC and other in (DEGC, KELVIN):
            return KELVIN if other == DEGC else DEGC
        if self == other:
            return self
        raise _unlike("subtract", self, other)

    def _per(self) -> int:
        return BY_POWERS[self.powers][1] if self.known else 1


def _powers(bases: dict[str, int]) -> tuple[int, ...]:
    return tuple(bases.get(base, 0) for base in BASES)


BY_POWERS: dict[tuple[int, ...], tuple[str, int]] = {
    _powers(bases): (unit, per) for unit, (_, bases, per) in UNITS.items()
}
NUMBER = Dim(_powers({}))
DEGC = Dim(_powers({"degC": 1}))
KELVIN = Dim(_powers({"K": 1}))
_DEGC_AT = BASES.index("degC")


def _compose(powers: tuple[int, ...]) -> str:
    def side(sign: int) -> str:
        held = [(base, sign * power) for base, power in zip(BASES, powers, strict=True) if sign * power > 0]
        return "*".join(base if power == 1 else f"{base}^{power}" for base, power in held)

    below = side(-1)
    return f"{side(1) or '1'}/{below.replace('*', '/')}" if below else side(1)


def _refuse_scale(done: str, left: Dim, right: Dim) -> None:
    if left.powers[_DEGC_AT] or right.powers[_DEGC_AT]:
        hint = "subtract two temperatures first: their difference is in K"
        raise QuantityError(f"a temperature in degC cannot be {done}", hint=hint)


def _unlike(verb: str, left: Dim, right: Dim) -> QuantityError:
    hint = ""
    if {left, right} == {DEGC}:
        hint = "add a difference in K to a temperature in degC"
    elif left == KELVIN and right == DEGC:
        hint = "write the temperature in degC first, then the difference in K"
    elif {left.name, right.name} == {"volume", "mass"}:
        hint = "mass and volume meet through a density: multiply or divide by g/mL"
    elif NUMBER in (left, right):
        hint = "give the number a unit"
    names = [f"{dim.name} ({dim.unit})" if dim.unit else dim.name for dim in (left, right)]
    return QuantityError(f"cannot {verb} {names[0]} and {names[1]}", "two of the same dimension", hint)


@lru_cache(maxsize=512)
def resolve(unit: str) -> tuple[Dim, Fraction]:
    """Return the dimension of a unit, and one of it in coherent units; raises QuantityError."""
    if unit in UNITS:
        _, bases, per = UNITS[unit]
        return Dim(_powers(bases)), Fraction(1, per)
    tight = re.sub(r"\s*([*/])\s*", r"\1", unit)
    names: list[str] = _NAME.findall(tight)
    if len(tight) > LONGEST or _UNIT.fullmatch(tight) is None or not NAMES.issuperset(names):
        right = suggest(unit)
        hint = f"write '{right}'" if right else f"known: {', '.join(sorted(NAMES))}"
        raise QuantityError(f"unknown unit {quoted(unit)}", hint=hint)
    if tight in (plain := _plain()):
        return plain[tight]
    registry = _registry()
    one = registry.Quantity(Fraction(1), registry.parse_units(tight.replace("%", "percent"))).to_base_units()
    powers = {str(name).strip("[]").replace("percent", "%"): int(power) for name, power in one.dimensionality.items()}
    return Dim(_powers(powers)), Fraction(one.magnitude)


@cache
def _plain() -> dict[str, tuple[Dim, Fraction]]:
    """Return the units that are one name, without pint: every start reads `10 min` or `2 h` in its site file."""
    found = {base: (Dim(_powers({base: 1})), Fraction(1)) for base in BASES}
    for line in DERIVED:
        name, _, meaning = line.partition(" = ")
        factor, _, of = meaning.partition(" * ")
        found[name] = found[of][0], Fraction(factor) * found[of][1]
    return found


@cache
def _registry() -> Any:
    """Return the registry of the units that are used here, exact (fractions); built on first use."""
    import pint  # noqa: PLC0415 - half a second, and most commands never meet a unit that is not canonical

    # pint's annotations know neither an empty registry nor fractions; both are documented.
    registry = cast("Any", pint.UnitRegistry)(None, non_int_type=Fraction)
    for base in BASES:
        name = "percent" if base == "%" else base
        registry.define(f"{name} = [{name}]")
    for line in DERIVED:
        registry.define(line)
    return registry
