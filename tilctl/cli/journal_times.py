"""`tilctl journal times`: where the time of each step went, told from a record of a batch alone."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

from tilctl.cli.plain import one_line
from tilctl.journal.chain import Record
from tilctl.record.times import StepTimes, step_times

VERB = "times"
COLUMNS = ("total", "running", "paused", "held", "outage")
WIDTH = 12


def arguments(add_parser: Callable[..., argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add `tilctl journal times` and return its parser."""
    text = "how long each step took: running, paused, held, without a controller"
    parser = add_parser(VERB, help=text, description=f"{text}; the total is what the cells have lived through")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each step, in s, a line each")
    parser.add_argument("--path", metavar="PATH", dest="below", help="only this step and those below it")
    return parser


def told(records: Sequence[Record], args: argparse.Namespace) -> Iterator[str]:
    """Return the lines to print, a step each; durations in d hh:mm:ss, in JSON in s."""
    below = None if args.below is None else str(args.below).rstrip("/")
    if not args.json:
        yield "".join(name.rjust(WIDTH) for name in COLUMNS) + "  step"
    for path, times in step_times(records).items():
        if below is None or path == below or path.startswith(f"{below}/"):
            yield _as_json(path, times) if args.json else _as_line(path, times)


def _as_json(path: str, times: StepTimes) -> str:
    return json.dumps({"path": path, "total": round(times.total, 3), **asdict(times)})


def _as_line(path: str, times: StepTimes) -> str:
    columns = "".join(_duration(getattr(times, name)).rjust(WIDTH) for name in COLUMNS)
    return f"{columns}  {one_line(path)}" + ("" if times.ended else "  (not over)")


def _duration(seconds: float) -> str:
    if not seconds:
        return "-"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return (f"{days}d " if days else "") + f"{hour:02}:{minute:02}:{second:02}"
