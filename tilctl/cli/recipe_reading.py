"""A recipe that is to be read, not run: found as `recipe check` finds it, and told of where the check has findings."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from devices.diagnostic import Diagnostic, DocumentError, Severity
from devices.document import Document
from recipes.catalog import find
from recipes.check import check
from recipes.model import Recipe
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.plain import one_line

LONGEST = 200
"""Characters of a name or path in a message: a longer one is cut, so that what is wrong with it can still be seen."""


@dataclass(frozen=True, slots=True)
class Read:
    """A recipe with its text, and what the check found."""

    asked: str
    document: Document
    recipe: Recipe
    findings: tuple[Diagnostic, ...]

    @property
    def errors(self) -> int:
        """Return how many errors the check found."""
        return sum(item.severity is Severity.ERROR for item in self.findings)

    @property
    def warnings(self) -> int:
        """Return how many warnings the check found."""
        return sum(item.severity is Severity.WARNING for item in self.findings)

    @property
    def sha256(self) -> str:
        """Return the hash of its text, as the record of a batch names it."""
        return sha256(self.document.text.encode()).hexdigest()

    @property
    def found(self) -> str:
        """Return what the check found: `no errors, 1 warning`."""
        return ", ".join(
            f"{count or 'no'} {what}{'' if count == 1 else 's'}"
            for count, what in ((self.errors, "error"), (self.warnings, "warning"))
        )


def read(asked: str, folders: Sequence[Path]) -> Read:
    """Return the recipe of a path or name, and say in a line on stderr when the check found something.

    Raises CommandFailed, with the diagnostics of `recipe check`, where there is none or the schema refuses it.
    """
    try:
        document = find(asked, folders)
    except DocumentError as error:
        raise unusable(asked, error.diagnostics) from error
    recipe, found = check(document, folders)
    if recipe is None:
        raise unusable(asked, found)
    each = Read(asked, document, recipe, tuple(found))
    if found:
        print(f"{shown(asked)}: {each.found}: see tilctl recipe check", file=sys.stderr)
    return each


def shown(text: object) -> str:
    """Return a name or path as one line of bearable length."""
    line = one_line(text)
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}... ({len(line)} characters)"


def unusable(asked: str, found: Sequence[Diagnostic], done: str = "read") -> CommandFailed:
    """Return what to raise for a recipe of which the diagnostics say what is wrong."""
    told = "\n".join(one_line(item).replace(one_line(asked), shown(asked)) for item in found)
    return CommandFailed(Exit.BAD_INPUT, f"the recipe cannot be {done}:\n{told}")
