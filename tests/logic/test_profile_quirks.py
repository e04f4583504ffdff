"""What profiles say of quirks, and what the driver makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from devices.clock import SystemClock
from devices.document import DocumentError, parse
from devices.instrument import CommandRefused, DeviceState, NotApplied, Priority, ReadFailed
from devices.kept import Kept
from devices.modbus.bus import ModbusBus
from devices.modbus.driver import ModbusDevice
from devices.profile import compile_profile, load_profile
from devices.profile_types import Profile
from devices.reading import Quality
from devices.wear import WriteLedger
from simulators.device import SimDevice
from simulators.memory import memory_links
from simulators.parts import simulated
from simulators.suite import Suite
from simulators.virtual import VirtualClock
from simulators.virtual import run as run_virtually

PLAIN = """
profile: {id: made-up, version: 1, role: gas_flow, maker: nobody, model: none, evidence: simulated, sources: [a test]}
transport: {kinds: [tcp]}
codec: {word_order: CDAB}
blocks:
  status: {fc: 3, addr: 10, count: 1, scan: fast}
  flow: {fc: 3, addr: 20, count: 8, scan: fast}
points:
  health: {block: status, addr: 10, type: bits16, stale_ms: 5000, bits: {0: broken, 1: warming}}
  flow:
    {block: flow, addr: 20, type: float32, unit: mL/min, stale_ms: 5000,
     bad_when: [{bit: broken}], uncertain_when: [{bit: warming}]}
  setpoint: {block: flow, addr: 22, type: float32, unit: mL/min, stale_ms: 5000}
  mode: {block: flow, addr: 24, type: uint16, stale_ms: 5000, symbols: {0: local, 1: remote}}
  word: {block: flow, addr: 25, type: bits16, stale_ms: 5000, bits: {0: going, 4: reverse}}
commands:
  set_flow:
    write: {fc: 16, addr: 22, fields: [{arg: value, type: float32, unit: mL/min, min: 0, max: 100}]}
    idempotent: true
    verify: {points: [{point: setpoint, arg: value, tolerance: 0.01}]}
