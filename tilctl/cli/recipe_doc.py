"""`tilctl recipe doc`: a recipe as a master batch record, in Markdown or as one HTML file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from devices.document import DocumentError
from recipes.catalog import load_freezing
from recipes.freezing_model import FreezeProfile
from recipes.master import master_record
from recipes.model import Recipe, walk
from recipes.steps import Freeze
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.recipe_html import html
from tilctl.cli.recipe_markdown import markdown
from tilctl.cli.recipe_reading import read
from tilctl.cli.written_file import Output, write


def arguments(add: Callable[..., argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the verb; `add` adds one."""
    text = "print a recipe as a master batch record for operators and quality"
    parser = add("doc", help=text, description=f"{text}. Exit code 2: it cannot be read, or FILE is there already.")
    parser.add_argument("recipe", metavar="FILE_OR_NAME", help="a file, or a name of the library")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="as Markdown (the default)")
    form.add_argument("--html", action="store_true", help="as one HTML file, to be printed and filled in")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write to a file instead")
    parser.add_argument("--force", action="store_true", help="replace FILE where it is there already")
    return parser


def run(args: argparse.Namespace, folders: Sequence[Path]) -> int:
    """Print the document or write it; raises CommandFailed."""
    if args.force and args.out is None:
        raise CommandFailed(Exit.BAD_INPUT, "--force is for -o FILE: say which file may be replaced")
    each = read(args.recipe, folders)
    check = each.found + (": it cannot be started" if each.errors else "")
    record = master_record(each.recipe, each.sha256, check, _profiles(each.recipe, folders))
    text = (html if args.html else markdown)(record)
    if args.out is None:
        sys.stdout.write(text)
    else:
        write(Output("-o", args.out), text, {"recipe": Path(each.document.name)}, force=args.force)
    return Exit.OK


def _profiles(recipe: Recipe, folders: Sequence[Path]) -> list[FreezeProfile]:
    """Return the freezing profiles that a recipe uses; what is wrong with one the check of the recipe has told."""
    found: dict[str, FreezeProfile] = {}
    for operation in recipe.procedure:
        for _, step in walk(operation.steps, operation.id):
            if isinstance(step, Freeze):
                with suppress(DocumentError):
                    found[step.profile] = load_freezing(step.profile, folders)
    return list(found.values())
