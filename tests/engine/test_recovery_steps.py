"""Recovery is harmless to repeat, hears people at once, and one batch's trouble is not another's."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from pytest import approx
from story import UNIT, Story, plain

from simulators.device import SimDevice
from simulators.server import ModbusServer
from tilctl.engine import recovery
from tilctl.engine.port import Command
from tilctl.engine.state import fold
from tilctl.journal.chain import GENESIS, Record, digest
from tilctl.journal.store import JournalError

WRITES = (5, 6, 15, 16)  # Modbus function codes


class Wire:
    """Every request that reaches an instrument from now on, in order; `at` is to be done at the k-th."""

    def __init__(self, suite: Story) -> None:
        self.requests: list[tuple[str, bool]] = []  # instrument, whether it was a write
        self.at: tuple[int, Callable[[], None]] | None = None
        names = {device: name for name, device in suite.plant.devices.items()}
        for server in suite.servers.servers.values():
            self._trace(server, names)

    def _trace(self, server: ModbusServer, names: dict[SimDevice, str]) -> None:
        answer = server.answer

        def traced(unit: int, pdu: bytes) -> tuple[bytes, float] | None:
            self.requests.append((names[server.units[unit]], pdu[0] in WRITES))
            if self.at is not None and len(self.requests) == self.at[0]:
                self.at[1]()
            return answer(unit, pdu)

        server.answer = traced


def what_it_came_to(suite: Story) -> dict[str, Any]:
    """Return the folded state of the batch without what each boot adds, and without the moments."""
    folded = fold(suite.records())
    state = plain(folded)
    intents = [(i.path, i.action, i.args, i.outcome) for i in state["intents"].values()]
    volumes = {c.name: round(c.volume_ml / 4.0) for c in folded.ledger}
    nodes = {path: (node.status, sorted(node.phases)) for path, node in state["nodes"].items()}
    return {
        "states": state["states"], "nodes": nodes, "intents": intents, "volumes": volumes,
        "alarms": sorted(state["alarms"].keys() - {"safe-mode"}), "targets": state["targets"],
        "marks": set(state["marks"]),
        "prompts": {p.id: (p.answer, p.withdrawn) for p in state["prompts"].values()},
    }  # fmt: skip


async def dead_in_a_dose(suite: Story) -> None:
    await suite.start("small")
    await suite.until_flowed("pump_media", 20.0)
    suite.kill()
    await suite.bury()
    await asyncio.sleep(60.0)  # the pump has come to its end, so that no kill changes what it did


async def recovered(suite: Story) -> dict[str, Any]:
    await suite.until_state("held")
    await suite.settle()
    return what_it_came_to(suite)


@pytest.fixture
async def undisturbed(tmp_path: Path) -> AsyncIterator[tuple[dict[str, Any], int, int]]:
    """What one undisturbed recovery comes to, how many events it writes, and how many requests it sends."""
    other = Story(tmp_path / "undisturbed")
    before = structlog.get_config()["processors"]
    structlog.configure(processors=[other.logs])
    await other.open()
    await dead_in_a_dose(other)
    known = len(other.records())
    wire = Wire(other)
    await other.boot()
    came_to = await recovered(other)
    yield came_to, len(other.records()) - known, len(wire.requests)
    await other.close()
    structlog.configure(processors=before)


async def test_killed_at_each_event_of_recovery_it_comes_to_the_same(
    suite: Story, tmp_path: Path, undisturbed: tuple[dict[str, Any], int, int]
) -> None:
    """One run for each event: outage, targets, intents, recovered, the exception, the fault, held steps, held."""
    wanted, events, _ = undisturbed
    assert events >= 6
    await each(suite, tmp_path, range(1, events + 1), wanted, at_event)


async def test_killed_at_each_request_of_recovery_it_comes_to_the_same(
    suite: Story, tmp_path: Path, undisturbed: tuple[dict[str, Any], int, int]
) -> None:
    wanted, _, requests = undisturbed
    assert requests > 20
    await each(suite, tmp_path, range(1, requests + 1, 2), wanted, at_request)


def at_event(story: Story, number: int) -> None:
    first = len(story.records())

    def due(record: Record) -> bool:
        return record.seq == first + number

    story.kill_at(due)


def at_request(story: Story, number: int) -> None:
    Wire(story).at = (number, lambda: story.kill() if story.alive else None)


async def each(
    suite: Story, tmp_path: Path, numbers: range, wanted: dict[str, Any], arm: Callable[[Story, int], None]
) -> None:
    died = 0
    for number in numbers:
        story = Story(tmp_path / f"n{number}")
        structlog.configure(processors=[story.logs])
        await story.open()
        await dead_in_a_dose(story)
        arm(story, number)
        await story.boot()
        for _ in range(20):  # where it dies a little after it was ready
            await asyncio.sleep(1.0)
            if not story.alive:
                break
        story.kill_at(None)
        if not story.alive:
            died += 1
            await story.bury()
            await story.boot()
        assert await recovered(story) == wanted, f"killed at {number}"
        moved = [run.moved_ml for run in story.pump("pump_media").log]
        assert len(moved) == 1, "recovery doses nothing"
        await story.close()
    structlog.configure(processors=[suite.logs])
    assert died >= len(numbers) * 0.8, f"only {died} of {len(numbers)} kills struck"


async def test_every_device_is_read_before_any_write(suite: Story) -> None:
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    suite.kill()
    await suite.bury()
    suite.plant.devices["incubator"]._handlers["set_temperature"]({"value": 20.0})
    wire = Wire(suite)
    await suite.boot()
    await suite.when(lambda: any(write for _, write in wire.requests), "something is written")
    first = next(index for index, (_, write) in enumerate(wire.requests) if write)
    needed = set(suite.events("recovered")[-1].report["devices"])
    assert needed <= {name for name, _ in wire.requests[:first]}, "each was looked at first"
    assert wire.requests[first][0] == "incubator", "the environment comes first"


# --- people -----------------------------------------------------------------------------------------------------------


def command(verb: str, **args: Any) -> Command:
    return Command(f"early-{verb}", "test", UNIT, verb, args=args)


@pytest.mark.parametrize(("verb", "state"), [("hold", "held"), ("stop", "stopped"), ("abort", "aborted")])
async def test_hold_stop_and_abort_are_heard_during_recovery(suite: Story, verb: str, state: str) -> None:
    """The scales are silent, so recovery takes its time; the pump stands long before that."""
    await suite.start("small", first="400 mL")
    await suite.until_flowed("pump_media", 20.0)
    suite.kill()
    await suite.bury()
    suite.faults("scales").silent = True
    suite.hands.mine = {"reconcile"}
    opening = asyncio.create_task(suite.boot(), name="hands:boot")
    await suite.when(lambda: suite.controller.mode == "recovering", "the records are open")
    await asyncio.sleep(0.5)
    assert not suite.controller.ready
    early = await suite.controller.execute(command("restart"), lambda seq, digest: None)
    assert (early.status, early.code) == ("refused", "recovering")
    began = suite.loop.time()
    outcome = await suite.controller.execute(command(verb), lambda seq, digest: None)
    assert outcome.status == "done"
    await suite.when(lambda: suite.pump("pump_media").run is None, "the pump stands")
    assert suite.loop.time() - began < 8.0
    await opening
    assert suite.runner.state == state, "recovery finds it so and leaves it so"
    suite.faults("scales").silent = False
    suite.check_ledger = False


async def test_a_recovery_that_breaks_holds_its_batch_alone(suite: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    suite.kill()
    await suite.bury()
    suite.announced = {"recovery_failed"}

    async def broken(*_args: Any) -> dict[str, str]:
        raise ZeroDivisionError("a fault of the program")

    monkeypatch.setattr(recovery, "_resolve", broken)
    await suite.boot()
    monkeypatch.undo()
    assert suite.controller.ready, "the controller is there for the others, and for people"
    await suite.until_state("held")
    assert "recovery broke off: ZeroDivisionError" in suite.state.alarms["recovery-failed"].text
    await suite.do("restart")
    await suite.until_state("complete", within=5 * 3600.0)


# --- another version --------------------------------------------------------------------------------------------------


def add_foreign_event(path: Path) -> None:
    """Append what a later version might write, rightly chained."""
    connection = sqlite3.connect(path)
    seq, prev = connection.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone() or (0, GENESIS)
    for event in ({"kind": "recovered", "report": {"software": "9.9.0"}}, {"kind": "teleported", "to": "mars"}):
        seq, text, t = seq + 1, json.dumps(event, sort_keys=True, separators=(",", ":")), "2026-01-05T09:00:00.000Z"
        own = digest(seq, t, text, prev)
        connection.execute(
            "INSERT INTO events (seq, t, event, prev, hash) VALUES (?, ?, ?, ?, ?)", (seq, t, text, prev, own)
        )
        prev = own
    connection.commit()
    connection.close()


async def test_a_record_of_a_later_version_is_refused_before_anything_is_touched(suite: Story) -> None:
    await suite.start("small")
    await suite.until_flowed("pump_media", 20.0)
    suite.kill()
    await suite.bury()
    path = suite.file()
    add_foreign_event(path)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    wire = Wire(suite)
    with pytest.raises(JournalError) as refused:
        await suite.boot()
    text = str(refused.value)
    assert "knows no event of kind 'teleported'" in text
    assert "written by version 9.9.0, this is version" in text
    assert "start version 9.9.0 again" in text
    assert wire.requests == [], "no instrument was asked or told anything"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    suite.kill()
    await suite.bury()


# --- the same plant? --------------------------------------------------------------------------------------------------


def serials(suite: Story) -> dict[str, str]:
    return {event.device: event.serial for event in suite.events("device_seen")}


async def test_an_instrument_that_was_replaced_waits_for_a_person(suite: Story) -> None:
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    first = serials(suite)
    assert first["pump_media"]
    suite.kill()
    await suite.bury()
    suite.plant.devices["pump_media"].replace(98765)
    await suite.boot()
    await suite.until_state("held")
    text = suite.state.alarms["device-replaced"].text
    assert "pump_media has serial number 98765" in text
    assert first["pump_media"] in text
    await suite.power_cut()
    await suite.until_state("held")
    assert serials(suite) == first, "not accepted by another restart of the controller"
    await suite.do("restart")
    await suite.until("stay/one", "acting")
    assert serials(suite) == first | {"pump_media": "98765"}
    assert "device-replaced" not in suite.state.alarms
    await suite.power_cut()
    assert suite.runner.state == "running", "accepted once, it is the one that is expected"


async def test_a_bag_that_was_changed_waits_for_a_person(suite: Story) -> None:
    await suite.start("small")
    await suite.until("empty/static", "acting")
    suite.kill()
    await suite.bury()
    bag = next(bag for bag in suite.plant.fluidics.at.values() if bag is not None and bag.name == "media").contents
    before = (bag.volume, bag.mass)
    with suite.plant.change():
        bag.volume, bag.mass = bag.volume - 150.0, bag.mass - 150.0
    await suite.boot()
    await suite.until_state("held")
    text = suite.state.alarms["mass-mismatch"].text
    assert "media at" in text
    assert "were expected" in text
    await suite.do("restart")
    await suite.until_state("running", "complete")
    weighed = suite.events("weighed")
    assert [(e.container, round(e.expected_g - e.found_g)) for e in weighed] == [("media", approx(150, abs=4))]
    assert "mass-mismatch" not in suite.state.alarms
    with suite.plant.change():
        bag.volume, bag.mass = before
