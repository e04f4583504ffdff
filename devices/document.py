"""YAML documents with positions: recipes, profiles and site files are read here and nowhere else.

Every scalar is text, and the schema gives it a type: YAML's own guesses turn `1:1` into 61 and `no` into false.
What people get wrong without noticing is an error with a place and a hint: duplicate keys, tabs, unquoted commas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from devices.diagnostic import Diagnostic, DocumentError, Severity, capped
from devices.schema_error import explain, merge
from devices.yaml_text import MAX_BYTES, DataPath, Place, line_column, read, too_large

__all__ = ["DataPath", "Diagnostic", "Document", "DocumentError", "Place", "Severity", "load", "parse", "validate"]

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Document:
    """A YAML file as text, as data (mappings, lists and text only), and where each entry of the data stands."""

    name: str
    text: str
    data: dict[str, Any]
    places: Mapping[DataPath, Place] = field(default_factory=dict[DataPath, Place], repr=False, compare=False)

    def at(self, path: DataPath) -> tuple[int, int]:
        """Return line and column of the entry at a path, or of the nearest entry above it."""
        place = self._nearest(path)
        return place.line, place.column

    def order(self, path: DataPath) -> tuple[str, int, int]:
        """Return what sorts the entry at a path: the document's own by place, then those of other files."""
        return (self._nearest(path).file, *self.at(path))

    def value_at(self, path: DataPath, offset: int = 0) -> tuple[int, int]:
        """Return line and column of the character `offset` (from 0) of the text at a path, or where it begins."""
        place = self._nearest(path)
        if path not in self.places:
            return place.line, place.column
        return place.value_line, place.value_column + (offset if place.verbatim else 0)

    def diagnostic(
        self, severity: Severity, code: str, path: DataPath, message: str, *, hint: str = "", offset: int | None = None
    ) -> Diagnostic:
        """Return a diagnostic at the entry of a path, or at the character `offset` of the text there."""
        line, column = self.at(path) if offset is None else self.value_at(path, offset)
        place = self._nearest(path)
        return Diagnostic(severity, code, message, place.file or self.name, line, column, hint, place.via)

    def locate(self, loc: Sequence[str | int]) -> DataPath:
        """Return the path that follows `loc` as far as the data goes; parts that the data does not have are left out.

        A schema's location may hold names of union branches between the keys; of several ways the longest is taken.
        """
        return _follow(self.data, tuple(loc))

    def _nearest(self, path: DataPath) -> Place:
        for end in range(len(path), 0, -1):
            place = self.places.get(path[:end])
            if place is not None:
                return place
        return self.places.get((), Place(1, 1, 1, 1))


def parse(text: str, name: str) -> Document:
    """Return a YAML text as a document called `name`; raises DocumentError with all that was found."""
    data, places = read(text, name)
    return Document(name, text, data, places)


def load(path: Path) -> Document:
    """Return the YAML file at `path`; raises DocumentError also for a missing, unreadable or too large file."""
    name = str(path)

    def refuse(code: str, message: str, hint: str = "") -> DocumentError:
        return DocumentError([Diagnostic(Severity.ERROR, code, message, name, 1, 1, hint)])

    try:
        if path.exists() and not path.is_file():
            raise refuse("file-unreadable", "this is not a file", "give the path of a YAML file")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise refuse("file-missing", "there is no such file", f"looked in {path.absolute().parent}") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise refuse("file-unreadable", f"the file cannot be read: {reason}") from error
    if len(raw) > MAX_BYTES:
        raise DocumentError([too_large(name)])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode(errors="replace")
        line, column = line_column(before, len(before))
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8"
        raise DocumentError(
            [Diagnostic(Severity.ERROR, "yaml-syntax", message, name, line, column, "save the file as UTF-8")]
        ) from error
    return parse(text, name)


def validate(document: Document, model: type[M], code: str) -> M:
    """Return the document's data as `model`; raises DocumentError with one diagnostic, under `code`, for each error."""
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        details = [(document.locate(item["loc"]), item) for item in error.errors(include_url=False)]
        details.sort(key=lambda entry: (document.order(entry[0]), str(entry[0])))
        found: list[Diagnostic] = []
        for path, group in groupby(details, key=lambda entry: entry[0]):
            findings = [explain(item, model, _inside(document.data, path[:-1])) for _, item in group]
            for finding in merge(findings):
                named = path and not finding.about_key
                message = f"{_label(path)}: {finding.message}" if named else finding.message
                found.append(document.diagnostic(Severity.ERROR, code, path, message, hint=finding.hint))
        raise DocumentError(capped(found)) from error


def _label(path: DataPath) -> str:
    """Return the last key of a path for a message: `rate`, or `containers[2]` for an item of a list."""
    tail = len(path) - 1
    while tail > 0 and not isinstance(path[tail], str):
        tail -= 1
    return str(path[tail]) + "".join(f"[{item}]" for item in path[tail + 1 :])


def _inside(data: Any, path: DataPath) -> Any:
    for item in path:
        data = data[item]
    return data


def _follow(data: Any, loc: DataPath) -> DataPath:
    for index, item in enumerate(loc):
        inner: Any = None
        if isinstance(data, dict) and item in data:
            inner = cast("dict[str | int, Any]", data)[item]
        elif isinstance(data, list) and isinstance(item, int) and 0 <= item < len(cast("list[Any]", data)):
            inner = cast("list[Any]", data)[item]
        else:
            continue
        rest = loc[index + 1 :]
        taken: DataPath = (item, *_follow(inner, rest))
        skipped = _follow(data, rest)
        return skipped if len(skipped) > len(taken) else taken
    return ()
