"""The command line: `tilctl COMMAND ...`.  Each command is a module, imported only when it is asked for."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from errno import ENOSPC
from importlib import import_module
from typing import Protocol, cast

import structlog

from tilctl import __version__
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.logs import configure

COMMANDS = {
    "demo": "22 days of til-22d on a simulated suite, start to freezing, in under a minute",
    "rehearse": "thousands of whole batches in virtual time, with faults, judged at every step",
    "study": "recipes and rules compared on the same simulated donors",
    "run": "run the controller of a site (a service)",
    "simulate": "run a site's instruments as simulators, in a process of their own",
    "operator": "answer the prompts of a simulated site as a person would",
    "batch": "start, hold, answer, ... a batch, as an MQTT client",
    "results": "list the laboratory results that are awaited, and import them",
    "alarm": "list, acknowledge, shelve alarms; report how well they serve",
    "interlock": "show, reset and bypass the interlocks and permissives of a unit, as an MQTT client",
    "ledger": "show the volumes of a batch beside what the scales say, and correct them",
    "recipe": "check, list, print, compare and plan recipes, export their schema",
    "journal": "verify and show the record of a batch",
    "doctor": "check everything that a site needs: file, buses, broker, disk, clock, serial ports, evidence",
    "device": "look at a site's instruments and try them, while no controller runs",
    "profile": "check, list, show and simulate profiles of instruments",
}


class Module(Protocol):
    """What a command's module has."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of the command."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Carry it out; return the exit code or raise CommandFailed."""
        ...


def _module(command: str) -> Module:
    return cast("Module", import_module(f"tilctl.cli.{command}"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (`tilctl.cli.exits`)."""
    given = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="tilctl",
        description="Controller for cell-expansion suites. Recipes are illustrative, not clinical protocols.",
        epilog="Exit codes: 0 done, 1 the answer is no, 2 bad input, 3 something is not there, 4 the record, "
        "9 stuck, 70 internal, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"tilctl {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((word for word in given if not word.startswith("-")), "")
    code: int | None = None
    try:
        for name, text in COMMANDS.items():
            sub = commands.add_parser(name, help=text, description=text)
            if name == wanted:
                _module(name).arguments(sub)
        args = parser.parse_args(given)
        code = _module(args.command).run(args)
        _flush()
    except CommandFailed as failed:
        print(f"tilctl {wanted}: {failed}", file=sys.stderr)
        return failed.code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        _give_up_stdout()  # the reader of our output has gone
        return Exit.UNAVAILABLE if code is None else code  # a verdict stays what it is, whoever reads it
    except OSError as error:
        if error.errno != ENOSPC:
            return _internal(wanted, error)
        _give_up_stdout()
        print(f"tilctl {wanted}: the output cannot be written: {error.strerror}", file=sys.stderr)
        return Exit.UNAVAILABLE
    except Exception as error:  # noqa: BLE001 - the last place where a fault of the program can be told
        return _internal(wanted, error)
    return code


def _flush() -> None:
    """Find here what cannot be written, not when the interpreter ends; raises OSError."""
    if sys.stdout:  # None where the process was started without one
        sys.stdout.flush()


def _internal(command: str, error: Exception) -> int:
    """Say in one line that this is a fault of the program; where it was goes to the log."""
    if not structlog.is_configured():
        configure(json=False)
    structlog.get_logger("main").error("internal_error", command=command, exc_info=error)
    text = " ".join(f"{type(error).__name__}: {error}".split())
    print(f"tilctl {command}: a fault of the program, {text}: report it with the log", file=sys.stderr)
    return Exit.INTERNAL


def _give_up_stdout() -> None:
    """Let what is still in the buffer go nowhere, or the interpreter stumbles over it when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
