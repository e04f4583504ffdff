"""Collecting what a check finds, each finding at its place in the file."""

from __future__ import annotations

from dataclasses import dataclass, field

from devices.diagnostic import Diagnostic, Severity
from devices.document import DataPath, Document
from devices.quantity import QuantityError, parse
from recipes.ranges import Range, parse_range
from recipes.syntax import ExprError

MOST = 200
"""Findings that are kept; a file with more has one fault that shows many times."""


@dataclass
class Findings:
    """The diagnostics of one document."""

    document: Document
    found: list[Diagnostic] = field(default_factory=list[Diagnostic])

    def error(self, code: str, path: DataPath, message: str, hint: str = "", *, offset: int | None = None) -> None:
        """Add an error: the recipe cannot be used."""
        self._add(Severity.ERROR, code, path, message, hint, offset)

    def warning(self, code: str, path: DataPath, message: str, hint: str = "") -> None:
        """Add a warning: a person should look."""
        self._add(Severity.WARNING, code, path, message, hint, None)

    def expression(self, error: ExprError, path: DataPath, hint: str = "") -> None:
        """Add what an expression was refused for, at its column."""
        self.error(error.code, path, error.message, hint or error.hint, offset=error.column - 1)

    def quantity(self, text: str, units: tuple[str, ...], path: DataPath) -> float | None:
        """Return the value of a text in the first of `units` that it has, or report it and return None."""
        try:
            given = parse(text)
        except QuantityError as error:
            self.error("quantity", path, error.message, error.hint, offset=0)
            return None
        if given.unit in units:
            return given.value
        self.error(
            "dimension", path, f"'{text}' is in {given.unit or 'no unit'}", f"wanted: {' or '.join(units)}", offset=0
        )
        return None

    def span(self, text: str, unit: str | None, path: DataPath, shown: str | None = None) -> Range | None:
        """Return the range of a text, in canonical `unit` where one is wanted; `shown` is the unit of bare bounds."""
        try:
            given = parse_range(text, shown)
        except QuantityError as error:
            self.error("range", path, error.message, error.hint, offset=0)
            return None
        if unit is not None and given.unit != unit:
            self.error("dimension", path, f"'{text}' is in {given.unit or 'no unit'}", f"wanted: {unit}", offset=0)
            return None
        return given

    def _add(self, severity: Severity, code: str, path: DataPath, message: str, hint: str, offset: int | None) -> None:
        if len(self.found) < MOST:
            self.found.append(self.document.diagnostic(severity, code, path, message, hint=hint, offset=offset))
