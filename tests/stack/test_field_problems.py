"""What goes wrong on real Modbus wires, by the rows of the table of field problems; in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from devices.clock import SystemClock
from devices.instrument import CommandRefused, DeviceOffline, DeviceState, OutcomeUnknown, Priority, ReadFailed
from devices.modbus.bus import ModbusBus
from devices.modbus.driver import ModbusDevice
from devices.modbus.gateway import rtu_tcp_links
from devices.modbus.pdu import BadReplyError, ExceptionReplyError, NoReplyError, NotSentError
from devices.modbus.rtu import crc16
from devices.modbus.statistics import ENOUGH
from devices.profile import load_profile
from simulators.memory import memory_links
from simulators.parts import simulated
from simulators.rtu import RtuServer
from simulators.server import ModbusServer
from simulators.suite import Suite
from simulators.virtual import VirtualClock, run
from tests.stack.rtu_line import PROFILE, Counter, Stand, line

CHAR_S = 10 / 9600
SETTLED_S = 1.0 + 256 * CHAR_S  # the bus's time-out, and the longest frame
FRAME_S = 8 * CHAR_S


def on_a_line(story: Callable[[Stand], Awaitable[Any]], **given: Any) -> Any:
    """Tell a story on an RTU line of 9600 baud behind a gateway, whose bus has a time-out of 1 s."""

    async def main(clock: VirtualClock) -> Any:
        async with line(clock, "tcp", 1.0, **{"baud": 9600, **given}) as stand:
            return await story(stand)

    return run(main, watchdog_s=30)


@contextlib.asynccontextmanager
async def modbus_tcp(clock: VirtualClock, **given: Any) -> AsyncIterator[tuple[ModbusServer, ModbusBus]]:
    server = ModbusServer({unit: Counter(unit) for unit in (1, 2, 3)}, clock)
    port = await server.start()
    bus = ModbusBus("tcp", "127.0.0.1", port, clock, **given)
    await bus.open()
    try:
        yield server, bus
    finally:
        await bus.close()
        await server.close()


def over_tcp(story: Callable[[VirtualClock, ModbusServer, ModbusBus], Awaitable[Any]], **given: Any) -> Any:
    """Tell a story over Modbus TCP, with a time-out of 1 s."""

    async def main(clock: VirtualClock) -> Any:
        async with modbus_tcp(clock, **given) as (server, bus):
            return await story(clock, server, bus)

    return run(main, watchdog_s=30)


def test_a_caller_that_is_cancelled_leaves_the_wire_in_order():
    """Row 1: a caller may be cancelled at any moment; the reply to its request is nobody else's."""

    async def story(stand: Stand) -> None:
        assert await stand.first(1) == 10
        for at in (0.0, 0.001, 0.3, 0.6):
            stand.server.faults[1].delay_s = 0.5
            left = asyncio.create_task(stand.first(1))
            await stand.clock.sleep(at)
            left.cancel()
            stand.server.faults[1].delay_s = 0.0
            found = await asyncio.gather(stand.first(2), stand.first(3), stand.first(1), return_exceptions=True)
            assert found == [20, 30, 10], at
        assert stand.bus.statistics.timeouts == stand.bus.statistics.mismatches == 0

    on_a_line(story)


def test_a_late_reply_is_never_the_answer_to_the_next_question():
    """Row 2: after a time-out the line is silent for longer than any unit takes, and instruments are checked again."""

    async def story(stand: Stand) -> list[float]:
        driver = stand.driver(1)
        await driver.read("state")
        generation, began = stand.bus.generation, stand.clock.monotonic()
        stand.server.faults[1].delay_s = 1.9
        reading = asyncio.create_task(stand.first(1))
        await stand.clock.sleep(0.5)
        others = asyncio.gather(stand.first(2), stand.first(3))
        with pytest.raises(NoReplyError, match="no reply within 1 s"):
            await reading
        times = [stand.clock.monotonic() - began]
        stand.server.faults[1].delay_s = 0.0
        assert await others == [20, 30], "not what unit 1 said meanwhile"
        times.append(stand.clock.monotonic() - began)
        assert stand.bus.generation == generation + 1
        asked = stand.server.faults[1].requests
        await driver.read("state")
        assert stand.server.faults[1].requests == asked + 2, "identity, block"
        return times

    timed_out, answered = on_a_line(story)
    assert timed_out == pytest.approx(1.0 + 3.5 * CHAR_S + FRAME_S + 13 * CHAR_S)
    assert answered >= 1.9 + SETTLED_S, "silent for so long after the late reply"
    assert answered < 2.0 + SETTLED_S + 0.1


