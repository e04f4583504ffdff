"""The driver against a device that misbehaves: every reply checked, every write once, nothing guessed."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from devices.clock import SystemClock
from devices.document import parse
from devices.instrument import (
    CommandRefused,
    DeviceOffline,
    DeviceState,
    Instrument,
    NotApplied,
    OutcomeUnknown,
    Priority,
    ReadFailed,
)
from devices.modbus.bus import QUEUE_LIMIT, ModbusBus
from devices.modbus.driver import ModbusDevice
from devices.modbus.pdu import NoReplyError, NotSentError
from devices.profile import compile_profile, load_profile
from simulators.virtual import VirtualClock
from simulators.virtual import run as run_virtual

TIMEOUT = 0.2
IDENTITY = 0x5199
PROBE = compile_profile(
    parse(
        """\
profile: {id: probe, version: 1, role: valves, maker: m, model: x, evidence: simulated, sources: [s]}
transport: {kinds: [tcp], offline_after: 2}
identity: {fc: 3, addr: 100, type: uint16, expect: 0x5199, serial: {addr: 101, type: uint32}}
asserts:
  - {fc: 3, addr: 110, type: uint16, equals: 0, why: unit must be C}
blocks:
  state: {fc: 3, addr: 0, count: 4, scan: fast}
  other: {fc: 3, addr: 20, count: 1, scan: slow}
points:
  suction: {block: state, addr: 0, type: uint16, stale_ms: 5000}
  delivery: {block: state, addr: 1, type: uint16, stale_ms: 5000}
  sequence: {block: state, addr: 2, type: uint16, stale_ms: 5000}
  level: {block: other, addr: 20, type: uint16, stale_ms: 5000}
commands:
  select:
    write:
      fc: 16
      addr: 0
      fields: [{arg: suction, type: uint16, min: 0, max: 16}, {arg: delivery, type: uint16, min: 0, max: 16}]
    idempotent: true
    verify: {within_ms: 200, points: [{point: suction, arg: suction}, {point: delivery, arg: delivery}]}
  close:
    write: {fc: 16, addr: 0, fields: [{value: 0, type: uint16}, {value: 0, type: uint16}]}
    idempotent: true
    verify: {within_ms: 200, points: [{point: suction, equals: 0}, {point: delivery, equals: 0}]}
  dose:
    write: {fc: 6, addr: 2, fields: [{arg: sequence, type: uint16, min: 1, max: 65535}]}
    idempotent: false
    verify: {within_ms: 200, points: [{point: sequence, arg: sequence}]}
  beep:
    write: {fc: 6, addr: 3, fields: [{value: 1, type: uint16}]}
    idempotent: true
    verify: {none: "it makes a sound"}
