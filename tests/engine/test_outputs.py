"""The gate and making safe, with instruments that do the worst: hang for ever, fail, lie."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pytest import approx
from structlog.testing import capture_logs

from devices.instrument import DeviceError, DeviceOffline, DeviceState, DeviceStatus, OutcomeUnknown, Priority
from devices.profile import load_profile
from devices.reading import Quality, Reading
from simulators.virtual import VirtualClock, VirtualLoop
from tilctl.config import Line, Place, RoleBinding, Safe, UnitSite
from tilctl.plant.image import ProcessImage
from tilctl.plant.outputs import PROTECT_WITHIN, Act, Cause, Kind, OutputGate, OutputRefused
from tilctl.plant.scanning import Scanner, ScanPeriods
from tilctl.plant.unit import PINCH_AFTER, UnitPlant

PROFILES = {"pump": "sim-pump", "valves": "sim-valves", "incubator": "sim-incubator"}
SEEN = {"pump": ("total", "mL"), "valves": ("suction", ""), "incubator": ("temperature", "degC")}  # what a fake reads
PROVEN = ("dispensed", "mL")  # what it reads back


class Fake:
    """An instrument in memory: `trouble` is what its commands and reads raise, `hangs` that they never end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.profile = load_profile(PROFILES[name.partition("_")[0]])
        self.status = DeviceStatus(DeviceState.ONLINE)
        self.serial = f"serial of {name}"
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
        point, unit = SEEN[self.name.partition("_")[0]]
        return {point: Reading(float(self.reads), unit, Quality.GOOD, asyncio.get_running_loop().time())}

    async def read_all(self, priority: Priority = Priority.DATA) -> dict[str, Reading]:
        return await self.read("state", priority)

    async def command(
        self, name: str, args: Mapping[str, Any], priority: Priority = Priority.COMMAND
    ) -> dict[str, Reading]:
        self.said.append((name, dict(args), priority, asyncio.get_running_loop().time()))
        await self._answer()
        point, unit = PROVEN
        return {point: Reading(1.0, unit, Quality.GOOD, asyncio.get_running_loop().time())}


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


def once(seq: int) -> Cause:
    return Cause("fill/first", seq, "one_shot")


def claimed(bench: Bench, *devices: str, since: int = 1) -> list[int]:
    """Give devices to b1; the list's last number is the head of its record."""
    heads = [since]
    bench.gate.claim("b1", devices, head=lambda: heads[-1])
    return heads


async def test_nobody_elses_batch_moves_a_device() -> None:
    bench = Bench()
    with pytest.raises(OutputRefused, match="nobody"):
        await bench.gate.act("b1", "pump_a", "dispense", {}, cause=once(2))
    claimed(bench, "pump_a", "valves_a").append(9)
    await bench.gate.act("b1", "pump_a", "dispense", {"volume": 1.0}, cause=once(2))
    with pytest.raises(OutputRefused, match="belongs to b1, not to b2"):
        await bench.gate.act("b2", "pump_a", "dispense", {}, cause=once(3))
    with pytest.raises(OutputRefused, match="belongs to batch b1"):
        bench.gate.claim("b2", ("pump_b", "pump_a"))
    assert bench.gate.owner("pump_b") is None, "all or nothing"
    bench.gate.release_device("b2", "pump_a")
    assert bench.gate.owner("pump_a") == "b1"
    bench.gate.release("b1")
    assert bench.gate.owner("pump_a") is None
    assert [name for name, *_ in bench.made["pump_a"].said] == ["dispense"]


@pytest.mark.parametrize("kind", ["one_shot", "attached", "idempotent"])
async def test_what_is_not_on_disk_is_no_cause(kind: Kind) -> None:
    bench = Bench()
    command = "dispense" if kind == "one_shot" else "stop"
    heads = claimed(bench, "pump_a", since=4)
    for seq in (0, -1, 5, 6):
        with pytest.raises(OutputRefused, match="not on disk"):
            await bench.gate.act("b1", "pump_a", command, {}, cause=Cause("x", seq, kind))
    assert bench.made["pump_a"].said == []
    heads.append(5)
    await bench.gate.act("b1", "pump_a", command, {}, cause=Cause("x", 5, kind))
    assert len(bench.made["pump_a"].said) == 1


