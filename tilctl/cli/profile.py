"""`tilctl profile ...`: check profiles of instruments, list them, show one as a table, serve one as a simulator."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from devices.diagnostic import Diagnostic, DocumentError
from devices.profile import Profile, load_profile, profile_ids
from devices.profile_schema import mqtt_profile_schema, profile_schema
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.plain import one_line
from tilctl.cli.profiling.finding import doubts, found, wanted
from tilctl.cli.profiling.sheet import markdown, plain, sheet

_UNREADABLE = ("file-missing", "file-unreadable", "profile-unknown")


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of one file: its profile and what is doubtful in it, or what was found wrong with it."""

    asked: str
    profile: Profile | None
    found: tuple[Diagnostic, ...]

    @property
    def readable(self) -> bool:
        """Return whether there was a file to check."""
        return not any(item.code in _UNREADABLE for item in self.found)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tilctl profile`."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    text = "print everything that is wrong with profiles, with place and hint, as the controller would find it"
    checking = verbs.add_parser("check", help=text, description=text + ". Exit code 2: at least one cannot be used.")
    checking.add_argument("profiles", nargs="+", metavar="FILE", help="a profile's file, or the id of one of ours")
    listing = verbs.add_parser("list", help="the profiles that come along, and those of folders")
    listing.add_argument(
        "--folder", type=Path, action="append", default=[], metavar="DIR", help="a folder of yours (may be repeated)"
    )
    for sub in (checking, listing):
        sub.add_argument("--json", action="store_true", help="print one JSON object")
    text = "a profile as a table: what it reads, writes and must not touch, and how far it may be trusted"
    telling = verbs.add_parser("doc", help=text, description=text)
    telling.add_argument("profile", metavar="FILE_OR_ID", help="a profile's file, or the id of one of ours")
    telling.add_argument("--markdown", action="store_true", help="as Markdown")
    schema = verbs.add_parser("schema", help="the JSON Schema of a profile, for editors")
    schema.add_argument("--mqtt", action="store_true", help="that of a profile over MQTT instead")
    text = "serve the registers of a profile, so that any Modbus client can read and write them"
    serving = verbs.add_parser("simulate", help=text, description=text + ", until SIGTERM or SIGINT.")
    serving.add_argument("profile", metavar="FILE_OR_ID", help="a profile's file, or the id of one of ours")
    serving.add_argument("--port", type=int, metavar="P", help="where to listen (default: any free port)")
    serving.add_argument("--host", help="the address to listen on (default: 127.0.0.1)")
    serving.add_argument("--unit", type=int, metavar="U", help="the unit id, 1 to 247 (default: 1)")
    line = serving.add_mutually_exclusive_group()
    line.add_argument("--rtu", action="store_true", help="speak RTU over TCP, as a gateway does")
    line.add_argument("--serial", metavar="PATH", help="serve on a serial port, by RTU")
    line.add_argument("--pty", action="store_true", help="serve on a pseudo-terminal, by RTU; its path is printed")
    serving.add_argument("--url", metavar="mqtt://HOST:PORT", help="the broker of an instrument that speaks MQTT")
    serving.add_argument("--prefix", metavar="TOPIC", help="what its topics begin with (default: as in the profile)")
    serving.add_argument("--baud", type=int, metavar="N", help="of a serial port (default: 9600)")
    serving.add_argument("--format", metavar="8N1", help="of a serial port (default: 8N1)")


def run(args: argparse.Namespace) -> int:
    """Check, list, show or serve; raises CommandFailed."""
    if args.verb == "check":
        return _check(args)
    if args.verb == "list":
        return _list(args)
    if args.verb == "schema":
        return _schema(mqtt=args.mqtt)
    profile = wanted(args.profile)
    if args.verb == "doc":
        print((markdown if args.markdown else plain)(sheet(profile)))
        return Exit.OK
    from tilctl.cli.profiling.serving import serve  # noqa: PLC0415 - the simulators, for this one verb

    return serve(profile, args)


def _check(args: argparse.Namespace) -> int:
    checked = [_checked(asked) for asked in args.profiles]
    ok = all(each.profile is not None for each in checked)
    if args.json:
        print(json.dumps({"ok": ok, "files": [_as_json(each) for each in checked]}))
    else:
        for each in checked:
            print("\n".join([*(one_line(item) for item in each.found), _summary(each)]))
    return Exit.OK if ok else Exit.BAD_INPUT


def _checked(asked: str) -> Checked:
    try:
        profile = found(asked)
        return Checked(asked, profile, doubts(asked, profile))
    except DocumentError as error:
        return Checked(asked, None, error.diagnostics)


def _summary(each: Checked) -> str:
    asked, profile = one_line(each.asked), each.profile
    if not each.readable:
        return f"{asked}: not checked"
    if profile is None:
        return f"{asked}: {_number(len(each.found), 'error')}"
    left = _number(len(profile.open_checks), "open check")
    trust = f"evidence {profile.evidence}, {left}"
    wrong = f"no errors, {_number(len(each.found), 'warning')}" if each.found else "no errors"
    return f"{asked}: profile {profile.id} {profile.version}, a {profile.role}: {wrong} ({trust})"


def _number(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _as_json(each: Checked) -> dict[str, Any]:
    return {
        "file": each.asked, "ok": each.profile is not None, "readable": each.readable,
        "profile": None if each.profile is None else _entry(each.profile),
        "diagnostics": [asdict(item) for item in each.found],
    }  # fmt: skip


def _entry(profile: Profile) -> dict[str, Any]:
    return {
        "id": profile.id, "version": profile.version, "role": profile.role, "maker": profile.maker,
        "model": profile.model, "evidence": profile.evidence, "open_checks": list(profile.open_checks),
        "kinds": list(profile.kinds), "sha256": profile.sha256,
    }  # fmt: skip


def _schema(*, mqtt: bool) -> int:
    json.dump(mqtt_profile_schema() if mqtt else profile_schema(), sys.stdout, indent=2)
    print()
    return Exit.OK


def _list(args: argparse.Namespace) -> int:
    for folder in args.folder:
        if not folder.is_dir():
            raise CommandFailed(Exit.BAD_INPUT, f"--folder: {one_line(folder)} is no folder")
    names: Sequence[str | Path] = (
        *(path for folder in args.folder for path in sorted(folder.glob("*.yaml"))),
        *profile_ids(),
    )
    good: list[tuple[str | Path, Profile]] = []
    broken: list[tuple[str | Path, str]] = []
    for name in names:
        try:
            good.append((name, load_profile(name)))
        except DocumentError as error:
            broken.append((name, str(error.diagnostics[0])))
    if args.json:
        unusable = [{"file": str(name), "problem": problem} for name, problem in broken]
        listed = [_entry(profile) | {"file": str(name)} for name, profile in good]
        print(json.dumps({"profiles": listed, "unusable": unusable}))
        return Exit.OK
    rows = [(p.id, p.role, p.maker, p.model, p.evidence, "+".join(p.kinds)) for _, p in good]
    widths = [max((len(one_line(row[i])) for row in rows), default=0) for i in range(6)]
    for row in rows:
        print("  ".join(f"{one_line(cell):{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    for name, problem in broken:
        print(f"{one_line(name)}: cannot be used: {one_line(problem)}")
    return Exit.OK
