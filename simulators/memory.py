"""The instruments without sockets: a bus whose requests go straight to its server, in the same process and thread.

It stands in for `devices.modbus.link.Link` and ends every request as that does over TCP: the same checks on the same
frames, the same errors after the same time by the clock, under the same faults of `simulators.server`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import struct
from collections.abc import Callable, Sequence

from devices.clock import Clock
from devices.modbus.bus import LinkMaker
from devices.modbus.link import Ask, BadReplyError, ExceptionReplyError, NoReplyError, NotSentError, misfit
from simulators.server import COIL, EXCEPTION, HEADER, REQUEST, ModbusServer
from simulators.suite import Suite

_ON = {bit: value for value, bit in COIL.items()}


def memory_links(servers: Suite, clock: Clock) -> dict[str, LinkMaker]:
    """Return bus -> maker of connections to the servers of a suite, which need not listen."""
    return {bus: _maker(server, clock) for bus, server in servers.servers.items()}


def _maker(server: ModbusServer, clock: Clock) -> LinkMaker:
    return lambda _host, _port, on_lost: MemoryLink(server, clock, on_lost)


class MemoryLink:
    """One connection to a server in this process; `devices.modbus.bus.Wire`, and `simulators.server.Client`."""

    def __init__(self, server: ModbusServer, clock: Clock, on_lost: Callable[[], None]) -> None:
        self.connected = False
        self.lost = False
        self._server = server
        self._clock = clock
        self._on_lost = on_lost
        self._dead = False
        self._transaction = 0
        self._waiting: asyncio.Future[None] | None = None

    async def connect(self, timeout_s: float) -> None:
        """Connect once; raises ConnectionRefusedError."""
        if self._server.refuses:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        self.connected = True
        self._server.clients[self] = None

    def at_once(self, ask: Ask) -> list[int] | None:
        """Return the registers when the server answers without delay or fault, else None and nothing was sent.

        Raises ExceptionReplyError.
        """
        if not self.connected or self._dead or self._server.half_open:
            return None
        faults = self._server.faults.get(ask.unit)
        if faults is None or faults.on_the_wire:
            return None
        answer = self._server.answer(ask.unit, _pdu(ask))
        if answer is None:
            return None
        self._transaction += 1
        return _registers(ask, answer[0])

    async def exchange(self, ask: Ask, timeout_s: float) -> list[int]:
        """Carry out one request; raises what `devices.modbus.link.Link.exchange` raises, as late as that does."""
        if not self.connected:
            raise NotSentError("not connected")
        try:
            return await self._ask(ask, timeout_s)
        except (NoReplyError, BadReplyError, asyncio.CancelledError):
            self.drop()
            raise

    async def _ask(self, ask: Ask, timeout_s: float) -> list[int]:
        self._transaction += 1
        number = (self._transaction - 1) % 65_000 + 1  # as pymodbus counts
        frame, delay = b"", 0.0
        self._dead = self._dead or self._server.half_open
        if not self._dead:
            frame, delay = self._server.respond(number, ask.unit, _pdu(ask)) or (b"", 0.0)
        whole = len(frame) > HEADER.size and len(frame) >= HEADER.size - 1 + HEADER.unpack_from(frame)[2]
        await self._pass(min(delay, timeout_s) if whole else timeout_s)
        if not whole or delay >= timeout_s or self._dead or self._server.half_open:
            raise NoReplyError(f"no reply within {timeout_s:g} s")
        if fault := misfit(frame, ask, number):
            raise BadReplyError(fault)
        return _registers(ask, frame[HEADER.size :])

    async def _pass(self, seconds: float) -> None:
        """Let time pass, or raise NoReplyError as soon as the server cuts the connection."""
        if seconds <= 0:
            return
        self._waiting = asyncio.get_running_loop().create_future()
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait((sleeping, self._waiting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting = None
            sleeping.cancel()
        if not self.connected:
            raise NoReplyError("the connection was lost while the reply was awaited")

    def drop(self) -> None:
        """End the connection at once."""
        self.connected = False
        self._server.clients.pop(self, None)

    def cut(self) -> None:
        """Be cut off by the server."""
        if not self.connected:
            return
        self.drop()
        self.lost = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        self._on_lost()


def _pdu(ask: Ask) -> bytes:
    """Return the request as it would go over the wire, without its header."""
    if ask.fc <= 4:
        return REQUEST.pack(ask.fc, ask.addr, ask.count)
    if ask.fc == 5:
        return REQUEST.pack(5, ask.addr, _ON[int(bool(ask.words[0]))])
    if ask.fc == 6:
        return REQUEST.pack(6, ask.addr, ask.words[0])
    data = _bits(ask.words) if ask.fc == 15 else struct.pack(f">{len(ask.words)}H", *ask.words)
    return REQUEST.pack(ask.fc, ask.addr, len(ask.words)) + bytes((len(data),)) + data


def _bits(words: Sequence[int]) -> bytes:
    number = sum(1 << i for i, word in enumerate(words) if word)
    return number.to_bytes((len(words) + 7) // 8, "little")


def _registers(ask: Ask, pdu: bytes) -> list[int]:
    """Return what a sound reply holds; raises ExceptionReplyError."""
    function = pdu[0]
    if function & EXCEPTION:
        raise ExceptionReplyError(pdu[1])
    if function > 4:
        return []
    if function > 2:
        return list(struct.unpack_from(f">{ask.count}H", pdu, 2))
    return [pdu[2 + i // 8] >> i % 8 & 1 for i in range(ask.count)]
