"""The guard: what a scan costs with it and without it, and how soon an alarm is on the record, at 200 tags x 16 units.

The instruments are served by a process of their own; each tag has an alarm with delays and a deadband.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from devices.alarm import AlarmFields
from devices.clock import SystemClock
from devices.modbus.bus import ModbusBus
from devices.modbus.driver import ModbusDevice
from devices.profile import load_profile
from devices.profile_types import Profile
from devices.reading import Quality, Reading
from simulators.parts import simulated
from simulators.server import ModbusServer
from tilctl.config.site import SiteAlarm
from tilctl.engine.site_watches import watch
from tilctl.engine.state import parse_time
from tilctl.guard.board import GuardBoard, Reactions
from tilctl.guard.book import AlarmBook
from tilctl.guard.desk import Desk
from tilctl.journal import events as ev
from tilctl.journal.alarms import Priority
from tilctl.journal.chain import Record
from tilctl.journal.site import SiteJournal
from tilctl.plant.image import ProcessImage

TAGS, UNITS, BLOCKS = 200, 16, 4
ROUNDS, SCANS = 9, 20
STORM = 500

HEAD = """
profile: {id: bench, version: 1, role: balance, maker: none, model: none, evidence: simulated, sources: [a benchmark]}
transport: {kinds: [tcp]}
"""


def profile_of(folder: Path) -> Profile:
    """Return a profile of 200 values in four blocks."""
    each = TAGS // BLOCKS
    blocks = "".join(f"  b{i}: {{fc: 3, addr: {2 * each * i}, count: {2 * each}, scan: fast}}\n" for i in range(BLOCKS))
    names = ["gross", *(f"p{i}" for i in range(1, TAGS))]
    points = "".join(
        f"  {name}: {{block: b{i // each}, addr: {2 * i}, type: float32, unit: g, stale_ms: 5000}}\n"
        for i, name in enumerate(names)
    )
    path = folder / "bench.yaml"
    rest = "commands: {}\nfailsafe: {on_comm_loss: keeps_running}\n"
    path.write_text(f"{HEAD}blocks:\n{blocks}points:\n{points}{rest}", "utf-8")
    return load_profile(path)


def _serve(pipe: Connection, folder: str) -> None:
    async def main() -> None:
        clock = SystemClock()
        server = ModbusServer({1: simulated(profile_of(Path(folder)))}, clock)
        pipe.send(await server.start())
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        await server.close()
        clock.close()

    asyncio.run(main())


@contextmanager
def served(folder: Path) -> Generator[int]:
    """Serve one instrument in a process of its own; give its port."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, str(folder)))
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join()


def alarm(device: str, point: str) -> SiteAlarm:
    """Return the alarm of one tag."""
    declared = AlarmFields.model_validate(
        {"when": f"{point} > 1000 g", "deadband": "5 g", "off_delay": "1 s", "priority": "medium"}
    )
    return SiteAlarm(f"{device}-{point}", declared, {point: f"{device}.{point}"}, {})


async def scans(port: int, folder: Path) -> None:
    """Compare scans of one unit, turn by turn: read and kept in the image, with and without the guard."""
    clock = SystemClock()
    profile = profile_of(folder)
    bus = ModbusBus("bench", "127.0.0.1", port, clock)
    await bus.open()
    device = ModbusDevice("unit", profile, bus, 1, clock)
    image = ProcessImage(clock)
    image.own("unit", {name: point.unit for name, point in profile.points.items()})
    watches = [watch(alarm("unit", name), {}, image) for name in profile.points]
    board = GuardBoard(clock, watches, Reactions(_raised, _cleared, _acted), ())

    async def scan(*, guarded: bool) -> float:
        began = time.perf_counter()
        for _ in range(SCANS):
            image.put("unit", await device.read_all())
            if guarded:
                board.scan("unit")
        return (time.perf_counter() - began) / SCANS * 1e6

    await scan(guarded=True)
    turns = [(await scan(guarded=False), await scan(guarded=True)) for _ in range(ROUNDS)]
    without, with_ = (statistics.median(turn[i] for turn in turns) for i in (0, 1))
    ratio = statistics.median(turn[1] / turn[0] for turn in turns)
    print(f"a scan of {TAGS} tags, {BLOCKS} reads over TCP: {without:.0f} us")
    print(f"  with {TAGS} alarms {with_:.0f} us, x{ratio:.2f}")
    share = (with_ - without) * UNITS / 1e6
    print(f"  {UNITS} units at 1 Hz: the guard takes {100 * share:.1f} % of one processor")
    await bus.close()
    clock.close()


