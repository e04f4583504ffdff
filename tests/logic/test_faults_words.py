"""Every word of the vocabulary of faults does what it says, ends as it should, and no liquid comes or goes by it."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from devices.document import DocumentError
from devices.instrument import DeviceError, NotApplied
from devices.modbus.bus import ModbusBus
from devices.modbus.driver import ModbusDevice
from devices.profile import load_profile
from simulators.bench import Bench
from simulators.faults import Fault, Injector, of_devices
from simulators.faults.vocabulary import HARNESS, WORDS
from simulators.memory import memory_links
from simulators.plant import Plant
from simulators.suite import LAYOUT, Suite, wire
from simulators.virtual import VirtualClock, run

HERE = {name: (bus, unit) for bus, units in LAYOUT.items() for unit, name in units.items()}
Story = Callable[["Bed"], Awaitable[None]]
STORIES: dict[tuple[str, str], Story] = {}


class Bed:
    """A suite with liquids on it, and drivers that look at it over links in memory."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.plant = Plant(clock, 1)
        self.bench = Bench(self.plant)
        self.servers = Suite(wire(self.plant.devices), clock)
        self.injector = Injector([self.plant], self.servers, clock)
        links = memory_links(self.servers, clock)
        self.buses = {bus: ModbusBus(bus, "", 0, clock, timeout=1.0, link=links[bus]) for bus in LAYOUT}
        self.drivers = {
            name: ModbusDevice(name, device.profile, self.buses[HERE[name][0]], HERE[name][1], clock)
            for name, device in self.plant.devices.items()
        }
        self.bench.hang(7, volume_ml=1000.0, content={"liquid": "cm1"}, name="cm1")
        self.bench.hang(1, "vessel", "gas-permeable-500cm2", name="pre")

    async def __aenter__(self) -> Bed:
        for bus in self.buses.values():
            await bus.open()
        await self.online("incubator", *(name for name in self.drivers if name != "incubator"))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.injector.close()
        for bus in self.buses.values():
            await bus.close()
        assert self.plant.volume_total() == pytest.approx(self.plant.aside.brought_ml, abs=1e-6)

    async def online(self, *names: str) -> None:
        for name in names:
            while await self.fails(name):
                await self.clock.sleep(1.0)

    async def fails(self, name: str) -> str:
        """Return why reading an instrument fails; empty when it does not."""
        try:
            await self.drivers[name].read_all()
        except DeviceError as error:
            return str(error)
        return ""

    async def values(self, name: str) -> dict[str, Any]:
        return {key: reading.value for key, reading in (await self.drivers[name].read_all()).items()}

    async def dispense(self, volume: float = 100.0, rate: float = 60.0, sequence: int = 1) -> None:
        await self.drivers["valves_media"].command("select", {"suction": 7, "delivery": 1})
        await self.drivers["pump_media"].command("dispense", {"sequence": sequence, "rate": rate, "volume": volume})

    def volume(self, port: int) -> float:
        container = self.plant.place(port)
        assert container is not None
        with self.plant.change():
            return container.contents.volume

    def chamber(self) -> float:
        self.plant.time()
        return self.plant.freezer.chamber

    def fault(self, where: str, what: str, lasts: float | None = None, **args: Any) -> Fault:
        fault = Fault(where, what, time_s=0.0, for_s=lasts, args=args)
        self.injector.apply(fault)
        return fault


def story(what: str, *kinds: str) -> Callable[[Story], Story]:
    def put(told: Story) -> Story:
        for kind in kinds:
            assert (what, kind) not in STORIES
            STORIES[what, kind] = told
        return told

    return put


def play(told: Story) -> None:
    async def main(clock: VirtualClock) -> None:
        async with Bed(clock) as bed:
            await told(bed)

    run(main, watchdog_s=20.0)


MEANINGS = sorted({(word.name, word.kinds) for word in WORDS if not set(word.kinds) <= set(HARNESS)})


@pytest.mark.parametrize(("what", "kinds"), MEANINGS, ids=[f"{what} {kinds[0]}" for what, kinds in MEANINGS])
def test_every_word_does_what_it_says(what: str, kinds: tuple[str, ...]) -> None:
    told = [STORIES[what, kind] for kind in kinds if (what, kind) in STORIES]
    assert told, f"no story tells of {what} at {kinds}"
    for each in dict.fromkeys(told):
        play(each)


# --- on the wire ----------------------------------------------------------------------------------------------------


def refused(what: str, saying: str, **args: Any) -> Story:
    """Reads of the pump fail, saying so, while it lasts; the other pump is read all the time; then all is well."""

    async def told(bed: Bed) -> None:
        bed.fault("pump_media", what, 10.0, **args)
        assert saying in await bed.fails("pump_media")
        assert await bed.fails("pump_cells") == ""
        await asyncio.sleep(10.0)
        assert bed.injector.active == []
        await bed.online("pump_media")

    return told


