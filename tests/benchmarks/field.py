"""The field: what the driver costs beside pymodbus alone, what blocks are worth, and sixteen instruments at 1 Hz.

The instruments are served by a process of their own, so that both sides of a comparison ask the same server.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from pymodbus.client import AsyncModbusTcpClient

from devices.clock import Clock, SystemClock
from devices.modbus.bus import ModbusBus
from devices.modbus.driver import ModbusDevice
from devices.profile import load_profile
from devices.profile_types import Profile
from simulators.memory import memory_links
from simulators.parts import simulated
from simulators.server import ModbusServer
from simulators.suite import Suite
from simulators.virtual import VirtualClock
from simulators.virtual import run as run_virtually
from tilctl.plant.image import ProcessImage
from tilctl.plant.scanning import Scanner, ScanPeriods

POINTS, WIDE, INSTRUMENTS = 20, 60, 16
ROUNDS = 15
REAL_S = float(os.environ.get("BENCH_REAL_S", "300"))
VIRTUAL_S = 3600.0

PROFILE = """
profile: {id: bench, version: 1, role: balance, maker: none, model: none, evidence: simulated, sources: [a benchmark]}
transport: {kinds: [tcp]}
blocks:
  all: {fc: 3, addr: 0, count: COUNT, scan: fast}
points:
  gross: {block: all, addr: 0, type: float32, unit: g, stale_ms: 5000}
"""


def bench_profile(folder: Path, points: int = POINTS) -> Profile:
    """Return a profile of so many points in one block."""
    more = "".join(
        f"  p{i}: {{block: all, addr: {2 * i}, type: float32, unit: g, stale_ms: 5000}}\n" for i in range(1, points)
    )
    path = folder / "bench.yaml"
    path.write_text(
        PROFILE.replace("COUNT", str(2 * points)) + more + "commands: {}\nfailsafe: {on_comm_loss: keeps_running}\n",
        "utf-8",
    )
    return load_profile(path)


def _serve(pipe: Connection, folder: str) -> None:
    async def main() -> None:
        clock = SystemClock()
        profile = bench_profile(Path(folder))
        servers = [ModbusServer({1: simulated(profile)}, clock) for _ in range(INSTRUMENTS)]
        servers += [ModbusServer({1: simulated(bench_profile(Path(folder), WIDE))}, clock) for _ in range(2)]
        pipe.send([await server.start() for server in servers])
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        for server in servers:
            await server.close()
        clock.close()

    asyncio.run(main())


@contextmanager
def served(folder: Path) -> Generator[list[int]]:
    """Serve sixteen instruments in a process of their own; give their ports."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, str(folder)))
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join()


async def per_second(work: Callable[[], Awaitable[object]], times: int) -> float:
    """Return how often a second something can be done, one after the other."""
    began = time.perf_counter()
    for _ in range(times):
        await work()
    return times / (time.perf_counter() - began)


async def round_trips(ports: list[int], folder: Path) -> None:
    """Compare reads of one block, and of its values one by one; turn by turn, so that all meet the same machine."""
    clock = SystemClock()
    for points, port, other in ((POINTS, ports[0], ports[1]), (WIDE, ports[-2], ports[-1])):
        profile = bench_profile(folder, points)
        client = AsyncModbusTcpClient("127.0.0.1", port=other, retries=0, reconnect_delay=0)
        await client.connect()
        bus = ModbusBus("bench", "127.0.0.1", port, clock)
        await bus.open()
        device = ModbusDevice("bench", profile, bus, 1, clock)
        await device.read("all")

        async def one_by_one(client: AsyncModbusTcpClient = client, points: int = points) -> None:
            for i in range(points):
                await client.read_holding_registers(2 * i, count=2, device_id=1)

        async def by_pymodbus(client: AsyncModbusTcpClient = client, points: int = points) -> None:
            reply = await client.read_holding_registers(0, count=2 * points, device_id=1)
            client.convert_from_registers(reply.registers, client.DATATYPE.FLOAT32)

        ways: dict[str, tuple[Callable[[], Awaitable[object]], int]] = {
            "pymodbus": (partial(client.read_holding_registers, 0, count=2 * points, device_id=1), 300),
            "values": (by_pymodbus, 300),
            "bus": (partial(bus.read, 1, 3, 0, 2 * points), 300),
            "driver": (partial(device.read, "all"), 300),
            "point by point": (one_by_one, 10),
        }
        rounds = [{way: await per_second(work, times) for way, (work, times) in ways.items()} for _ in range(ROUNDS)]

        def median(of: Callable[[dict[str, float]], float], rounds: list[dict[str, float]] = rounds) -> float:
            return statistics.median(of(turn) for turn in rounds)

        print(
            f"a block of {points} values: {median(lambda turn: turn['pymodbus']):.0f} round trips a second by pymodbus"
        )
        print(f"  ratio of the checked bus {median(lambda turn: turn['bus'] / turn['pymodbus']):.2f}")
        ratio = median(lambda turn: turn["driver"] / turn["pymodbus"])
        print(f"  ratio of the driver (decoded, judged, stamped) {ratio:.2f}, goal 0.9")
        print(f"  the same against pymodbus with its values decoded {median(lambda t: t['driver'] / t['values']):.2f}")
        worth = median(lambda turn: turn["driver"] / turn["point by point"])
        print(f"  values a second against point by point x{worth:.1f}, goal 20 (more than {points} there cannot be)")
        client.close()
        await bus.close()
    clock.close()