def test_a_part_of_an_atomic_block_is_refused_and_the_driver_never_asks_for_one():
    """Row 10: the ten registers of a value are read at once; the maker forbids reading a part of them."""

    async def main(clock: VirtualClock) -> None:
        profile = load_profile("hamilton-ph-arc")
        suite = Suite({"line": {1: simulated(profile)}}, clock)
        bus = ModbusBus("line", "", 0, clock, timeout=1.0, link=memory_links(suite, clock)["line"])
        await bus.open()
        try:
            assert len(await bus.read(1, 3, 2089, 10)) == 10
            for addr, count in ((2089, 2), (2091, 2), (2089, 11), (2088, 11), (2098, 1)):
                with pytest.raises(ExceptionReplyError) as refused:
                    await bus.read(1, 3, addr, count)
                assert refused.value.code == 2, (addr, count)
            assert (await ModbusDevice("probe", profile, bus, 1, clock).read_all())["ph"].value == pytest.approx(7.2)
        finally:
            await bus.close()
            await suite.close()

    run(main, watchdog_s=30)


@pytest.mark.parametrize("late", [0.8, 1.2, 1.7, 2.1])
def test_late_replies_in_a_row_never_put_the_line_out_of_step(late: float):
    """Row 2: the fault that lasts for ever elsewhere: each unit has a value of its own, and no other is ever read."""

    async def story(stand: Stand) -> None:
        for number in (1, 2, 3):
            stand.server.faults[number].delay_s = late
        for _ in range(20):
            found = await asyncio.gather(*(stand.first(n) for n in (1, 2, 3)), return_exceptions=True)
            for number, value in zip((1, 2, 3), found, strict=True):
                assert value == 10 * number or isinstance(value, NoReplyError), value
        for number in (1, 2, 3):
            stand.server.faults[number].delay_s = 0.0
        assert await asyncio.gather(*(stand.first(n) for n in (1, 2, 3))) == [10, 20, 30]

    on_a_line(story)


def test_a_reply_with_another_function_code_is_refused():
    """Row 3: the function code of a reply is that of its request."""

    async def story(stand: Stand) -> None:
        stand.server.faults[1].wrong_function = True
        with pytest.raises(BadReplyError, match="function code 4 instead of 3"):
            await stand.first(1)
        assert await stand.first(2) == 20

    on_a_line(story)


def test_a_reply_with_fewer_registers_is_refused():
    """Row 4: a reply has exactly the registers that were asked for."""

    async def story(stand: Stand) -> None:
        stand.server.faults[1].short_reply = True
        with pytest.raises(BadReplyError, match="byte count 6 instead of 8"):
            await stand.first(1)
        assert await stand.first(2) == 20

    on_a_line(story)


@pytest.mark.parametrize("wrong", [{"delay_s": 1.5}, {"bad_crc": True}, {"truncated": True}, {"wrong_unit": True}])
def test_a_write_reaches_the_device_once_whatever_becomes_of_its_reply(wrong: dict[str, Any]):
    """Row 5: a write is never sent again; what became of it is read back."""

    async def story(stand: Stand) -> None:
        driver = stand.driver(1)
        await driver.read("state")

        def spoil(command: str, args: Any) -> None:
            for name, value in wrong.items():
                setattr(stand.server.faults[1], name, value)

        async def mend() -> None:
            await stand.clock.sleep(0.5)
            for name, value in wrong.items():
                setattr(stand.server.faults[1], name, type(value)())

        stand.unit(1).heard.append(spoil)
        mending = asyncio.create_task(mend())
        readings = await driver.command("dose", {"doses": 7})
        assert readings["doses"].value == 7.0
        await mending
        await stand.clock.sleep(60.0)
        assert stand.unit(1).done == [{"doses": 7}]

    on_a_line(story)


def test_a_gateway_that_confuses_its_numbers_is_left_and_rtu_over_tcp_needs_none():
    """Row 6: another transaction's reply ends the connection; RTU over TCP has no numbers to confuse."""

    async def story(clock: VirtualClock, server: ModbusServer, bus: ModbusBus) -> None:
        server.faults[1].wrong_transaction = True
        with pytest.raises(BadReplyError, match="another transaction"):
            await bus.read(1, 3, 0, 4)
        assert bus.generation == 2
        assert (await bus.read(2, 3, 0, 1)) == [20]

    async def without(stand: Stand) -> None:
        stand.server.faults[1].wrong_transaction = True
        assert await stand.first(1) == 10

    over_tcp(story)
    on_a_line(without)


