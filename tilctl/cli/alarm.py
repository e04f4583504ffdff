"""`tilctl alarm ...`: what is not normal, what people do about it, and how well the alarms serve."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from tilctl.cli import alarm_notify, alarm_report, asking, station
from tilctl.cli.exits import Exit
from tilctl.cli.plain import one_line
from tilctl.engine.port import SITE

VERBS = {
    "ack": "acknowledge an alarm (or all that wait): somebody knows, and acts",
    "reset": "let go of a latched alarm whose condition is over",
    "shelve": "not announce an alarm for a while: high 30 min, medium 8 h, low 24 h at most, critical never",
    "unshelve": "announce it again",
    "oos": "take an alarm out of service, with a work order",
    "return": "put it back into service",
}
_VERB = {"reset": "alarm-reset", "oos": "out-of-service", "return": "in-service"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tilctl alarm`."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="the alarms that are not normal, of every unit and of the site")
    listing.add_argument("--all", action="store_true", help="also those that are shelved, suppressed, out of service")
    _common(listing, "all units of the site file, and the site")
    for verb, text in VERBS.items():
        sub = verbs.add_parser(verb, help=text, description=text)
        star = "; '*' for all that wait" if verb == "ack" else ""
        sub.add_argument("alarm", metavar="ALARM", help=f"its id, as `tilctl alarm list` shows it{star}")
        if verb == "shelve":
            sub.add_argument("--for", dest="for_", required=True, metavar="TIME", help="for how long, such as '30 min'")
            sub.add_argument("--once", action="store_true", help="no longer than its condition lasts")
        if verb == "oos":
            sub.add_argument("--work-order", required=True, metavar="NUMBER", help="under which work order")
        _common(sub, "the only one of the site file; `site` for alarms of no unit")
        asking.of_a_command(sub)
        asking.who(sub)
    report = verbs.add_parser("report", help="rate, floods, chatter, what stands, priorities, from records on disk")
    report.add_argument("files", nargs="+", type=Path, metavar="FILE", help="records of batches, and site.db")
    report.add_argument("--json", action="store_true", help="print one JSON object")
    test = verbs.add_parser("test-notify", help="send a test message to each person of the site file")
    alarm_notify.arguments(test)


def _common(parser: argparse.ArgumentParser, default: str) -> None:
    asking.arguments(parser)
    parser.add_argument("--unit", metavar="NAME", help=f"the unit (default: {default})")


def run(args: argparse.Namespace) -> int:
    """Carry out one verb; raises CommandFailed."""
    if args.verb == "report":
        return alarm_report.run(args)
    if args.verb == "test-notify":
        return alarm_notify.run(args)
    target = station.target_of(args)
    if args.verb == "list":
        return _list(args, target)
    asking.check_id(args)
    unit = station.unit_of(target, args.unit)
    arguments: dict[str, Any] = {"alarm": args.alarm}
    if args.verb == "shelve":
        arguments |= {"for": args.for_, "once": args.once}
    elif args.verb == "oos":
        arguments["work_order"] = args.work_order
    answer = asyncio.run(asking.ask(args, target, unit, _VERB.get(args.verb, args.verb), arguments))
    return asking.told(args, unit, answer, "alarm")


def _list(args: argparse.Namespace, target: station.Target) -> int:
    units = [station.unit_of(target, args.unit)] if args.unit else [*target.units, SITE]
    found: dict[str, list[dict[str, Any]]] = {}
    for unit in units:
        answer = asyncio.run(asking.ask(args, target, unit, "status", {}))
        if answer.get("status") != "done":
            return asking.told(args, unit, answer, "alarm")
        data = cast("dict[str, Any]", answer.get("data") or {})
        alarms = cast("list[dict[str, Any]]", data.get("alarms") or [])
        found[unit] = [alarm for alarm in alarms if args.all or not alarm.get("aside")]
    if args.json:
        print(json.dumps({"units": found}))
        return Exit.OK
    lines = [line for unit, alarms in found.items() for alarm in alarms for line in _alarm(unit, alarm)]
    print("\n".join(lines) or "no alarms")
    return Exit.OK


def _alarm(unit: str, alarm: Mapping[str, Any]) -> Iterator[str]:
    priority, name, text = (one_line(alarm.get(key)) for key in ("priority", "alarm", "text"))
    state = one_line(alarm.get("state")).replace("_", " ")
    by = f" by {one_line(alarm['by'])}" if alarm.get("by") else ""
    yield f"{one_line(unit)}  {priority:8} {name}: {text}"
    yield f"    {state}{by}, since {one_line(alarm.get('since'))}"
    for how, flag in cast("Mapping[str, Mapping[str, Any]]", alarm.get("aside") or {}).items():
        until = f" until {one_line(flag['until'])}" if flag.get("until") else ""
        yield f"    {how.replace('_', ' ')} by {one_line(flag.get('by'))}{until}: {one_line(flag.get('reason'))}"
    for key, what in cast("Mapping[str, Any]", alarm.get("help") or {}).items():
        yield f"    {one_line(key):12} {one_line(what)}"
