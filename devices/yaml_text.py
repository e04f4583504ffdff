"""YAML text as data with places: mappings, lists and text, and nothing that a reader of the file would not see.

The parser's events are consumed one by one, so that depth, anchors and tags are refused before anything is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import yaml

from devices.diagnostic import MOST, Diagnostic, DocumentError, Severity, capped

DataPath = tuple[str | int, ...]

MAX_BYTES = 1 << 20
MAX_DEPTH = 40

# Characters that YAML or an editor would show, count or reorder in a way that the reader of a file cannot see:
# controls, other line separators, marks that reverse the writing direction, halves of surrogate pairs.
UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_INDENT_TAB = re.compile(r"^ *\t[ \t]*(?=[^ \t\r\n])", re.MULTILINE)
_COLON = re.compile(r"\s*:")
_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry stands (its key, or the item of a list) and where its value begins; both count from 1.

    `verbatim` says that the value is written on one line as it reads, so that an offset in it is a column.  `file` is
    the file where it is not the document's own, `via` the place that included it.
    """

    line: int
    column: int
    value_line: int
    value_column: int
    verbatim: bool = False
    file: str = ""
    via: str = ""


def read(text: str, name: str) -> tuple[dict[str, Any], dict[DataPath, Place]]:
    """Return a text's data and the place of each entry; raises DocumentError with all that was found."""
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise DocumentError([too_large(name)])
    found = list(_unseen(text, name))
    if found:
        raise DocumentError(capped(found))
    builder = _Builder(text, name)
    builder.build()
    if builder.found:
        raise DocumentError(capped(builder.found))
    return builder.data, builder.places


def too_large(name: str) -> Diagnostic:
    """Return the diagnostic of a file over `MAX_BYTES`."""
    message = f"the file is larger than {MAX_BYTES // 1024} KiB"
    return Diagnostic(Severity.ERROR, "yaml-too-large", message, name, 1, 1, "is this the right file?")


def line_column(text: str, index: int) -> tuple[int, int]:
    """Return line and column, from 1, of the character at `index`."""
    start = text.rfind("\n", 0, index) + 1
    return text.count("\n", 0, index) + 1, index - start + 1


def _unseen(text: str, name: str) -> Iterator[Diagnostic]:
    for match in islice(UNSEEN.finditer(text), MOST + 1):
        line, column = line_column(text, match.start())
        message = f"character U+{ord(match.group()):04X} is not allowed: it cannot be seen"
        yield Diagnostic(Severity.ERROR, "yaml-syntax", message, name, line, column, "delete it")


@dataclass(slots=True)
class _Frame:
    """A mapping or a list that is being filled."""

    path: DataPath
    node: Any
    flow: bool
    key: yaml.ScalarEvent | None = None
    before: str = ""
    torn: tuple[int, int] | None = None