@pytest.mark.parametrize("code", [10, 11])
def test_a_gateway_that_cannot_reach_one_unit_says_nothing_of_the_others(code: int):
    """Row 7: exceptions 0x0A and 0x0B mean that the unit is absent and the wire is well."""

    async def story(stand: Stand) -> None:
        stand.server.faults[1].refuse = code
        driver = stand.driver(1)
        with pytest.raises(DeviceOffline, match="gateway"):
            await driver.read("state")
        assert driver.status.state is DeviceState.OFFLINE
        assert await stand.first(2) == 20
        assert (stand.bus.generation, stand.bus.down) == (1, "")

    on_a_line(story)


def test_a_busy_unit_gives_no_value_and_is_counted():
    """Row 8: busy (exception 6) is an exception and a count, never a value."""

    async def story(stand: Stand) -> None:
        stand.server.faults[1].busy = 3
        for _ in range(3):
            with pytest.raises(ExceptionReplyError, match="device busy"):
                await stand.first(1)
        assert await stand.first(1) == 10
        assert stand.bus.statistics.exceptions == 3

    on_a_line(story)


def test_a_busy_unit_is_asked_again_for_a_read_and_never_for_a_write():
    """Row 8: a driver asks again twice, 150 ms apart, then says so; a write that was turned away is refused at once."""

    async def story(stand: Stand) -> None:
        driver, faults = stand.driver(1), stand.server.faults[1]
        await driver.read("state")
        asked, began = faults.requests, stand.clock.monotonic()
        faults.busy = 2
        assert (await driver.read("state"))["first"].value == 10.0
        assert faults.requests - asked == 3
        assert 0.3 <= stand.clock.monotonic() - began < 0.5
        assert (driver.busy, driver.status.state) == (2, DeviceState.ONLINE)

        asked, faults.busy = faults.requests, 100
        with pytest.raises(ReadFailed, match="device busy"):
            await driver.read("state")
        assert faults.requests - asked == 3
        faults.busy = 0

        real = stand.bus.write

        async def turned_away(*args: Any, **given: Any) -> None:
            faults.busy = 1
            await real(*args, **given)

        stand.bus.write = turned_away
        asked = faults.requests
        with pytest.raises(CommandRefused, match="device busy"):
            await driver.command("dose", {"doses": 7})
        assert faults.requests - asked == 2, "a look whether it stands already, and one write"
        assert stand.unit(1).done == []

    on_a_line(story)


@pytest.mark.skipif(sys.platform != "linux", reason="the options are Linux's")
@pytest.mark.parametrize("maker", [None, "rtu over tcp"])
async def test_the_system_watches_over_a_connection(maker: str | None, monkeypatch: pytest.MonkeyPatch):
    """Row 11: keep-alive from 10 s on and TCP_USER_TIMEOUT of 15 s stand on the socket of each connection."""
    seen: list[socket.socket] = []
    connect = asyncio.get_running_loop().sock_connect

    async def connected(sock: socket.socket, address: Any) -> None:
        seen.append(sock)
        await connect(sock, address)

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", connected)
    clock = SystemClock()
    server = (RtuServer if maker else ModbusServer)({1: Counter(1)}, clock)
    port = await server.start()
    link = {"link": rtu_tcp_links(clock, settle_s=0.0)} if maker else {}
    bus = ModbusBus("watched", "127.0.0.1", port, clock, **link)
    await bus.open()
    try:
        assert await bus.read(1, 3, 0, 1) == [10]
        (sock,) = seen
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000
    finally:
        await bus.close()
        await server.close()
        clock.close()


def test_a_half_open_connection_is_left_at_the_time_out():
    """Row 11: a connection that stands and answers nothing costs one time-out, and then there is a new one."""

    async def story(clock: VirtualClock, server: ModbusServer, bus: ModbusBus) -> None:
        assert (await bus.read(1, 3, 0, 1)) == [10]
        server.half_open = True
        with pytest.raises(NoReplyError, match="no reply within 1 s"):
            await bus.read(1, 3, 0, 1)
        server.half_open = False
        assert (await bus.read(1, 3, 0, 1)) == [10]
        assert bus.statistics.connects == 2

    async def on_rtu(stand: Stand) -> None:
        stand.server.half_open = True
        with pytest.raises(NoReplyError, match="no reply within 1 s"):
            await stand.first(1)
        stand.server.half_open = False
        assert await stand.first(1) == 10

    over_tcp(story)
    on_a_line(on_rtu)


