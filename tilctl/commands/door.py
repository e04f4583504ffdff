"""The one door for every command: schema, freshness, idempotency, what the sender saw; then controller and answers.

Each command gets `accepted` when it is on disk and then `done`, `failed`, `refused` or `already`. A refusal has a
code and a text, is answered, counted and handed to `on_refusal`. The same id with the same content gets the answer
that it got before, never a second execution. The door journals nothing itself and keeps nothing but the commands
under way: what was answered is asked from the controller, which has it from the record.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from devices.clock import Clock
from tilctl.commands.envelope import Envelope, RawCommand, RefusedError, check_fresh, open_envelope, rfc3339
from tilctl.commands.verbs import VERBS, Code
from tilctl.engine.port import SITE, Command, ControllerPort, Outcome

MAX_UNDER_WAY = 64
"""Commands under way at once before others are refused as busy."""
MAX_PROTECTIVE = 256
"""Room for hold, stop and abort beyond that."""
MAX_WAITERS = 8
"""Repetitions of one command under way that are answered when it ends; the station asks again for more."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `t` is the controller's time; `data` is what was asked for (`status`, and the open `prompts`)."""

    correlation: str
    status: str
    code: str
    text: str
    t: str
    state: str | None = None
    state_version: int | None = None
    journal_seq: int | None = None
    hash: str | None = None
    data: Mapping[str, Any] | None = None

    def body(self) -> dict[str, Any]:
        """Return the answer as it is published; its id follows from the command's and the status."""
        body: dict[str, Any] = {"id": f"{self.correlation}:{self.status}"}
        for name in ("correlation", "status", "code", "text", "state", "state_version", "journal_seq", "hash", "t"):
            body[name] = getattr(self, name)
        if self.data is not None:
            body["data"] = dict(self.data)
        return body


Answer = Callable[[Reply], None]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command that was turned away at the door, for the site's record."""

    client: str
    unit: str
    verb: str
    command_id: str
    code: str
    text: str


@dataclass(slots=True)
class DoorCounts:
    """What came to the door since boot."""

    received: int = 0
    repeated: int = 0
    answered: Counter[str] = field(default_factory=Counter[str])
    """Final answers by status."""
    refused: Counter[str] = field(default_factory=Counter[str])
    """Refusals by code, the controller's included."""


@dataclass(slots=True)
class _Flight:
    """A command under way, and who waits for its end."""

    command: Command
    waiters: list[Answer]
    accepted: tuple[int, str] | None = None


