"""The controller of a suite: its units, their batches, and the one place where commands are carried out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog

from devices.clock import Clock
from devices.document import DocumentError
from devices.reading import Reading
from recipes.catalog import find
from tilctl import __version__
from tilctl.config import Site
from tilctl.engine.batch import Batch
from tilctl.engine.binding import Bound, NotBindable, bind, check_devices, check_parameters
from tilctl.engine.machine import FINAL, State, legal_commands
from tilctl.engine.machine import Command as Machine
from tilctl.engine.port import Command, Outcome, StoredAnswer
from tilctl.engine.prompts import BadAnswer
from tilctl.engine.recovery import reopen, resume
from tilctl.engine.runner import Runner
from tilctl.engine.slot import Slot
from tilctl.engine.state import format_time
from tilctl.engine.status import status_of
from tilctl.history.store import History
from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.journal.site import SiteJournal
from tilctl.journal.store import Journal, JournalError
from tilctl.plant.suite import Suite

SETTLE_WITHIN = 180.0  # s; a command is answered by then, whatever its transient state still does
BEAT_EVERY = 10.0  # s between signs of life, which bound an outage
HEAD_EVERY = 3600.0  # s between copies of batch heads into the site's journal
REFUSALS_AN_HOUR = 1000
KNOWN_COMMANDS = 2000  # commands of the site that are remembered for idempotency
_AFTER: dict[str, frozenset[State]] = {
    "start": frozenset({State.RUNNING}), "pause": frozenset({State.PAUSED, State.PAUSING}),
    "resume": frozenset({State.RUNNING}), "hold": frozenset({State.HELD, State.HOLDING}),
    "restart": frozenset({State.RUNNING, State.RESTARTING}), "stop": frozenset({State.STOPPED, State.STOPPING}),
    "abort": frozenset({State.ABORTED, State.ABORTING}), "reset": frozenset({State.IDLE}),
}  # fmt: skip


class Controller:
    """Implements `tilctl.engine.port.ControllerPort`."""

    def __init__(self, site: Site, clock: Clock, suite: Suite, boot: str, recipes: Sequence[Path] = ()) -> None:
        self.site = site
        self.clock = clock
        self.suite = suite
        self.boot = boot
        self.ready = False
        self.on_record: list[Callable[[str, Record], None]] = []
        self.on_scan: list[Callable[[Mapping[str, Reading]], None]] = []
        self.on_batch: list[Callable[[str, str, Sequence[Record]], None]] = []  # unit, batch, what is on record
        self._recipes = tuple(recipes)
        self._slots = {name: Slot(name, clock, site.scan.trend) for name in site.units}
        self._journal: SiteJournal | None = None
        self._site_commands: dict[str, tuple[str, dict[str, Any]]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._refusals = (0, 0)  # hour, how many in it
        self._log = structlog.get_logger("controller")
        suite.image.watch(self._scanned)

    # --- life -----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the records, connect the suite, recover what was under way, and be ready for commands.

        Raises JournalError when the site's record or that of a batch cannot be opened: nothing is touched then.
        """
        for folder in (self.site.data, self._batches, self._batches / "closed", self.site.data / "history"):
            folder.mkdir(parents=True, exist_ok=True)
        first = ev.SiteOpened(self.site.name, self.site.node, __version__)
        self._journal = await SiteJournal.start(self.site.data / "site.db", self.clock, first, self.boot)
        for record in self._journal.records():
            self._know(record)
        self._journal.on_commit.append(self._know)
        self._journal.on_commit.append(lambda record: self._recorded("site", record))
        for callback in self.on_batch:
            callback("site", "site", self._journal.records())
        await self._journal.record(ev.ConfigLoaded(self.site.sha256))
        found = await self._reopened()
        await self.suite.open()
        await self.suite.settled()
        for batch in found:
            await self._recover(batch)
        await self.journal.beat(format_time(self.clock.now()))
        self._tasks.append(asyncio.create_task(self._keep_alive(), name="heartbeat"))
        self.ready = True
        for slot in self._slots.values():
            slot.tell_clock()

    async def close(self) -> None:
        """Leave everything as it is on the record; outputs stay as they are."""
        self.ready = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for slot in self._slots.values():
            await slot.clear()
        await self.suite.close()
        if self._journal is not None:
            await self._journal.close()

    @property
    def journal(self) -> SiteJournal:
        """The site's journal; raises RuntimeError before `open`."""
        if self._journal is None:
            raise RuntimeError("the controller is not open")
        return self._journal

    # --- the port -------------------------------------------------------------------------------------------------

    def units(self) -> Sequence[str]:
        """Return the names of the units."""
        return tuple(self._slots)

    def runner(self, unit: str) -> Runner | None:
        """Return what runs on a unit."""
        return self._slots[unit].runner

    def status(self, unit: str) -> dict[str, Any]:
        """Return what is known of a unit now."""
        return status_of(self.suite.units[unit], self._slots[unit].runner)

    def prompts(self, unit: str) -> list[dict[str, Any]]:
        """Return the open prompts of a unit, oldest first."""
        runner = self._slots[unit].runner
        return [] if runner is None else [p.spec for p in runner.batch.state.prompts.values() if p.open]

    def known_command(self, unit: str, command_id: str) -> StoredAnswer | None:
        """Return what is on record of a command."""
        runner = self._slots[unit].runner
        if runner is not None and command_id in runner.batch.state.commands:
            received = runner.batch.state.commands[command_id]
            answer = runner.batch.state.answers.get(command_id)
            return StoredAnswer(received.content_sha256, _reply(answer))
        if command_id in self._site_commands:
            content, reply = self._site_commands[command_id]
            return StoredAnswer(content, reply)
        return None

    async def execute(self, command: Command, accepted: Callable[[int, str], None]) -> Outcome:
        """Carry out one command; see the port."""
        slot = self._slots[command.unit]
        early = self._protect(slot, command) if command.verb in ("hold", "stop", "abort") else None
        journal: Journal = self.journal if slot.runner is None else slot.runner.batch.journal
        received = ev.CommandReceived(
            command.id, command.client, command.verb, dict(command.args), command.content_sha256, command.actor
        )
        try:
            record = await journal.record(received)
            accepted(record.seq, record.hash)
            outcome = early or await self._carry_out(slot, command)
        except JournalError as error:
            self._log.error("record_failed", error=str(error))
            if early is None:
                return Outcome("failed", "journal_failed", f"nothing was done: {error}")
            outcome = early
        if outcome.status == "done" and slot.runner is not None and command.verb != "prompt-answer":
            await self._settled(slot.runner)
            outcome = Outcome(outcome.status, outcome.code, f"{slot.name} is {slot.runner.state.value}")
        if not journal.failed:
            try:
                await journal.record(ev.CommandAnswered(command.id, outcome.status, outcome.code, outcome.text))
            except JournalError as error:
                self._log.error("record_failed", error=str(error))
        return outcome

    def note_refusal(self, refused: ev.CommandRefused) -> None:
        """Put a refusal on the site's record; at most so many an hour, so that nobody can fill the disk with them."""
        hour = int(self.clock.monotonic() // 3600)
        if hour != self._refusals[0]:
            self._refusals = (hour, 0)
        self._refusals = (hour, self._refusals[1] + 1)
        if self._refusals[1] > REFUSALS_AN_HOUR or self._journal is None or self._journal.failed:
            self._log.warning("refused", client=refused.client, code=refused.code, text=refused.text)
            return
        self._journal.append(refused)

    # --- commands -------------------------------------------------------------------------------------------------

    def _protect(self, slot: Slot, command: Command) -> Outcome:
        """Invariant: hold, stop and abort act before anything is written, and whatever the record does."""
        return self._transition(slot, command)

    async def _carry_out(self, slot: Slot, command: Command) -> Outcome:
        match command.verb:
            case "start":
                return await self._start(slot, command)
            case "prompt-answer":
                return await self._answer(slot, command)
            case "reset":
                return await self._reset(slot, command)
            case "status":
                state = State.IDLE if slot.runner is None else slot.runner.state
                return Outcome("done", "", f"{slot.name} is {state.value}")
            case _:
                return self._transition(slot, command)

    def _permit(self, device: str, command: str, _args: Mapping[str, Any]) -> str:
        """Second line of defence: nothing moves for a batch that does not run; targets may be kept in any state."""
        owner = self.suite.gate.owner(device)
        for slot in self._slots.values():
            if slot.runner is not None and slot.runner.batch.name == owner and not command.startswith("set_"):
                moving = slot.runner.state in (State.RUNNING, State.PAUSING)
                return "" if moving else f"its batch is {slot.runner.state.value}"
        return ""

    def _transition(self, slot: Slot, command: Command) -> Outcome:
        if slot.runner is None and slot.starting and command.verb in ("hold", "stop", "abort"):
            slot.wanted = Machine(command.verb)
            return Outcome("done", "", f"{slot.name} is starting: {command.verb} takes effect with its first step")
        if slot.runner is None:
            return Outcome("refused", "illegal_state", f"{slot.name} is idle: there is no batch to {command.verb}")
        if slot.runner.fire(Machine(command.verb), command.reason or f"{command.verb} by {command.client}"):
            return Outcome("done")
        state = slot.runner.state
        if state in _AFTER[command.verb]:
            self._again(slot.runner)
            return Outcome("already", "", f"{slot.name} is {state.value} already")
        legal = ", ".join(legal_commands(state)) or "none"
        text = f"{command.verb} is not legal in state {state.value} (legal: {legal})"
        return Outcome("refused", "illegal_state", text)

    def _again(self, runner: Runner) -> None:
        """Make safe once more what is safe by the record: whoever asks again may see something that turns."""
        task = asyncio.create_task(runner.make_safe_again(), name="make-safe-again")
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    async def _settled(self, runner: Runner) -> None:
        try:
            async with asyncio.timeout(SETTLE_WITHIN):
                await runner.settled()
        except TimeoutError:
            self._log.error("not_settled", state=runner.state.value)

    async def _start(self, slot: Slot, command: Command) -> Outcome:
        if slot.runner is not None or slot.starting:
            state = "starting" if slot.runner is None else slot.runner.state.value
            return Outcome("refused", "illegal_state", f"start is not legal in state {state}: {slot.name} has a batch")
        slot.starting = True
        try:
            return await self._started(slot, command)
        finally:
            slot.starting = False
            slot.wanted = None

    async def _started(self, slot: Slot, command: Command) -> Outcome:
        unit = self.suite.units[slot.name]
        name = str(command.args.get("recipe", ""))
        try:
            document = find(name, self._recipes)
        except DocumentError as error:
            missing = any(d.code in ("file-missing", "recipe-unknown") for d in error.diagnostics)
            return Outcome("refused", "unknown_recipe" if missing else "bad_recipe", str(error))
        parameters = {str(key): str(value) for key, value in dict(command.args.get("parameters", {})).items()}
        try:
            bound = bind(document, self.site, unit, self._recipes)
            check_parameters(bound.recipe, parameters)
            check_devices(self.suite, unit, bound)
        except NotBindable as error:
            return Outcome("refused", error.code, str(error))
        batch = await self._create(slot, bound, parameters)
        self._adopt(slot, batch)
        runner = Runner(batch, self.suite.sharing)
        slot.install(runner, History(self.site.data / "history" / f"{batch.name}.db", self.clock))
        runner.fire(Machine.START, f"start by {command.client}")
        if slot.wanted is not None:
            wanted, slot.wanted = slot.wanted, None
            runner.fire(wanted, f"{wanted} while the batch was being started")
        return Outcome("done")

    async def _create(self, slot: Slot, bound: Bound, parameters: dict[str, str]) -> Batch:
        name = f"{slot.name}-{self.clock.now():%Y%m%dT%H%M%S}"
        while (self._batches / f"{name}.db").exists() or (self._batches / "closed" / f"{name}.db").exists():
            name += "x"
        created = ev.BatchCreated(
            name, slot.name, bound.recipe.recipe, bound.recipe.version, bound.sha256, bound.text, parameters,
            {**bound.equipment}, __version__, self.journal.head[1], {**bound.profiles},
        )  # fmt: skip
        journal = await Journal.create(self._batches / f"{name}.db", self.clock, created)
        return Batch(
            name, journal, bound.recipe, self.suite.units[slot.name], self.clock, bound.equipment, bound.shared
        )

    async def _answer(self, slot: Slot, command: Command) -> Outcome:
        if slot.runner is None:
            return Outcome("refused", "no_prompt", f"{slot.name} has no batch")
        args = dict(command.args)
        try:
            number = await slot.runner.prompts.receive(command.id, command.client, args, command.effective)
        except BadAnswer as error:
            return Outcome("refused", "bad_answer", str(error))
        except KeyError:
            return Outcome("refused", "no_prompt", f"no open prompt {args.get('prompt')!r}")
        return Outcome("done", "", f"prompt {number} is answered")

    async def _reset(self, slot: Slot, command: Command) -> Outcome:
        runner = slot.runner
        if runner is None or runner.state not in FINAL:
            return self._transition(slot, command)
        await slot.note_trends(final=True)
        runner.fire(Machine.RESET, command.reason)
        await runner.prompts.withdraw_all(f"{slot.name} was reset")
        await runner.batch.record(ev.CommandAnswered(command.id, "done", "", f"{slot.name} is idle"))
        await slot.clear(keep=True)
        await self._put_away(runner.batch)
        slot.tell_clock()
        return Outcome("done", "", f"{slot.name} is idle; the record is closed/{runner.batch.journal.path.name}")

    async def _put_away(self, batch: Batch) -> None:
        """Close the record of a batch that is over and move it to `closed`; repeated at boot if it was cut short."""
        if not batch.state.result:
            await batch.record(ev.BatchEnded("aborted", "it was never started"))
        if not batch.state.closed:
            await batch.record(ev.BatchClosed())
        await self.journal.note_head(batch.name, batch.journal)
        await batch.journal.close()
        for device in batch.shared:
            self.suite.sharing.release(device, batch.name)
        self.suite.gate.release(batch.name)
        path = batch.journal.path

        def move() -> bool:
            # Invariant: a record is moved whole; while a reader keeps its log beside it, it stays where it is.
            if path.with_name(path.name + "-wal").exists():
                return False
            path.rename(path.parent / "closed" / path.name)
            return True

        if not await self.clock.offload(move):
            self._log.warning(
                "record_not_moved", path=path.name, why="somebody reads it; it is moved at the next start"
            )

    # --- batches --------------------------------------------------------------------------------------------------

    @property
    def _batches(self) -> Path:
        return self.site.data / "batches"

    async def _reopened(self) -> list[Batch]:
        """Invariant: the record of every batch is found whole before any device is touched."""
        found: list[Batch] = []
        async with AsyncExitStack() as opened:
            for path in sorted(self._batches.glob("*.db")):
                found.append(await reopen(path, self.site, self.suite, self.clock))
                opened.push_async_callback(found[-1].journal.close)
            opened.pop_all()
        return found

    async def _recover(self, batch: Batch) -> None:
        slot = self._slots[batch.plant.name]
        if batch.state.closed or (batch.state.state is State.IDLE and batch.state.version > 0):  # reset, then cut short
            await self._put_away(batch)
            return
        self._adopt(slot, batch)
        runner = Runner(batch, self.suite.sharing)
        slot.install(runner, History(self.site.data / "history" / f"{batch.name}.db", self.clock))
        await resume(runner, self.suite, self.journal.last_beat())

    def _adopt(self, slot: Slot, batch: Batch) -> None:
        self.suite.gate.claim(batch.name, batch.plant.devices)
        for callback in self.on_batch:
            callback(slot.name, batch.name, batch.journal.records())
        batch.observers.append(lambda record: self._recorded(slot.name, record))

    def _recorded(self, unit: str, record: Record) -> None:
        for callback in self.on_record:
            callback(unit, record)

    def _scanned(self, device: str, readings: Mapping[str, Reading]) -> None:
        named = {f"{device}.{point}": reading for point, reading in readings.items()}
        owner = self.suite.gate.owner(device)
        for slot in self._slots.values():
            if slot.runner is not None and owner in (None, slot.runner.batch.name):
                slot.scanned(device, named)
        for callback in self.on_scan:
            callback(named)

    async def _keep_alive(self) -> None:
        """Write the sign of life, and hourly the heads of the batches and the hashes of the trends."""
        period = max(BEAT_EVERY, 6 * self.site.scan.idle)  # a rehearsal beats as seldom as it scans
        next_head = self.clock.monotonic() + HEAD_EVERY
        while True:
            await self.clock.sleep(period)
            try:
                await self.journal.beat(format_time(self.clock.now()))
                if self.clock.monotonic() < next_head:
                    continue
                next_head += HEAD_EVERY
                for slot in self._slots.values():
                    if slot.runner is not None:
                        await slot.note_trends(final=False)
                        await self.journal.note_head(slot.runner.batch.name, slot.runner.batch.journal)
            except JournalError as error:
                self._log.error("record_failed", error=str(error))

    def _know(self, record: Record) -> None:
        """Remember the commands that the site's journal holds, the newest of them."""
        match record.event:
            case ev.CommandReceived() as event:
                self._site_commands[event.command_id] = (event.content_sha256, _reply(None))
                while len(self._site_commands) > KNOWN_COMMANDS:
                    del self._site_commands[next(iter(self._site_commands))]
            case ev.CommandAnswered() as event if event.command_id in self._site_commands:
                self._site_commands[event.command_id] = (self._site_commands[event.command_id][0], _reply(event))
            case _:
                pass


def _reply(answer: ev.CommandAnswered | None) -> dict[str, Any]:
    if answer is None:
        return {"status": "accepted", "code": "", "text": "on record, not answered yet"}
    return {"status": answer.status, "code": answer.code, "text": answer.text}
