"""A broker as a bus: one connection on the core's loop for all instruments behind it, made again whenever it is lost.

Nothing is kept for a connection that may come back at any time: what cannot be published now was not sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import aiomqtt
import structlog

from devices.clock import Clock
from devices.mqtt.connection import BrokerRefusedError, Connection
from devices.mqtt.login import NOBODY, Login, address
from devices.mqtt.wire import Connect, Wire

BACKOFF_MIN_S = 0.2
BACKOFF_MAX_S = 5.0
SETTLED_S = 5.0
"""A connection that stood so long is made again at once, one that did not is left alone for a while."""
ROOM = 1000
"""Messages that may wait to be handed out; more are dropped and counted."""
MOST_BYTES = 256 * 1024
"""Largest packet that the broker may send us."""
MOST_TOPICS = 2000
MOST_REASONS = 8
"""So many different reasons are logged until a connection stands again."""
MOST_SENDING = 32
"""Publishes that may wait for the broker at once; a stop may go beyond."""
_CHUNK = 50  # topics in one SUBSCRIBE


class PublishError(Exception):
    """A message was not taken by the broker."""


class NotPublishedError(PublishError):
    """Nothing was sent."""


class PublishRefusedError(PublishError):
    """The broker said no: nobody got it."""


class PublishLostError(PublishError):
    """It was sent, and the broker did not say that it has it: it may still be delivered."""


class Listener(Protocol):
    """Who is told of messages; nothing of it may wait."""

    def receive(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Take a message; `retained`: the broker had kept it, for nobody knows how long."""
        ...

    def joined(self, refused: Sequence[str]) -> None:
        """Take note of a new connection; `refused` says which subscriptions the broker did not allow."""
        ...

    def parted(self) -> None:
        """Take note that the connection is gone."""
        ...


@dataclass(slots=True)
class BrokerStatistics:
    """What became of the connection and of what went over it."""

    connects: int = 0
    connect_failures: int = 0
    losses: int = 0
    messages: int = 0
    dropped: int = 0
    """Of connections that have ended; `MqttBroker.dropped` is of all."""
    published: int = 0
    unacknowledged: int = 0
    broken: int = 0
    """Messages at which a listener failed."""