failsafe: {on_comm_loss: keeps_running}
sim: {model: registers}
"""


def profile(folder: Path, *changes: tuple[str, str]) -> Profile:
    """Return the plain profile with some text replaced."""
    text = PLAIN
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    path = folder / "made-up.yaml"
    path.write_text(text, "utf-8")
    return load_profile(path)


def refusal(folder: Path, *changes: tuple[str, str]) -> str:
    with pytest.raises(DocumentError) as found:
        profile(folder, *changes)
    return str(found.value)


IDEMPOTENT = "idempotent: true"
LIMITS = "mL/min, min: 0, max: 100}]"


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (("addr: 22, fields", "addr: 22, index: [{arg: n, first: 3, last: 1}], fields"), "last is less than first"),
        (("[{bit: broken}]", "[{bit: cracked}]"), "there is no bit cracked"),
        (("[{bit: broken}]", "[{bit: broken, in: [1]}]"), "there is nothing to list"),
        (("[{bit: broken}]", "[{}]"), "give either `point` or `bit`"),
        (("type: uint16, stale_ms", "type: uint16, word_order: CDAB, stale_ms"), "it has no word order"),
        ((IDEMPOTENT, f"{IDEMPOTENT}\n    storage: {{kind: eeprom}}"), "memory that wears needs a budget"),
        ((IDEMPOTENT, f"{IDEMPOTENT}\n    requires: [{{point: nowhere, in: [x]}}]"), "there is no point nowhere"),
        ((IDEMPOTENT, f"{IDEMPOTENT}\n    requires: [{{point: mode, in: [away]}}]"), "mode has no symbol away"),
        ((LIMITS, f"{LIMITS[:-2]}, keep: {{point: flow, mask: 1}}}}]"), "bits are kept of one"),
        (("sim: {model: registers}", "sim: {model: registers, values: {nothing: '1'}}"), "there is no point nothing"),
        (("failsafe:", "deny: [{range: [9, 3], why: x}]\nfailsafe:"), "the range must be written [first, last]"),
    ],
)
def test_what_cannot_be_meant_is_found(change: tuple[str, str], finding: str, tmp_path: Path):
    assert finding in refusal(tmp_path, change)


def test_an_example_of_the_manual_finds_a_wrong_word_order(tmp_path: Path):
    example = "stale_ms: 5000,\n     example: {words: [0xD47A, 0x43E8], reads: 465.66},\n     bad_when"
    change = ("stale_ms: 5000,\n     bad_when", example)
    assert profile(tmp_path, change).points["flow"]
    text = refusal(tmp_path, change, ("word_order: CDAB", "word_order: ABCD"))
    assert "flow in the word order ABCD contradicts its example" in text
    assert "made-up.yaml:12:" in text
    wrong = refusal(tmp_path, change, ("465.66", "46.566"))
    assert "the example reads 465.66, not 46.566" in wrong


def served(device: SimDevice, folder: Path, work: Any, **given: Any) -> None:
    """Drive an instrument over the bus in virtual time."""

    async def main(clock: VirtualClock) -> None:
        servers = Suite({"bus": {1: device}}, clock)
        bus = ModbusBus("bus", "", 0, clock, link=memory_links(servers, clock)["bus"])
        await bus.open()
        wear = WriteLedger(clock, Kept(clock, folder / "writes.json"))
        try:
            await work(ModbusDevice("it", device.profile, bus, 1, clock, wear), clock)
        finally:
            await wear.close()
            await bus.close()
            await servers.close()

    run_virtually(main, seed=1, watchdog_s=20.0)


WEARS = (IDEMPOTENT, f"{IDEMPOTENT}\n    storage: {{kind: eeprom, per_day: 3, life: 100000}}\n    only_on_change: true")


def test_a_spent_budget_refuses_what_changes_something_and_nothing_else(tmp_path: Path):
    device = simulated(profile(tmp_path, WEARS))

    async def work(it: ModbusDevice, clock: VirtualClock) -> None:
        for value in (1.0, 2.0, 3.0):
            await it.command("set_flow", {"value": value})
        with pytest.raises(CommandRefused, match="written 3 times today"):
            await it.command("set_flow", {"value": 4.0})
        assert (await it.command("set_flow", {"value": 3.0}))["setpoint"].value == 3.0, "it is so already"
        await clock.sleep(86_400)
        await it.command("set_flow", {"value": 4.0})

    served(device, tmp_path, work)


def test_writes_that_come_at_once_do_not_pass_the_budget_together(tmp_path: Path):
    device = simulated(profile(tmp_path, WEARS))

    async def work(it: ModbusDevice, clock: VirtualClock) -> None:
        wishes = (it.command("set_flow", {"value": float(value)}) for value in range(1, 9))
        done = await asyncio.gather(*wishes, return_exceptions=True)
        assert sum(isinstance(each, CommandRefused) for each in done) == 5
        assert it._wear.total("it", "set_flow") == 3

    served(device, tmp_path, work)


@pytest.mark.parametrize("entry", ['"100"', "null", "NaN", "-1", "1e400", '{"x": 1}', "[]", "0.5"])
def test_a_count_that_cannot_be_read_leaves_the_others_as_they_are(entry: str, tmp_path: Path):
    device = simulated(profile(tmp_path, WEARS))
    (tmp_path / "writes.json").write_text(f'{{"it.set_flow": {{"day": "2026-01-05", "today": {entry}, "total": 77}}}}')

    async def work(it: ModbusDevice, clock: VirtualClock) -> None:
        await it.command("set_flow", {"value": 1.0})
        assert it._wear.total("it", "set_flow") == 78

    with capture_logs() as told:
        served(device, tmp_path, work)
    assert [line["entry"] for line in told if line["event"] == "wear_count_unreadable"] == ["today"]


@pytest.mark.parametrize("text", ["[" * 200_000, "", "{", '"text"', "\x00", "{}" * 3])
def test_a_file_of_counts_that_cannot_be_read_is_kept_aside(text: str, tmp_path: Path):
    path = tmp_path / "writes.json"
    for number in ("", "1"):
        path.write_text(text)
        kept = Kept(SystemClock.__new__(SystemClock), path)
        assert (kept.data, kept.lost) == ({}, True)
        assert (tmp_path / f"writes.broken{number}").read_text() == text
        assert not path.exists()


def test_what_tells_of_alarms_goes_before_the_data_of_the_wire(tmp_path: Path):
    device = simulated(
        profile(tmp_path, ("addr: 10, count: 1, scan: fast}", "addr: 10, count: 1, scan: fast, first: true}"))
    )
    asked: list[int] = []

    async def work(it: ModbusDevice, clock: VirtualClock) -> None:
        await it.read("flow")
        read = device.read_bytes
        device.read_bytes = lambda fc, addr, count: asked.append(addr) or read(fc, addr, count)  # type: ignore[method-assign]
        it._bus.pace(1, 0.5)  # the wire is busy for a while, and all of it waits
        await asyncio.gather(it.read("flow"), it.read("flow"), it.read("status"))

    served(device, tmp_path, work)
    assert asked == [20, 10, 20], "one was served already when the others came"


def test_another_block_decides_over_the_quality_and_unknown_is_not_false(tmp_path: Path):
    health = {"value": 0}
    device = simulated(profile(tmp_path), {"health": lambda: health["value"], "flow": lambda: 12.5})

    async def work(it: ModbusDevice, clock: VirtualClock) -> None:
        alone = (await it.read("flow"))["flow"]
        assert (alone.value, alone.quality) == (12.5, Quality.UNCERTAIN)  # nobody knows yet
        for value, quality in ((0, Quality.GOOD), (2, Quality.UNCERTAIN), (1, Quality.BAD), (0, Quality.GOOD)):
            health["value"] = value
            readings = await it.read_all()
            assert readings["flow"].quality is quality
            assert (readings["flow"].value is None) is (quality is Quality.BAD)
        await clock.sleep(6)
        assert (await it.read("flow"))["flow"].quality is Quality.UNCERTAIN  # what decides is too old

    served(device, tmp_path, work)


def with_command(folder: Path, more: str) -> Profile:
    return profile(folder, ("    idempotent: true\n", f"    idempotent: true\n{more}"))


def test_a_budget_refuses_but_never_a_stop_and_outlives_the_controller(tmp_path: Path):
    device = simulated(with_command(tmp_path, "    storage: {kind: eeprom, per_day: 3, life: 5}\n"))

    async def first(it: ModbusDevice, clock: VirtualClock) -> None:
        for value in range(3):
            await it.command("set_flow", {"value": float(value)})
        with pytest.raises(CommandRefused, match="3 times today, its budget is 3 a day"):
            await it.command("set_flow", {"value": 9.0})
        await it.command("set_flow", {"value": 0.0}, Priority.STOP)

    async def second(it: ModbusDevice, clock: VirtualClock) -> None:
        with pytest.raises(CommandRefused, match="today"):
            await it.command("set_flow", {"value": 9.0})
        await clock.sleep(86_400)
        await it.command("set_flow", {"value": 9.0})
        await clock.sleep(86_400)
        with pytest.raises(CommandRefused, match="5 times, the memory lasts 5"):
            await it.command("set_flow", {"value": 8.0})

    served(device, tmp_path, first)
    served(device, tmp_path, second)


def test_a_broken_ledger_is_set_aside_and_stops_nothing(tmp_path: Path):
    (tmp_path / "writes.json").write_text("{half of", "utf-8")
    device = simulated(with_command(tmp_path, "    storage: {kind: eeprom, per_day: 3}\n"))

    async def work(it: ModbusDevice, clock: VirtualClock) -> None:
        await it.command("set_flow", {"value": 1.0})

    served(device, tmp_path, work)
    assert (tmp_path / "writes.broken").read_text("utf-8") == "{half of"
    assert '"today": 1' in (tmp_path / "writes.json").read_text("utf-8")


def test_what_a_command_requires_is_looked_at_before_it_is_sent(tmp_path: Path):
    mode = {"value": "local"}
    heard: list[str] = []
    device = simulated(
        with_command(tmp_path, "    requires: [{point: mode, in: [remote]}]\n"), {"mode": lambda: mode["value"]}
    )
    device.heard.append(lambda command, _: heard.append(command))

    async def work(it: ModbusDevice, clock: VirtualClock) -> None:
        with pytest.raises(CommandRefused, match="mode is local, it must be remote"):
            await it.command("set_flow", {"value": 1.0})
        assert heard == []
        mode["value"] = "remote"
        await it.command("set_flow", {"value": 1.0})

    served(device, tmp_path, work)


def test_commands_keep_their_distance(tmp_path: Path):
    device = simulated(with_command(tmp_path, "    min_interval_ms: 2000\n    delay_ms: 500\n"))

    async def work(it: ModbusDevice, clock: VirtualClock) -> None:
        began = clock.monotonic()
        for value in (1.0, 2.0, 3.0):
            await it.command("set_flow", {"value": value})
        assert clock.monotonic() - began >= 4.5

    served(device, tmp_path, work)


def test_bits_are_kept_of_a_control_word_that_is_written_whole(tmp_path: Path):
    """Row 24: bits are not written one by one; the word is written whole, by its one owner."""
    stop = """  halt:
    write: {fc: 6, addr: 25, fields: [{value: 0, type: uint16, keep: {point: word, mask: 0x10}}]}
    idempotent: true
    verify: {points: [{point: going, equals: false}]}
