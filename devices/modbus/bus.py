"""A Modbus TCP bus: one connection, one task that owns it, one queue in order of priority.

Whoever asks waits on a future and may be cancelled freely; only the owner touches the wire. While the bus is
down every request fails at once, and the owner goes on trying, 0.5 s to 30 s apart.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from devices.clock import Clock
from devices.instrument import Priority
from devices.modbus.link import Ask, BadReplyError, BusError, ExceptionReplyError, Link, NoReplyError, NotSentError

BACKOFF_MIN_S = 0.5
BACKOFF_MAX_S = 30.0
QUEUE_LIMIT = 64
LATENCY_BOUNDS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Upper bounds of the latency buckets; one more bucket counts what took longer."""


class ReconnectedError(NotSentError):
    """Not sent: the connection is no longer the one on which the instrument was checked."""


@dataclass(slots=True)
class BusStatistics:
    """Plain counters since the bus was opened; `latency` counts replies by `LATENCY_BOUNDS_S`."""

    requests: int = 0
    replies: int = 0
    exceptions: int = 0
    timeouts: int = 0
    mismatches: int = 0
    refused: int = 0
    connects: int = 0
    connect_failures: int = 0
    losses: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))


@dataclass(slots=True)
class _Request:
    ask: Ask
    generation: int | None
    future: asyncio.Future[list[int]]


class ModbusBus:
    """One host and port with one or several units behind it."""

    def __init__(self, name: str, host: str, port: int, clock: Clock, timeout: float = 1.0) -> None:
        """Describe the bus; `timeout` (s) bounds a connect and each reply (must exceed a gateway's own)."""
        self.name = name
        self.timeout = timeout
        self.statistics = BusStatistics()
        self._host, self._port = host, port
        self._clock = clock
        self._jitter = random.Random(name)
        self._queue: list[tuple[int, int, _Request]] = []
        self._number = 0
        self._generation = 0
        self._down = "the bus is not open"
        self._wake: asyncio.Future[None] | None = None
        self._owner: asyncio.Task[None] | None = None
        self._link: Link | None = None

    @property
    def generation(self) -> int:
        """Number of the present connection; a new number means that the instruments must be checked again."""
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

    async def read(self, unit: int, fc: int, addr: int, count: int, *, priority: Priority = Priority.DATA) -> list[int]:
        """Read `count` registers (or coils, as 0 and 1).

        Raises NotSentError, NoReplyError, BadReplyError or ExceptionReplyError.
        """
        return await self._submit(Ask(unit, fc, addr, count), priority, None)

    async def write(
        self,
        unit: int,
        fc: int,
        addr: int,
        words: Sequence[int],
        *,
        priority: Priority = Priority.COMMAND,
        generation: int | None = None,
    ) -> None:
        """Write registers (or coils), once.

        Raises ReconnectedError (not sent) when `generation` is given and the connection is another by now;
        NotSentError; NoReplyError or BadReplyError (the effect is unknown); ExceptionReplyError.
        """
        await self._submit(Ask(unit, fc, addr, len(words), tuple(words)), priority, generation)

    def _submit(self, ask: Ask, priority: Priority, generation: int | None) -> asyncio.Future[list[int]]:
        if self._down:
            raise NotSentError(self._down)
        if not 1 <= ask.count <= 2000 or not 1 <= ask.unit <= 255:
            raise ValueError(f"bus {self.name}: {ask} is no request of the protocol")
        if len(self._queue) >= QUEUE_LIMIT:
            self._make_room(priority)
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._number += 1
        heapq.heappush(self._queue, (priority, self._number, _Request(ask, generation, future)))
        self._rouse()
        return future

    def _make_room(self, priority: Priority) -> None:
        """Refuse the newest of the least urgent requests, or this one; a stop always finds room before data."""
        self.statistics.refused += 1
        last = max(self._queue, key=lambda entry: entry[:2])
        if last[0] <= priority:
            raise NotSentError(f"bus {self.name}: {len(self._queue)} requests wait already")
        self._queue.remove(last)
        heapq.heapify(self._queue)
        _reject(last[2], NotSentError(f"bus {self.name}: gave way to a more urgent request"))

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
                await self._clock.sleep(pause * self._jitter.uniform(0.8, 1.2))
                pause = min(2 * pause, BACKOFF_MAX_S)
        finally:
            self._down = f"bus {self.name} is closed"
            self._reject_all()
            if self._link is not None:
                self._link.drop()

    async def _connect(self) -> bool:
        """Try once to connect; tells whether it worked."""
        link = self._link = Link(self._host, self._port, self._rouse)
        try:
            with self._clock.hold(f"modbus:{self.name}"):
                await link.connect(self.timeout)
        except TimeoutError:
            reason = f"no answer within {self.timeout:g} s"
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            self._generation += 1
            self.statistics.connects += 1
            self._down = ""
            return True
        link.drop()
        self.statistics.connect_failures += 1
        self._down = f"bus {self.name}: no connection to {self._host}:{self._port}: {reason}"
        return False

    async def _serve(self) -> bool:
        """Serve requests while the connection stands; tells whether to connect again at once.

        That is so after a good reply, and after a connection that we dropped ourselves (the time-out was pause
        enough); a peer that accepts and hangs up without an answer is left alone for a while.
        """
        link, good = self._link, False
        while link is not None and link.connected:
            if not self._queue:
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake
                continue
            request = heapq.heappop(self._queue)[2]
            if request.future.done():
                continue  # the caller has gone: never sent
            if request.generation not in (None, self._generation):
                _reject(request, ReconnectedError(f"bus {self.name} has reconnected"))
            elif await self._exchange(link, request):
                good = True
        if link is None or not link.lost:
            return True
        self.statistics.losses += 1
        if not good:
            self._down = f"bus {self.name}: {self._host}:{self._port} hangs up without an answer"
        return good

    async def _exchange(self, link: Link, request: _Request) -> bool:
        """Serve one request; tells whether there was a reply that belongs to it."""
        statistics = self.statistics
        statistics.requests += 1
        started = self._clock.monotonic()
        try:
            with self._clock.hold(f"modbus:{self.name}"):
                registers = await link.exchange(request.ask, self.timeout)
        except ExceptionReplyError as error:
            statistics.exceptions += 1
            _reject(request, error)
            return True
        except BusError as error:
            statistics.timeouts += isinstance(error, NoReplyError)
            statistics.mismatches += isinstance(error, BadReplyError)
            _reject(request, error)
            return False
        except asyncio.CancelledError:
            _reject(request, NoReplyError(f"bus {self.name} was closed while the reply was awaited"))
            raise
        statistics.replies += 1
        statistics.latency[bisect_left(LATENCY_BOUNDS_S, self._clock.monotonic() - started)] += 1
        if not request.future.done():
            request.future.set_result(registers)
        return True

    def _reject_all(self) -> None:
        """Fail everything that waits: nothing is kept for a connection that may come back at any time."""
        while self._queue:
            _reject(heapq.heappop(self._queue)[2], NotSentError(self._down))


def _reject(request: _Request, error: BusError) -> None:
    if not request.future.done():
        request.future.set_exception(error)