@pytest.mark.parametrize("over", ["tcp", "memory", "rtu over tcp"])
def test_a_connection_closed_for_idleness_is_made_again_without_alarm(over: str):
    """Row 12: a clean end after 60 s without a question, and a good reconnect, is nobody's trouble."""

    async def main(clock: VirtualClock) -> tuple[int, int, str, int]:
        async with contextlib.AsyncExitStack() as stack:
            if over == "rtu over tcp":
                stand = await stack.enter_async_context(line(clock, "tcp", 1.0))
                server, bus = stand.server, stand.bus
            else:
                server, bus = await stack.enter_async_context(modbus_tcp(clock))
            if over == "memory":
                suite = Suite({"tcp": server.units}, clock)
                server = suite.servers["tcp"]
                bus = ModbusBus("tcp", "127.0.0.1", 1, clock, link=memory_links(suite, clock)["tcp"])
                await bus.open()
                stack.push_async_callback(bus.close)
            server.idle_close_s = 60.0
            device = ModbusDevice("counter", PROFILE, bus, 1, clock)
            await device.read("state")
            # the last ones end just after the next, and the one after that, has been closed unasked as well
            for pause in (59.0, 59.0, 61.0, 200.0, 120.2, 240.2, 600.2, 3600.2):
                await clock.sleep(pause)
                assert (await device.read("state"))["first"].value == 10.0
                assert device.status.state is DeviceState.ONLINE
            return bus.statistics.losses, bus.statistics.timeouts, bus.down, bus.statistics.connect_failures

    losses, *others = run(main, watchdog_s=30)
    assert others == [0, "", 0]
    assert losses >= 2


def test_a_device_for_one_client_is_asked_by_one_connection():
    """Row 13: one connection for each address in this process; where somebody else has it, that is said."""

    async def story(clock: VirtualClock, server: ModbusServer, bus: ModbusBus) -> None:
        assert (await bus.read(1, 3, 0, 1)) == [10]
        port = server._door._address
        assert port is not None
        for link in ({}, {"link": rtu_tcp_links(clock)}):
            second = ModbusBus("second", *port, clock, **link)
            await second.open()
            with pytest.raises(NotSentError, match="another bus of this process is connected there"):
                await second.read(1, 3, 0, 1)
            await second.close()
        assert len(server.clients) == 1

        server.most_clients = 1
        foreign = await asyncio.open_connection(*port)
        assert await foreign[0].read() == b"", "the second client is refused"
        foreign[1].close()
        assert (await bus.read(1, 3, 0, 1)) == [10]

        server.cut()
        reader, writer = await asyncio.open_connection(*port)  # somebody else is quicker
        await clock.sleep(5.0)
        if not bus.connected:
            with pytest.raises(NotSentError, match=r"hangs up without an answer|reset"):
                await bus.read(1, 3, 0, 1)
        writer.close()
        await clock.sleep(40.0)
        assert (await bus.read(1, 3, 0, 1)) == [10]
        del reader

    over_tcp(story)


def test_a_peer_is_left_alone_after_a_connect_and_never_stormed():
    """Row 14: a pause after each connect; between attempts 0.5 s to 30 s."""

    async def story(clock: VirtualClock, server: ModbusServer, bus: ModbusBus) -> None:
        began = clock.monotonic()
        assert (await bus.read(1, 3, 0, 1)) == [10]
        assert clock.monotonic() - began == pytest.approx(0.2)
        server.refuses = True
        server.cut()
        await clock.sleep(600.0)
        assert 600 / 36 < bus.statistics.connect_failures < 600 / 24 + 8

    over_tcp(story, pause_after_connect=0.2)


def test_a_dead_unit_leaves_its_neighbours_their_time():
    """Row 15: a unit that is gone is probed now and then; the others keep being served, and commands to it fail."""

    async def story(stand: Stand) -> None:
        dead, alive = stand.driver(1), stand.driver(2)
        await asyncio.gather(dead.read("state"), alive.read("state"))
        stand.server.faults[1].silent = True
        good, taken = 0, 0.0
        for _ in range(300):
            began = stand.clock.monotonic()
            results = await asyncio.gather(dead.read("state"), alive.read("state"), return_exceptions=True)
            good += isinstance(results[1], dict)
            taken += stand.clock.monotonic() - began
            await stand.clock.sleep(1.0)
        assert good > 290
        assert taken < 100, "not a time-out each second"
        assert dead.status.state is DeviceState.OFFLINE
        began = stand.clock.monotonic()
        with pytest.raises(DeviceOffline):
            await dead.command("dose", {"doses": 1})
        assert stand.clock.monotonic() == began

    on_a_line(story)


