"""`tilctl alarm ...`: what is not normal, what people do about it, and how well the alarms serve."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from devices.quantity import show
from tilctl.cli import asking, station
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.plain import one_line
from tilctl.engine.port import SITE
from tilctl.journal.verify import read
from tilctl.record.alarm_figures import GUIDE, AlarmFigures, figures

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


def _common(parser: argparse.ArgumentParser, default: str) -> None:
    asking.arguments(parser)
    parser.add_argument("--unit", metavar="NAME", help=f"the unit (default: {default})")


def run(args: argparse.Namespace) -> int:
    """Carry out one verb; raises CommandFailed."""
    if args.verb == "report":
        return _report(args)
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


def _report(args: argparse.Namespace) -> int:
    """Report on records, each verified; a broken one is said, and its good part counted."""
    whole = Exit.OK
    rows: list[tuple[str, AlarmFigures]] = []
    for path in cast("list[Path]", args.files):
        if not path.is_file():
            raise CommandFailed(Exit.BAD_INPUT, f"{path}: there is no such record")
        records, verdict = read(path)
        if not verdict.ok:
            whole = Exit.NOT_WELL
            print(f"tilctl alarm: {one_line(path)} is broken: {one_line(verdict.reason)}; its good events are counted")
        rows.append((path.stem, figures(records)))
    if args.json:
        print(json.dumps({"records": {name: as_json(found) for name, found in rows}}))
        return whole
    print("\n".join(line for name, found in rows for line in _told(name, found)))
    return whole


def as_json(found: AlarmFigures) -> dict[str, Any]:
    """Return figures as JSON-able values; times in s."""
    return {
        "seconds": found.seconds,
        "announced": found.announced,
        "rate_per_hour": round(found.rate_per_hour, 3),
        "most_in_10_min": found.most_in_window,
        "floods": found.floods,
        "flood_seconds": found.flood_s,
        "chattering": dict(found.chattering),
        "stale": found.stale(found.last) if found.last else [],
        "top": dict(found.top()),
        "by_priority": dict(found.by_priority),
        "shares": {name: round(share, 3) for name, share in found.shares().items()},
        "acknowledged": found.acknowledged,
        "mean_acknowledge_seconds": found.acknowledge_s / found.acknowledged if found.acknowledged else None,
        "longest_unacknowledged_seconds": found.longest_unacknowledged_s,
        "set_aside": dict(found.set_aside),
        "announced_again": dict(found.again),
    }


def _told(name: str, found: AlarmFigures) -> Iterator[str]:
    shares = found.shares()
    yield f"{one_line(name)}: {found.announced} alarms in {show(found.seconds, 's')}, {found.rate_per_hour:.2f} an hour"
    flood = f"{show(found.flood_s, 's')} in {found.floods} floods, at most {found.most_in_window} in 10 min"
    yield f"  flood        {flood} (a flood: 10 or more; wanted: under 1 % of the time)"
    told = ", ".join(f"{key} {100 * shares[key]:.0f} % (guide {100 * guide:.0f} %)" for key, guide in GUIDE.items())
    yield f"  priorities   {told}"
    if found.acknowledged:
        mean = show(found.acknowledge_s / found.acknowledged, "s")
        longest = show(found.longest_unacknowledged_s, "s")
        yield f"  acknowledged {found.acknowledged}, after {mean} on average, {longest} at most"
    yield from _counted("chattering", found.chattering.items())
    yield from _counted("set aside", found.set_aside.items())
    yield from _counted("stale", ((alarm, 1) for alarm in (found.stale(found.last) if found.last else [])))
    yield from _counted("most often", found.top())


def _counted(title: str, items: Iterable[tuple[str, int]]) -> Iterator[str]:
    told = ", ".join(f"{one_line(name)} {count}" for name, count in items)
    if told:
        yield f"  {title:12} {told}"
