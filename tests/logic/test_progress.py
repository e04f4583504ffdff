"""What a person sees of a rehearsal: the plan, the lines, and that looking is rationed and harmless."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable

import pytest
from rich.console import Console

from recipes.catalog import load
from tilctl.cli import progress
from tilctl.cli.progress import Progress, View, drawn, lines_of, planned_days
from tilctl.journal import events as ev
from tilctl.journal.chain import GENESIS, Record


class Display:
    """Counts what it is asked to draw; breaks when told to."""

    def __init__(self, broken: bool = False) -> None:
        self.draws = 0
        self.lines: list[str] = []
        self._broken = broken

    def draw(self, look_now: Callable[[], View]) -> None:
        look_now()
        self.draws += 1
        if self._broken:
            raise OSError("the terminal is gone")

    def tell(self, text: str) -> None:
        self.lines.append(text)

    def close(self) -> None:
        if self._broken:
            raise OSError("the terminal is gone")


def record(event: ev.Event) -> Record:
    return Record(1, "2026-01-05T08:30:00.000Z", event, GENESIS, GENESIS)


def shown(display: Display) -> Progress:
    made = Progress(load("shakedown"), "cell1", io.StringIO())
    made._display = display
    return made


async def turns(number: int = 3) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def test_the_plan_is_the_day_on_which_the_last_incubation_may_end():
    assert planned_days(load("til-22d")) == 22.0
    assert planned_days(load("shakedown")) is None


def test_a_line_is_told_for_an_operation_an_alarm_an_exception_and_the_end():
    recipe = load("shakedown")
    told = [
        *lines_of(record(ev.StateChanged("culture", "idle", "running")), recipe),
        *lines_of(record(ev.AlarmRaised("warm", "high", "too warm")), recipe),
        *lines_of(record(ev.ExceptionRaised("volume", "8 mL off", "culture/fill")), recipe),
        *lines_of(record(ev.StateChanged("", "running", "held", "", "too warm")), recipe),
    ]
    assert told == [
        "2026-01-05 08:30  2 of 4  culture",
        "2026-01-05 08:30  alarm, high: too warm",
        "2026-01-05 08:30  exception at culture/fill: 8 mL off",
        "2026-01-05 08:30  the batch is held: too warm",
    ]
    for quiet in (ev.StateChanged("culture", "running", "complete"), ev.StateChanged("", "idle", "running")):
        assert list(lines_of(record(quiet), recipe)) == []


async def test_looking_costs_at_most_five_drawings_a_second(monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    display = Display()
    made = shown(display)
    for _ in range(50):
        now[0] += 0.01
        made._seen()
        await turns()
    assert display.draws == 3  # at 0, at 0.2 and at 0.4 of these 0.5 seconds
    made.close()


async def test_a_slow_terminal_is_drawn_on_less_often(monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    display = Display()
    made = shown(display)
    made._look = lambda: now.__setitem__(0, now[0] + 0.1) or View("", (), ())
    for _ in range(1000):
        now[0] += 0.01
        made._seen()
        await turns(2)
    assert display.draws <= 2  # 0.1 s each, at most 1.5 % of ten seconds, and the first
    made.close()


async def test_a_terminal_that_is_gone_disturbs_nobody():
    display = Display(broken=True)
    made = shown(display)
    made._recorded("cell1", record(ev.AlarmRaised("warm", "high", "too warm")))
    made._seen()
    await turns()
    made._due = 0.0
    made._seen()
    await turns()
    assert display.draws <= 1
    made.close()


async def test_records_of_another_unit_are_not_told():
    display = Display()
    made = shown(display)
    made._recorded("cell2", record(ev.AlarmRaised("warm", "high", "too warm")))
    await turns()
    assert display.lines == []
    made.close()


def test_a_view_fits_a_small_terminal():
    bars = (("day", 0.5, "11.0 of 22"), ("operation", None, "3 of 7  Reduce, pool and count, day 11, and much more"))
    view = View("til-22d · running", bars, (("waits for", "x" * 200), ("alarms", "none")))
    out = io.StringIO()
    Console(file=out, width=80, force_terminal=False).print(drawn(view))
    lines = out.getvalue().splitlines()
    assert len(lines) == 5
    assert max(map(len, lines)) <= 80
    assert "11.0 of 22" in lines[1]