class Door:
    """Takes commands on the core's loop and sees each to its answer."""

    def __init__(
        self,
        controller: ControllerPort,
        clock: Clock,
        wall: Callable[[], datetime],
        *,
        scheduled: bool = False,
        on_refusal: Callable[[Refusal], None] | None = None,
    ) -> None:
        """Stand before `controller`.

        `wall` is the real clock (UTC), in a rehearsal too: freshness is about the station. `scheduled`: an answer
        may carry its own time of effect (site file, `commands.scheduled`).
        """
        self._controller = controller
        self._clock = clock
        self._wall = wall
        self._scheduled = scheduled
        self._on_refusal = on_refusal
        self._under_way: dict[tuple[str, str], _Flight] = {}
        self._tasks: dict[asyncio.Task[None], _Flight] = {}
        self.counts = DoorCounts()

    @property
    def under_way(self) -> int:
        """Return how many commands are under way."""
        return len(self._under_way)

    def submit(self, raw: RawCommand, answer: Answer) -> None:
        """Take one message and call `answer` on this loop, now or later, once for each answer.

        Whatever is sent, nothing is raised.
        """
        self.counts.received += 1
        try:
            self._take(raw, answer)
        except RefusedError as refusal:
            self._refuse(raw, refusal, answer)

    async def close(self) -> None:
        """Give up what is under way; a station that repeats its command finds it on the record."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _take(self, raw: RawCommand, answer: Answer) -> None:
        envelope, command = open_envelope(raw)
        if VERBS[command.verb].beside:
            raise RefusedError(Code.UNKNOWN_VERB, f"{command.verb} is answered over MQTT only", command.id)
        if raw.unit not in self._controller.units() and not (raw.unit == SITE and VERBS[command.verb].of_site):
            known = ", ".join(self._controller.units())
            raise RefusedError(Code.UNKNOWN_UNIT, f"no unit is called {raw.unit!r}; here: {known}", command.id)
        if self._repeated(command, answer):
            self.counts.repeated += 1
            return
        self._check_fresh(envelope, command)
        if command.verb == "status":
            status = dict(self._controller.status(command.unit))
            if command.unit != SITE:
                status["prompts"] = self._controller.prompts(command.unit)
                status["imported"] = self._controller.imported(command.unit)
            answer(self._reply(command, Outcome("done"), data=status))
            self.counts.answered["done"] += 1
            return
        self._admit(envelope, command)
        flight = _Flight(command, [answer])
        self._under_way[command.unit, command.id] = flight
        task = asyncio.get_running_loop().create_task(self._carry_out(flight), name=f"command {command.id}")
        self._tasks[task] = flight
        task.add_done_callback(self._ended)

    def _check_fresh(self, envelope: Envelope, command: Command) -> None:
        """Judge by the clocks.  Invariant: a hold is heard however wrong one of them is; it harms nothing late."""
        if command.verb == "hold":
            return
        try:
            check_fresh(envelope, self._wall())
        except RefusedError as refusal:
            if not VERBS[command.verb].protective:
                raise
            text = f"{refusal.text}; a hold is heard whatever the clocks say"
            raise RefusedError(refusal.code, text, command.id) from None

    def _repeated(self, command: Command, answer: Answer) -> bool:
        """Answer a command whose id is known. Invariant: one id, one execution."""
        flight = self._under_way.get((command.unit, command.id))
        stored = self._controller.known_command(command.unit, command.id)
        known = flight.command.content_sha256 if flight else stored.content_sha256 if stored else None
        if known is None:
            return False
        if known != command.content_sha256:
            text = "this id was used for another command: take a new id for each command"
            raise RefusedError(Code.REPEATED_OTHER_CONTENT, text, command.id)
        if flight is not None:
            if flight.accepted is not None:
                answer(self._reply(command, "accepted", *flight.accepted))
            if len(flight.waiters) < MAX_WAITERS:
                flight.waiters.append(answer)
        elif stored is not None:
            if stored.reply.get("status") == "accepted":
                return False  # on record, but the controller died before it was carried out: that is done now
            answer(self._stored_reply(command, stored.reply))
        return True

    def _admit(self, envelope: Envelope, command: Command) -> None:
        if envelope.data.effective is not None and not (self._scheduled and command.verb == "prompt-answer"):
            text = "only an answer in a rehearsal may carry its own time of effect (site file, commands.scheduled)"
            raise RefusedError(Code.SCHEDULED_NOT_ALLOWED, text, command.id)
        room = MAX_UNDER_WAY + (MAX_PROTECTIVE if VERBS[command.verb].protective else 0)
        if len(self._under_way) >= room:
            text = f"{len(self._under_way)} commands are under way: repeat this one, with the same id, in a few seconds"
            raise RefusedError(Code.BUSY, text, command.id)

    async def _carry_out(self, flight: _Flight) -> None:
        # no await between the comparison and the call: what the sender expects is still so when the controller judges
        outcome = self._changed(flight.command)
        if outcome is None:
            outcome = await self._controller.execute(
                flight.command, lambda seq, digest: self._accepted(flight, seq, digest)
            )
        self._finish(flight, outcome)

    def _changed(self, command: Command) -> Outcome | None:
        """Return the refusal of a command that was meant for another batch or an older screen."""
        bound = command.batch or command.expect_state is not None or command.expect_version is not None
        if command.verb == "hold" or not bound:
            return None  # Invariant: nothing that could fail stands between a person and a hold
        status = self._controller.status(command.unit)
        if command.batch and status.get("batch") != command.batch:
            here = status.get("batch") or "no batch"
            return Outcome(
                "refused", Code.VERSION_MISMATCH, f"meant for batch {command.batch}; {command.unit} has {here}"
            )
        if not VERBS[command.verb].bound_to_screen:
            return None
        for name, expected in (("state", command.expect_state), ("state_version", command.expect_version)):
            if expected is not None and status.get(name) != expected:
                text = f"{name} is {status.get(name)}, not {expected}: look again, then decide"
                return Outcome("refused", Code.VERSION_MISMATCH, text)
        return None

    def _accepted(self, flight: _Flight, seq: int, digest: str) -> None:
        flight.accepted = (seq, digest)
        for answer in flight.waiters:
            answer(self._reply(flight.command, "accepted", seq, digest))

    def _finish(self, flight: _Flight, outcome: Outcome) -> None:
        self._under_way.pop((flight.command.unit, flight.command.id), None)
        self.counts.answered[outcome.status] += 1
        if outcome.status == "refused":
            self.counts.refused[outcome.code] += 1
            if flight.accepted is None:
                self._tell(flight.command, outcome)
        seq, digest = flight.accepted or (None, None)
        for answer in flight.waiters:
            answer(self._reply(flight.command, outcome, seq, digest))

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Answer a command whose execution broke, and report the fault; on closing nobody is answered."""
        flight = self._tasks.pop(task)
        if task.cancelled():
            self._under_way.pop((flight.command.unit, flight.command.id), None)
            return
        fault = task.exception()
        if fault is None:
            return
        text = f"a fault in the controller ({type(fault).__name__}); look at status before repeating with a new id"
        self._finish(flight, Outcome("failed", Code.INTERNAL, text))
        context = {
            "message": f"command {flight.command.id} ({flight.command.verb}) broke",
            "exception": fault,
            "task": task,
        }
        task.get_loop().call_exception_handler(context)

    def _refuse(self, raw: RawCommand, refusal: RefusedError, answer: Answer) -> None:
        self.counts.answered["refused"] += 1
        self.counts.refused[refusal.code] += 1
        command = Command(refusal.command_id, raw.client, raw.unit, raw.verb)
        outcome = Outcome("refused", refusal.code, refusal.text)
        self._tell(command, outcome)
        answer(self._reply(command, outcome))

    def _tell(self, command: Command, outcome: Outcome) -> None:
        if self._on_refusal is not None:
            refusal = Refusal(command.client, command.unit, command.verb, command.id, outcome.code, outcome.text)
            self._on_refusal(refusal)

    def _reply(
        self,
        command: Command,
        outcome: Outcome | str,
        seq: int | None = None,
        digest: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> Reply:
        end = outcome if isinstance(outcome, Outcome) else None
        known = command.unit in self._controller.units()
        status = data or (self._controller.status(command.unit) if known else {})
        return Reply(
            correlation=command.id,
            status=end.status if end else str(outcome),
            code=end.code if end else "",
            text=end.text if end else "",
            t=rfc3339(self._clock.now()),
            state=status.get("state"),
            state_version=status.get("state_version"),
            journal_seq=seq,
            hash=digest,
            data=data,
        )

    def _stored_reply(self, command: Command, stored: Mapping[str, Any]) -> Reply:
        status = self._controller.status(command.unit)
        return Reply(
            correlation=command.id,
            status=str(stored.get("status", "accepted")),
            code=str(stored.get("code", "")),
            text=str(stored.get("text", "")),
            t=rfc3339(self._clock.now()),
            state=status.get("state"),
            state_version=status.get("state_version"),
            journal_seq=stored.get("journal_seq"),
            hash=stored.get("hash"),
        )
