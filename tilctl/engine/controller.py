"""The controller of a suite: its units, their batches, and the one place where commands are carried out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from devices.document import DocumentError
from recipes.catalog import find
from tilctl import __version__
from tilctl.engine import alarm_commands, identity, interlock_commands
from tilctl.engine.adjusting import adjust
from tilctl.engine.balancing import correct
from tilctl.engine.batch import Batch
from tilctl.engine.binding import Bound, NotBindable, bind, check_devices, check_parameters
from tilctl.engine.estimating import prepare
from tilctl.engine.fitness import EXCEPTION, needed, not_good, permissives
from tilctl.engine.interlock_commands import InterlockCommands
from tilctl.engine.lots import MARKS_KEPT, marks_of
from tilctl.engine.machine import FINAL, State, legal_commands
from tilctl.engine.machine import Command as Machine
from tilctl.engine.modes import change_mode, release
from tilctl.engine.port import SITE, Command, Outcome, StoredAnswer
from tilctl.engine.prompts import BadAnswer
from tilctl.engine.reopening import REOPENS, reopen_records, too_little_space
from tilctl.engine.runner import Runner
from tilctl.engine.slot import Slot
from tilctl.engine.status import alarm_rows, alarms_beside, status_of, unnoted_rows
from tilctl.engine.units import LEAVE, Units, reply
from tilctl.guard.desk import Desk
from tilctl.history.store import History
from tilctl.journal import events as ev
from tilctl.journal.store import Journal, JournalError

SETTLE_WITHIN = 180.0  # s; a command is answered by then, whatever its transient state still does
REFUSALS_AN_HOUR = 1000
COMMANDS_AN_HOUR = 1000  # of one unit that are taken; what protects acts beyond that too, and is no longer recorded
_PROTECTIVE = ("hold", "stop", "abort")
_OWN_WORDS = (
    "prompt-answer",
    "correct",
    "adjust",
    "mode",
    "proceed",
    "skip",
    *interlock_commands.VERBS,
)  # answered by what they did
_AFTER: dict[str, frozenset[State]] = {
    "start": frozenset({State.RUNNING}), "pause": frozenset({State.PAUSED, State.PAUSING}),
    "resume": frozenset({State.RUNNING}), "hold": frozenset({State.HELD, State.HOLDING}),
    "restart": frozenset({State.RUNNING, State.RESTARTING}), "stop": frozenset({State.STOPPED, State.STOPPING}),
    "abort": frozenset({State.ABORTED, State.ABORTING}), "reset": frozenset({State.IDLE}),
}  # fmt: skip


class Controller(Units):
    """Implements `tilctl.engine.port.ControllerPort`."""

    def status(self, unit: str) -> dict[str, Any]:
        """Return what is known of a unit now."""
        mode = {"mode": self.mode, "mode_reason": self.mode_reason, "alarms": self.alarms(unit)}
        if unit == SITE:
            return mode
        plant, runner = self.suite.units[unit], self._slots[unit].runner
        equipment = () if runner is None else runner.batch.equipment.values()
        return (
            status_of(plant, runner)
            | mode
            | {"devices": not_good(self.health, plant, equipment), "interlocks": self.interlocking.rows(unit)}
            | {"lots": self.lots.rows(unit)}
        )

    def alarms(self, unit: str) -> list[dict[str, Any]]:
        """Return the alarms of a unit, or of the site, that are not normal or set aside, oldest first."""
        runner = None if unit == SITE else self._slots[unit].runner
        found = [row for desk in self.desks(unit) for row in alarm_rows(desk)]
        found += unnoted_rows(self._alarms.unnoted(unit))
        return found if runner is None else found + alarms_beside(runner.batch)

    def desks(self, unit: str) -> tuple[Desk, ...]:
        """Return where the alarms of a unit, or of the site, are noted: of its batch first."""
        idle = self._alarms.desks[unit]
        runner = None if unit == SITE else self._slots[unit].runner
        return (idle,) if runner is None else (runner.desk, idle)

    def prompts(self, unit: str) -> list[dict[str, Any]]:
        """Return the open prompts of a unit, oldest first."""
        runner = self._slots[unit].runner
        return [] if runner is None else [p.spec for p in runner.batch.state.prompts.values() if p.open]

    def imported(self, unit: str) -> dict[str, list[str]]:
        """Return the marks of the rows of results that were taken, of the batch and of closed ones."""
        runner = self._slots[unit].runner
        found = self.lots.imported(unit)
        if runner is not None:
            state = runner.batch.state
            marks = [
                mark
                for command in state.commands.values()
                if (answer := state.answers.get(command.command_id)) is not None and answer.status == "done"
                for mark in marks_of(command)
            ]
            found[runner.batch.name] = marks[-MARKS_KEPT:]
        return found

    def known_command(self, unit: str, command_id: str) -> StoredAnswer | None:
        """Return what is on record of a command."""
        runner = None if unit == SITE else self._slots[unit].runner
        if runner is not None and command_id in runner.batch.state.commands:
            received = runner.batch.state.commands[command_id]
            answer = runner.batch.state.answers.get(command_id)
            return StoredAnswer(received.content_sha256, reply(answer))
        if command_id in self._site_commands:
            return StoredAnswer(*self._site_commands[command_id])
        return None

    async def execute(self, command: Command, accepted: Callable[[int, str], None]) -> Outcome:
        """Carry out one command; see the port."""
        if command.verb in alarm_commands.VERBS:  # Invariant: in every mode, beside whatever else is under way
            return await self._on_alarms(command, accepted)
        slot = self._slots[command.unit]
        if (refused := self._not_now(slot, command)) is not None:
            return refused
        too_many = slot.commands.more_than(COMMANDS_AN_HOUR, self.clock.monotonic())
        if too_many and command.verb not in _PROTECTIVE:
            return Outcome(
                "refused", "too_many", f"{COMMANDS_AN_HOUR} commands within the hour: something repeats them"
            )
        if command.verb == "prompt-answer" and self._of_a_closed_batch(slot, command):
            try:
                return await self.lots.carry_out(command, accepted, self.journal, self._alarms.desks[SITE])
            except JournalError as error:
                return Outcome("failed", "journal_failed", f"nothing was done: {error}")
        if command.verb in REOPENS and (why := await reopen_records(self.journal, slot.runner)):
            return Outcome("failed", "journal_failed", f"nothing was done: {why}")
        early = self._protect(slot, command) if command.verb in _PROTECTIVE else None
        # Actuate first, report second; but before a batch takes over, or a restart resets, what this is about.
        self._tell((self._alarms.note_lost, self.interlocking.records.note_lost))
        if early is not None and too_many and early.status != "done":
            return early  # it was heard again; the record has enough of them
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
        if slot.runner is None and journal is not self.journal:  # put away: the site answers a repetition from now on
            journal = self.journal
            journal.append(received)
        if outcome.status == "done" and slot.runner is not None and command.verb not in _OWN_WORDS:
            await self._settled(slot.runner)
            outcome = Outcome(outcome.status, outcome.code, f"{slot.name} is {slot.runner.state.value}")
        if early is not None and journal.failed and slot.runner is not None and outcome.status in ("done", "already"):
            await slot.runner.batch.beside.settled()
            outcome = Outcome(outcome.status, "not_on_record", f"{outcome.text}; {slot.runner.batch.beside.said}")
        if not journal.failed:
            try:
                await journal.record(ev.CommandAnswered(command.id, outcome.status, outcome.code, outcome.text))
            except JournalError as error:
                self._log.error("record_failed", error=str(error))
        return outcome

    async def _on_alarms(self, command: Command, accepted: Callable[[int, str], None]) -> Outcome:
        """Carry out a command about alarms, on the record of the batch where there is one."""
        slot = self._slots.get(command.unit)
        if slot is not None and slot.commands.more_than(COMMANDS_AN_HOUR, self.clock.monotonic()):
            text = f"{COMMANDS_AN_HOUR} commands within the hour: something repeats them"
            return Outcome("refused", "too_many", text)
        batch = None if slot is None or slot.runner is None else slot.runner.batch
        journal: Journal = self.journal if batch is None else batch.journal
        received = ev.CommandReceived(
            command.id, command.client, command.verb, dict(command.args), command.content_sha256, command.actor
        )
        try:
            record = await journal.record(received)
            accepted(record.seq, record.hash)
            try:
                desks = self._alarms.desks_for(command, self.desks(command.unit))
                outcome = await alarm_commands.carried_out(command, desks, self.clock.now(), self.journal, journal)
            except alarm_commands.Refused as refused:
                outcome = refused.outcome
            await journal.record(ev.CommandAnswered(command.id, outcome.status, outcome.code, outcome.text))
        except JournalError as error:
            self._log.error("record_failed", error=str(error))
            return Outcome("failed", "journal_failed", f"nothing was done: {error}")
        return outcome

    def note_refusal(self, refused: ev.CommandRefused) -> None:
        """Put a refusal on the site's record; at most so many an hour, so that nobody can fill the disk with them."""
        too_many = self._refusals.more_than(REFUSALS_AN_HOUR, self.clock.monotonic())
        if too_many or self._journal is None or self._journal.failed:
            self._log.warning("refused", client=refused.client, code=refused.code, text=refused.text)
            return
        self._journal.append(refused)

    def _not_now(self, slot: Slot, command: Command) -> Outcome | None:
        """Refuse what cannot be done before recovery is complete, or in safe mode; making safe is always heard."""
        if self.mode == "normal" or command.verb in (*_PROTECTIVE, "status"):
            return None
        if self.mode == "recovering" and slot.runner is not None and not slot.runner.recovering:
            return None  # this one is back; others may take longer
        if self.mode != "safe":
            return Outcome("refused", "recovering", "the controller is recovering: repeat the command in a moment")
        if command.verb == "leave-safe-mode":
            return None
        return Outcome("refused", "safe_mode", f"{self.safe_reason}: see to the cause, then leave safe mode ({LEAVE})")

    @staticmethod
    def _of_a_closed_batch(slot: Slot, command: Command) -> bool:
        batch = str(command.args.get("batch") or "")
        return bool(batch) and (slot.runner is None or slot.runner.batch.name != batch)

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
            case "leave-safe-mode":
                return await self._leave_safe_mode(command)
            case verb if verb in interlock_commands.VERBS:
                return await InterlockCommands(self.interlocking, self.clock).carry_out(command)
            case "correct":
                return await correct(slot.runner, command)
            case "adjust":
                return await adjust(slot.runner, command)
            case "mode":
                return await change_mode(slot.runner, command)
            case "proceed" | "skip":
                return await release(slot.runner, command)
            case "status":
                state = State.IDLE if slot.runner is None else slot.runner.state
                return Outcome("done", "", f"{slot.name} is {state.value}")
            case _:
                return self._transition(slot, command)

    async def _leave_safe_mode(self, command: Command) -> Outcome:
        """Recover now what was left alone at boot; a person has seen to the cause."""
        if self.mode != "safe":
            return Outcome("already", "", "the controller is not in safe mode")
        for slot in self._slots.values():  # one that fails still is held when it is recovered
            await reopen_records(self.journal, slot.runner)
        # Invariant: on record first; what cannot be written leaves everything as it was.
        await self.journal.record(ev.SafeMode(False, command.reason, command.client))
        self.mode = "recovering"
        self._log.warning("safe_mode_left", client=command.client, reason=command.reason)
        self.safe_reason = ""
        for slot in self._slots.values():
            if slot.runner is not None:
                slot.runner.recovering, slot.runner.watch_only = True, False
                slot.tell_clock()
                slot.runner.clear("safe-mode")
        try:
            await self._recover_all()
        except JournalError as error:  # every batch is back by then; the record is looked after as at any other time
            self._log.error("record_failed", error=str(error))
            self.mode = "normal"
        return Outcome("done", "", "safe mode is left; every batch is recovered")

    def _transition(self, slot: Slot, command: Command) -> Outcome:
        if slot.runner is None and slot.starting and command.verb in ("hold", "stop", "abort"):
            slot.wanted = Machine(command.verb)
            return Outcome("done", "", f"{slot.name} is starting: {command.verb} takes effect with its first step")
        if slot.runner is None and command.verb == "reset":
            return Outcome("already", "", f"{slot.name} is idle: there is nothing to reset")
        if slot.runner is None:
            return Outcome("refused", "illegal_state", f"{slot.name} is idle: there is no batch to {command.verb}")
        if slot.runner.fire(Machine(command.verb), command.reason or f"{command.verb} by {command.client}"):
            if command.verb == "restart":
                self.clock.accept()
                # Invariant: before the first target is written: that begins with the next turn of the loop.
                self.interlocking.restarted(slot.runner, command.actor or command.client)
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
        self._spawn(runner.make_safe_again(), "make-safe-again")

    async def _settled(self, runner: Runner) -> None:
        try:
            async with asyncio.timeout(SETTLE_WITHIN):
                await runner.settled()
        except TimeoutError:
            self._log.error("not_settled", state=runner.state.value)

    async def _start(self, slot: Slot, command: Command) -> Outcome:
        if slot.leaving:
            return Outcome("refused", "busy", f"the last batch of {slot.name} is being put away: repeat in a moment")
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
        if why := await too_little_space(self.clock, self.site.data):
            return Outcome("refused", "disk_low", why)
        try:
            document = find(name, self._recipes)
        except DocumentError as error:
            missing = any(d.code in ("file-missing", "recipe-unknown") for d in error.diagnostics)
            return Outcome("refused", "unknown_recipe" if missing else "bad_recipe", str(error))
        parameters = {str(key): str(value) for key, value in dict(command.args.get("parameters", {})).items()}
        try:
            bound = bind(document, self.site, unit, self._recipes)
            check_parameters(bound.recipe, parameters)
            unfit, doubtful = permissives(self.health, unit, needed(unit, bound.equipment.values()))
            check_devices(self.suite, unit, bound, unfit)
        except NotBindable as error:
            return Outcome("refused", error.code, str(error))
        self._look_at_clock()  # a batch begins by the wall clock, and goes on by itself
        await prepare(bound.recipe, self.clock)
        batch = await self._create(slot, bound, parameters, command.id)
        try:
            await self.journal.record(ev.BatchTaken(batch.name, slot.name, command.id))
            self._adopt(slot, batch)
        except Exception:  # Invariant: what did not start leaves nothing that a later start could take for a batch
            with suppress(JournalError):
                await self._put_away(batch)
            raise
        identity.accept(batch)
        for text in doubtful:
            batch.note(ev.ExceptionRaised(EXCEPTION, text, ""))
        runner = Runner(batch, self.suite.sharing)
        slot.install(runner, History(self.site.data / "history" / f"{batch.name}.db", self.clock))
        self.interlocking.installed(runner)
        runner.fire(Machine.START, f"start by {command.client}")
        if slot.wanted is not None:
            wanted, slot.wanted = slot.wanted, None
            runner.fire(wanted, f"{wanted} while the batch was being started")
        return Outcome("done")

    async def _create(self, slot: Slot, bound: Bound, parameters: dict[str, str], command: str) -> Batch:
        name = f"{slot.name}-{self.clock.now():%Y%m%dT%H%M%S}"
        while (self._batches / f"{name}.db").exists() or (self._batches / "closed" / f"{name}.db").exists():
            name += "x"
        created = ev.BatchCreated(
            name, slot.name, bound.recipe.recipe, bound.recipe.version, bound.sha256, bound.text, parameters,
            {**bound.equipment}, __version__, self.journal.head[1], {**bound.profiles}, command,
            self.interlocking.in_force(slot.name),
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
            prompt = slot.runner.batch.state.prompts.get(str(args.get("prompt")))
            if prompt is not None and prompt.command_id == command.id:  # answered by this very command, before a crash
                return Outcome("done", "", f"prompt {prompt.id} is answered")
            return Outcome("refused", "no_prompt", f"no open prompt {args.get('prompt')!r}")
        return Outcome("done", "", f"prompt {number} is answered")

    def _keep_answers(self, batch: Batch) -> None:
        """Invariant: one id, one execution, also over a reset: a late repetition finds its answer, no new batch."""
        for command in batch.state.commands.values():
            self._remember(command, batch.state.answers.get(command.command_id))

    async def _reset(self, slot: Slot, command: Command) -> Outcome:
        runner = slot.runner
        if runner is None or runner.state not in FINAL:
            return self._transition(slot, command)
        # Invariant: no run is left without a judgement; the device goes on by itself, and only this record knows why.
        if followed := runner.freezing.followed():
            devices = ", ".join(sorted({intent.device for intent in followed}))
            text = f"a freezing run is on in {devices} and is followed: reset when what it came to is on record"
            return Outcome("refused", "illegal_state", text)
        if unsigned := runner.releases.unsigned():
            text = f"the release of {', '.join(unsigned)} is re-opened: sign its rejection first (tilctl batch prompts)"
            return Outcome("refused", "illegal_state", text)
        if slot.leaving:
            return Outcome("refused", "busy", f"the batch of {slot.name} is being put away")
        slot.leaving = True  # Invariant: nobody takes the unit before its batch is put away
        try:
            await slot.note_trends(final=True)
            runner.fire(Machine.RESET, command.reason)
            runner.prompts.withdraw(f"{slot.name} was reset")
            await runner.batch.record(ev.CommandAnswered(command.id, "done", "", f"{slot.name} is idle"))
            await slot.clear(keep=True)
            self._keep_answers(runner.batch)
            await self._put_away(runner.batch)
        finally:
            slot.leaving = False
        slot.tell_clock()
        awaited = sum(len(row["pending"]) for row in self.lots.rows(slot.name) if row["batch"] == runner.batch.name)
        later = f"; {awaited} results are awaited (tilctl results list)" if awaited else ""
        return Outcome("done", "", f"{slot.name} is idle; the record is closed/{runner.batch.journal.path.name}{later}")
