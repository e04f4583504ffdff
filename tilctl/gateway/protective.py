"""A second connection for hold, stop and abort alone: whatever waits for the first one, nothing waits before these.

A broker delivers in order.  Behind thousands of other commands a hold would be read when all of them are, and its
answer sent when that connection has been found deaf and made again.  Both connections hear a hold; the one that is
first hands it on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import Callable

import aiomqtt
import structlog

from devices.mqtt.login import Login
from tilctl.commands.verbs import VERBS
from tilctl.gateway.connection import Backoff, Connection, properties_for_publish
from tilctl.gateway.outbox import Post
from tilctl.gateway.topics import Topics

PROTECTIVE = tuple(name for name, verb in VERBS.items() if verb.protective)
PAIRED_S = 5.0
"""Within what time, s, one command is heard on both connections; later it counts as sent again."""
MAX_PAIRS = 1024
MAX_ANSWERS = 1000

Send = Callable[[Post], None]
"""Takes an answer, from any thread."""

_log = structlog.get_logger("mqtt")


class Pairs:
    """Which commands were heard on one connection and not yet on the other."""

    def __init__(self) -> None:
        self._lead: dict[bytes, tuple[int, float]] = {}  # how often the line was ahead (+) or behind (-), and when

    def first(self, topic: str, payload: bytes, now: float, *, line: bool) -> bool:
        """Return whether a command heard at `now` (s) is new; False where the other connection had it already."""
        key = hashlib.sha256(topic.encode() + b"\0" + payload).digest()
        lead, at = self._lead.pop(key, (0, now))
        if now - at > PAIRED_S:
            lead = 0
        step = 1 if line else -1
        if lead + step:
            self._lead[key] = (lead + step, now)
        if len(self._lead) > MAX_PAIRS:
            del self._lead[next(iter(self._lead))]
        return lead * step >= 0


class ProtectiveLine:
    """Belongs to the MQTT thread, but for `answer`."""

    def __init__(
        self,
        url: str,
        topics: Topics,
        login: Login,
        take: Callable[[aiomqtt.Message], None],
        otherwise: Send,
    ) -> None:
        """Take what is called with each message, and where answers go while this connection does not stand."""
        self._url, self._topics, self._login = url, topics, login
        self._take, self._otherwise = take, otherwise
        self._answers: deque[Post] = deque(maxlen=MAX_ANSWERS)
        self._wake: Callable[[], None] | None = None

    def answer(self, post: Post) -> None:
        """Send an answer; from any thread."""
        wake = self._wake
        if wake is None:
            self._otherwise(post)
            return
        self._answers.append(post)
        wake()

    async def run(self, stop: asyncio.Event) -> None:
        """Hear until `stop`; a lost connection is made again."""
        backoff, told = Backoff(), False
        while not stop.is_set():
            try:
                await self._session(stop, backoff)
            except* (aiomqtt.MqttError, OSError) as group:
                if not told:  # the other connection tells of a broker that is away
                    _log.info("the connection for hold, stop and abort is lost", why=str(group.exceptions[0]))
                told = True
            finally:
                self._wake = None
                while self._answers:
                    self._otherwise(self._answers.popleft())
            if not stop.is_set():
                await backoff.wait(stop)

    async def _session(self, stop: asyncio.Event, backoff: Backoff) -> None:
        identifier = f"{self._topics.prefix.replace('/', '-')}-protective"
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        woken.set()  # for what came in between

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to wake
                loop.call_soon_threadsafe(woken.set)

        async with Connection(self._url, identifier, login=self._login) as connection, asyncio.TaskGroup() as group:
            await connection.listen([self._topics.command("+", "+", verb) for verb in PROTECTIVE], old=False)
            tasks = [group.create_task(self._receive(connection)), group.create_task(self._send(connection, woken))]
            self._wake = wake
            backoff.reset()
            await stop.wait()
            for task in tasks:
                task.cancel()

    async def _receive(self, connection: Connection) -> None:
        async for message in connection.messages:
            self._take(message)

    async def _send(self, connection: Connection, woken: asyncio.Event) -> None:
        while True:
            await woken.wait()
            woken.clear()
            while self._answers:
                post = self._answers[0]
                properties = properties_for_publish(expiry=post.expiry, correlation=post.correlation or None)
                await connection.send(post.topic, post.payload, properties=properties)
                self._answers.popleft()
