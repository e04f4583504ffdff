"""`tilctl recipe from-matrix`: a recipe that supervises the activity matrix of a closed device."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from devices.diagnostic import DocumentError
from devices.document import parse
from recipes.check import check
from recipes.matrix import parse_matrix, read_text
from recipes.matrix_recipe import recipe_text
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.recipe_reading import shown
from tilctl.cli.written_file import Output, write


def arguments(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verb; `add` adds one."""
    text = "make a recipe that supervises a closed device from its activity matrix (CSV)"
    parser = add(
        "from-matrix", help=text, description=f"{text}. Exit code 2: it cannot be read, or FILE is there already."
    )
    parser.add_argument(
        "matrix", type=Path, metavar="FILE.csv", help="the matrix; recipes/library/matrices has an example"
    )
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write to a file instead")
    parser.add_argument("--force", action="store_true", help="replace FILE where it is there already")


def run(args: argparse.Namespace) -> int:
    """Print the recipe or write it; raises CommandFailed with everything that is wrong with the matrix."""
    if args.force and args.out is None:
        raise CommandFailed(Exit.BAD_INPUT, "--force is for -o FILE: say which file may be replaced")
    try:
        given = read_text(args.matrix)
        text = recipe_text(parse_matrix(given, str(args.matrix)), given)
    except DocumentError as error:
        raise CommandFailed(Exit.BAD_INPUT, f"the matrix cannot be used:\n{error}") from error
    if args.out is None:
        sys.stdout.write(text)
        return Exit.OK
    write(Output("-o", args.out), text, {"matrix": args.matrix}, force=args.force)
    found = check(parse(text, str(args.out)))[1]
    print(f"{shown(args.out)}: {len(found) or 'no'} findings: see tilctl recipe check", file=sys.stderr)
    return Exit.OK
