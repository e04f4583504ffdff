"""`tilctl ledger ...`: the volumes of a running batch, as an MQTT client."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from devices.quantity import show
from tilctl.cli import asking, station
from tilctl.cli.exits import Exit
from tilctl.cli.plain import one_line


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tilctl ledger`."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    text = "every account, what it should weigh and weighs, and what the rest of the recipe takes"
    _common(verbs.add_parser("show", help=text, description=text))
    text = "book a signed correction of one container, by two people; it is on the record and on the list for review"
    correct = verbs.add_parser("correct", help=text, description=text)
    correct.add_argument("container", metavar="CONTAINER", help="its name, such as 'pre[2]'")
    amount = correct.add_mutually_exclusive_group(required=True)
    amount.add_argument("--volume", metavar="VOLUME", help="what it holds now, with its unit: '412 mL'")
    amount.add_argument("--change", metavar="CHANGE", help="by how much, signed, with its unit: --change='-12 mL'")
    correct.add_argument("--second", required=True, metavar="USER:ROLE", help="another person, who agrees")
    _common(correct)
    correct.add_argument("--batch", metavar="NAME", help="refuse when the unit has another batch than this")
    asking.of_a_command(correct)
    asking.who(correct)


def _common(parser: argparse.ArgumentParser) -> None:
    asking.arguments(parser)
    parser.add_argument("--unit", metavar="NAME", help="the unit (default: the only one of the site file)")


def run(args: argparse.Namespace) -> int:
    """Show the ledger, or correct it; raises CommandFailed."""
    target = station.target_of(args)
    unit = station.unit_of(target, args.unit)
    if args.verb == "correct":
        given: dict[str, Any] = {"container": args.container, "second": asking.person(args.second, "--second")}
        given |= {name: value for name in ("volume", "change") if (value := getattr(args, name)) is not None}
        answer = asyncio.run(asking.ask(args, target, unit, "correct", given))
        return asking.told(args, unit, answer, "ledger")
    answer = asyncio.run(asking.ask(args, target, unit, "status", {}))
    if answer.get("status") != "done":
        return asking.told(args, unit, answer, "ledger")
    data = cast("dict[str, Any]", answer.get("data") or {})
    ledger = cast("dict[str, Any]", data.get("ledger") or {})
    shown = {"unit": unit, "batch": data.get("batch", ""), **ledger}
    print(json.dumps(shown) if args.json else "\n".join(view(unit, ledger)))
    return Exit.OK


def view(unit: str, ledger: Mapping[str, Any]) -> Iterator[str]:
    """Yield the ledger as lines for a person."""
    rows = cast("list[Mapping[str, Any]]", ledger.get("containers") or [])
    if not rows:
        yield f"{one_line(unit)} has no ledger: no container was mounted"
        return
    yield f"{'container':14} {'place':6} {'holds':>10} {'limit':>10} {'expected':>10} {'weighed':>10} {'off':>9}"
    for row in rows:
        yield (
            f"{one_line(row['name']):14} {one_line(row['place'] or '-'):6} {_amount(row['volume_ml'], 'mL'):>10} "
            f"{_amount(row['limit_ml'], 'mL'):>10} {_amount(row['expected_g'], 'g'):>10} "
            f"{_amount(row['weighed_g'], 'g'):>10} {_amount(row['off_g'], 'g'):>9}"
        )
    for name, volume in cast("Mapping[str, Any]", ledger.get("accounts") or {}).items():
        yield f"{one_line(name):21} {_amount(volume, 'mL'):>10}"
    for text in cast("list[object]", ledger.get("forecast") or []):
        yield f"rest of the recipe: {one_line(text)}"


def _amount(value: object, unit: str) -> str:
    return show(float(value), unit) if isinstance(value, int | float) else "-"