async def test_an_owner_without_a_record_commands_nothing() -> None:
    bench = Bench()
    bench.gate.claim("b1", ("pump_a",))
    with pytest.raises(OutputRefused, match="not on disk"):
        await bench.gate.act("b1", "pump_a", "dispense", {}, cause=once(1))


@pytest.mark.parametrize("trouble", [None, DeviceOffline("pump_a", "unplugged"), OutcomeUnknown("pump_a", "?", "", {})])
async def test_one_cause_commands_a_device_once_whatever_came_of_it(trouble: Exception | None) -> None:
    bench = Bench()
    claimed(bench, "pump_a", "pump_b").append(9)
    bench.made["pump_a"].trouble = trouble
    with contextlib.suppress(DeviceError):
        await bench.gate.act("b1", "pump_a", "dispense", {"sequence": 7}, cause=once(5))
    for args in ({"sequence": 7}, {"sequence": 8}):
        with pytest.raises(OutputRefused, match="event 5 was commanded already"):
            await bench.gate.act("b1", "pump_a", "dispense", args, cause=once(5))
    assert len(bench.made["pump_a"].said) == 1
    bench.made["pump_a"].trouble = None
    await bench.gate.act("b1", "pump_a", "dispense", {"sequence": 8}, cause=once(6))
    await bench.gate.act("b1", "pump_b", "dispense", {"sequence": 1}, cause=once(5))


async def test_a_cancelled_command_is_not_given_again() -> None:
    bench = Bench()
    claimed(bench, "pump_a").append(9)
    bench.made["pump_a"].hangs = True
    task = asyncio.create_task(bench.gate.act("b1", "pump_a", "dispense", {}, cause=once(5)))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    bench.made["pump_a"].hangs = False
    with pytest.raises(OutputRefused, match="commanded already"):
        await bench.gate.act("b1", "pump_a", "dispense", {}, cause=once(5))


@pytest.mark.parametrize("kind", ["one_shot", "attached"])
async def test_an_intent_of_an_earlier_life_commands_nothing(kind: Kind) -> None:
    bench = Bench()
    heads = claimed(bench, "pump_a", "valves_a", "incubator", since=40)
    device, command = ("pump_a", "dispense") if kind == "one_shot" else ("valves_a", "select")
    with pytest.raises(OutputRefused, match="from before the controller started"):
        await bench.gate.act("b1", device, command, {}, cause=Cause("x", 40, kind))
    assert bench.made[device].said == []
    await bench.gate.act("b1", "incubator", "set_temperature", {}, cause=Cause("x", 40, "idempotent"))
    heads.append(41)
    await bench.gate.act("b1", device, command, {}, cause=Cause("x", 41, kind))
    bench.gate.claim("b1", ("pump_b",))  # later, shared equipment: this life begins where it began
    heads.append(45)
    await bench.gate.act("b1", "pump_b", "dispense", {}, cause=once(42))


@pytest.mark.parametrize("kind", ["attached", "idempotent"])
async def test_what_must_not_be_repeated_is_a_one_shot(kind: Kind) -> None:
    bench = Bench()
    claimed(bench, "pump_a").append(9)
    with pytest.raises(OutputRefused, match="must not be repeated"):
        await bench.gate.act("b1", "pump_a", "dispense", {}, cause=Cause("x", 5, kind))
    assert bench.made["pump_a"].said == []


async def test_a_permit_refuses_what_moves_and_never_what_protects() -> None:
    bench = Bench()
    claimed(bench, "pump_a").append(9)
    bench.gate.permit(lambda device, command, args: "the door is open" if command == "dispense" else "")
    with pytest.raises(OutputRefused, match="the door is open"):
        await bench.gate.act("b1", "pump_a", "dispense", {}, cause=once(5))
    assert bench.made["pump_a"].said == []
    await bench.gate.act("b1", "pump_a", "stop", {}, cause=Cause("x", 5, "idempotent"))
    bench.gate.permit(lambda device, command, args: "never")
    assert (await bench.gate.protect("pump_a", "stop")).error == ""