story("silent", "pump")(refused("silent", "no reply within 1 s"))
story("late", "pump")(refused("late", "no reply within 1 s", delay=3.0))
story("busy", "pump")(refused("busy", "busy", code=6.0))
story("gateway", "pump")(refused("gateway", "gateway"))
story("wrong_function", "pump")(refused("wrong_function", "function"))
story("wrong_unit", "pump")(refused("wrong_unit", "unit"))
story("wrong_transaction", "pump")(refused("wrong_transaction", ""))
story("short_reply", "pump")(refused("short_reply", "register"))
story("truncated", "pump")(refused("truncated", ""))
story("bad_crc", "pump")(refused("bad_crc", "no reply within 1 s"))
story("garbage_before", "pump")(refused("garbage_before", "not Modbus TCP"))


@story("busy", "scale")
async def only_the_next_few_are_refused(bed: Bed) -> None:
    faults = bed.servers.faults(bed.plant.devices["scales"])
    bed.fault("scales", "busy", 100.0, code=5.0, n=2.0)
    later = bed.fault("scales", "busy", 100.0, n=1.0)
    read = bytes.fromhex("0400000022")
    codes = [bed.servers.servers["weighing"].answer(1, read)[0][:2] for _ in range(2)]  # type: ignore[index]
    assert codes[0] == b"\x84\x06"
    assert codes[1][0] == 4, "it was one"
    bed.injector.end(later)
    assert faults.busy == 2, "the earlier one has lost none of its own"
    assert ["acknowledge" in await bed.fails("scales"), bool(await bed.fails("scales"))] == [True, True]
    assert await bed.fails("scales") == ""
    await asyncio.sleep(100.0)
    assert (bed.injector.active, faults.busy) == ([], 0)


@story("late", "scale")
async def a_late_reply_is_only_late(bed: Bed) -> None:
    bed.fault("scales", "late", 60.0, delay=0.5)
    began = bed.clock.monotonic()
    await bed.values("scales")
    assert bed.clock.monotonic() - began == pytest.approx(0.5)


@story("stale", "scale")
async def stale_registers_stand_still(bed: Bed) -> None:
    bed.fault("scales", "stale", 20.0)
    before = await bed.values("scales")
    bed.bench.take(7)
    await asyncio.sleep(10.0)
    assert await bed.values("scales") == before
    await asyncio.sleep(11.0)
    after = await bed.values("scales")
    assert after["mass_7"] == pytest.approx(0.0, abs=3.0)
    assert after["seq"] != before["seq"]


@story("swapped_words", "bus")
async def swapped_words_are_other_numbers(bed: Bed) -> None:
    right = bed.servers.servers["weighing"].answer(1, bytes.fromhex("0400000022"))
    bed.fault("bus:weighing", "swapped_words", 20.0)
    wrong = bed.servers.servers["weighing"].answer(1, bytes.fromhex("0400000022"))
    assert right is not None
    assert wrong is not None
    assert wrong[0][2:4] == right[0][4:6]
    assert wrong[0][4:6] == right[0][2:4]


@story("silent", "bus")
async def a_silent_bus_is_all_its_units(bed: Bed) -> None:
    bed.fault("bus:fluidics", "silent", 30.0)
    assert all([await bed.fails(name) for name in ("pump_media", "valves_waste")])
    assert await bed.fails("scales") == ""


@story("cut", "bus")
async def a_cut_connection_comes_again(bed: Bed) -> None:
    before = list(bed.servers.servers["fluidics"].clients)
    bed.fault("bus:fluidics", "cut")
    assert bed.injector.count == {"cut": 1}
    await bed.online("pump_media")
    after = list(bed.servers.servers["fluidics"].clients)
    assert len(before) == len(after) == 1
    assert before != after


@story("half_open", "bus")
async def a_half_open_connection_says_nothing(bed: Bed) -> None:
    bed.fault("bus:weighing", "half_open", 30.0)
    assert "no reply" in await bed.fails("scales")
    await asyncio.sleep(30.0)
    await bed.online("scales")


@story("refuse_connect", "bus")
async def connections_are_refused(bed: Bed) -> None:
    bed.fault("bus:weighing", "refuse_connect", 30.0)
    for _ in range(5):
        assert await bed.fails("scales")
        await asyncio.sleep(5.0)
    await asyncio.sleep(6.0)
    await bed.online("scales")


@story("idle_close", "bus")
async def a_connection_without_questions_is_closed(bed: Bed) -> None:
    server = bed.servers.servers["weighing"]
    bed.fault("bus:weighing", "idle_close", 100.0, idle=5.0)
    await bed.values("scales")
    (before,) = server.clients
    for _ in range(3):
        await asyncio.sleep(4.0)
        await bed.values("scales")
    assert list(server.clients) == [before], "it was asked in time"
    await asyncio.sleep(5.5)
    assert before not in server.clients
    await bed.online("scales")
    await asyncio.sleep(100.0)
    await bed.online("scales")
    (after,) = server.clients
    await asyncio.sleep(3600.0)
    assert list(server.clients) == [after], "it is over"


