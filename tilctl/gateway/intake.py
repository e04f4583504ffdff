"""Commands as they come from the broker: bounded, heard once, handed to the core's loop, answered where they belong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiomqtt
import structlog

from devices.clock import Clock
from tilctl.commands.door import Door, Reply
from tilctl.commands.envelope import RawCommand, peek_id
from tilctl.commands.verbs import Code
from tilctl.gateway.flood import FloodGate
from tilctl.gateway.outbox import Post
from tilctl.gateway.payloads import encode
from tilctl.gateway.protective import PROTECTIVE, Pairs, Send
from tilctl.gateway.replay import VERB as EVENTS
from tilctl.gateway.replay import EventReader
from tilctl.gateway.topics import Topics

MAX_HANDED = 256
"""Commands handed to the core and not taken yet; more are answered as busy from here, hold, stop and abort excepted."""
REPLY_EXPIRY = 300
LOUD = 100_000
"""Of the dropped commands after the first, one in so many is logged."""

_log = structlog.get_logger("mqtt")


@dataclass(slots=True)
class MqttCounts:
    """What the connection did since boot, for metrics; written by the thread only."""

    connections: int = 0
    failures: int = 0
    commands: int = 0
    commands_busy: int = 0
    commands_dropped: int = 0
    messages_dropped: int = 0
    publishes: int = 0
    publishes_refused: int = 0
    unanswerable: int = 0


class Intake:
    """Belongs to the MQTT thread."""

    def __init__(
        self, topics: Topics, door: Door, clock: Clock, counts: MqttCounts, reader: EventReader | None
    ) -> None:
        """Take the door behind which the core is, and who answers requests for events."""
        self._topics = topics
        self._door = door
        self._clock = clock
        self._counts = counts
        self._reader = reader
        self._handed = threading.Semaphore(MAX_HANDED)
        self._pairs = Pairs()
        self._flood = FloodGate(time.monotonic)  # real time, in a rehearsal too: it is about this thread

    def take(self, message: aiomqtt.Message, send: Send, *, line: bool = False) -> None:
        """Take a message that may be a command; `send` takes its answers, `line` is whether that is the second one."""
        names = self._topics.read_command(str(message.topic))
        if names is None:
            return
        client, unit, verb = names
        payload, protective = bytes(message.payload), verb in PROTECTIVE
        if protective and not self._pairs.first(str(message.topic), payload, time.monotonic(), line=line):
            return
        self._counts.commands += 1
        if not self._flood.lets(client, unit, verb):
            self._dropped(client)
            return
        wished: str | None = getattr(message.properties, "ResponseTopic", None)
        own = wished is not None and self._topics.is_reply_of(wished, client)
        raw = RawCommand(
            client, unit, verb, payload, bool(message.retain), foreign_reply=wished is not None and not own
        )
        correlation: bytes | None = getattr(message.properties, "CorrelationData", None)

        def answer(reply: Reply) -> None:
            self._answer(reply, client, wished if own else None, correlation, send)

        if verb == EVENTS and self._reader is not None:
            self._reader.ask(raw, answer)
            return
        if not protective and not self._handed.acquire(blocking=False):
            self._counts.commands_busy += 1
            text = "the controller does not keep up with its commands: repeat this one, with the same id"
            answer(Reply(peek_id(payload), "refused", Code.BUSY, text, ""))
            return

        def enter() -> None:
            if not protective:
                self._handed.release()
            self._door.submit(raw, answer)

        self._clock.enter(enter)

    def _dropped(self, client: str) -> None:
        self._counts.commands_dropped += 1
        if self._counts.commands_dropped % LOUD == 1:
            so_far = self._counts.commands_dropped
            _log.error("more commands than can be looked at: they are dropped", client=client, so_far=so_far)

    def _answer(
        self, reply: Reply, client: str, topic: str | None, correlation: bytes | None, send: Callable[[Post], None]
    ) -> None:
        if topic is None and not reply.correlation:
            self._counts.unanswerable += 1
            return
        short = correlation if correlation is not None and len(correlation) <= 256 else reply.correlation.encode()
        where = topic or self._topics.reply(client, reply.correlation)
        send(Post(where, encode(reply.body()), short, REPLY_EXPIRY))
