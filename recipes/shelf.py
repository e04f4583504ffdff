"""Where recipes and freezing profiles lie: in given folders, and in the library that is part of this package.

A file in a folder of `search` comes before one of the same name in the library.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

from devices import document
from devices.diagnostic import Diagnostic, DocumentError, Severity
from devices.document import Document
from recipes.include import expand

RECIPES = ""
FREEZING = "freezing"
FRAGMENTS = "fragments"
"""The three kinds of files, by the folder below a place in which they lie."""
_WHAT = {RECIPES: "recipe", FREEZING: "freezing profile", FRAGMENTS: "fragment"}
SUFFIX = ".yaml"
MOST_FILES = 500
"""Files of a folder that are listed; a folder with more is no shelf of recipes."""


def paths(kind: str, search: Sequence[Path] = ()) -> dict[str, Path]:
    """Return the file of each name, in the order in which places are searched."""
    found: dict[str, Path] = {}
    with _places(search) as places:
        for place in places:
            folder = place / kind
            for path in sorted(folder.glob(f"*{SUFFIX}"))[:MOST_FILES] if folder.is_dir() else ():
                found.setdefault(path.stem, path)
    return found


def read(name_or_path: str | Path, kind: str, search: Sequence[Path] = ()) -> Document:
    """Return the document of a name, or at a path (with a slash or a suffix); raises DocumentError.

    A recipe's is flat: what it includes is written out, fragments from beside it before others.
    """
    text = str(name_or_path)
    given = text.endswith((SUFFIX, ".yml")) or "/" in text
    path = Path(text) if given else paths(kind, search).get(text)
    if path is None:
        hint = f"there is: {', '.join(sorted(paths(kind, search))) or 'none'}"
        hint += "" if kind == FRAGMENTS else f"; or give the path of a {SUFFIX} file"
        message = f"there is no {_WHAT[kind]} '{text}'"
        raise DocumentError([Diagnostic(Severity.ERROR, "file-missing", message, text, 1, 1, hint)])
    found = document.load(path)
    return flat(found, (path.parent, *search)) if kind == RECIPES else found


def flat(recipe: Document, search: Sequence[Path] = ()) -> Document:
    """Return a recipe's document with what it includes written out; raises DocumentError."""
    return expand(recipe, lambda name: read(name, FRAGMENTS, search))


@contextmanager
def _places(search: Sequence[Path]) -> Generator[tuple[Path, ...]]:
    with as_file(files("recipes") / "library") as library:
        yield (*search, library)
