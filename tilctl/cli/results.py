"""`tilctl results ...`: which laboratory results are awaited, and giving them: one by one, or as a file."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any, cast

from tilctl.cli import asking, station
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.plain import lines, one_line
from tilctl.cli.results_file import MOST_BYTES, Answer, Question, left, match, read


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tilctl results`."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    text = "the results that are awaited, also of lots whose batch is closed: since when, and until when"
    listing = verbs.add_parser("list", help=text, description=text)
    listing.add_argument("--batch", metavar="NAME", help="of this batch only")
    _common(listing, "all units of the site file")
    text = "answer what is awaited from a file of rows step,result,value,unit,time,analyst: all of it, or nothing"
    take = verbs.add_parser("import", help=text, description=text)
    take.add_argument("file", metavar="FILE.csv", type=Path, help="UTF-8, commas or semicolons, columns named")
    take.add_argument("--batch", metavar="NAME", help="answer this batch alone, which may be closed")
    take.add_argument("--dry-run", action="store_true", help="check everything, and send nothing")
    text = "answer a question of a lot whose batch is closed, or sign that it is rejected"
    answer = verbs.add_parser("answer", help=text, description=text)
    answer.add_argument("closed", metavar="BATCH", help="the closed batch, as `tilctl results list` shows it")
    answer.add_argument("prompt", metavar="PROMPT", help="its question, such as p7 or sign")
    answer.add_argument("inputs", nargs="*", metavar="NAME=VALUE", help="a value; a bare number is in the unit shown")
    for sub in (take, answer):
        _common(sub, "the only one of the site file")
        asking.who(sub)
        sub.add_argument("--reason", metavar="TEXT", help="why, for the record")


def _common(parser: argparse.ArgumentParser, default: str) -> None:
    asking.arguments(parser)
    parser.add_argument("--unit", metavar="NAME", help=f"the unit (default: {default})")


def run(args: argparse.Namespace) -> int:
    """Carry out one verb; raises CommandFailed."""
    target = station.target_of(args)
    if args.verb == "list":
        return _list(args, target)
    unit = station.unit_of(target, args.unit)
    if args.verb == "import":
        return _import(args, target, unit)
    given = {"prompt": args.prompt, "batch": args.closed, "inputs": station.pairs(args.inputs, "input")}
    return asking.told(args, unit, asyncio.run(asking.ask(args, target, unit, "prompt-answer", given)), "results")


def _status(args: argparse.Namespace, target: station.Target, unit: str) -> dict[str, Any]:
    plain = argparse.Namespace(**vars(args) | {"batch": None, "reason": None})
    answer = asyncio.run(asking.ask(plain, target, unit, "status", {}))
    if answer.get("status") != "done":
        raise CommandFailed(Exit.NOT_WELL, f"{unit}: {answer.get('code')}: {lines(answer.get('text'))}")
    return cast("dict[str, Any]", answer.get("data") or {})


def questions(data: dict[str, Any], batch: str | None = None) -> list[Question]:
    """Return what a unit awaits of laboratories, by its status: of its batch, then of closed ones."""
    now = str(data.get("batch") or "")
    opened = cast("list[dict[str, Any]]", data.get("prompts") or [])
    found = [Question(now, False, prompt) for prompt in opened if prompt.get("results")]
    for lot in cast("list[dict[str, Any]]", data.get("lots") or []):
        prompts = cast("list[dict[str, Any]]", lot.get("prompts") or [])
        found += [Question(str(lot["batch"]), True, prompt) for prompt in prompts]
    return [question for question in found if batch in (None, question.batch)]


def _list(args: argparse.Namespace, target: station.Target) -> int:
    units = [station.unit_of(target, args.unit)] if args.unit else list(target.units)
    found = [(unit, each) for unit in units for each in questions(_status(args, target, unit), args.batch)]
    if args.json:
        rows = [{"unit": unit, "batch": q.batch, "closed": q.closed, "prompt": q.spec} for unit, q in found]
        print(json.dumps({"awaited": rows}))
        return Exit.OK
    for unit, question in found:
        spec = question.spec
        due = f", due {one_line(spec['due'])}" if spec.get("due") else ""
        since = f"since {one_line(spec['asked'])}{due}" if spec.get("asked") else "to be signed"
        what = ", ".join(one_line(name) for name in question.inputs)
        where = f"{one_line(question.batch)}{' (closed)' if question.closed else ''}"
        print(f"{one_line(unit)}  {where}  {one_line(question.id)} {one_line(spec.get('path'))}: {what}; {since}")
    if not found:
        print("no results are awaited")
    return Exit.OK


def _import(args: argparse.Namespace, target: station.Target, unit: str) -> int:
    """Check every row against what is asked before anything is sent, then answer question by question."""
    rows, wrong = read(_bytes(args.file), str(args.file))
    data = _status(args, target, unit)
    known = cast("dict[str, list[str]]", data.get("imported") or {})
    known = {batch: marks for batch, marks in known.items() if args.batch in (None, batch)}
    found = [each for each in questions(data, args.batch) if each.spec.get("results")]
    new = left(rows, found, known)
    answers, unfit = match(new, found, str(args.file))
    if wrong + unfit:
        print("\n".join(lines(text) for text in wrong + unfit), file=sys.stderr)
        print(f"tilctl results: {args.file}: nothing was sent", file=sys.stderr)
        return Exit.BAD_INPUT
    old = len(rows) - len(new)
    if not new:
        return _told(args, unit, [], old, f"all {old} rows were imported before: nothing was sent")
    if args.dry_run:
        return _told(args, unit, answers, old, f"{len(new)} rows fit, for {len(answers)} questions; nothing was sent")
    for number, answer in enumerate(answers):
        outcome = asyncio.run(_sent(args, target, unit, answer))
        if outcome.get("status") not in ("done", "already"):
            asking.told(args, unit, outcome, "results")
            done = ", ".join(each.question.id for each in answers[:number]) or "none"
            again = "import the same file again when that is seen to: what was taken is not sent twice"
            print(f"tilctl results: answered before: {done}; {again}", file=sys.stderr)
            return Exit.NOT_WELL
    return _told(args, unit, answers, old, f"{len(new)} rows answered {len(answers)} questions")


def _told(args: argparse.Namespace, unit: str, answers: list[Answer], old: int, text: str) -> int:
    if args.json:
        ids = [{"batch": each.question.batch, "prompt": each.question.id, "inputs": each.inputs} for each in answers]
        print(json.dumps({"unit": unit, "verb": "import", "answers": ids, "known_rows": old, "text": text}))
        return Exit.OK
    for each in answers:
        given = ", ".join(f"{name} = {one_line(value)}" for name, value in each.inputs.items())
        print(f"{one_line(unit)}: {one_line(each.question.id)} {one_line(each.question.spec.get('path'))}: {given}")
    print(text + (f"; {old} rows were imported before" if old and answers else ""))
    return Exit.OK


async def _sent(args: argparse.Namespace, target: station.Target, unit: str, answer: Answer) -> dict[str, Any]:
    question = answer.question
    given: dict[str, Any] = {"prompt": question.id, "inputs": answer.inputs, "reported": answer.reported}
    if question.closed:
        given["batch"] = question.batch
    meant = argparse.Namespace(**vars(args) | {"batch": None if question.closed else question.batch})
    return await asking.ask(meant, target, unit, "prompt-answer", given)


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise CommandFailed(Exit.BAD_INPUT, f"{path}: {error.strerror}") from error
