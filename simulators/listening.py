"""A listening port that can be shut for a while and then opened again, with the same number."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable


class Door:
    """Accepts TCP connections; while it is shut, they are refused (a port that is bound, but does not listen)."""

    def __init__(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._protocol = protocol
        self._address: tuple[str, int] | None = None
        self._shut = False
        self._server: asyncio.Server | None = None
        self._kept: socket.socket | None = None
        self._opening: asyncio.Task[None] | None = None

    async def open(self, host: str, port: int) -> int:
        """Listen, and return the port (0 asks for any); raises OSError when the port is taken."""
        self._server = await asyncio.get_running_loop().create_server(self._protocol, host, port)
        self._address = (host, int(self._server.sockets[0].getsockname()[1]))
        if self._shut:
            self._bar()
        return self._address[1]

    async def close(self) -> None:
        """Stop listening."""
        if self._opening is not None:
            await asyncio.wait([self._opening])
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        if self._kept is not None:
            self._kept.close()
        self._server = self._kept = self._address = None

    @property
    def shut(self) -> bool:
        """Whether connections are refused."""
        return self._shut

    @shut.setter
    def shut(self, shut: bool) -> None:
        if shut == self._shut:
            return
        self._shut = shut
        if self._address is None:
            return
        if shut:
            self._bar()
        elif self._opening is None or self._opening.done():
            self._opening = asyncio.get_running_loop().create_task(self._listen(), name="a port opens again")

    def _bar(self) -> None:
        if self._server is None or self._address is None:
            return  # it is opening just now, and will see
        self._server.close()
        self._server = None
        self._kept = socket.socket()
        self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._kept.bind(self._address)

    async def _listen(self) -> None:
        kept, self._kept = self._kept, None
        self._server = await asyncio.get_running_loop().create_server(self._protocol, sock=kept)
        if self._shut:
            self._bar()
