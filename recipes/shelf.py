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

RECIPES = ""
FREEZING = "freezing"
"""The two kinds of files, by the folder below a place in which they lie."""
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
    """Return the document of a name, or at a path (with a slash or a suffix); raises DocumentError."""
    text = str(name_or_path)
    if text.endswith((SUFFIX, ".yml")) or "/" in text:
        return document.load(Path(text))
    known = paths(kind, search)
    if text in known:
        return document.load(known[text])
    what = "freezing profile" if kind == FREEZING else "recipe"
    hint = f"there is: {', '.join(sorted(known))}; or give the path of a {SUFFIX} file"
    raise DocumentError([Diagnostic(Severity.ERROR, "file-missing", f"there is no {what} '{text}'", text, 1, 1, hint)])


@contextmanager
def _places(search: Sequence[Path]) -> Generator[tuple[Path, ...]]:
    with as_file(files("recipes") / "library") as library:
        yield (*search, library)