class _Builder:
    """Turns the parser's events into data and places, and collects what is wrong."""

    def __init__(self, text: str, name: str) -> None:
        self.data: dict[str, Any] = {}
        self.places: dict[DataPath, Place] = {}
        self.found: list[Diagnostic] = []
        self._text = text
        self._name = name
        self._stack: list[_Frame] = []

    def build(self) -> None:
        """Read the whole text; what is found wrong is in `found`."""
        for match in islice(_INDENT_TAB.finditer(self._text), MOST + 1):
            line, column = line_column(self._text, match.start() + match.group().index("\t"))
            self._refuse("yaml-tab", "a tab in the indentation", line, column, "indent with spaces")
        if self.found:
            return
        try:
            for event in yaml.parse(self._text, Loader=_LOADER):
                if not self._take(event) or len(self.found) > MOST:
                    return
        except yaml.MarkedYAMLError as error:
            self._syntax(error)
        except yaml.YAMLError as error:
            self._refuse("yaml-syntax", str(error).replace("\n", "; "), 1, 1)

    def _take(self, event: yaml.Event) -> bool:
        """Take one event; False when the rest of the text cannot be judged any more."""
        if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._stack.pop()
            return True
        if isinstance(event, yaml.DocumentStartEvent) and event.explicit and self.places:
            return self._stop(event, "a second document begins here", "one file holds one document: delete the '---'")
        if isinstance(event, yaml.AliasEvent):
            return self._stop(event, "an alias (*) is not used here", "repeat the text, or quote it")
        if not isinstance(event, yaml.ScalarEvent | yaml.MappingStartEvent | yaml.SequenceStartEvent):
            return True
        if event.anchor is not None:
            return self._stop(event, "an anchor (&) is not used here", "repeat the text, or quote it")
        if event.tag is not None:
            return self._stop(event, f"a tag ({event.tag}) is not used here", "leave it out: the schema knows the type")
        frame = self._stack[-1] if self._stack else None
        if frame is None and not isinstance(event, yaml.MappingStartEvent):
            return self._stop(event, "the file does not begin with a key", "write 'key: value' lines")
        if frame is not None and isinstance(frame.node, dict) and frame.key is None:
            return self._take_key(frame, event)
        return self._take_value(frame, event)

    def _take_key(self, frame: _Frame, event: yaml.Event) -> bool:
        if not isinstance(event, yaml.ScalarEvent):
            return self._stop(event, "a key must be text", "quote a text that contains braces or brackets")
        key = str(event.value)
        if not key:
            return self._stop(event, "a value stands here without its key", "write 'key: value'")
        if key in frame.node:
            line = self.places[*frame.path, key].line
            message = f"the key '{key}' is here for the second time"
            self._refuse(
                "yaml-duplicate-key", message, *_start(event), f"the other is in line {line}; keep one of them"
            )
        frame.key = event
        return True

    def _take_value(self, frame: _Frame | None, event: yaml.Event) -> bool:
        node: Any = {}
        if isinstance(event, yaml.ScalarEvent):
            node = str(event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = []
        path: DataPath = ()
        line, column = _start(event)
        if frame is None:
            self.data = node
        elif frame.key is None:
            path = (*frame.path, len(frame.node))
            frame.node.append(node)
        else:
            key = str(frame.key.value)
            path = (*frame.path, key)
            line, column = _start(frame.key)
            self._check_comma(frame, frame.key, event)
            frame.node[key] = node
            frame.key = None
        self._check_tab(event)
        self.places[path] = self._place(line, column, event)
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            if len(self._stack) >= MAX_DEPTH:
                return self._stop(event, f"nested more than {MAX_DEPTH} deep", "close a bracket, or check the indents")
            self._stack.append(_Frame(path, node, bool(event.flow_style)))
        return True

    def _check_tab(self, event: yaml.Event) -> None:
        """Refuse a tab before a value: one of the two parsers takes it, the other does not."""
        index = _mark(event.start_mark)[0]
        while index and self._text[index - 1] in " \t":
            index -= 1
            if self._text[index] == "\t":
                line, column = line_column(self._text, index)  # at the end of a text the parser's mark is one line on
                self._refuse("yaml-tab", "a tab before a value", line, column, "write a space")
                return

    def _check_comma(self, frame: _Frame, key: yaml.ScalarEvent, event: yaml.Event) -> None:
        """Refuse `{text: one, two}`: YAML reads the second part as a key without a value."""
        value = event.value if isinstance(event, yaml.ScalarEvent) else None
        colon = _COLON.match(self._text, _mark(key.end_mark)[0]) is not None
        if not frame.flow or colon or value:
            frame.before = f"{key.value}: {value}" if value else ""
            frame.torn = None
            return
        if frame.torn:  # the third part of one torn text: say it once, with the whole text
            self.found.pop()
        line, column = frame.torn = frame.torn or _start(key)
        message = "the text after the comma is read as a key without a value"
        if frame.before:
            frame.before += f", {key.value}"
            before, _, text = frame.before.partition(": ")
            hint = f'quote a text that contains a comma: {before}: "{text}"'
        else:
            message = f"'{key.value}' is read as a key without a value"
            hint = "quote a text that contains braces, or give the key a value"
        self._refuse("yaml-comma", message, line, column, hint)

    def _place(self, line: int, column: int, event: yaml.Event) -> Place:
        index, value_line, value_column = _mark(event.start_mark)
        end, end_line, _ = _mark(event.end_mark)
        if not isinstance(event, yaml.ScalarEvent) or value_line != end_line:
            return Place(line, column, value_line, value_column)
        quote = 1 if event.style in ("'", '"') else 0
        verbatim = self._text[index + quote : end - quote] == event.value
        return Place(line, column, value_line, value_column + quote, verbatim)

    def _syntax(self, error: yaml.MarkedYAMLError) -> None:
        problem, context = error.problem or "", error.context or ""
        if self._text[_mark(error.problem_mark)[0] :][:1] == "\t":
            _, line, column = _mark(error.problem_mark)
            self._refuse("yaml-tab", "a tab before a value", line, column, "write a space")
            return
        words = f"{problem} {context}"
        known = next((entry for entry in _SYNTAX if re.search(entry[0], words)), None)
        _, at_opening, message, hint = known or ("", False, problem or "this is not YAML", "")
        _, opened, opened_column = _mark(error.context_mark or error.problem_mark)
        _, line, column = _mark(error.problem_mark or error.context_mark)
        if at_opening:
            line, column = opened, opened_column
        self._refuse("yaml-syntax", message.replace("LINE", f"line {opened}"), line, column, hint)

    def _stop(self, event: yaml.Event, message: str, hint: str) -> bool:
        self._refuse("yaml-syntax", message, *_start(event), hint)
        return False

    def _refuse(self, code: str, message: str, line: int, column: int, hint: str = "") -> None:
        self.found.append(Diagnostic(Severity.ERROR, code, message, self._name, line, column, hint))


def _mark(mark: Any) -> tuple[int, int, int]:
    """Return index from 0, line and column from 1; the two parsers have mark classes of their own."""
    return (mark.index, mark.line + 1, mark.column + 1) if mark else (0, 1, 1)


def _start(event: yaml.Event) -> tuple[int, int]:
    return _mark(event.start_mark)[1:]


# The words of both parsers, the place to show (where it was opened, or where it went wrong), what to say, what to do.
_SYNTAX = (
    (
        "mapping values are not allowed",
        False,
        "a second ': ' where no key can begin",
        "quote a text that contains ': '; check the indentation",
    ),
    (
        "cannot start any token",
        False,
        "a text cannot begin with this character",
        "quote a text that begins with @ ` % & * ! | > or a bracket",
    ),
    ("unknown escape", False, "an escape that YAML does not know", "write the backslash twice, or use single quotes"),
    ("quoted scalar", True, "this quote is not closed", "close it; a quote in a text is written twice"),
    (
        "flow (mapping|sequence)",
        False,
        "a comma or the closing bracket is expected here (opened in LINE)",
        "quote a text that contains , : { } [ ]",
    ),
    ("simple key", True, "this is no key: ': ' does not follow it", "write 'key: value'; check the indentation"),
    (
        "(expected key|block end|block mapping|block collection)",
        False,
        "this does not continue the lines that begin in LINE",
        "the keys of one mapping, and the dashes of one list, begin in one column",
    ),
    ("document start", False, "text after the end of the document", "delete the '...'"),
)
