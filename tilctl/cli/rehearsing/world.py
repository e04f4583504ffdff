"""One rehearsal: a plant, its instruments, lives of the real controller, a person, and what befalls them.

All of it runs on one virtual loop: commands go as real envelopes through the real door, without a broker between.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from simulators.bench import Bench
from simulators.memory import memory_links
from simulators.virtual import EPOCH, VirtualClock, VirtualLoop
from tilctl.cli.rehearsing.absence import AbsenceOracle
from tilctl.cli.rehearsing.cuts import Cut
from tilctl.cli.rehearsing.deadlines import DeadlineOracle
from tilctl.cli.rehearsing.doses import DoseOracle
from tilctl.cli.rehearsing.guarding import GuardOracle
from tilctl.cli.rehearsing.harness import Harness
from tilctl.cli.rehearsing.invariants import Invariants
from tilctl.cli.rehearsing.life import Life, LifeClock, install
from tilctl.cli.rehearsing.parts import PartsOracle
from tilctl.cli.rehearsing.person import Person
from tilctl.cli.rehearsing.result import Result, Sample
from tilctl.cli.rehearsing.station import Connected, Station
from tilctl.cli.rehearsing.suspicion import Suspicion
from tilctl.cli.rehearsing.times import TimeOracle
from tilctl.cli.rehearsing.violations import Book
from tilctl.cli.rehearsing.warmth import WarmOracle
from tilctl.cli.rehearsing.written import Written
from tilctl.cli.simulated import listening, plant_of, servers_of
from tilctl.cli.simulated_mqtt import BehindBrokers
from tilctl.commands.door import Door, Refusal
from tilctl.config import Site, load_site
from tilctl.engine.controller import Controller
from tilctl.engine.machine import State
from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.journal.store import JournalError
from tilctl.journal.verify import read
from tilctl.plant.suite import Suite

UNIT = "cell1"
SITE = Path(str(files("tilctl.cli") / "demo-site.yaml"))
DAY = 86400.0
STANDS_STILL = 45 * DAY  # s without any event but trends: a batch that waits so long waits for nothing
BOOTS_AGAIN = 10.0  # s until the service manager starts a controller again that ended by itself
MOST_BOOTS = 400
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(frozen=True)
class Plan:
    """What is to be rehearsed: a recipe (of a name in `folders` or the library), and what befalls it."""

    recipe: str
    seed: int
    folder: Path
    folders: tuple[Path, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    faults: Sequence[Any] = ()
    cuts: tuple[Cut, ...] = ()
    sockets: bool = False
    haste: float = 1.0
    site: Path = SITE


class World:
    """One rehearsal; `run` returns what it came to."""

    def __init__(self, plan: Plan, clock: VirtualClock) -> None:
        self.plan = plan
        self.clock = clock
        self.loop: VirtualLoop = clock.loop
        self.began = time.monotonic()
        self.site: Site = load_site(plan.site)
        self.plant = plant_of(self.site, clock, plan.seed, plan.folders)
        self.bench = Bench(self.plant)
        self.servers = servers_of(self.site, self.plant.devices, clock)
        self.behind = BehindBrokers(self.site, clock, in_memory=True)
        self.life: Life | None = None
        self.life_clock: LifeClock | None = None
        self.controller: Controller | None = None
        self.wall_off = 0.0  # s by which the controller's wall clock was set
        self.synchronised = True
        self.machine = 0
        self.kills = 0
        self.boots = 0
        self.ended = asyncio.Event()
        self.held_s = 0.0
        self.samples: list[Sample] = []
        self.alarms: Counter[str] = Counter()  # `priority alarm`, as raised on any record
        self._context = copy_context()
        self._tasks: set[asyncio.Task[None]] = set()
        self._up = asyncio.Event()  # no power cut is under way
        self._up.set()
        self._held_since: float | None = None
        self._last_event = 0.0
        self._batch = ""
        self.book = Book(plan.seed, lambda: len(self.invariants.heads))
        self.station = Station(UNIT, clock.now, self._replied)
        self.person = Person(plan.seed, self.station, self._hands, self.spawn, lambda: self.controller, plan.haste)
        self.person.cleared = self.ended.set
        now, at, climate, written = self.loop.time, self.plant.time, self.plant.climate, Written()
        self.suspicion = Suspicion(now)
        self.warmth = WarmOracle(climate, self.book, now, at, self._hands_off)
        self.harness = Harness(self)
        off = self.harness.time_off
        times = TimeOracle(self.book, written, now, off)
        self.absence = AbsenceOracle(self.book, written, now, off)
        self.guarding = GuardOracle(climate, self.book, written, now, at, self._in_control)
        self.invariants = Invariants(
            self.plant,
            self.book,
            DoseOracle(self.plant, self.book, self.suspicion, self.person.typed_for, self._port),
            times,
            self.warmth,
            (self.absence, self.guarding, DeadlineOracle(self.book, written, times, now, off, self._in_control)),
            now,
            self.harness.troubled,
            lambda: self.controller,
            UNIT,
        )

    @property
    def data(self) -> Path:
        """The folder of the records."""
        return self.plan.folder / "data"

    # --- the whole ------------------------------------------------------------------------------------------------

    async def run(self) -> Result:
        """Rehearse from start to a cleared unit; nothing is raised but faults of the rehearsal itself."""
        install(self.loop)
        self.loop.set_exception_handler(self._lost)
        overrides = {"http.port": "0", "data": str(self.data)}
        if self.plan.sockets:
            overrides |= await listening(self.site, self.servers)
        self.site = load_site(self.plan.site, overrides)
        self.guarding.knows(self.site.scan.quiet, self.site.units[UNIT].rules.interlocks.values())
        judge = self.invariants
        parts = PartsOracle(
            self.site, self.book, judge.doses, lambda: judge.state, judge.owned, judge.is_target, self.warmth.cuts
        )
        for name, device in self.plant.devices.items():
            hears = parts.hears if name in parts.whose else judge.hears
            device.heard.append(partial(hears, name))
        self.behind.begin()
        try:
            await self._boot()
            self.spawn(self.person.start(self.plan.recipe, self.plan.parameters), "person starts")
            self.spawn(self._each_day(), "samples")
            await self.ended.wait()
            await self._close()
        finally:
            self.harness.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.behind.close()
            await self.servers.close()
        return self._result()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Begin work that belongs to the world, not to the life in which it was wanted."""
        task = self.loop.create_task(work, name=name, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.book.note("rehearsal", f"{task.get_name()} broke: {error!r}")
            self.ended.set()

    async def _close(self) -> None:
        """End the last life tidily, and judge what is left."""
        await self._up.wait()
        if self.controller is not None and self.life is not None and not self.life.dead:
            self.invariants.finish(self._records())
            self.station.connect(None)
            await self.life.begin(self.controller.close(), "closing")

    def _result(self) -> Result:
        state = self.invariants.state
        doses = self.invariants.doses.doses
        return Result(
            seed=self.plan.seed,
            outcome=state.result or ("not started" if state.created is None else state.state.value),
            violations=[violation.as_data() for violation in self.book.kept],
            faults=dict(self.harness.counts()),
            not_applicable=self.harness.not_applicable,
            mended=self.harness.mended,
            kills=self.kills,
            held_s=self.held_s,
            touches=self.person.touches,
            commanded=doses.commanded,
            doubled=doses.doubled,
            in_doubt=doses.in_doubt,
            simulated_s=self.loop.time(),
            wall_s=time.monotonic() - self.began,
            events=len(self.invariants.heads),
            head=self.invariants.heads[-1] if self.invariants.heads else "",
            sockets=self.plan.sockets,
            samples=self.samples,
            alarms=dict(self.alarms),
        )

    # --- lives ----------------------------------------------------------------------------------------------------

    async def _boot(self) -> None:
        """Start a controller on the files that are there; it may die, or give up, on its way."""
        self.boots += 1
        if self.boots > MOST_BOOTS:
            self.book.note("boots", f"the controller was started {MOST_BOOTS} times")
            self.ended.set()
            return
        life = self.life = Life(self.loop, f"boot-{self.boots}")
        clock = self.life_clock = LifeClock(life, self.harness.disk, lambda: self.cut(self.harness.next_outage))
        clock.epoch = EPOCH + timedelta(seconds=self.wall_off)
        clock.server, clock.boot = self.synchronised, f"machine-{self.machine}"
        links = None if self.plan.sockets else memory_links(self.servers, clock)
        suite = Suite(self.site, clock, links, self.behind.connects)
        controller = self.controller = Controller(self.site, clock, suite, life.name, self.plan.folders)
        controller.on_batch.append(self._batch_began)
        controller.on_record.append(self._recorded)
        controller.on_scan.append(lambda _readings: None if life.dead else self.invariants.scanned())
        door = Door(
            controller,
            clock,
            self.clock.now,
            scheduled=self.site.scheduled_commands,
            on_refusal=partial(_note, controller),
        )
        self.absence.boots()
        self.harness.booting()
        opening = life.begin(controller.open(), "opening")
        await asyncio.wait([opening])
        if life.dead:
            return
        if (error := opening.exception()) is not None:
            self._gave_up(error)
            return
        if controller.runner(UNIT) is None:
            self._put_away_at_boot()
        self.station.connect(Connected(life, door))
        self.person.look()

    def _put_away_at_boot(self) -> None:
        """Take note of what a start, telling nobody, wrote to close a record that a death left half put away."""
        for record in self._records()[len(self.invariants.heads) :]:
            self._recorded(UNIT, record)

    def _gave_up(self, error: BaseException) -> None:
        """A controller that did not come up is started again, as the service manager does."""
        if not self.harness.disk_trouble():
            self.book.note("boots", f"the controller does not start: {error!r}")
            if not isinstance(error, (JournalError, OSError)) or self.boots > 20:
                self.ended.set()
        self.cut(BOOTS_AGAIN)

    def cut(self, outage: float, *, power: bool = False) -> None:
        """Kill the controller now and start it again after `outage` s; `power`: its machine went down with it."""
        life = self.life
        if life is None or life.dead or self.ended.is_set():
            return
        self.invariants.live()
        self.absence.dies()
        self.invariants.doses.dies()
        self.kills += 1
        self.machine += power
        self.controller = None
        self.station.connect(None)
        life.kill()
        self._up.clear()
        self.spawn(self._come_back(life, outage), "power comes back")

    async def _come_back(self, life: Life, outage: float) -> None:
        await life.bury(self.data)
        self._survived()
        await asyncio.sleep(outage)
        self._up.set()
        await self._boot()

    def _survived(self) -> None:
        path = self._file()
        if path is None:
            return
        records, verdict = read(path)
        self.invariants.survived(records, self.station.known, "" if verdict.ok else verdict.reason)

    def _in_control(self) -> bool:
        """Tell whether a controller has the batch in hand, and a record to say so."""
        runner = None if self.controller is None else self.controller.runner(UNIT)
        return self.absence.in_control and runner is not None and not runner.batch.record_failed

    def _hands_off(self) -> bool:
        return self.controller is not None and bool(self.controller.safe_reason)

    def _port(self, place: str) -> int:
        return self.site.units[UNIT].places[place].port

    def _file(self) -> Path | None:
        folder = self.data / "batches"
        return next(iter(sorted([*folder.glob("*.db"), *(folder / "closed").glob("*.db")])), None)

    def _records(self) -> list[Record]:
        path = self._file()
        return [] if path is None else read(path)[0]

    # --- what is told ---------------------------------------------------------------------------------------------

    def _batch_began(self, unit: str, batch: str, records: Sequence[Record]) -> None:
        if unit == UNIT:
            self._batch = batch
            for record in records[len(self.invariants.heads) :]:
                self._recorded(unit, record)

    def _recorded(self, unit: str, record: Record) -> None:
        if isinstance(record.event, ev.AlarmRaised) and self.life is not None and not self.life.dead:
            self.alarms[f"{record.event.priority} {record.event.alarm}"] += 1
        if unit != UNIT or self.life is None or self.life.dead:
            return
        self.invariants.recorded(record)
        event = record.event
        if not isinstance(event, ev.HistoryBlock):
            self._last_event = self.loop.time()
        if isinstance(event, ev.StateChanged) and not event.path:
            self._count_held(event.to_state)
        if isinstance(event, (ev.PromptOpened, ev.StateChanged, ev.BatchEnded, ev.AlarmRaised)):
            self.loop.call_soon(self.person.look, context=self._context.copy())
        self.harness.recorded(record)

    def _count_held(self, state: str) -> None:
        now = self.loop.time()
        if state == State.HELD:
            self._held_since = now
        elif self._held_since is not None:
            self.held_s += now - self._held_since
            self._held_since = None

    def _replied(self, reply: Any) -> None:
        self.invariants.replied(reply)

    def _lost(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Take down an exception that nobody caught; what the dead lose is no loss."""
        if self.life is not None and self.life.dead:
            return
        self.book.note("no_internal_error", f"{context.get('message')}: {context.get('exception')!r}")

    # --- people ---------------------------------------------------------------------------------------------------

    def _hands(self, name: str, args: dict[str, Any]) -> Any:
        """Do something at the bench; a moment of the record's time is told in that of the plant."""
        if isinstance(args.get("at"), str) and self.controller is not None:
            record_now = self._record_now()
            off = (record_now - self.clock.now()).total_seconds()
            moment = datetime.fromisoformat(args["at"]) - timedelta(seconds=off)
            args = args | {"at": moment.isoformat()}
        if name == "moved" and args.get("sequence") is not None:
            args = args | {"sequence": self.invariants.doses.run_of(self.invariants.state, int(args["sequence"]))}
        return self.bench.call(name, self.harness.at_the_bench(name, args))

    def _record_now(self) -> datetime:
        controller = self.controller
        if controller is None:
            return self.clock.now()
        runner = controller.runner(UNIT)
        return controller.clock.now() if runner is None else runner.batch.clock.now()

    # --- day by day -----------------------------------------------------------------------------------------------

    async def _each_day(self) -> None:
        """Once a day: see that something still happens, and take down what must not grow."""
        while not self.ended.is_set():
            if self.controller is not None:
                self.samples.append(self._sample())
            for _ in range(24):
                await asyncio.sleep(DAY / 24)
                self.person.look()
                if self.person.start_refused:
                    self.book.note("starts", self.person.start_refused)
                    self.ended.set()
            if self.loop.time() - self._last_event > STANDS_STILL:
                self.book.note("goes_on", f"nothing has happened for {STANDS_STILL / DAY:g} days: {self._where()}")
                self.ended.set()

    def _sample(self) -> Sample:
        status = {} if self.controller is None else self.controller.status(UNIT)
        with open("/proc/self/statm", encoding="ascii") as file:
            rss = int(file.read().split()[1]) * PAGE_MB
        return Sample(
            day=round(self.loop.time() / DAY, 3),
            rss_mb=round(rss, 1),
            tasks=len(asyncio.all_tasks(self.loop)),
            descriptors=sum(1 for _ in Path("/proc/self/fd").iterdir()),
            status_bytes=len(json.dumps(status, allow_nan=False)),
        )

    def _where(self) -> str:
        state = self.invariants.state
        open_ = {p: n.status.value for p, n in state.nodes.items() if n.status != "complete"}
        prompts = [p.id for p in state.prompts.values() if p.open]
        return f"{state.state.value} at {open_}, prompts {prompts}, alarms {list(state.alarms)}"


def _note(controller: Controller, refusal: Refusal) -> None:
    with contextlib.suppress(JournalError):
        controller.note_refusal(
            ev.CommandRefused(
                refusal.client, refusal.unit, refusal.verb, refusal.command_id, refusal.code, refusal.text[:500]
            )
        )
