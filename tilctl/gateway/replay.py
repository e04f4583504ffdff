"""The verb `events`: what is on a record, by range, for a consumer that has found a gap.

Read from the file, in the MQTT thread's own helper, one request at a time: the core does not notice it. Open and
closed batches alike, and as batch `site` the site's own record.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from devices.storage import StorageThread
from tilctl.commands.door import Reply
from tilctl.commands.envelope import RawCommand, RefusedError, check_fresh, open_envelope, peek_id, rfc3339
from tilctl.commands.verbs import Code, EventsArgs
from tilctl.engine.port import Command
from tilctl.gateway.outbox import Stream
from tilctl.gateway.payloads import event_payload
from tilctl.gateway.topics import Topics
from tilctl.journal.chain import Record
from tilctl.journal.events import BatchCreated
from tilctl.journal.verify import read

VERB = "events"
PAGE_BYTES = 48 * 1024
"""Of events in one answer: with what is around them it stays under the brokers' 64 KiB."""
MAX_WAITING = 16
"""Requests that wait for their turn; more are answered as busy."""

CLOSE_WITHIN = 2.0
"""How long a page may still be read at the end, s."""

Answer = Callable[[Reply], None]


@dataclass(frozen=True, slots=True)
class _Request:
    raw: RawCommand
    answer: Answer


class EventReader:
    """Answers `events`; belongs to the MQTT thread."""

    def __init__(
        self,
        topics: Topics,
        units: Sequence[str],
        file_of: Callable[[str, str], Path],
        latest: Callable[[str], str],
        now: Callable[[], datetime],
    ) -> None:
        """Take the units of the suite, the file of a unit's batch, the batch that a unit had last, the real time."""
        self._topics = topics
        self._units = tuple(units)
        self._file_of = file_of
        self._latest = latest
        self._now = now
        self._files = StorageThread("event-reader")
        self._requests: asyncio.Queue[_Request] = asyncio.Queue(MAX_WAITING)

    def ask(self, raw: RawCommand, answer: Answer) -> None:
        """Put a request in the queue; answers at once where there is no room."""
        try:
            self._requests.put_nowait(_Request(raw, answer))
        except asyncio.QueueFull:
            text = f"{MAX_WAITING} requests for events wait: repeat this one, with the same id, in a few seconds"
            answer(self._refusal(peek_id(raw.payload), Code.BUSY, text))

    async def serve(self) -> None:
        """Answer one request after the other, without end."""
        while True:
            request = await self._requests.get()
            request.answer(await self._files.run(partial(self._answered, request.raw)))

    def close(self) -> None:
        """End the helper."""
        self._files.close(CLOSE_WITHIN)

    def _answered(self, raw: RawCommand) -> Reply:
        try:
            envelope, command = open_envelope(raw)
            check_fresh(envelope, self._now())
            data = self._page(command)
        except RefusedError as refusal:
            return self._refusal(refusal.command_id, refusal.code, refusal.text)
        return Reply(command.id, "done", "", "", rfc3339(self._now()), data=data)

    def _refusal(self, command_id: str, code: str, text: str) -> Reply:
        return Reply(command_id, "refused", code, text, rfc3339(self._now()))

    def _page(self, command: Command) -> dict[str, Any]:
        args = EventsArgs.model_validate(command.args)
        if command.unit not in (*self._units, "site"):
            known = ", ".join((*self._units, "site"))
            raise RefusedError(Code.UNKNOWN_UNIT, f"no unit is called {command.unit!r}; here: {known}", command.id)
        batch = "site" if command.unit == "site" else args.batch or self._latest(command.unit)
        if not batch:
            raise RefusedError(Code.NO_RECORD, f"{command.unit} has no batch: name one (`batch`)", command.id)
        records, verdict = read(self._file_of(command.unit, batch))
        if not records or not _belongs(records[0], command.unit):
            why = verdict.reason or f"it is of another unit than {command.unit}"
            raise RefusedError(Code.NO_RECORD, f"no record of {batch} here: {why}", command.id)
        events: list[dict[str, Any]] = []
        size, last = 0, args.to or records[-1].seq
        stream = Stream(command.unit, batch, 0, 0)
        for record in records[args.first - 1 : min(last, args.first - 1 + args.limit)]:
            payload = event_payload(self._topics, stream, record)
            size += len(payload)
            if events and size > PAGE_BYTES:
                break
            events.append(json.loads(payload))
        following = args.first + len(events)
        more = bool(events) and following <= min(last, records[-1].seq)
        return {
            "unit": command.unit, "batch": batch, "events": events, "next": following if more else None,
            "head": {"seq": records[-1].seq, "hash": records[-1].hash}, "trouble": verdict.reason,
        }  # fmt: skip


def _belongs(first: Record, unit: str) -> bool:
    return unit == "site" or (isinstance(first.event, BatchCreated) and first.event.unit == unit)
