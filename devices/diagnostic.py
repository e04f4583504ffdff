"""What is wrong with a file: findings with a place in it, for the person who wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

# A broken file can have a finding in every line; nobody reads more than this.
MOST = 50


class Severity(StrEnum):
    """How much a diagnostic weighs: an error stops, a warning asks for a look, a note explains."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding in a file, at a line and column that count from 1; `via` is the place that included this file."""

    severity: Severity
    code: str
    message: str
    file: str
    line: int
    column: int
    hint: str = ""
    via: str = ""

    def __str__(self) -> str:
        via = f" (included at {self.via})" if self.via else ""
        hint = f" (hint: {self.hint})" if self.hint else ""
        return f"{self.file}:{self.line}:{self.column}: {self.severity}[{self.code}]: {self.message}{via}{hint}"


class DocumentError(Exception):
    """A document that cannot be used; carries every diagnostic that was found, at least one."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        return "\n".join(str(diagnostic) for diagnostic in self.diagnostics)


def capped(found: Sequence[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Return the first `MOST` diagnostics, with a note where there are more."""
    if len(found) <= MOST:
        return tuple(found)
    last = found[MOST]
    note = Diagnostic(Severity.NOTE, "more", f"only the first {MOST} are shown", last.file, last.line, last.column)
    return (*found[:MOST], note)
