"""An activity matrix: the ordered, timed steps of a closed device, as CSV that a person keeps in a spreadsheet.

The format is this project's own.  First lines `# key: value` say what it is: `recipe`, `title`, `version`, `status`,
and `source TAG` for each source that rows name.  Then one line names the columns, and one line each is a step:

    day,time,activity,volume,agitation,window,source,comment
    3,06:00,exchange,125 mL,mild,2 h,"S25, GKU","out to the waste bag, fresh medium in"

`day` and `time` (hours and minutes of that day) count from the start of the device's program.  `volume` belongs to the
activities that move liquid; `window` is how late the step may be (2 h where it is left out), `source` where its numbers
come from.  The columns may be in any order, the last four may be left out.  A cell has no line break.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devices.diagnostic import Diagnostic, DocumentError, Severity, capped
from devices.quantity import QuantityError, parse_as

MOST_BYTES, MOST_ROWS, MOST_CELL = 256 * 1024, 300, 400  # engineering defaults, as are those below
LAST_DAY = 35  # the longest process that this program is made for
MOST_ML = 20_000.0
MOST_WINDOW_S = 86_400.0
USUAL_WINDOW = "2 h"
MOVING = ("load", "activate", "feed", "exchange", "wash", "harvest")
"""Activities that move a volume, which is entered when it has been moved."""
ACTIVITIES = ("start", *MOVING, "sample", "culture", "agitate")
AGITATION = ("", "off", "mild", "strong")
NEEDED, MAY = ("day", "time", "activity", "volume"), ("agitation", "window", "source", "comment")
KEYS = ("recipe", "title", "version", "status")
KNOWN_SOURCES = {
    "D": "derived by arithmetic from the values beside it",
    "GKU": "general knowledge, unverified: not read in a source",
    "P": "engineering default of this project",
}
_KEY = re.compile(r"#\s*(source [A-Za-z][A-Za-z0-9]{0,11}|[a-z]+)\s*:\s*(.*)$")
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_TAG = re.compile(r"[A-Za-z][A-Za-z0-9]{0,11}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


@dataclass(frozen=True, slots=True)
class Activity:
    """One step: `minutes` since the start of the program, `volume` and `window` as texts with units ("": no volume)."""

    minutes: int
    name: str
    volume: str
    agitation: str
    window: str
    source: str
    comment: str


@dataclass(frozen=True)
class Matrix:
    """All of it: what it is called, where its numbers come from, and its steps in order, `start` first."""

    header: dict[str, str]
    sources: dict[str, str]
    steps: tuple[Activity, ...]


@dataclass
class _Reader:
    name: str
    found: list[Diagnostic] = field(default_factory=list[Diagnostic])
    header: dict[str, str] = field(default_factory=dict[str, str])
    sources: dict[str, str] = field(default_factory=dict[str, str])
    steps: list[Activity] = field(default_factory=list[Activity])
    columns: list[str] = field(default_factory=list[str])

    def say(self, line: int, column: int, message: str, hint: str) -> None:
        self.found.append(Diagnostic(Severity.ERROR, "matrix-row", message, self.name, line, column, hint))

    def lines(self, lines: Sequence[str]) -> None:
        for number, line in enumerate(lines, start=1):
            if not line.strip(" ,;\t"):
                continue
            if line.startswith("#"):
                self._key(number, line)
            elif (cells := self._cells(number, line)) is None:
                continue
            elif not self.columns:
                self._columns(number, cells)
            elif len(self.steps) >= MOST_ROWS:
                self.say(number, 1, f"more than {MOST_ROWS} steps", "make two matrices of it")
                return
            else:
                self._row(number, cells)

    def _key(self, number: int, line: str) -> None:
        match = _KEY.match(line)
        key, value = (match[1], match[2].strip()) if match else ("", "")
        if not match or (key not in KEYS and not key.startswith("source ")):
            self.say(
                number, 1, "a line with # says nothing known", f"# KEY: VALUE, with {', '.join(KEYS)} or source TAG"
            )
        elif self.columns:
            self.say(number, 1, "a line with # comes after the columns", "move it to the beginning")
        elif not value or len(value) > MOST_CELL:
            self.say(number, 1, f"{key} is empty or longer than {MOST_CELL} characters", "")
        elif key.startswith("source "):
            self.sources[key.removeprefix("source ")] = value
        elif key == "recipe" and not _NAME.fullmatch(value):
            self.say(number, 1, f"'{value}' is no name of a recipe", "a-z, 0-9 and -")
        elif key == "version" and not _VERSION.fullmatch(value):
            self.say(number, 1, f"'{value}' is no version", "such as 1.0.0")
        elif key == "status" and value not in ("draft", "illustrative"):
            self.say(
                number, 1, f"a matrix is draft or illustrative, not '{value}'", "the recipe is approved, not the matrix"
            )
        else:
            self.header[key] = value

    def _cells(self, number: int, line: str) -> list[tuple[int, str]] | None:
        """Return each cell with the column at which it begins."""
        try:
            cells = next(csv.reader([line], strict=True))
        except (csv.Error, StopIteration) as error:
            self.say(number, 1, f"no CSV: {error}", "cells with commas in quotes, no line break in a cell")
            return None
        return list(zip(_starts(line), (cell.strip() for cell in cells), strict=False))

    def _columns(self, number: int, cells: list[tuple[int, str]]) -> None:
        for at, name in cells:
            if name.lower() not in (*NEEDED, *MAY) or name.lower() in self.columns:
                self.say(
                    number,
                    at,
                    f"the column '{name}' is unknown or there twice",
                    f"columns: {', '.join((*NEEDED, *MAY))}",
                )
            self.columns.append(name.lower())
        for name in NEEDED:
            if name not in self.columns:
                self.say(number, 1, f"the column '{name}' is missing", f"columns: {', '.join((*NEEDED, *MAY))}")

    def _row(self, number: int, cells: list[tuple[int, str]]) -> None:
        at = dict(zip(self.columns, cells, strict=False))
        before = len(self.found)
        if len(cells) > len(self.columns):
            self.say(number, cells[len(self.columns)][0], "more cells than columns", "a comma in a cell wants quotes")

        def cell(name: str) -> tuple[int, str]:
            place, text = at.get(name, (1, ""))
            if len(text) > MOST_CELL or not text.isprintable():
                self.say(number, place, f"{name} is longer than {MOST_CELL} characters, or not printable", "shorten it")
            return place, text

        minutes = self._when(number, cell("day"), cell("time"))
        place, name = cell("activity")
        if name not in ACTIVITIES:
            self.say(number, place, f"'{name}' is no activity", f"one of {', '.join(ACTIVITIES)}")
        volume = self._volume(number, cell("volume"), name)
        place, agitation = cell("agitation")
        if agitation not in AGITATION:
            self.say(number, place, f"agitation '{agitation}' is unknown", "off, mild, strong, or nothing: as it was")
        window = self._window(number, cell("window"))
        place, source = cell("source")
        for tag in (source or "GKU").split(","):
            if _TAG.fullmatch(tag.strip()) and tag.strip() not in (self.sources | KNOWN_SOURCES):
                hint = f"add at the beginning: # source {tag.strip()}: AUTHOR, TITLE, YEAR"
                self.say(number, place, f"no line says what the source {tag.strip()} is", hint)
            elif not _TAG.fullmatch(tag.strip()):
                self.say(
                    number, place, f"'{tag.strip()}' is no tag of a source", "such as S25, or GKU for general knowledge"
                )
        if len(self.found) == before:
            step = Activity(minutes, name, volume, agitation, window, source or "GKU", cell("comment")[1])
            self._order(number, cells[0][0], step)
            self.steps.append(step)

    def _when(self, number: int, day: tuple[int, str], time: tuple[int, str]) -> int:
        days, clock = day[1], _TIME.fullmatch(time[1])
        if not (days.isascii() and days.isdecimal() and len(days) <= 3 and int(days) <= LAST_DAY):
            self.say(
                number,
                day[0],
                f"'{days}' is no day",
                f"a whole number from 0 to {LAST_DAY}, from the start of the program",
            )
            return 0
        if clock is None:
            self.say(number, time[0], f"'{time[1]}' is no time", "hours and minutes of that day: 00:00 to 23:59")
            return 0
        return 1440 * int(days) + 60 * int(clock[1]) + int(clock[2])

    def _volume(self, number: int, cell: tuple[int, str], activity: str) -> str:
        place, text = cell
        if activity not in MOVING:
            if text:
                self.say(number, place, f"'{activity}' moves no volume", f"volumes belong to {', '.join(MOVING)}")
            return ""
        try:
            if 0.0 < parse_as(text, "mL") <= MOST_ML:
                return text
            self.say(number, place, f"'{text}' is no volume for a device", f"more than 0 mL, at most {MOST_ML:g} mL")
        except QuantityError as error:
            self.say(number, place, f"{activity} wants a volume: {error.message}", "with its unit: 125 mL")
        return ""

    def _window(self, number: int, cell: tuple[int, str]) -> str:
        place, text = cell
        try:
            if 0.0 < parse_as(text or USUAL_WINDOW, "s") <= MOST_WINDOW_S:
                return text or USUAL_WINDOW
            self.say(
                number, place, f"'{text}' is no window", "how late the step may be: more than nothing, at most 1 d"
            )
        except QuantityError as error:
            self.say(number, place, f"window: {error.message}", "a time with its unit: 2 h")
        return USUAL_WINDOW

    def _order(self, number: int, place: int, step: Activity) -> None:
        last = self.steps[-1] if self.steps else None
        if last is None and (step.name != "start" or step.minutes):
            self.say(number, place, "the first step is no start at day 0, 00:00", "all times count from it")
        elif last is not None and step.name == "start":
            self.say(number, place, "a second start", "one matrix is one program")
        elif last is not None and last.name == "harvest":
            self.say(number, place, "a step after the harvest", "the harvest is the last step")
        elif last is not None and step.minutes < last.minutes:
            self.say(number, place, "this step is earlier than the one before it", "put the rows in order of time")

    def whole(self, lines: int) -> Matrix:
        """Say what is missing of the whole, and return it."""
        if not self.found:
            if not self.columns or not self.steps:
                self.say(
                    max(1, lines),
                    1,
                    "no steps",
                    f"a line with the columns {', '.join(NEEDED)}, then a line for each step",
                )
            elif self.steps[-1].name != "harvest":
                self.say(lines, 1, "the last step is no harvest", "a program ends with the harvest")
        if self.found:
            raise DocumentError(capped(self.found))
        return Matrix(self.header, self.sources, tuple(self.steps))


def read_text(path: Path) -> str:
    """Return the text of a file; raises DocumentError where it is missing, too large, or no UTF-8."""
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise _unread(path, "file-missing", "no such file") from None
    except (OSError, ValueError) as error:
        raise _unread(path, "file-unreadable", f"cannot be read as UTF-8: {error}") from error
    if len(raw) > MOST_BYTES:
        raise _unread(path, "matrix-row", f"larger than {MOST_BYTES // 1024} KiB")
    return text


def parse_matrix(text: str, name: str) -> Matrix:
    """Return the matrix of a text; raises DocumentError with everything that is wrong, each with line and column."""
    reader = _Reader(name)
    lines = re.split(r"\r\n|\n|\r", text)
    reader.lines(lines)
    return reader.whole(len(lines))


def _unread(path: Path, code: str, message: str) -> DocumentError:
    return DocumentError((Diagnostic(Severity.ERROR, code, message, str(path), 1, 1),))


def _starts(line: str) -> Iterator[int]:
    """Yield the columns, from 1, at which the cells of a line of CSV begin."""
    quoted = False
    yield 1
    for at, char in enumerate(line, start=1):
        if char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            yield at + 1
