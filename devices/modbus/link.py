"""One TCP connection to a Modbus server, through pymodbus, with every reply checked.

pymodbus is used for framing and for its client; what it accepts too readily is stopped here, before it decodes:
a reply of another unit, another transaction, another function code or another length ends the connection, and
so does a time-out, since a reply that comes late must never be taken for the answer to the next question. Each
connection counts its transactions from a number of its own: a gateway may send the late reply on the next one.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar
from weakref import WeakValueDictionary

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse

KEEPALIVE_S = 10
USER_TIMEOUT_MS = 15_000
_SPARE_S = 30.0  # pymodbus's own time-out stands behind ours and never fires first
_LAST_TRANSACTION = 65_000  # after it pymodbus begins again with 1
_first_transactions = itertools.count(random.randrange(_LAST_TRANSACTION), 4_099)

EXCEPTION_TEXTS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledged, still working on it",
    6: "device busy",
    7: "negative acknowledge",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway: the device did not answer",
}


class BusError(Exception):
    """A request that brought no usable reply."""


class NotSentError(BusError):
    """The device cannot have seen the request."""


class NoReplyError(BusError):
    """The request was sent and no reply came: its effect is unknown."""


class BadReplyError(BusError):
    """The request was sent and the reply does not belong to it: its effect is unknown."""


class ExceptionReplyError(BusError):
    """The device, or a gateway before it, answered with a Modbus exception."""

    def __init__(self, code: int) -> None:
        super().__init__(f"Modbus exception {code}: {EXCEPTION_TEXTS.get(code, 'not a code of the standard')}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: `count` registers (or coils) to read from `addr`, or `words` to write there."""

    unit: int
    fc: int
    addr: int
    count: int
    words: Sequence[int] = ()


class Address:
    """A host and port, to which this process holds one connection at most: many instruments serve but one or two."""

    _taken: ClassVar[WeakValueDictionary[tuple[asyncio.AbstractEventLoop, str, int], Address]] = WeakValueDictionary()

    def __init__(self, host: str, port: int) -> None:
        """Name an address of the running loop."""
        self._key = (asyncio.get_running_loop(), host, port)

    def claim(self) -> None:
        """Take the address; raises OSError where another connection of this process has it."""
        if self._taken.setdefault(self._key, self) is not self:
            raise OSError("another bus of this process is connected there; put all units of one address on one bus")

    def release(self) -> None:
        """Leave the address to the next; doing so twice does no harm."""
        if self._taken.get(self._key) is self:
            del self._taken[self._key]


def watch_peer(transport: asyncio.Transport) -> None:
    """Let the system find out that a peer has gone without a word, and send small frames at once."""
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sys.platform == "linux":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


class _Registers(ReadHoldingRegistersResponse):
    """The registers of a reply, unpacked at one stroke; pymodbus does so word by word, and prints each for a log."""

    def decode(self, data: bytes) -> None:
        """Take the words of a reply that was inspected already; raises struct.error where it is short."""
        self.registers = list(struct.unpack_from(f">{data[0] // 2}H", data, 1))

    def __str__(self) -> str:
        return f"{len(self.registers)} registers"


class _InputRegisters(_Registers):
    function_code = 4


