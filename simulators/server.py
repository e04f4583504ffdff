"""A small Modbus TCP server for simulated instruments: raw frames, correct exceptions, and faults on demand.

It is on the hot path of every rehearsal and must be able to misbehave on the wire, so it does not use a library.
Several units share one port.  A request is carried out when it arrives; a late unit only answers later.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping

from devices.clock import Clock
from simulators.device import ILLEGAL_FUNCTION, ILLEGAL_VALUE, NO_RESPONSE, ModbusFault, SimDevice
from simulators.listening import Door
from simulators.peer import Client, Peer

HEADER = struct.Struct(">HHHB")  # transaction, protocol (0), length of what follows it, unit
REQUEST = struct.Struct(">BHH")  # function, address, count or value
LENGTHS = range(2, 255)  # of unit and PDU together
COIL = {0xFF00: 1, 0x0000: 0}
MOST_WRITTEN = {15: 1968, 16: 123}  # bits, registers, by the protocol
OTHER_TABLE = {1: 2, 2: 1, 3: 4, 4: 3}
EXCEPTION = 0x80
BUSY = 6


class Refusals:
    """The next `left` requests are refused with exception `code`."""

    def __init__(self, code: int = BUSY, left: int = 0) -> None:
        self.code = code
        self.left = left

    def take(self) -> int:
        """Return the exception code for this request; 0: it is carried out."""
        if self.left <= 0:
            return 0
        self.left -= 1
        return self.code


class UnitFaults:
    """What is wrong with one unit now (for tests and scripts to set), and what it counted.

    `stale` and `swapped_words` give sound frames with wrong contents, which no check of a reply can see: only a point
    that must keep moving (`alive` in a profile), an identity register or a range can.
    """

    def __init__(self, device: SimDevice) -> None:
        self._device = device
        self.delay_s = 0.0
        """Time by the clock (s) from carrying out a request to its reply."""
        self.silent = False
        """Swallow requests: nothing is carried out, nothing answered."""
        self.refuse = 0
        """Exception code to answer everything with (6: busy, 0x0B: the gateway cannot reach the unit), carrying out
        nothing; 0 for none."""
        self.wrong_function = False
        """Answer reads with the function code of the other table."""
        self.wrong_unit = False
        """Answer in the name of the next unit."""
        self.wrong_transaction = False
        """Answer with the number of the next request."""
        self.short_reply = False
        """Leave the last register (of bits: byte) out of the answers to reads, in a frame that is otherwise sound."""
        self.truncated = False
        """Send the first half of each reply, and no more."""
        self.refusals = Refusals()
        """What the next few requests are answered with, carrying out nothing."""
        self.bad_crc = False
        """Spoil the checksum of each reply; a gateway to Modbus TCP drops such a reply, so there it is silence."""
        self.garbage_before = b""
        """Bytes that the line makes by itself before each reply."""
        self.echo = False
        """Send each request back before its reply, as an adapter does that hears itself."""
        self.byte_gap_s = 0.0
        """Send each reply byte by byte, so long (s) one after the other."""
        self.swapped_words = False
        """Exchange the registers of each pair in the answers to reads, as a gateway with the wrong word order does."""
        self.requests = 0
        """Requests that arrived."""
        self.exceptions = 0
        """Requests that were answered with an exception."""
        self.late = 0
        """Requests whose reply was delayed."""
        self.swallowed = 0
        """Requests that were never answered."""

    @property
    def busy(self) -> int:
        """How many of the next requests are refused; set, they are with "busy" (exception 6)."""
        return self.refusals.left

    @busy.setter
    def busy(self, requests: int) -> None:
        self.refusals = Refusals(BUSY, requests)

    @property
    def stale(self) -> bool:
        """Whether reads are answered from the registers as they were when this was set; writes are carried out."""
        return self._device.frozen

    @stale.setter
    def stale(self, stale: bool) -> None:
        self._device.freeze(stale)

    @property
    def on_the_wire(self) -> bool:
        """Whether anything is wrong with the frames or their time; their contents do not count."""
        return bool(
            self.delay_s
            or self.silent
            or self.wrong_function
            or self.wrong_unit
            or self.wrong_transaction
            or self.short_reply
            or self.truncated
            or self.bad_crc
            or self.garbage_before
            or self.echo
            or self.byte_gap_s
        )

    def spoiled(self, request: bytes, frame: bytes) -> bytes:
        """Return what leaves instead of a reply's frame: cut, after noise, after the request itself."""
        if self.truncated:
            frame = frame[: len(frame) // 2]
        return (request if self.echo else b"") + self.garbage_before + frame


class ModbusServer:
    """Serve `units` (unit id -> instrument) on one TCP port; `faults[unit]` makes a unit misbehave."""

    def __init__(self, units: Mapping[int, SimDevice], clock: Clock) -> None:
        self.units = dict(units)
        self.faults = {unit: UnitFaults(device) for unit, device in units.items()}
        self.half_open = False
        """Answer nothing, and never again on a connection that asked meanwhile; connections are accepted."""
        self.absent = 0
        """Requests for units that are not here, answered with exception 0x0B as a gateway does."""
        self.idle_close_s = 0.0
        """Close a connection on which nothing was asked for so long (s); 0: never. Seen at a request or a connect."""
        self.most_clients = 0
        """How many connections are served; a further one is closed as soon as it is there. 0: any number."""
        self.clients: dict[Client, None] = {}  # in order of arrival: a set would be cut in any order
        self.connections: dict[Peer, None] = {}
        self._clock = clock
        self._door = Door(lambda: Connection(self, clock))

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen, and return the port (0 asks for any); raises OSError when the port is taken."""
        return await self._door.open(host, port)

    async def close(self) -> None:
        """Stop listening, cut every connection, and forget the replies that are still due."""
        late = [task for connection in self.connections for task in connection.late]
        self.cut()
        await asyncio.gather(*late, return_exceptions=True)
        await self._door.close()
        await asyncio.gather(*(connection.closed for connection in self.connections))

    @property
    def refuses(self) -> bool:
        """Whether new connections are refused; those that stand are served."""
        return self._door.shut

    @refuses.setter
    def refuses(self, refuses: bool) -> None:
        self._door.shut = refuses

    def cut(self) -> None:
        """Cut every connection, as a pulled cable does; the server goes on listening."""
        for client in list(self.clients):
            client.cut()

    @property
    def full(self) -> bool:
        """Whether there is no place for one more connection, which has joined already."""
        return 0 < self.most_clients < len(self.clients)

    def respond(self, transaction: int, unit: int, pdu: bytes) -> tuple[bytes, float] | None:
        """Carry out one request; return the frame of its reply, as it leaves, and its delay (s), or None."""
        answer = self.answer(unit, pdu)
        if answer is None:
            return None
        reply, delay = answer
        faults = self.faults.get(unit)
        if faults is None or not faults.on_the_wire:
            return HEADER.pack(transaction, 0, len(reply) + 1, unit) + reply, delay
        if faults.bad_crc:
            faults.swallowed += 1
            return None
        named = unit % 247 + 1 if faults.wrong_unit else unit
        number = (transaction + faults.wrong_transaction) & 0xFFFF
        frame = HEADER.pack(number, 0, len(reply) + 1, named) + reply
        return faults.spoiled(HEADER.pack(transaction, 0, len(pdu) + 1, unit) + pdu, frame), delay

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
            few = faults.refusals.take()
            code = faults.refuse or few
            reply = refusal(pdu, code) if code else execute(self.units[unit], pdu)
        except ModbusFault as fault:
            reply = refusal(pdu, fault.code)
        faults.exceptions += reply[0] >= EXCEPTION
        if reply[0] in OTHER_TABLE:
            if faults.swapped_words and reply[0] in (3, 4):
                reply = reply[:2] + _swapped(reply[2:])
            if faults.short_reply:
                less = min(reply[1], 2 if reply[0] in (3, 4) else 1)
                reply = bytes((reply[0], reply[1] - less)) + reply[2 : len(reply) - less]
            if faults.wrong_function:
                reply = bytes((OTHER_TABLE[reply[0]],)) + reply[1:]
        faults.late += faults.delay_s > 0
        return reply, faults.delay_s


class Connection(Peer, asyncio.Protocol):
    """One client of a server."""

    def __init__(self, server: ModbusServer, clock: Clock) -> None:
        super().__init__(server, clock)
        self._modbus = server
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the server's connections."""
        if isinstance(transport, asyncio.Transport):
            self.join(transport.write, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave, with the replies that nobody waits for any more."""
        self.leave()

    def pause_writing(self) -> None:
        """Cut a client that does not read its answers."""
        self.cut()

    def data_received(self, data: bytes) -> None:
        """Answer every whole request; a frame that is no Modbus TCP ends the connection."""
        if not self.listens():
            return None
        data, at = self._buffer + data, 0
        while self.joined and len(data) - at > HEADER.size:
            transaction, protocol, length, unit = HEADER.unpack_from(data, at)
            if protocol != 0 or length not in LENGTHS:
                return self.cut()
            start, end = at + HEADER.size, at + HEADER.size - 1 + length
            if len(data) < end:
                break
            at = end
            answer = self._modbus.respond(transaction, unit, data[start:end])
            if answer is not None:
                faults = self._modbus.faults.get(unit)
                self.answer(*answer, 0.0 if faults is None else faults.byte_gap_s)
        self._buffer = data[at:]
        return None


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


def _swapped(data: bytes) -> bytes:
    """Return the registers with those of each pair exchanged; a last one without partner stays."""
    whole = len(data) // 4 * 4
    return b"".join(data[i + 2 : i + 4] + data[i : i + 2] for i in range(0, whole, 4)) + data[whole:]
