"""A file of laboratory results: rows read and matched with what is asked; all that is wrong is told, with its place.

Pure.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tilctl.engine.prompts import BadAnswer, check_inputs

COLUMNS = ("step", "result", "value", "unit", "time", "analyst")
MOST_BYTES = 1_000_000
MOST_ROWS = 1000
"""Of one file (engineering default): what a laboratory reports on one batch is a few dozen."""
MOST_TEXT = 200  # characters of one field


@dataclass(frozen=True, slots=True)
class Row:
    """One result, at a line of its file."""

    line: int
    step: str
    result: str
    value: str
    unit: str
    time: str
    analyst: str

    @property
    def mark(self) -> str:
        """Return what a row is known by on the record: its content."""
        fields = (self.step, self.result, self.value, self.unit, self.time, self.analyst)
        return hashlib.sha256("\x1f".join(fields).encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for results: a prompt of a batch, which may be closed already."""

    batch: str
    closed: bool
    spec: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Return the id of the prompt."""
        return str(self.spec["id"])

    @property
    def inputs(self) -> Mapping[str, Mapping[str, Any]]:
        """Return what it asks for."""
        return self.spec.get("inputs") or {}

    def is_about(self, step: str) -> bool:
        """Return whether a step of a file means this: a prompt's id, a path, or the last id of one."""
        path = str(self.spec.get("path"))
        return step in (self.id, path, path.rpartition("/")[2])


@dataclass
class Answer:
    """One answer to one question."""

    question: Question
    rows: list[Row] = field(default_factory=list[Row])
    inputs: dict[str, Any] = field(default_factory=dict[str, Any])

    def take(self, row: Row) -> None:
        """Take in a row; raises BadAnswer."""
        if row.result in self.inputs:
            raise BadAnswer("result: given twice for the same question")
        self.inputs[row.result] = _value(row, self.question.inputs[row.result])
        self.rows.append(row)

    @property
    def reported(self) -> dict[str, dict[str, str]]:
        """Return who found what when, for the record."""
        return {row.result: {"time": row.time, "analyst": row.analyst, "row": row.mark} for row in self.rows}


def read(data: bytes, name: str) -> tuple[list[Row], list[str]]:
    """Return the rows of a file, and what is wrong with it: `FILE:LINE: COLUMN: ...`."""
    if len(data) > MOST_BYTES:
        return [], [f"{name}: {len(data)} bytes, at most {MOST_BYTES} are read: split the file"]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return [], [f"{name}: no UTF-8 at byte {error.start}: save the file as CSV UTF-8"]
    head = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=";" if head.count(";") > head.count(",") else ",")
    rows: list[Row] = []
    wrong: list[str] = []
    columns: list[str] | None = None
    try:
        for given in reader:
            line, cells = reader.line_num, [cell.strip() for cell in given]
            if not any(cells):
                continue
            if columns is None:
                columns = [cell.lower() for cell in cells]
                if wrong := _header(columns, f"{name}:{line}"):
                    return [], wrong
            elif len(cells) != len(columns):
                wrong.append(f"{name}:{line}: {len(cells)} fields, expected {len(columns)} ({', '.join(columns)})")
            elif len(rows) == MOST_ROWS:
                return [], [f"{name}:{line}: more than {MOST_ROWS} rows: split the file"]
            else:
                row = Row(line, **dict(zip(columns, cells, strict=True)))
                wrong += [f"{name}:{line}: {text}" for text in _itself(row)]
                rows.append(row)
    except csv.Error as error:
        return [], [f"{name}:{reader.line_num}: no CSV: {error}"]
    if not rows and not wrong:
        wrong.append(f"{name}:1: no rows; the first line names the columns: {','.join(COLUMNS)}")
    return rows, wrong


def _header(columns: list[str], where: str) -> list[str]:
    missing = [name for name in COLUMNS if name not in columns]
    unknown = [name for name in columns if name not in COLUMNS]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    told = [f"{what} {', '.join(names)}" for what, names in (("no", missing), ("unknown", unknown), ("twice", twice))
            if names]  # fmt: skip
    return [f"{where}: columns: {'; '.join(told)}; expected {','.join(COLUMNS)}"] if told else []