def test_all_units_of_a_wire_share_one_queue_in_order_of_priority():
    """Row 16: one request at a time on the wire, the most urgent first, whatever its unit."""

    async def story(stand: Stand) -> list[tuple[int, str]]:
        await stand.first(1)
        order: list[tuple[int, str]] = []

        async def ask(unit: int, priority: Priority, word: str) -> None:
            await stand.bus.read(unit, 3, 0, 4, priority=priority)
            order.append((unit, word))

        stand.server.faults[1].delay_s = 0.3
        first = asyncio.create_task(ask(1, Priority.DATA, "first"))
        await stand.clock.sleep(0.1)
        await asyncio.gather(
            first,
            ask(1, Priority.DATA, "data"),
            ask(2, Priority.DATA, "data"),
            ask(2, Priority.COMMAND, "command"),
            ask(3, Priority.STOP, "stop"),
        )
        return order

    assert on_a_line(story) == [(1, "first"), (3, "stop"), (2, "command"), (1, "data"), (2, "data")]


def test_frames_are_kept_apart_and_units_that_need_it_are_given_a_pause():
    """Row 17: 3.5 characters or the turnaround between frames; a unit's own gap holds back that unit alone."""

    async def story(stand: Stand) -> tuple[float, list[float]]:
        await stand.first(1)
        began = stand.clock.monotonic()
        for _ in range(10):
            await stand.first(2)
        apart = (stand.clock.monotonic() - began) / 10
        stand.bus.pace(1, 0.5)
        times: list[float] = []

        async def paced() -> None:
            for _ in range(3):
                await stand.first(1)
                times.append(stand.clock.monotonic() - began)

        async def others() -> int:
            number = 0
            while len(times) < 3:
                await stand.first(2)
                number += 1
            return number

        _, served = await asyncio.gather(paced(), others())
        assert served > 10, "the others are served meanwhile"
        return apart, times

    apart, times = on_a_line(story)
    assert apart == pytest.approx(3.5 * CHAR_S)
    assert [b - a for a, b in itertools.pairwise(times)] == pytest.approx([0.5, 0.5], abs=0.01)
    assert on_a_line(story, baud=115200)[0] == pytest.approx(0.00175)
    assert on_a_line(story, turnaround=0.1)[0] == pytest.approx(0.1)


@pytest.mark.parametrize("gap", [0.1, 0.5])
def test_a_paced_unit_in_memory_is_asked_at_its_pace(gap: float):
    """Row 17: the same gap where a wire answers at once, as in a rehearsal."""

    async def main(clock: VirtualClock) -> float:
        suite = Suite({"tcp": {1: Counter(1)}}, clock)
        bus = ModbusBus("tcp", "", 0, clock, link=memory_links(suite, clock)["tcp"])
        bus.pace(1, gap)
        await bus.open()
        began = clock.monotonic()
        for _ in range(11):
            await bus.read(1, 3, 0, 4)
        took = clock.monotonic() - began
        await clock.sleep(gap)
        began = clock.monotonic()
        await bus.read(1, 3, 0, 4)
        assert clock.monotonic() == began, "rested enough: at once"
        await bus.read(1, 3, 0, 4)
        assert clock.monotonic() - began == pytest.approx(gap)
        await bus.close()
        return took

    assert run(main, watchdog_s=30) == pytest.approx(10 * gap)


def test_the_time_out_of_a_unit_follows_what_was_measured_of_it():
    """Row 18: twice the 99th percentile of enough replies, from 1 s to 10 s, and never under the site's."""

    async def story(stand: Stand) -> None:
        bus = stand.bus
        for number, delay in ((1, 0.1), (2, 0.8)):
            stand.server.faults[number].delay_s = delay
        for number in (1, 2):
            for _ in range(ENOUGH - 1):
                await stand.first(number)
            assert bus.timeout_of(number) == 1.0, "too few to say"
            await stand.first(number)
        assert bus.timeout_of(1) == 1.0
        assert bus.timeout_of(2) == pytest.approx(1.6, abs=0.1)
        stand.server.faults[2].delay_s = 1.4
        assert await stand.first(2) == 20, "slower than the site thought, and still heard"
        assert bus.latencies[2].buckets == [0, 0, 0, 0, 0, 0, 100, 1]
        assert bus.latencies[1].count == 100
        assert bus.timeout_of(3) == 1.0
        stand.server.faults[2].silent = True
        began = stand.clock.monotonic()
        with pytest.raises(NoReplyError, match=r"no reply within 1\.6"):
            await stand.first(2)
        assert await stand.first(1) == 10
        assert stand.clock.monotonic() - began > 1.6 + 1.6, "and the line is left in silence for as long"

    on_a_line(story)


