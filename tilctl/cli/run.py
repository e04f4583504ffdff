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

from devices.clock import Clock, SystemClock
from devices.document import DocumentError
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.logs import configure
from tilctl.cli.notify import Notify
from tilctl.cli.plain import one_line
from tilctl.cli.service import Service
from tilctl.config import Site, load_site
from tilctl.engine.machine import Command, State
from tilctl.gateway.notify_send import ways_of
from tilctl.journal.store import JournalError

HOLD_WITHIN = 150.0  # s; a step closes its evidence within 120 s, the service manager waits for 180 s
STARTING_EVERY = 10.0  # s
CONTROLLER = "tilctl run"


class Taken(CommandFailed):
    """Another process has the site; `by_controller` is whether that is a controller, as far as is known."""

    def __init__(self, text: str, *, by_controller: bool) -> None:
        super().__init__(Exit.UNAVAILABLE, text)
        self.by_controller = by_controller


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
        return load_site(path, logins=True)
    except DocumentError as error:
        raise CommandFailed(Exit.BAD_INPUT, f"the site file cannot be used:\n{error}") from error


@contextlib.contextmanager
def only_one(site: Site, purpose: str = CONTROLLER) -> Generator[None]:
    """Hold the site lock: one controller for a site's data, or one command at its instruments.

    Raises Taken when another has it, with its process and `purpose`, and CommandFailed where there can be no lock.
    """
    try:
        site.data.mkdir(parents=True, exist_ok=True)
        handle = os.open(site.data / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise CommandFailed(Exit.UNAVAILABLE, f"the data folder {site.data} cannot be used: {error}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(site, handle) from None
        _sign(handle, f"{os.getpid()} {one_line(purpose)}\n")
        try:
            yield
        finally:
            _sign(handle, "")
    finally:
        os.close(handle)


def _sign(handle: int, text: str) -> None:
    """Say in the lock file who has it.  It is for people: the lock itself stands on a full disk too."""
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)


def _taken(site: Site, handle: int) -> Taken:
    """Say who has the lock, as far as the file tells."""
    text = ""
    with contextlib.suppress(OSError):
        text = os.pread(handle, 1000, 0).decode(errors="replace")
    process, _, purpose = one_line(text).strip().partition(" ")
    if purpose and purpose != CONTROLLER:
        return Taken(
            f"{site.data} is taken by {purpose} (process {process}): let it end, or end it", by_controller=False
        )
    who = f" (process {process})" if purpose else ""
    worse = "two of them would be worse than none"
    return Taken(f"another controller runs on {site.data}{who}; {worse}", by_controller=True)


async def _serve(site: Site, recipes: tuple[Path, ...]) -> int:
    loop = asyncio.get_running_loop()
    ending: asyncio.Event = asyncio.Event()
    why: list[str] = []
    notify = Notify()

    def end(name: str) -> None:
        why.append(name)  # a second signal changes nothing: what is being closed is closed to its end
        ending.set()

    for name in ("SIGTERM", "SIGINT"):
        loop.add_signal_handler(getattr(signal, name), end, name)
    service = Service(site, SystemClock(), str(uuid4()), recipes, ways=ways_of(site.notify))
    starting = asyncio.create_task(_still_starting(notify, service.clock), name="still-starting")
    try:
        await service.open()
    finally:
        starting.cancel()
        await asyncio.wait((starting,))
    feeding = asyncio.create_task(service.wellness.run(notify), name="wellness")
    notify.send("READY=1")
    try:
        await ending.wait()
        notify.send("STOPPING=1", f"STATUS={why[0]}: every batch is put on hold")
        await _hold_all(service, f"{why[0]}: the service was told to end")
    finally:
        feeding.cancel()
        await asyncio.wait((feeding,))
        await service.close()
    structlog.get_logger("service").info("ended", why=why[0])
    return Exit.OK


async def _still_starting(notify: Notify, clock: Clock) -> None:
    """Ask the service manager for time while records are read and devices are looked at, and the loop turns."""
    while True:
        notify.send(f"EXTEND_TIMEOUT_USEC={int(3e6 * STARTING_EVERY)}", "STATUS=starting: records, devices, recovery")
        await clock.sleep(STARTING_EVERY)


async def _hold_all(service: Service, reason: str) -> None:
    """Invariant: ending the service is a hold, with its reason on record; cells stay at their targets.

    All batches are held at once; it ends when they are, or after HOLD_WITHIN.
    """
    runners = [service.controller.runner(unit) for unit in service.controller.units()]
    held = [runner for runner in runners if runner is not None and runner.fire(Command.HOLD, reason)]
    try:
        async with asyncio.timeout(HOLD_WITHIN):
            await asyncio.gather(*(runner.settled() for runner in held))
    except TimeoutError:
        waiting = [runner.batch.name for runner in held if runner.state is not State.HELD]
        structlog.get_logger("service").error("not_held_in_time", batches=waiting, seconds=HOLD_WITHIN)
