"""The plan of a batch: what a dry run of the typical donor comes to when it begins at a moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from recipes.model import Recipe, walk
from recipes.steps import Incubate
from simulators.physics.parameters import Setting
from tilctl.cli.dryrun.course import Did, visits
from tilctl.cli.dryrun.walk import dry_run
from tilctl.cli.planning.materials import Materials, materials
from tilctl.cli.planning.suggestions import Suggestion, judged, suggestions
from tilctl.cli.planning.timeline import DAY_S, Timeline, Visit, timeline
from tilctl.config.working import Working, day_names

SEED = 1  # of people and noise: a plan is the same each time
ESTIMATE = (
    "An estimate: a dry run of the typical donor on a simulated plant whose model is not calibrated, with people who "
    "take their usual time. Real cells and people differ."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a laboratory needs to know before it starts a batch.

    `ended`, `reason`: how the dry run ended.  `given`: the parameters that are not the recipe's defaults.  `own`: what
    lies outside working time for this start; `suggested` is empty unless it was asked for.
    """

    recipe: Recipe
    given: Mapping[str, str]
    zone: str
    working: Working
    ended: str
    reason: str
    exceptions: tuple[str, ...]
    timeline: Timeline
    materials: Materials
    own: Suggestion
    suggested: tuple[Suggestion, ...] | None

    @property
    def complete(self) -> bool:
        """Return whether the batch would come to its end."""
        return self.ended == "complete"

    @property
    def days(self) -> float:
        """Return how long it lasts (d of 24 h)."""
        return (self.timeline.end - self.timeline.start).total_seconds() / DAY_S

    def local(self, moment: datetime) -> datetime:
        """Return a moment by the clocks of the laboratory."""
        return moment.astimezone(self.working.zone)


def make_plan(
    recipe: Recipe,
    given: Mapping[str, str],
    start: datetime,
    zone: str,
    working: Working,
    folders: Sequence[Path] = (),
    *,
    suggest: bool = False,
) -> Plan:
    """Walk a checked recipe with checked parameters, and lay it out from a moment on.

    `zone` is the name of the zone of `working`; `folders`: where freezing profiles are looked for before the library.
    """
    course = dry_run(recipe, SEED, given, Setting(), folders, start, working)
    work = visits(course.people)

    def begun(moment: datetime) -> list[list[Did]]:
        """Return the visits of a batch that begins at a moment: where it waits for working time, they move with it."""
        if not any(
            isinstance(step, Incubate) and step.staffed for op in recipe.procedure for _, step in walk(op.steps, "")
        ):
            return work
        return visits(dry_run(recipe, SEED, given, Setting(), folders, moment, working).people)

    return Plan(
        recipe, given, zone, working, course.ended, course.reason, tuple(course.exceptions),
        timeline(recipe, course, start, working),
        materials(recipe, course, start),
        judged(work, start, working),
        tuple(suggestions(begun, start, working)) if suggest else None,
    )  # fmt: skip


def as_data(plan: Plan) -> dict[str, Any]:
    """Return the plan for machines: moments in local time with their distance from UTC, times in s, volumes in mL."""
    line, working = plan.timeline, plan.working
    return {
        "recipe": plan.recipe.recipe,
        "version": plan.recipe.version,
        "start": _moment(plan, line.start),
        "end": _moment(plan, line.end),
        "zone": plan.zone,
        "days": round(plan.days, 4),
        "ended": plan.ended,
        "reason": plan.reason,
        "estimate": ESTIMATE,
        "parameters": dict(plan.given),
        "working": {
            "hours": f"{working.begin:%H:%M}-{working.end:%H:%M}",
            "weekdays": day_names(working.weekdays),
            "holidays": [day.isoformat() for day in sorted(working.holidays)],
        },
        "operations": [
            {
                "operation": each.id, "title": each.title, "begin": _moment(plan, each.begin),
                "end": _moment(plan, each.end), "day_begin": _day(each.day_begin), "day_end": _day(each.day_end),
            }
            for each in line.operations
        ],
        "marks": [{"mark": name, "at": _moment(plan, moment)} for name, moment in line.marks],
        "forecasts": [
            {
                "estimate": each.estimate, "for": _moment(plan, each.end), "needed_by": _moment(plan, each.due),
                "known_from": None if each.known is None else _moment(plan, each.known),
            }
            for each in line.outlooks
        ],
        "visits": [_visit(plan, each) for each in line.visits],
        "materials": _materials(plan.materials),
        "totals": [_rounded(asdict(each)) for each in plan.materials.totals],
        "samples": [
            {
                "step": each.path, "at": _moment(plan, each.moment), "container": each.container,
                "volume_ml": round(each.volume_ml, 2), "results": list(each.results),
            }
            for each in plan.materials.samples
        ],
        "exceptions": list(plan.exceptions),
        "outside": _suggestion(plan, plan.own),
        "suggestions": [_suggestion(plan, each) for each in plan.suggested or ()],
    }  # fmt: skip


def _visit(plan: Plan, visit: Visit) -> dict[str, Any]:
    return {
        "visit": visit.number, "begin": _moment(plan, visit.begin), "end": _moment(plan, visit.end),
        "day": _day(visit.day), "busy_s": visit.busy_s, "outside_s": visit.outside.seconds,
        "outside": sorted(visit.outside.why), "signs": list(visit.signs),
        "steps": [
            {
                "step": each.path, "verb": each.verb, "by": each.who, "words": each.words, "signs": list(each.signs),
                "begin": _moment(plan, each.begin), "end": _moment(plan, each.end),
            }
            for each in visit.steps
        ],
        "windows": [
            {
                "after": each.after, "window": each.window, "earliest": _moment(plan, each.earliest),
                "latest": _moment(plan, each.latest),
            }
            for each in visit.windows
        ],
    }  # fmt: skip


def _materials(found: Materials) -> list[dict[str, Any]]:
    """Return all containers with the same keys; what a kind has not is null."""
    none = dict.fromkeys(("holds", "allowed", "moved_ml", "needed_ml", "most_ml", "stated_ml"))
    empty = [("vessel", each) for each in found.vessels] + [("empty bag", each) for each in found.empty_bags]
    rows = [
        {
            "kind": kind, "class": each.class_, "containers": list(each.containers), "count": each.count,
            "limit_ml": each.limit_ml, **none,
        }
        for kind, each in empty
    ]  # fmt: skip
    for each in found.contents:
        own = _rounded({key: value for key, value in asdict(each).items() if key in none})
        rows.append({
            "kind": "bag", "class": None, "containers": [each.container], "count": each.count,
            "limit_ml": each.limit_ml, **own,
        })  # fmt: skip
    return rows


def _suggestion(plan: Plan, each: Suggestion) -> dict[str, Any]:
    return {
        "start": _moment(plan, each.start), "visits_outside": len(each.left), "outside_s": each.outside_s,
        "left": [
            {
                "visit": left.visit, "begin": _moment(plan, left.begin), "outside_s": left.outside.seconds,
                "outside": sorted(left.outside.why),
            }
            for left in each.left
        ],
    }  # fmt: skip


def _moment(plan: Plan, moment: datetime) -> str:
    return plan.local(moment).isoformat(timespec="seconds")


def _day(day: float | None) -> float | None:
    return None if day is None else round(day, 4)


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()}
