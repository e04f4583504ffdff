"""`tilctl doctor`: is everything there that a site needs?  One line for each check, and what to do."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import asdict
from pathlib import Path

from devices.clock import SystemClock
from devices.document import DocumentError
from tilctl.cli.examining import machine, reachable, trust
from tilctl.cli.examining.finding import Finding
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.logs import configure
from tilctl.cli.plain import lines, one_line
from tilctl.config import Site, load_site

_UNREADABLE = ("file-missing", "file-unreadable")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tilctl doctor`."""
    parser.add_argument("--site", type=Path, required=True, metavar="FILE", help="the site file")
    parser.add_argument(
        "--gmp", action="store_true", help="what is not proven on the bench, and a clock that is not synchronised, fail"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Check everything and say it; exit code 1 when anything fails.  Raises CommandFailed where there is no file."""
    configure(json=False, level="critical")
    findings, site = [], None
    try:
        site = load_site(args.site, logins=True)
    except DocumentError as error:
        if any(each.code in _UNREADABLE for each in error.diagnostics):
            raise CommandFailed(Exit.BAD_INPUT, lines(error)) from error
        findings = [Finding("fail", "site file", str(each), "mend the file") for each in error.diagnostics]
    if site is not None:
        findings = asyncio.run(_gathered(site, gmp=args.gmp))
    failed = sum(each.status == "fail" for each in findings)
    if args.json:
        print(json.dumps({"ok": not failed, "checks": [asdict(each) for each in findings]}))
    else:
        for each in findings:
            todo = f"  -> {one_line(each.todo)}" if each.todo else ""
            print(f"{each.status:4}  {one_line(each.check)}: {one_line(each.text)}{todo}")
        warned = sum(each.status == "warn" for each in findings)
        print(f"{len(findings)} checks: {failed} failed, {warned} to look at")
    return Exit.NOT_WELL if failed else Exit.OK


async def _gathered(site: Site, *, gmp: bool) -> list[Finding]:
    clock = SystemClock()
    try:
        return [finding async for finding in _checked(site, clock, gmp=gmp)]
    finally:
        clock.close()


async def _checked(site: Site, clock: SystemClock, *, gmp: bool) -> AsyncGenerator[Finding]:
    what = f"{len(site.devices)} instruments on {len(site.buses)} buses, {len(site.units)} units"
    yield Finding("ok", "site file", f"site {site.name}, node {site.node}: {what}")
    found, runs = machine.lock(site)
    yield found
    for finding in machine.disk(site):
        yield finding
    yield machine.record(site, runs=runs)
    yield machine.clock(clock.synchronised(), gmp=gmp)
    for finding in await reachable.broker("broker", site.mqtt_url, site.mqtt_login, clock):
        yield finding
    yield machine.metrics_port(site, runs=runs)
    for bus in site.buses.values():
        if bus.kind == "mqtt":
            for finding in await reachable.broker(f"bus {bus.name}", bus.url, bus.login, clock):
                yield finding
        elif bus.kind == "modbus-rtu":
            for finding in machine.serial_port(bus):
                yield finding
        else:
            yield await reachable.tcp(bus, clock, runs=runs)
    for finding in trust.profiles(site, gmp=gmp):
        yield finding
    for finding in trust.given(site):
        yield finding
    for finding in trust.calibrations(site, clock.now().date()):
        yield finding
