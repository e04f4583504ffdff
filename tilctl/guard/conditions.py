"""Conditions of the site on tags, judged on the process image: three-valued, with a deadband."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from devices.quantity import parse, show
from devices.reading import Quality
from recipes.expr import INVALID, Operand, compile, explain
from recipes.hysteresis import still
from recipes.limits import limits
from recipes.units import number
from tilctl.plant.image import ProcessImage

_PLAIN = ("bool", "symbol", "text")


class TagScope:
    """Names as the process image has them; `reads` maps each to its `device.point`."""

    def __init__(self, image: ProcessImage, reads: Mapping[str, str]) -> None:
        self._image = image
        self._reads = reads

    def lookup(self, name: str) -> Operand | None:
        """Return the operand of a name as it is now, None where it was never read."""
        at = self._reads.get(name)
        reading = None if at is None else self._image.get(at)
        if reading is None:
            return None
        unit = "" if reading.unit in _PLAIN else reading.unit
        value = None if reading.quality is Quality.BAD else reading.value
        return Operand(name, value, unit, reading.quality, self._image.age(reading))


class TagCondition:
    """One condition; `devices` are those whose reading may change it."""

    def __init__(self, image: ProcessImage, text: str, reads: Mapping[str, str], deadband: str = "") -> None:
        """Take a condition that was checked when the site was loaded; `deadband` is a difference, "" for none."""
        self.text = text
        self.devices = frozenset(at.partition(".")[0] for at in reads.values())
        self._expression = compile(text)
        self._scope = TagScope(image, reads)
        quantity = parse(deadband) if deadband else None
        self._deadband = None if quantity is None else number(quantity.value, quantity.unit)
        self._image = image
        self._at = tuple(reads.values())
        self._judged: tuple[tuple[Any, ...], bool | None] = ((), None)  # what was seen, and what came of it

    def holds(self) -> bool | None:
        """Return whether it holds; None when that is not known.

        What a reading is of (value, unit, quality) decides, not when it was read: the same again is not judged anew.
        """
        seen: list[Any] = []
        for at in self._at:
            reading = self._image.get(at)
            seen += (None, None) if reading is None else (reading.value, reading.quality)
        known, holds = self._judged
        now = tuple(seen)
        if now == known and seen:
            return holds
        found = self._expression.truth(self._scope)
        holds = None if found is INVALID else found
        self._judged = now, holds
        return holds

    def goes_on(self) -> bool | None:
        """Return whether it goes on holding, once it has held; None when that is not known."""
        if self._deadband is None:
            return self.holds()
        found = still(self._expression, self._scope, self._deadband)
        return None if found is INVALID else found

    def operands(self) -> dict[str, Any]:
        """Return what it sees, by name, for the record."""
        return {operand.name: operand.value for operand in explain(self._expression, self._scope)}

    def seen(self) -> list[Operand]:
        """Return what it sees, with quality and age."""
        return explain(self._expression, self._scope)

    def limits(self) -> dict[str, str]:
        """Return what each name that it compares has to be for it to hold, for people."""
        return limits(self._expression, self._scope)

    def told(self) -> str:
        """Return what it sees in words: `station.temperature is 39.4 degC (> 39 degC)`; what is not known, too."""
        against = self.limits()
        return "; ".join(f"{_told(each)}{_against(against.get(each.name, ''))}" for each in self.seen())


def _against(limit: str) -> str:
    return f" ({limit})" if limit else ""


def _told(operand: Operand) -> str:
    value = operand.value
    if value is None or operand.quality in (Quality.STALE, Quality.BAD):
        return f"{operand.name} is not known ({operand.quality.value})"
    if isinstance(value, bool):
        return f"{operand.name} is {str(value).lower()}"
    return f"{operand.name} is {value if isinstance(value, str) else show(round(value, 2), operand.unit)}"
