"""`tilctl device scan` as it is typed: a bus of the site file, a host and port, or a serial port.

Invariant: a bus has one owner.  A bus of the site file is scanned under the site's lock, however it is named; a serial
port the system itself gives to one program only; of any other address nobody but the person can say that it is free.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from devices.clock import SystemClock
from devices.document import DocumentError
from devices.modbus.bus import ModbusBus
from devices.modbus.gateway import rtu_tcp_links
from devices.modbus.link import Link
from devices.modbus.pdu import NotSentError
from devices.modbus.serial import serial_links
from devices.modbus.wire import LinkMaker
from devices.profile import Profile, load_profile, profile_ids
from tilctl.cli.commissioning.granted import Wish, granted
from tilctl.cli.commissioning.reach import paced
from tilctl.cli.commissioning.search import MOST, Found, search, units_of
from tilctl.cli.commissioning.single import seconds_of
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.plain import one_line
from tilctl.config import Site
from tilctl.plant.wires import modbus_bus

MOST_UNITS = 32
WITHIN = "0.5 s"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: units of a bus, and the profiles that they are held against; `within` in s."""

    bus: str
    units: list[int]
    profiles: list[Profile]
    within: float


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tilctl device scan`."""
    parser.add_argument(
        "--bus",
        required=True,
        metavar="NAME|HOST:PORT|PATH",
        help="a bus of the site file, by its name or by where it is; without --site an address or a serial port",
    )
    parser.add_argument("--units", required=True, metavar="1-20", help="which units are asked: 1-20, 3, or 1-4,9")
    parser.add_argument("--max", type=int, default=MOST_UNITS, metavar="N", help=f"most units (default: {MOST_UNITS})")
    parser.add_argument(
        "--timeout", default="", metavar="TIME", help=f"of each request (default: that of the bus, or {WITHIN})"
    )
    parser.add_argument(
        "--no-other-master",
        action="store_true",
        help="nobody else uses HOST:PORT now, no controller either: needed for an address without --site",
    )
    parser.add_argument("--rtu", action="store_true", help="HOST:PORT is a gateway that speaks RTU over TCP")
    parser.add_argument("--baud", type=int, default=9600, metavar="N", help="of a serial port (default: 9600)")
    parser.add_argument("--format", default="8N1", metavar="8N1", help="of a serial port (default: 8N1)")


def run(args: argparse.Namespace, site: Site | None, reason: str) -> int:
    """Scan; raises CommandFailed."""
    if args.max < 1 or args.max > MOST:
        raise CommandFailed(Exit.BAD_INPUT, f"--max: expected 1 to {MOST}")
    units = units_of(args.units, args.max)
    within = seconds_of(args.timeout or WITHIN, "--timeout")
    profiles = list(_comparable())
    there = dict[int, str]()
    if site is None:
        _owned_by_nobody(args)
        found = asyncio.run(_at(args, Wanted(args.bus, units, profiles, within)))
    else:
        name = _meant(site, args.bus)
        there = {device.unit: each for each, device in site.devices.items() if device.bus == name}
        known = {each.sha256 for each in profiles}
        profiles += list({p.sha256: p for p in site.profiles.values() if p.sha256 not in known}.values())
        wanted = Wanted(name, units, profiles, within if args.timeout else site.buses[name].timeout)
        with granted(site, list(there.values()), Wish(f"scan of bus {name}", args.manual_mode, reason)):
            found = asyncio.run(_of(site, wanted))
    for each in found:
        print(_told(each, there.get(each.unit, ""), as_json=args.json))
    answering = sum(each.understood for each in found)
    garbled = f"; {len(found) - answering} with what is no answer" if answering < len(found) else ""
    print(f"{answering} of {len(units)} units answer{garbled}", file=sys.stderr)
    return Exit.OK if answering else Exit.NOT_WELL


def _comparable() -> Iterator[Profile]:
    """Yield the profiles that come along; one that cannot be used is told of, and hinders nobody's scan."""
    for each in profile_ids():
        try:
            yield load_profile(each)
        except DocumentError as error:
            print(f"not compared with: {one_line(error.diagnostics[0])}", file=sys.stderr)


def _meant(site: Site, text: str) -> str:
    """Return the bus of the site file that is meant, by its name or by where it is; raises CommandFailed."""
    if text in site.buses:
        if site.buses[text].kind == "mqtt":
            raise CommandFailed(Exit.BAD_INPUT, f"{text} is a broker: it has no units to scan")
        return text
    for name, bus in site.buses.items():
        if bus.path and os.path.realpath(bus.path) == os.path.realpath(text):
            return name
        host, port = _host_and_port(text)
        if port and port == bus.port and (host.lower() == bus.host.lower() or _hosts(host) & _hosts(bus.host)):
            return name
    known = ", ".join(f"{name} ({bus.address})" for name, bus in site.buses.items() if bus.kind != "mqtt")
    text = f"no bus is called {one_line(text)!r}; the site has {known}; any other is scanned without --site"
    raise CommandFailed(Exit.BAD_INPUT, text)


def _hosts(host: str) -> set[str]:
    """Return the addresses of a host; none where nobody knows them."""
    with contextlib.suppress(ValueError):
        return {str(ipaddress.ip_address(host))}  # nobody needs to be asked
    with contextlib.suppress(OSError, UnicodeError):
        return {str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    return set()


def _owned_by_nobody(args: argparse.Namespace) -> None:
    """Have the person say that nobody else has an address; raises CommandFailed."""
    if args.no_other_master or not _host_and_port(str(args.bus))[1]:
        return
    text = (
        f"a scan asks every unit at {one_line(args.bus)} several times, as one more master: it takes time from "
        "whoever uses that bus, and a gateway of one session cuts them off. Nothing was sent. With --site FILE it is "
        "known whose bus that is; otherwise see that no controller and nobody else has it: then --no-other-master"
    )
    raise CommandFailed(Exit.BAD_INPUT, text)


def _host_and_port(text: str) -> tuple[str, int]:
    """Return the parts of HOST:PORT; port 0 where it is none."""
    host, _, port = text.rpartition(":")
    if text.startswith("/") or not host or not (port.isascii() and port.isdecimal() and len(port) <= 5):
        return "", 0
    return (host.strip("[]"), int(port)) if int(port) <= 65535 else ("", 0)


def _told(found: Found, name: str, *, as_json: bool) -> str:
    if as_json:
        return json.dumps({**found.as_json(), "name": name})
    fits = f"fits {', '.join(found.fits)}" if found.fits else "no known identity fits"
    told = [f"unit {found.unit}: {found.strange or fits}"]
    told += [f"serial number {found.serial}"] * bool(found.serial) + [f"{name} in the site file"] * bool(name)
    return one_line(", ".join(told))


async def _at(args: argparse.Namespace, wanted: Wanted) -> list[Found]:
    clock = SystemClock()
    try:
        host, port, maker = _address(args, clock)
        return await _searched(ModbusBus(wanted.bus, host, port, clock, timeout=wanted.within, link=maker), wanted)
    finally:
        clock.close()


async def _of(site: Site, wanted: Wanted) -> list[Found]:
    clock = SystemClock()
    try:
        bus = modbus_bus(site.buses[wanted.bus], clock)
        paced(site, {wanted.bus: bus})
        bus.timeout = wanted.within
        return await _searched(bus, wanted)
    finally:
        clock.close()


async def _searched(bus: ModbusBus, wanted: Wanted) -> list[Found]:
    await bus.open()
    try:
        return await search(bus, wanted.units, wanted.profiles)
    except NotSentError as error:
        raise CommandFailed(Exit.UNAVAILABLE, one_line(error)) from error
    finally:
        await bus.close()


def _address(args: argparse.Namespace, clock: SystemClock) -> tuple[str, int, LinkMaker]:
    text = str(args.bus)
    if text.startswith("/"):
        try:
            return text, 0, serial_links(clock, baud=args.baud, format=args.format)
        except ValueError as error:
            raise CommandFailed(Exit.BAD_INPUT, one_line(error)) from error
    host, port = _host_and_port(text)
    if not port:
        text = f"--bus: {one_line(text)!r} is no HOST:PORT and no serial port; with --site it may be a name"
        raise CommandFailed(Exit.BAD_INPUT, text)
    return host, port, rtu_tcp_links(clock) if args.rtu else Link