async def _scanned(clock: Clock, buses: list[ModbusBus], folder: Path, period: float, seconds: float) -> list[float]:
    """Scan for a while; return how late each scan was, in s."""
    image = ProcessImage(clock)
    scanner = Scanner(clock, image, ScanPeriods(period, period, period))
    profile = bench_profile(folder)
    for i, bus in enumerate(buses):
        scanner.add(ModbusDevice(f"d{i}", profile, bus, 1, clock), quiet=True)
    late: list[float] = []
    image.watch(lambda device, _readings: late.append(scanner.stats[device].late_last))
    for bus in buses:
        await bus.open()
    scanner.start()
    await clock.sleep(seconds)
    counts = [stats.scans for stats in scanner.stats.values()]
    wanted = seconds / period
    missed = sum(stats.missed for stats in scanner.stats.values())
    print(f"  {min(counts)} to {max(counts)} scans of {wanted:.0f}; missed {missed}")
    await scanner.close()
    for bus in buses:
        await bus.close()
    return sorted(late)


def _tell(late: list[float]) -> None:
    def at(share: float) -> float:
        return late[min(len(late) - 1, int(share * len(late)))] * 1000

    print(f"  lateness ms: p50 {at(0.5):.2f}, p99 {at(0.99):.2f}, max {late[-1] * 1000:.2f}")


async def many(ports: list[int], folder: Path) -> None:
    """Sixteen instruments of twenty points at 1 Hz, for some minutes of real time; then one at 10 Hz."""
    clock = SystemClock()
    buses = [ModbusBus(f"b{i}", "127.0.0.1", port, clock) for i, port in enumerate(ports[:INSTRUMENTS])]
    cpu, began = time.process_time(), time.perf_counter()
    print(f"{INSTRUMENTS} instruments x {POINTS} points at 1 Hz, {REAL_S:.0f} s of real time:")
    _tell(await _scanned(clock, buses, folder, 1.0, REAL_S))
    share = (time.process_time() - cpu) / (time.perf_counter() - began)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  {100 * share:.1f} % of a core, {memory:.0f} MB")
    print("1 instrument at 100 ms, 30 s:")
    _tell(await _scanned(clock, [ModbusBus("fast", "127.0.0.1", ports[0], clock)], folder, 0.1, 30.0))
    clock.close()


def virtual_hour(folder: Path) -> None:
    """Sixteen instruments at 1 Hz for an hour of virtual time: no scan is lost and none drifts."""

    async def main(clock: VirtualClock) -> None:
        profile = bench_profile(folder)
        servers = Suite({f"b{i}": {1: simulated(profile)} for i in range(INSTRUMENTS)}, clock)
        links = memory_links(servers, clock)
        buses = [ModbusBus(name, "", 0, clock, link=links[name]) for name in servers.servers]
        print(f"{INSTRUMENTS} instruments x {POINTS} points at 1 Hz, an hour of virtual time:")
        _tell(await _scanned(clock, buses, folder, 1.0, VIRTUAL_S))
        await servers.close()

    began = time.perf_counter()
    run_virtually(main, seed=1)
    print(f"  {time.perf_counter() - began:.1f} s of real time")


def field() -> None:
    """Measure all of it."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        bench_profile(folder)
        with served(folder) as ports:
            asyncio.run(round_trips(ports, folder))
            asyncio.run(many(ports, folder))
        virtual_hour(folder)


if __name__ == "__main__":
    field()