failsafe: {safe_command: close, on_comm_loss: unknown}
""",
        "probe.yaml",
    )
)


@dataclass
class Exchange:
    """One request as it came in, and what a device can do with it."""

    device: Responder
    transport: asyncio.Transport
    tid: int
    unit: int
    pdu: bytes

    @property
    def fc(self) -> int:
        return self.pdu[0]

    @property
    def addr(self) -> int:
        return struct.unpack(">H", self.pdu[1:3])[0]

    def serve(self) -> None:
        self.reply(self.execute())

    def execute(self) -> bytes:
        """Do what is asked; return the right reply."""
        image = self.device.registers
        if self.fc in (3, 4):
            count = struct.unpack(">H", self.pdu[3:5])[0]
            words = [image.get(self.addr + i, 0) for i in range(count)]
            return struct.pack(f">BB{count}H", self.fc, 2 * count, *words)
        words = struct.unpack(f">{(len(self.pdu) - 6) // 2}H", self.pdu[6:]) if self.fc == 16 else ()
        words = words or struct.unpack(">H", self.pdu[3:5])
        self.device.executed.append((self.unit, self.addr, list(words)))
        image.update({self.addr + i: word for i, word in enumerate(words)})
        return self.pdu[:5]

    def reply(self, pdu: bytes, *, tid: int | None = None, unit: int | None = None, tail: bytes = b"") -> None:
        tid, unit = self.tid if tid is None else tid, self.unit if unit is None else unit
        self.transport.write(struct.pack(">HHHB", tid, 0, len(pdu) + 1, unit) + pdu + tail)

    def exception(self, code: int) -> None:
        self.reply(bytes([self.fc | 0x80, code]))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, action)


Behaviour = Callable[[Exchange], None]


@dataclass
class Responder:
    """A Modbus TCP server of raw frames; `behave` decides what becomes of a request."""

    registers: dict[int, int] = field(default_factory=lambda: {100: IDENTITY, 101: 1, 102: 2, 0: 1, 1: 2, 20: 7})
    behave: Behaviour = Exchange.serve
    seen: list[Exchange] = field(default_factory=list)
    executed: list[tuple[int, int, list[int]]] = field(default_factory=list)
    transports: list[asyncio.Transport] = field(default_factory=list)
    greet: Callable[[asyncio.Transport], None] | None = None
    server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> int:
        self.server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), "127.0.0.1", port)
        return self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self.server is not None:
            self.server.close()
        for transport in self.transports:
            transport.abort()
        await asyncio.sleep(0)

    def hang_up(self) -> None:
        for transport in self.transports:
            transport.abort()
        self.transports.clear()

    def once(self, wanted: Callable[[Exchange], bool], fault: Behaviour) -> None:
        """Misbehave at the first request that fits, then be good."""
        done: list[Exchange] = []

        def behave(exchange: Exchange) -> None:
            if not done and wanted(exchange):
                done.append(exchange)
                fault(exchange)
            else:
                exchange.serve()

        self.behave = behave


class _Connection(asyncio.Protocol):
    def __init__(self, device: Responder) -> None:
        self.device = device
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.device.transports.append(transport)
        if self.device.greet:
            self.device.greet(transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while len(self.buffer) >= 7 and len(self.buffer) >= (size := 6 + int.from_bytes(self.buffer[4:6], "big")):
            frame, self.buffer = self.buffer[:size], self.buffer[size:]
            tid, _, _, unit = struct.unpack(">HHHB", frame[:7])
            exchange = Exchange(self.device, self.transport, tid, unit, frame[7:])
            self.device.seen.append(exchange)
            self.device.behave(exchange)


@dataclass
class Bench:
    device: Responder
    bus: ModbusBus
    probe: ModbusDevice
    clock: SystemClock
    port: int

    def unit(self, number: int) -> ModbusDevice:
        return ModbusDevice(f"probe{number}", PROBE, self.bus, number, self.clock)


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    device, clock = Responder(), SystemClock()
    port = await device.start()
    bus = ModbusBus("fluidics", "127.0.0.1", port, clock, timeout=TIMEOUT)
    await bus.open()
    yield Bench(device, bus, ModbusDevice("probe", PROBE, bus, 1, clock), clock, port)
    await bus.close()
    await device.stop()
    clock.close()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  what is waited for happens in a peer that has no event to set
            await asyncio.sleep(0.001)


def state_read(exchange: Exchange) -> bool:
    return exchange.fc == 3 and exchange.addr == 0


def is_write(exchange: Exchange) -> bool:
    return exchange.fc in (6, 16)


def ignore(_: Exchange) -> None:
    """Take the request and say nothing."""


# --- reading ---------------------------------------------------------------------------------------------------


async def test_identity_and_settings_are_checked_once_and_then_a_block_is_one_request(bench: Bench):
    instrument: Instrument = bench.probe
    readings = await instrument.read("state")
    assert {name: r.value for name, r in readings.items()} == {"suction": 1.0, "delivery": 2.0, "sequence": 0.0}
    assert instrument.status.state is DeviceState.ONLINE
    assert bench.probe.serial == str((1 << 16) | 2)
    await instrument.read("state")
    assert [(e.fc, e.addr) for e in bench.device.seen] == [(3, 100), (3, 110), (3, 0), (3, 0)]
    assert (await instrument.read_all()).keys() == {"suction", "delivery", "sequence", "level"}
    assert bench.bus.statistics.replies == sum(bench.bus.statistics.latency) == 6


async def test_a_reply_that_is_late_within_the_time_out_is_good(bench: Bench):
    bench.device.once(state_read, lambda e: e.after(TIMEOUT / 2, e.serve))
    assert (await bench.probe.read("state"))["suction"].value == 1.0
    assert bench.bus.statistics.timeouts == 0


async def test_a_reply_that_is_too_late_is_never_taken_for_the_next_one(bench: Bench):
    await bench.probe.read("state")
    late: list[Exchange] = []
    bench.device.once(state_read, late.append)
    with pytest.raises(ReadFailed, match="no reply within"):
        await bench.probe.read("state")
    slow = asyncio.create_task(bench.probe.read("other"))
    late[0].serve()  # the old answer arrives while the next question is under way
    assert (await slow)["level"].value == 7.0
    assert bench.bus.statistics.timeouts == 1
    assert bench.bus.generation == 2


async def test_a_late_reply_that_a_gateway_sends_on_the_next_connection_is_refused(bench: Bench):
    late: list[bytes] = []
    bench.device.once(state_read, lambda e: late.append(e.execute()))  # what it would have said
    with pytest.raises(ReadFailed, match="no reply within"):
        await bench.probe.read("state")
    old = next(e for e in bench.device.seen if state_read(e))
    bench.device.registers[0] = 15
    bench.device.once(state_read, lambda e: e.reply(late[0], tid=old.tid))
    with pytest.raises(ReadFailed, match="transaction"):
        await bench.probe.read("state")
    asked = [e for e in bench.device.seen if state_read(e)]
    assert asked[1].transport is not old.transport, "the same question, at the same place of another connection"
    assert bench.bus.statistics.mismatches == 1
    assert (await bench.probe.read("state"))["suction"].value == 15.0, "what is so now"


WRONG: dict[str, tuple[Behaviour, str]] = {
    "function code": (lambda e: e.reply(b"\x04" + e.execute()[1:]), "function code 4 instead of 3"),
    "short": (lambda e: e.reply(b"\x03\x02\x00\x01"), "instead of 17"),
    "long": (lambda e: e.reply(struct.pack(">BB5H", 3, 10, *range(5))), "instead of 17"),
    "byte count": (lambda e: e.reply(b"\x03\x06" + e.execute()[2:]), "byte count 6 instead of 8"),
    "unit": (lambda e: e.reply(e.execute(), unit=2), "unit 2 instead of 1"),
    "transaction": (lambda e: e.reply(e.execute(), tid=e.tid + 1), "transaction"),
    "transaction 0": (lambda e: e.reply(e.execute(), tid=0), "another transaction"),
    "two replies": (lambda e: e.reply(e.execute(), tail=b"\0\1\0\0"), "4 bytes after the reply"),
    "no modbus": (lambda e: e.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "not Modbus TCP"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_reply_that_does_not_fit_is_refused_at_once(bench: Bench, name: str):
    fault, text = WRONG[name]
    await bench.probe.read("state")
    bench.device.once(state_read, fault)
    began = time.monotonic()
    with pytest.raises(ReadFailed, match=text):
        await bench.probe.read("state")
    assert time.monotonic() - began < TIMEOUT
    assert bench.bus.statistics.mismatches == 1
    assert (await bench.probe.read("state"))["delivery"].value == 2.0


async def test_a_reply_in_two_pieces_is_one_reply(bench: Bench):
    def in_pieces(exchange: Exchange) -> None:
        frame = struct.pack(">HHHB", exchange.tid, 0, 11, 1) + exchange.execute()
        exchange.transport.write(frame[:10])
        exchange.after(0.01, lambda: exchange.transport.write(frame[10:]))

    bench.device.once(state_read, in_pieces)
    assert (await bench.probe.read("state"))["delivery"].value == 2.0


async def test_coils_are_read_and_written_like_registers(bench: Bench):
    def coils(exchange: Exchange) -> None:
        if exchange.fc in (1, 2):
            exchange.reply(bytes([exchange.fc, 2, 0b101, 0b10]))
        else:
            exchange.reply(exchange.pdu[:5])

    bench.device.behave = coils
    assert await bench.bus.read(1, 1, 0, 10) == [1, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert await bench.bus.read(1, 2, 0, 9) == [1, 0, 1, 0, 0, 0, 0, 0, 0]
    await bench.bus.write(1, 5, 7, [1])
    await bench.bus.write(1, 15, 8, [1, 1, 0])
    assert [e.pdu.hex() for e in bench.device.seen[2:]] == ["050007ff00", "0f000800030103"]


async def test_words_nobody_asked_for_end_the_connection(bench: Bench):
    await bench.probe.read("state")
    bench.device.transports[-1].write(struct.pack(">HHHBBBH", 4, 0, 5, 1, 3, 2, 99))
    await until(lambda: bench.bus.generation == 2)
    assert (await bench.probe.read("state"))["suction"].value == 1.0


async def test_an_exception_reply_names_itself_and_the_device_stays_online(bench: Bench):
    await bench.probe.read("state")
    bench.device.once(state_read, lambda e: e.exception(2))
    with pytest.raises(ReadFailed, match="illegal data address"):
        await bench.probe.read("state")
    assert bench.probe.status.state is DeviceState.ONLINE
    assert bench.bus.statistics.exceptions == 1


async def test_a_gateway_that_cannot_reach_the_device_is_not_the_bus(bench: Bench):
    bench.device.behave = lambda e: e.exception(11) if e.unit == 2 else e.serve()
    absent = bench.unit(2)
    with pytest.raises(DeviceOffline, match="did not answer"):
        await absent.read("state")
    assert absent.status.state is DeviceState.OFFLINE
    assert (await bench.probe.read("state"))["suction"].value == 1.0
    assert bench.bus.generation == 1


async def test_the_wrong_instrument_is_a_fault_and_gets_no_command(bench: Bench):
    bench.device.registers[100] = 7
    with pytest.raises(ReadFailed, match="register 100 reads 7, expected 20889"):
        await bench.probe.read("state")
    assert bench.probe.status.state is DeviceState.FAULT
    sent = len(bench.device.seen)
    with pytest.raises(CommandRefused, match="not sent"):
        await bench.probe.command("select", {"suction": 3, "delivery": 4})
    assert len(bench.device.seen) == sent
    assert bench.device.executed == []


async def test_a_setting_that_was_changed_is_a_fault_that_says_why(bench: Bench):
    bench.device.registers[110] = 1
    with pytest.raises(ReadFailed, match="unit must be C"):
        await bench.probe.read("state")


# --- the connection --------------------------------------------------------------------------------------------


async def test_an_absent_device_fails_at_once_and_is_found_when_it_appears():
    device, clock = Responder(), SystemClock()
    port = await device.start()
    await device.stop()
    bus = ModbusBus("fluidics", "127.0.0.1", port, clock, timeout=TIMEOUT)
    await bus.open()
    probe = ModbusDevice("probe", PROBE, bus, 1, clock)
    with pytest.raises(DeviceOffline, match=r"no connection to 127\.0\.0\.1"):
        await probe.read("state")
    with pytest.raises(DeviceOffline):
        await probe.command("select", {"suction": 3, "delivery": 4})
    assert probe.status.state is DeviceState.OFFLINE
    await device.start(port)
    await until(lambda: bus.connected)
    await probe.command("select", {"suction": 3, "delivery": 4})
    assert probe.status.state is DeviceState.ONLINE
    await bus.close()
    await device.stop()
    clock.close()


async def test_after_a_lost_connection_the_instrument_is_checked_again(bench: Bench):
    await bench.probe.read("state")
    bench.device.hang_up()
    await until(lambda: bench.bus.generation == 2)
    bench.device.registers[100] = 7  # somebody has plugged in another instrument
    with pytest.raises(ReadFailed, match="expected 20889"):
        await bench.probe.read("state")


async def test_a_reset_during_a_read_is_noticed_before_the_time_out(bench: Bench):
    await bench.probe.read("state")
    bench.device.once(state_read, lambda e: e.transport.abort())
    began = time.monotonic()
    with pytest.raises(ReadFailed, match="connection was lost"):
        await bench.probe.read("state")
    assert time.monotonic() - began < TIMEOUT
    assert (await bench.probe.read("state"))["suction"].value == 1.0


async def test_a_server_that_hangs_up_on_everyone_is_not_stormed(bench: Bench):
    bench.device.greet = lambda transport: transport.abort()
    bench.device.hang_up()
    await until(lambda: bool(bench.bus.down))
    assert bench.bus.statistics.connects <= 3
    with pytest.raises(DeviceOffline, match="hangs up"):
        await bench.probe.read("state")


async def test_a_dead_unit_is_left_alone_and_does_not_slow_its_neighbours(bench: Bench):
    dead = bench.unit(2)
    bench.device.behave = lambda e: ignore(e) if e.unit == 2 else e.serve()
    for _ in range(PROBE.offline_after):
        with pytest.raises((ReadFailed, DeviceOffline)):
            await dead.read("state")
    assert dead.status.state is DeviceState.OFFLINE
    sent = len([e for e in bench.device.seen if e.unit == 2])
    began = time.monotonic()
    for _ in range(10):
        with pytest.raises(DeviceOffline, match="no reply"):
            await dead.read("state")
        with pytest.raises(DeviceOffline):
            await dead.command("close", {})
        assert (await bench.probe.read("state"))["suction"].value == 1.0
    assert time.monotonic() - began < TIMEOUT
    assert len([e for e in bench.device.seen if e.unit == 2]) == sent == PROBE.offline_after


# --- stops -----------------------------------------------------------------------------------------------------


async def left_alone(bench: Bench, unit: int) -> ModbusDevice:
    """Return a unit that has been silent until it is only probed from time to time."""
    bench.device.behave = lambda e: None if e.unit == unit else e.serve()
    device = bench.unit(unit)
    for _ in range(PROBE.offline_after):
        with pytest.raises((ReadFailed, DeviceOffline)):
            await device.read("state")
    sent = len(bench.device.seen)
    with pytest.raises(DeviceOffline, match="no reply"):
        await device.command("close", {})
    assert len(bench.device.seen) == sent
    return device


async def test_a_stop_goes_out_to_a_unit_that_is_left_alone_and_finds_it_back(bench: Bench):
    dead = await left_alone(bench, 2)
    bench.device.behave = Exchange.serve
    readings = await dead.command("close", {}, Priority.STOP)
    assert (readings["suction"].value, readings["delivery"].value) == (0.0, 0.0)
    assert bench.device.executed == [(2, 0, [0, 0])]
    await dead.read("state")  # the next scan need not wait for the next probe
    assert dead.status.state is DeviceState.ONLINE


async def test_a_stop_to_a_unit_that_stays_silent_is_sent_once_and_unknown(bench: Bench):
    dead = await left_alone(bench, 2)
    with pytest.raises(OutcomeUnknown, match="close was written once; no reply"):
        await dead.command("close", {}, Priority.STOP)
    assert len([e for e in bench.device.seen if is_write(e)]) == 1


async def test_a_stop_is_the_first_request_on_a_new_connection(bench: Bench):
    await bench.probe.read("state")
    bench.device.hang_up()
    await until(lambda: bench.bus.generation == 2)
    sent = len(bench.device.seen)
    await bench.probe.command("close", {}, Priority.STOP)
    assert [e.fc for e in bench.device.seen[sent:]] == [16, 3]


async def test_a_stop_to_an_instrument_with_a_wrong_setting_goes_out(bench: Bench):
    bench.device.registers[110] = 1
    with pytest.raises(ReadFailed, match="unit must be C"):
        await bench.probe.read("state")
    await bench.probe.command("close", {}, Priority.STOP)
    assert bench.device.executed == [(1, 0, [0, 0])]


async def test_an_instrument_that_said_it_is_another_is_asked_again_before_it_gets_a_stop(bench: Bench):
    bench.device.registers[100] = 7
    with pytest.raises(ReadFailed):
        await bench.probe.read("state")
    with pytest.raises(CommandRefused, match="expected 20889"):
        await bench.probe.command("close", {}, Priority.STOP)
    assert bench.device.executed == []
    bench.device.registers[100] = IDENTITY
    await bench.probe.command("close", {}, Priority.STOP)
    assert bench.device.executed == [(1, 0, [0, 0])]


async def test_a_write_that_waited_for_a_check_after_a_loss_is_not_sent_after_a_stop(bench: Bench):
    await bench.probe.read("state")
    held: list[Exchange] = []
    bench.device.once(state_read, held.append)
    read = asyncio.create_task(bench.probe.read("state"))
    await until(lambda: bool(held))
    old = asyncio.create_task(bench.probe.command("select", {"suction": 7, "delivery": 3}))
    await until(lambda: bench.bus.depth == 1)
    asked: list[Exchange] = []
    bench.device.once(lambda e: e.addr == 100, asked.append)
    bench.device.hang_up()
    with pytest.raises(ReadFailed):
        await read
    await until(lambda: bool(asked))  # the write found another connection, and who is there is asked first
    stop = asyncio.create_task(bench.probe.command("close", {}, Priority.STOP))
    await until(lambda: bench.bus.depth == 1)
    asked[0].serve()
    await stop
    with pytest.raises(CommandRefused, match="select was not sent: a stop was"):
        await old
    assert bench.device.executed == [(1, 0, [0, 0])]


async def test_a_stop_outlasts_a_command_that_still_reads_the_bits_it_keeps(bench: Bench):
    drive = ModbusDevice("drive", load_profile("longer-l100"), bench.bus, 1, bench.clock)
    await drive.read_all()
    held: list[Exchange] = []
    bench.device.once(lambda e: True, held.append)
    read = asyncio.create_task(bench.bus.read(1, 3, 0, 4))
    await until(lambda: bool(held))
    old = asyncio.create_task(drive.command("start", {}))
    await until(lambda: bench.bus.depth == 1)
    stop = asyncio.create_task(drive.command("stop", {}, Priority.STOP))
    await until(lambda: bench.bus.depth == 2)
    held[0].serve()
    await asyncio.gather(read, stop)
    with pytest.raises(CommandRefused, match="start was not sent: a stop was"):
        await old
    assert bench.device.executed == [(1, 4, [0])]


async def test_a_stop_outlasts_what_waits_to_be_written_elsewhere_in_its_instrument(bench: Bench):
    neighbour = bench.unit(2)
    await bench.probe.read("state")
    await neighbour.read("state")
    held: list[Exchange] = []
    bench.device.once(state_read, held.append)
    read = asyncio.create_task(bench.probe.read("state"))
    await until(lambda: bool(held))
    old, other = (asyncio.create_task(probe.command("beep", {})) for probe in (bench.probe, neighbour))
    await until(lambda: bench.bus.depth == 2)
    stops = [asyncio.create_task(bench.probe.command("close", {}, Priority.STOP)) for _ in range(2)]
    await until(lambda: bench.bus.depth == 4)
    held[0].serve()
    await asyncio.gather(read, other, *stops)
    with pytest.raises(CommandRefused, match="gave way to a stop"):
        await old
    close = (1, 0, [0, 0])
    assert bench.device.executed == [close, close, (2, 3, [1])], "no stop gives way to another"


async def test_a_stop_outlasts_a_command_elsewhere_that_is_still_being_looked_into(bench: Bench):
    await bench.probe.read("state")
    held: list[Exchange] = []
    bench.device.once(state_read, held.append)
    old = asyncio.create_task(bench.probe.command("dose", {"sequence": 41}))  # is it so already?
    await until(lambda: bool(held))
    stop = asyncio.create_task(bench.probe.command("close", {}, Priority.STOP))
    await until(lambda: bench.bus.depth == 1)
    held[0].serve()
    await stop
    with pytest.raises(CommandRefused, match="dose was not sent: a stop was"):
        await old
    assert bench.device.executed == [(1, 0, [0, 0])]
    await bench.probe.command("dose", {"sequence": 41})
    assert bench.device.executed[1:] == [(1, 2, [41])], "what is given after it is sent"


async def test_a_dispense_gives_way_to_the_stop_of_its_pump_and_what_disarms_its_watchdog_does_not(bench: Bench):
    pump = ModbusDevice("pump", load_profile("sim-pump"), bench.bus, 1, bench.clock)
    bench.device.registers = {100: 0x5102}
    await pump.read_all()
    held: list[Exchange] = []
    bench.device.once(lambda e: True, held.append)
    read = asyncio.create_task(bench.bus.read(1, 4, 0, 11))
    await until(lambda: bool(held))
    dose = asyncio.create_task(pump.command("dispense", {"sequence": 7, "rate": 50.0, "volume": 20.0}))
    disarmed = asyncio.create_task(pump.command("set_watchdog", {"seconds": 0.0}, Priority.ALARM))
    await until(lambda: bench.bus.depth == 2)
    stop = asyncio.create_task(pump.command("stop", {}, Priority.STOP))
    await until(lambda: bench.bus.depth == 3)
    held[0].serve()
    await asyncio.gather(read, stop, disarmed)
    with pytest.raises(CommandRefused, match="dispense was not sent: a stop was"):
        await dose
    assert bench.device.executed == [(1, 6, [0]), (1, 7, [0])], "one that was not disarmed would trip"


async def test_a_start_gives_way_to_an_abort_also_where_no_command_is_named_as_the_safe_one(bench: Bench):
    freezer = ModbusDevice("freezer", load_profile("sim-freezer"), bench.bus, 1, bench.clock)
    bench.device.behave = lambda e: (
        e.reply(struct.pack(">BB3H", 4, 6, 0x5105, 0, 9)) if (e.fc, e.addr) == (4, 100) else e.serve()
    )
    assert freezer.profile.safe_command is None
    await freezer.read_all()
    held: list[Exchange] = []
    bench.device.once(lambda e: True, held.append)
    read = asyncio.create_task(bench.bus.read(1, 4, 0, 4))
    await until(lambda: bool(held))
    start = asyncio.create_task(freezer.command("start", {"sequence": 7}))
    await until(lambda: bench.bus.depth == 1)
    abort = asyncio.create_task(freezer.command("abort", {}, Priority.STOP))
    await until(lambda: bench.bus.depth == 2)
    held[0].serve()
    await asyncio.gather(read, abort)
    with pytest.raises(CommandRefused, match="start was not sent: a stop was"):
        await start
    assert bench.device.executed == [(1, 2, [1])]


def test_a_stop_makes_a_bus_that_is_down_connect_now():
    async def story(clock: VirtualClock) -> tuple[float, float]:
        device = Responder()
        port = await device.start()
        bus = ModbusBus("fluidics", "127.0.0.1", port, clock, timeout=1.0)
        await bus.open()
        probe = ModbusDevice("probe", PROBE, bus, 1, clock)
        await probe.read("state")
        await device.stop()
        await clock.sleep(600.0)  # by now the bus is tried every half minute
        failures, began = bus.statistics.connect_failures, clock.monotonic()
        with pytest.raises(DeviceOffline, match="no connection"):
            await probe.command("close", {}, Priority.STOP)
        assert bus.statistics.connect_failures == failures + 1
        refused = clock.monotonic() - began
        with pytest.raises(DeviceOffline, match="no connection"):
            await probe.command("close", {})  # what is no stop is refused without a word on the wire
        assert bus.statistics.connect_failures == failures + 1
        await device.start(port)
        await probe.command("close", {}, Priority.STOP)
        assert device.executed == [(1, 0, [0, 0])]
        took = clock.monotonic() - began
        await bus.close()
        with pytest.raises(DeviceOffline, match="closed"):
            await probe.command("close", {}, Priority.STOP)
        await device.stop()
        return refused, took

    assert run_virtual(story, seed=1) == (0.0, 0.0)


async def test_a_closed_bus_fails_its_callers_and_leaves_nothing(bench: Bench):
    await bench.probe.read("state")
    bench.device.behave = ignore
    under_way = asyncio.create_task(bench.bus.read(1, 3, 0, 4))
    waiting = asyncio.create_task(bench.bus.read(1, 3, 0, 4))
    await until(lambda: state_read(bench.device.seen[-1]) and len(bench.device.seen) == 4)
    await bench.bus.close()
    with pytest.raises(NoReplyError, match="closed while"):
        await under_way
    with pytest.raises(NotSentError, match="closed"):
        await waiting
    with pytest.raises(DeviceOffline, match="closed"):
        await bench.probe.read("state")


# --- the queue -------------------------------------------------------------------------------------------------


async def test_a_caller_who_gave_up_waiting_is_never_served(bench: Bench):
    await bench.probe.read("state")
    held: list[Exchange] = []
    bench.device.once(state_read, held.append)
    first = asyncio.create_task(bench.probe.read("state"))
    await until(lambda: bool(held))
    second = asyncio.create_task(bench.bus.write(1, 6, 3, [1]))
    await until(lambda: bench.bus.depth == 1)
    second.cancel()
    held[0].serve()
    await first
    await bench.probe.read("state")
    assert bench.device.executed == []


async def test_a_caller_who_gave_up_during_the_exchange_harms_nobody(bench: Bench):
    await bench.probe.read("state")
    held: list[Exchange] = []
    bench.device.once(state_read, held.append)
    first = asyncio.create_task(bench.probe.read("state"))
    await until(lambda: bool(held))
    first.cancel()
    other = asyncio.create_task(bench.probe.read("other"))
    held[0].serve()
    assert (await other)["level"].value == 7.0
    assert bench.bus.generation == 1


async def test_a_stop_goes_before_commands_and_those_before_data(bench: Bench):
    await bench.probe.read("state")
    held: list[Exchange] = []
    bench.device.once(state_read, held.append)
    calls = [asyncio.create_task(bench.bus.read(1, 3, 0, 4))]
    await until(lambda: bool(held))
    for addr, priority in ((30, Priority.DATA), (31, Priority.ALARM), (32, Priority.COMMAND), (33, Priority.STOP)):
        calls.append(asyncio.create_task(bench.bus.read(1, 3, addr, 1, priority=priority)))
    await until(lambda: bench.bus.depth == 4)
    held[0].serve()
    await asyncio.gather(*calls)
    assert [e.addr for e in bench.device.seen[-4:]] == [33, 32, 31, 30]


async def test_a_full_queue_refuses_data_but_never_a_stop(bench: Bench):
    await bench.probe.read("state")
    held: list[Exchange] = []
    bench.device.once(state_read, held.append)
    calls = [asyncio.create_task(bench.bus.read(1, 3, 0, 4))]
    await until(lambda: bool(held))
    calls += [asyncio.create_task(bench.bus.read(1, 3, 20, 1)) for _ in range(QUEUE_LIMIT)]
    await until(lambda: bench.bus.depth == QUEUE_LIMIT)
    with pytest.raises(NotSentError, match="wait already"):
        await bench.bus.read(1, 3, 20, 1)
    stop = asyncio.create_task(bench.bus.write(1, 6, 3, [0], priority=Priority.STOP))
    await until(lambda: bench.bus.statistics.refused == 2)
    held[0].serve()
    await stop
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(r) for r in results].count(NotSentError) == 1
    assert bench.device.executed == [(1, 3, [0])]


# --- commands --------------------------------------------------------------------------------------------------


async def test_a_command_is_proven_by_its_read_back(bench: Bench):
    readings = await bench.probe.command("select", {"suction": 7, "delivery": 3})
    assert (readings["suction"].value, readings["delivery"].value) == (7.0, 3.0)
    assert bench.device.executed == [(1, 0, [7, 3])]
    assert await bench.probe.command("beep", {}) == {}


async def test_a_device_that_applies_slowly_is_waited_for(bench: Bench):
    def slowly(exchange: Exchange) -> None:
        exchange.reply(exchange.pdu[:5])
        exchange.after(0.1, exchange.execute)

    bench.device.once(is_write, slowly)
    readings = await bench.probe.command("select", {"suction": 7, "delivery": 3})
    assert readings["suction"].value == 7.0


async def test_what_is_outside_the_profile_is_never_sent(bench: Bench):
    with pytest.raises(CommandRefused, match="suction 17 is outside 0 to 16"):
        await bench.probe.command("select", {"suction": 17, "delivery": 3})
    with pytest.raises(CommandRefused, match="no command fly"):
        await bench.probe.command("fly", {})
    assert bench.device.seen == []


async def test_a_write_that_is_acknowledged_but_not_applied_says_what_is_there(bench: Bench):
    bench.device.once(is_write, lambda e: e.reply(e.pdu[:5]))
    with pytest.raises(NotApplied, match=r"wanted suction = 7.0, delivery = 3.0, .* shows suction = 1.0") as caught:
        await bench.probe.command("select", {"suction": 7, "delivery": 3})
    assert caught.value.readings["suction"].value == 1.0


async def test_a_silent_write_that_took_place_is_found_and_not_repeated(bench: Bench):
    bench.device.once(is_write, lambda e: e.execute() and None)
    readings = await bench.probe.command("dose", {"sequence": 41})
    assert readings["sequence"].value == 41.0
    assert bench.device.executed == [(1, 2, [41])]
    assert len([e for e in bench.device.seen if is_write(e)]) == 1


async def test_a_silent_write_without_effect_is_unknown_and_not_repeated(bench: Bench):
    bench.device.once(is_write, ignore)
    with pytest.raises(OutcomeUnknown, match=r"written once; no reply within 0.2 s; .* shows sequence = 0.0"):
        await bench.probe.command("dose", {"sequence": 41})
    assert len([e for e in bench.device.seen if is_write(e)]) == 1
    assert bench.probe.status.state is DeviceState.ONLINE


async def test_a_write_whose_connection_is_reset_afterwards_is_found_by_reading_back(bench: Bench):
    def reset(exchange: Exchange) -> None:
        exchange.execute()
        exchange.transport.abort()

    bench.device.once(is_write, reset)
    readings = await bench.probe.command("dose", {"sequence": 41})
    assert readings["sequence"].value == 41.0
    assert bench.device.executed == [(1, 2, [41])]


async def test_a_write_whose_connection_is_reset_before_it_took_effect_is_unknown(bench: Bench):
    bench.device.once(is_write, lambda e: e.transport.abort())
    with pytest.raises(OutcomeUnknown, match="connection was lost"):
        await bench.probe.command("dose", {"sequence": 41})
    assert len([e for e in bench.device.seen if is_write(e)]) == 1


async def test_a_write_that_is_answered_with_another_value_is_read_back(bench: Bench):
    def clamp(exchange: Exchange) -> None:
        bench.device.registers[2] = 40
        exchange.reply(struct.pack(">BHH", 6, 2, 40))

    bench.device.once(is_write, clamp)
    with pytest.raises(OutcomeUnknown, match="confirms the value 40 instead of 41"):
        await bench.probe.command("dose", {"sequence": 41})
    assert bench.bus.statistics.mismatches == 1


async def test_a_write_that_cannot_be_read_back_and_was_lost_is_unknown(bench: Bench):
    bench.device.once(is_write, ignore)
    with pytest.raises(OutcomeUnknown, match="it makes a sound"):
        await bench.probe.command("beep", {})


@pytest.mark.parametrize("code", [1, 2, 3, 6])
async def test_a_write_that_the_device_refuses_has_had_no_effect(bench: Bench, code: int):
    bench.device.once(is_write, lambda e: e.exception(code))
    with pytest.raises(CommandRefused, match=f"exception {code}"):
        await bench.probe.command("dose", {"sequence": 41})


async def test_a_write_that_failed_inside_the_device_is_read_back(bench: Bench):
    def fail(exchange: Exchange) -> None:
        exchange.execute()
        exchange.exception(4)

    bench.device.once(is_write, fail)
    assert (await bench.probe.command("dose", {"sequence": 41}))["sequence"].value == 41.0
    bench.device.once(is_write, lambda e: e.exception(4))
    with pytest.raises(OutcomeUnknown, match="device failure"):
        await bench.probe.command("dose", {"sequence": 42})


async def test_a_command_that_must_not_be_repeated_is_refused_when_its_evidence_is_there_already(bench: Bench):
    bench.device.registers[2] = 41
    with pytest.raises(CommandRefused, match=r"sequence = 41.0 already"):
        await bench.probe.command("dose", {"sequence": 41})
    assert bench.device.executed == []


async def test_no_command_reaches_an_instrument_that_was_not_checked_on_this_connection(bench: Bench):
    await bench.probe.read("state")
    held: list[Exchange] = []
    bench.device.once(state_read, held.append)
    poll = asyncio.create_task(bench.bus.read(1, 3, 0, 4))
    await until(lambda: bool(held))
    command = asyncio.create_task(bench.probe.command("select", {"suction": 7, "delivery": 3}))
    await until(lambda: bench.bus.depth == 1)
    bench.device.registers[100] = 7  # the plug is pulled and put into another instrument
    bench.device.hang_up()
    with pytest.raises(NoReplyError):
        await poll
    with pytest.raises(CommandRefused, match="expected 20889"):
        await command
    assert bench.device.executed == []


async def test_a_table_is_proven_by_its_echo(bench: Bench):
    freezer_profile = load_profile("sim-freezer")
    freezer = ModbusDevice("freezer", freezer_profile, bench.bus, 1, bench.clock)
    bench.device.behave = lambda e: (
        e.reply(struct.pack(">BB3H", 4, 6, 0x5105, 0, 9)) if (e.fc, e.addr) == (4, 100) else e.serve()
    )
    row = {"kind": "ramp", "listen": "chamber", "rate": -1.0, "target": -4.0, "end": "target", "timeout": 600}
    await freezer.command("load_program", {"rows": [row]})
    assert bench.device.executed[0][2][0] == 2
    assert len(bench.device.executed[0][2]) == 96

    def forgetful(exchange: Exchange) -> None:
        exchange.serve()
        if is_write(exchange):
            bench.device.registers.update(dict.fromkeys(range(108, 116), 0))  # the second row

    bench.device.behave = forgetful
    with pytest.raises(NotApplied):
        await freezer.command("load_program", {"rows": [row, row]})


# --- virtual time ----------------------------------------------------------------------------------------------


def test_time_outs_and_back_off_are_those_of_the_virtual_clock():
    async def story(clock: VirtualClock) -> list[float]:
        device = Responder()
        port = await device.start()
        bus = ModbusBus("fluidics", "127.0.0.1", port, clock, timeout=1.0)
        await bus.open()
        probe = ModbusDevice("probe", PROBE, bus, 1, clock)
        await probe.read("state")
        device.once(state_read, lambda e: e.after(0.9, e.serve))
        await probe.read("state")
        device.behave = ignore
        for _ in range(2):
            with pytest.raises((ReadFailed, DeviceOffline)):
                await probe.read("state")
        times = [clock.monotonic()]
        device.behave = Exchange.serve
        await device.stop()
        await clock.sleep(3600.0)
        times.append(clock.monotonic())
        failures = bus.statistics.connect_failures
        assert 3600 / 36 - 10 < failures < 3600 / 24 + 10
        await device.start(port)
        await clock.sleep(40.0)
        assert (await probe.read("state"))["suction"].value == 1.0
        await bus.close()
        await device.stop()
        return times

    began = time.monotonic()
    assert run_virtual(story, seed=1) == pytest.approx([2.9, 3602.9])
    assert time.monotonic() - began < 10.0
