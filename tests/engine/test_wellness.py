"""The watchdogs are fed while the whole loop is well, and not a moment longer: a real datagram socket listens."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from story import UNIT, Story

from devices.clock import SystemClock
from tilctl.cli.notify import Notify
from tilctl.cli.service import Service
from tilctl.cli.wellness import COMMIT_S, Wellness
from tilctl.config import load_site
from tilctl.engine.machine import State

WATCHDOG_S = 30.0


@dataclass
class Manager:
    """The service manager's end of the socket."""

    listener: socket.socket
    environ: dict[str, str]

    def heard(self) -> list[str]:
        """Return every assignment that has come since the last look."""
        lines: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                lines += self.listener.recv(4096).decode().split("\n")
        return lines

    async def listen(self, seconds: float) -> list[str]:
        """Return what comes in so many seconds; a socket keeps no more than some ten datagrams."""
        lines: list[str] = []
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(20.0)
            lines += self.heard()
        return lines

    def feeds(self) -> int:
        return self.heard().count("WATCHDOG=1")


@pytest.fixture
def manager() -> Iterator[Manager]:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        path = f"{folder}/notify"
        listener.bind(path)
        listener.setblocking(False)
        yield Manager(listener, {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": f"{WATCHDOG_S * 1e6:.0f}"})


@contextlib.asynccontextmanager
async def looked_after(suite: Story, manager: Manager) -> AsyncGenerator[Wellness]:
    wellness = Wellness(suite.controller, suite.plant_suite, suite.clock)
    task = asyncio.create_task(wellness.run(Notify(manager.environ)), name="wellness")
    try:
        yield wellness
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def test_it_is_fed_each_third_of_its_time_while_all_is_well(suite: Story, manager: Manager) -> None:
    async with looked_after(suite, manager) as wellness:
        await suite.start("still", wait="9 h")
        await suite.until("stay/one", "acting")
        manager.heard()
        fed = await manager.listen(3600)
        assert wellness.well
        assert fed.count("WATCHDOG=1") in range(355, 415), "each 10 s, or a little sooner"
        await suite.do("hold")
        lines = await manager.listen(40.0)
        assert "STATUS=cell1 held" in lines, "what a person sees in systemctl status"
        assert lines.count("WATCHDOG=1") >= 2, "held is well"


async def gone_hungry(suite: Story, manager: Manager, wellness: Wellness, part: str) -> tuple[bool, str]:
    """Wait until a part is seen; return whether anything is fed from then on, and what is said of the part."""
    await suite.when(lambda: part in wellness.unwell, f"{part} is seen", within=300.0)
    manager.heard()
    fed = "WATCHDOG=1" in await manager.listen(300)
    return fed, wellness.unwell[part]


async def test_a_dead_scan_task_stops_it(suite: Story, manager: Manager) -> None:
    suite.announced = {"not_well"}
    async with looked_after(suite, manager) as wellness:
        (task,) = [t for t in suite.plant_suite.scanner._tasks if t.get_name() == "scan:pump_cells"]
        task.cancel()
        fed, why = await gone_hungry(suite, manager, wellness, "scan")
        assert (fed, "not scanned: pump_cells" in why) == (False, True), why


async def test_a_scan_that_hangs_stops_it(suite: Story, manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    suite.announced = {"not_well"}

    async def hangs(*_: object, **__: object) -> bool:
        return await asyncio.get_running_loop().create_future()

    async with looked_after(suite, manager) as wellness:
        await suite.start("still", wait="9 h")
        await suite.until("stay/one", "acting")
        monkeypatch.setattr(suite.plant_suite.scanner, "_scan", hangs)
        await asyncio.sleep(3000)  # the longest period of these instruments, and what their reads may take
        fed, why = await gone_hungry(suite, manager, wellness, "scan")
        assert (fed, "incubator" in why) == (False, True), why
        monkeypatch.undo()


async def test_an_instrument_that_is_absent_is_no_reason(suite: Story, manager: Manager) -> None:
    async with looked_after(suite, manager) as wellness:
        suite.faults("freezer").silent = True
        assert (await manager.listen(7200)).count("WATCHDOG=1") > 600
        assert wellness.well


async def test_a_commit_that_hangs_stops_it(suite: Story, manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    suite.announced = {"not_well", "record_failed", "event_not_on_record", "internal_error"}
    suite.check_ledger = False
    async with looked_after(suite, manager) as wellness:
        await suite.start("still", wait="9 h")
        await suite.until("stay/one", "acting")

        async def hangs(work: Callable[[], Any]) -> Any:
            return await asyncio.get_running_loop().create_future()

        monkeypatch.setattr(suite.clock, "offload", hangs)
        suite.runner.alarm("test", "low", "something to write")
        await asyncio.sleep(COMMIT_S - 1.0)
        assert wellness.well
        manager.heard()
        await asyncio.sleep(3.0)
        assert "the disk keeps waiting" in wellness.unwell["journal"]
        assert suite.runner.state is State.RUNNING
        manager.heard()
        await asyncio.sleep(1.5)
        assert not wellness.well
        assert manager.feeds() == 0
        await asyncio.sleep(6.0)
        assert suite.runner.state is not State.RUNNING, "the disk is given up: that is a hold, and said elsewhere"
        monkeypatch.undo()
        suite.clock.disk_full = True


async def test_signs_of_life_show_that_a_quiet_record_can_be_written(suite: Story) -> None:
    controller = suite.controller
    ages: list[float] = []
    for _ in range(100):
        await asyncio.sleep(97.0)
        ages.append(controller.journal.beat_age_s)
    assert max(ages) <= controller.beat_every
    (task,) = [t for t in controller._tasks if t.get_name() == "heartbeat"]
    task.cancel()
    await asyncio.sleep(5 * controller.beat_every)
    assert controller.journal.beat_age_s > 4 * controller.beat_every, "and when they end, that is seen"


async def test_a_walk_that_died_is_a_hold_and_a_state_that_nothing_ends_stops_it(
    suite: Story, manager: Manager
) -> None:
    suite.announced = {"not_well"}
    async with looked_after(suite, manager) as wellness:
        await suite.start("still", wait="9 h")
        await suite.until("stay/one", "acting")
        suite.runner._walk.cancel()
        await suite.until_state("held", within=60.0)
        assert "invariant-walk" in suite.state.alarms
        suite.runner.state = State.HOLDING  # and nobody works on it
        fed, why = await gone_hungry(suite, manager, wellness, "batch")
        assert (fed, "holding" in why) == (False, True), why
        suite.runner.state = State.HELD


async def test_devices_are_not_fed_by_a_controller_that_is_not_well(suite: Story) -> None:
    suite.announced = {"device_not_fed"}
    await suite.start("small", first="400 mL")
    await suite.until_flowed("pump_media", 50.0)
    assert suite.pump("pump_media").run is not None, "20 s, longer than its watchdog waits"
    await asyncio.sleep(0)
    suite.plant_suite.units[UNIT].well = lambda: False
    began = suite.loop.time()
    await suite.when(lambda: suite.pump("pump_media").run is None, "it ends by itself", within=20.0)
    assert suite.pump("pump_media").log[0].ended - began < 15.1
    await suite.until_state("held")
    assert "stopped by its watchdog" in suite.node("fill/first").reason
    suite.plant_suite.units[UNIT].well = lambda: True
    await asyncio.sleep(60)
    await suite.do("restart")
    await suite.until_state("complete")
    assert {i.outcome for i in suite.intents("fill/first")} == {"partial", "done"}


def test_a_loop_that_stands_still_is_not_fed_and_says_so(tmp_path: Path, manager: Manager) -> None:
    """In real time, on a loop of its own: a synchronous call of four seconds with a watchdog of three."""
    manager.environ["WATCHDOG_USEC"] = "3000000"
    demo = Path(__file__).parents[2] / "tilctl" / "cli" / "demo-site.yaml"

    async def story() -> list[str]:
        service = Service(load_site(demo, {"data": str(tmp_path / "data")}), SystemClock(), "boot")
        task = asyncio.create_task(service.wellness.run(Notify(manager.environ)))
        seen: list[str] = []
        await asyncio.sleep(2.2)
        assert manager.feeds() in (1, 2, 3, 4)
        time.sleep(4.0)  # noqa: ASYNC251 - that is the point
        assert manager.feeds() == 0
        for _ in range(20):
            await asyncio.sleep(0.05)
            seen += service.wellness.unwell.values()
        await asyncio.sleep(1.5)
        assert service.wellness.well, "it turns again"
        assert manager.feeds() >= 1
        task.cancel()
        await asyncio.wait((task,))
        service.clock.close()
        return seen

    seen = asyncio.run(story())
    assert any("stood still for" in text for text in seen)


def test_a_loop_that_stands_still_tells_nothing_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilctl.cli.service.TURNS_WITHIN", 0.3)
    demo = Path(__file__).parents[2] / "tilctl" / "cli" / "demo-site.yaml"

    async def story() -> None:
        service = Service(load_site(demo, {"data": str(tmp_path / "data")}), SystemClock(), "boot")
        service.suite.scanner.stats["pump_media"].turned = service.clock.monotonic() + 7.0
        opening = await asyncio.to_thread(service._snapshot)
        assert opening is not None, "also while records are opened"
        assert (opening.mode, opening.heartbeat) == ("opening", None)
        assert opening.scans["pump_media"][0] == pytest.approx(-7.0, abs=1.0)
        assert opening.scans["incubator"][0] == pytest.approx(0.0, abs=1.0), "since the beginning, where there was none"
        assert opening.synchronised == service.clock.synchronised()
        asking = asyncio.ensure_future(asyncio.to_thread(service._snapshot))
        await asyncio.sleep(0)
        time.sleep(1.0)  # noqa: ASYNC251 - that is the point
        assert await asking is None
        assert await asyncio.to_thread(service._snapshot) is not None
        service.clock.close()

    asyncio.run(story())


def test_without_a_service_manager_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Notify({}).send("READY=1")
    assert Notify({}).watchdog_s is None
    assert not Notify({"NOTIFY_SOCKET": "/nowhere/at/all"}).send("READY=1"), "and nothing is raised"
    assert Notify({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}).watchdog_s is None, "it is meant for another"
    assert Notify({"WATCHDOG_USEC": "30000000"}).watchdog_s == 30.0


def test_an_abstract_socket_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0tilctl-test-notify")
        listener.setblocking(False)
        assert Notify({"NOTIFY_SOCKET": "@tilctl-test-notify"}).send("READY=1", "STATUS=two\nlines")
        assert listener.recv(4096) == b"READY=1\nSTATUS=two lines"