@story("second_client_refused", "bus")
async def one_client_is_served(bed: Bed) -> None:
    server = bed.servers.servers["weighing"]
    lost: list[bool] = []
    second = memory_links(bed.servers, bed.clock)["weighing"]
    bed.fault("bus:weighing", "second_client_refused", 60.0)
    await second("", 0, lambda: lost.append(True)).connect(1.0)
    assert (lost, len(server.clients)) == ([True], 1)
    await bed.values("scales")
    await asyncio.sleep(61.0)
    other = second("", 0, lambda: lost.append(True))
    await other.connect(1.0)
    assert (lost, len(server.clients)) == ([True], 2)
    other.drop()


# --- power ----------------------------------------------------------------------------------------------------------


@story("reboot", "pump")
async def a_pump_that_starts_anew_forgets_its_dispense(bed: Bed) -> None:
    await bed.drivers["pump_media"].command("set_watchdog", {"seconds": 600})
    await bed.dispense()
    await asyncio.sleep(30.0)
    before = await bed.values("pump_media")
    bed.fault("pump_media", "reboot")
    after = await bed.values("pump_media")
    assert (before["running"], before["boots"], before["sequence"]) == (True, 1, 1)
    assert (after["running"], after["boots"], after["sequence"], after["watchdog"]) == (False, 2, 0, 0)
    assert after["total"] == pytest.approx(before["total"], abs=0.5)
    moved = bed.volume(1)
    await asyncio.sleep(120.0)
    assert bed.volume(1) == moved == pytest.approx(30.0, abs=2.0)


@story("reboot", "bioreactor")
async def an_incubator_comes_back_with_the_factory_targets(bed: Bed) -> None:
    await bed.drivers["incubator"].command("set_temperature", {"value": 37.0})
    await bed.drivers["incubator"].command("set_co2", {"value": 5.0})
    await asyncio.sleep(3600.0)
    bed.fault("incubator", "reboot")
    values = await bed.values("incubator")
    assert (values["temperature_target"], values["co2_target"]) == (21.0, 0.0)
    assert values["uptime"] < 10
    await asyncio.sleep(3600.0)
    assert (await bed.values("incubator"))["temperature"] < 22.0


@story("reboot", "valves")
async def valves_close_by_springs(bed: Bed) -> None:
    await bed.drivers["valves_media"].command("select", {"suction": 7, "delivery": 1})
    bed.fault("valves_media", "reboot")
    assert await bed.values("valves_media") == {"suction": 0.0, "delivery": 0.0}


@story("reboot", "scale")
async def scales_count_their_conversions_anew(bed: Bed) -> None:
    await asyncio.sleep(100.0)
    assert (await bed.values("scales"))["seq"] >= 100
    bed.fault("scales", "reboot")
    assert (await bed.values("scales"))["seq"] < 2


async def freezing(bed: Bed) -> None:
    """Start a run of half an hour from 4 degC down, a bag inside."""
    bed.bench.hang(9, volume_ml=100.0, content={"liquid": "cs10"}, name="product[1]")
    bed.bench.load_freezer(["product[1]"])
    row = {"kind": "ramp", "listen": "chamber", "rate": -1.0, "target": -30.0, "end": "target", "timeout": 3600.0}
    await bed.drivers["freezer"].command("load_program", {"rows": [row]})
    await bed.drivers["freezer"].command("start", {"sequence": 9})


@story("reboot", "freezer")
async def a_freezer_ends_its_run_and_keeps_its_log(bed: Bed) -> None:
    await freezing(bed)
    await asyncio.sleep(600.0)
    bed.plant.time()
    rows = len(bed.plant.freezer.trace)
    bed.fault("freezer", "reboot")
    values = await bed.values("freezer")
    assert (values["program_state"], values["sequence"]) == ("aborted", 9.0)
    assert values["elapsed"] == pytest.approx(600.0, abs=3.0)
    assert len(bed.plant.freezer.trace) == rows > 50
    assert not any(bed.plant.devices["freezer"].read(3, 100, 96)), "the table is gone"
    with pytest.raises(DeviceError):
        await bed.drivers["freezer"].command("start", {"sequence": 10})


@story("power_cut", "freezer")
async def a_freezer_without_power_warms_up(bed: Bed) -> None:
    await freezing(bed)
    await asyncio.sleep(1800.0)
    cold = bed.chamber()
    assert cold < -20.0
    bed.fault("freezer", "power_cut", 3600.0)
    assert "no reply" in await bed.fails("freezer")
    await asyncio.sleep(3601.0)
    await bed.online("freezer")
    values = await bed.values("freezer")
    assert cold + 10.0 < values["chamber_temperature"] < 21.0
    assert values["program_state"] == "aborted"
    held = bed.chamber()
    await asyncio.sleep(3600.0)
    assert bed.chamber() == pytest.approx(held, abs=1.0), "it holds what it found"


