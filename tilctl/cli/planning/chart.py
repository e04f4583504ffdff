"""A plan as a chart: operations as bars, visits as marks, working time shaded.  Same plan, same bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

from tilctl.cli.planning.plan import Plan
from tilctl.cli.planning.timeline import DAY_S
from tilctl.cli.plots import COLOURS, WARNING, Axes, drawing
from tilctl.config.moments import WEEKDAYS

MOST_TICKS = 24
MOST_NUMBERS = 40  # of visits: more of them cannot be read
SHORT = timedelta(days=2)  # a plan that is not longer has hours on its axis
LEAST_WIDTH = 0.002  # of the axis: a shorter operation could not be seen
_WITHIN = (COLOURS[0], "o", "visit in working time")
_OUTSIDE = (COLOURS[1], "^", "visit outside it, wholly or in part")


def svg(plan: Plan) -> str:
    """Return the chart as the text of an SVG file."""
    line = plan.timeline
    names = [each.id for each in line.operations]
    length = max((line.end - line.start).total_seconds() / DAY_S, 1e-3)
    file = BytesIO()
    with drawing(file, 2.6 + 0.32 * len(names)) as figure:
        axis = figure.subplots()
        figure.suptitle(f"{plan.recipe.recipe} {plan.recipe.version}, {plan.ended}\n{WARNING}", parse_math=False)
        for number, (begin, end) in enumerate(plan.working.spans(line.start, line.end)):
            left, right = max(0.0, _x(plan, begin)), min(length, _x(plan, end))
            label = None if number else "working time"
            axis.axvspan(left, right, color="#eeeeee", linewidth=0.0, zorder=0, label=label)
        for row, each in enumerate(line.operations):
            width = max(LEAST_WIDTH * length, _x(plan, each.end) - _x(plan, each.begin))
            axis.barh(row, width, left=_x(plan, each.begin), height=0.6, color=COLOURS[5])
        _visits(axis, plan, len(names))
        _marks(axis, plan, 0.09 * length)
        axis.set_yticks(range(len(names) + 1), [*names, "visits"])
        axis.set_ylim(len(names) + 0.8, -0.6)
        axis.set_xlim(-0.01 * length, 1.01 * length)
        ticks = list(_ticks(plan))
        axis.set_xticks([_x(plan, moment) for moment, _ in ticks], [text for _, text in ticks], rotation=90, fontsize=8)
        axis.set_xlabel(f"local time, {plan.zone}")
        axis.grid(visible=False, axis="y")
        figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return file.getvalue().decode()


def inline(text: str) -> str:
    """Return an SVG file as a part of a page: without what is before the drawing, and what points elsewhere."""
    before, _, after = text[text.index("<svg") :].partition("<metadata>")
    return before + after.partition("</metadata>")[2].lstrip()


def _visits(axis: Axes, plan: Plan, row: int) -> None:
    rooms = [window for visit in plan.timeline.visits for window in visit.windows]
    for number, window in enumerate(rooms):
        left, right = _x(plan, window.earliest), _x(plan, window.latest)
        label = None if number else "room that a window leaves"
        axis.plot([left, right], [row, row], color=COLOURS[4], linewidth=5.0, alpha=0.5, zorder=1, label=label)
    for visit in plan.timeline.visits:
        colour = (_OUTSIDE if visit.outside.why else _WITHIN)[0]
        axis.plot([_x(plan, visit.begin), _x(plan, visit.end)], [row, row], color=colour, linewidth=2.0, zorder=2)
    for outside, (colour, marker, label) in ((False, _WITHIN), (True, _OUTSIDE)):
        own = [visit for visit in plan.timeline.visits if bool(visit.outside.why) is outside]
        if own:
            style = {"color": colour, "marker": marker, "linestyle": "none", "markersize": 5.0}
            axis.plot([_x(plan, visit.begin) for visit in own], [row] * len(own), **style, zorder=3, label=label)
    for visit in plan.timeline.visits[:MOST_NUMBERS]:
        below = visit.number % 2 == 0  # two of one day stand over each other
        place: dict[str, Any] = {"xytext": (0, -5 if below else 5), "va": "top" if below else "bottom"}
        place |= {"textcoords": "offset points", "ha": "center", "fontsize": 7.0}
        axis.annotate(str(visit.number), (_x(plan, visit.begin), row), **place)


def _marks(axis: Axes, plan: Plan, apart: float) -> None:
    """Name the marks above the drawing; the names of those that are not so far apart stand over each other."""
    tags: list[tuple[float, list[str]]] = []
    for name, moment in plan.timeline.marks:
        day = _x(plan, moment)
        axis.axvline(day, color="#666666", linewidth=0.8, linestyle=":")
        if not tags or day - tags[-1][0] > apart:
            tags.append((day, []))
        tags[-1][1].append(name)
    top = axis.secondary_xaxis("top")
    style: dict[str, Any] = {"fontsize": 8, "color": "#444444"}
    top.set_xticks([day for day, _ in tags], ["\n".join(names) for _, names in tags], **style)


def _x(plan: Plan, moment: datetime) -> float:
    """Return how many days of 24 h after the start a moment is."""
    return (moment - plan.timeline.start).total_seconds() / DAY_S


def _ticks(plan: Plan) -> Iterator[tuple[datetime, str]]:
    """Yield the moments on the axis: local midnights, of a short plan local hours."""
    begin, end = plan.timeline.start, plan.timeline.end
    if end - begin <= SHORT:
        step = timedelta(hours=max(1, math.ceil((end - begin) / timedelta(hours=MOST_TICKS))))
        moment = begin - timedelta(minutes=begin.minute, seconds=begin.second)
        while moment <= end:
            if moment >= begin:
                yield moment, f"{plan.local(moment):%H:%M}"
            moment += step
        return
    each = math.ceil((end - begin).days / MOST_TICKS)
    for number, midnight in enumerate(plan.working.midnights(begin, end)):
        if number % each == 0:
            day = plan.local(midnight)
            yield midnight, f"{WEEKDAYS[day.weekday()].title()} {day.month:02}-{day.day:02}"
