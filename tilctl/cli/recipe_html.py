"""A master batch record as one HTML file that asks for nothing else, to be read on a screen and printed on A4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from recipes.master import READING, Line, MasterRecord, Part, Table
from tilctl.cli.plain import one_line

# The reader's own colours, light or dark; on paper black on white.  Rows are not torn between two pages.
_STYLE = """
:root { color-scheme: light dark; }
body { font: 10pt/1.4 system-ui, sans-serif; overflow-wrap: anywhere; }
body { max-width: 190mm; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; } h2 { font-size: 1.2em; margin: 2em 0 .4em; break-after: avoid; }
table { border-collapse: collapse; width: 100%; margin: .5em 0; }
th, td { border: 1px solid GrayText; padding: .25em .5em; text-align: left; vertical-align: top; }
th { font-weight: 600; overflow-wrap: normal; } thead { display: table-header-group; } tr { break-inside: avoid; }
.number { white-space: nowrap; } .by { width: 6.5em; overflow-wrap: normal; } .done { width: 10em; }
.branch td { font-style: italic; } .id { font-family: ui-monospace, monospace; }
ul { margin: .3em 0 0; padding-left: 1.2em; font-size: .9em; } .sign { padding-bottom: 1.6em; font-size: .9em; }
@page { size: A4; margin: 15mm 12mm; }
@media print { :root { color-scheme: light; } body { max-width: none; margin: 0; padding: 0; font-size: 9pt; } }
""".strip()


def html(record: MasterRecord) -> str:
    """Return the whole document, ending with a line break."""
    title = _said(record.title)
    facts = "".join(f"<tr><th>{_said(name)}</th><td>{_said(text)}</td></tr>\n" for name, text in record.facts)
    tables = "".join(_table(table) for table in record.before)
    parts = "".join(_part(part) for part in record.parts)
    after = "".join(_table(table) for table in record.after)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{title}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        f"<table>\n<tbody>\n{facts}</tbody>\n</table>\n<p>{_said(READING)}</p>\n"
        f"{tables}{parts}{after}</body>\n</html>\n"
    )


def _table(table: Table) -> str:
    rows = "".join(f"{_row(row)}\n" for row in table.rows)
    return f"{_heading(table.title, table.note)}<table>\n{_head(table.columns)}<tbody>\n{rows}</tbody>\n</table>\n"


def _part(part: Part) -> str:
    rows = "".join(f"{row}\n" for line in part.lines for row in _line(line))
    head = _head(("no.", "step", "by", "done by / date"))
    return f"{_heading(part.title, part.note)}<table>\n{head}<tbody>\n{rows}</tbody>\n</table>\n"


def _heading(title: str, note: str) -> str:
    return f"<h2>{_said(title)}</h2>\n" + (f"<p>{_said(note)}</p>\n" if note else "")


def _head(columns: Sequence[str]) -> str:
    return f"<thead><tr>{''.join(f'<th>{_said(column)}</th>' for column in columns)}</tr></thead>\n"


def _row(cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<td>{_said(cell)}</td>' for cell in cells)}</tr>"


def _line(line: Line) -> Iterator[str]:
    number = f'<td class="number">{line.number}</td>'
    if line.step is None:
        yield f'<tr class="branch">{number}<td colspan="3">{_said(line.sentence)}</td></tr>'
        return
    items = "".join(f"<li>{_said(name)}: {_said(text)}</li>" for name, text in line.details)
    beside = f"<ul>{items}</ul>" if items else ""
    step = f'<td><span class="id">{_said(line.id)}</span>: {_said(line.sentence)}{beside}</td>'
    signs = "".join(f'<div class="sign">{_said(role)}:</div>' for role in line.signatures)
    yield f'<tr>{number}{step}<td class="by">{_said(line.who)}</td><td class="done">{signs}</td></tr>'


def _said(text: str) -> str:
    return escape(one_line(text))