@story("power_cut", "bioreactor")
async def an_incubator_without_power_cools(bed: Bed) -> None:
    await bed.drivers["incubator"].command("set_temperature", {"value": 37.0})
    await bed.drivers["incubator"].command("set_co2", {"value": 5.0})
    await asyncio.sleep(4 * 3600.0)
    bed.fault("incubator", "power_cut", 1800.0)
    await asyncio.sleep(1790.0)
    warm = bed.plant.climate.temperature.at(bed.plant.time())
    assert 21.0 < warm < 24.5
    assert bed.plant.climate.co2.at(bed.plant.time()) < 0.1
    await asyncio.sleep(20.0)
    await bed.online("incubator")
    assert (await bed.values("incubator"))["temperature_target"] == 21.0


@story("power_cut", "pump")
async def a_pump_without_power_stands(bed: Bed) -> None:
    await bed.dispense()
    await asyncio.sleep(20.0)
    first = bed.fault("pump_media", "power_cut", 60.0)
    await asyncio.sleep(30.0)
    second = bed.fault("pump_media", "power_cut", 60.0)
    assert bed.injector.active == [first, second]
    moved = bed.volume(1)
    await asyncio.sleep(31.0)
    assert bed.injector.active == [second]
    assert await bed.fails("pump_media"), "the second cut is not over"
    assert bed.plant.pumps["pump_media"].boots == 1
    await asyncio.sleep(30.0)
    await bed.online("pump_media")
    values = await bed.values("pump_media")
    assert (values["boots"], values["running"], values["sequence"]) == (2.0, False, 0.0)
    assert bed.volume(1) == moved == pytest.approx(20.0, abs=3.0)


@story("power_cut", "bus", "devices")
async def a_bus_or_all_lose_power(bed: Bed) -> None:
    await bed.drivers["valves_media"].command("select", {"suction": 7, "delivery": 1})
    bed.fault("bus:fluidics", "power_cut", 30.0)
    assert [bool(await bed.fails(n)) for n in ("pump_media", "valves_media", "scales")] == [True, True, False]
    await asyncio.sleep(31.0)
    await bed.online("pump_media", "valves_media")
    assert (await bed.values("valves_media"))["suction"] == 0.0
    both = Fault("controller", "power_cut", time_s=0.0, for_s=20.0, args={"both": 1.0})
    half = of_devices(both)
    assert half is not None
    assert of_devices(Fault("controller", "power_cut", time_s=0.0, for_s=20.0)) is None
    bed.injector.apply(half)
    assert all([await bed.fails(name) for name in bed.drivers])
    await asyncio.sleep(60.0)
    await bed.online(*bed.drivers)
    assert [pump.boots for pump in bed.plant.pumps.values()] == [3, 3, 3]


# --- what instruments do wrong --------------------------------------------------------------------------------------


@story("not_applied", "valves")
async def a_write_is_acknowledged_and_ignored(bed: Bed) -> None:
    bed.fault("valves_media", "not_applied", 30.0)
    with pytest.raises(NotApplied):
        await bed.drivers["valves_media"].command("select", {"suction": 7, "delivery": 1})
    assert bed.plant.pumps["pump_media"].suction == 0
    await asyncio.sleep(30.0)
    await bed.drivers["valves_media"].command("select", {"suction": 7, "delivery": 1})


@story("stuck", "scale")
async def a_stuck_point_reads_the_same(bed: Bed) -> None:
    first = (await bed.values("scales"))["mass_7"]
    bed.fault("scales", "stuck", 60.0, point="mass_7")
    bed.bench.take(7)
    await asyncio.sleep(30.0)
    values = await bed.values("scales")
    assert values["mass_7"] == pytest.approx(first, abs=0.01)
    assert values["mass_1"] != (await bed.values("scales")) or values["seq"] > 20
    await asyncio.sleep(31.0)
    assert (await bed.values("scales"))["mass_7"] == pytest.approx(0.0, abs=3.0)


@story("noise", "scale")
async def a_noisy_point_jumps(bed: Bed) -> None:
    bed.fault("scales", "noise", 200.0, point="mass_7", sigma=50.0)
    seen: list[float] = []
    for _ in range(100):
        seen.append((await bed.values("scales"))["mass_7"])
        await asyncio.sleep(1.0)
    mean = sum(seen) / 100
    spread = math.sqrt(sum((x - mean) ** 2 for x in seen) / 99)
    assert 30.0 < spread < 70.0
    assert mean == pytest.approx(1035.0, abs=20.0)


@story("offset", "scale")
async def offsets_add_up_and_go(bed: Bed) -> None:
    right = (await bed.values("scales"))["mass_7"]
    first = bed.fault("scales", "offset", point="mass_7", by=100.0)
    bed.fault("scales", "offset", 20.0, point="mass_7", by=-30.0)
    assert (await bed.values("scales"))["mass_7"] == pytest.approx(right + 70.0, abs=3.0)
    await asyncio.sleep(21.0)
    assert (await bed.values("scales"))["mass_7"] == pytest.approx(right + 100.0, abs=3.0)
    bed.injector.end(first)
    assert (await bed.values("scales"))["mass_7"] == pytest.approx(right, abs=3.0)


