"""The topic tree, `til/v1/<site>/<node>/...`: names made and names read, in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LEVEL = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
MAX_TOPIC = 256
"""Longest response topic that is answered."""


@dataclass(frozen=True, slots=True)
class Topics:
    """The names below one prefix. Unit and command names are levels; alarm, tag and path names are cleaned."""

    prefix: str

    @property
    def status(self) -> str:
        """Return the topic of the controller's own state, retained, also the will."""
        return f"{self.prefix}/status"

    @property
    def head(self) -> str:
        """Return the topic of the journal heads."""
        return f"{self.prefix}/head"

    @property
    def commands(self) -> str:
        """Return the filter for all commands."""
        return f"{self.prefix}/cmd/+/+/+"

    @property
    def kept(self) -> tuple[str, ...]:
        """Return the filters of what is retained and must vanish when it is over."""
        filters = ("prompt", "alm", "state", "dev", "ilk")
        return tuple(f"{self.prefix}/{each}/#" for each in filters)

    def command(self, client: str, unit: str, verb: str) -> str:
        """Return where `client` sends a command."""
        return f"{self.prefix}/cmd/{client}/{unit}/{verb}"

    def reply(self, client: str, command_id: str) -> str:
        """Return where a command is answered when it names no other place."""
        return f"{self.prefix}/rsp/{client}/{command_id}"

    def run(self, unit: str) -> str:
        """Return the topic of a unit's state."""
        return f"{self.prefix}/state/{unit}/run"

    def phase(self, unit: str, path: str) -> str:
        """Return the topic of a step's state."""
        return f"{self.prefix}/state/{unit}/phase/{clean(path, '/')}"

    def estimate(self, unit: str, name: str) -> str:
        """Return the topic of an estimate."""
        return f"{self.prefix}/state/{unit}/estimate/{clean(name)}"

    def telemetry(self, unit: str, tag: str) -> str:
        """Return the topic of a value."""
        return f"{self.prefix}/tm/{unit}/{clean(tag)}"

    def events(self, unit: str) -> str:
        """Return the topic of a unit's journal events."""
        return f"{self.prefix}/evt/{unit}"

    def alarm(self, unit: str, alarm: str) -> str:
        """Return the topic of one alarm."""
        return f"{self.prefix}/alm/{unit}/{clean(alarm)}"

    def interlock(self, unit: str, name: str) -> str:
        """Return the topic of an interlock or a permissive."""
        return f"{self.prefix}/ilk/{unit}/{clean(name)}"

    def alarm_events(self, unit: str) -> str:
        """Return the topic of the transitions of a unit's alarms."""
        return f"{self.prefix}/almevt/{unit}"

    def notify(self, unit: str) -> str:
        """Return the topic of what people are told of a unit's alarms."""
        return f"{self.prefix}/notify/{unit}"

    def prompt(self, unit: str, prompt: str) -> str:
        """Return the topic of one open prompt."""
        return f"{self.prefix}/prompt/{unit}/{clean(prompt)}"

    def device(self, device: str) -> str:
        """Return the topic of how well a device is."""
        return f"{self.prefix}/dev/{clean(device)}"

    def read_command(self, topic: str) -> tuple[str, str, str] | None:
        """Return client, unit and verb of a command topic, None for any other topic."""
        start = f"{self.prefix}/cmd/"
        levels = topic[len(start) :].split("/")
        if not topic.startswith(start) or len(levels) != 3 or not all(_LEVEL.match(level) for level in levels):
            return None
        return levels[0], levels[1], levels[2]

    def is_reply_of(self, topic: str, client: str) -> bool:
        """Return whether a response topic belongs to a client. Invariant: nobody makes us write elsewhere."""
        start = f"{self.prefix}/rsp/{client}/"
        wild = "+" in topic or "#" in topic or "\0" in topic
        return topic.startswith(start) and len(topic) > len(start) and len(topic) <= MAX_TOPIC and not wild


def clean(text: str, keep: str = "") -> str:
    """Return text that may stand in a topic: wildcards and, unless kept, slashes become `_`."""
    return "".join("_" if c in "+#\0" or (c == "/" and c not in keep) else c for c in text) or "_"
