"""The gate and making safe, with instruments that do the worst: hang for ever, fail, lie."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from devices.instrument import DeviceOffline, DeviceState, DeviceStatus, Priority
from devices.profile import load_profile
from devices.reading import Quality, Reading
from simulators.virtual import VirtualClock, VirtualLoop
from tilctl.config import Line, Place, RoleBinding, Safe, UnitSite
from tilctl.plant.image import ProcessImage
from tilctl.plant.outputs import PROTECT_WITHIN, OutputGate, OutputRefused
from tilctl.plant.scanning import Scanner, ScanPeriods
from tilctl.plant.sharing import Sharing
from tilctl.plant.unit import UnitPlant

PROFILES = {"pump": "sim-pump", "valves": "sim-valves", "incubator": "sim-incubator"}


class Fake:
    """An instrument in memory: `trouble` is what its commands and reads raise, `hangs` that they never end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.profile = load_profile(PROFILES[name.partition("_")[0]])
        self.status = DeviceStatus(DeviceState.ONLINE)
        self.hangs = False
        self.trouble: Exception | None = None
        self.pause = 0.0
        self.said: list[tuple[str, dict[str, Any], Priority, float]] = []
        self.reads = 0

    async def _answer(self) -> None:
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(self.pause)
        if self.trouble is not None:
            raise self.trouble

    async def read(self, block: str, priority: Priority = Priority.DATA) -> dict[str, Reading]:
        self.reads += 1
        await self._answer()
        return {"seen": Reading(float(self.reads), "", Quality.GOOD, asyncio.get_running_loop().time())}

    async def read_all(self, priority: Priority = Priority.DATA) -> dict[str, Reading]:
        return await self.read("state", priority)

    async def command(
        self, name: str, args: Mapping[str, Any], priority: Priority = Priority.COMMAND
    ) -> dict[str, Reading]:
        self.said.append((name, dict(args), priority, asyncio.get_running_loop().time()))
        await self._answer()
        return {"proof": Reading(1.0, "", Quality.GOOD, asyncio.get_running_loop().time())}


class Bench:
    """Three lines of fake instruments behind a gate."""

    def __init__(self, **safe: Safe) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.clock = VirtualClock(loop)
        names = ["incubator", *(f"{kind}_{n}" for n in "abc" for kind in ("pump", "valves"))]
        self.made = {name: Fake(name) for name in names}
        self.image = ProcessImage(self.clock)
        self.gate = OutputGate(self.made, self.image.put)
        self.scanner = Scanner(self.clock, self.image, ScanPeriods(1.0, 10.0, 100.0))
        for fake in self.made.values():
            self.scanner.add(fake, quiet=fake.name == "incubator")
        lines = tuple(Line(n, ("hook",), ("station",), f"pump_{n}", f"valves_{n}") for n in "abc")
        places = {"h1": Place("h1", "hook", 7, "", "")}
        default = {"pumps": Safe("stop"), "valves": Safe("closed"), "station.temperature": Safe("keep")}
        roles = {"station": RoleBinding("station", "bioreactor", "incubator")}
        site = UnitSite("cell", roles, places, lines, default | {k.replace("_", "."): v for k, v in safe.items()})
        self.unit = UnitPlant("cell", site, self.made, self.clock, self.image, self.gate, self.scanner)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """These instruments fail on purpose."""
    with capture_logs():
        yield


# --- the gate ---------------------------------------------------------------------------------------------------------


async def test_nobody_elses_batch_moves_a_device() -> None:
    bench = Bench()
    with pytest.raises(OutputRefused, match="nobody"):
        await bench.gate.act("b1", "pump_a", "dispense", {})
    bench.gate.claim("b1", ("pump_a", "valves_a"))
    await bench.gate.act("b1", "pump_a", "dispense", {"volume": 1.0})
    with pytest.raises(OutputRefused, match="belongs to b1, not to b2"):
        await bench.gate.act("b2", "pump_a", "dispense", {})
    with pytest.raises(OutputRefused, match="belongs to batch b1"):
        bench.gate.claim("b2", ("pump_b", "pump_a"))
    assert bench.gate.owner("pump_b") is None, "all or nothing"
    bench.gate.release_device("b2", "pump_a")
    assert bench.gate.owner("pump_a") == "b1"
    bench.gate.release("b1")
    assert bench.gate.owner("pump_a") is None
    assert [name for name, *_ in bench.made["pump_a"].said] == ["dispense"]


