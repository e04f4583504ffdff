"""`incubate`: leave the culture alone until a condition, in biological time."""

from __future__ import annotations

from recipes.expr import compile
from recipes.ranges import parse_range
from recipes.steps import Incubate
from recipes.windows import window_time
from tilctl.engine.context import Context
from tilctl.engine.missed import judge
from tilctl.engine.waiting import seconds_since, until_true
from tilctl.journal import events as ev


async def run(context: Context, step: Incubate) -> None:
    """Wait; biological time counts while held and during an outage.  Ending outside the window is an exception."""
    condition = compile(step.until)
    await until_true(context, condition, None)
    await judge(context, step, seconds_since(context, condition))
    if step.window is None:
        return
    window = parse_range(step.window, "d")
    time = window_time(step.until)
    day = context.number(time, "s")
    if not window.low <= day <= window.high:
        ended = f"on day {day / 86400:.2f}" if time == "day" else f"with {time} at {day / 86400:.2f} d"
        text = f"ended {ended}, outside its window {step.window}"
        await context.batch.record(ev.ExceptionRaised("outside_window", text, context.path))
