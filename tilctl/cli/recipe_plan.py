"""`tilctl recipe plan`: when people come and what a batch takes, before it is started."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.recipe_reading import Read, read, unusable
from tilctl.cli.written_file import Output, check, write
from tilctl.config.moments import parse_date, parse_moment, zone_of
from tilctl.config.working import DAYS, HOURS, Working, parse_hours, parse_weekdays

if TYPE_CHECKING:
    from tilctl.cli.planning.plan import Plan

T = TypeVar("T")
_TEXT = "say when people come and what a batch takes, from a dry run of the typical donor"
_MORE = (
    "An estimate: the model is not calibrated. Exit code 1: the batch would not come to its end; 2: something that was "
    "given is wrong, the recipe has errors, or a file is there already; 3: a file cannot be written."
)


def arguments(add: Callable[..., argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the verb; `add` adds one."""
    parser = add("plan", help=_TEXT, description=f"{_TEXT}. {_MORE}")
    parser.add_argument("recipe", metavar="FILE_OR_NAME", help="a file, or a name of the library")
    parser.add_argument("--start", required=True, metavar="MOMENT", help="local time, such as 2026-03-02T08:00")
    where = parser.add_mutually_exclusive_group()
    zone_help = "time zone, such as Europe/Berlin (default: Etc/UTC)"
    where.add_argument("--zone", default="Etc/UTC", metavar="IANA", help=zone_help)
    where.add_argument("--site", type=Path, metavar="FILE", help="take the time zone of a site file")
    parser.add_argument("--hours", default=HOURS, metavar="BEGIN-END", help=f"working hours (default: {HOURS})")
    parser.add_argument("--weekdays", default=DAYS, metavar="DAYS", help=f"working days (default: {DAYS})")
    parser.add_argument(
        "--holiday", action="extend", nargs="+", default=[], metavar="DATE", help="days on which nobody works"
    )
    parser.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="NAME=VALUE", help="parameters of the recipe"
    )
    parser.add_argument("--suggest", action="store_true", help="say which starts within 14 days suit the hours best")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the chart")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one page with tables and chart, to be printed")
    parser.add_argument("--force", action="store_true", help="replace files that are there already")
    return parser


def run(args: argparse.Namespace, folders: Sequence[Path]) -> int:
    """Make the plan, print it and write the files; raises CommandFailed."""
    outputs = [Output(f"--{name}", path) for name in ("svg", "html") if (path := getattr(args, name)) is not None]
    each = _recipe(args.recipe, folders)
    inputs = {"recipe": Path(each.document.name)} | ({} if args.site is None else {"site file": args.site})
    _check(outputs, inputs, force=args.force)
    plan = _plan(args, each, folders)
    _write(plan, outputs, inputs, force=args.force)
    if args.json:
        from tilctl.cli.planning.plan import as_data  # noqa: PLC0415 - see _plan

        print(json.dumps(as_data(plan), allow_nan=False))
    else:
        from tilctl.cli.planning.text import text  # noqa: PLC0415

        sys.stdout.write(text(plan))
    return Exit.OK if plan.complete else Exit.NOT_WELL


def _plan(args: argparse.Namespace, each: Read, folders: Sequence[Path]) -> Plan:
    # Plant, engine and culture take a second to import, which no other verb of `tilctl recipe` should have to wait for.
    from tilctl.cli.planning.plan import make_plan  # noqa: PLC0415
    from tilctl.cli.station import read_site  # noqa: PLC0415

    name: str = args.zone if args.site is None else read_site(args.site).time_zone
    zone = _given("--zone", zone_of, name)
    begin, end = _given("--hours", parse_hours, args.hours)
    weekdays = _given("--weekdays", parse_weekdays, args.weekdays)
    holidays = frozenset(_given("--holiday", parse_date, text) for text in args.holiday)
    start = _given("--start", lambda text: parse_moment(text, zone), args.start)
    parameters = _parameters(args.set, each)
    working = Working(zone, begin, end, weekdays, holidays)
    return make_plan(each.recipe, parameters, start, name, working, folders, suggest=args.suggest)


def _recipe(asked: str, folders: Sequence[Path]) -> Read:
    each = read(asked, folders)
    if each.errors:
        raise unusable(asked, each.findings, "planned")
    return each


def _parameters(given: list[str], each: Read) -> Mapping[str, str]:
    from tilctl.cli.station import pairs  # noqa: PLC0415
    from tilctl.engine.binding import NotBindable, check_parameters  # noqa: PLC0415

    parameters = pairs(given, "--set")
    try:
        check_parameters(each.recipe, parameters)
    except NotBindable as error:
        raise CommandFailed(Exit.BAD_INPUT, f"--set: {error}") from error
    return parameters


def _given(option: str, parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise CommandFailed(Exit.BAD_INPUT, f"{option}: {error}") from error


def _check(outputs: Sequence[Output], inputs: Mapping[str, Path], *, force: bool) -> None:
    """Raise CommandFailed before anything is done: of two files none is written where one is there already."""
    if force and not outputs:
        raise CommandFailed(Exit.BAD_INPUT, "--force is for --svg and --html: say which file may be replaced")
    if len({output.path.absolute() for output in outputs}) < len(outputs):
        raise CommandFailed(Exit.BAD_INPUT, f"{outputs[0]} is what --html names too: give two files")
    for output in outputs:
        check(output, inputs, force=force)


def _write(plan: Plan, outputs: Sequence[Output], inputs: Mapping[str, Path], *, force: bool) -> None:
    if not outputs:
        return
    from tilctl.cli.planning.chart import svg  # noqa: PLC0415
    from tilctl.cli.planning.page import html  # noqa: PLC0415

    chart = svg(plan)
    for output in outputs:
        write(output, chart if output.option == "--svg" else html(plan, chart), inputs, force=force)
