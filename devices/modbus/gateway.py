"""RTU frames over TCP: a gateway that passes bytes on to a serial line, as many adapters do in "transparent" mode."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from devices.clock import Clock
from devices.modbus.link import Address, watch_peer
from devices.modbus.rtu import Line, RtuLink
from devices.modbus.serial import char_seconds
from devices.modbus.wire import LinkMaker


def rtu_tcp_links(
    clock: Clock,
    *,
    baud: int = 9600,
    format: str = "8N1",  # noqa: A002  the field's word, and the site file's
    turnaround: float = 0.0,
    local_echo: bool = False,
    settle_s: float | None = None,
) -> LinkMaker:
    """Return the maker of RTU connections to a host and port, for `ModbusBus(..., link=...)`.

    `baud` and `format` are those of the serial line behind the gateway; see `devices.modbus.rtu.Line` for the rest.
    Raises ValueError for a speed or format that RTU has not.
    """
    line = Line(char_seconds(baud, format), turnaround, local_echo, settle_s)
    return lambda host, port, on_lost: RtuLink(TcpStream(host, port), line, clock, on_lost)


class TcpStream(asyncio.Protocol):
    """The bytes of one TCP connection (`devices.modbus.rtu.Stream`)."""

    def __init__(self, host: str, port: int) -> None:
        """Prepare a connection; must be made inside the running loop."""
        self._host, self._port = host, port
        self._address = Address(host, port)
        self._heard: Callable[[bytes], None] | None = None
        self._ended: Callable[[], None] | None = None
        self._transport: asyncio.Transport | None = None

    async def open(self, heard: Callable[[bytes], None], ended: Callable[[], None], timeout_s: float) -> None:
        """Connect; raises OSError (also where this process is connected there already) or TimeoutError."""
        self._address.claim()
        self._heard, self._ended = heard, ended
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            transport, _ = await loop.create_connection(lambda: self, self._host, self._port)
        watch_peer(transport)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what to write to."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Pass on what came."""
        if self._heard is not None:
            self._heard(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that the peer has gone, unless this side closed."""
        ended, self._ended = self._ended, None
        self._address.release()
        if ended is not None:
            ended()

    def write(self, data: bytes) -> None:
        """Send; raises OSError when there is no connection."""
        if self._transport is None:
            raise OSError("the connection is closed")
        self._transport.write(data)

    def close(self) -> None:
        """Close at once."""
        self._heard = self._ended = None
        self._address.release()
        if self._transport is not None:
            self._transport.abort()
        self._transport = None
