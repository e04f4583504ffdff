"""One TCP connection to a Modbus server, through pymodbus, with every reply checked.

pymodbus is used for its client: connecting, the transport, and noticing that the peer has gone. It is given no request
to frame and no reply to decode, since it accepts too readily and unpacks word by word. A reply of another unit, another
transaction, another function code or another length ends the connection, and so does a time-out, since a reply that
comes late must never be taken for the answer to the next question. Each connection counts its transactions from a
number of its own: a gateway may send the late reply on the next one.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, ClassVar, cast
from weakref import WeakValueDictionary

from pymodbus.client import AsyncModbusTcpClient

from devices.modbus.pdu import (
    Ask,
    BadReplyError,
    BusError,
    Deliver,
    NoReplyError,
    NotSentError,
    contradiction,
    decode,
    encode,
    nobody,
    reply_size,
)

KEEPALIVE_S = 10
USER_TIMEOUT_MS = 15_000
_SPARE_S = 30.0  # pymodbus's own time-out stands behind ours and never fires first
_LAST_TRANSACTION = 65_000
_HEADER = struct.Struct(">HHHB")  # transaction, protocol (0), bytes from the unit on, unit
_first_transactions = itertools.count(random.randrange(_LAST_TRANSACTION), 4_099)


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
        self._send: Callable[[bytes], None] = cast("Any", self._client.ctx).send
        self.lost = False
        self._address = Address(host, port)
        self._on_lost = on_lost
        self._ask: Ask | None = None
        self._number = 0
        self._reply: asyncio.Future[bytes] | None = None
        self._surplus: BusError | None = None
        self._deliver: Deliver = nobody
        self._transport: asyncio.Transport | None = None

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
        self._number = next(_first_transactions) % _LAST_TRANSACTION
        watch_peer(transport)

    async def settle(self, timeout_s: float) -> None:
        """Do nothing: what belongs to an earlier connection does not come on this one under its numbers."""

    def at_once(self, ask: Ask) -> list[int] | None:
        """Return None: over a network every reply has to be awaited."""
        return None

    async def exchange(self, ask: Ask, timeout_s: float, deliver: Deliver = nobody) -> list[int]:
        """Send one request and return the registers (coils as 0 and 1) of its checked reply; [] for a write.

        `deliver` is given them at once, a turn of the loop or two before they are returned.
        Raises NotSentError, NoReplyError, BadReplyError (then the connection has been dropped) or
        ExceptionReplyError. The request is sent at most once.
        """
        if self._transport is None or not self.connected:
            raise NotSentError("not connected")
        pdu = encode(ask)
        self._number = self._number % _LAST_TRANSACTION + 1
        self._ask, self._surplus, self._deliver = ask, None, deliver
        loop = asyncio.get_running_loop()
        reply = self._reply = loop.create_future()
        bound = loop.call_later(timeout_s, _expire, reply, timeout_s)
        try:
            self._send(_HEADER.pack(self._number, 0, len(pdu) + 1, ask.unit) + pdu)
            answer = await reply
            if self._surplus is not None:  # it came before the reply was looked at: what is the reply, nobody knows
                raise self._surplus
            return decode(ask, answer)
        except (NoReplyError, BadReplyError, asyncio.CancelledError):
            self.drop()
            raise
        finally:
            bound.cancel()
            self._ask = self._reply = None

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
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error)
        else:
            self._surplus = error

    def _inspect(self, sending: bool, data: bytes) -> bytes:
        """Look at everything that has come since the request; pymodbus is given nothing to decode."""
        if self._ask is None or self._reply is None:
            self.drop()
            self._on_lost()
        elif fault := misfit(data, self._ask, self._number):
            self._fail(BadReplyError(fault))
        elif not self._reply.done() and whole(data):
            if not data[7] & 0x80:
                self._deliver(decode(self._ask, data[7:]))
            self._reply.set_result(data[7:])
        return b""


def _expire(reply: asyncio.Future[bytes], timeout_s: float) -> None:
    if not reply.done():
        reply.set_exception(NoReplyError(f"no reply within {timeout_s:g} s"))


def whole(data: bytes) -> bool:
    """Tell whether received bytes, which fit so far, are all of a reply."""
    return len(data) > 8 and len(data) == 6 + int.from_bytes(data[4:6], "big")


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
