"""A whole batch over the in-memory wire: the record and the trends are those of real Modbus TCP, bit for bit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from simulators.bench import Bench
from simulators.memory import memory_links
from simulators.operator import Operator
from simulators.plant import Plant
from simulators.suite import Suite as Servers
from simulators.suite import wire
from simulators.virtual import VirtualClock, run
from tilctl.config import load_site
from tilctl.engine.controller import Controller
from tilctl.engine.port import Command
from tilctl.engine.state import format_time, parse_time
from tilctl.journal.chain import Record
from tilctl.journal.verify import read
from tilctl.plant.suite import Suite

UNIT = "cell1"
DEMO_SITE = Path(str(files("tilctl.cli") / "demo-site.yaml"))


class LonelyClock(VirtualClock):
    """Nobody outside is waited for: the operator answers on the loop itself."""

    def outside(self, label: str) -> Any:
        return contextlib.nullcontext()


class Cell:
    """Controller, plant and operator on one loop; `over` is how the instruments are reached."""

    def __init__(self, clock: VirtualClock, folder: Path, seed: int) -> None:
        self.clock = LonelyClock(clock.loop, seed=seed)
        self.folder = folder
        self.plant = Plant(self.clock, seed)
        self.servers = Servers(wire(self.plant.devices), self.clock)
        self.operator = Operator(seed, Bench(self.plant).call)
        self.ended = asyncio.Event()
        self._answers: dict[str, asyncio.Task[None]] = {}
        self.controller: Controller

    async def batch(self, recipe: str, over: str) -> None:
        """Run a batch to its end."""
        overrides = {"http.port": "0", "data": str(self.folder)}
        if over == "tcp":
            ports = await self.servers.start()
            overrides |= {f"buses.{bus}.port": str(port) for bus, port in ports.items()}
        site = load_site(DEMO_SITE, overrides)
        links = memory_links(self.servers, self.clock) if over == "memory" else None
        suite = Suite(site, self.clock, links)
        self.controller = Controller(site, self.clock, suite, "boot-1", ())
        self.controller.on_record.append(self._recorded)
        await self.controller.open()
        try:
            await self._order("start", recipe=recipe, parameters={})
            await self.ended.wait()
        finally:
            await self.controller.close()
            await asyncio.gather(*self._answers.values())
            await self.servers.close()

    async def _order(self, verb: str, effective: str = "", **args: Any) -> None:
        command = Command(f"{verb}-{len(self._answers)}", "operator", UNIT, verb, args=args, effective=effective)
        outcome = await self.controller.execute(command, lambda _seq, _digest: None)
        assert outcome.status == "done", outcome

    def _recorded(self, _unit: str, _record: Record) -> None:
        for spec in self.controller.prompts(UNIT):
            if spec["id"] not in self._answers:
                self._answers[spec["id"]] = asyncio.create_task(self._answer(spec))
        runner = self.controller.runner(UNIT)
        if runner is not None and runner.state in ("complete", "held", "stopped", "aborted"):
            self.ended.set()

    async def _answer(self, spec: dict[str, Any]) -> None:
        answer = self.operator.answer(spec)
        asked = (parse_time(spec["asked"]) - self.clock.epoch).total_seconds()
        moment = format_time(self.clock.utc(asked + answer.delay_s))
        await self._order("prompt-answer", moment, prompt=spec["id"], inputs=dict(answer.inputs))


def record(recipe: str, over: str, folder: Path, seed: int = 1) -> list[Record]:
    """Return the record of a batch."""
    run(lambda clock: Cell(clock, folder, seed).batch(recipe, over), seed=seed, watchdog_s=60)
    ((records, verdict),) = [read(path) for path in sorted((folder / "batches").glob("*.db"))]
    assert verdict.ok, verdict
    return records


def _different(mine: list[Record], theirs: list[Record]) -> Iterator[str]:
    for one, other in zip(mine, theirs, strict=False):
        if one != other:
            yield f"{one} \nis not\n {other}"


def test_memory_and_tcp_give_the_same_record(tmp_path: Path):
    memory = record("shakedown", "memory", tmp_path / "memory")
    tcp = record("shakedown", "tcp", tmp_path / "tcp")
    kinds = {entry.event.kind for entry in memory}
    assert {"intent_closed", "history_block", "freeze_reported"} <= kinds
    assert memory == tcp, next(_different(memory, tcp), "one of them is longer")


@pytest.mark.slow
def test_22_days_in_memory_are_those_over_tcp(tmp_path: Path):
    """Every event and its moment.  Two instruments read in one moment may change places, and with them one sample."""
    memory = record("til-22d", "memory", tmp_path / "memory")
    tcp = record("til-22d", "tcp", tmp_path / "tcp")
    assert len(memory) == len(tcp)
    for mine, theirs in zip(memory, tcp, strict=True):
        assert mine.t == theirs.t
        if mine.event.kind == "history_block":
            assert replace(mine.event, sha256="") == replace(theirs.event, sha256="")
        else:
            assert mine.event == theirs.event
    others = [mine for mine, theirs in zip(memory, tcp, strict=True) if mine.event != theirs.event]
    assert len(others) < 0.02 * sum(entry.event.kind == "history_block" for entry in memory)


def test_another_seed_gives_another_record(tmp_path: Path):
    assert record("shakedown", "memory", tmp_path / "1") != record("shakedown", "memory", tmp_path / "2", seed=2)
