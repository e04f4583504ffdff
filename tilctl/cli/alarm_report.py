"""`tilctl alarm report`: how well the alarms served, from records on disk, each by itself and together."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from devices.quantity import show
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.plain import one_line
from tilctl.journal.chain import Record
from tilctl.journal.verify import read
from tilctl.record.alarm_figures import GUIDE, AlarmFigures, figures, merged

SHORT_S = 3600.0  # s under which a rate says nothing


def run(args: argparse.Namespace) -> int:
    """Report on records, each verified; of a broken one the good part is counted, and it is said.

    Raises CommandFailed where there is no such record.
    """
    whole = Exit.OK
    found: dict[str, Sequence[Record]] = {}
    for path in cast("list[Path]", args.files):
        if not path.is_file():
            raise CommandFailed(Exit.BAD_INPUT, f"{path}: there is no such record")
        records, verdict = read(path)
        if not verdict.ok:
            whole = Exit.NOT_WELL
            text = f"{path} is broken: {verdict.reason}; its {len(records)} good events are counted"
            print(f"tilctl alarm: {one_line(text)}", file=sys.stderr)
        name = path.stem if path.stem not in found else str(path)
        found.setdefault(name, records)
    each = {name: figures(records) for name, records in found.items()}
    together = merged(found) if len(found) > 1 else None
    if args.json:
        report: dict[str, Any] = {"records": {name: as_json(one) for name, one in each.items()}}
        if together is not None:
            report["together"] = as_json(together)
        print(json.dumps(report))
        return whole
    rows = [*each.items(), *([("together", together)] if together is not None else [])]
    print("\n".join(line for name, one in rows for line in _told(name, one)))
    return whole


def as_json(found: AlarmFigures) -> dict[str, Any]:
    """Return figures as JSON-able values; times in s."""
    return {
        "seconds": found.seconds,
        "announced": found.announced,
        "unannounced": found.unannounced,
        "rate_per_hour": round(found.rate_per_hour, 3),
        "most_in_10_min": found.most_in_window,
        "floods": found.floods,
        "flood_seconds": found.flood_s,
        "chattering": dict(found.chattering),
        "stale": found.stale(found.last) if found.last else [],
        "top": dict(found.top()),
        "by_priority": dict(found.by_priority),
        "shares": {name: round(share, 3) for name, share in found.shares().items()},
        "acknowledged": found.acknowledged,
        "mean_acknowledge_seconds": found.acknowledge_s / found.acknowledged if found.acknowledged else None,
        "longest_unacknowledged_seconds": found.longest_unacknowledged_s,
        "set_aside": dict(found.set_aside),
        "announced_again": dict(found.again),
    }


def _told(name: str, found: AlarmFigures) -> Iterator[str]:
    shares = found.shares()
    quiet = f", {found.unannounced} more while set aside" if found.unannounced else ""
    rate = f"{found.rate_per_hour:.2f} an hour (good: 6 at most, too many: over 12)"
    if found.seconds < SHORT_S:
        rate = "too short a time for a rate"
    yield f"{one_line(name)}: {found.announced} alarms in {show(found.seconds, 's')}, {rate}{quiet}"
    percent = 100 * found.flood_s / found.seconds if found.seconds else 0.0
    flood = f"{show(found.flood_s, 's')} in {found.floods} floods ({percent:.1f} % of the time, wanted: under 1 %)"
    yield f"  flood        {flood}, at most {found.most_in_window} in 10 min"
    told = ", ".join(f"{key} {100 * shares[key]:.0f} % (guide {100 * guide:.0f} %)" for key, guide in GUIDE.items())
    yield f"  priorities   {told}"
    if found.acknowledged:
        mean = show(found.acknowledge_s / found.acknowledged, "s")
        longest = show(found.longest_unacknowledged_s, "s")
        yield f"  acknowledged {found.acknowledged}, after {mean} on average, {longest} at most"
    yield from _counted("chattering", found.chattering.items())
    yield from _counted("set aside", found.set_aside.items())
    yield from _counted("told again", found.again.items())
    yield from _counted("stale", ((alarm, 1) for alarm in (found.stale(found.last) if found.last else [])))
    yield from _counted("most often", found.top())


def _counted(title: str, items: Iterable[tuple[str, int]]) -> Iterator[str]:
    told = ", ".join(f"{one_line(name)} {count}" for name, count in items)
    if told:
        yield f"  {title:12} {told}"
