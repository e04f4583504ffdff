"""`incubate`: leave the culture alone until a condition, in biological time."""

from __future__ import annotations

from datetime import datetime, timedelta

from recipes.expr import compile
from recipes.ranges import parse_range
from recipes.steps import Incubate
from recipes.windows import window_time
from tilctl.engine.context import Context
from tilctl.engine.missed import judge
from tilctl.engine.state import format_time, parse_time
from tilctl.engine.waiting import seconds_since, until_true
from tilctl.journal import events as ev

STAFFED = "staffed"  # the phase of a step that waits for working time, until when


async def run(context: Context, step: Incubate) -> None:
    """Wait; biological time counts while held and during an outage.  Ending outside the window is an exception."""
    condition = compile(step.until)
    await until_true(context, condition, None)
    late_s = seconds_since(context, condition)
    if step.staffed and (due := await _visited(context, step, late_s)) is not None:
        late_s = (context.batch.clock.now() - due).total_seconds()
    await judge(context, step, late_s)
    if step.window is None:
        return
    window = parse_range(step.window, "d")
    time = window_time(step.until)
    day = context.number(time, "s")
    if not window.low <= day <= window.high:
        ended = f"on day {day / 86400:.2f}" if time == "day" else f"with {time} at {day / 86400:.2f} d"
        text = f"ended {ended}, outside its window {step.window}"
        await context.batch.record(ev.ExceptionRaised("outside_window", text, context.path))


async def _visited(context: Context, step: Incubate, late_s: float) -> datetime | None:
    """Wait for working time, by what was settled when that began; return when people were due, None for at once.

    Invariant: they are due by when the condition came true, `late_s` ago, and not by when somebody came to see it: what
    passed in an outage is late however long the night is.
    """
    batch, working = context.batch, context.batch.plant.site.working
    known = context.node.phases.get(STAFFED)
    if known is None:
        if working is None or step.window is None:
            return None
        now = batch.clock.now()
        left = parse_range(step.window, "d").high - context.number(window_time(step.until), "s")
        latest, opens = now + timedelta(seconds=left), working.opens(now)
        due = min(working.opens(now - timedelta(seconds=late_s)), latest)
        if min(opens, latest) <= now:
            return due
        if opens > latest:
            text = f"nobody is there before the window {step.window} ends"
            batch.note(ev.ExceptionRaised("unstaffed", text, context.path))
        data = {"until": format_time(min(opens, latest)), "due": format_time(due)}
        await batch.record(ev.StepPhase(context.path, STAFFED, data))
        known = context.node.phases[STAFFED]
    await context.sleep_until(parse_time(str(known[1]["until"])))
    return parse_time(str(known[1]["due"]))
