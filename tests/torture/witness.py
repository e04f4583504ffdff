"""Hears every answer that the controller gives to anybody: what was acknowledged must be on the record afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from dataclasses import dataclass

import aiomqtt

from tilctl.gateway.connection import Connection
from tilctl.gateway.topics import Topics


@dataclass(frozen=True)
class Heard:
    """One answer: to which command, what, and where it says that it is on record."""

    command: str
    status: str
    code: str
    seq: int | None
    hash: str | None


class Witness:
    """A thread with a connection of its own."""

    def __init__(self, url: str, topics: Topics) -> None:
        self.heard: list[Heard] = []
        self._url, self._topics = url, topics
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="witness", daemon=True)

    def start(self) -> None:
        """Start; returns when it listens."""
        self._thread.start()
        if not self._ready.wait(20):
            raise TimeoutError("the witness has no connection to the broker")

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with Connection(self._url, f"witness-{self._topics.prefix.replace('/', '-')}") as connection:
            await connection.listen([f"{self._topics.prefix}/rsp/+/+"])
            self._ready.set()
            reading = asyncio.create_task(self._read(connection))
            await self._stop.wait()
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading

    async def _read(self, connection: aiomqtt.Client) -> None:
        async for message in connection.messages:
            body = json.loads(bytes(message.payload))
            if "correlation" in body:  # else it is the controller's own loop-back
                names = ("correlation", "status", "code", "journal_seq", "hash")
                self.heard.append(Heard(*(body[name] for name in names)))