async def test_whoever_looks_on_hears_of_each_write_before_the_device() -> None:
    bench = Bench()
    claimed(bench, "pump_a").append(9)
    heard: list[tuple[Act, int]] = []

    def broken(act: Act) -> None:
        raise RuntimeError("a fault of the program")

    bench.gate.observers += [broken, lambda act: heard.append((act, len(bench.made["pump_a"].said)))]
    with pytest.raises(OutputRefused):
        await bench.gate.act("b1", "pump_a", "dispense", {}, cause=once(77))
    await bench.gate.act("b1", "pump_a", "dispense", {"volume": 3.0}, cause=once(5))
    await bench.gate.protect("pump_a", "stop")
    assert heard == [
        (Act("b1", "pump_a", "dispense", {"volume": 3.0}, once(5), protective=False), 0),
        (Act("b1", "pump_a", "stop", {}, None, protective=True), 1),
    ]


async def test_what_a_device_read_back_is_in_the_image() -> None:
    bench = Bench()
    claimed(bench, "pump_a").append(9)
    await bench.gate.act("b1", "pump_a", "dispense", {}, cause=once(5))
    assert bench.image.number("pump_a.dispensed") == 1.0


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
    done = {protected.device: protected for protected in await bench.unit.make_safe()}
    assert {name for name, protected in done.items() if protected.error} == set(hung)
    assert set(done) == {name for name in bench.made if name != "incubator"}
    for name, fake in bench.made.items():
        for _, _, _, at in fake.said:
            line = name.rpartition("_")[2]
            limit = PINCH_AFTER if name.startswith("valves") and f"pump_{line}" in hung else 0.0
            assert at - began == limit, f"{name} was told after {at - began} s"
    assert all(protected.seconds == (PROTECT_WITHIN if name in hung else 0.0) for name, protected in done.items())
    assert bench.clock.monotonic() - began <= PINCH_AFTER + PROTECT_WITHIN


async def test_a_pump_stops_before_its_own_valves_close_and_heat_is_not_touched() -> None:
    bench = Bench()
    for name, fake in bench.made.items():
        fake.pause = {"pump_a": 0.5, "pump_b": 0.2}.get(name, 0.1)
    began = bench.clock.monotonic()
    await bench.unit.make_safe()
    told = {name: [at - began for *_, at in fake.said] for name, fake in bench.made.items()}
    assert [told[f"pump_{line}"] for line in "abc"] == [[0.0]] * 3, "all at once"
    assert [told[f"valves_{line}"][0] for line in "abc"] == approx([0.5, 0.2, 0.1]), "each with its own line"
    assert bench.made["incubator"].said == []


async def test_a_pump_that_refuses_to_stop_is_pinched_off_at_once() -> None:
    bench = Bench()
    bench.made["pump_a"].trouble = DeviceOffline("pump_a", "unplugged")
    began = bench.clock.monotonic()
    await bench.unit.make_safe()
    assert bench.made["valves_a"].said[0][3] == began


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
    assert bench.image.get("incubator.temperature").quality is Quality.GOOD
    await asyncio.sleep(2.0)
    assert bench.image.get("incubator.temperature").quality is Quality.STALE, "two and a half periods of 10 s"
    assert bench.image.number("incubator.temperature") is None, "what is stale is no number"
    assert bench.image.get("pump_a.total").quality is Quality.GOOD, "its period is 100 s"
    assert bench.image.get("pump_b.total") is None


async def test_a_reading_of_a_slow_pace_stays_good_until_the_read_that_a_fast_one_wakes() -> None:
    bench = Bench()
    bench.scanner.start()
    try:
        await asyncio.sleep(9.0)
        before = bench.scanner.stats["incubator"].scans
        with bench.scanner.active("incubator"):
            assert bench.image.get("incubator.temperature").quality is Quality.GOOD, "9 s old, of a period of 10 s"
            await asyncio.sleep(0.5)
            assert bench.scanner.stats["incubator"].scans == before + 1
            bench.made["incubator"].hangs = True
            await asyncio.sleep(8.0)
            assert bench.image.get("incubator.temperature").quality is not Quality.GOOD, "now its period is 1 s"
    finally:
        await bench.scanner.close()


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
        reading = bench.image.get("incubator.temperature")
        assert reading is not None
        assert (reading.value, reading.quality) == (None, Quality.BAD)
        assert bench.scanner.stats["incubator"].failures == 1
        bench.made["incubator"].trouble = None
        await asyncio.sleep(10.0)
        assert bench.image.get("incubator.temperature").quality is Quality.GOOD
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
