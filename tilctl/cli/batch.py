"""`tilctl batch ...`: a person's commands to a running controller, as an MQTT client."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Mapping
from typing import Any, cast
from uuid import uuid4

from tilctl.cli import station, unit_view
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.plain import lines
from tilctl.gateway.client import NoAnswerError, StationClient

TIMEOUT_S = 15.0
"""How long an answer is waited for when nothing else is said, s; a command is sent again until then."""
MAKES_SAFE = ("hold", "stop", "abort")
SAFE_S = 60.0
"""How long for an answer of these, s: it comes when outputs are safe (a silent instrument is waited for 5 s, all at
once, then tried on), and a step under way has closed its evidence (120 s at most)."""
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
}
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
LOOK = (
    "Look at the broker (is it running, is this its address? --url), at the controller (is `tilctl run` up?), "
    "and at its names (--site, --node)."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tilctl batch`."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    status = verbs.add_parser("status", help="state, day, step, why it waits, alarms, open prompts")
    prompts = verbs.add_parser("prompts", help="the open prompts, with what each wants to know")
    for sub in (status, prompts):
        common(sub)
    events = verbs.add_parser("events", help="what is on the record of a batch, read by the controller, a line each")
    events.add_argument("--batch", metavar="NAME", help="also a closed one (default: the unit's latest)")
    events.add_argument("--from", type=int, default=1, metavar="SEQ", dest="first", help="from this event on")
    events.add_argument("--to", type=int, metavar="SEQ", help="up to this event")
    common(events)
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
        common(sub)
        sub.add_argument("--reason", metavar="TEXT", help="why, for the record")
        sub.add_argument("--batch", metavar="NAME", help="refuse when the unit has another batch than this")
        sub.add_argument("--id", metavar="ID", help="the id of an earlier try, to repeat it: it is carried out once")


def common(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command to a running controller."""
    station.arguments(parser)
    parser.add_argument("--unit", metavar="NAME", help="the unit (default: the only one of the site file)")
    parser.add_argument(
        "--timeout",
        type=station.seconds,
        metavar="S",
        help=f"how long an answer is waited for, s (default: {TIMEOUT_S:g}; {', '.join(MAKES_SAFE)}: {SAFE_S:g})",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Send one command and print its answer; raises CommandFailed."""
    if getattr(args, "id", None) is not None and not _ID.fullmatch(args.id):
        raise CommandFailed(Exit.BAD_INPUT, f"--id: {args.id!r} is no id of a command")
    target = station.target_of(args)
    unit = station.unit_of(target, args.unit)
    if args.verb in ("status", "prompts"):
        return _show(args, unit, asyncio.run(ask(args, target, unit, "status", {})))
    if args.verb == "events":
        return _events(args, target, unit)
    arguments: dict[str, Any] = {}
    if args.verb == "start":
        arguments = {"recipe": args.recipe, "parameters": station.pairs(args.set, "--set")}
    elif args.verb == "answer":
        arguments = {"prompt": args.prompt, "inputs": station.pairs(args.inputs, "input")}
    verb = "prompt-answer" if args.verb == "answer" else str(args.verb)
    return tell(args, unit, asyncio.run(ask(args, target, unit, verb, arguments)))


async def ask(
    args: argparse.Namespace,
    target: station.Target,
    unit: str,
    verb: str,
    arguments: dict[str, Any],
    actor: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the final answer to one command; raises CommandFailed when none came in time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + float(args.timeout or (SAFE_S if verb in MAKES_SAFE else TIMEOUT_S))
    data: dict[str, Any] = {}
    if getattr(args, "reason", None):
        data["reason"] = {"code": "operator", "text": args.reason}
    if getattr(args, "batch", None):
        data["batch"] = args.batch
    command = str(getattr(args, "id", None) or f"{target.client[:40]}-{uuid4()}")
    async with StationClient(target.url, target.topics, target.client, login=target.login) as client:
        try:
            await client.online(float(args.timeout or TIMEOUT_S))
        except NoAnswerError as error:
            raise CommandFailed(Exit.UNAVAILABLE, f"{error}\n{LOOK}") from error
        try:
            return await client.request(
                unit, verb, arguments, command_id=command, data=data, actor=actor, timeout_s=end - loop.time()
            )
        except NoAnswerError as error:
            if verb == "status":
                raise CommandFailed(Exit.UNAVAILABLE, f"{error}\n{LOOK}") from error
            text = f"{error}\nWhether it was carried out is not known"
            if verb in MAKES_SAFE:
                text += "; once begun it goes on by itself, and silent instruments and a step under way take their time"
            again = f"see `tilctl batch status`, or repeat it safely with --id {command}"
            raise CommandFailed(Exit.UNAVAILABLE, f"{text}: {again}") from error


def _events(args: argparse.Namespace, target: station.Target, unit: str) -> int:
    """Ask page by page and print each event: for a person, or as the CloudEvent that was published."""
    following: int | None = args.first
    while following is not None:
        wanted = {"from": following, "batch": args.batch or "", "to": args.to}
        answer = asyncio.run(ask(args, target, unit, "events", wanted))
        if answer.get("status") != "done":
            return tell(args, unit, answer)
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
        return tell(args, unit, answer)
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


def tell(args: argparse.Namespace, unit: str, answer: Mapping[str, Any], command: str = "batch") -> int:
    """Print how a command ended: refused and failed are a no."""
    status, code, text = (str(answer.get(key) or "") for key in ("status", "code", "text"))
    well = status in ("done", "already")
    if args.json:
        print(json.dumps({"unit": unit, "verb": args.verb, **answer}))
    elif well:
        print(f"{unit}: {args.verb} {status}" + (f": {lines(text)}" if text else ""))
    else:
        print(f"tilctl {command}: {args.verb} was {status}: {code}: {lines(text)}", file=sys.stderr)
    return Exit.OK if well else Exit.NOT_WELL
