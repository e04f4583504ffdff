"""`python -m simulators.faults` shows the vocabulary of faults; with files, it checks them."""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path

from devices.document import DocumentError
from simulators.faults.model import load_faults
from simulators.faults.vocabulary import table


def main(argv: list[str] | None = None) -> int:
    """Show or check; return 1 when a file cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m simulators.faults", description=__doc__)
    parser.add_argument("file", nargs="*", type=Path, help="files of faults to check; without any: the vocabulary")
    files: list[Path] = parser.parse_args(argv).file
    if not files:
        sys.stdout.write("\n".join(_vocabulary()) + "\n")
    wrong = 0
    for file in files:
        try:
            sys.stdout.write(f"{file}: {len(load_faults(file))} faults\n")
        except DocumentError as error:
            wrong = 1
            sys.stderr.write(f"{error}\n")
    return wrong


def _vocabulary() -> list[str]:
    lines: list[str] = []
    for word, where, args, lasts, text in table():
        given = f" ({args})" if args else ""
        lines += [f"{word}{given}", *_indented(f"at {where}; {lasts}: {text}")]
    return lines


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, 112, initial_indent="    ", subsequent_indent="    ")


if __name__ == "__main__":
    sys.exit(main())