def _raised(_alarm: str, _priority: str, _text: str, _values: object) -> None:
    """Take no notice."""


def _cleared(_alarm: str) -> None:
    """Take no notice."""


def _acted(_alarm: str, _action: str, _text: str) -> None:
    """Take no notice."""


async def annunciation(folder: Path) -> None:
    """Measure from a reading over its limit to its alarm on disk: alone, and 500 at once, among 3,200 tags."""
    clock = SystemClock()
    journal = await SiteJournal.start(folder / "site.db", clock, ev.SiteOpened("s", "n", "0"), "boot")
    image = ProcessImage(clock)
    profile = profile_of(folder)
    desks = {f"u{i}": Desk(clock, journal.append, AlarmBook(), f"u{i}") for i in range(UNITS)}
    began: dict[str, float] = {}
    took: list[float] = []
    everything = asyncio.Event()

    def committed(record: Record) -> None:
        if isinstance(record.event, ev.AlarmRaised):
            took.append(time.perf_counter() - began[record.event.alarm])
            if len(took) == STORM:
                everything.set()
        if isinstance(record.event, (ev.AlarmRaised, ev.AlarmCleared)):
            desk = desks[record.event.unit]
            desk.book.apply(record.event, parse_time(record.t), record.seq)
            desk.changed()

    journal.on_commit.append(committed)
    boards: dict[str, GuardBoard] = {}
    for unit, desk in desks.items():
        image.own(unit, {name: point.unit for name, point in profile.points.items()})
        watches = [watch(alarm(unit, name), {}, image) for name in profile.points]
        desk.known(watches)

        def raised(name: str, priority: Priority, text: str, _values: object, desk: Desk = desk) -> None:
            desk.raise_(name, priority, text)

        boards[unit] = GuardBoard(clock, watches, Reactions(raised, desk.clear, _acted), ())

    def scan(high: set[str]) -> None:
        now = clock.monotonic()
        for unit, board in boards.items():
            names = {name: f"{unit}-{name}" for name in profile.points}
            began.update(dict.fromkeys((n for n in names.values() if n in high), time.perf_counter()))
            image.put(
                unit,
                {name: Reading(2000.0 if at in high else 1.0, "g", Quality.GOOD, now) for name, at in names.items()},
            )
            board.scan(unit)

    every = [f"{unit}-{name}" for unit in boards for name in profile.points]
    for turn in range(60):
        scan({every[turn * 37 % len(every)]})
        await asyncio.sleep(0.05)
    _tell("one at a time", took)
    took.clear()
    scan(set())
    await asyncio.sleep(1.2)
    scan(set())
    await asyncio.sleep(0.5)
    took.clear()
    scan(set(every[:: len(every) // STORM][:STORM]))
    await everything.wait()
    _tell(f"{STORM} at once", took)
    for desk in desks.values():
        desk.close()
    await journal.close()
    clock.close()


def _tell(what: str, took: list[float]) -> None:
    ordered = sorted(took)
    p50, p99 = (1000 * ordered[int(q * (len(ordered) - 1))] for q in (0.5, 0.99))
    worst = 1000 * ordered[-1]
    print(f"  {what}: {len(took)} alarms on disk after p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {worst:.1f} ms")


def guard() -> None:
    """Run all of it."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
        folder = Path(name)
        with served(folder) as port:
            asyncio.run(scans(port, folder))
        print(f"annunciation, {TAGS} tags x {UNITS} units, from the reading to the record on disk:")
        asyncio.run(annunciation(folder))


if __name__ == "__main__":
    guard()
