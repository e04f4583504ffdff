"""The suite of this rung: the real engine over Modbus to a simulated plant, in virtual time, without MQTT.

The instruments' servers are asked in memory, which costs less than sockets and ends each request alike
(`tests/stack/test_memory.py`); a class of stories that says `sockets = True` goes over TCP.

A test tells a story: `await suite.start("small")`, `await suite.until("fill/first", "acting")`, `suite.do("hold")`.
`Hands` answer the prompts as the simulated operator would, unless a test takes them in its own hands.  `kill` ends the
controller as a power cut does: nothing more is written, sent or waited for; `boot` starts another on the same files.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import structlog
from pytest import approx
from structlog import DropEvent
from structlog.testing import LogCapture

from simulators.bench import Bench
from simulators.memory import memory_links
from simulators.operator import Operator
from simulators.physics.fluid import Pump
from simulators.plant import Plant
from simulators.server import UnitFaults
from simulators.suite import Suite as Servers
from simulators.suite import wire
from simulators.virtual import VirtualClock, VirtualLoop
from tilctl.config import Site, load_site
from tilctl.engine.controller import Controller
from tilctl.engine.port import Command, Outcome
from tilctl.engine.runner import Runner
from tilctl.engine.state import BatchState, Intent, Node, Prompt, fold, format_time
from tilctl.journal.chain import Record
from tilctl.journal.verify import read
from tilctl.plant.suite import Suite as PlantSuite

T = TypeVar("T")
S = TypeVar("S", bound="Story")
UNIT = "cell1"
HERE = Path(__file__).parent
RESTING = ("held", "paused", "stopped", "aborted", "complete")
DEMO_SITE = Path(str(files("tilctl.cli") / "demo-site.yaml"))
ABOVE_GUARDS = {"units.cell1.interlocks.too_hot.when": "station.temperature > 44 degC"}
"""Stories heat the chamber to 41 degC and more, to see the guards of recipes act; the interlocks have their own."""
SCAN = {"scan.active": "1 s", "scan.quiet": "60 s", "scan.idle": "10 min", "scan.trend": "10 s"}


def event_of_note(record: Record) -> bool:
    """Whether the status shows something new after it; asking after every event was a sixth of all these tests."""
    return record.seq % 8 == 0 or record.event.kind in ("state_changed", "prompt_opened", "alarm_raised")


class LifeClock(VirtualClock):
    """The clock of one life of the controller.  Nobody outside is waited for: people answer on the loop itself."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__(loop)
        self.dead = False
        self.disk_full = False

    def outside(self, label: str) -> Any:
        return contextlib.nullcontext()

    async def sleep(self, seconds: float) -> None:
        if self.dead and seconds > 0:
            raise asyncio.CancelledError
        await super().sleep(seconds)

    async def offload(self, work: Callable[[], T]) -> T:
        await self.loop.quiet()
        if self.dead or self.disk_full:
            raise OSError(28, "No space left on device")
        return work()


class Hands:
    """Answers prompts as the seeded operator does; `mine` are steps (or kinds) that the test answers itself."""

    def __init__(self, story: Story, haste: float, unit: str = UNIT, seed: int = 3) -> None:
        self.mine: set[str] = set()
        self.change: dict[str, dict[str, Any]] = {}  # step -> inputs to answer instead
        self.hang: dict[str, float] = {}  # container -> volume that hangs there really
        self.answered: set[tuple[str, str]] = set()
        self._story = story
        self._unit = unit
        self._policy = Operator(seed, self._bench, haste)
        self._seen: set[tuple[str, str]] = set()

    def _bench(self, name: str, args: dict[str, Any]) -> Any:
        if name == "hang" and args["name"] in self.hang:
            args = args | {"volume_ml": self.hang[args["name"]]}
        return self._story.bench_of(self._unit).call(name, args)

    def look(self) -> None:
        """Answer what is open, once; asked again by another life, the same answer comes again."""
        for spec in self._story.controller.prompts(self._unit):
            step = spec["path"].rpartition("/")[2]
            key = (spec["batch"], spec["id"])
            if key in self._seen or self.mine & {step, spec["kind"], "everything"}:
                continue
            self._seen.add(key)
            self._story.spawn(self._answer(spec), f"hands:{self._unit}:{spec['id']}")

    def forget_open(self) -> None:
        """What was under way when a life ended is answered again in the next."""
        self._seen &= self.answered

    async def _answer(self, spec: dict[str, Any]) -> None:
        answer = self._policy.answer(spec)
        inputs = dict(answer.inputs) | self.change.get(spec["path"].rpartition("/")[2], {})
        moment = self._story.moment(spec["asked"], answer.delay_s)
        outcome = await self._story.do(
            "prompt-answer", {"prompt": spec["id"], "inputs": inputs}, effective=moment, expect=None, unit=self._unit
        )
        if outcome.status == "done":
            self.answered.add((spec["batch"], spec["id"]))


