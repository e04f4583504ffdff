"""The virtual loop: what jumps, what stands, in which order, and what the watchdog says."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator

import pytest

from devices.clock import Clock
from simulators.virtual import GRACE_S, VirtualClock, VirtualLoop, run


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Keep more processes running than the machine has cores."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    yield
    for other in others:
        other.kill()
        other.wait()


def test_it_is_a_clock_of_the_product() -> None:
    async def main(clock: VirtualClock) -> str:
        product: Clock = clock
        before = product.now()
        await product.sleep(86_400.0)
        assert (product.now() - before).total_seconds() == 86_400.0
        assert product.utc(0.0) == before
        with product.hold("journal"), product.outside("prompt"):
            pass
        product.close()
        return product.now().isoformat()

    assert run(main) == "2026-01-06T08:00:00+00:00"


def test_three_weeks_pass_in_a_moment_and_timers_are_exact() -> None:
    async def main(clock: VirtualClock) -> list[float]:
        seen: list[float] = []
        for day in range(1, 23):
            await clock.sleep_until(day * 86_400.1)  # not representable: an addition would drift off
            seen.append(clock.monotonic())
        await clock.sleep_until(5.0)  # past: returns
        await clock.sleep(30 * 86_400.0)  # longer than the loop's own longest select
        seen.append(clock.monotonic())
        return seen

    started = time.monotonic()
    seen = run(main)
    assert seen == [*(day * 86_400.1 for day in range(1, 23)), 22 * 86_400.1 + 30 * 86_400.0]
    assert time.monotonic() - started < 1.0


def test_timers_that_were_cancelled_are_not_waited_for() -> None:
    async def main(clock: VirtualClock) -> float:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                await clock.sleep_until(1e9)
        async with asyncio.timeout(1e6):
            await clock.sleep(1.0)
        return clock.monotonic()

    assert run(main) == 6.0


# --- sockets with both ends in the process ---


@contextlib.asynccontextmanager
async def echo(clock: VirtualClock, delay: float = 0.0) -> AsyncIterator[int]:
    """Serve an echo that answers `delay` virtual seconds late."""

    handlers: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        with contextlib.closing(writer):
            while data := await reader.read(64):
                await clock.sleep(delay)
                writer.write(data)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*handlers)


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def ask(clock: VirtualClock, port: int, patience: float) -> bytes | None:
    async with connected(port) as (reader, writer):
        with clock.hold("modbus:test"):
            writer.write(b"?")
            try:
                async with asyncio.timeout(patience):
                    return await reader.read(64)
            except TimeoutError:
                return None


@pytest.mark.parametrize(("delay", "reply", "at"), [(0.0, b"?", 0.0), (0.999, b"?", 0.999), (1.001, None, 1.0)])
def test_a_reply_late_by_less_or_more_than_the_time_out(delay: float, reply: bytes | None, at: float) -> None:
    async def main(clock: VirtualClock) -> tuple[bytes | None, float]:
        async with echo(clock, delay) as port:
            return await ask(clock, port, patience=1.0), clock.monotonic()

    assert run(main) == (reply, at)


async def chatter(clock: VirtualClock) -> list[tuple[float, str, str]]:
    """Let six clients with seeded habits talk at the same moments, commit, and time out; return who did what when."""
    log: list[tuple[float, str, str]] = []

    async def client(name: str, port: int, dice: random.Random) -> None:
        async with connected(port) as (reader, writer):
            for turn in range(40):
                with clock.hold(f"modbus:{name}"):
                    writer.write(f"{name}{turn}".encode())
                    try:
                        async with asyncio.timeout(1.0):
                            text = (await reader.read(64)).decode()
                    except TimeoutError:
                        text = "late"
                log.append((clock.monotonic(), name, text))
                if turn % 5 == 0:
                    log.append((clock.monotonic(), name, await clock.offload(lambda: f"commit {len(log)}")))
                await clock.sleep(dice.choice((0.0, 1.0, 60.0)))

    async with (
        echo(clock) as quick,
        echo(clock, 0.7) as slow,
        echo(clock, 1.3) as hopeless,
        asyncio.TaskGroup() as group,
    ):
        for i, port in enumerate((quick, quick, quick, quick, slow, hopeless)):
            group.create_task(client(f"c{i}", port, random.Random(100 * clock.seed + i)))
    return log


def test_the_same_seed_gives_the_same_order_of_everything_on_a_busy_machine(busy_machine: None) -> None:
    first = run(chatter, seed=1)
    assert len(first) == 6 * 48
    assert {name for _, name, text in first if text == "late"} == {"c5"}  # the hopeless one, and nobody else
    for _ in range(4):
        assert run(chatter, seed=1) == first
    assert run(chatter, seed=2) != first


def test_without_the_grace_a_late_kernel_would_look_like_a_late_device() -> None:
    """A thread plays the loaded kernel: it hands the reply over only after a while of real time.

    On a starved machine that thread may itself miss the grace now and then; without any grace it always would.
    """

    def send(far: socket.socket) -> None:
        with contextlib.suppress(OSError):  # nobody waits any more
            far.send(b"!")

    async def main(clock: VirtualClock) -> tuple[bytes, float]:
        near, far = socket.socketpair()
        near.setblocking(False)
        with contextlib.closing(near), contextlib.closing(far):
            thread = threading.Timer(0.0005, send, (far,))
            with clock.hold("modbus:x"):
                reading = asyncio.ensure_future(asyncio.get_running_loop().sock_recv(near, 1))
                await asyncio.sleep(0)
                thread.start()
                data = await asyncio.wait_for(reading, 1.0)
            thread.join()
            return data, clock.monotonic()

    def in_time() -> bool:
        try:
            return run(main) == (b"!", 0.0)
        except TimeoutError:
            return False

    assert any(in_time() for _ in range(5))


def test_of_messages_of_one_moment_the_order_is_ours_and_not_the_kernels() -> None:
    """The kernel delivers the second reply well before the first; both belong to the same virtual moment.

    On a starved machine the first may miss its grace now and then; if nobody waited for it, it always would.
    """

    async def main(clock: VirtualClock) -> list[str]:
        loop, log, pairs = asyncio.get_running_loop(), [], [socket.socketpair() for _ in range(2)]

        async def reply(name: str, near: socket.socket) -> None:
            near.setblocking(False)
            with clock.hold(f"modbus:{name}"):
                await loop.sock_recv(near, 1)
                log.append(name)

        def kernel() -> None:
            pairs[1][1].send(b"!")
            time.sleep(0.0005)
            pairs[0][1].send(b"!")

        thread = threading.Thread(target=kernel)
        async with asyncio.TaskGroup() as group:
            group.create_task(reply("first", pairs[0][0]))
            group.create_task(reply("second", pairs[1][0]))
            loop.call_soon(thread.start)
        thread.join()
        for end in (*pairs[0], *pairs[1]):
            end.close()
        return log

    assert any(run(main) == ["first", "second"] for _ in range(5))


def test_a_device_that_is_late_costs_one_grace_for_each_moment_and_not_one_for_each_commit() -> None:
    async def main(clock: VirtualClock) -> float:
        with clock.hold("modbus:late"):
            started = time.monotonic()
            for _ in range(1000):
                await clock.offload(lambda: None)
            return time.monotonic() - started

    assert run(main) < 500 * GRACE_S


# --- holds, inbox, outside, offload ---


def test_a_hold_stops_time_until_another_thread_has_answered() -> None:
    async def main(clock: VirtualClock) -> float:
        near, far = socket.socketpair()
        near.setblocking(False)
        with contextlib.closing(near), contextlib.closing(far):
            thread = threading.Timer(0.05, far.send, (b"!",))
            with clock.hold("plant"):
                thread.start()
                async with asyncio.timeout(1.0):  # virtual: cannot fire while held
                    await asyncio.get_running_loop().sock_recv(near, 1)
            thread.join()
        return clock.monotonic()

    assert run(main) == 0.0


def test_a_hold_may_be_released_early_and_twice() -> None:
    async def main(clock: VirtualClock) -> tuple[float, int]:
        held = clock.hold("plant")
        with held:
            asyncio.get_running_loop().call_soon(held.release)
            await clock.sleep(1.0)
        held.release()
        return clock.monotonic(), clock.loop.released

    assert run(main) == (1.0, 1)


def test_offloaded_work_is_done_in_order_at_quiet_points_and_takes_no_time() -> None:
    async def main(clock: VirtualClock) -> list[str]:
        log: list[str] = []

        async def commit(name: str) -> None:
            log.append(await clock.offload(lambda: f"commit {name} at {clock.monotonic()}"))

        async def busy() -> None:
            for _ in range(50):
                await asyncio.sleep(0)
            log.append("busy is done")

        async with echo(clock) as port, asyncio.TaskGroup() as group:
            group.create_task(commit("a"))
            group.create_task(commit("b"))
            group.create_task(busy())
            log.append(str(await ask(clock, port, 1.0)))
            group.create_task(commit("c"))
        return log

    assert run(main) == ["busy is done", "b'?'", *(f"commit {name} at 0.0" for name in "abc")]


def test_offloaded_work_raises_into_its_waiter_and_may_be_given_up() -> None:
    async def main(clock: VirtualClock) -> list[str]:
        log: list[str] = []
        given_up = asyncio.ensure_future(clock.offload(lambda: log.append("never")))
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(ZeroDivisionError):
            await clock.offload(lambda: 1 / 0)
        await asyncio.to_thread(log.append, "in the loop's own thread")
        assert given_up.cancelled()
        return log

    assert run(main) == ["in the loop's own thread"]


def test_a_commit_waits_for_the_reply_of_another_process_but_not_for_itself() -> None:
    async def main(clock: VirtualClock) -> list[str]:
        log: list[str] = []
        near, far = socket.socketpair()
        near.setblocking(False)
        with contextlib.closing(near), contextlib.closing(far):
            with clock.hold("plant"):
                commit = asyncio.ensure_future(clock.offload(lambda: log.append("commit")))
                thread = threading.Timer(0.02, far.send, (b"!",))
                thread.start()
                log.append((await asyncio.get_running_loop().sock_recv(near, 1)).decode())
            await commit
            thread.join()
        with clock.hold("journal"):
            await clock.offload(lambda: log.append("another"))
        return log

    assert run(main) == ["!", "commit", "another"]


def test_what_other_threads_enter_comes_in_at_a_quiet_point_only() -> None:
    async def main(clock: VirtualClock) -> list[str]:
        log: list[str] = []
        entered = threading.Event()

        def from_outside() -> None:
            clock.enter(lambda: log.append("entered"))
            entered.set()

        thread = threading.Thread(target=from_outside)
        async with echo(clock) as port, connected(port) as (reader, writer):
            with clock.hold("modbus:x"):
                writer.write(b"!")
                thread.start()
                entered.wait()  # it is in the inbox before the reply is even sent
                log.append((await reader.read(1)).decode())
            log.append(await clock.offload(lambda: "commit"))
            await clock.sleep(1.0)
            log.append(f"{clock.monotonic()}")
        thread.join()
        return log

    assert run(main) == ["!", "commit", "entered", "1.0"]


def test_time_stands_while_a_person_thinks() -> None:
    async def main(clock: VirtualClock) -> tuple[float, str]:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        ticks: list[float] = []

        async def scan() -> None:
            while True:
                await clock.sleep(1.0)
                ticks.append(clock.monotonic())

        scanning = asyncio.ensure_future(scan())
        await clock.sleep(2.5)
        person = threading.Timer(0.05, clock.enter, (lambda: answer.set_result("yes"),))
        with clock.outside("prompt p1"):
            person.start()
            text = await answer
        person.join()
        assert ticks == [1.0, 2.0]
        await clock.sleep(1.0)
        assert ticks == [1.0, 2.0, 3.0]
        scanning.cancel()
        return clock.monotonic(), text

    assert run(main) == (3.5, "yes")


def test_an_idle_loop_waits_for_other_threads_in_real_time() -> None:
    async def main(clock: VirtualClock) -> float:
        done = asyncio.Event()
        thread = threading.Timer(0.02, clock.enter, (done.set,))
        thread.start()
        await done.wait()
        thread.join()
        return clock.monotonic()

    assert run(main) == 0.0


def test_entering_a_closed_loop_is_dropped() -> None:
    async def main(clock: VirtualClock) -> VirtualClock:
        return clock

    run(main).enter(lambda: None)


# --- the loop as a loop ---


def test_it_is_a_loop_factory_and_closes_cleanly() -> None:
    async def main() -> float:
        await asyncio.sleep(3600.0)
        assert isinstance(asyncio.get_running_loop(), VirtualLoop)
        info = await asyncio.get_running_loop().getaddrinfo("localhost", 80, family=socket.AF_INET)
        assert info[0][4] == ("127.0.0.1", 80)
        return asyncio.get_running_loop().time()

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        threads = threading.active_count()
        with asyncio.Runner(loop_factory=VirtualLoop, debug=True) as runner:
            assert runner.run(main()) == 3600.0
            assert threading.active_count() == threads
        assert runner.get_loop is not None
        with pytest.raises(RuntimeError):
            runner.get_loop()
