"""A master batch record as one HTML file that asks for nothing else, to be read on a screen and printed on A4."""

from __future__ import annotations

from collections.abc import Iterator

from recipes.master import READING, Line, MasterRecord, Part
from tilctl.cli.html_page import facts, head, heading, page, paragraph, said, table


def html(record: MasterRecord) -> str:
    """Return the whole document, ending with a line break."""
    tables = "".join(table(each) for each in record.before)
    parts = "".join(_part(part) for part in record.parts)
    after = "".join(table(each) for each in record.after)
    return page(record.title, f"{facts(record.facts)}{paragraph(READING)}{tables}{parts}{after}")


def _part(part: Part) -> str:
    rows = "".join(f"{row}\n" for line in part.lines for row in _line(line))
    columns = head(("no.", "step", "by", "done by / date"))
    return f"{heading(part.title, part.note)}<table>\n{columns}<tbody>\n{rows}</tbody>\n</table>\n"


def _line(line: Line) -> Iterator[str]:
    number = f'<td class="number">{line.number}</td>'
    if line.step is None:
        yield f'<tr class="branch">{number}<td colspan="3">{said(line.sentence)}</td></tr>'
        return
    items = "".join(f"<li>{said(name)}: {said(text)}</li>" for name, text in line.details)
    beside = f"<ul>{items}</ul>" if items else ""
    step = f'<td><span class="id">{said(line.id)}</span>: {said(line.sentence)}{beside}</td>'
    signs = "".join(f'<div class="sign">{said(role)}:</div>' for role in line.signatures)
    yield f'<tr>{number}{step}<td class="by">{said(line.who)}</td><td class="done">{signs}</td></tr>'
