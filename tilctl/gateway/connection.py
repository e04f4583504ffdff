"""What the gateway and whoever speaks with it need of MQTT beyond a connection; a refused subscription is an error."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from devices.mqtt import connection
from devices.mqtt.connection import BrokerRefusedError


class Connection(connection.Connection):
    """A connection whose subscriptions are all granted: nobody can do without one of them."""

    async def listen(self, topics: Sequence[str], *, old: bool = True) -> dict[str, str]:
        """Subscribe as `devices.mqtt.connection.Connection.listen` does; raises BrokerRefusedError."""
        for refusal in (await super().listen(topics, old=old)).values():
            raise BrokerRefusedError(refusal)
        return {}


def properties_for_publish(
    *,
    expiry: int | None = None,
    correlation: bytes | None = None,
    response_topic: str | None = None,
    content_type: str | None = None,
) -> Properties:
    """Return the MQTT 5 properties of a publish; `expiry` in s."""
    properties = Properties(PacketTypes.PUBLISH)
    if expiry is not None:
        properties.MessageExpiryInterval = expiry
    if correlation is not None:
        properties.CorrelationData = correlation
    if response_topic is not None:
        properties.ResponseTopic = response_topic
    if content_type is not None:
        properties.ContentType = content_type
    return properties


class Backoff:
    """Waiting times between attempts: doubling, never over 5 s, spread so that stations do not come back together."""

    def __init__(self, first: float = 0.2, longest: float = 5.0) -> None:
        self._first = first
        self._longest = longest
        self._next = first
        self._random = random.Random()

    def reset(self) -> None:
        """Begin again with the shortest wait."""
        self._next = self._first

    async def wait(self, stop: asyncio.Event) -> None:
        """Wait for the next attempt, or until `stop`."""
        seconds = self._next * self._random.uniform(0.5, 1.0)
        self._next = min(self._next * 2, self._longest)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stop.wait()
