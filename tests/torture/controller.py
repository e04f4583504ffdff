"""The controller that is killed: the product's own service, unchanged, on a loop whose time is in the shared page.

It is started in two ways: forked from a process that has only imported it (so that a thousand kills take minutes), or
as a new interpreter, as a service manager does.  `points` and `wrong` change it for crash points and negative controls.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from simulators.page import Page
from simulators.virtual import VirtualClock, VirtualLoop
from simulators.watchdog import Watchdog
from tests.torture import points
from tests.torture.orphan import die_with_parent
from tilctl.cli.logs import configure
from tilctl.cli.run import _hold_all, only_one, read_site
from tilctl.cli.service import Service
from tilctl.config import Site

STUCK_S = 60.0  # real seconds without progress after which the loop says where it stands and ends with 9


@dataclass(frozen=True)
class ControllerOrder:
    """What a controller needs; `told` is the UDP port on loopback that hears when it is in control."""

    site: str
    page: str
    boot: str
    told: int
    log: str
    recipes: str = ""
    points: str = ""  # file of the boundaries at which it has died; "" for none
    sparing: bool = False  # no boundary inside a transfer
    wrong: str = ""


def control(order: ControllerOrder) -> None:
    """Run until SIGTERM, or until killed."""
    die_with_parent()
    log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 2)
    configure(json=True)
    if order.points:
        points.install(Path(order.points), sparing=order.sparing)
    if order.wrong:
        from tests.torture import wrong  # noqa: PLC0415

        wrong.install(order.wrong)
    site = read_site(Path(order.site))
    loop = VirtualLoop(page=Page(Path(order.page)), soft=())  # the other end of every wire is in another process
    with only_one(site), asyncio.Runner(loop_factory=lambda: loop) as runner, Watchdog(loop, STUCK_S):
        runner.run(_serve(order, site, loop))


async def _serve(order: ControllerOrder, site: Site, loop: VirtualLoop) -> None:
    ending = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ending.set)
    clock = VirtualClock(loop)
    clock.boot = "torture"  # the machine is never started again, only the controller
    recipes = (Path(order.recipes),) if order.recipes else ()
    service = Service(site, clock, order.boot, recipes)
    await service.open()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as voice:
        voice.sendto(order.boot.encode(), ("127.0.0.1", order.told))
    try:
        await ending.wait()
        await _hold_all(service, "SIGTERM: the service was told to end")
    finally:
        await service.close()


def words(order: ControllerOrder) -> list[str]:
    """Return the command line of a new interpreter that does `control(order)`."""
    return [sys.executable, "-m", "tests.torture.controller", json.dumps(asdict(order))]


if __name__ == "__main__":
    control(ControllerOrder(**json.loads(sys.argv[1])))
