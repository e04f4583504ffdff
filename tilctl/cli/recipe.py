"""`tilctl recipe ...`: check and list recipes, export the schema of the language."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from devices.diagnostic import Diagnostic, DocumentError, Severity
from devices.document import Document, validate
from recipes import shelf
from recipes.catalog import catalog
from recipes.check import check
from recipes.explained import sections
from recipes.fragment import Fragment
from recipes.freezing_check import check_profile
from recipes.schema import fragment_schema, freezing_schema, recipe_schema
from tilctl.cli import recipe_diff, recipe_doc, recipe_matrix, recipe_plan
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.plain import one_line

_KINDS = {"recipe": "recipe", "profile": "freezing profile", "fragment": "fragment"}
"""What a file is, by its first key."""
_UNREADABLE = ("file-missing", "file-unreadable")


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check of one file found; `kind` is "recipe", "freezing profile" or "fragment"."""

    asked: str
    kind: str
    name: str
    version: str
    found: tuple[Diagnostic, ...]

    def count(self, severity: Severity) -> int:
        """Return how many findings weigh that much."""
        return sum(item.severity is severity for item in self.found)

    @property
    def readable(self) -> bool:
        """Return whether there was a file to check."""
        return not any(item.code in _UNREADABLE for item in self.found)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tilctl recipe`."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    text = "print everything that is wrong with recipes or freezing profiles, with place and hint"
    checking = verbs.add_parser("check", help=text, description=text + ". Exit code 1: errors; 2: no such file.")
    checking.add_argument("recipes", nargs="+", metavar="FILE_OR_NAME", help="a file, or a name of the library")
    checking.add_argument("--strict", action="store_true", help="count warnings as errors")
    listing = verbs.add_parser("list", help="the recipes of the library, and of folders")
    telling, comparing = recipe_doc.arguments(verbs.add_parser), recipe_diff.arguments(verbs.add_parser)
    planning = recipe_plan.arguments(verbs.add_parser)
    recipe_matrix.arguments(verbs.add_parser)
    for sub in (checking, listing, telling, comparing, planning):
        sub.add_argument(
            "--folder",
            type=Path,
            action="append",
            default=[],
            metavar="DIR",
            help="a folder with recipes, and with freezing/ profiles, that comes before the library (may be repeated)",
        )
    for sub in (checking, listing, comparing, planning):
        sub.add_argument("--json", action="store_true", help="print one JSON object")
    explaining = verbs.add_parser("explain", help="what a code of `recipe check` means, with an example")
    explaining.add_argument("code", nargs="?", metavar="CODE", help="without one: all codes")
    schema = verbs.add_parser("schema", help="the JSON Schema of a recipe, for editors")
    other = schema.add_mutually_exclusive_group()
    other.add_argument("--freezing", action="store_true", help="that of a freezing profile instead")
    other.add_argument("--fragment", action="store_true", help="that of a fragment instead")


def run(args: argparse.Namespace) -> int:
    """Check, list, tell, compare, plan or export; raises CommandFailed."""
    if args.verb == "schema":
        return _schema(freezing_schema() if args.freezing else fragment_schema() if args.fragment else recipe_schema())
    if args.verb == "explain":
        return _explain(args.code)
    if args.verb == "from-matrix":
        return recipe_matrix.run(args)
    folders = tuple(args.folder)
    for folder in folders:
        if not folder.is_dir():
            raise CommandFailed(Exit.BAD_INPUT, f"--folder: {one_line(folder)} is no folder")
    return _RUN[args.verb](args, folders)


def _check(args: argparse.Namespace, folders: Sequence[Path]) -> int:
    checked = [_checked(asked, folders) for asked in args.recipes]
    bad = [each for each in checked if each.count(Severity.ERROR) or (args.strict and each.count(Severity.WARNING))]
    if args.json:
        print(json.dumps({"ok": not bad, "files": [_as_json(each, ok=each not in bad) for each in checked]}))
    else:
        for each in checked:
            print("\n".join([*(one_line(item) for item in each.found), _summary(each)]))
    if not all(each.readable for each in checked):
        return Exit.BAD_INPUT
    return Exit.NOT_WELL if bad else Exit.OK


def _checked(asked: str, folders: Sequence[Path]) -> Checked:
    try:
        document = _find(asked, folders)
    except DocumentError as error:
        return Checked(asked, "recipe", "", "", error.diagnostics)
    kind = next((kind for key, kind in _KINDS.items() if key in document.data), "recipe")
    if kind == "fragment":
        found = _header(document)
    else:
        found = (check_profile(document) if kind == "freezing profile" else check(document, folders))[1]
    name, version = (_text(document.data.get(key)) for key in (kind.rpartition(" ")[2], "version"))
    return Checked(asked, kind, name, version, tuple(found))


def _header(fragment: Document) -> Sequence[Diagnostic]:
    """Return what is wrong with the header of a fragment; the rest is judged in the recipes that include it."""
    try:
        validate(fragment, Fragment, "schema")
    except DocumentError as error:
        return error.diagnostics
    return ()


def _find(asked: str, folders: Sequence[Path]) -> Document:
    """Return the document of a path or a name; a name that is no recipe's may be a profile's or a fragment's."""
    kinds = (shelf.RECIPES, shelf.FREEZING, shelf.FRAGMENTS)
    kind = next((kind for kind in kinds if asked in shelf.paths(kind, folders)), shelf.RECIPES)
    return shelf.read(asked, kind, folders)


def _summary(each: Checked) -> str:
    if not each.readable:
        return f"{one_line(each.asked)}: not checked"
    errors, warnings = each.count(Severity.ERROR), each.count(Severity.WARNING)
    name = f"{each.kind} {each.name} {each.version}".rstrip() if each.name else each.kind
    return f"{one_line(each.asked)}: {one_line(name)}: {_number(errors, 'error')}, {_number(warnings, 'warning')}"


def _number(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _as_json(each: Checked, *, ok: bool) -> dict[str, Any]:
    found = [asdict(item) for item in each.found]
    return {
        "file": each.asked, "kind": each.kind, "name": each.name, "version": each.version, "ok": ok,
        "readable": each.readable, "diagnostics": found,
    }  # fmt: skip


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _list(args: argparse.Namespace, folders: Sequence[Path]) -> int:
    entries = catalog(folders)
    if args.json:
        print(json.dumps({"recipes": [asdict(entry) for entry in entries]}))
        return Exit.OK
    for entry in entries:
        if entry.problem:
            print(f"{one_line(entry.name)}: cannot be used: {one_line(entry.problem)}")
        else:
            print(f"{one_line(entry.name):16} {entry.version:8} {entry.status:12} {one_line(entry.title)}")
    return Exit.OK


def _explain(code: str | None) -> int:
    known = sections()
    if code is None:
        print("\n".join(known))
    elif code in known:
        print(known[code], end="")
    else:
        near = get_close_matches(code, known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known)}"
        raise CommandFailed(Exit.BAD_INPUT, f"no code '{one_line(code)[:80]}': {hint}")
    return Exit.OK


def _schema(schema: dict[str, Any]) -> int:
    json.dump(schema, sys.stdout, indent=2)
    print()
    return Exit.OK


_RUN = {"check": _check, "list": _list, "doc": recipe_doc.run, "diff": recipe_diff.run, "plan": recipe_plan.run}