class _LogOfTheLiving(LogCapture):
    """What a controller logs; the last words of a killed one are its own affair."""

    def __init__(self, story: Story) -> None:
        super().__init__()
        self._story = story

    def __call__(self, logger: Any, method: str, event_dict: Any) -> Any:
        if not self._story.alive:
            raise DropEvent
        return super().__call__(logger, method, event_dict)


class Story:
    """A suite, a controller and what a test may ask of them."""

    sockets = False

    def __init__(self, folder: Path, haste: float = 0.05) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.folder = folder
        self.plant = Plant(VirtualClock(loop), 3)
        self.bench = Bench(self.plant)
        self.servers = Servers(wire(self.plant.devices), self.plant.clock)
        self.hands = Hands(self, haste)
        self.site_overrides: dict[str, str] = {}
        self.announced: set[str] = set()  # log events of level error that the test expects
        self.logs = _LogOfTheLiving(self)
        self.outcomes: list[tuple[str, Outcome]] = []
        self.faults_in_check: list[str] = []
        self.ledger_within = (4.0, 0.03)  # mL, share: how far ledger and plant may be apart for each container
        self.check_ledger = True
        self.check_safe = True
        self.wall_off = 0.0  # s that the machine's wall clock is off
        self.time_server = True  # whether the machine's clock follows one
        self.machine: str | None = None  # its boot, where that is to be known
        self.leaves_safe_mode = True  # a person is there who leaves it at once; tests of safe mode itself leave it
        self._tasks: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Event()
        self._commands = 0
        self._boots = 0
        self._ports: dict[str, int] = {}
        self._kill_at: Callable[[Record], bool] | None = None
        self._site: Site | None = None
        self.site_file = DEMO_SITE
        self.overrides = dict(ABOVE_GUARDS)
        self._last: Runner | None = None  # also while it is being put away
        self.alive = False
        self.deaths = 0
        self.clock: LifeClock
        self.controller: Controller

    # --- life -----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        await self.listen()
        await self.boot()

    async def listen(self) -> None:
        if self.sockets:
            self._ports = await self.servers.start()

    async def boot(self, *, wait: bool = True) -> None:
        """Start a controller on the files that are there; it may die on its way."""
        self._boots += 1
        self.clock = LifeClock(self.loop)
        self.clock.step(self.wall_off)
        self.clock.server, self.clock.boot = self.time_server, self.machine
        overrides = {f"buses.{bus}.port": str(port) for bus, port in self._ports.items()}
        overrides |= {"http.port": "0", "data": str(self.folder / "data"), **SCAN, **self.overrides}
        overrides |= {**self.site_overrides}
        site = self._site = self._site or load_site(self.site_file, overrides)
        self.plant_suite = PlantSuite(
            site, self.clock, None if self.sockets else memory_links(self.servers, self.clock)
        )
        self.fit(self.plant_suite)
        self.controller = Controller(
            site, self.clock, self.plant_suite, f"boot-{self._boots}", (HERE / "recipes", self.folder)
        )
        self.controller.on_batch.append(self._batch_began)
        self.controller.on_record.append(self._recorded)
        self.controller.on_scan.append(lambda _readings: self._changed.set())
        self.alive = True
        self._last = None
        opening = asyncio.create_task(self.controller.open(), name="opening")
        if not wait:
            self._tasks.add(opening)
            return
        try:
            await opening
        except asyncio.CancelledError:
            if self.alive:
                raise
            await self.bury()
            return
        if self.leaves_safe_mode and self.controller.mode == "safe":
            leaving = self.spawn(self.do("leave-safe-mode", expect=None), "hands:leave-safe-mode")
            await asyncio.wait([leaving])
            if not self.alive:
                await self.bury()
                return
        self.hands.look()

    def edit_site(self, path: Path) -> None:
        """Let the next life of the controller find another site file."""
        self.site_file, self._site = path, None

    def step_clock(self, seconds: float) -> None:
        """Set the machine's wall clock forward or back; it stays so for later lives of the controller."""
        self.wall_off += seconds
        if self.alive:
            self.clock.step(seconds)

    def kill_at(self, condition: Callable[[Record], bool] | None) -> None:
        """Kill the controller in the very moment in which such a record is on disk."""
        self._kill_at = condition

    def kill(self) -> None:
        """End the controller as a power cut does."""
        self.alive = False
        self.deaths += 1
        self.clock.dead = True
        for task in self._living():
            task.cancel()
        self._changed.set()

    def _living(self) -> list[asyncio.Task[Any]]:
        tasks = [
            task
            for task in asyncio.all_tasks() - {asyncio.current_task()}
            if _of_the_product(task) or task.get_name().startswith("hands:")
        ]
        return sorted(tasks, key=lambda task: task.get_name())

    async def bury(self) -> None:
        """Wait until nothing of the killed controller is left."""
        for _ in range(20):  # what was in the middle of making safe may have begun more
            for _ in range(3):  # what a broken-off commit has told is told in the next turns
                await asyncio.sleep(0)
            if not (life := self._living()):
                break
            for task in life:
                task.cancel()
            await asyncio.wait(life)
            self._tasks -= set(life)
        slots = self.controller._slots.values()
        runners = [slot.runner or (self._last if slot.name == UNIT else None) for slot in slots]
        for journal in (self.controller._journal, *(runner and runner.batch.journal for runner in runners)):
            if journal is not None and journal._file is not None:
                journal._file._connection.close()
        for slot in slots:
            if slot._history is not None and slot._history._file._connection is not None:
                slot._history._file._connection.close()
        for bus in self.plant_suite.buses.values():
            await bus.close()
        self.hands.forget_open()

    async def power_cut(self, seconds: float = 0.0) -> None:
        """Kill the controller, and start it again after so many seconds; the plant goes on."""
        self.kill()
        await self.bury()
        await asyncio.sleep(seconds)
        await self.boot()

    async def close(self) -> None:
        try:
            if self.alive:
                await self.settle()
                self.check()
        finally:
            if self.alive:
                self.clock.disk_full = False
                await self.controller.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.servers.close()
        lost = [entry for entry in self.logs.entries if entry["log_level"] in ("error", "critical")]
        surprises = [entry for entry in lost if entry["event"] not in self.announced]
        assert not surprises, f"errors in the log that the test did not announce: {surprises}"

    def spawn(self, work: Any, name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _batch_began(self, unit: str, batch: str, records: Any) -> None:
        self._changed.set()

    def _recorded(self, unit: str, record: Record) -> None:
        if self._kill_at is not None and self.alive and unit == UNIT and self._kill_at(record):
            self.kill()
            return
        self._changed.set()
        self._last = self.runner_or_none or self._last
        if unit == UNIT and self.alive:
            if record.event.kind == "prompt_opened":
                self.hands.look()
            if event_of_note(record):
                json.dumps(self.controller.status(UNIT), allow_nan=False)
            self._check_held(record)

    def _check_held(self, record: Record) -> None:
        event = record.event
        if event.kind == "state_changed" and event.path == "" and event.to_state in RESTING and self.check_safe:
            turning = [name for name, pump in self.plant.pumps.items() if pump.run is not None]
            if turning:
                self.faults_in_check.append(f"{event.to_state} while {turning} turn")

    def fit(self, plant_suite: PlantSuite) -> None:
        """Exchange instruments before the controller sees them; here none."""

    def bench_of(self, unit: str) -> Bench:
        return self.bench

    # --- people ---------------------------------------------------------------------------------------------------

    async def do(
        self,
        verb: str,
        args: Mapping[str, Any] | None = None,
        *,
        expect: str | None = "done",
        effective: str = "",
        unit: str = UNIT,
        **said: str,
    ) -> Outcome:
        """Give a command and return its outcome, which must be `expect` where that is not None.

        `said`: its reason, and who gives it (user, role).
        """
        self._commands += 1
        command = Command(
            f"c-{self._boots}-{self._commands}", "test", unit, verb, args=dict(args or {}), effective=effective, **said
        )
        outcome = await self.controller.execute(command, lambda seq, digest: None)
        self.outcomes.append((verb, outcome))
        assert outcome.status not in ("refused", "failed") or outcome.code, f"{verb}: {outcome} has no code"
        assert expect is None or outcome.status == expect, f"{verb}: {outcome}"
        return outcome

    async def start(self, recipe: str, **parameters: str) -> Outcome:
        return await self.do("start", {"recipe": recipe, "parameters": parameters})

    async def answer(self, step: str, expect: str | None = "done", **inputs: Any) -> Outcome:
        """Answer the open prompt of a step by its path or last id."""
        number = self.prompt(step).id
        return await self.do("prompt-answer", {"prompt": number, "inputs": inputs}, expect=expect)

    def prompt(self, step: str) -> Prompt:
        found = [p for p in self.state.prompts.values() if step in (p.path, p.path.rpartition("/")[2], p.id)]
        assert found, f"no prompt of {step}"
        return next((p for p in found if p.open), found[-1])

    # --- waiting --------------------------------------------------------------------------------------------------

    async def when(self, condition: Callable[[], Any], what: str, within: float = 6 * 3600.0) -> Any:
        """Wait until a condition of this process holds, looked at after each record and scan."""
        end = self.loop.time() + within
        while not (found := condition()):
            self._changed.clear()
            try:
                async with asyncio.timeout_at(end):
                    await self._changed.wait()
            except TimeoutError:
                raise AssertionError(f"not within {within:g} virtual s: {what}; {self.where()}") from None
        return found

    async def until(self, path: str, status: str, within: float = 6 * 3600.0) -> None:
        """Wait until a step has a status (acting, held, complete, failed, in_doubt)."""
        await self.when(lambda: self.alive and self._has(path, status), f"{path} is {status}", within)

    async def until_state(self, *states: str, within: float = 6 * 3600.0) -> None:
        """Wait until the batch is in one of these states, and that is on record."""
        await self.when(
            lambda: self.alive and self.runner_or_none is not None and self.state.state in states,
            f"the batch is {' or '.join(states)}",
            within,
        )

    async def until_flowed(self, pump: str, volume: float) -> None:
        """Wait until a pump has moved so much in the dispense under way (mL, in truth)."""
        await self.when(
            lambda: (run := self.pump(pump).run) is not None and run.counts(self.plant.time()) * 0.01 >= volume,
            f"{pump} has moved {volume} mL",
        )

    async def settle(self) -> None:
        """Let everything that is due now be done and be on disk."""
        for _ in range(5):
            await self.loop.quiet()
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _has(self, path: str, status: str) -> bool:
        node = None if self.runner_or_none is None else self.state.node(path)
        return node is not None and node.status == status

    def where(self) -> str:
        if self.runner_or_none is None:
            return "no batch"
        open_ = {p: n.status.value for p, n in self.state.nodes.items() if n.status != "complete"}
        reasons = [n.reason for n in self.state.nodes.values() if n.reason]
        return f"batch {self.runner.state.value} at {open_}, {reasons}, alarms {list(self.state.alarms)}"

    # --- looking --------------------------------------------------------------------------------------------------

    @property
    def runner_or_none(self) -> Runner | None:
        return self.controller.runner(UNIT)

    @property
    def runner(self) -> Runner:
        runner = self.runner_or_none
        assert runner is not None
        return runner

    @property
    def state(self) -> BatchState:
        return self.runner.batch.state

    def node(self, path: str) -> Node:
        return self.state.nodes[path]

    def intents(self, path: str) -> list[Intent]:
        return self.state.intents_of(path)

    def pump(self, name: str) -> Pump:
        self.plant.time()
        return self.plant.pumps[name]

    def faults(self, device: str) -> UnitFaults:
        return self.servers.faults(self.plant.devices[device])

    def now(self) -> str:
        return format_time(self.clock.now())

    def moment(self, asked: str, seconds: float) -> str:
        from tilctl.engine.state import parse_time  # noqa: PLC0415

        return format_time(parse_time(asked) + timedelta(seconds=seconds))

    def file(self) -> Path:
        return next(iter(sorted((self.folder / "data" / "batches").glob("*.db"))))

    def records(self) -> list[Record]:
        """What is on disk."""
        records, verdict = read(self.file())
        assert verdict.ok, verdict
        return records

    def events(self, kind: str, **fields: Any) -> list[Any]:
        return [
            record.event
            for record in self.records()
            if record.event.kind == kind and all(getattr(record.event, k) == v for k, v in fields.items())
        ]

    # --- invariants -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """The invariants that hold in every story."""
        assert not self.faults_in_check, self.faults_in_check
        self._check_refusals_and_outputs()
        if self.runner_or_none is None:
            return
        if not self.runner.batch.record_failed:
            self._check_fold()
        self._check_intents()
        if self.check_ledger:
            self._check_volumes()

    def _check_fold(self) -> None:
        folded, live = plain(fold(self.records())), plain(self.state)
        assert folded.keys() == live.keys()
        for name, value in folded.items():
            assert value == live[name], f"the fold of the record differs from the live state in {name}"

    def _check_intents(self) -> None:
        opened = [i for i in self.state.intents.values() if i.action == "dispense"]
        for name, pump in self.plant.pumps.items():
            intents = [i for i in opened if i.device == name]
            heard = [i.args["sequence"] for i in intents if i.outcome != "nothing"]
            done = [run.sequence for run in pump.log]
            assert len(set(done)) == len(done), f"{name} took a sequence number twice: {done}"
            assert len(set(heard)) == len(heard), f"{name}: a number for two intents that moved something: {heard}"
            told = {i.args["sequence"]: i.args["volume"] for i in intents}
            mine = [run for run in pump.log if run.sequence in told]
            assert all(run.commanded_ml == approx(told[run.sequence]) for run in mine), f"{name} was told otherwise"

    def _check_volumes(self) -> None:
        total, brought = self.plant.volume_total(), self.plant.aside.brought_ml
        assert abs(total - brought) < 1e-6 * max(1.0, brought), f"{brought} mL were brought, {total} mL are there"
        within_ml, share = self.ledger_within
        for container in self.state.ledger:
            if not container.mounted:
                continue
            port = self.runner.batch.plant.place(container.place).port
            real = self.plant.place(port)
            if real is None or real.name != container.name:
                continue
            off = abs(real.contents.volume - container.volume_ml)
            allowed = max(within_ml, share * real.contents.volume)
            assert off <= allowed, (
                f"{container.name}: {container.volume_ml:.1f} by ledger, {real.contents.volume:.1f} mL in truth"
            )

    def _check_refusals_and_outputs(self) -> None:
        words = self.plant.devices["incubator"].read(3, 0, 4)
        (temperature, co2) = struct.unpack(">ff", struct.pack(">4H", *words))
        assert 4.0 <= temperature <= 42.0
        assert 0.0 <= co2 <= 20.0
        for pump in self.plant.pumps.values():
            for run in pump.log:
                assert 0.0 < run.rate <= 200.0
                assert 0.0 < run.commanded_ml <= 10_000.0
        for verb, outcome in self.outcomes:
            assert outcome.status in ("done", "already") or outcome.code, f"{verb}: {outcome}"


def _of_the_product(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and any(f"/{part}/" in code.co_filename for part in ("tilctl", "devices", "pymodbus"))


def plain(state: BatchState) -> dict[str, Any]:
    """Return every field of a state in a form that can be compared."""
    fields = dict(vars(state))
    fields["ledger"] = [*state.ledger, dict(state.ledger.others)]
    return fields


@contextlib.asynccontextmanager
async def told(story: S) -> AsyncIterator[S]:
    """Open a story, hear its log, and check at its end what every story must keep."""
    before = structlog.get_config()["processors"]
    structlog.configure(processors=[story.logs])
    await story.open()
    try:
        yield story
    finally:
        await story.close()
        structlog.configure(processors=before)
