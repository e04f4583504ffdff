"""A plan as tables, for a terminal and for a page alike."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from recipes.master import Table
from recipes.words import listed
from tilctl.cli.planning.plan import ESTIMATE, Plan
from tilctl.cli.planning.suggestions import Suggestion
from tilctl.cli.planning.timeline import Window
from tilctl.config.moments import shown
from tilctl.config.working import Outside, day_names

_WHY = {"hours": "working hours", "weekday": "weekdays", "holiday": "a holiday"}
NO_DAY = "-"


def facts(plan: Plan) -> list[tuple[str, str]]:
    """Return what stands above the tables."""
    working, line = plan.working, plan.timeline
    holidays = ", ".join(day.isoformat() for day in sorted(working.holidays))
    rows = [
        ("Recipe", f"{plan.recipe.recipe} {plan.recipe.version}"),
        ("Standing", ESTIMATE),
        ("Ends as", plan.ended + (f": {plan.reason}" if plan.reason else "")),
        ("Parameters", ", ".join(f"{name} = {value}" for name, value in plan.given.items())),
        ("Time zone", plan.zone),
        ("Start", _moment(plan, line.start)),
        ("End", f"{_moment(plan, line.end)}, after {plan.days:.1f} d"),
        ("Working time", f"{working.begin:%H:%M} to {working.end:%H:%M}, {day_names(working.weekdays)}"),
        ("Holidays", holidays),
        ("Outside it", _left(plan.own)),
        *(("Exception", text) for text in plan.exceptions),
    ]
    return [(name, text) for name, text in rows if text]


def tables(plan: Plan) -> list[Table]:
    """Return the tables of a plan that have rows, in their order."""
    found = [_operations(plan), _visits(plan), _steps(plan), _outlooks(plan), *_materials(plan), _suggestions(plan)]
    return [table for table in found if table.rows]


def _operations(plan: Plan) -> Table:
    rows = [
        (
            _moment(plan, each.begin), _moment(plan, each.end), f"{_day(each.day_begin)} to {_day(each.day_end)}",
            f"{each.id}: {each.title}" if each.title else each.id,
        )
        for each in plan.timeline.operations
    ]  # fmt: skip
    note = "Days are biological: they count from the mark day0."
    return Table("Operations", ("begin", "end", "day", "operation"), tuple(rows), note)


def _visits(plan: Plan) -> Table:
    rows = [
        (
            str(each.number), _moment(plan, each.begin), _moment(plan, each.end), _day(each.day), hours(each.busy_s),
            _outside(each.outside), listed(each.signs), "; ".join(_window(plan, window) for window in each.windows),
        )
        for each in plan.timeline.visits
    ]  # fmt: skip
    note = (
        "Steps of people with less than two hours between them are one visit. Busy: people and laboratory together. "
        "Window: from when to when the visit may lie, so that the step before it ends within its window."
    )
    columns = ("visit", "begin", "end", "day", "busy", "outside", "sign", "window")
    return Table("Visits", columns, tuple(rows), note)


def _steps(plan: Plan) -> Table:
    rows = [
        (str(visit.number), _moment(plan, each.begin), hours(_took(each.begin, each.end)), each.path, each.words)
        for visit in plan.timeline.visits
        for each in visit.steps
    ]
    note = "A name with a dot is a value that is known by then, as in the batch record."
    return Table("What people do", ("visit", "begin", "takes", "step", "what"), tuple(rows), note)


def _outlooks(plan: Plan) -> Table:
    rows = [
        (
            each.estimate, _moment(plan, each.end), _moment(plan, each.due),
            "never" if each.known is None else _moment(plan, each.known),
        )
        for each in plan.timeline.outlooks
    ]  # fmt: skip
    note = "A forecast says days before whether the cells will reach their floor. It needs measurements by then."
    return Table("Forecasts", ("estimate", "for", "needed by", "known from"), tuple(rows), note)


def _materials(plan: Plan) -> Iterator[Table]:
    found = plan.materials
    rows = [
        (kind, each.class_, str(each.count), f"{each.limit_ml:g} mL", ", ".join(each.containers))
        for kind, group in (("vessel", found.vessels), ("empty bag", found.empty_bags))
        for each in group
    ]
    yield Table("Vessels and empty bags", ("kind", "class", "number", "limit of one", "containers"), tuple(rows))
    full = [
        (
            each.container, each.holds, str(each.count), each.allowed, _ml(each.needed_ml), _ml(each.most_ml),
            f"{each.limit_ml:g} mL" + ("" if each.fits else ": too little"),
            "to be entered" if each.stated_ml is None else _ml(each.stated_ml),
        )
        for each in found.contents
    ]  # fmt: skip
    note = (
        "Needed: what transfers and samples take out, with their tolerance; it says nothing of what tubing keeps. The "
        "recipe allows more bags where cells grow better. What only the text of a step names is not counted."
    )
    columns = ("bag", "holds", "number", "allowed", "needed", "from one bag", "limit of one", "the recipe states")
    yield Table("Bags with content", columns, tuple(full), note)
    totals = [(each.holds, str(each.count), _ml(each.needed_ml)) for each in found.totals]
    yield Table("Totals by content", ("content", "bags", "needed"), tuple(totals))
    drawn = [
        (_moment(plan, each.moment), each.path, each.container, _ml(each.volume_ml), ", ".join(each.results))
        for each in found.samples
    ]
    yield Table("Samples", ("drawn", "step", "from", "volume", "results"), tuple(drawn))


def _suggestions(plan: Plan) -> Table:
    rows = [(_moment(plan, each.start), _left(each), _visits_left(plan, each)) for each in plan.suggested or ()]
    note = f"The best within 14 days. The start that was asked for leaves {_left(plan.own)}."
    return Table("Best starts", ("start", "outside working time", "what stays outside"), tuple(rows), note)


def _visits_left(plan: Plan, each: Suggestion) -> str:
    return "; ".join(f"visit {left.visit}, {_moment(plan, left.begin)}: {_outside(left.outside)}" for left in each.left)


def _left(each: Suggestion) -> str:
    if not each.left:
        return "nothing"
    return f"{len(each.left)} visit{'' if len(each.left) == 1 else 's'}, {hours(each.outside_s)}"


def _outside(outside: Outside) -> str:
    if not outside.why:
        return ""
    return f"{hours(outside.seconds)}, {listed([_WHY[why] for why in sorted(outside.why)])}"


def _window(plan: Plan, window: Window) -> str:
    return f"{_moment(plan, window.earliest)} to {_moment(plan, window.latest)} ({window.window} of {window.after})"


def hours(seconds: float) -> str:
    """Return a time in h and min, such as `4 h 05 min`."""
    whole, minutes = divmod(round(seconds / 60.0), 60)
    return f"{whole} h {minutes:02} min" if whole else f"{minutes} min"


def _took(begin: datetime, end: datetime) -> float:
    return (end - begin).total_seconds()


def _moment(plan: Plan, moment: datetime) -> str:
    return shown(plan.local(moment))


def _day(day: float | None) -> str:
    return NO_DAY if day is None else f"{day:.1f}"


def _ml(volume: float) -> str:
    return f"{volume:.4g} mL" if volume < 1000.0 else f"{volume:.0f} mL"
