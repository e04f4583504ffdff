"""The units of a suite and their batches: records, coming up and recovering, the record's time, signs of life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import structlog

from devices.clock import Clock
from devices.reading import Reading
from tilctl import __version__
from tilctl.config import Site
from tilctl.engine import allocation, interrupted, recovery, safe_mode
from tilctl.engine.alarms import Alarms
from tilctl.engine.batch import Batch
from tilctl.engine.beside import lay_marks
from tilctl.engine.fitness import DeviceRecord, fields
from tilctl.engine.hourly import Hourly
from tilctl.engine.interlocking import Interlocking
from tilctl.engine.lots import Lots
from tilctl.engine.machine import State
from tilctl.engine.records import find_all, made_by, over, put_away, unreadable
from tilctl.engine.recovery import Looks, resume, synchronised
from tilctl.engine.reopening import note_mark
from tilctl.engine.runner import Runner
from tilctl.engine.slot import Slot
from tilctl.engine.state import format_time, parse_time
from tilctl.engine.steady import ALARMING, SteadyClock
from tilctl.engine.telling import Teller
from tilctl.guard.health import Health
from tilctl.history.store import History
from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.journal.site import SiteJournal
from tilctl.journal.store import JournalBroken, JournalError
from tilctl.plant.suite import Suite

BEAT_EVERY = 10.0  # s between signs of life, which bound an outage
HEAD_EVERY = 3600.0  # s between copies of batch heads into the site's journal
KNOWN_COMMANDS = 2000  # commands of the site that are remembered for idempotency
LEAVE = "tilctl batch leave-safe-mode"
Mode = Literal["opening", "recovering", "normal", "safe", "closing"]


class Units:
    """Everything of the controller that is not a command."""

    def __init__(self, site: Site, clock: Clock, suite: Suite, boot: str, recipes: Sequence[Path] = ()) -> None:
        self.site = site
        self.clock = SteadyClock(clock)
        self.suite = suite
        self.boot = boot
        self.mode: Mode = "opening"
        self.safe_reason = ""  # why safe mode, "" outside of it
        self.on_record: list[Callable[[str, Record], None]] = []
        self.on_scan: list[Callable[[Mapping[str, Reading]], None]] = []
        self.on_status: list[Callable[[str], None]] = []  # a unit whose status changed without a record of its own
        self.on_batch: list[Callable[[str, str, Sequence[Record]], None]] = []  # unit, batch, what is on record
        self.on_device: list[Callable[[str, Mapping[str, Any]], None]] = []  # what is to be told of a device
        self._recipes = tuple(recipes)
        self.health = Health(suite, self.clock)
        self._devices = DeviceRecord(self.health, self.clock)
        self._journal: SiteJournal | None = None
        self._alarms = Alarms(site, self.clock, suite, self.health, lambda: self._journal)
        desks = self._alarms.desks
        self._slots = {name: Slot(name, self.clock, site.scan.trend, desks[name], suite.scanner) for name in site.units}
        self.lots = Lots()
        self._site_commands: dict[str, tuple[str, dict[str, Any]]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._refusals = Hourly()
        self._log = structlog.get_logger("controller")
        self._found: list[Batch] = []
        self._stepped: list[ev.ClockStepped] = []
        self._needed = False
        self._last_beat: str | None = None  # of the boot before
        self._tell = Teller()
        self._looks = (self._look_at_clock, self._note_devices)
        self.health.changed.append(lambda device: self._tell(self.on_device, device, fields(self.health, device)))
        self.interlocking = Interlocking(
            site, suite, self.clock, self._running, lambda: self._journal,
            lambda unit: self._tell(self.on_status, unit),
        )  # fmt: skip
        self.interlocking.on_idle_alarm = self._alarms.of_an_interlock
        self.interlocking.on_given = self._alarms.given_to
        suite.gate.permit(self._permit)
        suite.image.watch(self._scanned)
        suite.sharing.changed.append(self._shared)

    @property
    def ready(self) -> bool:
        """Whether recovery is complete and every command is taken."""
        return self.mode == "normal"

    @property
    def mode_reason(self) -> str:
        """Why it is in safe mode, or why its time is not to be trusted; "" where neither is so."""
        return self.safe_reason or self.clock.uncertain

    async def open(self) -> None:
        """Open the records, connect the suite, recover what was under way, and be ready for commands.

        Raises JournalError when the site's record or that of a batch cannot be opened: nothing is touched then.
        """
        await self.open_records()
        await self.recover()

    async def open_records(self) -> None:
        """Open and fold every record; from now on hold, stop and abort are heard.  Raises JournalError."""
        for folder in (self.site.data, self._batches, self._batches / "closed", self.site.data / "history"):
            folder.mkdir(parents=True, exist_ok=True)
        self._needed = any(self._batches.glob("*.db"))
        first = ev.SiteOpened(self.site.name, self.site.node, __version__)
        path = self.site.data / "site.db"
        try:
            self._journal = await SiteJournal.start(path, self.clock, first, self.boot, self._bridge)
        except JournalBroken as error:
            raise unreadable(path, error) from error
        for record in self._journal.records():
            self._know(record)
        self._journal.on_commit.append(self._know)
        self._journal.on_commit.append(lambda record: self._recorded("site", record))
        self._tell(self.on_batch, "site", "site", self._journal.records())
        await self._journal.record(ev.ConfigLoaded(self.site.sha256))
        await lay_marks(self.site.data, self._slots, self.clock)
        self._found = await find_all(self.site, self.suite, self.clock, self.journal, self._batches)
        self._restore_interlocks()
        for batch in self._found:
            if not over(batch):
                self._install(batch)
        self._alarms.watch(self._slots)
        self.interlocking.tell(lambda unit, alarm: self._alarms.desks[unit].stands(alarm), self.clock.uncertain)
        for step in self._stepped:
            self._tell_step(step)
        self.mode = "recovering"

    async def _bridge(self, journal: SiteJournal) -> tuple[str, str]:
        """Find the record's time, and whether this start stays in safe mode, before this boot is on record."""
        records, beat = journal.records(), journal.last_beat()
        self._last_beat = beat
        self._stepped = self.clock.bridge(records, beat, needed=self._needed)
        for step in self._stepped:
            await journal.record(step)
        self.safe_reason, known = safe_mode.wanted(records, self.clock.now())
        if self.safe_reason and not known:
            await journal.record(ev.SafeMode(True, self.safe_reason))
        return self.clock.boot()

    async def recover(self) -> None:
        """Connect the suite, bring back what was under way, and take every command; in safe mode watch only."""
        await self.suite.open()
        await self.suite.settled()
        allocation.restore(self._found, self.suite.sharing)
        if self.safe_reason:
            self.mode = "safe"
            self._log.warning("safe_mode", reason=self.safe_reason)
            for slot in self._slots.values():
                if slot.runner is not None:
                    slot.runner.recovering, slot.runner.watch_only = False, True
                    slot.runner.freezing.follow_open()
                    text = f"{self.safe_reason}: nothing goes on by itself; hold, stop and abort act ({LEAVE})"
                    slot.runner.alarm("safe-mode", "critical", text)
        else:
            await self._recover_all()
        self._tasks.append(asyncio.create_task(self._keep_alive(), name="heartbeat"))
        for slot in self._slots.values():
            slot.tell_clock()

    async def _recover_all(self) -> None:
        """Recover every batch, each beside the others, so that what hangs in one keeps no other waiting."""
        self.mode = "recovering"
        found, self._found = self._found, []
        looks = Looks(self.suite)
        try:
            await asyncio.gather(*(self._recover(batch, looks) for batch in found))
        finally:
            await looks.close()
        await self.journal.beat(format_time(self.clock.now()))
        for answer in self._answers_left_open():
            await self.journal.record(answer)
        await self.journal.record(ev.BootReady(self.boot))
        self.mode = "normal"

    def _answers_left_open(self) -> list[ev.CommandAnswered]:
        """Return what the boots before left unanswered on the site's record."""
        records = self.journal.records()
        made = {made_by(s.runner.batch): s.runner.batch.name for s in self._slots.values() if s.runner is not None}
        # Invariant: one answer for each; what this boot has answered meanwhile (a repetition) is not answered anew.
        left = interrupted.answers_for_site(records, made, safe_mode=bool(self.safe_reason))
        return [answer for answer in left if self._site_commands.get(answer.command_id, ("", {}))[1] == reply(None)]

    async def close(self) -> None:
        """Leave everything as it is on the record; outputs stay as they are."""
        self.mode = "closing"
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for slot in self._slots.values():
            await slot.clear()
        self._alarms.close()
        await self.interlocking.rules.close()
        await self.suite.close()
        for batch in self._found:  # not recovered: it died on the way, or safe mode left it alone
            await batch.journal.close()
        if self._journal is not None:
            await self._journal.close()

    @property
    def journal(self) -> SiteJournal:
        """The site's journal; raises RuntimeError before `open`."""
        if self._journal is None:
            raise RuntimeError("the controller is not open")
        return self._journal

    def units(self) -> Sequence[str]:
        """Return the names of the units."""
        return tuple(self._slots)

    def runner(self, unit: str) -> Runner | None:
        """Return what runs on a unit."""
        return self._slots[unit].runner

    def _permit(self, device: str, command: str, _args: Mapping[str, Any]) -> str:
        """Second line of defence: nothing moves for a batch that does not run; targets may be kept in any state."""
        if self.mode == "safe":
            return f"safe mode: {self.safe_reason}"
        owner = self.suite.gate.owner(device)
        for slot in self._slots.values():
            if slot.runner is not None and slot.runner.batch.name == owner and not command.startswith("set_"):
                if slot.runner.state not in (State.RUNNING, State.PAUSING):
                    return f"its batch is {slot.runner.state.value}"
                return "" if slot.fluids is None else slot.fluids.refuses(device, command)
        return ""

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    async def _put_away(self, batch: Batch) -> None:
        free = self._slots[batch.plant.name].runner is None
        if free and not self.journal.failed:  # first: what is latched or bypassed outlives the batch
            for event in self.interlocking.left(batch.plant.name):
                self.journal.append(event)
        await put_away(batch, self.journal, self.suite, self.clock)
        if free:
            self.interlocking.freed(batch.plant.name)

    def _restore_interlocks(self) -> None:
        """Take over what stands of interlocks by the records, before an instrument is asked anything."""
        found: dict[str, list[Record]] = {}
        for batch in self._found:
            found.setdefault(batch.plant.name, []).extend(batch.journal.records())
        marks = {batch.plant.name: mark for batch in self._found if (mark := batch.beside.mark) is not None}
        self.interlocking.restore(self.journal.records(), found, marks)

    def _running(self) -> dict[str, Runner]:
        return {name: slot.runner for name, slot in self._slots.items() if slot.runner is not None}

    @property
    def _batches(self) -> Path:
        return self.site.data / "batches"

    def _install(self, batch: Batch) -> None:
        """Take a batch as its record says it is: it is shown, watched, and can be made safe; nothing walks yet."""
        for record in batch.journal.records()[-1:]:
            self._stepped += self.clock.not_before(parse_time(record.t))
        recovery.begin(batch, self._last_beat, self.clock.uncertain)
        slot = self._slots[batch.plant.name]
        self._adopt(slot, batch)
        runner = Runner(batch, self.suite.sharing)
        runner.recovering = True
        slot.install(runner, History(self.site.data / "history" / f"{batch.name}.db", self.clock))
        self.interlocking.reopened(runner)

    async def _recover(self, batch: Batch, looks: Looks) -> None:
        if over(batch):
            await self._put_away(batch)
            return
        runner = self._slots[batch.plant.name].runner
        if runner is None or runner.batch is not batch:
            return
        await resume(runner, looks, self.clock.uncertain)
        await note_mark(runner)

    def _adopt(self, slot: Slot, batch: Batch) -> None:
        self.suite.gate.claim(batch.name, batch.plant.devices, head=lambda: batch.journal.head[0])
        self._tell(self.on_batch, slot.name, batch.name, batch.journal.records())
        batch.observers.append(lambda record: self._recorded(slot.name, record))

    def _recorded(self, unit: str, record: Record) -> None:
        self._tell(self.on_record, unit, record)

    def _scanned(self, device: str, readings: Mapping[str, Reading]) -> None:
        self._tell((self.interlocking.rules.scanned,), device, readings)  # first, and whoever owns the device
        self._tell((self.interlocking.records.note_lost,))
        self._tell(self._looks)  # what breaks there keeps no guard from being judged
        self._alarms.judge(device)
        named = self.suite.image.named(device, readings)
        owner = self.suite.gate.owner(device)
        for slot in self._slots.values():
            if slot.runner is not None and owner in (None, slot.runner.batch.name):
                slot.scanned(device, named)
        self._tell(self.on_scan, named)

    def _shared(self) -> None:
        """Tell that whoever waits for shared equipment waits differently now."""
        self._tell((self.interlocking.passed_on, self._alarms.passed_on))
        for slot in self._slots.values():
            if slot.runner is not None:
                self._tell(self.on_status, slot.name)

    def _look_at_clock(self) -> None:
        """Notice a step of the wall clock: at every scan and sign of life, so that it costs no timer of its own."""
        if self.mode in ("opening", "closing"):
            return
        before = self.clock.uncertain
        step = self.clock.look(needed=any(slot.runner is not None for slot in self._slots.values()))
        if step is not None:
            if not self.journal.failed:
                self.journal.append(step)
            self._tell_step(step)
        if before and not self.clock.uncertain:
            for slot in self._slots.values():
                if slot.runner is not None:
                    self._spawn(synchronised(slot.runner), "synchronised")

    def _look_at_devices(self) -> None:
        """Judge what grows old of each device, whatever the record does, and note what has changed."""
        self.health.tick()
        self._note_devices()

    def _note_devices(self) -> None:
        if self._devices.open and self._journal is not None and not self._journal.failed:
            self._devices.note(self._journal.append)

    def _tell_step(self, step: ev.ClockStepped) -> None:
        """Put a step of the clock on the record of every batch."""
        self._log.warning("clock_stepped", by_s=step.by_s, offset_s=step.offset_s, cause=step.cause)
        for slot in self._slots.values():
            if slot.runner is None:
                continue
            slot.runner.batch.note(step)
            if abs(step.by_s) > ALARMING:
                text = f"the wall clock jumped by {step.by_s:+.0f} s; waits and due moments are not touched by it"
                slot.runner.alarm("clock-stepped", "medium", text)

    @property
    def beat_every(self) -> float:
        """Seconds between two signs of life; a rehearsal beats as seldom as it scans."""
        return max(BEAT_EVERY, 6 * self.site.scan.idle)

    async def _keep_alive(self) -> None:
        """Write the sign of life, and hourly the heads of the batches and the hashes of the trends."""
        next_head = self.clock.monotonic() + HEAD_EVERY
        while True:
            await self.clock.sleep(self.beat_every)
            self._tell((self._look_at_devices,))
            hourly = self.clock.monotonic() >= next_head
            next_head += HEAD_EVERY * hourly
            try:
                self._look_at_clock()
                await self.journal.beat(format_time(self.clock.now()))
            except JournalError as error:
                self._log.error("record_failed", error=str(error))
            except Exception:  # noqa: BLE001 - Invariant: the sign of life goes on, whatever breaks beside it
                self._log.exception("internal_error")
            self._tell((self.interlocking.rules.look, self.interlocking.records.note_lost))
            self._alarms.judge()  # Invariant: also where nothing is read any more
            for slot in self._slots.values():
                if slot.estimated():
                    self._tell(self.on_status, slot.name)
                await self._look_after(slot, hourly=hourly)

    async def _look_after(self, slot: Slot, *, hourly: bool) -> None:
        """Check one batch; what breaks here is a culture-safe hold of this batch, and no other's affair."""
        runner = slot.runner
        if runner is None or not self.ready:
            return
        try:
            runner.look()
            if hourly:
                await slot.note_trends(final=False)
                await self.journal.note_head(runner.batch.name, runner.batch.journal)
        except JournalError as error:
            self._log.error("record_failed", error=str(error))
        except Exception as error:  # noqa: BLE001 - see above
            self._log.exception("internal_error", batch=runner.batch.name)
            runner.violated("upkeep", f"looking after it broke: {error!r}")

    def _remember(self, command: ev.CommandReceived, answer: ev.CommandAnswered | None) -> None:
        self._site_commands[command.command_id] = (command.content_sha256, reply(answer))
        while len(self._site_commands) > KNOWN_COMMANDS:
            del self._site_commands[next(iter(self._site_commands))]

    def _know(self, record: Record) -> None:
        """Remember what the site's journal holds of alarms and devices, and of commands the newest."""
        self._alarms.take(record)
        self._devices.know(record)
        self.lots.take(record)
        match record.event:
            case ev.CommandReceived() as event:
                self._remember(event, None)
            case ev.CommandAnswered() as event if event.command_id in self._site_commands:
                self._site_commands[event.command_id] = (self._site_commands[event.command_id][0], reply(event))
            case _:
                pass


def reply(answer: ev.CommandAnswered | None) -> dict[str, Any]:
    """Return what is said of a command whose answer on record is this one."""
    if answer is None:
        return {"status": "accepted", "code": "", "text": "on record, not answered yet"}
    return {"status": answer.status, "code": answer.code, "text": answer.text}