"""
    device = simulated(profile(tmp_path, ("failsafe:", f"{stop}failsafe:")))

    async def work(it: ModbusDevice, clock: VirtualClock) -> None:
        device.written[3, 25] = 0x11
        await it.command("halt", {})
        assert device.written[3, 25] == 0x10

    served(device, tmp_path, work)


def test_a_setting_that_an_operator_changed_is_a_fault_at_the_next_look(tmp_path: Path):
    """Row 26: units and modes are looked at when it connects, and every hour."""
    asserts = "asserts: [{fc: 3, addr: 40, type: uint16, in: [15, 16], why: unit must be degrees C}]\nfailsafe:"
    device = simulated(profile(tmp_path, ("failsafe:", asserts)))
    turned = simulated(profile(tmp_path, ("failsafe:", asserts.replace("[15, 16]", "[30]"))))

    async def work(it: ModbusDevice, clock: VirtualClock) -> None:
        await it.read_all()
        assert it.status.state is DeviceState.ONLINE
        device._images = turned._images
        device._exact = turned._exact
        await it.read_all()  # it is looked at hourly
        await clock.sleep(3601)
        with pytest.raises(ReadFailed, match="register 40 reads 30, expected 15 or 16"):
            await it.read_all()
        assert it.status.state is DeviceState.FAULT

    served(device, tmp_path, work)


def test_a_profile_of_the_sites_own_folder_is_found_before_that_of_the_product(tmp_path: Path):
    text = PLAIN.replace("id: made-up", "id: sim-scales").replace("maker: nobody", "maker: ours")
    (tmp_path / "sim-scales.yaml").write_text(text, "utf-8")
    assert load_profile("sim-scales", [tmp_path]).maker == "ours"
    assert load_profile("sim-scales").maker == "tilctl"
    (tmp_path / "other.yaml").write_text(PLAIN, "utf-8")
    with pytest.raises(DocumentError, match=r"other\.yaml but declares made-up"):
        load_profile("other", [tmp_path])


def test_every_modbus_profile_says_where_it_comes_from_and_denies_nothing_that_it_writes():
    for path in sorted((Path(load_profile.__code__.co_filename).parent / "profiles").glob("*.yaml")):
        data: Mapping[str, Any] = yaml.safe_load(path.read_text("utf-8"))
        found = load_profile(path.stem)
        assert found.sources
        if found.evidence != "simulated":
            assert found.open_checks, f"{path.name}: nothing of it was seen on a bench"
        assert data["profile"]["id"] == path.stem


def test_an_address_that_is_not_there_names_the_block(tmp_path: Path):
    """Row 9: blocks are those of the profile, never merged; one with a gap fails by itself and says where."""
    device = simulated(profile(tmp_path, ("sim: {model: registers}", "sim: {model: registers, unlisted: exception}")))
    gap = profile(tmp_path, ("addr: 20, count: 8", "addr: 20, count: 12"))

    async def work(it: ModbusDevice, clock: VirtualClock) -> None:
        it.profile = gap
        with pytest.raises(ReadFailed, match=r"reading 12 registers from 20 .* illegal data address"):
            await it.read("flow")
        assert (await it.read("status"))["health"].quality is Quality.GOOD

    served(device, tmp_path, work)


def test_a_block_is_one_request_of_its_own_length(tmp_path: Path):
    """Row 10: composite registers are read at once, and never more at a time than the instrument can."""
    asked: list[tuple[int, int, int]] = []
    device = simulated(profile(tmp_path))
    plain = device.read_bytes
    device.read_bytes = lambda fc, addr, count: asked.append((fc, addr, count)) or plain(fc, addr, count)  # type: ignore[method-assign,func-returns-value]

    async def work(it: ModbusDevice, clock: VirtualClock) -> None:
        await it.read_all()
        assert asked[-2:] == [(3, 10, 1), (3, 20, 8)]

    served(device, tmp_path, work)
    assert "8 registers are more than limits.max_read" in refusal(
        tmp_path, ("codec: {word_order: CDAB}", "codec: {word_order: CDAB}\nlimits: {max_read: 7}")
    )


@pytest.mark.parametrize(
    ("torn", "says"),
    [
        (
            ("blocks:", "blocks:\n  part: {fc: 3, addr: 22, count: 2, scan: slow}"),
            "block part reads addresses 22 to 23",
        ),
        (
            ("blocks:", "blocks:\n  more: {fc: 3, addr: 18, count: 12, scan: slow}"),
            "block more reads addresses 18 to 29",
        ),
        (
            ("failsafe:", "asserts: [{fc: 3, addr: 24, type: uint16, equals: 0, why: w}]\nfailsafe:"),
            "it reads addresses 24",
        ),
        (("blocks:", "identity: {fc: 3, addr: 26, type: uint16}\nblocks:"), "the identity reads addresses 26 to 26"),
    ],
)
def test_nothing_may_tear_an_atomic_block(tmp_path: Path, torn: tuple[str, str], says: str):
    """Row 10: no other block, no assertion and no identity reads a part of what is read at once, or more than it."""
    atomic = ("addr: 20, count: 8", "addr: 20, count: 8, atomic: true")
    assert profile(tmp_path, atomic).blocks["flow"].atomic
    said = refusal(tmp_path, atomic, torn)
    assert says in said
    assert "tears the atomic block flow" in said
    assert profile(tmp_path, torn), "where it is not atomic, it may"


def test_an_echo_that_moves_is_no_atomic_block():
    """Row 10: what is read at another address is not that block."""
    text = (files("devices") / "profiles" / "eurotherm-epc3016.yaml").read_text("utf-8")
    segments = "segments: {fc: 3, addr: 49440, count: 6, scan: demand"
    assert segments in text
    with pytest.raises(DocumentError, match="segments is atomic"):
        compile_profile(parse(text.replace(segments, f"{segments}, atomic: true"), "epc.yaml"))


def test_a_wrong_word_order_is_found_at_connect(tmp_path: Path):
    """Row 20: what the profile asserts of a register of two words proves the order of its words."""
    asserts = (
        "asserts: [{fc: 3, addr: 40, type: uint32, equals: 4, why: the unit code proves the word order}]\nfailsafe:"
    )
    right = profile(tmp_path, ("failsafe:", asserts))
    other = profile(tmp_path, ("failsafe:", asserts), ("word_order: CDAB", "word_order: ABCD"))

    async def work(it: ModbusDevice, clock: VirtualClock) -> None:
        it.profile = right
        with pytest.raises(ReadFailed, match="register 40 reads 262144, expected 4"):
            await it.read_all()
        assert it.status.state is DeviceState.FAULT

    served(simulated(other), tmp_path, work)


def test_addresses_are_those_of_the_wire(tmp_path: Path):
    """Row 21: no 4xxxx notation and no numbers that begin with 1; the manual's number is text beside it."""
    assert "less than or equal to 65535" in refusal(tmp_path, ("addr: 20, count: 8", "addr: 400021, count: 8"))
    found = profile(tmp_path, ("type: uint16, stale_ms", 'type: uint16, doc: "man. 40025", stale_ms'))
    assert (found.points["mode"].addr, found.points["mode"].doc) == (24, "man. 40025")


def test_a_value_ages(tmp_path: Path):
    """Row 22: a value carries its time and its quality; what is old turns stale by itself."""
    device = simulated(profile(tmp_path), {"health": lambda: 0, "flow": lambda: 3.0})

    async def work(it: ModbusDevice, clock: VirtualClock) -> None:
        readings = await it.read_all()
        flow = readings["flow"]
        assert flow.quality is Quality.GOOD
        assert flow.aged(clock.monotonic() + 6.0, 5.0).quality is Quality.STALE

    served(device, tmp_path, work)


def test_a_write_that_is_discarded_is_not_taken_for_done(tmp_path: Path):
    """Row 23: acknowledged is not applied. Row 25: the read-back may stand at another register."""
    other = ("verify: {points: [{point: setpoint", "verify: {within_ms: 500, points: [{point: flow")
    device = simulated(profile(tmp_path, other), {"health": lambda: 0, "flow": lambda: 3.0})

    async def work(it: ModbusDevice, clock: VirtualClock) -> None:
        await it.read_all()
        with pytest.raises(NotApplied, match=r"it shows flow = 3\.0"):
            await it.command("set_flow", {"value": 50.0})
        await it.command("set_flow", {"value": 3.0})

    served(device, tmp_path, work)
