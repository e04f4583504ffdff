"""A plan on a terminal: facts, then tables as columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from recipes.master import Table
from tilctl.cli.plain import one_line
from tilctl.cli.planning.plan import Plan
from tilctl.cli.planning.tables import facts, tables


def text(plan: Plan) -> str:
    """Return the plan, ending with a line break."""
    rows = facts(plan)
    blocks = [one_line(plan.recipe.title), "\n".join(_columns([(f"{name}:", said) for name, said in rows]))]
    return "\n\n".join([*blocks, *("\n".join(_table(table)) for table in tables(plan))]) + "\n"


def _table(table: Table) -> Iterator[str]:
    yield table.title
    yield from _columns([table.columns, *table.rows])
    if table.note:
        yield f"({table.note})"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines; the last column is not filled up."""
    lines = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip_longest(*lines, fillvalue="")]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in lines]
