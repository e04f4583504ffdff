"""A station: sends commands over MQTT 5, waits for the answer that counts, sees the open prompts.

Used by `tilctl batch ...` and by the simulated operator. Success is the controller's reply, never the broker's
acknowledgement; until it comes the same command is sent again with the same id, which is safe by design.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, cast
from uuid import uuid4

import aiomqtt

from devices.clock import Clock, SystemClock
from devices.mqtt.login import Login
from tilctl.commands.envelope import rfc3339
from tilctl.commands.verbs import Code
from tilctl.gateway.connection import Backoff, Connection, properties_for_publish
from tilctl.gateway.topics import Topics

REPEAT_S = 2.0
"""After how long an unanswered command is sent again."""
UNSENT_S = 0.2
"""After how long one is sent again that the broker did not take."""
LIFE_S = 30
"""How long a command is valid, s."""
MAX_PROMPTS = 1000
_FINAL = ("done", "failed", "refused", "already")
_AGAIN = "online again"  # no answer: the controller has announced itself


class NoAnswerError(Exception):
    """No final answer came in time; says which, and what to look at."""


class StationClient:
    """One client of one controller: `async with StationClient(...) as station`."""

    def __init__(
        self, url: str, topics: Topics, name: str, *, login: Login | None = None, watch_prompts: bool = False
    ) -> None:
        """Prepare a client called `name`, which is its level in the topic tree; must be made inside its loop.

        `login` has the files that prove it to be this client.
        """
        self._url = url
        self._topics = topics
        self._name = name
        self._login = login or Login(name)
        self._watch = watch_prompts
        self._tag = uuid4().hex[:8]
        self._clock: Clock = SystemClock()
        self._stop = asyncio.Event()
        self._online = asyncio.Event()
        self._status: dict[str, Any] = {}
        self._connection: Connection | None = None
        self._waiting: dict[str, list[asyncio.Queue[dict[str, Any]]]] = {}  # two may ask for the answer to one id
        self._prompts: dict[str, dict[str, Any]] = {}
        self._changed: asyncio.Queue[str] = asyncio.Queue(MAX_PROMPTS)
        self._task: asyncio.Task[None] | None = None
        self._announced = 0  # how often the controller said that it is online
        self._trouble = "no connection was tried"

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"station {self._name}")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._task is not None:
            await self._task
        self._clock.close()

    async def online(self, timeout_s: float = 10.0) -> dict[str, Any]:
        """Wait until the controller says that it is online; returns what it says. Raises NoAnswerError."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._online.wait()
        except TimeoutError:
            raise NoAnswerError(self._why("the controller is not online")) from None
        return self._status

    async def request(
        self,
        unit: str,
        verb: str,
        args: Mapping[str, Any] | None = None,
        *,
        command_id: str = "",
        data: Mapping[str, Any] | None = None,
        actor: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> dict[str, Any]:
        """Send a command and return its final answer; `data` adds `batch`, `expect`, `reason` or `effective`.

        Raises NoAnswerError when none came in time: whether the command was carried out is then unknown, and asking
        again with the same `command_id` tells.
        """
        command_id = command_id or f"{self._name}-{uuid4()}"
        answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue(16)
        self._waiting.setdefault(command_id, []).append(answers)
        body = {"data": {**(data or {}), "args": dict(args or {})}, "actor": dict(actor) if actor else None}
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    await self._online.wait()
                    announced = self._announced
                    sent = await self._send(unit, verb, command_id, body)
                    answer = await self._final(answers, REPEAT_S if sent else UNSENT_S, announced)
                    if answer is not None:
                        return answer
        except TimeoutError:
            raise NoAnswerError(self._why(f"{verb} {command_id} was not answered within {timeout_s:.0f} s")) from None
        finally:
            self._waiting[command_id].remove(answers)
            if not self._waiting[command_id]:
                del self._waiting[command_id]

    async def next_prompt(self) -> dict[str, Any]:
        """Wait for a prompt that is open; a prompt comes again after a reconnect."""
        while True:
            topic = await self._changed.get()
            if topic in self._prompts:
                return self._prompts[topic]

    async def _send(self, unit: str, verb: str, command_id: str, body: Mapping[str, Any]) -> bool:
        now = self._clock.now()
        envelope = {
            "specversion": "1.0",
            "id": command_id,
            "source": self._name,
            "type": f"til.cmd.{verb}.v1",
            "subject": unit,
            "time": rfc3339(now),
            "exp": rfc3339(now + timedelta(seconds=LIFE_S)),
            **body,
        }
        properties = properties_for_publish(
            expiry=LIFE_S,
            correlation=command_id.encode(),
            response_topic=self._topics.reply(self._name, command_id),
            content_type="application/json",
        )
        if self._connection is None:
            return False
        topic = self._topics.command(self._name, unit, verb)
        try:
            await self._connection.send(topic, json.dumps(envelope).encode(), properties=properties)
        except aiomqtt.MqttError as error:  # sent again until the answer comes
            self._trouble = str(error)
            return False
        return True

    async def _final(
        self, answers: asyncio.Queue[dict[str, Any]], patience_s: float, announced: int
    ) -> dict[str, Any] | None:
        """Return the final answer, None when it is time to send again: also when the controller has come back since."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while True:
                    answer = await answers.get()
                    if answer.get("code") in (Code.BUSY, Code.RECOVERING):
                        continue
                    if answer.get("status") == _AGAIN:
                        if answer["announced"] > announced:
                            return None
                        continue
                    if answer.get("status") in _FINAL:
                        return answer
        return None

    async def _run(self) -> None:
        backoff = Backoff()
        while not self._stop.is_set():
            try:
                await self._session(backoff)
            except* (aiomqtt.MqttError, OSError) as group:
                self._trouble = str(group.exceptions[0])
            finally:
                self._connection = None
                self._online.clear()
                self._prompts.clear()
            if not self._stop.is_set():
                await backoff.wait(self._stop)

    async def _session(self, backoff: Backoff) -> None:
        # its own for each station: a broker cuts off the elder of two with one identifier
        identifier = f"{self._topics.prefix.replace('/', '-')}-{self._name}-{self._tag}"
        async with Connection(self._url, identifier, login=self._login) as connection, asyncio.TaskGroup() as group:
            reader = group.create_task(self._read(connection))
            topics = [self._topics.reply(self._name, "+"), self._topics.status]
            if self._watch:
                topics.append(self._topics.kept[0])
            self._connection = connection
            await connection.listen(topics)
            self._trouble = "the broker is there, the controller is not"
            backoff.reset()
            await self._stop.wait()
            reader.cancel()

    async def _read(self, connection: Connection) -> None:
        async for message in connection.messages:
            topic, payload = str(message.topic), bytes(message.payload)
            try:
                body: object = json.loads(payload) if payload else {}
            except ValueError:
                continue
            if isinstance(body, dict):
                self._take(topic, cast("dict[str, Any]", body))

    def _take(self, topic: str, body: dict[str, Any]) -> None:
        if topic == self._topics.status:
            self._status = body
            if body.get("status") == "online":
                self._online.set()
                self._ask_again()
            else:
                self._online.clear()
        elif self._topics.is_reply_of(topic, self._name):
            _put(self._waiting.get(topic.rpartition("/")[2], []), body)  # also one that could not be read
        elif not body:
            self._prompts.pop(topic, None)
        else:
            self._prompts[topic] = body
            if not self._changed.full():
                self._changed.put_nowait(topic)

    def _ask_again(self) -> None:
        """Have what was not answered sent again at once: a controller that has come back may not know of it."""
        self._announced += 1
        for waiting in self._waiting.values():
            _put(waiting, {"status": _AGAIN, "announced": self._announced})

    def _why(self, what: str) -> str:
        if self._online.is_set():
            return f"{what}; the controller is online: see its log"
        return f"{what}; {self._trouble}. Broker: {self._url}, topics: {self._topics.prefix}/#"


def _put(waiting: Iterable[asyncio.Queue[dict[str, Any]]], body: dict[str, Any]) -> None:
    for answers in waiting:
        if not answers.full():
            answers.put_nowait(body)
