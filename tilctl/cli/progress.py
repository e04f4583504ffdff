"""What a person sees while a rehearsal runs: bars and live values on a terminal, else a line for each operation.

The callbacks are called by the controller at every record and scan; all real time is here.  Drawing is rationed, by
rate and by what it costs, and whatever becomes of the terminal, nothing of it reaches the controller.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from devices.quantity import show
from devices.reading import Quality, Reading
from devices.role import BOOL, ROLES, SYMBOL
from recipes.model import Recipe, walk
from recipes.ranges import parse_range
from recipes.steps import Incubate
from tilctl.cli.service import Service
from tilctl.engine.machine import State
from tilctl.engine.runner import Runner
from tilctl.engine.state import StepStatus
from tilctl.engine.status import waits_of
from tilctl.journal import events as ev
from tilctl.journal.chain import Record

PERIOD_S = 0.2  # real; five times a second at most
SHARE = 0.015  # of the real time, at most, is spent on drawing
BAR = 32
DAY_S = 86400.0
WAITS = 2  # lines of what it waits for
GONE = (OSError, ValueError)  # what a terminal that was closed raises
_SHORT = {
    "temperature": "",
    "co2": "CO2",
    "chamber_temperature": "chamber",
    "sample_temperature": "sample",
    "ln2_level": "LN2",
}


@dataclass(frozen=True, slots=True)
class View:
    """What is shown, as texts and shares; `share` of a bar is None where its end is not known."""

    head: str
    bars: tuple[tuple[str, float | None, str], ...]
    rows: tuple[tuple[str, str], ...]


def planned_days(recipe: Recipe) -> float | None:
    """Return the biological day on which the last incubation may end at the earliest, None where nothing says it."""
    windows = [
        parse_range(step.window)
        for operation in recipe.procedure
        for _, step in walk(operation.steps, operation.id)
        if isinstance(step, Incubate) and step.window is not None
    ]
    last = max((window.low for window in windows if window.unit == "s"), default=0.0)
    return last / DAY_S or None


def look(runner: Runner, recipe: Recipe, planned: float | None, note: str = "") -> View:
    """Return what there is to see of a batch now."""
    batch, state = runner.batch, runner.batch.state
    since = state.since("day0", batch.clock.now())
    day = None if since is None else since.total_seconds() / DAY_S
    ids = [operation.id for operation in recipe.procedure]
    done = sum(state.states.get(name) is State.COMPLETE for name in ids)
    current = next((operation for operation in recipe.procedure if operation.id == state.operation), None)
    steps = () if current is None else current.steps
    walked = sum(state.complete(f"{state.operation}/{step.id}") for step in steps)
    acting = [node.path for node in state.nodes.values() if node.status is not StepStatus.COMPLETE]
    title = "" if current is None else current.title or current.id
    whole = f"{len(steps)}" if steps else "-"
    bars = (
        ("day", _share(day, planned), "before day 0" if day is None else _of(f"{day:.1f}", planned)),
        ("operation", done / len(ids), f"{min(done + 1, len(ids))} of {len(ids)}  {title}"),
        ("step", walked / len(steps) if steps else 0.0, f"{walked} of {whole}  {acting[-1] if acting else ''}"),
    )
    waits = [*map(_wait, waits_of(runner)), *_under_way(runner)][:WAITS] or ["-"]
    rows = [("waits for" if i == 0 else "", _cut(wait, 110)) for i, wait in enumerate(waits)]
    rows += [(name, text) for name in recipe.equipment if (text := _values(runner, recipe, name))]
    held = [f"{c.name} {c.volume_ml:.0f}" for c in state.ledger if c.mounted]
    rows.append(("volumes", _cut(" · ".join(held) or "-", 110) + (" mL" if held else "")))
    alarms = [f"{alarm.priority}: {alarm.text}" for alarm in state.alarms.values()]
    rows.append(("alarms", _cut("; ".join(alarms), 110) or "none"))
    head = f"{recipe.recipe} · {batch.clock.now():%Y-%m-%d %H:%M} simulated · {runner.state.value}{note}"
    return View(head, bars, tuple(rows))


def _share(value: float | None, total: float | None) -> float | None:
    if total is None:
        return None
    return min(1.0, max(0.0, value or 0.0) / total)


def _of(value: str, total: float | None) -> str:
    return value if total is None else f"{value} of {total:g}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _wait(wait: Mapping[str, Any]) -> str:
    known = [f"{o['name']} is {_number(o['value'], str(o['unit']))}" for o in wait.get("operands", ())]
    return f"{wait['text']} ({', '.join(known)})" if known else str(wait["text"])


def _under_way(runner: Runner) -> list[str]:
    """Return what people are doing: answers that are given, and take effect when the work is done."""
    prompts = [p for p in runner.batch.state.prompts.values() if p.effective and not p.answered and not p.withdrawn]
    prompts.sort(key=lambda prompt: (prompt.effective, prompt.asked))
    return [f"operator: {prompt.text} (done at {prompt.effective:%m-%d %H:%M})" for prompt in prompts]


def _number(value: Any, unit: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value / DAY_S:.2f} d" if unit == "s" and value >= DAY_S else show(float(f"{value:.4g}"), unit)


def _values(runner: Runner, recipe: Recipe, equipment: str) -> str:
    """Return the numbers that a piece of equipment shows, as far as they are to be trusted."""
    declared = recipe.equipment[equipment]
    tags = ROLES[declared.role].tags_for(declared.needs)
    found = ((tag, runner.batch.tag(f"{equipment}.{tag}")) for tag, kind in tags.items() if kind not in (BOOL, SYMBOL))
    return "  ".join(_reading(tag, reading) for tag, reading in found if reading is not None)


def _reading(tag: str, reading: Reading) -> str:
    good = reading.quality in (Quality.GOOD, Quality.UNCERTAIN) and isinstance(reading.value, (int, float))
    text = f"{reading.value:.1f} {reading.unit}" if good else "-"
    return f"{_SHORT.get(tag, tag)} {text}".strip()


def drawn(view: View) -> RenderableType:
    """Return a view as rich draws it."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", width=9)
    grid.add_column(width=BAR)
    grid.add_column()
    for name, share, text in view.bars:
        bar = ProgressBar(total=1.0, completed=share or 0.0, width=BAR)
        grid.add_row(name, bar, Text(text, no_wrap=True, overflow="ellipsis"))
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="bold", width=9)
    rows.add_column()
    for name, text in view.rows:
        style = "red" if name == "alarms" and text != "none" else ""
        rows.add_row(name, Text(text, style=style, no_wrap=True, overflow="ellipsis"))
    return Group(Text(view.head, style="bold", no_wrap=True, overflow="ellipsis"), grid, rows)