def _itself(row: Row) -> list[str]:
    """Return what is wrong with a row whatever is asked."""
    wrong = [f"{name}: is empty" for name in ("step", "result", "value", "analyst") if not getattr(row, name)]
    for name in COLUMNS:
        text = str(getattr(row, name))
        if len(text) > MOST_TEXT or not text.isprintable():
            wrong.append(f"{name}: a printable text of at most {MOST_TEXT} characters is expected")
    if not _is_moment(row.time):
        wrong.append(f"time: {row.time!r}: expected a moment with its zone, such as 2026-01-19T08:30:00Z")
    return wrong


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def left(rows: Sequence[Row], questions: Sequence[Question], known: Mapping[str, Sequence[str]]) -> list[Row]:
    """Return the rows that were not taken before; `known`: batch -> marks of those that were.

    Where a batch asks for a row it counts what this batch has taken; a row that nobody asks for may be of any.
    """
    found: list[Row] = []
    for row in rows:
        asking = [each.batch for each in questions if each.is_about(row.step) and row.result in each.inputs]
        if not any(row.mark in known.get(batch, ()) for batch in asking or known):
            found.append(row)
    return found


def match(rows: Sequence[Row], questions: Sequence[Question], name: str) -> tuple[list[Answer], list[str]]:
    """Return the answers that the rows are, and what is wrong with them: one bad row leaves no answer out unsaid."""
    answers: dict[tuple[str, str], Answer] = {}
    wrong: list[str] = []
    for row in rows:
        try:
            question = _question(row, questions)
            answers.setdefault((question.batch, question.id), Answer(question)).take(row)
        except BadAnswer as error:
            wrong.append(f"{name}:{row.line}: {error}")
    for answer in answers.values():
        asked = {name for name, spec in answer.question.inputs.items() if not spec.get("optional")}
        told = {row.result for row in rows if answer.question.is_about(row.step)}  # a bad one is told already
        if answer.rows and (missing := sorted(asked - answer.inputs.keys() - told)):
            text = f"{answer.question.id} asks for {', '.join(missing)} as well, and is answered once"
            wrong.append(f"{name}:{answer.rows[0].line}: result: {text} (`pending`, where that is a choice)")
    return list(answers.values()), wrong


def _question(row: Row, questions: Sequence[Question]) -> Question:
    about = [question for question in questions if question.is_about(row.step)]
    if not about:
        known = ", ".join(f"{each.id} ({each.spec.get('path')})" for each in questions) or "nothing"
        raise BadAnswer(f"step: nothing is awaited from '{row.step}'; awaited: {known}")
    asking = [question for question in about if row.result in question.inputs]
    if not asking:
        known = ", ".join(name for question in about for name in question.inputs)
        raise BadAnswer(f"result: '{row.result}' is not asked for; asked: {known}")
    if len(asking) > 1:
        ids = ", ".join(f"{each.id} of {each.batch}" for each in asking)
        raise BadAnswer(f"step: '{row.step}' is asked for by {ids}: write the prompt's id, or name the batch (--batch)")
    return asking[0]


def _value(row: Row, spec: Mapping[str, Any]) -> Any:
    """Return the value as it is sent, known to fit; raises BadAnswer."""
    wanted = str(spec.get("unit") or spec.get("canonical") or "")
    number = spec.get("type") == "number"
    if number and wanted and not row.unit:
        raise BadAnswer(f"unit: is empty; the question is in {wanted}")
    if row.unit and not (number and wanted):
        raise BadAnswer(f"unit: {row.unit!r}: this result has none")
    value = f"{row.value} {row.unit}".strip()
    try:
        check_inputs({row.result: spec}, {row.result: value})
    except BadAnswer as error:
        raise BadAnswer(f"value: {error}") from error
    return value
