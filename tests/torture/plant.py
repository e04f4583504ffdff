"""The plant in a process of its own: it survives every kill, counts what it really did, and reads the shared clock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from simulators.bench import Bench
from simulators.page import Page, PageClock
from simulators.plant import Plant
from simulators.remote import BenchServer
from simulators.suite import Suite, wire
from simulators.virtual import EPOCH
from tests.torture.orphan import die_with_parent


@dataclass(frozen=True)
class PlantOrder:
    """What a plant needs: the page with the time, and the seed of its donor, pumps and noise."""

    page: Path
    seed: int


def serve(order: PlantOrder, told: Connection) -> None:
    """Serve instruments and bench until killed; the ports go to `told`."""
    die_with_parent()
    asyncio.run(_serve(order, told))


async def _serve(order: PlantOrder, told: Connection) -> None:
    clock = PageClock(Page(order.page), EPOCH)
    plant = Plant(clock, order.seed)
    suite = Suite(wire(plant.devices), clock)
    ports = await suite.start()
    bench = await BenchServer(Bench(plant)).start()
    told.send((ports, bench))
    await asyncio.Event().wait()
