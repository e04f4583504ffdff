"""`tilctl interlock ...`: interlocks and permissives of a running controller, as an MQTT client.

Who somebody is, is what he says: identities do not exist yet.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from devices.quantity import show
from tilctl.cli import asking, station
from tilctl.cli.exits import Exit
from tilctl.cli.plain import one_line

COMMANDS = {
    "reset": "let go of an interlock whose condition is over",
    "bypass": "set an interlock or a permissive aside for a time, by two persons",
    "unbypass": "put a bypassed one in force again, now",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tilctl interlock`."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _common(verbs.add_parser("list", help="all of a unit and of shared equipment: condition, what it sees, outputs"))
    for verb, text in COMMANDS.items():
        sub = verbs.add_parser(verb, help=text, description=text)
        sub.add_argument("name", metavar="INTERLOCK", help="its name in the site file")
        _common(sub)
        sub.add_argument("--reason", required=verb == "bypass", metavar="TEXT", help="why, for the record")
        as_ = "who you are, and your role; for a bypass process_engineer or quality"
        sub.add_argument("--as", dest="actor", required=verb == "bypass", metavar="USER:ROLE", help=as_)
        if verb == "bypass":
            sub.add_argument("--second", required=True, metavar="USER:ROLE", help="who agrees; somebody else, likewise")
            sub.add_argument("--for", dest="lasts", required=True, metavar="TIME", help="such as '30 min'; at most 8 h")


def _common(parser: argparse.ArgumentParser) -> None:
    asking.arguments(parser)
    parser.add_argument("--unit", metavar="NAME", help="the unit (default: the only one of the site file)")


def run(args: argparse.Namespace) -> int:
    """Send one command and print its answer; raises CommandFailed."""
    target = station.target_of(args)
    unit = station.unit_of(target, args.unit)
    if args.verb == "list":
        return _list(args, unit, asyncio.run(asking.ask(args, target, unit, "status", {})))
    wanted: dict[str, Any] = {"interlock": args.name}
    if args.verb == "bypass":
        wanted |= {"for": args.lasts, "second": asking.person(args.second, "--second")}
    verb = "interlock-reset" if args.verb == "reset" else str(args.verb)
    return asking.told(args, unit, asyncio.run(asking.ask(args, target, unit, verb, wanted)), "interlock")


def _list(args: argparse.Namespace, unit: str, answer: Mapping[str, Any]) -> int:
    if answer.get("status") != "done":
        return asking.told(args, unit, answer, "interlock")
    rows = cast("list[dict[str, Any]]", cast("dict[str, Any]", answer.get("data") or {}).get("interlocks") or [])
    if args.json:
        print(json.dumps({"unit": unit, "interlocks": rows}))
    else:
        print("\n".join(line for row in rows for line in _shown(row)) or f"{unit} has no interlocks")
    return Exit.OK


def _shown(row: Mapping[str, Any]) -> Iterator[str]:
    state = one_line(row["state"]) + (" (cannot be judged)" if row["unknown"] else "")
    since = f" since {one_line(row['since'])}" if row["since"] else ""
    yield f"{one_line(row['unit'])}/{one_line(row['name'])}: {row['kind']}, {state}{since}"
    yield f"  {'when' if row['kind'] == 'interlock' else 'needs':9} {one_line(row['condition'])}"
    for each in row["operands"]:
        value = each["value"]
        text = show(round(value, 2), each["unit"]) if isinstance(value, float) else one_line(value)
        how = str(each["quality"]) + ("" if each["age_s"] is None else f", {each['age_s']:g} s old")
        yield f"  {'sees':9} {one_line(each['name'])} = {'no value' if value is None else text} ({how})"
    yield f"  {'acts on' if row['kind'] == 'interlock' else 'forbids':9} {', '.join(map(one_line, row['outputs']))}"
    if (bypass := row["bypass"]) is not None:
        both = f"{bypass['by']} ({bypass['role']}) and {bypass['second']} ({bypass['second_role']})"
        yield one_line(f"  {'bypassed':9} until {bypass['until']} by {both}: {bypass['reason']}")
    for key in ("cause", "consequence", "action", "allowed"):
        if key in row["help"]:
            yield f"  {key:9} {one_line(row['help'][key])}"[:400]
