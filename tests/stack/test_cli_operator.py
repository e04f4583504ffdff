"""`tilctl operator` in a process of its own: answers over a real broker, works at the bench of a simulated plant."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from devices.clock import SystemClock
from simulators.bench import Bench
from simulators.habits import Habits
from simulators.operator import Operator
from simulators.plant import Plant
from simulators.remote import BenchServer
from tilctl.cli.main import main
from tilctl.cli.operator_runner import OperatorRunner
from tilctl.commands.door import Door
from tilctl.commands.envelope import rfc3339
from tilctl.engine.port import Command, Outcome, StoredAnswer
from tilctl.gateway.broker import EmbeddedBroker
from tilctl.gateway.mqtt import MqttGateway
from tilctl.gateway.outbox import Outbox
from tilctl.gateway.projector import Projector
from tilctl.gateway.topics import Topics

TOPICS = Topics("til/v1/demo/suite1")
TILCTL = (sys.executable, "-m", "tilctl.cli.main")


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  what is waited for happens in other threads and processes
            await asyncio.sleep(0.005)


@dataclass
class Asking:
    """A controller that asks what it is told to ask, until it is answered."""

    opened: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    heard: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    answers: dict[str, Command] = field(default_factory=dict[str, Command])
    project: Callable[[], None] = lambda: None

    def ask(self, number: str, asked: datetime | None = None, **spec: Any) -> None:
        asked = asked or datetime.now(UTC)
        self.opened[number] = {"id": number, "batch": "b1", "unit": "cell1", "asked": rfc3339(asked), **spec}
        self.project()

    def units(self) -> list[str]:
        return ["cell1"]

    def status(self, unit: str) -> dict[str, Any]:
        return {"state": "running", "state_version": 1, "batch": "b1"}

    def imported(self, unit: str) -> dict[str, list[str]]:
        return {}

    def prompts(self, unit: str) -> list[dict[str, Any]]:
        return list(self.opened.values())

    def known_command(self, unit: str, command_id: str) -> StoredAnswer | None:
        return None

    async def execute(self, command: Command, accepted: Callable[[int, str], None]) -> Outcome:
        accepted(1, "digest")
        number = str(command.args["prompt"])
        self.heard.append((command.id, dict(command.args["inputs"])))
        if self.opened.pop(number, None) is None:
            return Outcome("refused", "no_prompt", f"no open prompt {number}")
        self.answers[number] = command
        self.project()
        return Outcome("done")


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture
async def controller(broker: EmbeddedBroker) -> AsyncIterator[Asking]:
    asking, clock, outbox = Asking(), SystemClock(), Outbox()
    projector = Projector(asking, clock, outbox, TOPICS)
    asking.project = lambda: projector.refresh("cell1")
    door = Door(asking, clock, lambda: datetime.now(UTC))
    gateway = MqttGateway(broker.url, TOPICS, door, clock, outbox, identity={"boot": "boot-1", "version": "0"})
    gateway.start()
    await until(lambda: gateway.connected)
    yield asking
    asking.opened.clear()
    asking.project()
    projector.flush()
    gateway.close()
    await door.close()
    clock.close()


@pytest.fixture
async def bench() -> AsyncIterator[tuple[Plant, BenchServer, int]]:
    clock = SystemClock()
    plant = Plant(clock, 3)
    server = BenchServer(Bench(plant))
    port = await server.start()
    yield plant, server, port
    await server.close()
    clock.close()


@contextlib.asynccontextmanager
async def operator(url: str, port: int, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """An operator process that is ready."""
    command = (*TILCTL, "operator", "--url", url, "--bench", f"127.0.0.1:{port}", *words)
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        assert json.loads(await process.stderr.readline())["event"] == "ready"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def ended(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(60):
        return await process.wait()


async def test_it_hangs_a_bag_and_answers(
    broker: EmbeddedBroker, controller: Asking, bench: tuple[Plant, BenchServer, int]
):
    plant, _, port = bench
    container = {
        "name": "cm1",
        "kind": "bag",
        "class": "bag",
        "place": "h1",
        "port": 7,
        "holds": "serum",
        "limit_ml": 1000,
    }
    number = {"type": "number", "unit": "mL", "canonical": "mL", "min": 0, "max": 1000}
    inputs = {"volume.cm1": number, "scan.cm1": {"type": "scan"}}
    async with operator(broker.url, port, "--seed", "5", "--haste", "0.0001") as process:
        controller.ask(
            "p1", kind="mount", path="rep/bags", text="Mount", containers=[container], inputs=inputs, due=None
        )
        await until(lambda: controller.answers)
        process.terminate()
        assert await ended(process) == 0
    answer = controller.answers["p1"]
    hung = plant.fluidics.at[7]
    assert hung is not None
    assert (answer.client, answer.actor, answer.effective) == ("operator", "operator (operator)", "")
    assert answer.args["inputs"]["volume.cm1"] == f"{hung.contents.volume:g} mL"
    assert answer.args["inputs"]["scan.cm1"].startswith("CM1-")


async def test_it_ends_when_the_bench_is_gone(
    broker: EmbeddedBroker, controller: Asking, bench: tuple[Plant, BenchServer, int]
):
    _, server, port = bench
    async with operator(broker.url, port) as process:
        await server.close()
        controller.ask(
            "p1", kind="unmount", path="rep/out", text="Take", containers=[{"name": "rep"}], inputs={}, due=None
        )
        assert await ended(process) == 3
        assert process.stderr is not None
        assert b"the bench at 127.0.0.1:" in await process.stderr.read()
    assert controller.answers == {}


async def test_interrupted_is_130(broker: EmbeddedBroker, bench: tuple[Plant, BenchServer, int]):
    async with operator(broker.url, bench[2]) as process:
        process.send_signal(signal.SIGINT)
        assert await ended(process) == 130


def test_without_a_bench_there_is_nothing_to_work_at(capsys: pytest.CaptureFixture[str]):
    assert main(["operator", "--bench", "127.0.0.1:1"]) == 3
    assert "no bench at 127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [[], ["--bench", "here"], ["--bench", ":1"], ["--bench", "h:0"], ["--bench", "h:1", "--haste", "-1"]],
)
def test_wrong_usage_is_2(words: list[str]):
    with pytest.raises(SystemExit) as ended:
        main(["operator", *words])
    assert ended.value.code == 2


# --- the runner at real pace


@dataclass
class Given:
    inputs: dict[str, str | float]
    delay_s: float


@contextlib.contextmanager
def running(url: str, policy: Callable[[dict[str, Any]], Any]) -> Iterator[list[str]]:
    troubles: list[str] = []
    runner = OperatorRunner(url, TOPICS, policy, scheduled=False, on_trouble=troubles.append)
    runner.start()
    try:
        yield troubles
    finally:
        runner.close()


async def test_an_answer_that_takes_days_keeps_no_other_waiting(broker: EmbeddedBroker, controller: Asking):
    delays = {"p1": 13 * 86400.0, "p2": 0.0, "p3": 3600.0}
    with running(broker.url, lambda prompt: Given({}, delays[prompt["id"]])) as troubles:
        controller.ask("p1")
        controller.ask("p2")
        controller.ask("p3", asked=datetime.now(UTC) - timedelta(hours=2))
        await until(lambda: set(controller.answers) == {"p2", "p3"})
        assert list(controller.opened) == ["p1"]
    assert troubles == []
    assert [answer.effective for answer in controller.answers.values()] == ["", ""]


async def test_one_prompt_that_cannot_be_answered_stops_no_other(broker: EmbeddedBroker, controller: Asking):
    tries: list[str] = []

    def policy(prompt: dict[str, Any]) -> Given:
        tries.append(prompt["id"])
        if prompt["id"] == "p1" and len(tries) == 1:
            raise ValueError("nothing hangs there")
        return Given({}, 0.0)

    with running(broker.url, policy) as troubles:
        controller.ask("p1")
        await until(lambda: troubles)
        controller.ask("p2")
        await until(lambda: "p2" in controller.answers)
        controller.ask("p1", text="once more")
        await until(lambda: "p1" in controller.answers)
    assert tries == ["p1", "p2", "p1"]
    assert troubles == ["prompt p1 of b1 was not answered: ValueError: nothing hangs there"]


async def test_bad_habits_are_carried_out_and_trouble_nobody(broker: EmbeddedBroker, controller: Asking):
    person = Operator(1, lambda name, args: None, 0.0, Habits(double=1.0, contradictory=1.0))
    inputs = {"pass": {"type": "choice", "choices": ["yes", "no"]}}
    with running(broker.url, person.answer) as troubles:
        controller.ask("p1", path="a/b", kind="ask", inputs=inputs)
        await until(lambda: len(controller.heard) == 4)
    assert troubles == []
    assert [given["pass"] for _, given in controller.heard] == ["yes", "yes", "yes", "no"]
    names = [name for name, _ in controller.heard]
    assert (names[0] == names[1], len(set(names))) == (True, 3)
