"""Simulated instruments behind an MQTT broker: what Shelly, Tasmota and Pioreactor publish and obey.

Topics of values, presence and will come from the profile that the driver reads; what a device makes of a command is
written here after its maker's documents, so that a wrong template in a profile is found.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import aiomqtt

from devices.clock import Clock
from devices.mqtt.connection import Connection
from devices.mqtt.login import NOBODY, Login
from devices.mqtt.payload import filled
from devices.mqtt.profile import at_prefix
from devices.mqtt.types import MqttProfile
from devices.mqtt.wire import Connect, Wire

RETRY_S = 0.2
MOST_BYTES = 64 * 1024


class MqttFaults:
    """What is wrong with a simulated instrument now, for tests and scripts to set."""

    def __init__(self) -> None:
        self.ack_lost = False
        """It obeys and does not answer; its states it publishes."""
        self.ack_delay_s = 0.0
        """Its answer comes so much later, s; what it says of its state does not."""
        self.wrong_id = False
        """It answers as if somebody else had asked."""
        self.deaf = False
        """It takes no command; asked for its state, it answers."""
        self.mute = False
        """It publishes nothing at all, and its connection stands."""


class MqttSimulator:
    """One simulated instrument with its own connection, made again whenever it is lost. Subclasses are the devices."""

    def __init__(
        self,
        profile: MqttProfile,
        url: str,
        clock: Clock,
        prefix: str = "",
        *,
        login: Login = NOBODY,
        connect: Connect = Connection,
    ) -> None:
        """Describe an instrument at `prefix` ("": that of the profile) of the broker at `url`.

        `login` is who it is there; `connect` makes its connections: over TCP, unless told otherwise.
        """
        self.profile = at_prefix(profile, prefix) if prefix else profile
        self.prefix = self.profile.prefix
        self.faults = MqttFaults()
        self.commands = 0
        """Commands that were carried out."""
        self._url = url
        self._login = login
        self._connect = connect
        self._clock = clock
        self._places = {"prefix": self.prefix}
        sim = profile.sim
        self._values: Mapping[str, str] = {} if sim is None else sim.values
        self._connection: Wire | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.Task[None] | None = None
        self._late: set[asyncio.Task[None]] = set()
        self._up = asyncio.Event()

    @property
    def listens(self) -> tuple[str, ...]:
        """Return the topics on which it takes commands."""
        raise NotImplementedError

    async def hello(self) -> None:
        """Publish what it publishes when it comes."""
        raise NotImplementedError

    async def obey(self, topic: str, payload: str) -> None:
        """Do what a message says."""
        raise NotImplementedError

    async def start(self) -> None:
        """Come to the broker; returns when it is there."""
        self.begin()
        await self._up.wait()

    def begin(self) -> None:
        """Begin to come to the broker, whether there is one or not."""
        if self._task is None:
            self._task = asyncio.create_task(self._own(), name=f"simulated {self.prefix}")

    async def close(self) -> None:
        """Vanish, as with a power cut: the broker tells with its will."""
        tasks = [task for task in (self._task, self._timer, *self._late) if task is not None]
        self._task = self._timer = None
        if self._connection is not None:
            self._connection.cut()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _own(self) -> None:
        while True:
            with contextlib.suppress(aiomqtt.MqttError, OSError, TimeoutError):
                await self._session()
            self._up.clear()
            await self._clock.sleep(RETRY_S)

    async def _session(self) -> None:
        online = self.profile.online
        topic = filled(online.topic, self._places)
        will = aiomqtt.Will(topic, online.lost, qos=1, retain=True)
        identifier = f"sim-{self.prefix.replace('/', '-')}"
        connection = self._connect(self._url, identifier, will, self._login, most_bytes=4 * MOST_BYTES)
        try:
            async with connection:
                self._connection = connection
                await connection.listen(self.listens, old=True)
                await self.hello()
                self._up.set()
                async for message in connection.messages:
                    # a retained command is an old one: it is not carried out
                    if not message.retain and len(message.payload) <= MOST_BYTES:
                        await self.obey(message.topic.value, message.payload.decode(errors="replace"))
        finally:
            self._connection = None

    async def say(self, topic: str, payload: str, *, retain: bool = False) -> None:
        """Publish, where it is connected."""
        if self._connection is not None and not self.faults.mute:
            await self._connection.send(topic, payload.encode(), retain=retain)

    async def answer(self, topic: str, payload: str) -> None:
        """Publish the answer to a command, late or never where a fault says so."""
        if self.faults.ack_lost:
            return
        if not self.faults.ack_delay_s:
            await self.say(topic, payload)
            return

        async def later(seconds: float) -> None:
            await self._clock.sleep(seconds)
            with contextlib.suppress(aiomqtt.MqttError):
                await self.say(topic, payload)

        task = asyncio.create_task(later(self.faults.ack_delay_s), name="late answer")
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    def run_timer(self, seconds: float | None) -> None:
        """Let `expired` be called in so many seconds, and not before; None stops the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds:
            self._timer = asyncio.create_task(self._expire(seconds), name="timer of a simulated plug")

    async def _expire(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._timer = None
        with contextlib.suppress(aiomqtt.MqttError):
            await self.expired()

    async def expired(self) -> None:
        """Do what the timer was for."""

    def topic(self, block: str) -> str:
        """Return the topic of a block."""
        return filled(self.profile.topics[block].topic, self._places)

    def value(self, point: str, otherwise: float) -> float:
        """Return what `sim.values` of the profile gives a point."""
        return float(self._values.get(point, otherwise))

    async def online(self) -> None:
        """Say that it is there."""
        word = min(self.profile.online.payloads)
        await self.say(filled(self.profile.online.topic, self._places), word, retain=True)
