"""Does the controller still obey?  It sends itself a command through the broker and waits until it is answered.

A connection can look well and deliver nothing: a half-open link, a broker that has lost the session, a subscription
that is gone.  The command never leaves the MQTT thread: it is on no record and the core does not see it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from uuid import uuid4

import aiomqtt
import structlog

from devices.mqtt.connection import BrokerRefusedError
from tilctl.gateway.connection import Connection, properties_for_publish
from tilctl.gateway.topics import Topics

WITHIN = 5.0
"""How long the command may be under way, s."""
EVERY = 30.0
"""Between two tests, s."""
FIRST_AGAIN = 5.0
"""From the test at the beginning of a connection to the second, s."""

_log = structlog.get_logger("mqtt")


@dataclass(slots=True)
class SelfTestCounts:
    """What came of it since boot; `last_s` is how long the last that passed was under way."""

    passed: int = 0
    failed: int = 0
    not_allowed: int = 0
    last_s: float = 0.0


class NotObeyingError(aiomqtt.MqttError):
    """The broker took our own command and did not deliver it, or not its answer."""


class SelfTest:
    """Belongs to the MQTT thread."""

    def __init__(self, topics: Topics, user: str) -> None:
        """Take the name under which the broker knows the controller."""
        self.counts = SelfTestCounts()
        self._topics = topics
        self._user = user
        self._topic = topics.command(user, "self", "ping")
        self._waiting: tuple[str, asyncio.Future[None]] | None = None

    @property
    def answers(self) -> str:
        """Return the filter for the answers, to be listened to."""
        return self._topics.reply(self._user, "+")

    async def arrived(self, connection: Connection, topic: str, payload: bytes) -> bool:
        """Take a message that belongs to the test and answer it, or see its answer; False for any other."""
        if topic == self._topic:
            if self._waiting is not None and payload == _body(self._waiting[0]):
                with contextlib.suppress(aiomqtt.MqttError):  # the test itself says that no answer came
                    await connection.send(self._topics.reply(self._user, self._waiting[0]), b"{}", 0)
            return True
        if self._topics.is_reply_of(topic, self._user):
            if self._waiting is not None and topic == self._topics.reply(self._user, self._waiting[0]):
                _settle(self._waiting[1])
            return True
        return False

    async def once(self, connection: Connection) -> None:
        """Send a command of our own and wait for its answer; raises NotObeyingError, MqttError."""
        loop = asyncio.get_running_loop()
        number, began = uuid4().hex, loop.time()
        answered: asyncio.Future[None] = loop.create_future()
        self._waiting = (number, answered)
        properties = properties_for_publish(expiry=int(WITHIN))
        try:
            async with asyncio.timeout(WITHIN):
                await connection.send(self._topic, _body(number), properties=properties)
                await answered
        except BrokerRefusedError as error:  # an access list older than this test: everything else goes on
            self.counts.not_allowed += 1
            if self.counts.not_allowed == 1:
                _log.error("the controller cannot test whether it is heard", why=str(error))
        except TimeoutError:
            self.counts.failed += 1
            raise NotObeyingError(
                f"a command to ourselves was not answered within {WITHIN:.0f} s: {self._topic} (see the access list)"
            ) from None
        except aiomqtt.MqttError:
            self.counts.failed += 1
            raise
        else:
            self.counts.passed += 1
            self.counts.last_s = loop.time() - began
        finally:
            self._waiting = None

    async def often(self, connection: Connection) -> None:
        """Test again and again; ends by raising as `once` does."""
        await asyncio.sleep(FIRST_AGAIN)
        while True:
            await self.once(connection)
            await asyncio.sleep(EVERY)


def _body(number: str) -> bytes:
    return json.dumps({"id": number}).encode()


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
