"""A broker without sockets, for instruments over MQTT in virtual time: the same messages, wills and retained topics.

Everyone who is connected gets a message in the turn in which it is sent, in the order in which they came, so that a
rehearsal is the same in every run.  It can be stopped, send everything twice, and be late.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Self

import aiomqtt

from devices.clock import Clock
from devices.mqtt.login import NOBODY, Login
from devices.mqtt.wire import QUEUE

MOST_KEPT = 10_000
"""Retained topics."""
MOST_LATE = 10_000
"""Messages that are under way while it is late; more are lost, as QoS 1 is over a session that has ended."""


class MemoryBroker:
    """One broker for the clients of one loop."""

    def __init__(self, clock: Clock) -> None:
        self.duplicates = False
        """Deliver every message twice, as QoS 1 allows."""
        self.delay_s = 0.0
        """Deliver so much later, s."""
        self.kept: dict[str, bytes] = {}
        """Topic -> what is retained there."""
        self._clock = clock
        self._clients: dict[str, MemoryConnection] = {}
        self._late: set[asyncio.Task[None]] = set()
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether the broker is gone: nobody is connected, nobody comes in, what is retained stays."""
        return self._stopped

    @stopped.setter
    def stopped(self, stopped: bool) -> None:
        self._stopped = stopped
        if stopped:
            for client in list(self._clients.values()):
                client.end("the broker is gone", will=False)

    def connect(
        self,
        url: str,
        identifier: str,
        will: aiomqtt.Will | None = None,
        login: Login = NOBODY,
        room: int = QUEUE,
        most_bytes: int | None = None,
    ) -> MemoryConnection:
        """Return a connection (`devices.mqtt.wire.Connect`); every login is believed."""
        return MemoryConnection(self, identifier, will, room)

    async def close(self) -> None:
        """Forget what is under way."""
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    def join(self, client: MemoryConnection) -> None:
        """Take a client in; an elder one of the same name is cut off.  Raises MqttError while stopped."""
        if self._stopped:
            raise aiomqtt.MqttError("connection refused")
        elder = self._clients.pop(client.identifier, None)
        if elder is not None:
            elder.end("another client has taken the session over", will=True)
        self._clients[client.identifier] = client

    def leave(self, client: MemoryConnection, will: aiomqtt.Will | None) -> None:
        """Let a client go, and publish its will, if there is one; doing so twice does no harm."""
        if self._clients.get(client.identifier) is not client:
            return
        del self._clients[client.identifier]
        if will is not None:
            self.publish(str(will.topic), _bytes(will.payload), will.qos, retain=will.retain)

    def publish(self, topic: str, payload: bytes, qos: int = 1, *, retain: bool = False) -> None:
        """Deliver a message to whoever listens, now or `delay_s` later."""
        if retain:
            self._keep(topic, payload)
        if self.delay_s <= 0:
            self._deliver(topic, payload, qos, retain=retain)
        elif len(self._late) < MOST_LATE:
            task = asyncio.get_running_loop().create_task(self._later(topic, payload, qos, retain=retain))
            self._late.add(task)
            task.add_done_callback(self._late.discard)

    def _keep(self, topic: str, payload: bytes) -> None:
        if not payload:
            self.kept.pop(topic, None)
        elif topic in self.kept or len(self.kept) < MOST_KEPT:
            self.kept[topic] = payload

    async def _later(self, topic: str, payload: bytes, qos: int, *, retain: bool) -> None:
        await self._clock.sleep(self.delay_s)
        self._deliver(topic, payload, qos, retain=retain)

    def _deliver(self, topic: str, payload: bytes, qos: int, *, retain: bool) -> None:
        for client in list(self._clients.values()):
            for _ in range(2 if self.duplicates else 1):
                client.hear(topic, payload, qos, retain=retain)


class MemoryConnection:
    """One client of it (`devices.mqtt.wire.Wire`)."""

    def __init__(self, broker: MemoryBroker, identifier: str, will: aiomqtt.Will | None, room: int) -> None:
        self.identifier = identifier
        self.dropped = 0
        """Messages that came while the queue was full."""
        self._broker = broker
        self._will = will
        self._filters: dict[str, bool] = {}  # filter -> whether the retain flag is passed as it was set
        self._queue: asyncio.Queue[aiomqtt.Message | str] = asyncio.Queue()
        self._room = room
        self._open = False

    async def __aenter__(self) -> Self:
        self._broker.join(self)
        self._open = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.end("it was left", will=False)

    @property
    def messages(self) -> AsyncGenerator[aiomqtt.Message]:
        """What comes; raises MqttError when the connection is gone."""
        return self._messages()

    async def _messages(self) -> AsyncGenerator[aiomqtt.Message]:
        while True:
            item = await self._queue.get()
            if isinstance(item, str):
                raise aiomqtt.MqttError(item)
            yield item

    async def send(self, topic: str, payload: bytes, qos: int = 1, *, retain: bool = False) -> None:
        """Publish; raises MqttCodeError when the connection is gone."""
        if not self._open:
            raise aiomqtt.MqttCodeError(4, f"could not publish to {topic}")
        self._broker.publish(topic, payload, qos, retain=retain)

    async def listen(self, topics: Sequence[str], *, old: bool = True) -> dict[str, str]:
        """Subscribe as `devices.mqtt.connection.Connection.listen` does; nothing is refused."""
        for wanted in topics:
            self._filters[wanted] = not old
            for topic, payload in list(self._broker.kept.items()) if old else ():
                if aiomqtt.Topic(topic).matches(wanted):
                    self._put(aiomqtt.Message(topic, payload, 1, True, 0, None))
        return {}

    def hear(self, topic: str, payload: bytes, qos: int, *, retain: bool) -> None:
        """Take a message that was published just now, if it is one of ours."""
        for wanted, as_published in self._filters.items():
            if aiomqtt.Topic(topic).matches(wanted):
                self._put(aiomqtt.Message(topic, payload, qos, retain and as_published, 0, None))
                return

    def cut(self) -> None:
        """End it without a farewell: the broker publishes the will."""
        self.end("the connection was cut", will=True)

    def end(self, why: str, *, will: bool) -> None:
        """End it, from either side."""
        if self._open:
            self._open = False
            self._queue.put_nowait(why)
            self._broker.leave(self, self._will if will else None)

    def _put(self, message: aiomqtt.Message) -> None:
        if self._queue.qsize() >= self._room:
            self.dropped += 1
        else:
            self._queue.put_nowait(message)


def _bytes(payload: object) -> bytes:
    return payload if isinstance(payload, bytes) else b"" if payload is None else str(payload).encode()
