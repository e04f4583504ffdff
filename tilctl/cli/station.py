"""Which controller a command means: broker, topics, unit and client name, from options and the site file."""

from __future__ import annotations

import argparse
import getpass
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from devices.document import DocumentError
from devices.mqtt.login import Login, address
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.config import Site, load_site
from tilctl.gateway.topics import Topics


@dataclass(frozen=True, slots=True)
class Target:
    """A controller as a client reaches it; `units` are those of the site file, empty where none was read."""

    url: str
    topics: Topics
    client: str
    units: tuple[str, ...]
    login: Login


def arguments(parser: argparse.ArgumentParser, client: str = "") -> None:
    """Add the options that say which controller is meant; `client` is the default name of the client."""
    where = parser.add_argument_group("which controller")
    where.add_argument(
        "--site", type=Path, metavar="FILE", help="its site file: broker, topics and unit are taken from it"
    )
    where.add_argument("--url", metavar="mqtt://HOST:PORT", help="the broker (default: as in the site file)")
    where.add_argument(
        "--node", metavar="SITE/NODE", help="its place in the topics, til/v1/SITE/NODE (default: as in the site file)"
    )
    where.add_argument(
        "--client",
        metavar="NAME",
        default=client,
        help=f"the name of this client in the topics and on record (default: {client or 'cli-USER'})",
    )


def target_of(args: argparse.Namespace) -> Target:
    """Return the controller that the options mean, by default that of the demonstration; raises CommandFailed."""
    site = read_site(args.site)
    url = str(args.url or site.mqtt_url)
    try:
        address(url)
    except ValueError as error:
        raise CommandFailed(Exit.BAD_INPUT, f"--url: {error}") from error
    topics = Topics(site.topic_prefix)
    if args.node is not None:
        levels = str(args.node).split("/")
        if len(levels) != 2 or not all(is_level(level) for level in levels):
            text = f"--node: {args.node!r} is no place in the topics: expected SITE/NODE, such as demo/suite1"
            raise CommandFailed(Exit.BAD_INPUT, text)
        topics = Topics(f"til/v1/{args.node}")
    client = str(args.client or f"cli-{_user()}")
    if not is_level(client):
        raise CommandFailed(Exit.BAD_INPUT, f"--client: {client!r} is no name: expected letters, digits, '.', '_', '-'")
    # Invariant: what proves us to one broker is not shown to another.
    login = Login(client, ca=site.mqtt_login.ca)
    if url == site.mqtt_url:
        login = site.stations.get(client, login)
    return Target(url, topics, client, tuple(site.units), login)


def unit_of(target: Target, given: str | None) -> str:
    """Return the unit that is meant: the one given, or the only one of the site; raises CommandFailed."""
    if given is None:
        if len(target.units) != 1:
            names = ", ".join(target.units) or "none"
            raise CommandFailed(Exit.BAD_INPUT, f"say which unit with --unit; the site file has {names}")
        return target.units[0]
    if not is_level(given):
        raise CommandFailed(Exit.BAD_INPUT, f"--unit: {given!r} is no name of a unit; the site file has {target.units}")
    return given


def read_site(path: Path | None) -> Site:
    """Return the site of a file, of the demonstration where none is given; raises CommandFailed with every finding."""
    with as_file(files("tilctl.cli") / "demo-site.yaml") as demo:
        try:
            return load_site(path or demo)
        except DocumentError as error:
            raise CommandFailed(Exit.BAD_INPUT, f"the site file cannot be used:\n{error}") from error


def is_level(text: str) -> bool:
    """Return whether a text may be a level of a topic, as client and unit are."""
    return text.isprintable() and Topics("x").read_command(f"x/cmd/{text}/unit/verb") is not None


def seconds(text: str) -> float:
    """Return a time in s from an option; raises ValueError unless it is positive and at most a day."""
    value = float(text)
    if not (math.isfinite(value) and 0 < value <= 86400):
        raise ValueError(text)
    return value


def pairs(given: list[str], what: str) -> Mapping[str, str]:
    """Return `name=value` texts as a mapping; raises CommandFailed for one without `=`, and for a name given twice."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise CommandFailed(Exit.BAD_INPUT, f"{what} {text!r}: expected name=value, such as tvc='5e6 cells'")
        if name.strip() in found:
            raise CommandFailed(Exit.BAD_INPUT, f"{what} {text!r}: {name.strip()} is given twice")
        found[name.strip()] = value.strip()
    return found


def _user() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a user id without a name
        return "user"
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)[:40] or "user"
