"""Simulated instruments on the wire: what independent clients read and write, exceptions, and faults on demand."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from pymodbus.client import AsyncModbusTcpClient

from devices.document import parse
from devices.profile import compile_profile, load_profile
from devices.profile_types import Profile
from simulators.device import SimDevice
from simulators.server import ModbusServer
from simulators.virtual import VirtualClock, run

PUMP_VALUES: dict[str, Any] = {
    "running": True,
    "status": ["air_in_line"],
    "rate": 80.5,
    "total": 12.34,
    "dispensed": 2.0,
    "sequence": 7,
    "boots": 3,
    "watchdog": 0,
}

COILS = """
profile: {id: coils, version: 1, role: scale, maker: test, model: coils, evidence: simulated, sources: [test]}
transport: {kinds: [tcp]}
blocks:
  coils: {fc: 1, addr: 100, count: 10, scan: fast}
  mass: {fc: 4, addr: 0, count: 32, scan: fast}
points:
  lamp: {block: coils, addr: 103, type: bool, stale_ms: 1000}
MASSES
commands:
  lamp_on: {write: {fc: 5, addr: 103, fields: [{arg: lit, type: bool}]}, idempotent: true, verify: {none: test}}
  lamps: {write: {fc: 15, addr: 104, fields: [{arg: a, type: bool}, {arg: b, type: bool}, {arg: c, type: bool}]},
          idempotent: true, verify: {none: test}}
  set: {write: {fc: 16, addr: 11, fields: [{arg: value, type: float32, min: -1, max: 100.1}]},
        idempotent: true, verify: {none: test}}
failsafe: {on_comm_loss: keeps_running}
"""


def coils(log: list[Any]) -> SimDevice:
    masses = "".join(
        f"  mass_{i + 1}: {{block: mass, addr: {2 * i}, type: float32, unit: g, stale_ms: 1000}}\n" for i in range(16)
    )
    profile = compile_profile(parse(COILS.replace("MASSES\n", masses), "coils.yaml"))
    return device(profile, {f"mass_{i + 1}": float(i) for i in range(16)} | {"lamp": True}, log)


def device(
    profile: Profile, values: Mapping[str, Any], log: list[Any] | None = None, serial: int | str = 0
) -> SimDevice:
    """Return a device with constant values, whose handlers write into `log`."""
    taken = [] if log is None else log
    return SimDevice(
        profile,
        {name: (lambda name=name: values.get(name, 0)) for name in profile.points},
        {name: (lambda args, name=name: taken.append((name, args))) for name in profile.commands},
        serial=serial,
    )


def pump(log: list[Any] | None = None) -> SimDevice:
    return device(load_profile("sim-pump"), PUMP_VALUES, log, serial=4711)


def freezer() -> SimDevice:
    profile = load_profile("sim-freezer")
    return device(profile, dict.fromkeys(profile.points, 0) | {"program_state": "idle"})


@contextlib.asynccontextmanager
async def served(clock: VirtualClock, **units: SimDevice) -> AsyncIterator[tuple[ModbusServer, AsyncModbusTcpClient]]:
    """Serve units u1, u2, ... and connect pymodbus, which knows nothing of our server."""
    server = ModbusServer({int(name[1:]): unit for name, unit in units.items()}, clock)
    port = await server.start()
    client = AsyncModbusTcpClient("127.0.0.1", port=port, retries=0, reconnect_delay=0, timeout=1.0)
    with clock.hold("modbus:connect"):
        assert await client.connect()
    try:
        yield server, client
    finally:
        client.close()
        await server.close()


# --- the wire ---


def test_an_independent_client_reads_and_writes_every_function() -> None:
    async def main(clock: VirtualClock) -> None:
        log: list[Any] = []
        async with served(clock, u1=pump(log), u2=coils(log)) as (server, client):
            assert (await client.read_input_registers(0, count=11, device_id=1)).registers == pump().read(4, 0, 11)
            bits = (await client.read_coils(100, count=10, device_id=2)).bits[:10]
            assert bits == [False, False, False, True, False, False, False, False, False, False]
            await client.write_coil(103, True, device_id=2)
            await client.write_coils(104, [True, False, True], device_id=2)
            await client.write_register(6, 0, device_id=1)
            await client.write_registers(
                11, [0x42C8, 0x3333], device_id=2
            )  # 100.1 as float32, above its own limit by rounding
            assert log == [
                ("lamp_on", {"lit": True}),
                ("lamps", {"a": True, "b": False, "c": True}),
                ("stop", {}),
                ("set", {"value": pytest.approx(100.1)}),
            ]
            assert (await client.read_coils(104, count=3, device_id=2)).bits[:3] == [True, False, True]
            replies = [
                await client.read_discrete_inputs(0, count=1, device_id=1),
                await client.read_input_registers(99, count=1, device_id=1),
                await client.write_register(6, 3, device_id=1),
                await client.read_input_registers(0, count=1, device_id=9),
                await client.readwrite_registers(read_address=0, read_count=1, address=0, values=[1], device_id=1),
            ]
            assert [reply.exception_code for reply in replies] == [1, 2, 3, 0x0B, 1]
            assert (server.absent, server.faults[1].exceptions) == (1, 4)

    run(main)


async def raw(port: int, *pieces: bytes) -> bytes:
    """Send pieces of frames as they are and return all that comes until a second of silence or the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.01)
    with contextlib.suppress(TimeoutError, ConnectionError):
        while more := await asyncio.wait_for(reader.read(999), 1.0):
            got += more
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return got


