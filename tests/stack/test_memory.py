"""The in-memory wire against the real one: the same faults end in the same errors, at the same moments."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from rtu_line import PROFILE, Counter

from devices.clock import SystemClock
from devices.instrument import (
    CommandRefused,
    DeviceError,
    DeviceOffline,
    DeviceState,
    OutcomeUnknown,
    Priority,
    ReadFailed,
)
from devices.modbus.bus import ModbusBus
from devices.modbus.driver import ModbusDevice
from devices.profile import load_profile
from devices.reading import Quality, Reading
from simulators.memory import memory_links
from simulators.plant import Plant
from simulators.server import ModbusServer, UnitFaults
from simulators.suite import LAYOUT, Suite, wire
from simulators.virtual import VirtualClock, run

FLUIDICS = LAYOUT["fluidics"]
SAFE = {name: ("stop" if name.startswith("pump") else "close") for name in FLUIDICS.values()}
WIRES = ("tcp", "memory")


@dataclass
class Stand:
    """The fluidics of a plant, and drivers on a bus to them."""

    clock: VirtualClock
    plant: Plant
    server: ModbusServer
    bus: ModbusBus
    devices: dict[str, ModbusDevice]
    port: int

    @property
    def pump(self) -> ModbusDevice:
        return self.devices["pump_media"]

    @property
    def faults(self) -> UnitFaults:
        return self.server.faults[1]

    def clean(self, text: str) -> str:
        """Return a text without the port, which is another in each run."""
        return text.replace(f":{self.port}", "")

    async def tried(self, work: Awaitable[dict[str, Reading]]) -> tuple[str, str, float]:
        """Return what became of some work: the class of its error, its text, and the virtual time that it took."""
        began = self.clock.monotonic()
        try:
            result = await work
        except DeviceError as error:
            return type(error).__name__, self.clean(str(error)), round(self.clock.monotonic() - began, 9)
        good = all(r.quality is Quality.GOOD for r in result.values())
        return "good" if good else "bad", str(_values(result)), round(self.clock.monotonic() - began, 9)


def _values(readings: dict[str, Reading]) -> dict[str, Any]:
    return {name: reading.value for name, reading in readings.items()}


Story = Callable[[Stand], Awaitable[Any]]


def told(story: Story, over: str) -> Any:
    """Tell a story over one of the wires."""

    async def main(clock: VirtualClock) -> Any:
        plant = Plant(clock, 1)
        suite = Suite(wire(plant.devices), clock)
        server, port = suite.servers["fluidics"], 1502
        if over == "tcp":
            port = await server.start()
            bus = ModbusBus("fluidics", "127.0.0.1", port, clock)
        else:
            bus = ModbusBus("fluidics", "127.0.0.1", port, clock, link=memory_links(suite, clock)["fluidics"])
        await bus.open()
        devices = {
            name: ModbusDevice(name, load_profile(plant.devices[name].profile.id), bus, unit, clock)
            for unit, name in FLUIDICS.items()
        }
        try:
            return await story(Stand(clock, plant, server, bus, devices, port))
        finally:
            await bus.close()
            await suite.close()

    return run(main, watchdog_s=30)


def _set(**wrong: Any) -> Callable[[Stand, bool], None]:
    def switch(stand: Stand, on: bool) -> None:
        for name, value in wrong.items():
            setattr(stand.faults, name, value if on else type(value)())

    return switch


def _server(name: str) -> Callable[[Stand, bool], None]:
    return lambda stand, on: setattr(stand.server, name, on)


def _refusing(stand: Stand, on: bool) -> None:
    stand.server.refuses = on
    if on:
        stand.server.cut()


FAULTS: dict[str, tuple[Callable[[Stand, bool], None], str, str]] = {
    # what is wrong: what a read makes of it, and its words
    "late": (_set(delay_s=0.4), "good", ""),
    "too late": (_set(delay_s=1.4), "ReadFailed", "no reply within 1 s"),
    "late to the very end": (_set(delay_s=1.0), "ReadFailed", "no reply within 1 s"),
    "silent": (_set(silent=True), "ReadFailed", "no reply within 1 s"),
    "busy": (_set(refuse=6), "ReadFailed", "exception 6: device busy"),
    "device failure": (_set(refuse=4), "ReadFailed", "exception 4"),
    "gateway": (_set(refuse=11), "DeviceOffline", "gateway: the device did not answer"),
    "wrong function": (_set(wrong_function=True), "ReadFailed", "function code 3 instead of 4"),
    "wrong unit": (_set(wrong_unit=True), "ReadFailed", "unit 2 instead of 1"),
    "wrong transaction": (_set(wrong_transaction=True), "ReadFailed", "another transaction"),
    "short reply": (_set(short_reply=True), "ReadFailed", "short or with more than was asked"),
    "truncated": (_set(truncated=True), "ReadFailed", "no reply within 1 s"),
    "busy for a while": (_set(busy=2), "good", ""),  # a read is asked again twice
    "busy for longer": (_set(busy=3), "ReadFailed", "exception 6: device busy"),
    "noise": (_set(garbage_before=b"\xff\x00\xff\x00"), "ReadFailed", "not Modbus TCP"),
    "echo": (_set(echo=True), "ReadFailed", "instead of"),
    "wrong checksum": (_set(bad_crc=True), "ReadFailed", "no reply within 1 s"),
    "byte by byte": (_set(byte_gap_s=0.002), "good", ""),
    "byte by byte, too slowly": (_set(byte_gap_s=0.3), "ReadFailed", "no reply within 1 s"),
    "half open": (_server("half_open"), "ReadFailed", "no reply within 1 s"),
    "refused": (_refusing, "DeviceOffline", "no connection to 127.0.0.1: Connection refused"),
}


async def _through(fault: Callable[[Stand, bool], None], stand: Stand) -> list[Any]:
    """Read, command and stop before, under and after a fault."""
    pump, neighbour = stand.pump, stand.devices["valves_cells"]
    block = next(iter(pump.profile.blocks))
    seen: list[Any] = [await stand.tried(pump.read(block)), await stand.tried(neighbour.read_all())]
    fault(stand, True)
    await stand.clock.sleep(0.5)
    seen.append(await stand.tried(pump.read(block)))
    seen += [await stand.tried(pump.read(block)) for _ in range(4)]
    dose = {"sequence": 7, "rate": 50.0, "volume": 5.0}
    seen.append(await stand.tried(pump.command("dispense", dose)))
    seen.append(await stand.tried(pump.command("stop", {}, Priority.STOP)))
    seen.append(await stand.tried(neighbour.read_all()))
    seen += [stand.clean(str(device.status)) for device in (pump, neighbour)]
    fault(stand, False)
    await stand.clock.sleep(60.0)
    seen += [await stand.tried(pump.read(block)), pump.status, stand.clock.monotonic()]
    statistics = asdict(stand.bus.statistics)
    taken = [(log.sequence, log.commanded_ml) for log in stand.plant.pumps["pump_media"].log]
    return [*seen, statistics, taken, asdict_of(stand.faults)]


def asdict_of(faults: UnitFaults) -> dict[str, int]:
    return {name: getattr(faults, name) for name in ("requests", "exceptions", "late", "swallowed")}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_in_the_same_errors_over_both_wires(name: str):
    fault, outcome, words = FAULTS[name]
    over = {wire: told(lambda stand: _through(fault, stand), wire) for wire in WIRES}
    assert over["memory"] == over["tcp"]
    seen = over["memory"]
    assert seen[0][0] == seen[1][0] == "good"
    assert seen[2][0] == outcome, seen[2]
    assert words in seen[2][1]
    kinds = {entry[0] for entry in seen[3:7]}
    assert "good" not in kinds or outcome == "good" or name == "busy for longer", "never a wrong value taken for good"
    assert (seen[12][0], seen[13].state) == ("good", DeviceState.ONLINE), "it comes back by itself"
    assert len(seen[16]) <= 1, "a dose that may have been taken is never sent again"


def test_idle_connections_and_further_clients_are_closed_alike_over_both_wires():
    async def story(stand: Stand) -> Any:
        block = next(iter(stand.pump.profile.blocks))
        stand.server.idle_close_s = 60.0
        seen: list[Any] = []
        for pause in (0.0, 59.0, 59.0, 61.0, 299.0):
            await stand.clock.sleep(pause)
            seen.append(await stand.tried(stand.pump.read(block)))
        seen.append(stand.bus.statistics.losses)
        stand.server.idle_close_s, stand.server.most_clients = 0.0, 1
        stand.server.clients[_Somebody()] = None
        stand.server.cut()
        stand.server.clients[_Somebody()] = None  # was quicker
        await stand.clock.sleep(10.0)
        seen += [await stand.tried(stand.pump.read(block)), stand.bus.generation]
        stand.server.clients.clear()
        await stand.clock.sleep(40.0)
        seen.append(await stand.tried(stand.pump.read(block)))
        return [*seen, asdict(stand.bus.statistics)]

    over = {wire: told(story, wire) for wire in WIRES}
    assert over["memory"] == over["tcp"]
    seen = over["tcp"]
    assert [entry[0] for entry in seen[:5]] == ["good"] * 5
    assert seen[5] == 5, "once in 61 s, four times in the next 299 s, each time made again at once"
    assert "hangs up without an answer" in seen[6][1]
    assert seen[8][0] == "good"


class _Somebody:
    def cut(self) -> None:
        """Be cut, and not care."""


@pytest.mark.parametrize("over", WIRES)
def test_a_pulled_cable_fails_what_is_under_way_at_once(over: str):
    async def story(stand: Stand) -> Any:
        await stand.pump.read_all()
        stand.faults.delay_s = 0.8
        block = next(iter(stand.pump.profile.blocks))
        reading = asyncio.create_task(stand.tried(stand.pump.read(block)))
        await stand.clock.sleep(0.3)
        stand.server.cut()
        found = await reading
        stand.faults.delay_s = 0.0
        await stand.clock.sleep(1.0)
        again = await stand.tried(stand.pump.read(block))
        return found, again[0], stand.bus.generation, stand.bus.statistics.losses

    (kind, text, took), again, generation, losses = told(story, over)
    assert (kind, took) == ("ReadFailed", 0.3)
    assert "the connection was lost while the reply was awaited" in text
    assert (again, generation, losses) == ("good", 2, 1)


@pytest.mark.parametrize("over", WIRES)
def test_what_no_reply_shows_is_told_by_the_contents(over: str):
    """A frozen register image is taken for good, as is said; swapped words fail where an identity is read again."""

    async def story(stand: Stand) -> Any:
        pump, block = stand.pump, next(iter(stand.pump.profile.blocks))
        await pump.read_all()
        stand.faults.stale = True
        told = await stand.tried(pump.command("dispense", {"sequence": 9, "rate": 60.0, "volume": 5.0}))
        shown = _values(await pump.read(block))
        stand.faults.stale = False
        true = _values(await pump.read(block))
        stand.faults.swapped_words = True
        stand.server.cut()
        await stand.clock.sleep(1.0)
        swapped = await stand.tried(pump.read(block))
        return told, shown["sequence"], true["sequence"], swapped, pump.status.state

    told_, shown, true, swapped, state = told(story, over)
    assert told_[0] == "NotApplied", "the write was carried out, and its read-back shows the old registers"
    assert (shown, true) == (0.0, 9.0)
    assert swapped[0] == "ReadFailed"
    assert state is DeviceState.FAULT


def test_an_instrument_whose_living_point_stands_still_is_stale():
    async def main(clock: VirtualClock) -> list[tuple[float, Quality]]:
        suite = Suite(wire(Plant(clock, 1).devices), clock)
        bus = ModbusBus("weighing", "127.0.0.1", 1502, clock, link=memory_links(suite, clock)["weighing"])
        scales = ModbusDevice("scales", load_profile("sim-scales"), bus, 1, clock)
        await bus.open()
        seen: list[tuple[float, Quality]] = []
        for second in range(20):
            await clock.sleep(1.0)
            suite.servers["weighing"].faults[1].stale = 4 <= second < 14
            seen.append((second, (await scales.read("mass"))["mass_1"].quality))
        await bus.close()
        return seen

    stale = [second for second, quality in run(main, watchdog_s=30) if quality is Quality.STALE]
    assert stale == [9, 10, 11, 12, 13], "five seconds after it stood still, until it moves again"


@pytest.mark.parametrize("over", WIRES)
@pytest.mark.parametrize("into_s", [0.0, 0.01, 0.5, 0.99, 7.3])
def test_a_unit_that_hangs_does_not_keep_its_neighbours_from_being_made_safe(over: str, into_s: float):
    """Six units on a bus, one hangs, and all are scanned each second; the five others are safe within 2 s."""

    async def story(stand: Stand) -> dict[str, float | str]:
        stop = asyncio.Event()

        async def scan(device: ModbusDevice) -> None:
            while not stop.is_set():
                with contextlib.suppress(DeviceOffline, ReadFailed):
                    await device.read_all()
                await stand.clock.sleep(1.0)

        for device in stand.devices.values():
            await device.read_all()
        scans = [asyncio.create_task(scan(device)) for device in stand.devices.values()]
        await stand.clock.sleep(3.0)
        stand.faults.silent = True
        await stand.clock.sleep(into_s)
        began, safe = stand.clock.monotonic(), dict[str, float | str]()

        async def protect(name: str) -> None:
            try:
                await stand.devices[name].command(SAFE[name], {}, Priority.STOP)
            except OutcomeUnknown:
                safe[name] = "unknown"
            else:
                safe[name] = stand.clock.monotonic() - began

        await asyncio.gather(*(protect(name) for name in FLUIDICS.values()))
        stop.set()
        await asyncio.gather(*scans)
        return safe

    safe = told(story, over)
    assert safe.pop("pump_media") == "unknown"
    assert len(safe) == 5
    worst = max(float(took) for took in safe.values())
    print(f"{over}, {into_s} s into the silence: the last neighbour is safe after {worst:.2f} s")
    assert worst <= 1.01, safe


def test_a_read_that_waited_through_a_loss_is_of_an_instrument_that_was_checked_anew():
    async def work(clock: VirtualClock) -> None:
        servers = Suite({"line": {1: Counter(1), 2: Counter(2)}}, clock)
        server, bus = (
            servers.servers["line"],
            ModbusBus("line", "", 0, clock, link=memory_links(servers, clock)["line"]),
        )
        await bus.open()
        drivers = {unit: ModbusDevice(f"c{unit}", PROFILE, bus, unit, clock) for unit in (1, 2)}
        for driver in drivers.values():
            await driver.read("state")
        server.faults[1].delay_s = 0.5
        slow = asyncio.create_task(drivers[1].read("state"))
        await clock.sleep(0.1)
        waits = asyncio.create_task(drivers[2].read("state"))  # behind the slow one
        await clock.sleep(0.1)
        server.units[2].replace(99)
        server.cut()
        await asyncio.wait((slow, waits))
        assert (waits.exception(), drivers[2].serial) == (None, "99")
        assert isinstance(slow.exception(), DeviceError)
        await bus.close()
        await servers.close()

    run(work, seed=1, watchdog_s=20.0)


def on_a_line(work: Callable[[VirtualClock, ModbusServer, ModbusBus, ModbusDevice], Awaitable[None]]) -> None:
    async def main(clock: VirtualClock) -> None:
        servers = Suite({"line": {1: Counter(1)}}, clock)
        bus = ModbusBus("line", "", 0, clock, link=memory_links(servers, clock)["line"])
        await bus.open()
        await work(clock, servers.servers["line"], bus, ModbusDevice("c1", PROFILE, bus, 1, clock))
        await bus.close()
        await servers.close()

    run(main, seed=1, watchdog_s=20.0)


def test_what_was_given_before_a_stop_is_not_sent_after_it():
    async def work(clock: VirtualClock, server: ModbusServer, bus: ModbusBus, driver: ModbusDevice) -> None:
        await driver.read("state")
        server.faults[1].delay_s = 0.05
        reading = asyncio.create_task(driver.read("state"))
        await clock.sleep(0.01)
        given = asyncio.create_task(driver.command("set", {"first": 500, "second": 500}))  # it waits behind the read
        await clock.sleep(0.01)
        await driver.command("set", {"first": 0, "second": 0}, Priority.STOP)
        await asyncio.wait((reading, given))
        assert isinstance(given.exception(), DeviceOffline | CommandRefused), "it had no effect, and says so"
        counter = server.units[1]
        assert isinstance(counter, Counter)
        assert [args["first"] for args in counter.done] == [0]

    on_a_line(work)


@pytest.mark.parametrize(("fc", "addr", "count"), [(3, 70_000, 1), (3, -1, 1), (3, 65_535, 2), (3, 0, 126), (7, 0, 1)])
def test_what_no_request_can_be_harms_nobody_else(fc: int, addr: int, count: int):
    async def work(clock: VirtualClock, server: ModbusServer, bus: ModbusBus, driver: ModbusDevice) -> None:
        await driver.read("state")
        server.faults[1].delay_s = 0.01  # so that it is queued
        with pytest.raises(ValueError, match="is no request of the protocol"):
            await bus.read(1, fc, addr, count)
        with pytest.raises(ValueError, match="is no request of the protocol"):
            await bus.write(1, 16, 0, [0] * 130)
        await driver.read("state")

    on_a_line(work)


async def test_a_peer_that_speaks_without_being_asked_is_left_alone_for_a_while():
    greeted: list[asyncio.StreamWriter] = []

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeted.append(writer)
        writer.write(b"login: ")

    clock = SystemClock()
    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    bus = ModbusBus("gateway", "127.0.0.1", server.sockets[0].getsockname()[1], clock)
    await bus.open()
    async with asyncio.timeout(10):
        while not bus.down:
            await clock.sleep(0.01)
    assert "speaks without being asked" in bus.down
    await clock.sleep(0.3)
    assert len(greeted) == 1
    await bus.close()
    for writer in greeted:
        writer.close()
    server.close()
    await server.wait_closed()
    clock.close()


async def test_a_host_that_is_no_name_is_a_connection_that_fails():
    clock = SystemClock()
    bus = ModbusBus("gateway", "gateway..lab", 502, clock)
    await bus.open()
    async with asyncio.timeout(10):
        while not bus.down:
            await clock.sleep(0.01)
    assert "gateway..lab:502: it is no name of a host" in bus.down
    await bus.close()
    clock.close()
