"""RTU on real ptys and over real TCP: several units on one wire, an independent master, every fault of a reply."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import termios
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from devices.clock import SystemClock
from devices.instrument import DeviceState
from devices.modbus.bus import ModbusBus
from devices.modbus.pdu import BadReplyError, BusError, ExceptionReplyError, NoReplyError, NotSentError
from devices.modbus.rtu import crc16
from devices.modbus.serial import SerialStream, serial_links
from simulators.rtu import RtuServer
from tests.stack.rtu_line import Counter, Stand, line

TIMEOUT = 0.1
SETTLE = 0.15
WIRES = ("tcp", "pty")


@contextlib.asynccontextmanager
async def real(over: str, within: float = TIMEOUT, **given: Any) -> AsyncIterator[Stand]:
    clock = SystemClock()
    async with line(clock, over, within, **{"settle_s": SETTLE, **given}) as stand:
        yield stand
    clock.close()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  what is waited for happens in a peer that has no event to set
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def cable(folder: Path) -> AsyncIterator[tuple[str, str, Callable[[], None]]]:
    """Two ends of a serial cable, and how to pull it."""
    ends = [str(folder / name) for name in ("here", "there")]
    words = [f"pty,raw,echo=0,link={end}" for end in ends]
    process = await asyncio.create_subprocess_exec("socat", *words, stderr=subprocess.DEVNULL)
    try:
        await until(lambda: all(Path(end).exists() for end in ends))
        yield ends[0], ends[1], process.terminate
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def mbpoll(path: str, baud: int, unit: int, addr: int, *more: str) -> list[str]:
    """Let an independent master ask; return the values that it prints."""
    where = ("-m", "rtu", "-b", str(baud), "-d", "8", "-P", "none", "-s", "1", "-a", str(unit), "-0", "-r", str(addr))
    process = await asyncio.create_subprocess_exec(
        "mbpoll", *where, "-o", "1", "-t", "4", *more, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()
    return re.findall(r"^\[\d+\]:\s+(\S+)", printed.decode(), re.MULTILINE)


def test_the_checksum_is_that_of_the_standard():
    assert crc16(bytes.fromhex("110300000002")).hex() == "c69b"
    assert crc16(b"123456789") == (0x4B37).to_bytes(2, "little")


@pytest.mark.debian("socat", "mbpoll")
@pytest.mark.parametrize("baud", [9600, 115200])
async def test_units_on_one_cable_answer_us_and_an_independent_master(baud: int, tmp_path: Path):
    clock = SystemClock()
    server = RtuServer({unit: Counter(unit) for unit in (1, 2, 3)}, clock)
    async with cable(tmp_path) as (here, there, _):
        await server.start_serial(there, baud)
        for unit in (1, 2, 3):
            assert await mbpoll(here, baud, unit, 0, "-c", "4", "-1", here) == [
                str(v) for v in (10 * unit, 20 * unit, 0, unit)
            ]
        await mbpoll(here, baud, 2, 0, here, "7", "8")  # function code 16
        await mbpoll(here, baud, 2, 2, here, "5")  # 6
        assert server.units[2].done == [{"first": 7, "second": 8}, {"doses": 5}]

        bus = ModbusBus("line", here, 0, clock, link=serial_links(clock, baud=baud, settle_s=SETTLE))
        await bus.open()
        found = await asyncio.gather(*(bus.read(unit, 3, 0, 4) for unit in (1, 2, 3) for _ in range(5)))
        assert found == [[10, 20, 0, 1]] * 5 + [[7, 8, 5, 2]] * 5 + [[30, 60, 0, 3]] * 5
        await bus.write(3, 16, 0, [1, 2])
        await bus.write(3, 6, 2, [9])
        assert await bus.read(3, 3, 0, 4) == [1, 2, 9, 3]
        assert (bus.generation, bus.statistics.replies, bus.statistics.timeouts) == (1, 18, 0)
        await bus.close()
        assert await mbpoll(here, baud, 3, 0, "-c", "3", "-1", here) == ["1", "2", "9"], "the port was left usable"
        assert server.noise == 0
        await server.close()
    clock.close()


@pytest.mark.debian("socat")
async def test_a_port_that_is_pulled_out_and_put_back(tmp_path: Path):
    clock = SystemClock()
    server = RtuServer({1: Counter(1)}, clock)
    here = str(tmp_path / "here")
    bus = ModbusBus("line", here, 0, clock, timeout=TIMEOUT, link=serial_links(clock, settle_s=SETTLE))
    async with cable(tmp_path) as (_, there, pull):
        await server.start_serial(there)
        await bus.open()
        assert (await bus.read(1, 3, 0, 1)) == [10]
        pull()
        await until(lambda: bool(bus.down))
        with pytest.raises(NotSentError, match=rf"no connection to {here}: there is no such port; is the adapter"):
            await bus.read(1, 3, 0, 1)
    failures = bus.statistics.connect_failures
    await server.close()
    server = RtuServer({1: Counter(1)}, clock)
    async with cable(tmp_path) as (_, there, _pull):
        await server.start_serial(there)
        await until(lambda: bus.connected and not bus.down)
        assert (await bus.read(1, 3, 0, 1)) == [10]
        assert bus.generation >= 2
        assert bus.statistics.connect_failures < failures + 6, "tried again with a growing pause"
        await bus.close()
    await server.close()
    clock.close()


async def test_a_port_belongs_to_one_bus_and_what_is_wrong_with_it_is_said(tmp_path: Path):
    async with real("pty") as stand:
        assert await stand.first(1) == 10
        second = ModbusBus("second", *stand.where, stand.clock, link=stand.link)
        await second.open()
        with pytest.raises(NotSentError, match="the port is in use, by another program or another bus"):
            await second.read(1, 3, 0, 1)
        await second.close()
        assert await stand.first(1) == 10
        nothing = tmp_path / "file"
        nothing.touch()
        third = ModbusBus("third", str(nothing), 0, stand.clock, link=stand.link)
        await third.open()
        with pytest.raises(NotSentError, match="it is no serial port"):
            await third.read(1, 3, 0, 1)
        await third.close()


@pytest.mark.parametrize(("baud", "form"), [(9601, "8N1"), (9600, "7E1"), (9600, "8X1"), (9600, "8N3")])
def test_a_speed_or_format_that_rtu_has_not_is_refused(baud: int, form: str):
    with pytest.raises(ValueError, match=r"expected one of 1200|RTU has 8 data bits"):
        serial_links(None, baud=baud, format=form)  # type: ignore[arg-type]


@pytest.mark.parametrize(("form", "stop_bits"), [("8N1", 0), ("8N2", termios.CSTOPB), ("8E1", 0)])
async def test_speed_and_stop_bits_are_set_on_the_port(form: str, stop_bits: int):
    """A pty keeps these; parity it drops, so that needs an adapter to be seen."""
    file, other = os.openpty()
    stream = SerialStream(os.ttyname(other), 19200, form)
    await stream.open(lambda _: None, lambda: None, 1.0)
    attributes = termios.tcgetattr(file)
    stream.close()
    os.close(file)
    os.close(other)
    assert attributes[4:6] == [termios.B19200] * 2
    assert attributes[2] & (termios.CSTOPB | termios.CSIZE | termios.HUPCL) == stop_bits | termios.CS8
    assert not attributes[3] & (termios.ICANON | termios.ECHO | termios.ISIG)


FAULTS: dict[str, tuple[dict[str, Any], type[BusError], str, int]] = {
    # what is wrong with unit 1: what a read of it raises, its text, how often a write then reached the device
    "late_reply": ({"delay_s": TIMEOUT + 0.05}, NoReplyError, "no reply within 0.1 s", 1),
    "no_reply": ({"silent": True}, NoReplyError, "no reply within", 0),
    "wrong_fc": ({"wrong_function": True}, BadReplyError, "function code 4 instead of 3", 1),
    "short_reply": ({"short_reply": True}, BadReplyError, "byte count 6 instead of 8", 1),
    "cut_reply": ({"truncated": True}, NoReplyError, r"only 6 bytes of it", 1),
    "wrong_unit": ({"wrong_unit": True}, BadReplyError, "unit 2 instead of 1", 1),
    "bad_crc": ({"bad_crc": True}, BadReplyError, "checksum", 1),
    "garbage_before": ({"garbage_before": b"\xff\x00"}, BadReplyError, "unit 255 instead of 1, or noise", 1),
    "garbage_like_a_reply": ({"garbage_before": b"\x01\x03\x08"}, BadReplyError, "checksum", 1),
    "busy": ({"busy": 2}, ExceptionReplyError, "device busy", 0),
    "gateway_0A": ({"refuse": 10}, ExceptionReplyError, "gateway path unavailable", 0),
    "gateway_0B": ({"refuse": 11}, ExceptionReplyError, "the device did not answer", 0),
    "echo": ({"echo": True}, BadReplyError, "set local_echo", 1),
}
ONLY_READS = {"wrong_fc", "short_reply"}  # faults of the answers to reads: a write is answered well


@pytest.mark.parametrize("over", WIRES)
@pytest.mark.parametrize("name", FAULTS)
async def test_a_reply_that_does_not_fit_is_refused_and_the_next_request_gets_its_own(over: str, name: str):
    wrong, error, text, reached = FAULTS[name]
    async with real(over) as stand:
        assert await stand.first(1) == 10
        faults = stand.server.faults[1]
        for fault, value in wrong.items():
            setattr(faults, fault, value)
        with pytest.raises(error, match=text):
            await stand.first(1)
        stand.unit(1).state["first"] = 11
        writing = stand.bus.write(1, 6, 2, [5])
        outcome = (await asyncio.gather(writing, return_exceptions=True))[0]
        assert isinstance(outcome, error) != (name in ONLY_READS) or name == "echo", outcome
        asked = asyncio.gather(stand.first(1), stand.first(2), stand.first(3), return_exceptions=True)
        for fault, value in wrong.items():
            setattr(faults, fault, type(value)())
        assert await asked == [11, 20, 30], "the values of now, each of its own unit"
        assert stand.unit(1).done == [{"doses": 5}] * reached
        statistics = stand.bus.statistics
        if error is ExceptionReplyError:
            assert (stand.bus.generation, statistics.exceptions) == (1, 2)
        else:
            assert stand.bus.generation > 1, "instruments are checked again"
            assert statistics.mismatches + statistics.timeouts >= 1 + (name not in ONLY_READS)


@pytest.mark.parametrize("over", WIRES)
async def test_a_reply_that_comes_byte_by_byte_is_one_reply(over: str):
    async with real(over, within=1.0) as stand:
        stand.server.faults[1].byte_gap_s = 0.003
        assert await stand.first(1) == 10
        await stand.bus.write(1, 6, 2, [4])
        assert stand.unit(1).done == [{"doses": 4}]
        assert stand.bus.generation == 1


@pytest.mark.parametrize("over", WIRES)
async def test_an_adapter_that_hears_itself_is_told_of(over: str):
    async with real(over, local_echo=True) as stand:
        for number in (1, 2, 3):
            stand.server.faults[number].echo = True
        assert [await stand.first(number) for number in (1, 2, 3)] == [10, 20, 30]
        await stand.bus.write(2, 6, 2, [4])
        assert stand.unit(2).done == [{"doses": 4}]
        stand.server.faults[1].echo = False
        with pytest.raises(BadReplyError, match="does not give back what was sent"):
            await stand.first(1)
        assert await stand.first(2) == 20


async def test_without_local_echo_a_write_that_only_the_adapter_confirmed_is_not_believed_for_long():
    """The echo of a write looks like its reply; what comes after it gives the line up, and no driver gets that far."""
    async with real("pty") as stand:
        for number in (1, 2, 3):
            stand.server.faults[number].echo = True
        driver = stand.driver(1)
        with pytest.raises(Exception, match="set local_echo"):
            await driver.command("dose", {"doses": 3})
        assert stand.unit(1).done == [], "the identity is read first, and cannot be"
        assert driver.status.state is not DeviceState.ONLINE


@pytest.mark.parametrize("over", WIRES)
async def test_a_driver_works_on_a_line_and_checks_again_after_a_late_reply(over: str):
    async with real(over) as stand:
        driver = stand.driver(2)
        readings = await driver.command("set", {"first": 4, "second": 5})
        assert (readings["first"].value, readings["second"].value) == (4.0, 5.0)
        asked = stand.server.faults[2].requests
        stand.server.faults[2].delay_s = TIMEOUT + 0.05
        with pytest.raises(Exception, match="no reply within"):
            await driver.read("state")
        stand.server.faults[2].delay_s = 0.0
        assert (await driver.read("state"))["first"].value == 4.0
        assert stand.server.faults[2].requests == asked + 3, "the late one, the identity, the block"


async def test_a_line_that_is_never_silent_is_not_used():
    async with real("pty") as stand:
        assert await stand.first(1) == 10
        talking = asyncio.create_task(_talk(stand))
        await until(lambda: bool(stand.bus.down))
        with pytest.raises(NotSentError, match="the line is never silent"):
            await stand.first(1)
        talking.cancel()
        await asyncio.wait([talking])
        await until(lambda: not stand.bus.down)
        assert await stand.first(1) == 10


async def _talk(stand: Stand) -> None:
    while True:
        for peer in stand.server._ports:
            peer.say(b"\x55")
        await asyncio.sleep(SETTLE / 3)
