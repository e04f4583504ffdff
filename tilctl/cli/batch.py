"""`tilctl batch ...`: a person's commands to a running controller, as an MQTT client."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any, cast

from tilctl.cli import asking, station, unit_view
from tilctl.cli.exits import Exit
from tilctl.cli.plain import lines

COMMANDS = {
    "start": "start a recipe of the controller's library on an idle unit",
    "pause": "let the step under way end, then wait",
    "resume": "go on after a pause",
    "hold": "make safe now and wait for a person; the cells stay at their targets",
    "restart": "go on after a hold",
    "stop": "end the batch in order; the cells stay at their targets",
    "abort": "end the batch at once; the cells stay at their targets",
    "reset": "close the record of an ended batch and free the unit",
    "leave-safe-mode": "recover what safe mode left alone, on every unit, once the cause is seen to",
    "answer": "answer an open prompt",
    "adjust": "give an adjustable parameter another value, for the steps that begin from now on",
    "mode": "how steps begin: automatic, semi_automatic (what acts on equipment waits for `proceed`), manual (all do)",
    "proceed": "let a step begin that waits for a person",
    "skip": "pass over a step that waits for a person, in manual mode; it is an exception on the record",
}
CHANGES = ("adjust", "mode", "proceed", "skip")
"""Commands that want to know who gives them."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tilctl batch`."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    status = verbs.add_parser("status", help="state, day, step, why it waits, alarms, open prompts")
    prompts = verbs.add_parser("prompts", help="the open prompts, with what each wants to know")
    for sub in (status, prompts):
        _common(sub)
    events = verbs.add_parser("events", help="what is on the record of a batch, read by the controller, a line each")
    events.add_argument("--batch", metavar="NAME", help="also a closed one (default: the unit's latest)")
    events.add_argument("--from", type=int, default=1, metavar="SEQ", dest="first", help="from this event on")
    events.add_argument("--to", type=int, metavar="SEQ", help="up to this event")
    _common(events)
    for verb, text in COMMANDS.items():
        sub = verbs.add_parser(verb, help=text, description=text)
        if verb == "start":
            sub.add_argument("recipe", metavar="RECIPE", help="its name in the controller's library")
            sub.add_argument(
                "--set",
                action="append",
                default=[],
                metavar="NAME=VALUE",
                help="a parameter with its unit, such as tvc_floor='5e6 cells' (may be repeated)",
            )
        if verb == "answer":
            sub.add_argument("prompt", metavar="PROMPT", help="its id, such as p7 (see `tilctl batch prompts`)")
            sub.add_argument(
                "inputs", nargs="*", metavar="NAME=VALUE", help="a value; a bare number is in the unit that is shown"
            )
        if verb == "adjust":
            sub.add_argument("parameter", metavar="NAME", help="its name (see `tilctl batch status`)")
            sub.add_argument("value", metavar="VALUE", help="with its unit, such as '11 d'")
            sub.add_argument("--was", default="", metavar="VALUE", help="refuse when it is not this one any more")
        if verb == "mode":
            sub.add_argument("mode", choices=("automatic", "semi_automatic", "manual"))
        if verb in ("proceed", "skip"):
            sub.add_argument("step", metavar="STEP", help="its path, as `tilctl batch status` shows it: rep/medium")
        if verb in CHANGES:
            asking.who(sub)
        _common(sub)
        sub.add_argument("--batch", metavar="NAME", help="refuse when the unit has another batch than this")
        asking.of_a_command(sub)


def _common(parser: argparse.ArgumentParser) -> None:
    asking.arguments(parser)
    parser.add_argument("--unit", metavar="NAME", help="the unit (default: the only one of the site file)")


def run(args: argparse.Namespace) -> int:
    """Send one command and print its answer; raises CommandFailed."""
    asking.check_id(args)
    target = station.target_of(args)
    unit = station.unit_of(target, args.unit)
    if args.verb in ("status", "prompts"):
        return _show(args, unit, asyncio.run(asking.ask(args, target, unit, "status", {})))
    if args.verb == "events":
        return _events(args, target, unit)
    arguments: dict[str, Any] = {}
    if args.verb == "start":
        arguments = {"recipe": args.recipe, "parameters": station.pairs(args.set, "--set")}
    elif args.verb == "answer":
        arguments = {"prompt": args.prompt, "inputs": station.pairs(args.inputs, "input")}
    elif args.verb == "adjust":
        arguments = {"parameter": args.parameter, "value": args.value, "was": args.was}
    elif args.verb == "mode":
        arguments = {"mode": args.mode}
    elif args.verb in ("proceed", "skip"):
        arguments = {"step": args.step}
    verb = "prompt-answer" if args.verb == "answer" else str(args.verb)
    return asking.told(args, unit, asyncio.run(asking.ask(args, target, unit, verb, arguments)))


def _events(args: argparse.Namespace, target: station.Target, unit: str) -> int:
    """Ask page by page and print each event: for a person, or as the CloudEvent that was published."""
    following: int | None = args.first
    while following is not None:
        wanted = {"from": following, "batch": args.batch or "", "to": args.to}
        answer = asyncio.run(asking.ask(args, target, unit, "events", wanted))
        if answer.get("status") != "done":
            return asking.told(args, unit, answer)
        data = cast("dict[str, Any]", answer["data"])
        for event in cast("list[dict[str, Any]]", data["events"]):
            text = json.dumps(event) if args.json else f"{event['seq']:>6}  {event['time']}  {event['data']['kind']}"
            print(text if args.json else lines(text))
        args.batch, following = data["batch"], data["next"]
        if data["trouble"]:
            print(f"tilctl batch: the record of {data['batch']} is broken: {lines(data['trouble'])}", file=sys.stderr)
            return Exit.NOT_WELL
    return Exit.OK


def _show(args: argparse.Namespace, unit: str, answer: Mapping[str, Any]) -> int:
    if answer.get("status") != "done":
        return asking.told(args, unit, answer)
    data = cast("dict[str, Any]", answer.get("data") or {})
    prompts = cast("list[dict[str, Any]]", data.get("prompts") or [])
    if args.verb == "prompts":
        shown: Any = {"unit": unit, "batch": data.get("batch", ""), "prompts": prompts}
        text = unit_view.prompts(unit, prompts)
    else:
        shown = {"unit": unit, **data}
        text = unit_view.status(unit, data)
    print(json.dumps(shown) if args.json else text)
    return Exit.OK
