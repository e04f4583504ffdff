"""Loading recipes and freezing profiles: found by `recipes.shelf`, checked, and only then handed out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devices import document
from devices.diagnostic import DocumentError, Severity
from devices.document import Document
from recipes import shelf
from recipes.check import check
from recipes.freezing_check import check_profile
from recipes.freezing_model import FreezeProfile
from recipes.model import Recipe


@dataclass(frozen=True, slots=True)
class Entry:
    """A recipe as a list shows it; `problem` is set where the file cannot be used."""

    name: str
    version: str
    title: str
    status: str
    path: str
    problem: str = ""


def find(name_or_path: str | Path, search: Sequence[Path] = ()) -> Document:
    """Return the flat document of a recipe; raises DocumentError when there is none, or it cannot be written out."""
    return shelf.read(name_or_path, shelf.RECIPES, search)


def load(name_or_path: str | Path, search: Sequence[Path] = ()) -> Recipe:
    """Return a checked recipe; raises DocumentError with every error that the check found."""
    return load_document(find(name_or_path, search), search)


def load_text(text: str, name: str, search: Sequence[Path] = ()) -> Recipe:
    """Return the checked recipe of a text, such as the one that a journal holds; raises DocumentError."""
    return load_document(shelf.flat(document.parse(text, name), search), search)


def load_document(source: Document, search: Sequence[Path] = ()) -> Recipe:
    """Return the checked recipe of a document; raises DocumentError with every error that the check found."""
    recipe, found = check(source, search)
    errors = [item for item in found if item.severity is Severity.ERROR]
    if recipe is None or errors:
        raise DocumentError(errors)
    return recipe


def load_freezing(name_or_path: str | Path, search: Sequence[Path] = ()) -> FreezeProfile:
    """Return a checked freezing profile; raises DocumentError."""
    profile, found = check_profile(shelf.read(name_or_path, shelf.FREEZING, search))
    errors = [item for item in found if item.severity is Severity.ERROR]
    if profile is None or errors:
        raise DocumentError(errors)
    return profile


def catalog(search: Sequence[Path] = ()) -> list[Entry]:
    """Return every recipe in the folders and the library, by name; a file that cannot be used says why."""
    return [_entry(name, path, search) for name, path in sorted(shelf.paths(shelf.RECIPES, search).items())]


def _entry(name: str, path: Path, search: Sequence[Path]) -> Entry:
    try:
        recipe = load(path, search)
    except DocumentError as error:
        return Entry(name, "", "", "", str(path), str(error.diagnostics[0]))
    return Entry(recipe.recipe, recipe.version, recipe.title, recipe.status, str(path))
