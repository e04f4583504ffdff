"""What those who speak over a broker need of a connection, whatever it is made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Protocol, Self

import aiomqtt

from devices.mqtt.login import NOBODY, Login

QUEUE = 1000
"""Messages that may wait to be read; more are dropped and counted."""


class Wire(Protocol):
    """One connection to a broker, as `devices.mqtt.connection.Connection` is over TCP; not entered twice."""

    @property
    def dropped(self) -> int:
        """How many messages came while the queue was full."""
        ...

    @property
    def messages(self) -> AsyncIterator[aiomqtt.Message]:
        """What comes; raises MqttError when the connection is gone."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None: ...

    async def send(self, topic: str, payload: bytes, qos: int = 1, *, retain: bool = False) -> None:
        """Publish, once; raises what `Connection.send` raises."""
        ...

    async def listen(self, topics: Sequence[str], *, old: bool = True) -> dict[str, str]:
        """Subscribe; returns the topics that the broker refused, and why."""
        ...

    def cut(self) -> None:
        """End it without a farewell: the broker publishes the will."""
        ...


class Connect(Protocol):
    """Makes a connection; nothing is opened before it is entered."""

    def __call__(
        self,
        url: str,
        identifier: str,
        will: aiomqtt.Will | None = None,
        login: Login = NOBODY,
        room: int = QUEUE,
        most_bytes: int | None = None,
    ) -> Wire:
        """Return the connection of the client `identifier` to the broker at `url`."""
        ...
