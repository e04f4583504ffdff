"""Rehearsals: the product's own loop, instruments on real Modbus TCP, an operator on a real broker, in virtual time.

The main job runs in memory here, and over sockets among the slow tests.

The same seed gives the same record, bit for bit, whatever else the machine does; another seed gives other numbers on
the same way through the recipe.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from recipes.catalog import load
from simulators.plant import Plant
from simulators.virtual import VirtualClock, run
from tilctl.cli.dryrun.walk import dry_run
from tilctl.cli.rehearsal import Order, Rehearsal, rehearse
from tilctl.cli.rehearsing.result import Result
from tilctl.cli.rehearsing.world import Plan, World
from tilctl.engine.machine import State
from tilctl.engine.state import BatchState, fold, parse_time
from tilctl.gateway.broker import EmbeddedBroker
from tilctl.journal.chain import Record
from tilctl.journal.events import Event, StateChanged
from tilctl.journal.verify import read, verify


@dataclass
class Outcome:
    """What a rehearsal left."""

    state: BatchState
    head: str
    records: list[Record]
    plant: Plant
    trouble: list[str]
    logs: list[EventDict]

    @property
    def events(self) -> list[Event]:
        return [record.event for record in self.records]

    def walked(self) -> list[tuple[str, str]]:
        """Return the way through the recipe: each step as it began and ended."""
        kinds = ("step_started", "step_completed")
        return [(e.kind, e.path) for e in self.events if e.kind in kinds]

    def delivered(self) -> dict[str, float]:
        """Return what each transfer delivered by its evidence, mL; what was missing may have taken a second intent."""
        volumes: dict[str, float] = {}
        for intent in self.state.intents.values():
            if intent.action == "dispense":
                volumes[intent.path] = volumes.get(intent.path, 0.0) + (intent.delivered_ml or 0.0)
        return volumes

    def days(self) -> float:
        """Return how long it took in simulated days."""
        first, last = (datetime.fromisoformat(record.t) for record in (self.records[0], self.records[-1]))
        return (last - first).total_seconds() / 86400


def rehearsed(recipe: str, seed: int, folder: Path) -> Outcome:
    """Run a batch to its end and read its record from the file."""
    kept: list[tuple[Rehearsal, str]] = []
    with EmbeddedBroker() as broker, capture_logs() as logs:
        order = Order(recipe, seed, folder, broker.url)

        def main(clock: VirtualClock) -> object:
            return rehearse(order, clock, lambda _service, _plant: None, lambda r: kept.append((r, head_of(r))))

        run(main, seed=seed, watchdog_s=60)
    ((done, head),) = kept
    (path,) = (folder / "data" / "batches").glob("*.db")
    assert verify(path, head).ok
    records, _ = read(path)
    return Outcome(done.runner.batch.state, head, records, done.plant, done.trouble, logs)


def head_of(rehearsal: Rehearsal) -> str:
    return rehearsal.runner.batch.journal.head[1]


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Keep more processes running than the machine has cores."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    yield
    for other in others:
        other.kill()
        other.wait()


@pytest.fixture(scope="module")
def shakedown(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return rehearsed("shakedown", 1, tmp_path_factory.mktemp("shakedown"))


def in_memory(recipe: str, seed: int, folder: Path) -> Outcome:
    """Run a batch to its end without sockets and broker."""
    worlds: list[World] = []

    async def main(clock: VirtualClock) -> Result:
        worlds.append(World(Plan(recipe, seed, folder), clock))
        return await worlds[0].run()

    with capture_logs() as logs:
        result = run(main, seed=seed, watchdog_s=60)
    (path,) = (folder / "data" / "batches" / "closed").glob("*.db")
    assert verify(path, result.head).ok
    records, _ = read(path)
    reset = next(n for n, r in enumerate(records) if isinstance(r.event, StateChanged) and r.event.to_state == "idle")
    trouble = [str(violation) for violation in result.violations]
    return Outcome(fold(records[:reset]), result.head, records, worlds[0].plant, trouble, logs)


def test_the_same_seed_gives_the_same_record(shakedown: Outcome, tmp_path: Path) -> None:
    again = rehearsed("shakedown", 1, tmp_path)
    assert again.records == shakedown.records
    assert again.head == shakedown.head


@pytest.mark.slow
def test_a_busy_machine_gives_the_same_record(shakedown: Outcome, busy_machine: None, tmp_path: Path) -> None:
    busy = rehearsed("shakedown", 1, tmp_path)
    assert busy.records == shakedown.records
    assert busy.head == shakedown.head


def test_another_seed_gives_other_numbers_on_the_same_way(shakedown: Outcome, tmp_path: Path) -> None:
    other = rehearsed("shakedown", 2, tmp_path)
    assert other.walked() == shakedown.walked()
    mine, theirs = other.delivered(), shakedown.delivered()
    assert mine.keys() == theirs.keys()
    assert all(mine[path] != theirs[path] for path in mine)
    assert other.head != shakedown.head


def test_22_days_run_to_their_end_and_the_record_says_what_the_plant_did(tmp_path: Path) -> None:
    whole = in_memory("til-22d", 1, tmp_path)
    is_right(whole)
    a_dry_run_comes_to_the_same(whole)


def a_dry_run_comes_to_the_same(whole: Outcome) -> None:
    """Hold a dry run of the same seed against what the controller did: studies stand on it."""
    dry = dry_run(load("til-22d"), 1)
    assert dry.ended == "complete"
    first = parse_time(whole.records[0].t)
    began = {event.path: (parse_time(record.t) - first).total_seconds() for record in whole.records
             if (event := record.event).kind == "step_started"}  # fmt: skip
    assert {did.path for did in dry.did} <= {*began}
    late = {did.path: abs(did.began - began[did.path]) for did in dry.did}
    assert max(late.values()) < 600.0, "each step within ten minutes, over 22 days"
    assert dry.plant is not None
    with_controller, without = living(whole.plant), living(dry.plant)
    assert len(with_controller.keys() & without.keys()) > 0.98 * len(with_controller)
    harvested = dry.marks["harvested"] / 3600.0  # from then on they are on their way into bags and freezer
    both = [(cells, without[hour]) for hour, cells in with_controller.items() if hour in without and hour < harvested]
    assert max(abs(mine / cells - 1.0) for cells, mine in both) < 0.02, "cells at each hour"


def living(plant: Plant) -> dict[int, float]:
    """Return the viable cells of a plant by the hour, from the first million on."""
    found: dict[int, float] = defaultdict(float)
    for row in plant.trace.rows:
        found[round(row.t / 3600.0)] += row.viable
    return {hour: cells for hour, cells in found.items() if cells > 1e6}


def is_right(whole: Outcome) -> None:
    """Hold the record of a whole batch against what the plant itself knows."""
    assert (whole.state.state, whole.state.result) == (State.COMPLETE, "complete")
    assert 22 <= whole.days() <= 24
    assert not whole.trouble
    assert not [line for line in whole.logs if line["log_level"] not in ("debug", "info")]
    assert not [event for event in whole.events if event.kind in ("alarm_raised", "exception_raised")]
    kinds = Counter(event.kind for event in whole.events)
    assert kinds["prompt_opened"] == kinds["answer_received"] > 25

    walked = whole.walked()
    assert len(set(walked)) == len(walked), "no step began or ended twice"
    assert {path for kind, path in walked if kind == "step_started"} == {
        path for kind, path in walked if kind == "step_completed"
    }

    plant = whole.plant
    assert plant.volume_total() == pytest.approx(plant.aside.brought_ml), "no liquid came from nowhere"
    done = {(name, run.sequence): run for name, pump in plant.pumps.items() for run in pump.log}
    assert len(done) == sum(len(pump.log) for pump in plant.pumps.values())
    intents = [intent for intent in whole.state.intents.values() if intent.action == "dispense"]
    assert sorted((i.device, i.args["sequence"]) for i in intents) == sorted(done), "each intent once, nothing else"
    for intent in intents:
        run = done[intent.device, int(intent.args["sequence"])]
        assert run.commanded_ml == intent.args["volume"]
        assert intent.delivered_ml == pytest.approx(run.moved_ml, rel=0.02, abs=3.0), intent.path
        assert intent.counted_ml == pytest.approx(run.counted_ml, abs=0.02), intent.path

    (report,) = [event.data for event in whole.events if event.kind == "freeze_reported"]
    assert report["ended_as"] == "complete"
    assert report["findings"]
    assert all(finding["ok"] for finding in report["findings"])
    product = [c.contents for name, c in plant.aside.shelf.items() if name.startswith("product")]
    assert sum(contents.viable for contents in product) > 1e9
    assert all(contents.temperature < -80 for contents in product), "frozen, and stored"


@pytest.mark.slow
def test_22_days_over_sockets_and_a_broker_give_the_same_record_twice(busy_machine: None, tmp_path: Path) -> None:
    whole = rehearsed("til-22d", 1, tmp_path / "one")
    is_right(whole)
    assert rehearsed("til-22d", 1, tmp_path / "two").records == whole.records