async def test_a_permit_refuses_what_moves_and_never_what_protects() -> None:
    bench = Bench()
    bench.gate.claim("b1", ("pump_a",))
    bench.gate.permit(lambda device, command, args: "the door is open" if command == "dispense" else "")
    with pytest.raises(OutputRefused, match="the door is open"):
        await bench.gate.act("b1", "pump_a", "dispense", {})
    assert bench.made["pump_a"].said == []
    await bench.gate.act("b1", "pump_a", "stop", {})
    bench.gate.permit(lambda device, command, args: "never")
    assert (await bench.gate.protect("pump_a", "stop")).error == ""


async def test_what_a_device_read_back_is_in_the_image() -> None:
    bench = Bench()
    bench.gate.claim("b1", ("pump_a",))
    await bench.gate.act("b1", "pump_a", "dispense", {})
    assert bench.image.number("pump_a.proof") == 1.0


async def test_a_protective_write_asks_no_owner_goes_first_and_never_raises() -> None:
    bench = Bench()
    bench.gate.claim("somebody", ("pump_a",))
    protected = await bench.gate.protect("pump_a", "stop")
    assert (protected.device, protected.command, protected.error) == ("pump_a", "stop", "")
    assert bench.made["pump_a"].said[0][2] is Priority.STOP
    bench.made["pump_a"].trouble = DeviceOffline("pump_a", "unplugged", "plug it in")
    assert "unplugged" in (await bench.gate.protect("pump_a", "stop")).error
    bench.made["pump_a"].trouble = ValueError("a fault of the program")
    assert "a fault of the program" in (await bench.gate.protect("pump_a", "stop")).error


# --- making safe ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hung", [["pump_a"], ["pump_a", "pump_b", "pump_c"], ["valves_b"], ["pump_c", "valves_a"]])
async def test_hung_instruments_delay_nobody(hung: list[str]) -> None:
    bench = Bench()
    for name in hung:
        bench.made[name].hangs = True
    began = bench.clock.monotonic()
    done = {protected.device: protected.error for protected in await bench.unit.make_safe()}
    assert {name for name, error in done.items() if error} == set(hung)
    assert set(done) == {name for name in bench.made if name != "incubator"}
    for name, fake in bench.made.items():
        for _, _, _, at in fake.said:
            limit = 0.0 if name.startswith("pump") else PROTECT_WITHIN
            assert at - began <= limit, f"{name} was told after {at - began} s"
    assert bench.clock.monotonic() - began <= 2 * PROTECT_WITHIN


async def test_pumps_stop_before_valves_close_and_heat_is_not_touched() -> None:
    bench = Bench()
    for name, fake in bench.made.items():
        fake.pause = 0.5 if name.startswith("pump") else 0.1
    await bench.unit.make_safe()
    stops = [at for name, fake in bench.made.items() if name.startswith("pump") for *_, at in fake.said]
    closes = [at for name, fake in bench.made.items() if name.startswith("valves") for *_, at in fake.said]
    assert len(stops) == len(closes) == 3
    assert max(stops) + 0.5 <= min(closes), "a pump never turns against a closed valve"
    assert len(set(stops)) == 1, "all at once"
    assert bench.made["incubator"].said == []


async def test_an_output_with_a_safe_value_gets_it() -> None:
    bench = Bench(station_temperature=Safe("value", 30.0))
    await bench.unit.make_safe()
    assert [(name, args) for name, args, *_ in bench.made["incubator"].said] == [("set_temperature", {"value": 30.0})]


# --- scanning ---------------------------------------------------------------------------------------------------------


async def test_what_rests_is_read_seldom_and_what_acts_each_second() -> None:
    bench = Bench()
    bench.scanner.start()
    try:
        await asyncio.sleep(99.5)
        assert bench.scanner.stats["pump_a"].scans == 1
        assert bench.scanner.stats["incubator"].scans == 10
        with bench.scanner.active("pump_a"):
            await asyncio.sleep(20.2)
            assert bench.scanner.stats["pump_a"].scans in range(21, 24)
            assert bench.scanner.stats["pump_b"].scans == 2
        before = bench.scanner.stats["pump_a"].scans
        await asyncio.sleep(50.0)
        assert bench.scanner.stats["pump_a"].scans - before <= 1
    finally:
        await bench.scanner.close()


