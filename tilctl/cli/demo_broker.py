"""What is to be seen to before a demonstration uses a broker: it is there, it is free, no earlier run is left on it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from importlib.resources import files
from pathlib import Path

import aiomqtt

from devices.mqtt.login import address
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.config import CONTROLLER, load_site
from tilctl.gateway.connection import Connection
from tilctl.gateway.topics import Topics

WITHIN_S = 3.0  # of real time: a broker that takes longer is no good for a demonstration
SETTLED_S = 0.3  # without a further message: all that was retained has come
AT_MOST_S = 1.0  # where messages never end
MOST_MESSAGES = 10_000


def require_free(url: str) -> None:
    """Return when the broker answers, no controller is on our topics, and they hold nothing of an earlier one.

    Raises CommandFailed within five seconds otherwise.
    """
    try:
        host, port = address(url)
    except ValueError as error:
        raise CommandFailed(Exit.BAD_INPUT, f"--mqtt-url: {error}") from error
    prefix = load_site(Path(str(files("tilctl.cli") / "demo-site.yaml"))).topic_prefix
    try:
        asyncio.run(_look(url, Topics(prefix)))
    except (aiomqtt.MqttError, OSError, TimeoutError) as error:
        why = "no answer" if isinstance(error, TimeoutError) else str(error)
        text = f"no MQTT 5 broker can be used at {host}:{port} ({why}); start one, or leave --mqtt-url out"
        raise CommandFailed(Exit.UNAVAILABLE, text) from error


async def _look(url: str, topics: Topics) -> None:
    async with asyncio.timeout(WITHIN_S), Connection(url, f"tilctl-demo-{os.getpid()}", login=CONTROLLER) as connection:
        await connection.listen([topics.status, *topics.kept])
        found = await _retained(connection)
        status = found.pop(topics.status, b"")
        if _online(status):
            text = (
                f"a controller is online at {url} under {topics.prefix} already: end it, or give another broker. "
                f"If it was killed just now, wait 10 s; if it is long gone: mosquitto_pub -r -n -t {topics.status}"
            )
            raise CommandFailed(Exit.UNAVAILABLE, text)
        for topic in found:  # an operator would answer prompts that nobody asks any more
            await connection.send(topic, b"", retain=True)


async def _retained(connection: Connection) -> dict[str, bytes]:
    """Return what the broker held on the topics that were asked for; what is published meanwhile is not of it."""
    found: dict[str, bytes] = {}
    messages = aiter(connection.messages)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(AT_MOST_S):
            while len(found) < MOST_MESSAGES:
                async with asyncio.timeout(SETTLED_S):
                    message = await anext(messages)
                if message.retain:
                    found[str(message.topic)] = bytes(message.payload)
    return found


def _online(status: bytes) -> bool:
    try:
        return json.loads(status).get("status") == "online"
    except (ValueError, AttributeError):
        return False
