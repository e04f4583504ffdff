"""One question or command to a running controller, and its final answer, for the commands that a person types."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from tilctl.cli import station
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.plain import lines
from tilctl.gateway.client import NoAnswerError, StationClient

TIMEOUT_S = 15.0
"""How long an answer is waited for when nothing else is said, s; a command is sent again until then."""
MAKES_SAFE = ("hold", "stop", "abort")
SAFE_S = 60.0
"""How long for an answer of these, s: it comes when outputs are safe (a silent instrument is waited for 5 s, all at
once, then tried on), and a step under way has closed its evidence (120 s at most)."""
LOOK = (
    "Look at the broker (is it running, is this its address? --url), at the controller (is `tilctl run` up?), "
    "and at its names (--site, --node)."
)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of every question: which controller, how long to wait, JSON."""
    station.arguments(parser)
    parser.add_argument(
        "--timeout",
        type=station.seconds,
        metavar="S",
        help=f"how long an answer is waited for, s (default: {TIMEOUT_S:g}; {', '.join(MAKES_SAFE)}: {SAFE_S:g})",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def of_a_command(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command: why, and the id of an earlier try."""
    parser.add_argument("--reason", metavar="TEXT", help="why, for the record")
    parser.add_argument("--id", metavar="ID", help="the id of an earlier try, to repeat it: it is carried out once")


def who(parser: argparse.ArgumentParser) -> None:
    """Add the option that says who gives a command; until identities are proven it is a claim, and on record as one."""
    parser.add_argument("--as", dest="actor", metavar="USER:ROLE", help="who you are, for the record")


def person(text: str | None, option: str) -> dict[str, str] | None:
    """Return user and role of `USER:ROLE`; raises CommandFailed."""
    if text is None:
        return None
    user, colon, role = (part.strip() for part in text.rpartition(":"))
    if not (user and colon and role):
        raise CommandFailed(Exit.BAD_INPUT, f"{option}: {text!r}: expected USER:ROLE, such as anna:operator")
    return {"user": user, "role": role}


def check_id(args: argparse.Namespace) -> None:
    """Refuse an id that no command has; raises CommandFailed."""
    if getattr(args, "id", None) is not None and not _ID.fullmatch(args.id):
        raise CommandFailed(Exit.BAD_INPUT, f"--id: {args.id!r} is no id of a command")


async def ask(
    args: argparse.Namespace, target: station.Target, unit: str, verb: str, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the final answer to one command; raises CommandFailed when none came in time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + float(args.timeout or (SAFE_S if verb in MAKES_SAFE else TIMEOUT_S))
    data: dict[str, Any] = {}
    if getattr(args, "reason", None):
        data["reason"] = {"code": "operator", "text": args.reason}
    if getattr(args, "batch", None):
        data["batch"] = args.batch
    actor = person(getattr(args, "actor", None), "--as")
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


def told(args: argparse.Namespace, unit: str, answer: Mapping[str, Any], command: str = "batch") -> int:
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