@story("drift", "scale")
async def a_drift_grows(bed: Bed) -> None:
    right = (await bed.values("scales"))["mass_7"]
    drift = bed.fault("scales", "drift", point="mass_7", by=-60.0, over=600.0)
    assert (await bed.values("scales"))["mass_7"] == pytest.approx(right, abs=3.0)
    await asyncio.sleep(300.0)
    assert (await bed.values("scales"))["mass_7"] == pytest.approx(right - 30.0, abs=3.0)
    await asyncio.sleep(600.0)
    assert (await bed.values("scales"))["mass_7"] == pytest.approx(right - 90.0, abs=3.0)
    bed.injector.end(drift)
    assert (await bed.values("scales"))["mass_7"] == pytest.approx(right, abs=3.0)


@story("motor_fault", "bioreactor")
async def a_tray_stands_while_its_motor_is_broken(bed: Bed) -> None:
    fault = Fault("incubator", "motor_fault", time_s=0.0, for_s=60.0)
    assert not bed.injector.apply(fault), "an incubator has no motor"
    plant = Plant(bed.clock, 1)
    plant.put_up_rocker()
    tray = plant.devices["incubator"]
    tray.do("set_rocking", {"value": 10.0})
    await asyncio.sleep(20.0)
    assert Injector([plant], Suite(wire(plant.devices), bed.clock), bed.clock).apply(fault)
    await asyncio.sleep(30.0)
    assert (tray.reads("rocking"), tray.reads("rocking_target"), tray.reads("status")) == (0.0, 10.0, ["motor_fault"])
    await asyncio.sleep(60.0)
    assert tray.reads("rocking") == pytest.approx(10.0, abs=0.5)


@story("nan", "bioreactor")
async def a_broken_sensor_has_no_value(bed: Bed) -> None:
    bed.fault("incubator", "nan", 10.0, point="temperature")
    assert (await bed.values("incubator"))["temperature"] is None
    assert (await bed.values("incubator"))["co2"] is not None
    await asyncio.sleep(11.0)
    assert (await bed.values("incubator"))["temperature"] is not None


@story("sensor_break", "bioreactor", "scale")
async def a_sensor_that_broke_says_so(bed: Bed) -> None:
    bed.fault("incubator", "sensor_break", 10.0, point="temperature")
    bed.fault("scales", "sensor_break", 20.0, point="mass_7")
    assert (await bed.values("incubator"))["temperature"] is None
    assert (await bed.values("scales"))["mass_7"] is None
    assert (await bed.values("scales"))["mass_1"] is not None
    await asyncio.sleep(11.0)
    assert (await bed.values("incubator"))["temperature"] is not None
    assert (await bed.values("scales"))["mass_7"] is None
    await asyncio.sleep(10.0)
    assert (await bed.values("scales"))["mass_7"] is not None


@story("eeprom_worn", "bioreactor", "pump")
async def an_instrument_without_such_memory_does_not_wear(bed: Bed) -> None:
    for name in ("incubator", "pump_media"):
        assert bed.injector.apply(Fault(name, "eeprom_worn", time_s=0.0, for_s=60.0)) is False
    assert (bed.injector.active, bed.injector.count, list(bed.injector.injected)) == ([], {}, [])


@story("watchdog_trip", "pump")
async def a_watchdog_acts_though_it_was_fed(bed: Bed) -> None:
    await bed.drivers["pump_media"].command("set_watchdog", {"seconds": 600})
    await bed.dispense(100.0)
    await asyncio.sleep(30.0)
    bed.fault("pump_media", "watchdog_trip")
    moved = bed.volume(1)
    values = await bed.values("pump_media")
    assert (values["running"], values["watchdog"], values["watchdog_tripped"]) == (False, 0.0, True)
    assert values["dispensed"] == pytest.approx(30.0, abs=1.0)
    await asyncio.sleep(120.0)
    assert bed.volume(1) == moved == pytest.approx(30.0, abs=2.0)
    await bed.drivers["pump_media"].command("set_watchdog", {"seconds": 0})
    await bed.dispense(10.0, sequence=2)
    assert (await bed.values("pump_media"))["running"] is True
    assert bed.injector.apply(Fault("incubator", "watchdog_trip", time_s=0.0)) is False, "it has none"


@story("replaced", "pump")
async def another_pump_has_another_number_and_counts_from_0(bed: Bed) -> None:
    await bed.dispense(50.0)
    await asyncio.sleep(60.0)
    serial = bed.drivers["pump_media"].serial
    bed.fault("pump_media", "replaced")
    values = await bed.values("pump_media")
    assert (values["total"], values["sequence"], values["boots"], values["dispensed"]) == (0.0, 0.0, 1.0, 0.0)
    bed.servers.servers["fluidics"].cut()
    await bed.online("pump_media")
    assert bed.drivers["pump_media"].serial not in ("", "0", serial)