async def test_a_value_is_stale_by_the_pace_at_which_it_is_read() -> None:
    bench = Bench()
    await bench.scanner.fresh("pump_a")
    await bench.scanner.fresh("incubator")
    await asyncio.sleep(24.0)
    assert bench.image.get("incubator.seen").quality is Quality.GOOD
    await asyncio.sleep(2.0)
    assert bench.image.get("incubator.seen").quality is Quality.STALE, "two and a half periods of 10 s"
    assert bench.image.number("incubator.seen") is None, "what is stale is no number"
    assert bench.image.get("pump_a.seen").quality is Quality.GOOD, "its period is 100 s"
    assert bench.image.get("pump_b.seen") is None


async def test_lateness_is_measured_and_nothing_is_caught_up() -> None:
    bench = Bench()
    bench.scanner.start()
    try:
        with bench.scanner.active("pump_a"):
            await asyncio.sleep(5.5)
            bench.made["pump_a"].pause = 3.4
            await asyncio.sleep(40.0)
            stats = bench.scanner.stats["pump_a"]
            assert stats.missed >= 30
            assert stats.scans in range(15, 20), "one read after the other, none twice"
    finally:
        await bench.scanner.close()


async def test_a_lost_device_is_bad_at_once_and_a_broken_watcher_blinds_nobody() -> None:
    bench = Bench()
    seen: list[str] = []

    def broken(device: str, readings: Mapping[str, Reading]) -> None:
        raise RuntimeError("a fault of the program")

    bench.image.watch(broken)
    bench.image.watch(lambda device, readings: seen.append(device))
    bench.scanner.start()
    try:
        await asyncio.sleep(1.0)
        bench.made["incubator"].trouble = DeviceOffline("incubator", "unplugged")
        await asyncio.sleep(10.0)
        reading = bench.image.get("incubator.seen")
        assert reading is not None
        assert (reading.value, reading.quality) == (None, Quality.BAD)
        assert bench.scanner.stats["incubator"].failures == 1
        bench.made["incubator"].trouble = None
        await asyncio.sleep(10.0)
        assert bench.image.get("incubator.seen").quality is Quality.GOOD
    finally:
        await bench.scanner.close()
    assert seen.count("incubator") == 4, "two blocks, the loss, the return"
    assert bench.image.watcher_faults >= 3


async def test_waiting_for_a_scan_leaves_nothing_behind() -> None:
    bench = Bench()
    waiting = asyncio.create_task(bench.image.next_scan("pump_a"))
    gone = asyncio.create_task(bench.image.next_scan("pump_a"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    await bench.scanner.fresh("pump_a")
    await asyncio.wait_for(waiting, 1.0)
    assert gone.cancelled()


# --- shared equipment -------------------------------------------------------------------------------------------------


async def test_shared_equipment_is_granted_in_the_order_of_asking() -> None:
    bench = Bench()
    sharing = Sharing(bench.gate)
    order: list[str] = []

    async def want(owner: str) -> None:
        await sharing.acquire("incubator", owner)
        order.append(owner)

    await want("b1")
    waiting = [asyncio.create_task(want(owner)) for owner in ("b2", "b3", "b4")]
    await asyncio.sleep(1)
    await want("b1")  # it has it already: after a hold, or a restart
    assert (sharing.owner("incubator"), bench.gate.owner("incubator")) == ("b1", "b1")
    sharing.release("incubator", "b3")  # not its own to give
    assert sharing.owner("incubator") == "b1"
    waiting[1].cancel()
    await asyncio.sleep(0)
    sharing.release("incubator", "b1")
    await asyncio.sleep(0)
    assert bench.gate.owner("incubator") == "b2"
    sharing.release("incubator", "b2")
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == ["b1", "b1", "b2", "b4"]
    sharing.release("incubator", "b4")
    assert (sharing.owner("incubator"), bench.gate.owner("incubator")) == (None, None)


async def test_a_grant_to_one_who_has_just_gone_goes_to_the_next() -> None:
    bench = Bench()
    sharing = Sharing(bench.gate)
    await sharing.acquire("incubator", "b1")
    second = asyncio.create_task(sharing.acquire("incubator", "b2"))
    third = asyncio.create_task(sharing.acquire("incubator", "b3"))
    await asyncio.sleep(0)
    sharing.release("incubator", "b1")  # granted to b2 ...
    second.cancel()  # ... which is cancelled before it knows
    await asyncio.gather(second, return_exceptions=True)
    await asyncio.wait_for(third, 1.0)
    assert sharing.owner("incubator") == "b3"
