"""Includes written out: a recipe with what it includes becomes one flat document, when it is loaded.

Nothing after loading knows of fragments: checks, engine, dry run and record see the flat recipe, and its text is whole.
Each entry keeps the place where it was written, and the include that brought it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from hashlib import sha256
from itertools import takewhile
from typing import Any, cast

from devices.diagnostic import Diagnostic, DocumentError, Severity, capped
from devices.document import DataPath, Document, Place, parse, validate
from devices.yaml_text import MAX_BYTES
from recipes.flat import PROSE
from recipes.fragment import SECTIONS, Fragment, Include, IncludeItem, Value, filled, wrong
from recipes.syntax import ExprError
from recipes.written import written

MOST_DEEP = 4
"""Fragments inside one another."""
MOST_INCLUDES = 60
"""Of a whole recipe, those of its fragments included.  All three bounds are engineering defaults."""
MOST_TEXT = MAX_BYTES // 2
"""Characters of the values of a recipe that is written out."""

Find = Callable[[str], Document]
"""Returns the document of a fragment by its name; raises DocumentError."""
_NOTHING: Mapping[str, Value] = {}


@dataclass(frozen=True, slots=True)
class _Origin:
    """A file that is being written out: the recipe, or a fragment with what its parameters stand for."""

    document: Document
    values: Mapping[str, Value] = field(default_factory=lambda: _NOTHING)
    via: str = ""
    chain: tuple[str, ...] = ()

    def place(self, path: DataPath) -> Place | None:
        """Return where an entry was written, None for one that has no place of its own."""
        place = self.document.places.get(path)
        return place if place is None or not self.chain else replace(place, file=self.document.name, via=self.via)

    def called(self, path: DataPath) -> str:
        """Return the place of an include in words, with those that led to it."""
        line, column = self.document.at(path)
        here = f"{self.document.name}:{line}:{column}"
        return f"{here}, {self.via}" if self.via else here


def expand(document: Document, find: Find) -> Document:
    """Return a recipe's document with its includes written out, or the same where it has none.

    Raises DocumentError with everything that is wrong with the includes and their fragments.
    """
    if "fragment" in document.data or not _has_include(document.data.get("procedure")):
        return document  # a fragment is written out where it is included, with what its parameters stand for
    return _Writer(document, find).write()


def _has_include(node: object) -> bool:
    if isinstance(node, dict):
        return any(_has_include(item) for item in cast("dict[str, object]", node).values())
    items = cast("list[object]", node) if isinstance(node, list) else []
    return any(_is_include(item) or _has_include(item) for item in items)


def _is_include(item: object) -> bool:
    return isinstance(item, dict) and "include" in item


class _Writer:
    """Copies a recipe entry by entry, and each fragment where it is included."""

    def __init__(self, document: Document, find: Find) -> None:
        self._document = document
        self._find = find
        self._data: dict[str, Any] = {}
        self._places: dict[DataPath, Place] = {}
        self._found: list[Diagnostic] = []
        self._used: dict[str, Document] = {}
        self._size = 0
        self._includes = 0

    def write(self) -> Document:
        """Return the flat document; raises DocumentError."""
        origin, data = _Origin(self._document), self._document.data
        for key in (*(key for key in data if key != "procedure"), "procedure"):  # last: fragments declare before it
            self._data[key] = self._copy(data[key], origin, (key,), (key,), self._places)
        if self._found:
            raise DocumentError(capped(self._found))
        text = self._head() + written(self._data)
        try:  # Invariant: what a record holds can be read back, and is what was checked.
            same = parse(text, self._document.name).data == self._data
        except DocumentError:
            same = False
        if not same:
            self._refuse(origin, ("procedure",), "include-limit", "with its fragments this is too large or too deep")
            raise DocumentError(self._found)
        return Document(self._document.name, text, self._data, self._places)

    def _head(self) -> str:
        """Return the comment with which the recipe begins, and which fragments were written out."""
        lines = list(takewhile(lambda line: line.startswith("#"), self._document.text.splitlines()))
        for name, fragment in sorted(self._used.items()):
            digest = sha256(fragment.text.encode()).hexdigest()
            lines.append(f"# Written out: fragment {name} {fragment.data['version']}, sha256 {digest}")
        return "".join(f"{line}\n" for line in lines)

    def _copy(self, node: Any, origin: _Origin, old: DataPath, new: DataPath, places: dict[DataPath, Place]) -> Any:
        if (place := origin.place(old)) is not None:
            places[new] = place
        if isinstance(node, dict):
            found: dict[str, Any] = {}
            for key, item in cast("dict[str, Any]", node).items():
                name = self._filled(key, origin, (*old, key), prose=False)
                if name in found:
                    self._refuse(origin, (*old, key), "include-parameter", f"'{name}' comes a second time")
                found[name] = self._copy(item, origin, (*old, key), (*new, name), places)
            return found
        if isinstance(node, list):
            copied: list[Any] = []
            self._copy_items(cast("list[Any]", node), origin, old, new, copied, places)
            return copied
        text = self._filled(node, origin, old, prose=_is_prose(old))
        if text != node and new in places:
            places[new] = replace(places[new], verbatim=False)
        return text

    def _copy_items(
        self, items: list[Any], origin: _Origin, old: DataPath, new: DataPath, into: list[Any],
        places: dict[DataPath, Place],
    ) -> None:  # fmt: skip
        for index, item in enumerate(items):
            here: DataPath = (*old, index)
            if _is_include(item) and new[0] == "procedure":
                self._include(item, origin, here, new, into, places)
            else:
                into.append(self._copy(item, origin, here, (*new, len(into)), places))

    def _include(
        self, item: dict[str, Any], origin: _Origin, old: DataPath, new: DataPath, into: list[Any],
        places: dict[DataPath, Place],
    ) -> None:  # fmt: skip
        """Write a fragment out at the end of the list `into`, which is at `new`."""
        body = "procedure" if new == ("procedure",) else "steps"
        include = self._read(origin, item, old)
        found = None if include is None else self._fragment(include, origin, old, body)
        if include is None or found is None:
            return
        document = found[0]
        via, chain = origin.called(old), (*origin.chain, include.fragment)
        inner = _Origin(document, self._values(include, found, origin, old), via, chain)
        self._declare(inner)
        first = len(into)
        self._copy_items(document.data[body], inner, (body,), new, into, places)
        for operation in into[first:] if include.id is not None else ():
            if isinstance(operation, dict) and "operation" in operation:
                operation["operation"] = f"{include.id}_{operation['operation']}"

    def _fragment(
        self, include: Include, origin: _Origin, old: DataPath, body: str
    ) -> tuple[Document, Fragment] | None:
        """Return the fragment that is wanted, or report why it cannot be written out here and return None."""
        name, chain = include.fragment, (*origin.chain, include.fragment)
        self._includes += 1
        if name in origin.chain:
            return self._refuse(origin, old, "include-cycle", f"a fragment includes itself: {' -> '.join(chain)}")
        if len(chain) > MOST_DEEP or self._includes > MOST_INCLUDES:
            deep = f"more than {MOST_DEEP} fragments inside one another: {' -> '.join(chain)}"
            what = deep if len(chain) > MOST_DEEP else f"more than {MOST_INCLUDES} includes"
            return self._refuse(origin, old, "include-limit", what, "write some of it into the recipe")
        try:
            document = self._find(name)
            fragment = validate(document, Fragment, "schema")
        except DocumentError as error:
            first = error.diagnostics[0]
            if first.code == "file-missing":
                return self._refuse(origin, old, "fragment-unknown", first.message, first.hint)
            self._found += [replace(one, via=origin.called(old)) for one in error.diagnostics]
            return None
        if not getattr(fragment, body):
            holds, wanted = ("steps", "operations") if fragment.steps else ("operations", "steps")
            text = f"the fragment '{name}' holds {holds}; here {wanted} are wanted"
            return self._refuse(origin, old, "include-place", text, f"include it in a list of {holds}")
        if include.id is not None and body == "steps":
            hint = "let the fragment take a name, and put it into the ids that have to differ"
            text = "an id is put before the ids of operations; this fragment holds steps"
            return self._refuse(origin, (*old, "include", "id"), "include-place", text, hint)
        self._used[name] = document
        return document, fragment

    def _read(self, origin: _Origin, item: dict[str, Any], old: DataPath) -> Include | None:
        """Return an include as it is written, or report what the schema refuses."""
        depth = len(old)
        places = {path[depth:]: place for path, place in origin.document.places.items() if path[:depth] == old}
        try:
            return validate(Document(origin.document.name, "", item, places), IncludeItem, "schema").include
        except DocumentError as error:
            self._found += [replace(one, via=origin.via) for one in error.diagnostics]
            return None

    def _values(
        self, include: Include, found: tuple[Document, Fragment], origin: _Origin, old: DataPath
    ) -> dict[str, Value]:
        """Return what each parameter stands for; report those that are unknown, missing, or of another kind."""
        document, takes = found[0], found[1].takes
        for name in include.with_:
            if name not in takes:
                near = get_close_matches(name, takes, n=1)
                hint = f"did you mean {near[0]}?" if near else f"it takes: {', '.join(takes) or 'nothing'}"
                text = f"the fragment '{include.fragment}' takes no '{name}'"
                self._refuse(origin, (*old, "include", "with", name), "include-parameter", text, hint)
        values: dict[str, Value] = {}
        for name, take in takes.items():
            given: DataPath = (*old, "include", "with", name)
            if name in include.with_:
                text = self._filled(include.with_[name], origin, given, prose=take.kind == "text")
                values[name] = self._judged(Value(take.kind, text), origin, given)
            elif take.default is not None:
                own = _Origin(document, via=origin.called(old))
                values[name] = self._judged(Value(take.kind, take.default), own, ("takes", name, "default"))
            else:
                what = f"{take.label} ({take.kind})" if take.label else f"of kind {take.kind}"
                text = f"the fragment '{include.fragment}' wants '{name}', {what}"
                self._refuse(origin, old, "include-parameter", text, f"add with: {{{name}: ...}}")
                values[name] = Value(take.kind, "unknown")
        return values

    def _judged(self, value: Value, origin: _Origin, path: DataPath) -> Value:
        error = wrong(value)
        if error is None:
            return value
        self._refuse(origin, path, error.code, error.message, error.hint, offset=error.column - 1)
        return Value(value.kind, "unknown")

    def _declare(self, origin: _Origin) -> None:
        """Put what a fragment declares with what is declared already: one name means one thing."""
        for section in SECTIONS:
            entries: dict[str, Any] = origin.document.data.get(section) or {}
            known: Any = self._data.setdefault(section, {}) if entries else {}
            for name, entry in entries.items() if isinstance(known, dict) else ():
                path: DataPath = (section, name)
                places: dict[DataPath, Place] = {}
                copied = self._copy(entry, origin, path, path, places)
                if name not in known:
                    known[name] = copied
                    self._places |= places
                elif known[name] != copied:
                    place = self._places.get(path)
                    other = f"{place.file or self._document.name}:{place.line}" if place else self._document.name
                    text = f"'{name}' is declared otherwise in {other} ({section})"
                    self._refuse(origin, path, "include-conflict", text, "make the two equal, or drop one of them")

    def _filled(self, text: str, origin: _Origin, path: DataPath, *, prose: bool) -> str:
        self._size += len(text)
        found = text
        if origin.chain and "$" in text:
            try:
                found = filled(text, origin.values, prose=prose)
            except ExprError as error:
                self._refuse(origin, path, error.code, error.message, error.hint, offset=error.column - 1)
            self._size += len(found)
        if self._size > MOST_TEXT:
            self._refuse(origin, path, "include-limit", "with its fragments this recipe is too large")
            raise DocumentError(capped(self._found))
        return found

    def _refuse(
        self, origin: _Origin, path: DataPath, code: str, message: str, hint: str = "", *, offset: int | None = None
    ) -> None:
        found = origin.document.diagnostic(Severity.ERROR, code, path, message, hint=hint, offset=offset)
        self._found.append(replace(found, via=origin.via))


def _is_prose(path: DataPath) -> bool:
    """Return whether the value at a path is a text for people; a computed value may be named like one."""
    names = [part for part in path if isinstance(part, str)]
    return names[-1] in PROSE and names[-2:-1] != ["values"]