@story("replaced", "freezer")
async def another_freezer_knows_nothing(bed: Bed) -> None:
    await freezing(bed)
    await asyncio.sleep(60.0)
    bed.fault("freezer", "replaced")
    values = await bed.values("freezer")
    assert (values["program_state"], values["sequence"]) == ("idle", 0.0)


@story("rollover", "pump")
async def a_totaliser_rolls_over(bed: Bed) -> None:
    await bed.dispense(20.0, sequence=1)
    bed.fault("pump_media", "rollover", before=30.0)
    assert (await bed.values("pump_media"))["total"] < 20.0, "never in the middle of a dispense"
    await asyncio.sleep(30.0)
    assert (await bed.values("pump_media"))["total"] == pytest.approx(2**32 / 100 - 30.0)
    assert bed.injector.active == []
    await bed.dispense(50.0, sequence=2)
    await asyncio.sleep(60.0)
    values = await bed.values("pump_media")
    assert values["total"] == pytest.approx(20.0, abs=0.02)
    assert values["dispensed"] == pytest.approx(50.0)


@story("counter_reset", "pump")
async def a_totaliser_starts_from_0_in_the_middle(bed: Bed) -> None:
    await bed.dispense(100.0)
    await asyncio.sleep(40.0)
    bed.fault("pump_media", "counter_reset")
    assert (await bed.values("pump_media"))["total"] == pytest.approx(0.0, abs=1.0)
    await asyncio.sleep(90.0)
    values = await bed.values("pump_media")
    assert values["dispensed"] == pytest.approx(100.0)
    assert values["total"] == pytest.approx(60.0, abs=2.0)


@story("slip", "pump")
async def a_slipping_pump_moves_less_than_it_counts(bed: Bed) -> None:
    bed.fault("pump_media", "slip", 3600.0, share=40.0)
    await bed.dispense(100.0)
    await asyncio.sleep(120.0)
    assert (await bed.values("pump_media"))["dispensed"] == pytest.approx(100.0)
    assert bed.volume(1) == pytest.approx(60.0, abs=0.5)


@story("slow_drip", "pump")
async def a_standing_pump_drips(bed: Bed) -> None:
    bed.fault("pump_media", "slow_drip", 1200.0, rate=2.0)
    await asyncio.sleep(300.0)
    assert bed.volume(1) == 0.0, "its clamps are closed"
    await bed.drivers["valves_media"].command("select", {"suction": 7, "delivery": 1})
    await asyncio.sleep(600.0)
    assert bed.volume(1) == pytest.approx(20.0, abs=0.5)
    values = await bed.values("pump_media")
    assert (values["running"], values["total"]) == (False, 0.0)
    assert bed.plant.pumps["pump_media"].dripped_ml == pytest.approx(bed.volume(1))
    assert (await bed.values("scales"))["unstable"] == 0.0, "too slow for a scale to see"
    await asyncio.sleep(1200.0)
    assert bed.volume(1) == pytest.approx(30.0, abs=1.0)


@story("occlusion", "pump")
async def a_blocked_pump_counts_and_notices_late(bed: Bed) -> None:
    await bed.dispense(100.0)
    await asyncio.sleep(30.0)
    bed.fault("pump_media", "occlusion", 3600.0)
    moved = bed.volume(1)
    await asyncio.sleep(10.0)
    assert (await bed.values("pump_media"))["occlusion"] is False
    await asyncio.sleep(15.0)
    assert (await bed.values("pump_media"))["occlusion"] is True
    await asyncio.sleep(60.0)
    values = await bed.values("pump_media")
    assert (values["running"], values["dispensed"]) == (False, pytest.approx(100.0))
    assert bed.volume(1) == moved == pytest.approx(30.0, abs=1.0)


@story("bag_empty", "pump")
async def a_source_runs_dry_early(bed: Bed) -> None:
    bed.fault("pump_media", "bag_empty", 3600.0, left=950.0)
    await bed.dispense(100.0)
    await asyncio.sleep(120.0)
    values = await bed.values("pump_media")
    assert values["air_in_line"] is True
    assert values["dispensed"] == pytest.approx(100.0)
    assert bed.volume(1) == pytest.approx(50.0)
    assert bed.volume(7) == pytest.approx(950.0)


@story("bag_empty", "scale")
async def less_was_hung_than_told(bed: Bed) -> None:
    bed.fault("scales", "bag_empty", share=25.0, port=8.0)
    bed.bench.hang(9, volume_ml=100.0, name="other")
    bed.bench.hang(8, volume_ml=100.0, name="short")
    bed.bench.hang(10, volume_ml=100.0, name="after")
    bed.bench.take(8)
    bed.bench.hang(8, volume_ml=100.0, name="whole")
    assert [bed.volume(port) for port in (9, 10, 8)] == [100.0, 100.0, 100.0]
    found = bed.bench.call("find", {"name": "short"})
    assert found["volume_ml"] == pytest.approx(75.0)
    bed.fault("scales", "bag_empty", 60.0, share=10.0)
    for port in (11, 12):
        bed.bench.hang(port, volume_ml=100.0)
        assert bed.volume(port) == pytest.approx(90.0)


