"""`tilctl run`: the controller of a site, at real pace, until it is told to end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import structlog

from devices.clock import SystemClock
from devices.document import DocumentError
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.logs import configure
from tilctl.cli.service import Service
from tilctl.config import Site, load_site
from tilctl.engine.machine import Command
from tilctl.journal.store import JournalError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tilctl run`."""
    parser.add_argument("--site", type=Path, required=True, help="the site file")
    parser.add_argument(
        "--recipes", type=Path, action="append", default=[], help="a folder with recipes of the site (may be repeated)"
    )
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    parser.add_argument("--console", action="store_true", help="log for a person instead of JSON lines")


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; raises CommandFailed."""
    configure(json=not args.console, level=args.log_level)
    site = read_site(args.site)
    with only_one(site):
        try:
            return asyncio.run(_serve(site, tuple(args.recipes)))
        except JournalError as error:
            raise CommandFailed(Exit.RECORD, f"{error}. Nothing was touched") from error
        except OSError as error:
            raise CommandFailed(Exit.UNAVAILABLE, str(error)) from error


def read_site(path: Path) -> Site:
    """Return the site of a file; raises CommandFailed with every finding."""
    try:
        return load_site(path)
    except DocumentError as error:
        raise CommandFailed(Exit.BAD_INPUT, f"the site file cannot be used:\n{error}") from error


@contextlib.contextmanager
def only_one(site: Site) -> Generator[None]:
    """Hold the site lock: one controller for a site's data.  Raises CommandFailed when another has it."""
    try:
        site.data.mkdir(parents=True, exist_ok=True)
        handle = os.open(site.data / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise CommandFailed(Exit.UNAVAILABLE, f"the data folder {site.data} cannot be used: {error}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = f"another controller runs on {site.data}; two of them would be worse than none"
            raise CommandFailed(Exit.UNAVAILABLE, text) from None
        yield
    finally:
        os.close(handle)


async def _serve(site: Site, recipes: tuple[Path, ...]) -> int:
    loop = asyncio.get_running_loop()
    ending: asyncio.Event = asyncio.Event()
    why: list[str] = []

    def end(name: str) -> None:
        why.append(name)
        ending.set()

    for name in ("SIGTERM", "SIGINT"):
        loop.add_signal_handler(getattr(signal, name), end, name)
    service = Service(site, SystemClock(), str(uuid4()), recipes)
    await service.open()
    try:
        await ending.wait()
        await _hold_all(service, f"{why[0]}: the service was told to end")
    finally:
        await service.close()
    structlog.get_logger("service").info("ended", why=why[0])
    return Exit.OK


async def _hold_all(service: Service, reason: str) -> None:
    """Invariant: ending the service is a hold, with its reason on record; cells stay at their targets."""
    for unit in service.controller.units():
        runner = service.controller.runner(unit)
        if runner is not None and runner.fire(Command.HOLD, reason):
            await runner.settled()
