"""`tilctl device scan` as it is typed: a bus of the site file, a host and port, or a serial port."""

from __future__ import annotations

import argparse
import asyncio
import json
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
        "--bus", required=True, metavar="NAME|HOST:PORT|PATH", help="a bus of the site file, an address, a serial port"
    )
    parser.add_argument("--units", required=True, metavar="1-20", help="which units are asked: 1-20, 3, or 1-4,9")
    parser.add_argument("--max", type=int, default=MOST_UNITS, metavar="N", help=f"most units (default: {MOST_UNITS})")
    parser.add_argument(
        "--timeout", default="", metavar="TIME", help=f"of each request (default: that of the bus, or {WITHIN})"
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
        found = asyncio.run(_at(args, Wanted(args.bus, units, profiles, within)))
    else:
        _has_units(site, args.bus)
        there = {device.unit: name for name, device in site.devices.items() if device.bus == args.bus}
        known = {each.sha256 for each in profiles}
        profiles += list({p.sha256: p for p in site.profiles.values() if p.sha256 not in known}.values())
        wanted = Wanted(args.bus, units, profiles, within if args.timeout else site.buses[args.bus].timeout)
        with granted(site, list(there.values()), Wish(f"scan of bus {args.bus}", args.manual_mode, reason)):
            found = asyncio.run(_of(site, wanted))
    for each in found:
        print(_told(each, there.get(each.unit, ""), as_json=args.json))
    print(f"{len(found)} of {len(units)} units answer", file=sys.stderr)
    return Exit.OK if found else Exit.NOT_WELL


def _comparable() -> Iterator[Profile]:
    """Yield the profiles that come along; one that cannot be used is told of, and hinders nobody's scan."""
    for each in profile_ids():
        try:
            yield load_profile(each)
        except DocumentError as error:
            print(f"not compared with: {one_line(error.diagnostics[0])}", file=sys.stderr)


def _has_units(site: Site, name: str) -> None:
    if name not in site.buses:
        text = f"no bus is called {one_line(name)!r}; the site has {', '.join(site.buses)}"
        raise CommandFailed(Exit.BAD_INPUT, text)
    if site.buses[name].kind == "mqtt":
        raise CommandFailed(Exit.BAD_INPUT, f"{name} is a broker: it has no units to scan")


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
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= 65535:
        text = f"--bus: {one_line(text)!r} is no HOST:PORT and no serial port; with --site it may be a name"
        raise CommandFailed(Exit.BAD_INPUT, text)
    return host.strip("[]"), int(port), rtu_tcp_links(clock) if args.rtu else Link