@story("leak", "scale")
async def a_leak_ends_on_the_floor(bed: Bed) -> None:
    bed.fault("scales", "leak", 600.0, port=7.0, rate=6.0)
    await asyncio.sleep(300.0)
    assert bed.volume(7) == pytest.approx(970.0)
    assert (await bed.values("scales"))["mass_7"] == pytest.approx(30.0 + 970.0 * 1.005, abs=3.0)
    await asyncio.sleep(600.0)
    assert bed.volume(7) == pytest.approx(940.0)
    assert bed.plant.fluidics.spilled.volume == pytest.approx(60.0)


@story("clamp_stuck", "valves")
async def stuck_clamps_stay_and_say_so(bed: Bed) -> None:
    await bed.drivers["valves_media"].command("select", {"suction": 7, "delivery": 1})
    bed.fault("valves_media", "clamp_stuck", 60.0)
    with pytest.raises(DeviceError):
        await bed.drivers["valves_media"].command("close", {})
    assert await bed.values("valves_media") == {"suction": 7.0, "delivery": 1.0}
    await asyncio.sleep(61.0)
    await bed.drivers["valves_media"].command("close", {})


@story("heater_fault", "bioreactor")
async def a_chamber_without_heater_cools(bed: Bed) -> None:
    await bed.drivers["incubator"].command("set_temperature", {"value": 37.0})
    await asyncio.sleep(4 * 3600.0)
    bed.fault("incubator", "heater_fault", 1800.0)
    await asyncio.sleep(1790.0)
    values = await bed.values("incubator")
    assert values["heater_fault"] is True
    assert values["temperature"] < 25.0
    assert values["temperature_target"] == 37.0
    await asyncio.sleep(4 * 3600.0)
    values = await bed.values("incubator")
    assert values["heater_fault"] is False
    assert values["temperature"] == pytest.approx(37.0, abs=0.5)


@story("heater_runaway", "bioreactor")
async def a_heater_runs_away_until_it_is_cut_off(bed: Bed) -> None:
    await bed.drivers["incubator"].command("set_temperature", {"value": 37.0})
    await asyncio.sleep(4 * 3600.0)
    bed.fault("incubator", "heater_runaway", 8 * 3600.0, to=60.0)
    await asyncio.sleep(3600.0)
    values = await bed.values("incubator")
    assert values["temperature"] > 55.0
    assert (values["temperature_target"], values["heater_fault"], values["heater_cut"]) == (37.0, False, False)
    await bed.drivers["incubator"].command("set_co2", {"value": 5.0})
    await bed.drivers["incubator"].command("cut_heater", {})
    await asyncio.sleep(3600.0)
    values = await bed.values("incubator")
    assert (values["temperature"] < 25.0, values["heater_cut"], values["temperature_target"]) == (True, True, 37.0)
    assert values["co2"] == pytest.approx(5.0, abs=0.5), "the gas goes on"
    await bed.drivers["incubator"].command("set_temperature", {"value": 36.0})
    await asyncio.sleep(3600.0)
    values = await bed.values("incubator")
    assert (values["temperature"] > 55.0, values["heater_cut"]) == (True, False), "set again, it is off no more"
    await asyncio.sleep(8 * 3600.0)
    values = await bed.values("incubator")
    assert values["temperature"] == pytest.approx(36.0, abs=0.5), "the fault is over"


@story("local_change", "bioreactor")
async def a_hand_at_the_panel_changes_a_target(bed: Bed) -> None:
    await bed.drivers["incubator"].command("set_temperature", {"value": 37.0})
    heard: list[str] = []
    bed.plant.devices["incubator"].heard.append(lambda name, _args: heard.append(name))
    bed.fault("incubator", "local_change", target="temperature", value=30.0)
    bed.fault("incubator", "local_change", target="co2", value=3.0)
    values = await bed.values("incubator")
    assert (values["temperature_target"], values["co2_target"]) == (30.0, 3.0)
    assert heard == [], "nothing came over the wire"
    for target in ("unit", "mode"):  # its profile asserts none
        args = {"target": target}
        assert bed.injector.apply(Fault("incubator", "local_change", time_s=0.0, args=args)) is False


@story("profile_abort", "freezer")
async def a_freezer_gives_up(bed: Bed) -> None:
    bed.fault("freezer", "profile_abort")
    assert (await bed.values("freezer"))["program_state"] == "idle"
    await freezing(bed)
    await asyncio.sleep(60.0)
    bed.fault("freezer", "profile_abort")
    assert (await bed.values("freezer"))["program_state"] == "aborted"


# --- the injector ---------------------------------------------------------------------------------------------------