class MqttBroker:
    """One broker; `add` its instruments, then `open`."""

    def __init__(
        self,
        name: str,
        url: str,
        clock: Clock,
        *,
        identifier: str,
        login: Login = NOBODY,
        room: int = ROOM,
        connect: Connect = Connection,
    ) -> None:
        """Describe a broker at `mqtt://host:port` or `mqtts://...`; nothing is opened before `open`.

        `identifier` is our client id, of which the broker must have only one; `login` is who we are there.
        `connect` makes its connections: over TCP, unless told otherwise.  Raises ValueError for a wrong address.
        """
        address(url)
        self.name = name
        self.identifier = identifier
        self.statistics = BrokerStatistics()
        self._url = url
        self._clock = clock
        self._login = login
        self._room = room
        self._connect = connect
        self._listeners: dict[str, list[Listener]] = {}
        self._topics: dict[Listener, list[str]] = {}
        self._connection: Wire | None = None
        self._down = f"broker {name} is not open"
        self._task: asyncio.Task[None] | None = None
        self._sending = 0
        self._jitter = random.Random(identifier)  # its own for each client, and the same in every rehearsal
        self._log = structlog.get_logger("mqtt_devices")

    @property
    def connected(self) -> bool:
        """Whether messages come and go now."""
        return self._connection is not None

    @property
    def down(self) -> str:
        """Why there is no connection; "" while there is one."""
        return "" if self._connection is not None else self._down

    @property
    def dropped(self) -> int:
        """Messages that came faster than they could be handed out, of all connections."""
        return self.statistics.dropped + (self._connection.dropped if self._connection is not None else 0)

    def add(self, topics: Sequence[str], listener: Listener) -> None:
        """Let `listener` have the messages of `topics`; before `open`.  Raises ValueError for too many topics."""
        if self._task is not None:
            raise RuntimeError(f"broker {self.name} is open already")
        self._topics.setdefault(listener, []).extend(topics)
        for topic in topics:
            self._listeners.setdefault(topic, []).append(listener)
        if len(self._listeners) > MOST_TOPICS:
            raise ValueError(f"broker {self.name}: more than {MOST_TOPICS} topics")

    async def open(self) -> None:
        """Begin to connect; returns at once, whether there is a broker or not."""
        if self._task is None:
            self._down = f"broker {self.name}: not connected yet"
            self._task = asyncio.create_task(self._own(), name=f"mqtt {self.name}")

    async def close(self) -> None:
        """Leave the broker; may be called twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))
        self._down = f"broker {self.name} is closed"

    async def publish(self, topic: str, payload: bytes, *, urgent: bool = False) -> None:
        """Publish once with QoS 1, never retained, and wait until the broker has it (at most 5 s).

        Raises NotPublishedError, PublishRefusedError (both: nobody got it) or PublishLostError.
        """
        connection = self._connection
        if connection is None:
            raise NotPublishedError(self._down)
        if self._sending >= MOST_SENDING and not urgent:
            raise NotPublishedError(f"broker {self.name}: {self._sending} messages wait for it already")
        self._sending += 1
        try:
            with self._clock.hold(f"mqtt:{self.name}"):
                await connection.send(topic, payload)
        except BrokerRefusedError as error:
            raise PublishRefusedError(str(error)) from error
        except aiomqtt.MqttCodeError as error:
            # refused before it reached the socket; a client object is not used again, so it stays there
            raise NotPublishedError(f"broker {self.name}: {error}") from error
        except aiomqtt.MqttError as error:
            self.statistics.unacknowledged += 1
            raise PublishLostError(f"broker {self.name}: {error}") from error
        finally:
            self._sending -= 1
        self.statistics.published += 1

    async def _own(self) -> None:
        """Own the connection until cancelled."""
        pause, told = BACKOFF_MIN_S, set[str]()
        while True:
            began = self._clock.monotonic()
            try:
                await self._session()
                reason = "it ended the connection"
            except (aiomqtt.MqttError, OSError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
            self._down = f"broker {self.name} at {self._url}: {reason}"
            if self._clock.monotonic() - began >= SETTLED_S:
                pause = BACKOFF_MIN_S
                told.clear()
            if reason not in told and len(told) < MOST_REASONS:  # a refusal is another thing than a broker away
                self._log.warning("mqtt_broker_away", broker=self.name, error=reason)
                told.add(reason)
            await self._clock.sleep(pause * self._jitter.uniform(0.8, 1.2))
            pause = min(2 * pause, BACKOFF_MAX_S)

    async def _session(self) -> None:
        """Connect, subscribe, hand out messages until the connection ends."""
        connection = self._connect(
            self._url, self.identifier, login=self._login, room=self._room, most_bytes=MOST_BYTES
        )
        stood = False
        try:
            async with contextlib.AsyncExitStack() as stack:
                with self._clock.hold(f"mqtt:{self.name}"):
                    await stack.enter_async_context(connection)
                    refused = await self._subscribe(connection)
                stood = True
                self.statistics.connects += 1
                self._connection = connection
                for listener, topics in self._topics.items():
                    listener.joined([refused[topic] for topic in topics if topic in refused])
                async for message in connection.messages:
                    self._hand_out(message)
        finally:
            self._connection = None
            self.statistics.dropped += connection.dropped
            if stood:
                self.statistics.losses += 1
                for listener in self._topics:
                    listener.parted()
            else:
                self.statistics.connect_failures += 1

    async def _subscribe(self, connection: Wire) -> dict[str, str]:
        refused: dict[str, str] = {}
        topics = list(self._listeners)
        for first in range(0, len(topics), _CHUNK):
            refused |= await connection.listen(topics[first : first + _CHUNK])
        return refused

    def _hand_out(self, message: aiomqtt.Message) -> None:
        """Give a message to whoever listens.  Invariant: no message can end the connection of the others."""
        self.statistics.messages += 1
        for listener in self._listeners.get(message.topic.value, ()):
            try:
                listener.receive(message.topic.value, message.payload, retained=message.retain)
            except Exception as error:  # noqa: BLE001 - one bad message harms its own value only
                self.statistics.broken += 1
                self._log.error("mqtt_message_broken", broker=self.name, topic=message.topic.value, error=repr(error))
