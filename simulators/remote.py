"""The bench from elsewhere: from another thread of this process, and over TCP from another process (JSON, a line each).

Request `{"id": 1, "call": "hang", "args": {...}}`, reply `{"id": 1, "result": ...}` or `{"id": 1, "error": "text"}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol, cast

from devices.clock import Clock
from simulators.sight import BenchError

LINE = 1 << 20  # bytes, longest request or reply
ANSWER_S = 60.0  # real seconds that a caller waits
Call = Callable[[str, dict[str, Any]], Any]


class Bench(Protocol):
    """A bench, or the benches of a facility."""

    def call(self, name: str, args: Mapping[str, Any]) -> Any:
        """Do the named action; raises BenchError."""
        ...


def threaded(bench: Bench, clock: Clock, timeout_s: float = ANSWER_S) -> Call:
    """Return a `bench_call` for another thread: it is carried out on the loop of `clock`.

    It raises BenchError as the bench does, and TimeoutError when the loop did not come to it in `timeout_s` (real).
    """

    def call(name: str, args: dict[str, Any]) -> Any:
        answer: Future[Any] = Future()

        def act() -> None:
            try:
                answer.set_result(bench.call(name, args))
            except (ValueError, KeyError) as error:
                answer.set_exception(error)

        clock.enter(act)
        return answer.result(timeout_s)

    return call


class BenchServer:
    """Serve a bench on the running loop; it binds to loopback unless told otherwise."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen, and return the port; raises OSError when it is taken."""
        self._server = await asyncio.start_server(self._accept, host, port, limit=LINE)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Close all connections and stop listening."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        tasks = list(self._open.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # came in while it was closing
            writer.close()
            return
        self._open[writer] = asyncio.create_task(self._serve(reader, writer), name="bench connection")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(self._reply(line))
                await writer.drain()
        except (ConnectionError, ValueError, asyncio.CancelledError):  # gone, or a line over the limit, or closing
            pass
        finally:
            del self._open[writer]
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def _reply(self, line: bytes) -> bytes:
        number: Any = None
        try:
            request = cast("dict[str, Any]", json.loads(line))
            number = request.get("id")
            reply = {"id": number, "result": self._bench.call(str(request["call"]), request.get("args") or {})}
        except (ValueError, KeyError, AttributeError) as error:
            reply = {"id": number, "error": f"{error}" or type(error).__name__}
        return json.dumps(reply).encode() + b"\n"


class BenchClient:
    """A blocking client of a `BenchServer`; its `call` is a `bench_call`."""

    def __init__(self, host: str, port: int, timeout_s: float = ANSWER_S) -> None:
        """Connect; raises OSError."""
        self._socket = socket.create_connection((host, port), timeout_s)
        self._lines = self._socket.makefile("rb")
        self._number = 0

    def call(self, name: str, args: Mapping[str, Any]) -> Any:
        """Have the bench do `name`; raises BenchError with its reason, OSError when the connection is gone."""
        self._number += 1
        request = {"id": self._number, "call": name, "args": dict(args)}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        line = self._lines.readline(LINE)
        if not line.endswith(b"\n"):
            raise ConnectionError(f"the bench closed the connection instead of answering {name}")
        reply = cast("dict[str, Any]", json.loads(line))
        if "error" in reply:
            raise BenchError(str(reply["error"]))
        return reply["result"]

    def close(self) -> None:
        """Close the connection."""
        self._lines.close()
        self._socket.close()