def test_the_working_pump_is_the_one_that_runs() -> None:
    async def told(bed: Bed) -> None:
        bed.fault("working:pump", "slip", 10.0, share=5.0)
        assert bed.injector.injected[-1].where == "pump_media"
        bed.bench.hang(2, "vessel", "gas-permeable-500cm2", volume_ml=100.0, name="two")
        await bed.drivers["valves_waste"].command("select", {"suction": 2, "delivery": 1})
        await bed.drivers["pump_waste"].command("dispense", {"sequence": 5, "rate": 20.0, "volume": 50.0})
        bed.fault("working:pump", "occlusion", 600.0)
        bed.fault("working:valves", "clamp_stuck", 600.0)
        assert [i.where for i in bed.injector.injected][-2:] == ["pump_waste", "valves_waste"]
        assert bed.plant.pumps["pump_waste"].blocked is not None
        assert bed.plant.pumps["pump_waste"].stuck

    play(told)


def test_two_faults_of_a_kind_end_one_after_the_other() -> None:
    async def told(bed: Bed) -> None:
        faults = bed.servers.faults(bed.plant.devices["scales"])
        bed.fault("scales", "late", 30.0, delay=0.3)
        bed.fault("bus:weighing", "late", 10.0, delay=0.7)
        bed.fault("scales", "gateway", 5.0)
        assert (faults.delay_s, faults.refuse) == (0.7, 0x0B)
        await asyncio.sleep(10.1)
        assert (faults.delay_s, faults.refuse) == (0.3, 0)
        await asyncio.sleep(20.0)
        assert faults.delay_s == 0.0
        assert bed.injector.count == {"gateway": 1, "late": 2}

    play(told)


def test_what_the_site_has_not_is_refused_before_anything_happens() -> None:
    async def told(bed: Bed) -> None:
        wrong = [
            Fault("pump_nowhere", "silent", time_s=0.0),
            Fault("bus:nowhere", "silent", time_s=0.0),
            Fault("scales", "occlusion", time_s=0.0),
            Fault("scales", "stuck", time_s=0.0, args={"point": "mass_17"}),
            Fault("pump_media", "noise", time_s=0.0, args={"point": "running", "sigma": 1.0}),
            Fault("pump_media", "nan", time_s=0.0, args={"point": "sequence"}),
            Fault("scales", "silent", time_s=0.0, args={"delay": 1.0}),
        ]
        with pytest.raises(DocumentError) as caught:
            bed.injector.check(wrong)
        assert len(caught.value.diagnostics) == len(wrong)
        for each in wrong:
            with pytest.raises(DocumentError):
                bed.injector.apply(each)
        with pytest.raises(ValueError, match="no fault of an instrument"):
            bed.injector.apply(Fault("disk", "full", time_s=0.0, for_s=1.0))
        assert (bed.injector.active, bed.injector.count) == ([], {})

    play(told)


def test_closing_ends_everything() -> None:
    async def told(bed: Bed) -> None:
        for what, args in (("silent", {}), ("occlusion", {}), ("power_cut", {}), ("stuck", {"point": "total"})):
            bed.fault("pump_media", what, 1e4, **args)
        bed.injector.close()
        assert bed.injector.active == []
        await bed.online("pump_media")
        assert bed.plant.pumps["pump_media"].blocked is None

    play(told)


# --- the watchdog in the pump ---------------------------------------------------------------------------------------


def test_a_pump_stops_when_nobody_feeds_its_watchdog() -> None:
    async def told(bed: Bed) -> None:
        watchdog = load_profile("sim-pump").watchdog
        assert watchdog is not None
        pump = bed.drivers["pump_media"]
        arm = {watchdog.arg: watchdog.timeout_s}
        await bed.dispense(100.0)
        await pump.command(watchdog.command, arm)
        for _ in range(5):
            await asyncio.sleep(watchdog.period_s)
            await pump.command(watchdog.command, arm)
        values = await bed.values("pump_media")
        assert (values["running"], values["watchdog"], values["watchdog_tripped"]) == (True, 15.0, False)
        fed = bed.volume(1)
        await asyncio.sleep(60.0)
        values = await bed.values("pump_media")
        assert (values["running"], values["watchdog"], values["watchdog_tripped"]) == (False, 0.0, True)
        assert bed.volume(1) - fed == pytest.approx(15.0, abs=1.0)
        await pump.command(watchdog.command, {watchdog.arg: 0.0})
        assert (await bed.values("pump_media"))["watchdog_tripped"] is False

    play(told)


def test_a_disarmed_watchdog_does_nothing() -> None:
    async def told(bed: Bed) -> None:
        await bed.drivers["pump_media"].command("set_watchdog", {"seconds": 20})
        await bed.dispense(100.0)
        await bed.drivers["pump_media"].command("set_watchdog", {"seconds": 0})
        await asyncio.sleep(120.0)
        values = await bed.values("pump_media")
        assert (values["dispensed"], values["watchdog_tripped"]) == (pytest.approx(100.0), False)

    play(told)


def test_serial_numbers_differ() -> None:
    async def told(bed: Bed) -> None:
        seen = {name: driver.serial for name, driver in bed.drivers.items()}
        assert len(set(seen.values())) == len(seen)
        raw = bed.plant.devices["pump_media"].read(4, 101, 2)
        assert struct.unpack(">I", struct.pack(">2H", *raw))[0] == int(seen["pump_media"])

    play(told)
