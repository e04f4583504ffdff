"""A small Modbus TCP server for simulated instruments: raw frames, correct exceptions, and faults on demand.

It is on the hot path of every rehearsal and must be able to misbehave on the wire, so it does not use a library.
Several units share one port.  A request is carried out when it arrives; a late unit only answers later.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from devices.clock import Clock
from simulators.device import ILLEGAL_FUNCTION, ILLEGAL_VALUE, NO_RESPONSE, ModbusFault, SimDevice

HEADER = struct.Struct(">HHHB")  # transaction, protocol (0), length of what follows it, unit
REQUEST = struct.Struct(">BHH")  # function, address, count or value
LENGTHS = range(2, 255)  # of unit and PDU together
COIL = {0xFF00: 1, 0x0000: 0}
MOST_WRITTEN = {15: 1968, 16: 123}  # bits, registers, by the protocol
OTHER_TABLE = {1: 2, 2: 1, 3: 4, 4: 3}
EXCEPTION = 0x80
MOST_LATE = 64  # late replies of one connection; a client that asks on and on without answers is cut


@dataclass(slots=True)
class UnitFaults:
    """What is wrong with one unit now (for tests and scripts to set), and what it counted."""

    delay_s: float = 0.0
    """Time by the clock (s) from carrying out a request to its reply."""
    silent: bool = False
    """Swallow requests: nothing is carried out, nothing answered."""
    wrong_function: bool = False
    """Answer reads with the function code of the other table."""
    short_reply: bool = False
    """Leave the last register out of the answers to reads, in a frame that is otherwise sound."""
    refuse: int = 0
    """Exception code to answer everything with (6: busy), carrying out nothing; 0 for none."""
    requests: int = 0
    """Requests that arrived."""
    exceptions: int = 0
    """Requests that were answered with an exception."""
    late: int = 0
    """Requests whose reply was delayed."""
    swallowed: int = 0
    """Requests that were never answered."""


class ModbusServer:
    """Serve `units` (unit id -> instrument) on one TCP port; `faults[unit]` makes a unit misbehave."""

    def __init__(self, units: Mapping[int, SimDevice], clock: Clock) -> None:
        self.units = dict(units)
        self.faults = {unit: UnitFaults() for unit in units}
        self.absent = 0
        """Requests for units that are not here, answered with exception 0x0B as a gateway does."""
        self.connections: dict[Connection, None] = {}  # in order of arrival: a set would be cut in any order
        self._clock = clock
        self._server: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen, and return the port (0 asks for any); raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self, self._clock), host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, cut every connection, and forget the replies that are still due."""
        if self._server is None:
            return
        self._server.close()
        late = [task for connection in self.connections for task in connection.late]
        self.cut()
        await asyncio.gather(*late, return_exceptions=True)
        await self._server.wait_closed()
        await asyncio.gather(*(connection.closed for connection in self.connections))
        self._server = None

    def cut(self) -> None:
        """Cut every connection, as a pulled cable does; the server goes on listening."""
        for connection in list(self.connections):
            connection.cut()

    def answer(self, unit: int, pdu: bytes) -> tuple[bytes, float] | None:
        """Carry out one request; return the reply and its delay (s), or None for silence."""
        faults = self.faults.get(unit)
        if faults is None:
            self.absent += 1
            return refusal(pdu, NO_RESPONSE), 0.0
        faults.requests += 1
        if faults.silent:
            faults.swallowed += 1
            return None
        try:
            reply = refusal(pdu, faults.refuse) if faults.refuse else execute(self.units[unit], pdu)
        except ModbusFault as fault:
            reply = refusal(pdu, fault.code)
        faults.exceptions += reply[0] >= EXCEPTION
        if reply[0] in OTHER_TABLE:
            if faults.short_reply:
                reply = bytes((reply[0], reply[1] - 2)) + reply[2:-2]
            if faults.wrong_function:
                reply = bytes((OTHER_TABLE[reply[0]],)) + reply[1:]
        faults.late += faults.delay_s > 0
        return reply, faults.delay_s


