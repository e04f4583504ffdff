"""`tilctl alarm test-notify`: a test message to each person of a site file, and what became of it.

It uses the site file and not the controller, which may run or not; it has to be let in by the same files as that.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from devices.document import DocumentError
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.plain import one_line
from tilctl.config import load_site
from tilctl.gateway.notify_send import DeliveryError, Way, ways_of
from tilctl.gateway.notify_words import trial_body


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tilctl alarm test-notify`."""
    parser.add_argument("--site", type=Path, required=True, metavar="FILE", help="the site file that names the people")
    parser.add_argument("--to", metavar="NAME", help="one person alone (default: all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Send, one after the other; raises CommandFailed where there is nobody to be told."""
    try:
        site = load_site(args.site, logins=True)
    except DocumentError as error:
        raise CommandFailed(Exit.BAD_INPUT, str(error)) from error
    ways = {name: each for name, each in ways_of(site.notify).items() if args.to in (None, name)}
    if not ways:
        known = ", ".join(person.name for person in site.notify.people) or "nobody"
        who = f"no person is called {args.to!r}" if args.to else "nobody is told of alarms"
        raise CommandFailed(Exit.BAD_INPUT, f"{args.site}: {one_line(who)} (`notify: people:` has {known})")
    identity = {"site": site.name, "node": site.node}
    results = [_sent(name, way, identity) for name, each in ways.items() for way in each]
    if args.json:
        print(json.dumps({"sent": results}))
    else:
        print("\n".join(_told(result) for result in results))
    return Exit.OK if all(result["delivered"] for result in results) else Exit.NOT_WELL


def _sent(name: str, way: Way, identity: dict[str, str]) -> dict[str, Any]:
    begun, why = time.monotonic(), ""
    try:
        way.deliver(trial_body(name, identity, f"test-{uuid4()}", datetime.now(UTC)))
    except DeliveryError as error:
        why = str(error)
    seconds = round(time.monotonic() - begun, 2)
    return {"to": name, "channel": way.channel, "host": way.host, "delivered": not why, "why": why, "seconds": seconds}


def _told(result: dict[str, Any]) -> str:
    what = f"taken after {result['seconds']:g} s" if result["delivered"] else f"NOT taken: {result['why']}"
    return one_line(f"{result['to']:16} {result['channel']:8} {result['host']}: {what}")
