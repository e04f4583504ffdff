"""A Modbus bus: one connection or serial line, one task that owns it, one queue in order of priority.

Whoever asks waits on a future and may be cancelled freely; only the owner touches the wire, but for a wire that
answers at once (in memory) while the owner rests. While the bus is down every request fails at once, and the owner
goes on trying, 0.5 s to 30 s apart; a stop is not refused but makes it try now.

Of requests of the same priority those to units that kept silent last go last: a unit that hangs costs its time-out
each time it is asked, and its neighbours' stops must not wait for that. A unit that needs a pause between requests
(`pace`) is passed over until then, and the others are served.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial

from devices.clock import Clock
from devices.instrument import Priority
from devices.modbus.link import Link
from devices.modbus.pdu import (
    Ask,
    BadReplyError,
    BusError,
    ExceptionReplyError,
    GaveWayError,
    NoReplyError,
    NotSentError,
)  # fmt: skip
from devices.modbus.requests import Pace, Request, reject
from devices.modbus.statistics import LATENCY_BOUNDS_S, BusStatistics, UnitLatency
from devices.modbus.wire import LinkMaker, Wire

BACKOFF_MIN_S = 0.5
BACKOFF_MAX_S = 30.0
UNASKED_S = 2.0  # that a connection has to stand unasked for its end to be that of an idle one, and nobody's trouble
QUEUE_LIMIT = 64
MOST = {1: 2000, 2: 2000, 3: 125, 4: 125, 5: 1, 6: 1, 15: 1968, 16: 123}
"""Function code -> most registers (coils) in one request, by the protocol."""
TIMEOUT_MIN_S = 1.0
TIMEOUT_MAX_S = 10.0
"""Bounds of the time-out that is made of measured latency; a longer one of the site file stands."""


class ReconnectedError(NotSentError):
    """Not sent: the connection is no longer the one on which the instrument was checked."""


class ModbusBus:
    """One host and port, or one serial port, with one or several units behind it."""

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        clock: Clock,
        timeout: float = 1.0,
        link: LinkMaker = Link,
        *,
        pause_after_connect: float = 0.0,
        in_memory: bool = False,
    ) -> None:
        """Describe the bus; `timeout` (s) bounds a connect and each reply (must exceed a gateway's own).

        `link` makes its connections: Modbus TCP, unless told otherwise; for a serial port, `host` is its path and
        `port` 0. `pause_after_connect` (s) lets a peer come to itself before the first request. `in_memory`: nothing
        comes over a socket, so that virtual time need not stand while a reply is awaited.
        """
        self.name = name
        self.timeout = timeout
        self.pause_after_connect = pause_after_connect
        self.statistics = BusStatistics()
        self.latencies: dict[int, UnitLatency] = {}
        """Unit -> how long its replies took; what a wire in memory answers at once takes no time and is not counted."""
        self._host, self._port = host, port
        self._clock = clock
        self._jitter = random.Random(name)
        self._queue: list[Request] = []
        self._where = f"{host}:{port}" if port else host
        self._paces: dict[int, Pace] = {}
        self._silent: set[int] = set()  # units whose last request brought nothing
        self._number = 0
        self._generation = 1
        self._stands = False  # a connection stands, and nobody has said that it is lost
        self._down = "the bus is not open"
        self._wake: asyncio.Future[None] | None = None
        self._pause: asyncio.Future[None] | None = None
        self._owner: asyncio.Task[None] | None = None
        self._make_link = link
        self._hold = None if in_memory else f"modbus:{name}"
        self._link: Wire | None = None

    @property
    def generation(self) -> int:
        """Number of the present connection, or of the next one as soon as this one is lost.

        A new number means that the instruments must be checked again.
        """
        return self._generation

    @property
    def connected(self) -> bool:
        """Whether the connection stands, as far as this side knows."""
        return self._link is not None and self._link.connected

    @property
    def down(self) -> str:
        """Why the bus is down; "" while it works or is being connected for the first time."""
        return self._down

    @property
    def depth(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    def pace(self, unit: int, gap_s: float) -> None:
        """Leave `unit` alone for at least `gap_s` after each of its requests; 0 ends that. Stops wait for it too."""
        if gap_s > 0:
            self._paces[unit] = Pace(gap_s)
        else:
            self._paces.pop(unit, None)

    def timeout_of(self, unit: int) -> float:
        """Return the time-out (s) of a unit: the bus's, until enough of its replies were measured.

        Then twice the latency that 99 % of them stayed under, within TIMEOUT_MIN_S and TIMEOUT_MAX_S, and never
        less than the bus's.
        """
        latency = self.latencies.get(unit)
        if latency is None or latency.p99 is None:
            return self.timeout
        return max(self.timeout, TIMEOUT_MIN_S, min(2 * latency.p99, TIMEOUT_MAX_S))

    async def open(self) -> None:
        """Start the owner task; an absent device is no error here, the bus goes on trying."""
        if self._owner is None:
            self._down = ""
            self._owner = asyncio.create_task(self._own(), name=f"modbus:{self.name}")

    async def close(self) -> None:
        """End the owner task and the connection; every request that waits fails."""
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.cancel()
            await asyncio.wait([owner])
            await self._clock.sleep(0)  # the transport closes its socket in the next round of the loop
            if not owner.cancelled():
                owner.result()  # raises what ended the task

    async def read(
        self,
        unit: int,
        fc: int,
        addr: int,
        count: int,
        *,
        priority: Priority = Priority.DATA,
        generation: int | None = None,
    ) -> list[int]:
        """Read `count` registers (or coils, as 0 and 1).

        Raises ReconnectedError as `write` does; NotSentError, NoReplyError, BadReplyError or ExceptionReplyError.
        """
        ask = Ask(unit, fc, addr, count)
        registers = self._at_once(ask, generation)
        return await self._submit(ask, priority, generation) if registers is None else registers

    async def write(
        self,
        unit: int,
        fc: int,
        addr: int,
        words: Sequence[int],
        *,
        priority: Priority = Priority.COMMAND,
        generation: int | None = None,
        in_force: Callable[[], bool] | None = None,
    ) -> None:
        """Write registers (or coils), once, unless `in_force` says by then that it gave way to a stop (GaveWayError).

        Raises ReconnectedError (not sent) when `generation` is given and the connection is another by now;
        NotSentError; NoReplyError or BadReplyError (the effect is unknown); ExceptionReplyError.
        """
        ask = Ask(unit, fc, addr, len(words), tuple(words))
        if self._at_once(ask, generation) is None:
            await self._submit(ask, priority, generation, in_force)

    def _at_once(self, ask: Ask, generation: int | None) -> list[int] | None:
        """Serve a request here and now where the wire can and nobody else waits or is being served; else None."""
        if self._link is None or self._queue or self._wake is None or self._wake.done():
            return None
        if generation not in (None, self._generation):
            raise ReconnectedError(f"bus {self.name} has reconnected")
        pace = self._paces.get(ask.unit) if self._paces else None
        if pace is not None:
            now = self._clock.monotonic()
            if pace.until > now:
                return None
            pace.until = now + pace.gap_s
        try:
            registers = self._link.at_once(ask)
        except ExceptionReplyError:
            self.statistics.requests += 1
            self.statistics.exceptions += 1
            raise
        if registers is not None:
            self.statistics.requests += 1
            self.statistics.replies += 1
            self.statistics.latency[0] += 1
        return registers

    def _submit(
        self, ask: Ask, priority: Priority, generation: int | None, in_force: Callable[[], bool] | None = None
    ) -> asyncio.Future[list[int]]:
        if self._down and (priority is not Priority.STOP or self._owner is None):
            raise NotSentError(self._down)
        known = 1 <= ask.count <= MOST.get(ask.fc, 0) and 0 <= ask.addr <= 0x10000 - ask.count
        known = known and (not ask.words or (min(ask.words) >= 0 and max(ask.words) <= 0xFFFF))
        if not known or not 1 <= ask.unit <= 255:  # unit 0 is all, and nobody answers
            raise ValueError(f"bus {self.name}: {ask} is no request of the protocol")
        if priority is Priority.STOP and ask.words:
            self._overtake(ask)
        if len(self._queue) >= QUEUE_LIMIT:
            self._make_room(priority)
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._number += 1
        self._queue.append(Request(priority, self._number, ask, generation, future, in_force))
        self._rouse()
        if self._pause is not None and not self._pause.done():
            self._pause.set_result(None)  # a stop while the bus is down: try to connect now
        return future

    def _overtake(self, stop: Ask) -> None:
        """Invariant: what waits to be written where a stop writes is not written after it."""
        for request in list(self._queue):
            there = request.ask
            near = there.addr < stop.addr + stop.count and stop.addr < there.addr + there.count
            if (
                request.priority > Priority.STOP
                and there.words
                and (there.unit, there.fc) == (stop.unit, stop.fc)
                and near
            ):
                self._queue.remove(request)
                reject(request, GaveWayError(f"bus {self.name}: gave way to a stop at the same place"))

    def _make_room(self, priority: Priority) -> None:
        """Refuse the newest of the least urgent requests, or this one; a stop always finds room before data."""
        self.statistics.refused += 1
        last = max(self._queue, key=lambda request: (request.priority, request.number))
        if last.priority <= priority:
            raise NotSentError(f"bus {self.name}: {len(self._queue)} requests wait already")
        self._queue.remove(last)
        reject(last, NotSentError(f"bus {self.name}: gave way to a more urgent request"))

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _own(self) -> None:
        """Own the connection until cancelled: connect, then serve the queue."""
        pause = BACKOFF_MIN_S
        try:
            while True:
                if await self._connect() and await self._serve():
                    pause = BACKOFF_MIN_S
                    continue
                self._reject_all()
                await self._rest(pause * self._jitter.uniform(0.8, 1.2))
                pause = min(2 * pause, BACKOFF_MAX_S)
        finally:
            self._down = f"bus {self.name} is closed"
            self._reject_all()
            if self._link is not None:
                self._link.drop()

    async def _rest(self, seconds: float) -> None:
        """Leave the peer alone for a while, or until a stop comes."""
        self._pause = asyncio.get_running_loop().create_future()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._pause
        self._pause = None

    async def _connect(self) -> bool:
        """Try once to connect; tells whether it worked."""
        link = self._link = self._make_link(self._host, self._port, lambda: self._left(link))
        patience = max(map(self.timeout_of, self.latencies), default=self.timeout)  # that of the slowest unit
        try:
            with self._awaiting():
                await link.connect(patience)
            await link.settle(patience)  # outside the hold: a hold stops virtual time
            if self.pause_after_connect > 0:
                await self._clock.sleep(self.pause_after_connect)
        except TimeoutError:
            reason = f"no answer within {patience:g} s"
        except UnicodeError as error:
            reason = f"it is no name of a host: {error}"
        except OSError as error:
            code = error.errno or 0  # where it is known, asyncio's own text only adds the address once more
            reason = os.strerror(code) if code > 0 else error.strerror or str(error)
        else:
            self.statistics.connects += 1
            self._down = ""
            return True
        link.drop()
        self.statistics.connect_failures += 1
        self._down = f"bus {self.name}: no connection to {self._where}: {reason}"
        return False

    async def _serve(self) -> bool:
        """Serve requests while the connection stands; tells whether to connect again at once.

        That is so after a good reply, after a connection that we dropped ourselves (the time-out was pause enough), and
        after one that stood for a while and ended because nothing was asked on it, as gateways end them; a peer that
        accepts and hangs up without an answer is left alone for a while.
        """
        link, good, gave_way, idle, began = self._link, False, False, True, self._clock.monotonic()
        self._stands = True
        while link is not None and link.connected:
            if not self._queue:
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake
                continue
            due = self._due()
            if not due:
                await self._await_pace()
                continue
            request = due[0] if len(due) == 1 else min(due, key=self._rank)
            if request.ask.unit in self._silent and not gave_way:
                gave_way = True
                await asyncio.sleep(0)  # whoever was answered just now reads back before this one costs its time-out
                continue
            gave_way = False
            self._queue.remove(request)
            idle = False
            if request.future.done():
                continue  # the caller has gone: never sent
            if request.generation not in (None, self._generation):
                reject(request, ReconnectedError(f"bus {self.name} has reconnected"))
            elif request.in_force is not None and not request.in_force():
                # Invariant: what waited while its instrument was made safe, anywhere in it, is not written after that.
                reject(request, GaveWayError(f"bus {self.name}: gave way to a stop"))
            elif await self._exchange(link, request):
                good = True
        self._next_generation()  # before anyone who was told of the loss can ask again
        soon = idle and self._clock.monotonic() - began < UNASKED_S
        if link is None or not link.lost:
            if soon:
                self._down = f"bus {self.name}: {self._where} speaks without being asked: is this the right port?"
            return not soon
        self.statistics.losses += 1
        good = good or (idle and not soon)
        if not good:
            self._down = f"bus {self.name}: {self._where} hangs up without an answer"
        return good

    def _left(self, link: Wire) -> None:
        """Take note that a peer has gone; of a connection that was given up before it changes nothing."""
        if link is self._link:
            self._next_generation()
        self._rouse()

    def _next_generation(self) -> None:
        """Invariant: what is asked from the moment of the loss on is asked of an instrument that is checked anew."""
        if self._stands:
            self._stands = False
            self._generation += 1

    def _due(self) -> list[Request]:
        """Return the requests that may be served now."""
        if not self._paces:
            return self._queue
        now = self._clock.monotonic()
        return [r for r in self._queue if (pace := self._paces.get(r.ask.unit)) is None or pace.until <= now]

    async def _await_pace(self) -> None:
        """Wait until a unit may be asked again, or another request or the loss of the connection comes before that."""
        until = min(pace.until for r in self._queue if (pace := self._paces.get(r.ask.unit)) is not None)
        self._wake = asyncio.get_running_loop().create_future()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(until - self._clock.monotonic()):
                await self._wake

    def _rank(self, request: Request) -> tuple[int, bool, int]:
        return request.priority, request.ask.unit in self._silent, request.number

    async def _exchange(self, link: Wire, request: Request) -> bool:
        """Serve one request; tells whether there was a reply that belongs to it."""
        statistics = self.statistics
        statistics.requests += 1
        unit = request.ask.unit
        started = self._clock.monotonic()
        try:
            if link.free_at > started:  # outside the hold: a hold stops virtual time
                await self._clock.sleep_until(link.free_at)
                started = self._clock.monotonic()
            with self._awaiting():
                registers = await link.exchange(
                    request.ask, self.timeout_of(unit), partial(self._answered, request, started)
                )
        except ExceptionReplyError as error:
            statistics.exceptions += 1
            self._silent.discard(unit)
            reject(request, error)
            return True
        except BusError as error:
            if isinstance(error, NoReplyError):
                statistics.timeouts += 1
                self._silent.add(unit)
            statistics.mismatches += isinstance(error, BadReplyError)
            reject(request, error)
            return False
        except asyncio.CancelledError:
            reject(request, NoReplyError(f"bus {self.name} was closed while the reply was awaited"))
            raise
        finally:
            if (pace := self._paces.get(unit)) is not None:
                pace.until = self._clock.monotonic() + pace.gap_s
        if not request.answered:
            self._answered(request, started, registers)
        return True

    def _answered(self, request: Request, started: float, registers: list[int]) -> None:
        """Count a reply, and give it to the caller unless that has gone."""
        request.answered = True
        unit = request.ask.unit
        self._silent.discard(unit)
        took = self._clock.monotonic() - started
        bucket = bisect_left(LATENCY_BOUNDS_S, took)
        self.statistics.replies += 1
        self.statistics.latency[bucket] += 1
        if (latency := self.latencies.get(unit)) is None:
            latency = self.latencies[unit] = UnitLatency()
        latency.add(took, bucket)
        if not request.future.done():
            request.future.set_result(registers)

    def _awaiting(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext() if self._hold is None else self._clock.hold(self._hold)

    def _reject_all(self) -> None:
        """Fail everything that waits: nothing is kept for a connection that may come back at any time."""
        while self._queue:
            reject(self._queue.pop(0), NotSentError(self._down))
