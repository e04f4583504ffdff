"""A site's instruments as simulators: a plant whose instruments are those that the site file names."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from devices.clock import Clock
from devices.document import DocumentError, parse, validate
from devices.equipment.contact_freezer import digest
from devices.equipment.freezer import named
from devices.equipment.spec import ContactFreezerSpec, PumpSpec, parts_of
from devices.modbus.rtu import Line
from devices.modbus.serial import char_seconds
from devices.profile_types import Profile
from recipes import shelf
from recipes.freezing import program
from recipes.freezing_model import FreezeProfile
from simulators.device import SimDevice
from simulators.fittings import Fittings
from simulators.physics.freezing import Row
from simulators.plant import Plant
from simulators.suite import Suite, wire
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.config import Site, load_site

RTU = ("modbus-rtu", "modbus-rtu-tcp")
SITES = ("demo-site", "lab-eurotherm", "lab-watlow", "lab-rocking", "lab-rocking-drives")  # that come along
SUPERVISED = ("closed-device",)  # of a device that is looked at only


def add_site(parser: argparse.ArgumentParser) -> None:
    """Add the argument that says which suite is simulated."""
    parser.add_argument(
        "--site",
        metavar="NAME|FILE",
        default=SITES[0],
        help=f"the suite: {', '.join((*SITES, *SUPERVISED))}, or a site file of one unit; default: the first",
    )


def site_for(name: str) -> Path:
    """Return the path of a site by name or path; raises CommandFailed for one that cannot be simulated."""
    path = Path(str(files("tilctl.cli") / f"{name}.yaml")) if name in (*SITES, *SUPERVISED) else Path(name).absolute()
    try:
        site = load_site(path)
    except DocumentError as error:
        raise CommandFailed(Exit.BAD_INPUT, f"--site: the site file cannot be used:\n{error}") from error
    if len(site.units) != 1 or "cell1" not in site.units:
        text = f"--site: a rehearsal wants one unit that is called cell1; {path.name} has {', '.join(site.units)}"
        raise CommandFailed(Exit.BAD_INPUT, text)
    return path


def plant_of(site: Site, clock: Clock, seed: int, folders: tuple[Path, ...] = ()) -> Plant:
    """Return the simulated suite of a site of one unit; raises CommandFailed for what has no simulator."""
    plant = Plant(clock, seed)
    fit(site, plant, folders)
    return plant


def fit(site: Site, plant: Plant, folders: tuple[Path, ...] = ()) -> None:
    """Give a plant the rocker and the parts of equipment of a site; raises CommandFailed for what has no simulator."""
    if any(profile.sim is not None and profile.sim.model == "rocker" for profile in site.profiles.values()):
        plant.put_up_rocker()
    balances = _balances(site)
    parts = {part for spec in site.equipment.values() for part in parts_of(spec)} | {*balances}
    if not parts:
        return
    pumps = [name for name, spec in site.equipment.items() if isinstance(spec, PumpSpec)]
    if strange := [name for name in pumps if name not in plant.pumps]:
        text = f"no simulator for {', '.join(strange)}; the simulated suite has {', '.join(plant.pumps)}"
        raise CommandFailed(Exit.BAD_INPUT, text)
    profiles: dict[str, Profile] = {name: site.profiles[name] for name in site.devices if name in parts}
    fittings = Fittings(plant, profiles, site.equipment, balances, _stored(site, folders))
    devices = fittings.devices()
    plant.devices = {**plant.devices, **devices}
    plant.stand_ins = fittings.stand_ins(devices, balances)


def servers_of(site: Site, devices: Mapping[str, SimDevice], clock: Clock) -> Suite:
    """Return the servers of a site's buses; raises CommandFailed for instruments that have no simulator."""
    lines = {
        bus.name: Line(char_seconds(bus.baud, bus.format), bus.turnaround, bus.local_echo)
        for bus in site.buses.values()
        if bus.kind in RTU
    }
    return Suite(wire(devices, layout_of(site, {*devices})), clock, lines)


async def listening(site: Site, servers: Suite) -> dict[str, str]:
    """Let the servers listen on any port; return the entries of the site file that say where."""
    serial = [bus.name for bus in site.buses.values() if bus.kind == "modbus-rtu"]
    places = await servers.start(serial=serial)
    return {f"buses.{bus}.{'path' if bus in serial else 'port'}": str(place) for bus, place in places.items()}


def layout_of(site: Site, known: set[str]) -> dict[str, dict[int, str]]:
    """Return Modbus bus -> unit id -> instrument; raises CommandFailed for instruments that have no simulator."""
    wired = {name: device for name, device in site.devices.items() if site.buses[device.bus].kind != "mqtt"}
    strange = [name for name in wired if name not in known]
    if strange:
        text = f"no simulator for {', '.join(strange)}; the simulated suite has {', '.join(sorted(known))}"
        raise CommandFailed(Exit.BAD_INPUT, text)
    layout: dict[str, dict[int, str]] = {bus.name: {} for bus in site.buses.values() if bus.kind != "mqtt"}
    for name, device in wired.items():
        layout[device.bus][device.unit] = name
    return layout


def _balances(site: Site) -> dict[str, int]:
    """Return the load cells that are instruments of their own, and the port at which each hangs."""
    places = [place for unit in site.units.values() for place in unit.places.values() if place.scale_device]
    return {p.scale_device: p.port for p in places if site.profiles[p.scale_device].role == "balance"}


def _stored(site: Site, folders: tuple[Path, ...]) -> dict[str, list[Row]]:
    """Return the programmes that a person has stored in a freezer which is run by its contacts, by their digests."""
    wanted = {
        d for spec in site.equipment.values() if isinstance(spec, ContactFreezerSpec) for d in spec.contacts.starts
    }
    found: dict[str, list[Row]] = {}
    for name in shelf.paths(shelf.FREEZING, folders) if wanted else ():
        try:
            text = shelf.read(name, shelf.FREEZING, folders).text
            rows = program(validate(parse(text, name), FreezeProfile, "schema"))
        except DocumentError:
            continue
        if digest(rows) in wanted:
            found[digest(rows)] = simulated_rows(rows)
    return found


def simulated_rows(rows: Iterable[Mapping[str, float]]) -> list[Row]:
    """Return a freezing programme as the simulated freezer runs it."""
    return [_row(named(row)) for row in rows]


def _row(row: Mapping[str, Any]) -> Row:
    rate, target, timeout = (float(row[key]) for key in ("rate", "target", "timeout"))
    return Row(str(row["kind"]), str(row["listen"]), rate, target, str(row["end"]), timeout)
