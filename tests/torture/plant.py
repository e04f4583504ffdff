"""The plant in a process of its own: it survives every kill, counts what it really did, and reads the shared clock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from simulators.bench import Bench
from simulators.page import Page, PageClock
from simulators.remote import BenchServer
from simulators.virtual import EPOCH
from tests.torture.orphan import die_with_parent
from tilctl.cli.simulated import plant_of, servers_of
from tilctl.config import load_site


@dataclass(frozen=True)
class PlantOrder:
    """What a plant needs: the page with the time, the seed of its donor, pumps and noise, and the file of its site."""

    page: Path
    seed: int
    site: Path


def serve(order: PlantOrder, told: Connection) -> None:
    """Serve instruments and bench until killed; the ports go to `told`."""
    die_with_parent()
    asyncio.run(_serve(order, told))


async def _serve(order: PlantOrder, told: Connection) -> None:
    clock = PageClock(Page(order.page), EPOCH)
    site = load_site(order.site)
    plant = plant_of(site, clock, order.seed)
    suite = servers_of(site, plant.devices, clock)
    ports = await suite.start()
    bench = await BenchServer(Bench(plant)).start()
    told.send((ports, bench))
    await asyncio.Event().wait()
