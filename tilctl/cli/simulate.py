"""`tilctl simulate`: the instruments of a site as simulators, in a process of their own, at real pace."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from pathlib import Path

from devices.clock import SystemClock
from simulators.facility import Facility
from simulators.remote import BenchServer
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.logs import configure
from tilctl.cli.simulated import fit, servers_of
from tilctl.cli.simulated_mqtt import BehindBrokers
from tilctl.cli.station import read_site
from tilctl.config import Site


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tilctl simulate`."""
    parser.add_argument("--site", type=Path, required=True, help="the site file, whose buses say where to listen")
    parser.add_argument("--seed", type=int, default=1, help="the donor and all noise (default: 1)")
    parser.add_argument("--bench-port", type=int, default=0, help="where the hands at the bench connect (default: any)")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; raises CommandFailed."""
    configure(json=True)
    site = read_site(args.site)
    try:
        return asyncio.run(_serve(site, args.seed, args.bench_port))
    except (OSError, OverflowError) as error:
        raise CommandFailed(Exit.UNAVAILABLE, str(error)) from error


async def _serve(site: Site, seed: int, bench_port: int) -> int:
    clock = SystemClock()
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, ending.set)
    facility = Facility(clock, seed, list(site.units) or ["cell1"])
    plant = next(iter(facility.plants.values()))
    fit(site, plant)
    devices = {**facility.devices, **plant.devices}
    suite = servers_of(site, devices, clock)
    behind = BehindBrokers(site, clock, in_memory=False)
    bench = BenchServer(facility)
    wanted = {name: bus.port for name, bus in site.buses.items() if name in suite.servers}
    ports: dict[str, int | str] = {}
    lines = {name: Path(bus.path) for name, bus in site.buses.items() if bus.kind == "modbus-rtu"}
    try:
        ports = await suite.start(wanted, serial=lines)
        for name, path in lines.items():
            _stand_in(path, str(ports[name]))
        behind.begin()
        bench_at = await bench.start("127.0.0.1", bench_port)
        print(json.dumps({"ready": True, "ports": ports, "bench": bench_at}), flush=True)
        await ending.wait()
    finally:
        for name, path in lines.items():
            if path.is_symlink() and str(path.readlink()) == ports.get(name):
                path.unlink()
        await bench.close()
        await behind.close()
        await suite.close()
        clock.close()
    return Exit.OK


def _stand_in(path: Path, pty: str) -> None:
    """Let the serial port of a site file lead to a pseudo-terminal; raises OSError where something is there."""
    if path.is_symlink() and not path.exists():
        path.unlink()  # what a simulation that was killed has left
    try:
        path.symlink_to(pty)
    except FileExistsError:
        text = f"{path} is there, and is not taken for a simulation: name a port in the site file that is not"
        raise OSError(text) from None
