"""`tilctl device ...`: a person looks at instruments and tries them, while no controller runs them."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from devices.clock import SystemClock
from devices.equipment.spec import parts_of
from devices.instrument import DeviceError, DeviceOffline
from devices.reading import Quality, Reading
from tilctl.cli.commissioning import bus_scan
from tilctl.cli.commissioning.ending import Ending, Interrupted
from tilctl.cli.commissioning.granted import Wish, granted, note, person, reason_of, unnoted
from tilctl.cli.commissioning.looking import Looked, look
from tilctl.cli.commissioning.passing import NotPassed, check_passes
from tilctl.cli.commissioning.reach import known, reach
from tilctl.cli.commissioning.single import (
    arguments_of,
    blocks_of,
    command_of,
    in_words,
    planned,
    reading_in_words,
    seconds_of,
)
from tilctl.cli.commissioning.table import Probe, Row, drawn
from tilctl.cli.commissioning.watchdog import WatchdogFailed, silent, tried
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.logs import configure
from tilctl.cli.plain import one_line
from tilctl.cli.station import pairs, read_site
from tilctl.config import Site

MOST_LOOKS = 1_000_000


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tilctl device`."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = verbs.add_parser(
        "list", help="the instruments of a site: role, profile, evidence, bus; asks none of them"
    )
    text = "connect, and look at identity, settings and each block of instruments; exit code 1: one is not well"
    checking = verbs.add_parser("check", help=text, description=text)
    checking.add_argument("names", nargs="*", metavar="NAME", help="an instrument of the site file (default: all)")
    checking.add_argument(
        "--watchdog", action="store_true", help="also let the instrument's own watchdog act once: its outputs go safe"
    )
    text = "a live table of an instrument: raw words, value, unit, quality, age, latency; exit code 1: in the last one "
    text += "a point is bad"
    probing = verbs.add_parser("probe", help=text, description=text)
    probing.add_argument("name", metavar="NAME")
    probing.add_argument("--every", default="1 s", metavar="TIME", help="how often it is read (default: 1 s)")
    probing.add_argument("--count", type=int, default=0, metavar="N", help="so many times (default: until Ctrl-C)")
    text = "which units of a bus answer, within the bounds given, and which known profiles fit them; writes nothing"
    scanning = verbs.add_parser("scan", help=text, description=text)
    bus_scan.arguments(scanning)
    reading = verbs.add_parser("read", help="one point of an instrument; exit code 1: it is bad")
    reading.add_argument("name", metavar="NAME")
    reading.add_argument("point", metavar="POINT")
    text = "one command of an instrument's profile, within its limits, read back; shows what is sent, and wants --yes"
    writing = verbs.add_parser("write", help=text, description=text)
    writing.add_argument("name", metavar="NAME")
    writing.add_argument("command_name", metavar="COMMAND")
    writing.add_argument("args", nargs="*", metavar="ARG=VALUE", help="such as value=37 or value='37 degC'")
    for sub in (writing, checking):
        sub.add_argument("--yes", action="store_true", help="do it: without this it is only shown")
    for sub in (listing, checking, probing, scanning, reading, writing):
        sub.add_argument("--site", type=Path, required=sub is not scanning, metavar="FILE", help="the site file")
        sub.add_argument("--json", action="store_true", help="print JSON instead, one object a line")
        if sub is not listing:
            _manual(sub)


def _manual(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("instruments that a batch has, while its controller does not run")
    group.add_argument(
        "--manual-mode", action="store_true", help="have them all the same; it goes on the site's record"
    )
    group.add_argument("--reason", metavar="TEXT", help="why, for the record; needed with --manual-mode")


def run(args: argparse.Namespace) -> int:
    """List, check, probe, scan, read or write; raises CommandFailed."""
    configure(json=False, level="error")
    reason = reason_of(getattr(args, "reason", None))
    site = None if args.site is None else read_site(args.site)
    if args.verb == "scan":
        return bus_scan.run(args, site, reason)
    if site is None:
        raise CommandFailed(Exit.BAD_INPUT, "--site is needed")
    match args.verb:
        case "list":
            return _list(args, site)
        case "check":
            return _check(args, site, reason)
        case "probe":
            return _probe(args, site, reason)
        case "read":
            return _read(args, site, reason)
        case _:
            return _write(args, site, reason)


def _list(args: argparse.Namespace, site: Site) -> int:
    owner = {part: name for name, spec in site.equipment.items() for part in parts_of(spec)}
    rows: list[dict[str, Any]] = []
    for name, device in site.devices.items():
        profile = site.profiles[name]
        rows.append({
            "name": name, "role": profile.role, "profile": profile.id, "maker": profile.maker, "model": profile.model,
            "evidence": profile.evidence, "open_checks": len(profile.open_checks), "bus": device.bus,
            "unit": device.prefix or device.unit, "part_of": owner.get(name, ""),
        })  # fmt: skip
    if args.json:
        for row in rows:
            print(json.dumps(row))
        return Exit.OK
    columns = ("name", "role", "profile", "evidence", "bus", "unit", "part_of")
    widths = [max(len(one_line(row[column])) for row in rows) for column in columns]
    for row in rows:
        cells = (f"{one_line(row[column]):{width}}" for column, width in zip(columns, widths, strict=True))
        print("  ".join(cells).rstrip())
    return Exit.OK


def _check(args: argparse.Namespace, site: Site, reason: str) -> int:
    names = known(site, args.names) or list(site.devices)
    if args.watchdog and not args.yes:
        _shown_watchdogs(site, names)
        text = "nothing was asked yet: a watchdog that acts stops what the instrument does. Add --yes to let it"
        raise CommandFailed(Exit.BAD_INPUT, text)
    what = f"check{' with watchdog' if args.watchdog else ''} of {', '.join(names)}"
    looked, why, lost = list[Looked](), "", ""
    with granted(site, names, Wish(what, args.manual_mode, reason)):
        if args.watchdog:
            why, lost = _watchdogs(site, names, looked)
        else:
            asyncio.run(_looked(site, names, looked))
    for each in looked:
        print(json.dumps(each.as_json()) if args.json else "\n".join(map(one_line, each.lines())))
    if lost:
        raise CommandFailed(Exit.RECORD, f"what became of the watchdogs is told above, but {lost}")
    if why:
        raise CommandFailed(Exit.INTERRUPTED, f"interrupted ({why}): {_left(names, looked) or 'all were looked at'}")
    return Exit.OK if all(each.well for each in looked) else Exit.NOT_WELL


def _watchdogs(site: Site, names: list[str], looked: list[Looked]) -> tuple[str, str]:
    """Check with watchdogs; return why it was told to end, and why the outcome is not on the record ("" each)."""
    with Ending() as ending:
        note(site, f"commissioning: the watchdogs of {', '.join(names)} are tried, by {person()}")
        asyncio.run(_looked(site, names, looked, ending))
        told = [f"{each.name}: {each.watchdog or 'not tried'}" for each in looked]
        told += [f"interrupted ({ending.why})"] * bool(ending.why) + [_left(names, looked)] * (len(looked) < len(names))
        return ending.why, unnoted(site, f"commissioning: {'; '.join(told)}", exception=bool(ending.why))


def _left(names: list[str], looked: list[Looked]) -> str:
    left = names[len(looked) :]
    return f"not looked at: {', '.join(left)}" if left else ""


def _shown_watchdogs(site: Site, names: list[str]) -> None:
    for name in names:
        dog, silence = site.profiles[name].watchdog, site.profiles[name].silence
        what = f"armed with {dog.timeout_s:g} s, not fed; it should then do: {dog.action}" if dog else "has none"
        if dog is None and silence is not None:
            what = f"asked nothing for {silence.within_s:g} s; all its outputs should then be open"
        print(f"{name}: watchdog {what}", file=sys.stderr)


async def _looked(site: Site, names: list[str], found: list[Looked], ending: Ending | None = None) -> None:
    """Look at each; with an `ending` try its watchdog too, until told to end."""
    async with reach(site, names) as there:
        for name in names:
            if ending is not None and ending.why:
                return
            each = await look(there, name)
            found.append(each)
            if ending is None or ending.why or not each.well:
                continue
            try_it = tried if each.profile.watchdog else silent if each.profile.silence else None
            if try_it is None:
                each.watchdog = "it has none"
                continue
            try:
                each.watchdog = await try_it(there.instrument(name), there.clock, lambda: ending.why)
            except (WatchdogFailed, DeviceError) as error:
                each.watchdog = f"FAILED: {error}"
                each.wrong.append(f"watchdog: {error}")


def _probe(args: argparse.Namespace, site: Site, reason: str) -> int:
    (name,) = known(site, [args.name])
    every = seconds_of(args.every, "--every")
    if not 0 <= args.count <= MOST_LOOKS:
        raise CommandFailed(Exit.BAD_INPUT, f"--count: expected 1 to {MOST_LOOKS}, or 0 for no end")
    with granted(site, [name], Wish(f"probe of {name}", args.manual_mode, reason)):
        return asyncio.run(_probed(args, site, name, every))


async def _probed(args: argparse.Namespace, site: Site, name: str, every: float) -> int:
    from rich.console import Console  # noqa: PLC0415 - for this one verb
    from rich.live import Live  # noqa: PLC0415

    async with reach(site, [name]) as there:
        probe, rows, looks = Probe(there, name), list[Row](), 0
        profile = site.profiles[name]
        title = f"{profile.maker} {profile.model} ({profile.id}, evidence {profile.evidence})"
        console = Console()
        live = None if args.json or not console.is_terminal else Live(console=console, auto_refresh=False)
        try:
            if live is not None:
                live.start()
            while not looks or looks < args.count or not args.count:
                due = there.clock.monotonic() + every
                rows, looks = await probe.look(), looks + 1
                if args.json:
                    told = {"name": name, "t": there.clock.now().isoformat(), "points": [row.as_json() for row in rows]}
                    print(json.dumps(told), flush=True)
                elif live is not None:
                    live.update(drawn(name, one_line(title), rows), refresh=True)
                else:
                    console.print(drawn(name, one_line(title), rows), soft_wrap=True)
                if looks != args.count:
                    await there.clock.sleep_until(due)
        finally:
            if live is not None:
                live.stop()
    return Exit.NOT_WELL if any(row.bad for row in rows) else Exit.OK


def _read(args: argparse.Namespace, site: Site, reason: str) -> int:
    (name,) = known(site, [args.name])
    blocks = blocks_of(site.profiles[name], args.point)
    with granted(site, [name], Wish(f"read {name}.{args.point}", args.manual_mode, reason)):
        return asyncio.run(_point(args, site, name, blocks))


async def _point(args: argparse.Namespace, site: Site, name: str, blocks: list[str]) -> int:
    readings: dict[str, Reading] = {}
    async with reach(site, [name]) as there:
        try:
            for block in blocks:
                readings |= await there.instrument(name).read(block)
        except DeviceError as error:
            raise CommandFailed(_code(error), one_line(error)) from error
    reading = readings[args.point]
    if args.json:
        told = {"point": args.point, "value": reading.value, "unit": reading.unit, "quality": str(reading.quality)}
        print(json.dumps({"name": name, **told, "evidence": site.profiles[name].evidence}))
    else:
        print(f"{name}: profile {site.profiles[name].id}, evidence {site.profiles[name].evidence}", file=sys.stderr)
        print(f"{name}.{reading_in_words(args.point, reading)}")
    return Exit.NOT_WELL if reading.quality is Quality.BAD else Exit.OK


def _write(args: argparse.Namespace, site: Site, reason: str) -> int:
    (name,) = known(site, [args.name])
    device = site.devices[name]
    command = command_of(site.profiles[name], args.command_name)
    values = arguments_of(command, pairs(args.args, "argument"))
    where = f"{device.prefix or f'unit {device.unit}'} on {device.bus}"
    plan = planned(name, site.profiles[name], command, values, where)
    for line in plan:
        print(one_line(line) if not line.startswith("  ") else f"  {one_line(line[2:])}", file=sys.stderr)
    if not args.yes:
        raise CommandFailed(Exit.BAD_INPUT, "nothing was sent: add --yes to send it")
    what, evidence = in_words(command, values), site.profiles[name].evidence
    with Ending() as ending, granted(site, [name], Wish(f"write {name} {what}", args.manual_mode, reason)):
        # Invariant: what a person is about to do to an instrument is on the record before it hears of it.
        note(site, f"commissioning: {name} is to {what}, by {person()}" + (f": {reason}" if reason else ""))
        try:
            shown = ending.run(lambda: _written(site, name, command.name, values))
        except DeviceError as error:
            raise _without(site, _code(error), one_line(error)) from error
        except NotPassed as error:
            text = f"{name}: {command.name} was not sent: {one_line(error)}"
            raise _without(site, Exit.UNAVAILABLE if error.silent else Exit.NOT_WELL, text) from error
        except Interrupted as told:
            outcome = "outcome unknown: look at the instrument" if told.begun else "nothing was sent"
            raise _without(site, Exit.INTERRUPTED, f"{name}: {command.name} was {told}, {outcome}") from told
        lost = unnoted(site, f"commissioning: {name} did {what}: {', '.join(shown) or 'acknowledged'}")
    if args.json:
        print(
            json.dumps({"name": name, "command": command.name, "done": True, "readings": shown, "evidence": evidence})
        )
    else:
        print(f"{name}: {command.name} done: {', '.join(shown) or 'acknowledged; it cannot be read back'}")
    if lost:
        raise CommandFailed(Exit.RECORD, f"{name} did {what}, but {lost}")
    return Exit.OK


def _without(site: Site, code: Exit, outcome: str) -> CommandFailed:
    """Put on the record how a write ended that was not seen to be done, and return what a person is told."""
    lost = unnoted(site, f"commissioning: {outcome}", exception=True)
    return CommandFailed(Exit.RECORD, f"{outcome}; but {lost}") if lost else CommandFailed(code, outcome)


async def _written(site: Site, name: str, command: str, values: dict[str, Any]) -> list[str]:
    clock = SystemClock()
    try:  # Invariant: no writer passes an interlock, a person neither
        await check_passes(site, name, command, clock.now())
    finally:
        clock.close()
    async with reach(site, [name]) as there:
        instrument = there.instrument(name)
        readings = await instrument.command(command, values)
        checked = [check.point for check in instrument.profile.commands[command].verify.checks]
        return [reading_in_words(point, readings[point]) for point in checked if point in readings]


def _code(error: DeviceError) -> Exit:
    return Exit.UNAVAILABLE if isinstance(error, DeviceOffline) else Exit.NOT_WELL