class Link:
    """One connection; used by one task at a time, made anew after every failure. `lost`: the peer ended it."""

    free_at = 0.0

    def __init__(self, host: str, port: int, on_lost: Callable[[], None]) -> None:
        """Prepare a connection; `on_lost` is called when the peer ends it. Must be made inside the running loop."""
        # pymodbus logs every failed frame; failures are counted and reported by our own callers instead.
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
        self._client = AsyncModbusTcpClient(
            host,
            port=port,
            retries=0,
            reconnect_delay=0,
            timeout=_SPARE_S,
            trace_packet=self._inspect,
            trace_connect=self._connection_changed,
        )
        self._client.register(_Registers)
        self._client.register(_InputRegisters)
        self.lost = False
        self._address = Address(host, port)
        self._on_lost = on_lost
        self._ask: Ask | None = None
        self._error: BusError | None = None
        self._bound: asyncio.Timeout | None = None
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, Callable[[Ask], Awaitable[ModbusPDU]]] = {
            1: lambda ask: self._client.read_coils(ask.addr, count=ask.count, device_id=ask.unit),
            2: lambda ask: self._client.read_discrete_inputs(ask.addr, count=ask.count, device_id=ask.unit),
            3: lambda ask: self._client.read_holding_registers(ask.addr, count=ask.count, device_id=ask.unit),
            4: lambda ask: self._client.read_input_registers(ask.addr, count=ask.count, device_id=ask.unit),
            5: lambda ask: self._client.write_coil(ask.addr, bool(ask.words[0]), device_id=ask.unit),
            6: lambda ask: self._client.write_register(ask.addr, ask.words[0], device_id=ask.unit),
            15: lambda ask: self._client.write_coils(ask.addr, [bool(w) for w in ask.words], device_id=ask.unit),
            16: lambda ask: self._client.write_registers(ask.addr, list(ask.words), device_id=ask.unit),
        }

    @property
    def connected(self) -> bool:
        """Whether the connection stands, as far as this side knows."""
        return self._client.connected

    async def connect(self, timeout_s: float) -> None:
        """Connect once; raises OSError (also where this process is connected there already) or TimeoutError."""
        self._address.claim()
        async with asyncio.timeout(timeout_s):
            transport: asyncio.Transport = (await self._client.ctx.call_create())[0]
        self._transport = transport
        self._client.ctx.next_tid = next(_first_transactions) % _LAST_TRANSACTION
        watch_peer(transport)

    def at_once(self, ask: Ask) -> list[int] | None:
        """Return None: over a network every reply has to be awaited."""
        return None

    async def exchange(self, ask: Ask, timeout_s: float) -> list[int]:
        """Send one request and return the registers (coils as 0 and 1) of its checked reply; [] for a write.

        Raises NotSentError, NoReplyError, BadReplyError (then the connection has been dropped) or
        ExceptionReplyError. The request is sent at most once.
        """
        if not self.connected:
            raise NotSentError("not connected")
        self._ask, self._error = ask, None
        try:
            async with asyncio.timeout(timeout_s) as self._bound:
                reply = await self._calls[ask.fc](ask)
        except TimeoutError:
            self.drop()
            raise self._error or NoReplyError(f"no reply within {timeout_s:g} s") from None
        except ModbusException as error:
            self.drop()
            raise NoReplyError(str(error)) from None
        except asyncio.CancelledError:
            self.drop()
            raise
        finally:
            self._ask = self._bound = None
        if self._error is not None:
            self.drop()
            raise self._error
        if reply.isError():
            raise ExceptionReplyError(reply.exception_code)
        if ask.fc in (3, 4):
            return list(reply.registers)
        if ask.fc in (1, 2):
            return [int(bit) for bit in reply.bits[: ask.count]]
        return []

    def drop(self) -> None:
        """End the connection at once; what may still arrive on it is lost, on purpose."""
        self._address.release()
        self._client.close()
        if self._transport is not None:
            self._transport.abort()
        self._transport = None

    def _connection_changed(self, connected: bool) -> None:
        if not connected:
            self._address.release()
            self.lost = True
            self._fail(NoReplyError("the connection was lost while the reply was awaited"))
            self._on_lost()

    def _fail(self, error: BusError) -> None:
        """End the exchange under way, now and not at its time-out."""
        if self._bound is not None and self._error is None and not self._bound.expired():
            self._error = error
            self._bound.reschedule(asyncio.get_running_loop().time())

    def _inspect(self, sending: bool, data: bytes) -> bytes:
        """Look at every packet before pymodbus decodes it; a reply that does not fit is not passed on."""
        if sending:
            return data
        if self._ask is None:
            self.drop()
            self._on_lost()
            return b""
        if fault := misfit(data, self._ask, self._client.ctx.request_transaction_id):
            self._fail(BadReplyError(fault))
            return b""
        return data


def misfit(data: bytes, ask: Ask, transaction: int) -> str:
    """Tell why received bytes cannot be the reply to `ask`; "" when they are, or may become so."""
    if len(data) < 9:  # the shortest reply: header of 7, function code, one byte
        return ""
    size = 6 + int.from_bytes(data[4:6], "big")
    fc = data[7]
    if data[2:4] != b"\0\0":
        return f"protocol identifier {data[2:4].hex()} instead of 0000: not Modbus TCP"
    if int.from_bytes(data[:2], "big") != transaction:
        return "the reply of another transaction"  # its number says nothing: each connection begins elsewhere
    if data[6] != ask.unit:
        return f"unit {data[6]} instead of {ask.unit}"
    if fc not in (ask.fc, ask.fc | 0x80):
        return f"function code {fc} instead of {ask.fc}"
    expected = 7 + reply_size(ask, fc)
    if size != expected:
        return f"a reply of {size} bytes instead of {expected}: short or with more than was asked"
    if len(data) > size:
        return f"{len(data) - size} bytes after the reply"
    return "" if len(data) < size else contradiction(ask, data[7:])


def reply_size(ask: Ask, fc: int) -> int:
    """Return the size (bytes) of the right reply from its function code `fc` on, without checksum."""
    if fc & 0x80:
        return 2
    if ask.fc in (3, 4):
        return 2 + 2 * ask.count
    if ask.fc in (1, 2):
        return 2 + (ask.count + 7) // 8
    return 5


def contradiction(ask: Ask, pdu: bytes) -> str:
    """Tell where a whole reply (from its function code on) of the right size contradicts its request; "" if nowhere."""
    if pdu[0] & 0x80:
        return ""
    if ask.fc <= 4:
        return "" if pdu[1] == len(pdu) - 2 else f"byte count {pdu[1]} instead of {len(pdu) - 2}"
    if int.from_bytes(pdu[1:3], "big") != ask.addr:
        return f"the reply names address {int.from_bytes(pdu[1:3], 'big')} instead of {ask.addr}"
    echo = int.from_bytes(pdu[3:5], "big")
    if ask.fc in (15, 16):
        return "" if echo == len(ask.words) else f"the reply confirms {echo} values instead of {len(ask.words)}"
    value = ask.words[0] if ask.fc == 6 else 0xFF00 if ask.words[0] else 0
    return "" if echo == value else f"the reply confirms the value {echo} instead of {value}"
