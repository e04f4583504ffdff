"""The instruments without sockets: a bus whose requests go straight to its server, in the same process and thread.

It stands in for `devices.modbus.link.Link` and ends every request as that does over TCP: the same checks on the same
frames, the same errors after the same time by the clock, under the same faults of `simulators.server`.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable

from devices.clock import Clock
from devices.modbus.bus import LinkMaker
from devices.modbus.link import misfit
from devices.modbus.pdu import Ask, BadReplyError, Deliver, NoReplyError, NotSentError, decode, encode, nobody
from devices.modbus.rtu import RtuLink
from simulators.rtu import Gateway, RtuServer
from simulators.server import HEADER, ModbusServer
from simulators.suite import Suite


def memory_links(servers: Suite, clock: Clock) -> dict[str, LinkMaker]:
    """Return bus -> maker of connections to the servers of a suite, which need not listen.

    Those of an RTU line are the driver's own, with a gateway's end in place of a socket; a serial port is had in the
    same way.
    """
    return {bus: _maker(bus, server, servers, clock) for bus, server in servers.servers.items()}


def _maker(bus: str, server: ModbusServer, servers: Suite, clock: Clock) -> LinkMaker:
    if isinstance(server, RtuServer):
        line = servers.lines[bus]
        return lambda _host, _port, on_lost: RtuLink(MemoryStream(server), line, clock, on_lost)
    return lambda _host, _port, on_lost: MemoryLink(server, clock, on_lost)


class MemoryLink:
    """One connection to a server in this process; `devices.modbus.bus.Wire`, and `simulators.peer.Client`."""

    free_at = 0.0

    def __init__(self, server: ModbusServer, clock: Clock, on_lost: Callable[[], None]) -> None:
        self.connected = False
        self.lost = False
        self._server = server
        self._clock = clock
        self._on_lost = on_lost
        self._dead = False
        self._transaction = 0
        self._waiting: asyncio.Future[None] | None = None
        self._idle: asyncio.TimerHandle | None = None

    async def connect(self, timeout_s: float) -> None:
        """Connect once; raises ConnectionRefusedError."""
        if self._server.refuses:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        self.connected = True
        self._server.clients[self] = None
        if self._server.full:
            self.cut()
        self._wait_idle()

    async def settle(self, timeout_s: float) -> None:
        """Do nothing, as over TCP."""

    def at_once(self, ask: Ask) -> list[int] | None:
        """Return the registers when the server answers without delay or fault, else None and nothing was sent.

        Raises ExceptionReplyError.
        """
        server = self._server
        if not self.connected or self._dead or server.half_open or server.idle_close_s:
            return None
        faults = server.faults.get(ask.unit)
        if faults is None or faults.on_the_wire:
            return None
        answer = server.answer(ask.unit, encode(ask))
        if answer is None:
            return None
        self._transaction += 1
        return decode(ask, answer[0])

    async def exchange(self, ask: Ask, timeout_s: float, deliver: Deliver = nobody) -> list[int]:
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
        self._wait_idle()
        if not self._dead:
            frame, delay = self._server.respond(number, ask.unit, encode(ask)) or (b"", 0.0)
        if (faults := self._server.faults.get(ask.unit)) is not None:
            delay += faults.byte_gap_s * max(0, len(frame) - 1)
        fault = misfit(frame, ask, number)
        whole = len(frame) > HEADER.size and len(frame) >= HEADER.size - 1 + HEADER.unpack_from(frame)[2]
        await self._pass(min(delay, timeout_s) if whole or fault else timeout_s)
        if not (whole or fault) or delay >= timeout_s or self._dead or self._server.half_open:
            raise NoReplyError(f"no reply within {timeout_s:g} s")
        if fault:
            raise BadReplyError(fault)
        return decode(ask, frame[HEADER.size :])

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
        if self._idle is not None:
            self._idle.cancel()

    def _wait_idle(self) -> None:
        if self.connected and self._server.idle_close_s > 0:
            if self._idle is not None:
                self._idle.cancel()
            self._idle = asyncio.get_running_loop().call_later(self._server.idle_close_s, self.cut)

    def cut(self) -> None:
        """Be cut off by the server."""
        if not self.connected:
            return
        self.drop()
        self.lost = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        self._on_lost()


class MemoryStream:
    """The bytes between an RTU line's driver and the gateway to it (`devices.modbus.rtu.Stream`)."""

    def __init__(self, server: RtuServer) -> None:
        self._server = server
        self._gateway: Gateway | None = None

    async def open(self, heard: Callable[[bytes], None], ended: Callable[[], None], timeout_s: float) -> None:
        """Join the gateway's clients; raises ConnectionRefusedError."""
        if self._server.refuses:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        gateway = self._gateway = self._server.gateway()

        def aborted() -> None:
            gateway.leave()
            if self._gateway is gateway:  # not by us
                self._gateway = None
                ended()

        loop = asyncio.get_running_loop()
        gateway.join(heard, lambda: loop.call_soon(aborted) and None)

    def write(self, data: bytes) -> None:
        """Send; raises OSError when there is no connection."""
        if self._gateway is None:
            raise OSError("the connection is closed")
        self._gateway.heard(data)

    def close(self) -> None:
        """Close at once."""
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            gateway.leave()