READ = bytes.fromhex("0001 0000 0006 01 04 0000 000b")
ANSWER = bytes.fromhex("0001 0000 0019 01 04 16 0001 0002 42a1 0000 0000 04d2 0000 00c8 0007 0003 0000")


@pytest.mark.parametrize(
    ("pieces", "answer"),
    [
        ([READ], ANSWER),
        ([READ[:3], READ[3:9], READ[9:]], ANSWER),
        ([READ + READ + READ[:5], READ[5:]], ANSWER * 3),
        ([bytes.fromhex("0001 0001 0006 01 04 0000 000b") + READ], b""),  # not Modbus: the connection ends
        ([bytes.fromhex("0001 0000 0001 01") + b"\0"], b""),
        ([bytes.fromhex("0001 0000 0100 01 04") + READ], b""),
        ([bytes.fromhex("0002 0000 0007 01 04 0008 0002 00")], bytes.fromhex("0002 0000 0003 01 84 03")),
        ([bytes.fromhex("0002 0000 0003 01 04 00")], bytes.fromhex("0002 0000 0003 01 84 03")),
        ([bytes.fromhex("0002 0000 0002 01 2b")], bytes.fromhex("0002 0000 0003 01 ab 01")),
        ([bytes.fromhex("0002 0000 0006 01 05 0006 1234")], bytes.fromhex("0002 0000 0003 01 85 03")),
        ([bytes.fromhex("0002 0000 0009 01 10 0006 0001 03 0000")], bytes.fromhex("0002 0000 0003 01 90 03")),
        ([bytes.fromhex("0002 0000 0006 01 04 0000 0080")], bytes.fromhex("0002 0000 0003 01 84 03")),
        # a part of an atomic block, and more than it
        ([bytes.fromhex("0002 0000 0006 01 04 0008 0002")], bytes.fromhex("0002 0000 0003 01 84 02")),
        ([bytes.fromhex("0002 0000 0006 01 04 0000 000c")], bytes.fromhex("0002 0000 0003 01 84 02")),
    ],
)
def test_frames_in_pieces_in_a_row_and_broken(pieces: list[bytes], answer: bytes) -> None:
    async def main(clock: VirtualClock) -> bytes:
        server = ModbusServer({1: pump()}, clock)
        port = await server.start()
        got = await raw(port, *pieces)
        await server.close()
        return got

    assert run(main) == answer


# --- faults ---


def test_each_fault_shows_on_the_wire_and_is_counted() -> None:
    async def main(clock: VirtualClock) -> None:
        async with served(clock, u1=pump()) as (server, client):
            faults = server.faults[1]

            async def read() -> Any:
                return await client.read_input_registers(0, count=11, device_id=1)

            faults.delay_s = 0.9
            assert (await read()).registers == pump().read(4, 0, 11)
            assert clock.monotonic() == 0.9
            faults.delay_s, faults.short_reply = 0.0, True
            assert (await read()).registers == pump().read(4, 0, 10)
            faults.short_reply, faults.wrong_function = False, True
            assert (await read()).function_code == 3
            faults.wrong_function, faults.refuse = False, 6
            assert (await read()).exception_code == 6
            faults.refuse = 0
            assert (await read()).registers == pump().read(4, 0, 11)
            assert (faults.requests, faults.late, faults.exceptions, faults.swallowed) == (5, 1, 1, 0)
            assert clock.monotonic() == 0.9

    run(main)


