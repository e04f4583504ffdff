"""A sensitivity as a tornado: what each uncertain number, at either end of its range, makes of the usual lot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from simulators.physics.parameters import Setting
from tilctl.cli.plots import COLOURS, drawing, literal
from tilctl.cli.studying.model import USUAL, Study
from tilctl.cli.studying.report import STANDING, ArmFigures

SHOWN = 24  # bars that a page has room for
LEAST = 1.0  # cells; a lot that was given up counts as this


@dataclass(frozen=True, slots=True)
class Bar:
    """One number: the range it was moved in (in `unit`), and the median cells at its low and its high end."""

    name: str
    unit: str
    low: float
    high: float
    cells: tuple[float, float]

    @property
    def width(self) -> float:
        """Return by how many e-folds the cells differ between the two ends."""
        below, above = (math.log(max(LEAST, each)) for each in self.cells)
        return abs(above - below)


def bars(arms: Sequence[ArmFigures]) -> tuple[float, list[Bar]]:
    """Return the median cells of the usual lot, and a bar for each number, the widest first."""
    cells = {arm.name: arm.cells.p50 for arm in arms}
    found: list[Bar] = []
    for each in Setting().parameters:
        ends = (f"{each.name} {each.low:g}", f"{each.name} {each.high:g}")
        if all(end in cells for end in ends):
            found.append(Bar(each.name, each.unit, each.low, each.high, (cells[ends[0]], cells[ends[1]])))
    return cells[USUAL], sorted(found, key=lambda bar: -bar.width)


def tell(study: Study, arms: Sequence[ArmFigures], wall_s: float, stream: TextIO) -> None:
    """Tell a person, the number that decides most first."""
    usual, found = bars(arms)
    print(f"{study.study}: {study.title}", file=stream)
    print(f"usual: {usual:.2e} viable cells; at the low and the high end of each range:", file=stream)
    for bar in found:
        low, high = (value / usual if usual else math.nan for value in bar.cells)
        where = f"{bar.low:g} to {bar.high:g} {bar.unit}"
        print(f"{bar.name:<28}{where:<28}x{low:.2f}  x{high:.2f}", file=stream)
    print(
        f"\n{arms[0].donors} lots of the typical donor in each of {len(arms)} settings, in {wall_s:.0f} s", file=stream
    )
    print(STANDING, file=stream)


def draw(path: Path, study: Study, arms: Sequence[ArmFigures]) -> None:
    """Draw the tornado; raises OSError."""
    usual, found = bars(arms)
    shown = list(reversed(found[:SHOWN]))
    with drawing(path, 1.5 + 0.3 * len(shown)) as figure:
        axis = figure.subplots()
        figure.suptitle(f"{literal(study.title)}\n{STANDING.partition(':')[0]}")
        for index, bar in enumerate(shown):
            for value, colour in zip(bar.cells, COLOURS, strict=False):
                style: dict[str, Any] = {"color": colour, "height": 0.7, "left": usual}
                axis.barh([index], [max(LEAST, value) - usual], **style)
        axis.axvline(usual, color="#444444", linewidth=0.8)
        labels = [f"{bar.name}  {bar.low:g}..{bar.high:g} {bar.unit}" for bar in shown]
        axis.set_yticks(range(len(shown)), labels)
        axis.set_xlabel("median of viable cells at the last count; blue: low end of the range, orange: high end")
