"""Labs of parts over the real drivers, on virtual time, for tests of equipment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devices.document import parse, validate
from recipes import shelf
from recipes.freezing import program
from recipes.freezing_model import FreezeProfile
from simulators.memory import memory_links
from simulators.physics.contents import Contents
from simulators.physics.fluid import Container
from simulators.plant import Plant
from simulators.suite import Suite as Servers
from simulators.virtual import VirtualClock
from simulators.virtual import run as run_virtually
from tilctl.cli.simulated import plant_of, servers_of, site_for
from tilctl.cli.simulated_mqtt import BehindBrokers
from tilctl.config import Site, load_site
from tilctl.plant.suite import Suite


@dataclass
class Lab:
    """A lab of parts and the controller's side of it."""

    site: Site
    plant: Plant
    servers: Servers
    suite: Suite
    clock: VirtualClock

    def fault(self, device: str) -> Any:
        return self.servers.faults(self.plant.devices[device])


@asynccontextmanager
async def lab(clock: VirtualClock, folder: Path, path: Path, **overrides: str) -> AsyncIterator[Lab]:
    site = load_site(path, {"data": str(folder / "data"), **overrides})
    plant = plant_of(site, clock, 1)
    servers = servers_of(site, plant.devices, clock)
    behind = BehindBrokers(site, clock, in_memory=True)
    behind.begin()
    suite = Suite(site, clock, memory_links(servers, clock), behind.connects)
    for bus in suite.buses.values():
        await bus.open()
    try:
        yield Lab(site, plant, servers, suite, clock)
    finally:
        await suite.close()
        await behind.close()
        await servers.close()


def in_lab(folder: Path, name: str, work: Callable[[Lab], Awaitable[None]], path: Path | None = None) -> None:
    async def main(clock: VirtualClock) -> None:
        async with lab(clock, folder, path or site_for(name)) as at:
            await work(at)

    run_virtually(main, seed=1, watchdog_s=30.0)


def filled(at: Lab, port: int, volume: float) -> Container:
    """Hang a vessel with liquid on a port."""
    container = Container(f"c{port}", "bag", 30.0, 5000.0, 100.0, Contents(volume=volume))
    with at.plant.change():
        at.plant.fluidics.at[port] = container
    return container


async def dosed(at: Lab, volume: float = 50.0) -> tuple[Container, Container]:
    """Begin a dose from a bag to a vessel."""
    source, destination = filled(at, 7, 500.0), filled(at, 1, 0.0)
    await at.suite.instruments["valves_media"].command("select", {"suction": 7, "delivery": 1})
    pump = at.suite.instruments["pump_media"]
    await pump.command("dispense", {"sequence": 4, "rate": 100.0, "volume": volume})
    return source, destination


async def started(at: Lab, sequence: int = 7) -> None:
    """Start a run of the contact freezer, with the programme that stands in it."""
    freezer = at.suite.instruments["freezer"]
    await freezer.read_all()
    rows = program(frozen("S1-quick"))
    await freezer.command("load_program", {"rows": rows})
    await freezer.command("start", {"sequence": float(sequence)})


def programmer_site(folder: Path) -> Path:
    """Return a site whose freezer is a temperature programmer."""
    text = site_for("lab-eurotherm").read_text("utf-8")
    start = text.index("  # A commercial freezer by its contacts")
    end = text.index("units:\n")
    freezer = "  freezer: {kind: freezer-programmer, programmer: crf, sample: freezer_sample.temperature}\n"
    text = text[:start] + freezer + text[end:]
    text = text.replace(
        "  freezer_io: {profile: moxa-e1214, bus: freezing, unit: 1}\n",
        "  crf: {profile: eurotherm-epc3016, bus: freezing, unit: 1}\n",
    )
    lines = [line for line in text.splitlines() if "freezer_chamber" not in line]
    site = folder / "site.yaml"
    site.write_text("\n".join(lines) + "\n", "utf-8")
    return site


RELAYS = """  relays_a: {profile: waveshare-relay-8ch, bus: fluidics, unit: 21}
  relays_b: {profile: waveshare-relay-8ch, bus: fluidics, unit: 22}
"""


def relay_site(folder: Path) -> Path:
    """Return a site whose media manifold is made of relays."""
    text = site_for("lab-watlow").read_text("utf-8")
    text = text.replace("  valves_media: {profile: sim-valves, bus: fluidics, unit: 4}\n", RELAYS)
    ports = "suction: {7: relays_a.0, 8: relays_a.1}, delivery: {1: relays_b.0, 2: relays_b.1}"
    manifold = f"  valves_media: {{kind: valves, {ports}}}\n"
    text = text.replace("equipment:\n", "equipment:\n" + manifold)
    path = folder / "relays.yaml"
    path.write_text(text, "utf-8")
    return path


def frozen(name: str) -> FreezeProfile:
    return validate(parse(shelf.read(name, shelf.FREEZING).text, name), FreezeProfile, "schema")