class Connection(asyncio.Protocol):
    """One client of a server."""

    def __init__(self, server: ModbusServer, clock: Clock) -> None:
        self.late: dict[asyncio.Task[None], None] = {}
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._server = server
        self._clock = clock
        self._buffer = b""
        self._write: Callable[[bytes], None] | None = None
        self._abort: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the server's connections."""
        if isinstance(transport, asyncio.Transport):
            self._write, self._abort = transport.write, transport.abort
            self._server.connections[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave, with the replies that nobody waits for any more."""
        self._write = self._abort = None
        self._server.connections.pop(self, None)
        self.closed.set_result(None)
        for task in self.late:
            task.cancel()

    def cut(self) -> None:
        """End the connection at once."""
        if self._abort is not None:
            self._abort()
        self._write = self._abort = None
        for task in self.late:
            task.cancel()

    def pause_writing(self) -> None:
        """Cut a client that does not read its answers."""
        self.cut()

    def data_received(self, data: bytes) -> None:
        """Answer every whole request; a frame that is no Modbus TCP ends the connection."""
        data, at = self._buffer + data, 0
        while self._write is not None and len(data) - at > HEADER.size:
            transaction, protocol, length, unit = HEADER.unpack_from(data, at)
            if protocol != 0 or length not in LENGTHS:
                return self.cut()
            start, end = at + HEADER.size, at + HEADER.size - 1 + length
            if len(data) < end:
                break
            at = end
            answer = self._server.answer(unit, data[start:end])
            if answer is None:
                continue
            pdu, delay = answer
            frame = HEADER.pack(transaction, 0, len(pdu) + 1, unit) + pdu
            if delay > 0:
                self._answer_late(frame, delay)
            else:
                self._write(frame)
        self._buffer = data[at:]
        return None

    def _answer_late(self, frame: bytes, delay: float) -> None:
        if len(self.late) >= MOST_LATE:
            return self.cut()
        task = asyncio.get_running_loop().create_task(self._send_after(frame, delay))
        self.late[task] = None
        task.add_done_callback(lambda done: self.late.pop(done, None))
        return None

    async def _send_after(self, frame: bytes, delay: float) -> None:
        await self._clock.sleep(delay)
        if self._write is not None:
            self._write(frame)


def execute(device: SimDevice, pdu: bytes) -> bytes:
    """Carry out the request `pdu` (function code and data) on a device and return the reply; raises ModbusFault."""
    function = pdu[0]
    if function not in (1, 2, 3, 4, 5, 6, 15, 16):
        raise ModbusFault(ILLEGAL_FUNCTION)
    if len(pdu) < REQUEST.size:
        raise ModbusFault(ILLEGAL_VALUE)
    _, addr, operand = REQUEST.unpack_from(pdu)
    body = pdu[REQUEST.size :]
    if function <= 4:
        if body:
            raise ModbusFault(ILLEGAL_VALUE)
        data = device.read_bytes(function, addr, operand)
        if function <= 2:
            data = _packed(data[1::2])
        return bytes((function, len(data))) + data
    if function in (5, 6):
        if body or (function == 5 and operand not in COIL):
            raise ModbusFault(ILLEGAL_VALUE)
        device.write(function, addr, [COIL[operand] if function == 5 else operand])
        return pdu
    size = (operand + 7) // 8 if function == 15 else 2 * operand
    if not 1 <= operand <= MOST_WRITTEN[function] or len(body) != 1 + size or body[0] != size:
        raise ModbusFault(ILLEGAL_VALUE)
    if function == 15:
        device.write(function, addr, [body[1 + i // 8] >> i % 8 & 1 for i in range(operand)])
    else:
        device.write(function, addr, struct.unpack(f">{operand}H", body[1:]))
    return pdu[: REQUEST.size]


def refusal(pdu: bytes, code: int) -> bytes:
    """Return the exception reply to the request `pdu`."""
    return bytes((pdu[0] | EXCEPTION, code))


def _packed(bits: bytes) -> bytes:
    """Return one byte for each eight bits, the first bit lowest."""
    number = sum(1 << i for i, bit in enumerate(bits) if bit)
    return number.to_bytes((len(bits) + 7) // 8, "little")
