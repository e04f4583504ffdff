"""Programs that share no code with us, on the wire of the simulated station: mbpoll reads and writes, tshark decodes.

Profiles are read here as plain YAML, so that a fault of the loader, which driver and simulator share, is seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from devices.clock import SystemClock
from devices.instrument import CommandRefused
from devices.modbus.bus import ModbusBus
from devices.modbus.driver import ModbusDevice
from devices.profile import load_profile
from simulators.bench import Bench
from simulators.plant import Plant
from simulators.suite import Suite, wire

REGISTERS = {3: "4", 4: "3"}  # function code -> mbpoll's name of its table
NOISE = 6.0  # sigma
TYPES = {"float32": ">f", "uint32": ">I", "uint16": ">H", "bits16": ">H", "bool": ">H"}


@dataclass
class Station:
    """A plant behind its Modbus servers."""

    plant: Plant
    bench: Bench
    ports: dict[str, int]
    clock: SystemClock


@pytest_asyncio.fixture
async def station() -> AsyncIterator[Station]:
    clock = SystemClock()
    plant = Plant(clock, 5)
    suite = Suite(wire(plant.devices), clock)
    yield Station(plant, Bench(plant), await suite.start(), clock)
    await suite.close()
    clock.close()


async def output(*words: str) -> str:
    """Run a program to its end and return what it printed; it must succeed."""
    process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    printed, _ = await process.communicate()
    assert process.returncode == 0, f"{' '.join(words)}:\n{printed.decode()}"
    return printed.decode()


async def mbpoll(port: int, unit: int, table: str, addr: int, *more: str) -> str:
    """Call mbpoll at a PDU address, with words in the order ABCD."""
    where = ("-m", "tcp", "-p", str(port), "-a", str(unit), "-0", "-B", "-t", table, "-r", str(addr))
    return await output("mbpoll", *where, *more)


async def read(port: int, unit: int, table: str, addr: int, count: int = 1) -> list[int]:
    """Return registers, by one request."""
    printed = await mbpoll(port, unit, f"{table}:hex", addr, "-c", str(count), "-1", "127.0.0.1")
    found = [int(value, 16) for value in re.findall(r"^\[\d+\]:\s+0x([0-9A-F]{4})", printed, re.MULTILINE)]
    assert len(found) == count
    return found


async def write(port: int, unit: int, table: str, addr: int, *values: float | str) -> None:
    """Write values with one request."""
    await mbpoll(port, unit, table, addr, "127.0.0.1", *map(str, values))


def text_of(profile: str) -> dict[str, Any]:
    """Return a profile as plain YAML: what a person reads, not what our loader makes of it."""
    return yaml.safe_load((files("devices") / "profiles" / f"{profile}.yaml").read_text())


async def points(station: Station, bus: str, unit: int, profile: str) -> dict[str, float]:
    """Read every point of an instrument, each at the place and as the type that its profile says."""
    text = text_of(profile)
    assert text["codec"]["word_order"] == "ABCD"
    seen: dict[str, float] = {}
    for block, source in text["blocks"].items():  # whole: they are atomic
        words = await read(station.ports[bus], unit, REGISTERS[source["fc"]], source["addr"], source["count"])
        image = struct.pack(f">{len(words)}H", *words)
        for name, point in text["points"].items():
            if point["block"] == block:
                (raw,) = struct.unpack_from(TYPES[point["type"]], image, 2 * (point["addr"] - source["addr"]))
                seen[name] = raw * point.get("scale", 1)
    (identity,) = await read(station.ports[bus], unit, "3", text["identity"]["addr"])
    assert identity == text["identity"]["expect"]
    return seen


@pytest.mark.debian("mbpoll")
async def test_the_incubator_is_read_as_its_profile_says_and_takes_a_target(station: Station) -> None:
    climate = station.plant.climate
    for name, lag, value in (("temperature", climate.temperature, "33.25"), ("co2", climate.co2, "7.5")):
        slot = text_of("sim-incubator")["commands"][f"set_{name}"]["write"]
        assert (slot["fc"], slot["fields"][0]["type"]) == (16, "float32")
        await write(station.ports["climate"], 1, "4:float", slot["addr"], value)
        assert lag.goal == float(value), "the plant took it"
    seen = await points(station, "climate", 1, "sim-incubator")
    now = station.plant.time()
    assert (seen["temperature_target"], seen["co2_target"]) == (33.25, 7.5)
    assert seen["temperature"] == pytest.approx(climate.temperature.at(now), abs=NOISE * 0.05 + 0.05)
    assert seen["co2"] == pytest.approx(climate.co2.at(now), abs=NOISE * 0.05 + 0.05)
    assert seen["humidity"] == pytest.approx(climate.humidity.at(now), abs=NOISE * 0.3 + 0.1)
    assert seen["uptime"] == pytest.approx(now, abs=5)
    assert seen["status"] == 0

    with pytest.raises(AssertionError, match="Illegal data"):  # the instrument itself keeps its limits
        await write(station.ports["climate"], 1, "4:float", 0, 90)
    assert climate.temperature.goal == 33.25


@pytest.mark.debian("mbpoll")
async def test_scales_and_a_pump_are_read_as_their_profiles_say(station: Station) -> None:
    bench, plant = station.bench, station.plant
    hung = {port: 100.0 * port for port in (7, 9, 15)}
    for port, volume in hung.items():
        bench.hang(port, volume_ml=volume, content={"liquid": "buffer"}, name=f"bag{port}")
    bench.hang(1, kind="vessel", vessel_class="gas-permeable-100cm2", name="flask")
    await write(station.ports["fluidics"], 4, "4", 0, 9, 1)
    assert await points(station, "fluidics", 4, "sim-valves") == {"suction": 9, "delivery": 1}

    fields = text_of("sim-pump")["commands"]["dispense"]["write"]["fields"]
    assert [field["type"] for field in fields] == ["uint16", "float32", "uint32", "uint16"]
    words = struct.unpack(">6H", struct.pack(">HfIH", 77, 150.0, round(2.5 / fields[2]["scale"]), 1))
    await write(station.ports["fluidics"], 1, "4", 0, *words)
    (dose,) = plant.pumps["pump_media"].log
    assert (dose.sequence, dose.commanded_ml, dose.rate) == (77, 2.5, 150.0)
    running = await points(station, "fluidics", 1, "sim-pump")
    assert (running["running"], running["rate"], running["sequence"]) == (1, 150.0, 77)

    async with asyncio.timeout(20):
        while (await points(station, "fluidics", 1, "sim-pump"))["running"]:
            pass
    done = await points(station, "fluidics", 1, "sim-pump")
    assert (done["running"], done["rate"], done["status"]) == (0, 0.0, 0)
    assert done["dispensed"] == done["total"] == pytest.approx(2.5)
    other = await points(station, "fluidics", 2, "sim-pump")
    assert other["sequence"] == 0, "another pump on the same wire did nothing"

    seen = await points(station, "weighing", 1, "sim-scales")
    now = plant.time()
    for port in range(1, 17):
        noise = 1.0 if port == 16 else 0.3
        true = plant.fluidics.mass(port, now)
        assert seen[f"mass_{port}"] == pytest.approx(true, abs=NOISE * noise), f"port {port}"
        assert (true > 100.0) == (port in {1, *hung})


@pytest.mark.debian("tshark", "dumpcap")
async def test_tshark_finds_nothing_wrong_in_what_driver_and_simulator_say(station: Station, tmp_path: Path) -> None:
    clock, port = station.clock, station.ports["fluidics"]
    async with captured(port, tmp_path / "tshark.log") as frames:
        bus = ModbusBus("fluidics", "127.0.0.1", port, clock)
        await bus.open()
        pump = ModbusDevice("pump_media", load_profile("sim-pump"), bus, 1, clock)
        valves = ModbusDevice("valves_media", load_profile("sim-valves"), bus, 4, clock)
        await valves.command("select", {"suction": 7, "delivery": 2})
        await pump.command("dispense", {"sequence": 5, "rate": 120.0, "volume": 12.0})
        with pytest.raises(CommandRefused):
            await pump.command("dispense", {"sequence": 5, "rate": 120.0, "volume": 12.0})
        await pump.command("stop", {})
        with pytest.raises(Exception, match="exception"):
            await bus.read(1, 4, 5000, 2)  # nothing is there: the simulator refuses
        await bus.read(6, 4, 0, 2)
        await bus.close()
        async with asyncio.timeout(30):
            while not any(frame["unit"] == "6" and frame["to"] != str(port) for frame in frames):
                await frames.more()
    seen = [frame for frame in frames if frame["unit"] != "9"]
    wrong = [frame for frame in seen if frame["malformed"] or frame["expert"] not in ("", EXCEPTION)]
    assert not wrong, "\n".join(str(frame) for frame in wrong)
    requests = [(int(f["unit"]), int(f["function"])) for f in seen if f["to"] == str(port)]
    replies = [(int(f["unit"]), int(f["function"])) for f in seen if f["to"] != str(port)]
    assert requests == replies, "each request has one reply, of its unit and function"
    writes = [request for request in requests if request[1] in (5, 6, 15, 16)]
    assert writes == [(4, 16), (1, 16), (1, 6)], "each command was written once, the refused one not at all"
    assert {function for _, function in requests} == {4, 6, 16}
    exceptions = [f for f in seen if f["exception"]]
    assert [(f["unit"], f["function"], f["exception"]) for f in exceptions] == [("1", "4", "2")]
    numbers = [f["transaction"] for f in seen]
    assert numbers[0::2] == numbers[1::2]
    dispense = next(f for f in seen if (f["unit"], f["function"]) == ("1", "16") and f["to"] == str(port))
    words = struct.unpack(">6H", struct.pack(">HfIH", 5, 120.0, 1200, 1))
    assert (dispense["reference"], dispense["registers"]) == ("0", ",".join(str(word) for word in words))


# Each frame as tab-separated fields, a line a frame.
FIELDS = {
    "to": "tcp.dstport",
    "transaction": "mbtcp.trans_id",
    "unit": "mbtcp.unit_id",
    "function": "modbus.func_code",
    "exception": "modbus.exception_code",
    "reference": "modbus.reference_num",
    "registers": "modbus.regval_uint16",
    "malformed": "_ws.malformed",
    "expert": "_ws.expert.message",
}
EXCEPTION = "Exception returned: 2 (Illegal data address)"


class Frames(list[dict[str, str]]):
    """What tshark has decoded so far."""

    def __init__(self) -> None:
        super().__init__()
        self._news = asyncio.Event()

    def take(self, line: str) -> None:
        self.append(dict(zip(FIELDS, line.rstrip("\n").split("\t"), strict=True)))
        self._news.set()

    async def more(self) -> None:
        """Wait for another frame."""
        self._news.clear()
        await self._news.wait()


@contextlib.asynccontextmanager
async def captured(port: int, said: Path) -> AsyncIterator[Frames]:
    """Have tshark capture and decode what goes over a port of the loopback; skip where nobody may capture."""
    fields = [word for name in FIELDS.values() for word in ("-e", name)]
    with said.open("w") as errors:
        process = await asyncio.create_subprocess_exec(
            "tshark", "-i", "lo", "-f", f"tcp port {port}", "-o", f"mbtcp.tcp.port:{port}", "-l", "-n",
            "-Y", "mbtcp || _ws.malformed", "-T", "fields", *fields, stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
    frames = Frames()

    async def collect() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            frames.take(line.decode())

    collecting = asyncio.create_task(collect())
    try:
        async with asyncio.timeout(30):
            while not frames:  # tshark tells that it captures a little before it does
                if process.returncode is not None:
                    refused(said)
                await poke(port)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await frames.more()
        yield frames
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await collecting


def refused(said: Path) -> None:
    """Skip when tshark said that it may not capture; else it is a fault."""
    text = said.read_text()
    assert "permission" in text.lower(), text
    pytest.skip(f"capturing is not permitted here: {text}")


async def poke(port: int) -> None:
    """Ask a unit that does not exist, so that there is something to see."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(bytes.fromhex("0001 0000 0006 09 04 0000 0001"))
    await writer.drain()
    writer.close()
    await writer.wait_closed()