class Screen:
    """Bars and live values, drawn in place."""

    def __init__(self, stream: TextIO) -> None:
        """Take the terminal; `close` gives it back."""
        self._live = Live(
            console=Console(file=stream),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def draw(self, look_now: Callable[[], View]) -> None:
        """Draw what there is to see."""
        self._live.update(drawn(look_now()), refresh=True)

    def tell(self, text: str) -> None:
        """Say nothing: it is to be seen."""

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._live.stop()


class Lines:
    """One line for each operation, for a log or a pipe."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def draw(self, look_now: Callable[[], View]) -> None:
        """Draw nothing."""

    def tell(self, text: str) -> None:
        """Write a line."""
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing is to be given back."""


class Progress:
    """Shows a rehearsal; `attach` it once the service stands, `close` it when all is over."""

    def __init__(self, recipe: Recipe, unit: str, stream: TextIO) -> None:
        """Show on `stream`, as bars if that is a terminal that can move its cursor."""
        bars = stream.isatty() and not Console(file=stream).is_dumb_terminal
        self._display: Screen | Lines | None = Screen(stream) if bars else Lines(stream)
        self._recipe = recipe
        self._unit = unit
        self._planned = planned_days(recipe)
        self._service: Service | None = None
        self._due = 0.0
        self._began = (0.0, 0.0)

    def attach(self, service: Service) -> None:
        """Be told of every record and every scan."""
        self._service = service
        self._began = (time.monotonic(), service.clock.monotonic())
        service.controller.on_record.append(self._recorded)
        service.controller.on_scan.append(lambda _readings: self._seen())

    def close(self) -> None:
        """End the display; may be called twice."""
        display, self._display = self._display, None
        if display is not None:
            with contextlib.suppress(*GONE):
                display.close()

    # Invariant: the controller's callbacks only leave a note for the loop; what is done about it cannot disturb them.

    def _recorded(self, unit: str, record: Record) -> None:
        if unit == self._unit and self._display is not None:
            for text in lines_of(record, self._recipe):
                asyncio.get_running_loop().call_soon(self._show, text)
        self._seen()

    def _seen(self) -> None:
        if self._display is not None and time.monotonic() >= self._due:
            self._due = math.inf
            asyncio.get_running_loop().call_soon(self._show)

    def _show(self, text: str = "") -> None:
        display = self._display
        if display is None:
            return
        began = time.monotonic()
        try:
            if text:
                display.tell(text)
            else:
                display.draw(self._look)
        except GONE:
            self._display = None
        finally:
            cost = time.monotonic() - began
            self._due = began + cost + max(PERIOD_S, cost / SHARE)

    def _look(self) -> View:
        runner = None if self._service is None else self._service.controller.runner(self._unit)
        if self._service is None or runner is None:
            return View(f"{self._recipe.recipe} · starting", (), ())
        real, simulated = (now - then for now, then in zip(_now(self._service), self._began, strict=True))
        speed = f" · {simulated / real:,.0f} times real time" if real > 1.0 else ""
        return look(runner, self._recipe, self._planned, speed)


def _now(service: Service) -> tuple[float, float]:
    return time.monotonic(), service.clock.monotonic()


def lines_of(record: Record, recipe: Recipe) -> Iterable[str]:
    """Return what a record is to someone who reads along, one line or none."""
    event, t = record.event, record.t[:16].replace("T", " ")
    ids = [operation.id for operation in recipe.procedure]
    match event:
        case ev.StateChanged(path="", to_state=target) if target != "running":
            yield f"{t}  the batch is {target}" + (f": {event.reason}" if event.reason else "")
        case ev.StateChanged(path=path, to_state="running", from_state="idle") if path in ids:
            operation = recipe.procedure[ids.index(path)]
            yield f"{t}  {ids.index(path) + 1} of {len(ids)}  {operation.title or path}"
        case ev.AlarmRaised():
            yield f"{t}  alarm, {event.priority}: {event.text}"
        case ev.ExceptionRaised():
            yield f"{t}  exception at {event.path}: {event.text}"
        case _:
            pass
