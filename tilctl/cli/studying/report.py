"""What a study came to: for a person, for a program (`--json`), and as files (CSV, SVG)."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean, median
from typing import Any, TextIO

from tilctl.cli.studying.figures import Interval, Spread, bootstrap, median_day, share, spread
from tilctl.cli.studying.lot import Lot
from tilctl.cli.studying.model import Study

STANDING = "simulated, uncalibrated: a comparison of models, not of treatments; see `tilctl study run --help`"
ML = 1000.0


@dataclass(frozen=True, slots=True)
class Against:
    """Cells of an arm over those of the first, donor by donor: the median, its interval, and of how many donors.

    A donor without cells in either says nothing and is left out.  One without cells in the first alone counts as
    infinitely better, not as missing: to leave those out would flatter a first arm that gives the hard ones up.
    """

    ratio: float
    within: Interval
    donors: int


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """The figures of one arm; `against` compares its cells with the first arm's (None for that one)."""

    name: str
    donors: int
    reached: int
    reached_in: Interval
    median_day: float | None
    cells: Spread
    median_cells_in: Interval
    viability: Spread
    medium_l: float
    visits: float
    touches: float
    exceptions: float
    alarms: float
    ended: Mapping[str, int]
    against: Against | None


def figures(study: Study, lots: Mapping[str, Sequence[Lot]], seed: int) -> list[ArmFigures]:
    """Return the figures of each arm, in the order of the study."""
    first = lots[study.compared[0].name]
    return [_arm(name, own, first, study.floor_cells, seed) for name, own in lots.items()]


def _arm(name: str, lots: Sequence[Lot], first: Sequence[Lot], floor: float, seed: int) -> ArmFigures:
    cells = [lot.cells for lot in lots]
    reached = sum(value >= floor for value in cells)
    pairs = [(own.cells, other.cells) for own, other in zip(lots, first, strict=True) if own.cells or other.cells]
    ratios = [own / other if other else math.inf for own, other in pairs]
    ended: dict[str, int] = {}
    for lot in lots:
        ended[lot.ended] = ended.get(lot.ended, 0) + 1
    return ArmFigures(
        name, len(lots), reached, share(reached, len(lots)),
        median_day([lot.day for lot in lots]),
        spread(cells), bootstrap(cells, median, seed), spread([lot.viability for lot in lots]),
        mean(lot.medium_ml for lot in lots) / ML,
        mean(lot.visits for lot in lots), mean(lot.touches for lot in lots), mean(lot.exceptions for lot in lots),
        mean(lot.alarms for lot in lots),
        dict(sorted(ended.items())),
        None if lots is first or not ratios else Against(median(ratios), bootstrap(ratios, median, seed), len(ratios)),
    )  # fmt: skip


def as_data(study: Study, arms: Sequence[ArmFigures], seed: int, wall_s: float) -> dict[str, Any]:
    """Return a study as JSON-able values; shares are 0 to 1, intervals hold with 95 % confidence."""
    return {
        "study": study.study,
        "standing": STANDING,
        "floor_cells": study.floor_cells,
        "seed": seed,
        "arms": [
            {
                "name": arm.name,
                "donors": arm.donors,
                "reached_floor": round(arm.reached / arm.donors, 4),
                "reached_floor_in": [round(edge, 4) for edge in arm.reached_in],
                "median_day": None if arm.median_day is None else round(arm.median_day, 3),
                "cells": asdict(arm.cells),
                "median_cells_in": list(arm.median_cells_in),
                "viability": asdict(arm.viability),
                "medium_l": round(arm.medium_l, 4),
                "visits": round(arm.visits, 3),
                "touches": round(arm.touches, 3),
                "exceptions": round(arm.exceptions, 3),
                "alarms": round(arm.alarms, 3),
                "ended": dict(arm.ended),
                "cells_against_first": None if arm.against is None else _finite(arm.against),
                "against_donors": 0 if arm.against is None else arm.against.donors,
            }
            for arm in arms
        ],
        "wall_seconds": round(wall_s, 2),
    }


def tell(study: Study, arms: Sequence[ArmFigures], wall_s: float, stream: TextIO) -> None:
    """Tell a person, as a table with a row for each figure."""
    rows: list[tuple[str, list[str]]] = [
        ("donors", [str(arm.donors) for arm in arms]),
        (
            f"reached {study.floor}",
            [f"{_percent(a.reached / a.donors)} ({_range(a.reached_in, _percent)})" for a in arms],
        ),
        ("median day of holding it", ["never" if a.median_day is None else f"{a.median_day:.1f}" for a in arms]),
        ("cells, 10 %", [f"{arm.cells.p10:.2e}" for arm in arms]),
        ("cells, median", [f"{a.cells.p50:.2e} ({_range(a.median_cells_in, _cells)})" for a in arms]),
        ("cells, 90 %", [f"{arm.cells.p90:.2e}" for arm in arms]),
        ("against the first", ["-" if a.against is None else _against(a.against) for a in arms]),
        ("viability, median", [f"{arm.viability.p50:.0f} %" for arm in arms]),
        ("medium", [f"{arm.medium_l:.2f} L" for arm in arms]),
        ("visits", [f"{arm.visits:.1f}" for arm in arms]),
        ("touches", [f"{arm.touches:.1f}" for arm in arms]),
        ("exceptions", [f"{arm.exceptions:.2f}" for arm in arms]),
        ("alarms", [f"{arm.alarms:.2f}" for arm in arms]),
        ("ended", [", ".join(f"{number} {how}" for how, number in arm.ended.items()) for arm in arms]),
    ]
    print(f"{study.study}: {study.title}", file=stream)
    rows.insert(0, ("", [arm.name for arm in arms]))
    widths = [max(len(row[index]) for _, row in rows) for index in range(len(arms))]
    for name, cells in rows:
        told = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        print(f"{name:<22}{told}", file=stream)
    print(
        f"\n{arms[0].donors} donors, each in every arm, in {wall_s:.0f} s; intervals hold with 95 % confidence",
        file=stream,
    )
    print(STANDING, file=stream)


def write_csv(path: Path, lots: Mapping[str, Sequence[Lot]]) -> None:
    """Write a row for each donor and arm; raises OSError."""
    names = [each.name for each in fields(Lot)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["arm", *names])
        for arm, own in lots.items():
            writer.writerows([arm, *(getattr(lot, name) for name in names)] for lot in own)


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _cells(value: float) -> str:
    return f"{value:.2e}"


def _range(interval: Interval, shown: Any) -> str:
    return f"{shown(interval[0])} to {shown(interval[1])}"


def _against(against: Against) -> str:
    low, high = against.within
    return f"x{against.ratio:.2f} ({low:.2f} to {high:.2f}) of {against.donors}"


def _finite(against: Against) -> list[float | None]:
    """Return ratio and interval, None for what JSON cannot say: infinite, or unknown of one donor."""
    return [each if math.isfinite(each) else None for each in (against.ratio, *against.within)]
