"""A master batch record as Markdown that reads well as plain text too."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from recipes.master import READING, Line, MasterRecord, Part, Table
from tilctl.cli.plain import one_line

# What begins markup, and only where it does: `feeder_count`, `2 * x` and `pre[1]` are to be read as they are.
_MARKUP = re.compile(
    r"[`~]|\\(?=[^\w\s])|(?<![^\W_])_|_(?![^\W_])|\*(?! )|(?<! )\*|<(?=[A-Za-z/!?])|&(?=#?\w+;)|\](?=[(\[:])|\|"
)


def markdown(record: MasterRecord) -> str:
    """Return the whole document, ending with a line break."""
    blocks = [f"# {_said(record.title)}", _table(Table("", ("", ""), record.facts)), _said(READING)]
    blocks += [block for table in record.before for block in _titled(table)]
    blocks += [block for part in record.parts for block in _part(part)]
    blocks += [block for table in record.after for block in _titled(table)]
    return "\n\n".join(blocks) + "\n"


def _titled(table: Table) -> Iterator[str]:
    yield f"## {_said(table.title)}"
    if table.note:
        yield _said(table.note)
    yield _table(table)


def _table(table: Table) -> str:
    rows = [_row(table.columns), "|" + "---|" * len(table.columns), *(_row(row) for row in table.rows)]
    return "\n".join(rows)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_said(cell) for cell in cells) + " |"


def _part(part: Part) -> Iterator[str]:
    yield f"## {_said(part.title)}"
    if part.note:
        yield _said(part.note)
    for line in part.lines:
        yield _line(line)


def _line(line: Line) -> str:
    if line.step is None:
        return f"**{line.number}** {_said(line.sentence)}"
    beside = "".join(f"\n- {_said(name)}: {_said(text)}" for name, text in line.details)
    return f"**{line.number}** {_said(line.id)} ({line.who}): {_said(line.sentence)}" + ("\n" + beside) * bool(beside)


def _said(text: str) -> str:
    return _MARKUP.sub(lambda found: f"\\{found[0]}", one_line(text))
