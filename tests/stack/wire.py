"""A piece of network between a client and a broker, in a thread of its own: it can be absent, cut, or dead but open."""

from __future__ import annotations

import asyncio
import socket
import threading


class Wire:
    """Forwards TCP from `port` to another port of the loopback while it is `open`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._dead: set[asyncio.Transport] = set()
        self._links: list[_Link] = []
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire", daemon=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"mqtt://127.0.0.1:{self.port}"

    def __enter__(self) -> Wire:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def open(self) -> None:
        """Take connections from now on."""
        self._do(self._listen())

    def go_dead(self) -> None:
        """Leave the connections open and carry nothing on them any more; new ones work."""
        for link in self._links:
            link.dead = True

    @property
    def connections(self) -> int:
        """How many there have been."""
        return len(self._links)

    def _do(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._taken, "127.0.0.1", self.port)

    async def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", self._target)
        link = _Link()
        self._links.append(link)
        link.tasks = [
            asyncio.create_task(link.carry(reader, here)),
            asyncio.create_task(link.carry(there, writer)),
        ]

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
        for link in self._links:
            for task in link.tasks:
                task.cancel()
            await asyncio.gather(*link.tasks, return_exceptions=True)


class _Link:
    def __init__(self) -> None:
        self.dead = False
        self.tasks: list[asyncio.Task[None]] = []

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if not self.dead:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