def test_a_short_reply_of_bits_is_a_byte_shorter() -> None:
    async def main(clock: VirtualClock) -> list[bytes]:
        server = ModbusServer({1: coils([])}, clock)
        server.faults[1].short_reply = True
        answers = [server.answer(1, struct.pack(">BHH", 1, 100, count)) for count in (3, 10)]
        return [answer[0] for answer in answers if answer]

    assert run(main) == [b"\x01\x00", b"\x01\x01\x08"]


def test_a_device_late_by_more_than_the_time_out_has_done_it_all_the_same() -> None:
    async def main(clock: VirtualClock) -> tuple[list[Any], float, int]:
        log: list[Any] = []
        server = ModbusServer({1: pump(log)}, clock)
        port = await server.start()
        server.faults[1].delay_s = 1.5
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with clock.hold("modbus:test"):
            writer.write(bytes.fromhex("0001 0000 0006 01 06 0006 0000"))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readexactly(12), 1.0)
        at = clock.monotonic()
        late = await reader.readexactly(12)  # without a transaction id of its own it would answer the next request
        assert late == bytes.fromhex("0001 0000 0006 01 06 0006 0000")
        assert clock.monotonic() == 1.5
        server.faults[1].silent = True
        writer.write(bytes.fromhex("0002 0000 0006 01 06 0006 0000"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(12), 1.0)
        writer.close()
        await server.close()
        return log, at, server.faults[1].swallowed

    assert run(main) == ([("stop", {})], 1.0, 1)


def test_closing_forgets_late_replies_and_cutting_ends_connections() -> None:
    async def main(clock: VirtualClock) -> float:
        server = ModbusServer({1: pump()}, clock)
        port = await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(READ)
        assert await reader.readexactly(len(ANSWER)) == ANSWER
        server.cut()
        with contextlib.suppress(ConnectionError):
            assert await reader.read(1) == b""
        writer.close()
        server.faults[1].delay_s = 1e6
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(READ)
        await asyncio.sleep(1.0)
        await server.close()
        with contextlib.suppress(ConnectionError):
            assert await reader.read(1) == b""
        writer.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port)
        return clock.monotonic()

    assert run(main) == 1.0


def test_who_never_reads_answers_is_cut() -> None:
    async def main(clock: VirtualClock) -> None:
        server = ModbusServer({1: freezer()}, clock)
        port = await server.start()
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        with contextlib.closing(deaf):
            await loop.sock_connect(deaf, ("127.0.0.1", port))
            with pytest.raises(ConnectionError):
                await loop.sock_sendall(deaf, bytes.fromhex("0001 0000 0006 01 03 0064 0060") * 1_000_000)
        assert server.faults[1].requests < 1_000_000
        await server.close()

    run(main)


def test_who_never_waits_for_answers_is_cut() -> None:
    async def main(clock: VirtualClock) -> int:
        server = ModbusServer({1: pump()}, clock)
        port = await server.start()
        server.faults[1].delay_s = 1e6
        assert await raw(port, READ * 1000) == b""
        await server.close()
        return server.faults[1].requests

    assert run(main) < 100


# --- an independent program ---


@pytest.mark.debian("mbpoll")
def test_mbpoll_reads_what_the_profile_says() -> None:
    async def main(clock: VirtualClock) -> str:
        server = ModbusServer({1: pump()}, clock)
        port = await server.start()
        with clock.outside("mbpoll"):
            process = await asyncio.create_subprocess_exec(
                str(shutil.which("mbpoll")), "-m", "tcp", "-p", str(port), "-a", "1", "-0", "-t", "3", "-r", "0",
                "-c", "11", "-1", "127.0.0.1", stdout=subprocess.PIPE,
            )  # fmt: skip
            out, _ = await process.communicate()
        await server.close()
        return out.decode()

    out = run(main)
    assert "[8]: \t7" in out
    assert "[9]: \t3" in out
