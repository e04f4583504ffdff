"""The MQTT face: a thread with a real-time loop of its own, one connection, made again whenever it is lost.

On each connection: a new client object, the command subscription first, a command to ourselves that must come back,
then `online`, then everything kept, then answers, journal events in order, telemetry. The thread hands commands to
the core's loop through the clock and reads what to publish from the outbox. Nothing of it can raise into the core,
and an absent broker costs nothing but the outbox, which is bounded.

A command that names no response topic is carried out and answered at `rsp/<client>/<id>`, its client's own level;
where it has no readable id either, it can only be refused, and the refusal is counted as unanswerable.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import aiomqtt
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from devices.clock import Clock
from devices.mqtt.connection import BrokerRefusedError
from devices.mqtt.login import Login
from devices.reading import Reading
from devices.storage import StorageThread
from tilctl.commands.door import Door
from tilctl.config import CONTROLLER
from tilctl.gateway.connection import Backoff, Connection, properties_for_publish
from tilctl.gateway.cursor import CursorFile
from tilctl.gateway.intake import Intake, MqttCounts
from tilctl.gateway.outbox import Outbox, Post, Stream
from tilctl.gateway.payloads import encode, event_payload, value_payload
from tilctl.gateway.protective import ProtectiveLine
from tilctl.gateway.replay import EventReader
from tilctl.gateway.selftest import SelfTest
from tilctl.gateway.topics import Topics
from tilctl.journal.chain import Record

WINDOW = 20
"""Publishes under way at once."""
EVENT_EXPIRY = 7 * 24 * 3600
WILL_DELAY = 5
QUIET = 100
"""Of the failed attempts after the first, one in so many is logged: a line in eight minutes."""
SWEEP = 3.0
"""How long after connecting retained topics of an earlier process are looked for, s."""
REMEMBER = 2.0
"""How often the delivered position is written down where it has changed, s."""

_log = structlog.get_logger("mqtt")


class MqttGateway:
    """The thread. `start` and `close` are for the core; between them only the outbox and the clock connect the two."""

    def __init__(
        self,
        url: str,
        topics: Topics,
        door: Door,
        clock: Clock,
        outbox: Outbox,
        *,
        login: Login = CONTROLLER,
        identity: Mapping[str, Any],
        cursor: Path | None = None,
        reader: EventReader | None = None,
        telemetry_s: float = 0.2,
        telemetry_expiry_s: int = 3,
    ) -> None:
        """Prepare; nothing is opened before `start`.

        `login` is who we are at the broker. `identity` goes into the status topic (boot, version, config hash).
        `cursor`: the file that remembers how far events were delivered. `reader` answers requests for events. Each
        changed value is published at most every `telemetry_s`, and vanishes at the broker after `telemetry_expiry_s`:
        three scan periods.
        """
        self.counts = MqttCounts()
        self._url = url
        self._login = login
        self._topics = topics
        self._outbox = outbox
        self._identity = dict(identity)
        self._cursor = CursorFile(cursor)
        self._files = StorageThread("mqtt-files")  # a disk that hangs must not keep us from telling of it
        self._reader = reader
        self.self_test = SelfTest(topics, login.user)
        self._telemetry = (telemetry_s, telemetry_expiry_s)
        self._intake = Intake(topics, door, clock, self.counts, reader)
        self._line = ProtectiveLine(url, topics, login, self._on_line, outbox.answer)
        self._session = threading.Event()
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], None] | None = None
        self._flush_s = 0.0

    @property
    def connected(self) -> bool:
        """Return whether the broker has us now."""
        return self._session.is_set()

    def start(self) -> None:
        """Start the thread, once; returns at once, whether there is a broker or not."""
        if self._thread is not None:
            return
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main(ready)), name="mqtt", daemon=True)
        self._thread.start()
        ready.wait()

    def close(self, flush_s: float = 2.0) -> None:
        """Send what waits (at most `flush_s`, connected only), say offline, end the thread; may be called twice."""
        thread, self._thread = self._thread, None
        if thread is None or self._stop is None:
            return
        self._flush_s = flush_s
        self._stop()
        thread.join()

    # --- the thread

    async def _main(self, ready: threading.Event) -> None:
        loop = asyncio.get_running_loop()
        stop, wakes = asyncio.Event(), (asyncio.Event(), asyncio.Event())
        self._stop = _from_any_thread(loop, stop.set)
        self._outbox.on_change(_from_any_thread(loop, lambda: [wake.set() for wake in wakes]))
        line = asyncio.create_task(self._line.run(stop), name="hold, stop and abort")
        ready.set()
        backoff, attempt = Backoff(), 0
        while not stop.is_set():
            connections = self.counts.connections
            try:
                await self._connect(stop, wakes, backoff)
            except* (aiomqtt.MqttError, OSError) as group:
                self.counts.failures += 1
                attempt = 1 if self.counts.connections > connections else attempt + 1
                if attempt == 1 or attempt % QUIET == 0:
                    _log.warning("broker lost or refused", url=self._url, why=_reasons(group), attempt=attempt)
            finally:
                self._session.clear()
                self._outbox.lost()
                await self._remember()
            if not stop.is_set():
                await backoff.wait(stop)
        await line  # it ends with `stop`
        self._outbox.on_change(_nothing)
        self._files.close(REMEMBER)
        if self._reader is not None:
            self._reader.close()

    async def _connect(self, stop: asyncio.Event, wakes: Sequence[asyncio.Event], backoff: Backoff) -> None:
        identifier = self._topics.prefix.replace("/", "-")
        async with Connection(self._url, identifier, self._will(), self._login) as connection:
            await connection.listen([self._topics.commands, self.self_test.answers], old=False)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._receive(connection))]
                await self.self_test.once(connection)  # Invariant: online means that commands are heard
                await connection.send(self._topics.status, self._status("online"), retain=True)
                self.counts.connections += 1
                self._outbox.connected()
                for wake in wakes:
                    wake.set()
                work: tuple[Coroutine[Any, Any, None], ...] = (
                    self.self_test.often(connection),
                    self._publish(connection, wakes[0]),
                    self._publish_events(connection, wakes[1]),
                    self._publish_telemetry(connection),
                    self._sweep(connection),
                    self._remember_often(),
                )
                tasks += [group.create_task(part) for part in work]
                if self._reader is not None:
                    tasks.append(group.create_task(self._reader.serve()))
                self._session.set()
                backoff.reset()
                await stop.wait()
                await self._drain()
                await connection.send(self._topics.status, self._status("offline"), retain=True)
                for task in tasks:
                    task.cancel()

    async def _drain(self) -> None:
        """Wait a bounded time until everything is sent."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._flush_s
        while self._outbox.waiting and loop.time() < until:  # noqa: ASYNC110  real time, in steps, bounded
            await asyncio.sleep(0.01)

    def _will(self) -> aiomqtt.Will:
        properties = Properties(PacketTypes.WILLMESSAGE)
        properties.WillDelayInterval = WILL_DELAY
        return aiomqtt.Will(self._topics.status, self._status("offline"), 1, retain=True, properties=properties)

    def _status(self, status: str) -> bytes:
        return encode({"status": status, **self._identity, **self._outbox.facts()})

    async def _remember_often(self) -> None:
        while True:
            await asyncio.sleep(REMEMBER)
            await self._remember()

    async def _remember(self) -> None:
        """Write down how far events were delivered; what a disk that hangs keeps is written down later."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REMEMBER):
                await self._files.run(partial(self._cursor.write, self._outbox.cursor()))

    # --- commands

    async def _receive(self, connection: Connection) -> None:
        async for message in connection.messages:
            self.counts.messages_dropped = max(self.counts.messages_dropped, connection.dropped)
            topic = str(message.topic)
            names = self._topics.read_command(topic)
            if await self.self_test.arrived(connection, topic, bytes(message.payload or b"")):
                continue
            if names is not None:
                self._intake.take(message, self._outbox.answer)
            elif message.retain and message.payload and not self._outbox.is_kept(topic):
                self._outbox.clear(topic)  # a prompt or alarm of an earlier process, over by now

    def _on_line(self, message: aiomqtt.Message) -> None:
        self._intake.take(message, self._line.answer, line=True)

    # --- publishing

    async def _publish(self, connection: Connection, wake: asyncio.Event) -> None:
        while True:
            wake.clear()
            posts = self._outbox.take_answers(WINDOW)
            kept = self._outbox.take_kept(WINDOW)
            news = self._outbox.has_news
            if not posts and not kept and not news:
                await wake.wait()
                continue
            if news:
                await connection.send(self._topics.status, self._status("online"), retain=True)
            await self._send_answers(connection, posts)
            await self._send_all([self._kept(connection, *item) for item in kept])

    async def _publish_events(self, connection: Connection, wake: asyncio.Event) -> None:
        """Beside the rest, for older events come from a file, and the disk may take its time."""
        while True:
            wake.clear()
            stream = self._outbox.next_stream()
            if stream is None:
                await wake.wait()
            elif not await self._send_events(connection, stream):
                return  # the broker does not take events: they wait in the journal until the next connection

    async def _send_answers(self, connection: Connection, posts: list[Post]) -> None:
        sent = False
        try:
            await self._send_all([self._post(connection, post) for post in posts])
            sent = True
        finally:
            if not sent:
                self._outbox.give_back(posts)

    async def _send_events(self, connection: Connection, stream: Stream) -> bool:
        next_events = partial(self._outbox.next_events, stream, WINDOW)
        records = next_events() if self._outbox.in_memory(stream) else await self._files.run(next_events)
        taken = await self._send_all([self._event(connection, stream, record) for record in records])
        if taken and records:
            self._outbox.confirm(stream, records[-1].seq)
        return taken

    async def _send_all(self, sends: list[Coroutine[Any, Any, None]]) -> bool:
        """Publish in order, all under way at once; False when the broker refused one; silence ends the connection."""
        results = await asyncio.gather(*sends, return_exceptions=True)
        refusals = [result for result in results if isinstance(result, BrokerRefusedError)]
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, BrokerRefusedError):
                raise result
        if refusals:
            self.counts.publishes_refused += len(refusals)
            _log.error("publish refused; see the broker's access list", why=str(refusals[0]), count=len(refusals))
        self.counts.publishes += len(results) - len(refusals)
        return not refusals

    async def _post(self, connection: Connection, post: Post) -> None:
        properties = properties_for_publish(expiry=post.expiry, correlation=post.correlation or None)
        await connection.send(post.topic, post.payload, properties=properties)

    async def _kept(self, connection: Connection, topic: str, payload: bytes) -> None:
        await connection.send(topic, payload, retain=True)
        self._outbox.acknowledged(topic, payload)

    async def _event(self, connection: Connection, stream: Stream, record: Record) -> None:
        properties = properties_for_publish(expiry=EVENT_EXPIRY, content_type="application/cloudevents+json")
        payload = event_payload(self._topics, stream, record)
        await connection.send(self._topics.events(stream.unit), payload, properties=properties)

    async def _publish_telemetry(self, connection: Connection) -> None:
        period, expiry = self._telemetry
        seen: dict[tuple[str, str], Reading] = {}
        while True:
            await asyncio.sleep(period)  # real time: at most this often, whatever the scan does
            for scan in self._outbox.take_scans():
                for tag, reading in scan.readings.items():
                    if seen.get((scan.unit, tag)) is reading:
                        continue
                    seen[scan.unit, tag] = reading
                    topic = self._topics.telemetry(scan.unit, tag)
                    properties = properties_for_publish(expiry=expiry)
                    await connection.send(topic, value_payload(scan, reading), 0, retain=True, properties=properties)
                    self.counts.publishes += 1

    async def _sweep(self, connection: Connection) -> None:
        """Find retained topics that an earlier process left behind; `_receive` clears them."""
        try:
            await connection.listen(self._topics.kept)
        except BrokerRefusedError as error:
            _log.error("what an earlier process left retained cannot be removed", why=str(error))
            return
        await asyncio.sleep(SWEEP)
        for topic in self._topics.kept:  # one by one: rumqttd acknowledges each filter of a list
            await connection.unsubscribe(topic)


def _from_any_thread(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> Callable[[], None]:
    def wake() -> None:
        try:
            loop.call_soon_threadsafe(call)
        except RuntimeError:  # the loop is closed: nobody is left to wake
            return

    return wake


def _nothing() -> None:
    """Wake nobody: the thread has ended."""


def _reasons(fault: BaseException) -> str:
    """Return the leaves of an exception group as one line."""
    if isinstance(fault, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", fault)
        return "; ".join(_reasons(part) for part in group.exceptions)
    return str(fault) or type(fault).__name__
