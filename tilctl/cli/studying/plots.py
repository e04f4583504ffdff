"""The plot of a study as SVG: cells of each arm's lots, and the share that reached the floor.

Same data, same bytes: no date, fixed ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tilctl.cli.plots import COLOURS, drawing, literal
from tilctl.cli.studying.lot import Lot
from tilctl.cli.studying.model import Study
from tilctl.cli.studying.report import STANDING, ArmFigures

LEAST = 1e5  # cells; a lot that was given up is drawn here


def cells(path: Path, study: Study, arms: Sequence[ArmFigures], lots: Mapping[str, Sequence[Lot]]) -> None:
    """Draw how the lots of each arm are distributed, and the share over the floor; raises OSError."""
    with drawing(path, 6.5) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(3, 1.2))
        figure.suptitle(f"{literal(study.title)}\n{STANDING.partition(':')[0]}")
        for index, arm in enumerate(arms):
            colour = COLOURS[index % len(COLOURS)]
            own = sorted(max(LEAST, lot.cells) for lot in lots[arm.name])
            left.step(
                own, [(i + 1) / len(own) for i in range(len(own))], where="post", color=colour, label=literal(arm.name)
            )
            low, high = arm.reached_in
            middle = arm.reached / arm.donors
            error = [[middle - low], [high - middle]]
            style: dict[str, Any] = {"fmt": "o", "color": colour, "capsize": 4.0}
            right.errorbar([index], [middle], yerr=error, **style)
        left.axvline(study.floor_cells, color="#666666", linestyle=":", linewidth=0.8)
        left.set_xscale("log")
        left.set_xlabel("viable cells at the last count")
        left.set_ylabel("share of donors with at most so many")
        left.legend(loc="upper left")
        right.set_xticks(range(len(arms)), [literal(arm.name) for arm in arms], rotation=30, ha="right")
        right.set_ylim(0.0, 1.02)
        right.set_ylabel(f"share over {study.floor}, with 95 % interval")
