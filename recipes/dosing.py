"""Doses of a substance: how much of a stock gives an amount, or a concentration, of what it holds.

Concentrations are per mL here, and amounts in their canonical unit (g, IU, mmol, cells).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from devices.quantity import Dim, QuantityError, parse, show
from recipes.model import Container
from recipes.steps import Transfer

CONCENTRATIONS = {"g/mL": "g", "IU/mL": "IU", "mmol/L": "mmol", "cells/mL": "cells"}
"""What a stock may be declared in, by canonical unit, and the unit of an amount of it."""


class DoseError(ValueError):
    """A dose that cannot be; `hint` says what to do, `unknown` that the stock is not declared."""

    def __init__(self, message: str, hint: str = "", *, unknown: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.unknown = unknown


@dataclass(frozen=True, slots=True)
class Stock:
    """A substance in a container: as it is declared, and how much of it is in 1 mL."""

    substance: str
    text: str
    unit: str
    per_ml: float

    @property
    def of_amounts(self) -> str:
        """Return the unit of an amount."""
        return CONCENTRATIONS[self.unit]

    def finally_per_ml(self, value: float) -> float:
        """Return a wanted concentration, in the stock's canonical unit, as an amount per mL; raises DoseError."""
        wanted = Dim.of(self.unit).coherent(value)
        if wanted >= self.per_ml:
            text = f"{show(value, self.unit)} of {self.substance} cannot come of a stock of {self.text}"
            raise DoseError(text, "take a stock that is stronger than what is wanted")
        return wanted

    def diluted(self, share: float) -> str:
        """Return the concentration of a dilution as people write it, rounded down to two digits."""
        number, _, unit = self.text.strip().partition(" ")
        value = float(number) * share
        digits = 10.0 ** (math.floor(math.log10(value)) - 1)
        return f"{float(f'{math.floor(value / digits + 1e-9) * digits:.2g}'):g} {unit.strip()}"


@dataclass(frozen=True, slots=True)
class Dose:
    """What is taken of a stock (mL) for an amount of a substance (in `unit`)."""

    volume: float
    stock: Stock
    amount: float

    def as_data(self) -> dict[str, str | float]:
        """Return it for the record: why the volume is what it is."""
        return {
            "substance": self.stock.substance,
            "stock": self.stock.text,
            "amount": float(f"{self.amount:.6g}"),
            "unit": self.stock.of_amounts,
        }


def stock_of(step: Transfer, containers: Mapping[str, Container], source: str) -> Stock:
    """Return the stock that a dose is taken of; `source` is a container or one of a family.  Raises DoseError."""
    family = source.partition("[")[0].strip()
    held = containers[family].stock if family in containers else dict[str, str]()
    if not held:
        hint = f"declare it in containers: {family}: {{stock: {{SUBSTANCE: 50 ug/mL}}}}"
        raise DoseError(f"'{family}' declares no stock to dose from", hint, unknown=True)
    if step.of is None and len(held) > 1:
        raise DoseError(f"'{family}' holds {', '.join(held)}: of which?", "add of: and one of them", unknown=True)
    substance = step.of or next(iter(held))
    if substance not in held:
        raise DoseError(f"'{family}' holds no '{substance}'", f"it holds {', '.join(held)}", unknown=True)
    try:
        given = parse(held[substance])
    except QuantityError as error:
        raise DoseError(error.message, error.hint) from error
    if given.unit not in CONCENTRATIONS or not given.value > 0.0:
        raise DoseError(f"'{held[substance]}' is no concentration", "write 50 ug/mL, or 1e6 IU/mL")
    return Stock(substance, held[substance], given.unit, Dim.of(given.unit).coherent(given.value))


def dosed(step: Transfer, stock: Stock, held_ml: float, number: Callable[[str, str], float]) -> Dose:
    """Return the dose that a step wants, into a container that holds `held_ml` and nothing of the substance.

    `number` evaluates an expression in a canonical unit.  With `final` the volume that comes counts too.  Raises
    DoseError.
    """
    if step.final is None:
        amount = number(step.dose or "", stock.of_amounts)
        return Dose(amount / stock.per_ml, stock, amount)
    wanted = stock.finally_per_ml(number(step.final, stock.unit))
    volume = wanted * held_ml / (stock.per_ml - wanted)
    return Dose(volume, stock, volume * stock.per_ml)
