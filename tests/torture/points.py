"""Crash points: the controller kills itself at every boundary of its record, its writes and its answers, once at each.

A file remembers at which boundaries it has died, so that each life gets one boundary further.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from devices.modbus.bus import ModbusBus
from devices.modbus.link import Link
from devices.modbus.pdu import Ask
from tilctl.gateway.outbox import Outbox, Post
from tilctl.journal.chain import Row
from tilctl.journal.storage import EventFile

TURNS = 4  # of the loop until a request is in the kernel's hands


class Boundaries:
    """Dies at each boundary once; `sparing` passes over those at which time is lost by rights.

    That is inside a transfer, and while it is open whether the freezer has taken its start.
    """

    def __init__(self, path: Path, *, sparing: bool) -> None:
        self._path = path
        self._sparing = sparing
        self._costly: set[str] = set()  # paths of steps in which a kill may cost time
        self.last = "boot"
        self.died = set(path.read_text().splitlines()) if path.exists() else set[str]()

    def reach(self, name: str) -> None:
        """Die here unless that was done before."""
        if name in self.died or (self._sparing and self._costly):
            return
        with self._path.open("a") as file:
            file.write(name + "\n")
        os.kill(os.getpid(), signal.SIGKILL)

    def seen(self, event: Mapping[str, Any]) -> None:
        """Note which transfers are under way, and which start of the freezer has not been seen to have begun."""
        kind, path = event["kind"], event.get("path", "")
        if (kind == "step_started" and event["verb"] == "transfer") or (
            kind == "intent_opened" and event["action"] == "start"
        ):
            self._costly.add(path)
        elif kind in ("step_completed", "freeze_sampled"):
            self._costly.discard(path)


def label(event: dict[str, Any]) -> str:
    """Return what an event is, without what differs from life to life."""
    names = ("path", "phase", "tag", "prompt", "container", "alarm", "mark", "command_id", "to_state", "status", "code")
    return _bare(" ".join([event["kind"], *(str(event[name]) for name in names if event.get(name))]))


def _bare(name: str) -> str:
    """Return a name without the numbers of commands: a person who presses again makes no new boundary."""
    return re.sub(r"-again-\d+", "", re.sub(r"(hands-\d+-[a-z-]+)-\d+", r"\1", name))


def install(path: Path, *, sparing: bool) -> None:
    """Put crash points into the product's classes, in this process."""
    marks = Boundaries(path, sparing=sparing)
    for past in _past(path.parent):
        marks.seen(past)
    _commits(marks)
    _writes(marks)
    _answers(marks)


def _past(folder: Path) -> list[dict[str, Any]]:
    """Return the events of the batch's record so far."""
    from tilctl.journal.verify import read  # noqa: PLC0415

    files = [*folder.glob("data/batches/*.db")]
    return [asdict(record.event) for file in files for record in read(file)[0]]


def _commits(marks: Boundaries) -> None:
    write = EventFile.write

    def stopping(self: EventFile, rows: Sequence[Row]) -> None:
        events = [json.loads(row.event) for row in rows]
        name = label(events[0])
        marks.reach(f"before the commit of {name}")
        write(self, rows)
        marks.last = label(events[-1])
        for event in events:
            marks.seen(event)
        marks.reach(f"after the commit of {marks.last}")

    EventFile.write = stopping


def _writes(marks: Boundaries) -> None:
    write, exchange = ModbusBus.write, Link.exchange

    async def writing(self: ModbusBus, unit: int, fc: int, addr: int, words: Sequence[int], **how: Any) -> None:
        where = f"the write to {self.name}/{unit}/{addr} after {marks.last}"
        marks.reach(f"before {where}")
        await write(self, unit, fc, addr, words, **how)
        marks.reach(f"after {where}")

    async def exchanging(self: Link, ask: Ask, timeout_s: float) -> list[int]:
        if not ask.words:
            return await exchange(self, ask, timeout_s)
        reply = asyncio.ensure_future(exchange(self, ask, timeout_s))
        for _ in range(TURNS):
            await asyncio.sleep(0)
        if not reply.done():
            marks.reach(f"before the reply to the write {ask.unit}/{ask.addr} after {marks.last}")
        return await reply

    ModbusBus.write = writing  # type: ignore[method-assign]
    Link.exchange = exchanging  # type: ignore[method-assign]


def _answers(marks: Boundaries) -> None:
    answer = Outbox.answer

    def answering(self: Outbox, post: Post) -> None:
        marks.reach(_bare(f"before the answer {json.loads(post.payload)['id']}"))
        answer(self, post)

    Outbox.answer = answering  # type: ignore[method-assign]
