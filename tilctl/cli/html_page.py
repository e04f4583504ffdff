"""HTML pages that ask for nothing else, to be read on a screen and printed on A4."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from recipes.master import Table
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
figure { margin: 1em 0; break-inside: avoid; } svg { max-width: 100%; height: auto; }
ul { margin: .3em 0 0; padding-left: 1.2em; font-size: .9em; } .sign { padding-bottom: 1.6em; font-size: .9em; }
@page { size: A4; margin: 15mm 12mm; }
@media print { :root { color-scheme: light; } body { max-width: none; margin: 0; padding: 0; font-size: 9pt; } }
""".strip()


def page(title: str, body: str) -> str:
    """Return a whole document, ending with a line break; `body` is HTML, the title is text."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{said(title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n<h1>{said(title)}</h1>\n"
        f"{body}</body>\n</html>\n"
    )


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return a table of names and what they are."""
    inner = "".join(f"<tr><th>{said(name)}</th><td>{said(text)}</td></tr>\n" for name, text in rows)
    return f"<table>\n<tbody>\n{inner}</tbody>\n</table>\n"


def table(content: Table) -> str:
    """Return a table with its heading and note."""
    rows = "".join(f"{_row(row)}\n" for row in content.rows)
    return f"{heading(content.title, content.note)}<table>\n{head(content.columns)}<tbody>\n{rows}</tbody>\n</table>\n"


def heading(title: str, note: str) -> str:
    """Return a heading, and a paragraph where there is a note."""
    return f"<h2>{said(title)}</h2>\n" + (paragraph(note) if note else "")


def paragraph(text: str) -> str:
    """Return a paragraph of text."""
    return f"<p>{said(text)}</p>\n"


def head(columns: Sequence[str]) -> str:
    """Return the head of a table, which paper repeats on each page."""
    return f"<thead><tr>{''.join(f'<th>{said(column)}</th>' for column in columns)}</tr></thead>\n"


def said(text: str) -> str:
    """Return a text as one line of HTML, whatever it holds."""
    return escape(one_line(text))


def _row(cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<td>{said(cell)}</td>' for cell in cells)}</tr>"