def test_what_nobody_asked_for_gives_the_line_up_before_the_next_question():
    """Row 2: bytes between two exchanges are a late reply, noise or another master; the next reply is its own."""

    async def story(stand: Stand) -> None:
        driver = stand.driver(1)
        await driver.read("state")
        old = await stand.bus.read(2, 3, 20, 10)
        stand.server.say(_frame(1, bytes((3, 8, 0, 99, 0, 99, 0, 99, 0, 99))), 0.2, 0.0)
        await stand.clock.sleep(0.5)
        assert stand.bus.generation == 2
        asked = stand.server.faults[1].requests
        assert (await driver.read("state"))["first"].value == 10.0
        assert stand.server.faults[1].requests == asked + 2, "the identity first"
        assert await stand.bus.read(2, 3, 20, 10) == old

    on_a_line(story)


def test_a_second_reply_spoils_the_first():
    """Row 2: two replies to one question, in one piece or two: neither is believed."""

    async def story(stand: Stand) -> None:
        sent = stand.server.say

        def twice(frame: bytes, delay: float, byte_gap: float) -> None:
            sent(frame, delay, byte_gap)
            sent(frame, delay, byte_gap)

        stand.server.say = twice  # type: ignore[method-assign]
        with pytest.raises(BadReplyError, match="after the reply"):
            await stand.first(1)
        stand.server.say = sent  # type: ignore[method-assign]
        assert await stand.first(2) == 20

    on_a_line(story)


def _frame(unit: int, pdu: bytes) -> bytes:
    body = bytes((unit,)) + pdu
    return body + crc16(body)


def test_a_line_full_of_garbage_is_given_up_within_the_time_out():
    """Row 19: noise is no reply; it costs at most one time-out, and never a loop without end."""

    async def story(stand: Stand) -> None:
        assert await stand.first(1) == 10
        stand.server.faults[1].garbage_before = bytes(range(200, 256)) * 40
        began = stand.clock.monotonic()
        with pytest.raises(BadReplyError, match="noise"):
            await stand.first(1)
        assert stand.clock.monotonic() - began < 1.0
        stand.server.faults[1].garbage_before = b""
        assert await stand.first(1) == 10

    on_a_line(story)


@pytest.mark.parametrize("unit", [0, -1, 256])
def test_nobody_is_asked_for_everybody(unit: int):
    """Row 27: unit 0 speaks to all units and none answers; it is refused before it is sent."""

    async def story(stand: Stand) -> None:
        with pytest.raises(ValueError, match="no request of the protocol"):
            await stand.bus.read(unit, 3, 0, 1)
        with pytest.raises(ValueError, match="no request of the protocol"):
            await stand.bus.write(unit, 6, 0, [1])
        assert await stand.first(1) == 10
        assert stand.bus.statistics.requests == 1
        assert [device.done for device in map(stand.unit, (1, 2, 3))] == [[], [], []]

    on_a_line(story)


def test_a_wire_that_is_down_is_counted_and_not_logged(caplog: pytest.LogCaptureFixture):
    """Row 28: failures are counters; no line of log for each of them."""

    async def story(stand: Stand) -> None:
        driver = stand.driver(1)
        await driver.read("state")
        stand.server.faults[1].bad_crc = True
        for _ in range(200):
            with contextlib.suppress(ReadFailed, DeviceOffline, OutcomeUnknown):
                await driver.read("state")
            await stand.clock.sleep(1.0)
        stand.server.refuses = True
        stand.server.cut()
        await stand.clock.sleep(600.0)
        statistics = stand.bus.statistics
        assert statistics.mismatches > 3
        assert statistics.connect_failures > 10

    with caplog.at_level(logging.DEBUG):
        on_a_line(story)
    assert [record for record in caplog.records if record.name != "asyncio"] == []
