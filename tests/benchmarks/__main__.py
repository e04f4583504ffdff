"""Measurements, two things side by side in one run: `./run bench`.  Ratios matter; absolutes are the machine's."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from pymodbus.client import AsyncModbusTcpClient

from devices.clock import SystemClock
from devices.modbus.bus import ModbusBus
from devices.modbus.driver import ModbusDevice
from devices.profile import load_profile
from simulators.plant import Plant
from simulators.suite import Suite, wire
from tests.benchmarks.field import field
from tilctl.journal import events as ev
from tilctl.journal.store import Journal

ROUNDS = 7


def line(what: str, base: float, ours: float, unit: str = "us") -> None:
    """Print one comparison: the base, ours, and the ratio."""
    print(f"{what:62s} {base:10.1f} {ours:10.1f} {unit:6s} x{ours / base:.2f}")


async def median_us(work: Callable[[], Awaitable[object]], times: int) -> float:
    """Return the median cost of one call, in us, over rounds."""
    rounds: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(times):
            await work()
        rounds.append((time.perf_counter() - began) / times * 1e6)
    return statistics.median(rounds)


async def modbus() -> None:
    """One block read: pymodbus alone against our driver with its checks, queue and decoding."""
    clock = SystemClock()
    plant = Plant(clock, 1)
    suite = Suite(wire(plant.devices), clock)
    ports = await suite.start()
    client = AsyncModbusTcpClient("127.0.0.1", port=ports["climate"], retries=0, reconnect_delay=0)
    await client.connect()
    bus = ModbusBus("climate", "127.0.0.1", ports["climate"], clock)
    await bus.open()
    device = ModbusDevice("incubator", load_profile("sim-incubator"), bus, 1, clock)
    await device.read("pv")
    base = await median_us(lambda: client.read_input_registers(0, count=9, device_id=1), 300)
    ours = await median_us(lambda: device.read("pv"), 300)
    line("Modbus TCP block read: pymodbus alone | driver", base, ours)
    client.close()
    await bus.close()
    await suite.close()
    clock.close()


async def journal(folder: Path) -> None:
    """Durable appends: one at a time against sixteen at once (group commit)."""
    clock = SystemClock()
    store = await Journal.create(folder / "j.db", clock, ev.SiteOpened("bench", "bench", "0"))
    event = ev.Noted("a/b", "a note of usual length, for the record", exception=False)
    one = await median_us(lambda: store.record(event), 200)

    async def sixteen() -> None:
        await asyncio.gather(*(store.record(event) for _ in range(16)))

    line("journal, one durable append: alone | in groups of 16", one, await median_us(sixteen, 50) / 16)
    await store.close()
    clock.close()


def start_up() -> None:
    """`tilctl --help` against an empty interpreter."""

    def run(*words: str) -> float:
        times: list[float] = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
            times.append((time.perf_counter() - began) * 1e3)
        return statistics.median(times)

    line("start-up: python -c pass | tilctl --help", run("-c", "pass"), run("-m", "tilctl.cli.main", "--help"), "ms")


def main() -> None:
    """Run all of them."""
    print(f"{'':62s} {'base':>10s} {'ours':>10s}")
    asyncio.run(modbus())
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(journal(Path(folder)))
    start_up()
    field()


main()
