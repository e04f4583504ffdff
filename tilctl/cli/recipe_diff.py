"""`tilctl recipe diff`: what differs between two recipes, in terms of the process."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recipes.difference import Difference, differences
from tilctl.cli.exits import Exit
from tilctl.cli.plain import one_line
from tilctl.cli.recipe_reading import Read, read


def arguments(add: Callable[..., argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the verb; `add` adds one."""
    text = "say what differs between two recipes: steps, values, limits, not lines of text"
    parser = add("diff", help=text, description=f"{text}. Exit code 0: equal, 1: different, 2: one cannot be read.")
    parser.add_argument("old", metavar="OLD", help="a file, or a name of the library")
    parser.add_argument("new", metavar="NEW", help="a file, or a name of the library")
    parser.add_argument("--all", action="store_true", help="show also what is only written differently: 1000 mL, 1 L")
    return parser


def run(args: argparse.Namespace, folders: Sequence[Path]) -> int:
    """Compare and print; raises CommandFailed."""
    old, new = read(args.old, folders), read(args.new, folders)
    found = [each for each in differences(old.recipe, new.recipe) if args.all or each.change != "written"]
    real = sum(each.change != "written" for each in found)
    if args.json:
        told = [{**asdict(each), "words": each.words} for each in found]
        print(json.dumps({"equal": not real, "old": _as_json(old), "new": _as_json(new), "differences": told}))
    else:
        for each in found:
            print(one_line(_line(each)))
        print(one_line(f"{_name(old)} -> {_name(new)}: {real or 'no'} difference{'' if real == 1 else 's'}"))
    return Exit.NOT_WELL if real else Exit.OK


def _line(each: Difference) -> str:
    return f"{each.part} {each.words}"


def _name(each: Read) -> str:
    return f"{each.recipe.recipe} {each.recipe.version}"


def _as_json(each: Read) -> dict[str, Any]:
    return {
        "file": each.asked, "recipe": each.recipe.recipe, "version": each.recipe.version, "sha256": each.sha256,
        "errors": each.errors, "warnings": each.warnings,
    }  # fmt: skip
