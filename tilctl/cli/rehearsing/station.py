"""A person's station: commands as real envelopes through the real door, repeated until they are answered.

What the controller acknowledged is kept, so that after a power cut it can be asked whether the record still has it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tilctl.cli.rehearsing.life import Life
from tilctl.commands.door import Door, Reply
from tilctl.commands.envelope import RawCommand, rfc3339

CLIENT = "operator"
LIFE_S = 30.0  # s that a command is valid
REPEAT_S = 10.0  # s after which an unanswered command is sent again
ANSWERED_WITHIN = 240.0  # s after which a command on record whose answer died with its controller is given up
PATIENCE_S = 7 * 86400.0  # s after which a person gives up on one command
FINAL = ("done", "failed", "refused", "already")


@dataclass
class Acknowledged:
    """What the controller said of one command: its place on the record, and its final answer."""

    unit: str
    verb: str
    seq: int | None = None
    hash: str | None = None
    status: str = ""
    code: str = ""
    text: str = ""


@dataclass
class Connected:
    """The controller as the station sees it at the moment; None while it is down."""

    life: Life
    door: Door


@dataclass
class Station:
    """Sends commands of one person to one unit."""

    unit: str
    wall: Callable[[], datetime]
    on_reply: Callable[[Reply], None]
    known: dict[str, Acknowledged] = field(default_factory=dict[str, Acknowledged])
    sent: int = 0
    connected: Connected | None = None
    _up: asyncio.Event = field(default_factory=asyncio.Event)

    def connect(self, connected: Connected | None) -> None:
        """Take note that the controller is there, or is gone (None)."""
        self.connected = connected
        if connected is None:
            self._up.clear()
        else:
            self._up.set()

    async def request(
        self, command_id: str, verb: str, args: Mapping[str, Any] | None = None, data: Mapping[str, Any] | None = None
    ) -> Acknowledged:
        """Send a command, again and again with the same id, until its final answer comes; return what was said.

        The status is "accepted" where the answer died with its controller, "" where nobody answered in seven days.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE_S
        said = self.known.setdefault(command_id, Acknowledged(self.unit, verb))
        answered = asyncio.Event()
        on_record = [False]
        again = 0.0  # virtual time of the first time-out after the command was said to be on record

        def take(reply: Reply) -> None:
            self.on_reply(reply)
            if reply.journal_seq is not None and reply.hash is not None:
                said.seq, said.hash = reply.journal_seq, reply.hash
            if reply.status == "accepted":
                on_record[0] = True
            if reply.status in FINAL and reply.code != "busy":
                said.status, said.code, said.text = reply.status, reply.code, reply.text
                answered.set()

        while loop.time() < end:
            await self._up.wait()
            self._submit(command_id, verb, args or {}, data or {}, take)
            try:
                async with asyncio.timeout(REPEAT_S):
                    await answered.wait()
            except TimeoutError:
                if on_record[0] and again == 0.0:
                    again = loop.time()
                if again and loop.time() - again > ANSWERED_WITHIN:
                    said.status = "accepted"
                    break
                continue
            break
        return said

    def _submit(
        self,
        command_id: str,
        verb: str,
        args: Mapping[str, Any],
        data: Mapping[str, Any],
        answer: Callable[[Reply], None],
    ) -> None:
        here = self.connected
        if here is None:
            return
        now = self.wall()
        envelope = {
            "specversion": "1.0",
            "id": command_id,
            "source": CLIENT,
            "type": f"til.cmd.{verb}.v1",
            "subject": self.unit,
            "time": rfc3339(now),
            "exp": rfc3339(now + timedelta(seconds=LIFE_S)),
            "data": {**data, "args": dict(args)},
        }
        raw = RawCommand(CLIENT, self.unit, verb, json.dumps(envelope).encode())
        self.sent += 1
        here.life.context.run(here.door.submit, raw, lambda reply: None if here.life.dead else answer(reply))
