"""A plan as one HTML file with its chart in it, to be read on a screen and printed on A4."""

from __future__ import annotations

from tilctl.cli import html_page
from tilctl.cli.planning.chart import inline
from tilctl.cli.planning.plan import Plan
from tilctl.cli.planning.tables import facts, tables


def html(plan: Plan, chart: str) -> str:
    """Return the whole document; `chart` is the SVG file."""
    figure = f"<figure>\n{inline(chart)}</figure>\n"
    return html_page.page(
        f"Plan: {plan.recipe.title}",
        html_page.facts(facts(plan)) + figure + "".join(html_page.table(each) for each in tables(plan)),
    )
