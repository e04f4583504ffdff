"""A suite of simulated instruments on their buses, read by the product's own drivers under virtual time."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from devices.instrument import DeviceError
from devices.modbus.bus import ModbusBus
from devices.modbus.driver import ModbusDevice
from devices.profile import load_profile
from simulators.device import SimDevice
from simulators.suite import LAYOUT, Suite, wire
from simulators.virtual import VirtualClock, run

PROFILES = {
    "incubator": "sim-incubator",
    "scales": "sim-scales",
    "freezer": "sim-freezer",
    **{f"pump_{line}": "sim-pump" for line in ("media", "cells", "waste")},
    **{f"valves_{line}": "sim-valves" for line in ("media", "cells", "waste")},
}


MINUTES = 30  # of scanning, in which each fault has come to many instruments


def suite_devices() -> dict[str, SimDevice]:
    """Return every instrument of the layout, with constant values; the serial numbers count them."""

    def made(number: int, profile_id: str) -> SimDevice:
        profile = load_profile(profile_id)
        symbols = {name: next(iter(p.symbols.values())) for name, p in profile.points.items() if p.symbols}
        values = dict.fromkeys(profile.points, number) | symbols
        getters = {name: (lambda value=value: value) for name, value in values.items()}
        return SimDevice(profile, getters, dict.fromkeys(profile.commands, ignore), serial=number)

    return {name: made(number, profile_id) for number, (name, profile_id) in enumerate(PROFILES.items())}


def ignore(args: Mapping[str, Any]) -> None:
    """Accept a command and do nothing."""


async def ask(port: int, frame: str) -> bytes:
    """Send one frame (hex) and return the reply."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(bytes.fromhex(frame))
    head = await reader.readexactly(6)
    answer = head + await reader.readexactly(int.from_bytes(head[4:], "big"))
    writer.close()
    await writer.wait_closed()
    return answer


def test_a_suite_serves_every_instrument_on_its_bus() -> None:
    async def main(clock: VirtualClock) -> None:
        devices = suite_devices()
        suite = Suite(wire(devices), clock)
        ports = await suite.start()
        assert list(ports) == ["climate", "fluidics", "weighing", "freezing"]
        for bus, units in LAYOUT.items():
            for unit, name in units.items():
                serial = await ask(ports[bus], f"0001 0000 0006 {unit:02x} 04 0065 0002")
                assert int.from_bytes(serial[-4:], "big") == list(devices).index(name)
        suite.faults(devices["pump_cells"]).refuse = 4
        assert (await ask(ports["fluidics"], "0001 0000 0006 02 04 0008 0002"))[-2:] == bytes.fromhex("84 04")
        with pytest.raises(KeyError, match="sim-pump is on none of the buses"):
            suite.faults(suite_devices()["pump_cells"])
        await suite.close()

    run(main)


def test_a_port_that_is_taken_is_named_and_nothing_goes_on_listening() -> None:
    async def main(clock: VirtualClock) -> None:
        first, second = (Suite(wire(suite_devices()), clock) for _ in range(2))
        ports = await first.start()
        with pytest.raises(OSError, match=f"bus freezing: cannot listen on 127.0.0.1:{ports['freezing']}"):
            await second.start({"freezing": ports["freezing"]})
        await first.close()
        assert await second.start({"freezing": ports["freezing"]})
        await second.close()

    run(main)


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Keep more processes running than the machine has cores."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    yield
    for other in others:
        other.kill()
        other.wait()


async def scans(clock: VirtualClock) -> list[tuple[Any, ...]]:
    """Read all instruments at once each minute, with seeded faults on the wire; return all that happened, in order."""
    suite = Suite(wire(suite_devices()), clock)
    ports = await suite.start()
    buses = {name: ModbusBus(name, "127.0.0.1", port, clock) for name, port in ports.items()}
    for bus in buses.values():
        await bus.open()
    instruments = [
        ModbusDevice(name, load_profile(PROFILES[name]), buses[bus], unit, clock)
        for bus, units in LAYOUT.items()
        for unit, name in units.items()
    ]
    log: list[tuple[Any, ...]] = []
    dice = random.Random(clock.seed)

    async def read(instrument: ModbusDevice) -> None:
        try:
            readings = await instrument.read_all()
            log.append((clock.monotonic(), instrument.name, *(reading.value for reading in readings.values())))
        except DeviceError as error:
            log.append((clock.monotonic(), instrument.name, str(error)))
        if dice.random() < 0.2:
            log.append((clock.monotonic(), instrument.name, await clock.offload(lambda: f"commit {len(log)}")))

    for minute in range(1, MINUTES + 1):
        await clock.sleep_until(60.0 * minute)
        for server in suite.servers.values():
            for faults in server.faults.values():
                faults.delay_s = dice.choice((0.0, 0.0, 0.0, 0.3, 1.2))
                faults.silent = dice.random() < 0.05
        await asyncio.gather(*(read(instrument) for instrument in instruments))
    for bus in buses.values():
        await bus.close()
    await suite.close()
    return log


def test_drivers_and_faults_give_the_same_run_for_the_same_seed_on_a_busy_machine(busy_machine: None) -> None:
    first = run(scans, seed=1)
    assert sum("commit" not in str(entry[2]) for entry in first) == MINUTES * 9
    assert any("1 s" in str(entry[2]) for entry in first), "some devices were too late"
    for _ in range(2):
        assert run(scans, seed=1) == first
    assert run(scans, seed=2) != first
