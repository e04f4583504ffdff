"""One donor's lot in one arm of a study, by a dry run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from recipes.model import Recipe
from simulators.physics.parameters import Setting
from tilctl.cli.dryrun.course import Course, visits
from tilctl.cli.dryrun.walk import dry_run

DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Lot:
    """What a donor's lot came to.

    `cells`: viable cells at the last count, in truth; 0 where the lot was given up before.  `day`: on which the culture
    first held the floor, from the first mark on; None where it never did.  `medium_ml`: what flowed out of bags that
    hold something into vessels.
    """

    seed: int
    ended: str
    reason: str
    cells: float
    viability: float
    day: float | None
    days: float
    medium_ml: float
    visits: int
    touches: int
    exceptions: int
    alarms: int  # of the recipe's guards and clocks


def expand(recipe: Recipe, seed: int, parameters: Mapping[str, str], floor: float, setting: Setting) -> Lot:
    """Walk a recipe for a donor and measure the lot."""
    course = dry_run(recipe, seed, parameters, setting)
    done = course.ended == "complete"
    return Lot(
        seed, course.ended, course.reason,
        cells=course.counts[-1].true if done and course.counts else 0.0,
        viability=_viability(course) if done else 0.0,
        day=_reached(course, floor),
        days=course.seconds / DAY_S,
        medium_ml=_medium(recipe, course),
        visits=len(visits(course.people)),
        touches=len(course.people),
        exceptions=len(course.exceptions),
        alarms=len(course.alarms),
    )  # fmt: skip


def _reached(course: Course, floor: float) -> float | None:
    """Return the day on which all vessels and bags together first held so many viable cells, by the hour."""
    first = min(course.marks.values(), default=0.0)
    total: dict[float, float] = {}
    for row in course.plant.trace.rows if course.plant is not None else ():
        total[row.t] = total.get(row.t, 0.0) + row.viable
    return next(((t - first) / DAY_S for t, cells in sorted(total.items()) if cells >= floor), None)


def _viability(course: Course) -> float:
    """Return the viability (%) of what holds most cells at the end of the trace, in truth."""
    last = course.counts[-1].t if course.counts else 0.0
    rows = [row for row in (course.plant.trace.rows if course.plant is not None else ()) if row.t <= last]
    fullest = max((row for row in rows if row.t == rows[-1].t), key=lambda row: row.viable, default=None)
    return 0.0 if fullest is None or fullest.viability is None else fullest.viability


def _medium(recipe: Recipe, course: Course) -> float:
    def counts(source: str, destination: str) -> bool:
        from_, to = recipe.containers[source], recipe.containers[destination]
        return from_.kind == "bag" and from_.holds is not None and to.kind == "vessel"

    return sum(moved for way, moved in course.moved_ml.items() if counts(*way))
