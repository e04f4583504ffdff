"""`tilctl journal ...`: verify a record, show it and its times (changes no file); back up and restore."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import get_args

from tilctl.cli import journal_saving as saving
from tilctl.cli import journal_times as timing
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.plain import one_line
from tilctl.journal.chain import Record
from tilctl.journal.events import Event, to_json
from tilctl.journal.noted import noted_beside
from tilctl.journal.verify import Verdict, read
from tilctl.record.words import describe

KINDS = tuple(sorted(str(item.default) for each in get_args(Event) for item in fields(each) if item.name == "kind"))
_HASH = re.compile(r"[0-9a-f]{64}")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tilctl journal`."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    text = "check every event of a record: exit code 0 intact, 1 broken, 2 no such file"
    verifying = verbs.add_parser("verify", help=text, description=text)
    verifying.add_argument(
        "--head", metavar="HASH", help="a hash noted elsewhere that the record must hold, else it was cut short"
    )
    verifying.add_argument("--json", action="store_true", help="print one JSON object")
    showing = verbs.add_parser("show", help="print the events of a record, up to the first bad one")
    showing.add_argument("--json", action="store_true", help="print one JSON object for each event, a line each")
    showing.add_argument(
        "--kind", action="append", choices=KINDS, metavar="KIND", help="only such events (may be repeated)"
    )
    showing.add_argument("--path", metavar="PATH", dest="below", help="only events of this step and of those below it")
    showing.add_argument("--from", type=_sequence, default=1, metavar="SEQ", dest="first", help="from this event on")
    saving.arguments(verbs.add_parser)
    for sub in (verifying, showing, timing.arguments(verbs.add_parser)):
        sub.add_argument("file", type=Path, metavar="PATH", help="site.db, or the .db file of a batch")


def run(args: argparse.Namespace) -> int:
    """Verify, show, back up or restore; raises CommandFailed when there is no such file."""
    if args.verb in saving.VERBS:
        return saving.run(args)
    if not _is_file(args.file):
        raise CommandFailed(Exit.BAD_INPUT, f"{one_line(args.file)}: there is no such file")
    if not os.access(args.file, os.R_OK):
        raise CommandFailed(Exit.BAD_INPUT, f"{one_line(args.file)}: it cannot be read: check its permissions")
    return _verify(args) if args.verb == "verify" else _show(args)


def _verify(args: argparse.Namespace) -> int:
    head = None if args.head is None else str(args.head).strip().lower()
    if head is not None and not _HASH.fullmatch(head):
        raise CommandFailed(Exit.BAD_INPUT, f"--head: {args.head!r} is no hash: expected 64 hexadecimal digits")
    records, verdict = read(args.file, head)
    noted = noted_beside(args.file, records) if verdict.ok else None
    if noted is not None and noted.why:
        verdict = replace(verdict, ok=False, reason=noted.why)
    if args.json:
        beside = None if noted is None else {"site": str(noted.site), "seq": noted.seq}
        print(json.dumps({"path": str(args.file), **asdict(verdict), "noted": beside}))
    elif verdict.ok:
        print(f"{one_line(args.file)}: intact, {verdict.events} events, head {verdict.head}")
        if noted is not None:
            print(f"  holds what {one_line(noted.site)} has noted of it: event {noted.seq}")
    else:
        print(f"{one_line(args.file)}: {_broken(verdict)}")
    return Exit.OK if verdict.ok else Exit.NOT_WELL


def _show(args: argparse.Namespace) -> int:
    records, verdict = read(args.file)
    for line in timing.told(records, args) if args.verb == timing.VERB else _events(records, args):
        print(line)
    sys.stdout.flush()  # a reader that has gone is found here, not at the end of the process
    if verdict.ok:
        return Exit.OK
    print(f"tilctl journal: {one_line(args.file)}: {_broken(verdict)}", file=sys.stderr)
    return Exit.NOT_WELL


def _broken(verdict: Verdict) -> str:
    where = "broken" if verdict.first_bad is None else f"broken, first bad event {verdict.first_bad}"
    return f"{where}: {one_line(verdict.reason)} ({verdict.events} good events)"


def _chosen(records: Iterable[Record], args: argparse.Namespace) -> Iterator[Record]:
    below = None if args.below is None else str(args.below).rstrip("/")
    for record in records:
        path = _path(record.event)
        inside = below is None or path == below or path.startswith(f"{below}/")
        if record.seq >= args.first and inside and (args.kind is None or record.event.kind in args.kind):
            yield record


def _events(records: Iterable[Record], args: argparse.Namespace) -> Iterator[str]:
    for record in _chosen(records, args):
        yield _as_json(record) if args.json else _as_line(record)


def _as_line(record: Record) -> str:
    path = _path(record.event)
    return f"{record.seq:>6}  {record.t}  {one_line(describe(record.event))}" + (
        f"  ({one_line(path)})" if path else ""
    )


def _as_json(record: Record) -> str:
    """Return a record as JSON, its event in the very text whose hash it has."""
    rest = json.dumps({"prev": record.prev, "hash": record.hash})[1:]
    return f'{{"seq": {record.seq}, "t": "{record.t}", "event": {to_json(record.event)}, {rest}'


def _path(event: Event) -> str:
    return str(getattr(event, "path", ""))


def _sequence(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a part of the path that may not be looked into
        return False
