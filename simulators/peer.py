"""The other end of a connection to a simulated instrument: when it answers, how slowly, and when it hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from devices.clock import Clock

MOST_LATE = 64  # late replies of one connection; a client that asks on and on without answers is cut


class Client(Protocol):
    """One connection to a server, by whatever wire."""

    def cut(self) -> None:
        """End it at once, from the server's side."""
        ...


class Host(Protocol):
    """What a peer knows of its server."""

    half_open: bool
    idle_close_s: float
    clients: dict[Client, None]
    connections: dict[Peer, None]

    @property
    def full(self) -> bool:
        """Whether there is no place for one more, which has joined already."""
        ...


class Peer:
    """One client of a server."""

    def __init__(self, host: Host, clock: Clock) -> None:
        self.late: dict[asyncio.Task[None], None] = {}
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._host = host
        self._clock = clock
        self._dead = False  # nothing is answered here any more, and nobody is told
        self._write: Callable[[bytes], None] | None = None
        self._abort: Callable[[], None] | None = None
        self._idle: asyncio.TimerHandle | None = None

    @property
    def joined(self) -> bool:
        """Whether there is somebody to write to."""
        return self._write is not None

    def join(self, write: Callable[[bytes], None], abort: Callable[[], None]) -> None:
        """Become one of the server's clients, or be cut at once where it has no place."""
        self._write, self._abort = write, abort
        self._host.connections[self] = self._host.clients[self] = None
        if self._host.full:
            self.cut()
        else:
            self._wait_idle()

    def leave(self) -> None:
        """Be gone, with the replies that nobody waits for any more."""
        self._write = self._abort = None
        self._host.connections.pop(self, None)
        self._host.clients.pop(self, None)
        if not self.closed.done():
            self.closed.set_result(None)
        self._end()

    def cut(self) -> None:
        """End the connection at once."""
        self._host.clients.pop(self, None)  # a place is free from now on
        abort, self._write, self._abort = self._abort, None, None
        if abort is not None:
            abort()
        self._end()

    def _end(self) -> None:
        for task in self.late:
            task.cancel()
        if self._idle is not None:
            self._idle.cancel()

    def listens(self) -> bool:
        """Tell whether what is heard now is looked at; it counts as a sign of life."""
        self._dead = self._dead or self._host.half_open
        self._wait_idle()
        return not self._dead

    def answer(self, frame: bytes, delay: float, byte_gap: float) -> None:
        """Send a reply, after `delay` (s) and byte by byte where there is a gap (s) between them."""
        if delay <= 0 and byte_gap <= 0:
            if self._write is not None:
                self._write(frame)
            return
        if len(self.late) >= MOST_LATE:
            self.cut()
            return
        task = asyncio.get_running_loop().create_task(self._send_after(frame, delay, byte_gap))
        self.late[task] = None
        task.add_done_callback(lambda done: self.late.pop(done, None))

    async def _send_after(self, frame: bytes, delay: float, byte_gap: float) -> None:
        await self._clock.sleep(delay)
        for at in range(len(frame)) if byte_gap > 0 else ():
            self._send(frame[at : at + 1])
            if at < len(frame) - 1:
                await self._clock.sleep(byte_gap)
        if byte_gap <= 0:
            self._send(frame)

    def _send(self, data: bytes) -> None:
        if self._write is not None and not self._dead and not self._host.half_open:
            self._write(data)

    def _wait_idle(self) -> None:
        if self._host.idle_close_s > 0:
            if self._idle is not None:
                self._idle.cancel()
            self._idle = asyncio.get_running_loop().call_later(self._host.idle_close_s, self.cut)
