"""Virtual time: an event loop whose clock jumps to the next timer as soon as nothing else can happen.

Controller, simulators and the Modbus sockets between them share one `VirtualLoop`.  The same seed gives the same
order of everything, on a busy machine too, because the outside world is looked at only when every ready callback
has run, and then in this order:

1. sockets, in the order in which they were registered, not in which the kernel woke them.  While *soft holds* are
   open (requests whose other end is in this process), the loop first waits, up to GRACE_S of real time, until
   each of them has its message, so that a loaded machine cannot make a reply look late or overtake another;
2. *quiet work* (`offload`: commits), first come, first served, one at a time;
3. *holds*: something awaited from another process or thread; the clock stands;
4. the *inbox*: what other threads entered;
5. *outside*: a person is thinking; the clock stands;
6. the jump, at once or at a given pace.

A wait that ends in none of these is a deadlock, and `simulators.watchdog` reports it.  Iterating over sets of tasks or
strings is the one thing that this loop cannot order.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, ParamSpec, TypeVar

from simulators.page import Page
from simulators.watchdog import Watchdog

P = ParamSpec("P")
T = TypeVar("T")
Events = list[tuple[selectors.SelectorKey, int]]

EPOCH = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)  # a Monday morning; fixed, so that records repeat bit for bit
GRACE_S = 0.002  # real; loopback delivers in some 10 us, a descheduled kernel thread in some 100
PACE_SLIP_S = 0.1  # real; a paced run that is later than this does not race to catch up


class _Selector(selectors.DefaultSelector):
    """Asks its loop what to do where others block, and knows the order in which sockets were registered."""

    def __init__(self) -> None:
        super().__init__()
        self._counter = count()
        self._order: dict[int, int] = {}
        self.idle: Callable[[], Events] = list

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = super().register(fileobj, events, data)
        self._order[key.fd] = next(self._counter)
        return key

    def select(self, timeout: float | None = None) -> Events:
        """Return nothing while callbacks are ready; else what the loop decides."""
        return self.idle() if timeout is None or timeout > 0 else []

    def poll(self, timeout: float | None) -> Events:
        """Return ready sockets in order of registration, after at most `timeout` real seconds."""
        events = super().select(timeout)
        if len(events) > 1:
            events.sort(key=lambda event: self._order[event[0].fd])
        return events

    def messages(self, events: Events) -> int:
        """Return the number of ready sockets, without the loop's own wake-up pipe (which is registered first)."""
        return len(events) - sum(self._order[key.fd] == 0 for key, _ in events)


class Stay:
    """A labelled token: while it is open, virtual time stays, or is at least hesitant (a soft hold)."""

    __slots__ = ("_among", "_released", "label")

    def __init__(self, label: str, among: dict[Stay, None], released: Callable[[], None]) -> None:
        self.label = label
        self._among = among
        self._released = released

    def __enter__(self) -> None:
        self._among[self] = None

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """End the stay; doing so again does no harm."""
        if self in self._among:
            del self._among[self]
            self._released()


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` (s, from `start`) is virtual; usable as a loop factory.

    `pace` is virtual seconds for each real one, None for as fast as it goes.  `soft` are the prefixes of hold labels
    whose other end is in this process.  Work for the default executor runs in the loop, as quiet work.  With a `page`
    the time starts at what it says, and other processes see every jump in it: this loop is its only writer.
    """

    _scheduled: list[asyncio.TimerHandle]  # asyncio's own heap of timers; a test for each Python version watches it

    def __init__(
        self,
        *,
        start: float = 0.0,
        pace: float | None = None,
        soft: tuple[str, ...] = ("modbus:",),
        page: Page | None = None,
    ) -> None:
        self.holds: dict[Stay, None] = {}
        self.soft_holds: dict[Stay, None] = {}
        self.outsiders: dict[Stay, None] = {}
        self.released = 0  # holds that ended: with the time, the sign of life that the watchdog watches
        self.patient = False  # the loop waits for a person or for its pace: no sign of life is due
        self.pace = pace
        self._soft = soft
        self._page = page
        self._now = start if page is None else page.read()
        self._late = 0  # soft holds that had no message after the grace, so nothing is due for them before the jump
        self._due = time.monotonic()  # real time that belongs to the present virtual time, when paced
        self._quiet: deque[asyncio.Future[None]] = deque()
        self._inbox: deque[Callable[[], None]] = deque()
        self._sockets = _Selector()
        super().__init__(self._sockets)
        self._sockets.idle = self._idle

    def time(self) -> float:
        """Return virtual seconds."""
        return self._now

    def hold(self, label: str) -> Stay:
        """Return a token whose `with` block stops virtual time, or for a soft label makes it hesitate."""
        soft = label.startswith(self._soft)
        return Stay(label, self.soft_holds if soft else self.holds, self._count_release)

    def outside(self, label: str) -> Stay:
        """Return a token whose `with` block stops virtual time for a person, without a watchdog."""
        return Stay(label, self.outsiders, self._restart_pace)

    def enter(self, callback: Callable[[], None]) -> None:
        """Run `callback` at the next quiet point; from any thread; dropped when the loop has closed."""
        self._inbox.append(callback)
        with contextlib.suppress(RuntimeError):
            self.call_soon_threadsafe(_wake)

    async def quiet(self) -> None:
        """Return when nothing else can happen at this time; waiters are let go one at a time, in order of asking."""
        turn: asyncio.Future[None] = self.create_future()
        self._quiet.append(turn)
        await turn

    def run_in_executor(self, executor: Executor | None, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Run `func` as quiet work in the loop; an executor that is named runs it in its own threads."""
        if executor is not None:
            return super().run_in_executor(executor, func, *args)
        return self.create_task(self._inline(func, *args))

    async def _inline(self, func: Callable[..., T], *args: Any) -> T:
        await self.quiet()
        return func(*args)

    def _count_release(self) -> None:
        self.released += 1

    def _restart_pace(self) -> None:
        self._due = time.monotonic()

    def _idle(self) -> Events:
        """Decide what happens next; called when no callback is ready."""
        if events := self._messages():
            return events
        if self._quiet and all(hold.label == "journal" for hold in self.holds):
            turn = self._quiet.popleft()
            if not turn.done():
                turn.set_result(None)
        elif self.holds:
            return self._sockets.poll(None)
        elif self._inbox:
            for _ in range(len(self._inbox)):
                self.call_soon(self._inbox.popleft())
        elif self.outsiders or not self._scheduled:
            self.patient = bool(self.outsiders)
            events = self._sockets.poll(None)
            self.patient = False
            return events
        else:
            return self._jump(self._scheduled[0].when())
        return []

    def _messages(self) -> Events:
        """Return the sockets that are ready, once each open soft hold has its message or the grace is over."""
        events = self._sockets.poll(0)
        due = len(self.soft_holds) - self._late
        if due <= 0 or self._sockets.messages(events) >= due:
            return events
        end = time.monotonic() + GRACE_S
        while self._sockets.messages(events) < due and time.monotonic() < end:
            time.sleep(GRACE_S / 40)
            events = self._sockets.poll(0)
        self._late += max(0, due - self._sockets.messages(events))
        return events

    def _jump(self, when: float) -> Events:
        """Move virtual time to `when`, after the real time that the pace demands."""
        if self.pace is not None:
            self._due += (when - self._now) / self.pace
            self.patient = True
            events = self._sockets.poll(max(0.0, self._due - time.monotonic()))
            self.patient = False
            left = self._due - time.monotonic()
            if left > 0 and (events or self._inbox):  # somebody acts in the middle of the wait: it is as late as that
                self._now = max(self._now, when - left * self.pace)
                self._due -= left
                self._tell()
                return events
            self._due = max(self._due, time.monotonic() - PACE_SLIP_S)
        self._now = max(self._now, when)
        self._late = 0
        self._tell()
        return []

    def _tell(self) -> None:
        """Show the time to the other processes, before anything of it is sent to them."""
        if self._page is not None:
            self._page.write(self._now)


def _wake() -> None:
    """Do nothing, but make the loop look again."""


class VirtualClock:
    """The clock of a rehearsal (`devices.clock.Clock`), on a `VirtualLoop`; UTC is `epoch` plus the loop's time."""

    def __init__(self, loop: VirtualLoop, epoch: datetime = EPOCH, seed: int = 0) -> None:
        """Bind to a loop; `seed` is kept for those who make ids and noise."""
        self.loop = loop
        self.epoch = epoch
        self.seed = seed
        self.server = True  # whether a time server is followed
        self.boot: str | None = None  # the machine's boot, where a restart is to be bridged by it

    def step(self, seconds: float) -> None:
        """Set the wall clock forward (or back) by so many seconds, as a time server or a hand does."""
        self.epoch += timedelta(seconds=seconds)

    def synchronised(self) -> bool:
        """Return whether a time server is followed, as the rehearsal has it."""
        return self.server

    def machine(self) -> tuple[str, float] | None:
        """Return the machine's boot and the loop's time (s), where the rehearsal has named that boot."""
        return None if self.boot is None else (self.boot, self.loop.time())

    def now(self) -> datetime:
        """Return the virtual moment, aware UTC."""
        return self.utc(self.loop.time())

    def monotonic(self) -> float:
        """Return virtual seconds."""
        return self.loop.time()

    def utc(self, monotonic: float) -> datetime:
        """Return the UTC moment of a virtual time (s)."""
        return self.epoch + timedelta(seconds=monotonic)

    async def sleep(self, seconds: float) -> None:
        """Wait for virtual `seconds`."""
        await asyncio.sleep(seconds)

    async def sleep_until(self, monotonic: float) -> None:
        """Wait until exactly the given virtual time (s); only gives way once if it has passed."""
        if monotonic <= self.loop.time():
            await asyncio.sleep(0)
            return
        reached: asyncio.Future[None] = self.loop.create_future()
        timer = self.loop.call_at(monotonic, _settle, reached)
        try:
            await reached
        finally:
            timer.cancel()

    def hold(self, label: str) -> Stay:
        """Stop virtual time inside the block; `modbus:` holds only make it hesitate (see the module)."""
        return self.loop.hold(label)

    def outside(self, label: str) -> Stay:
        """Stop virtual time inside the block, for as long as a person thinks."""
        return self.loop.outside(label)

    def enter(self, callback: Callable[[], None]) -> None:
        """Run `callback` on the loop at the next quiet point; from any thread."""
        self.loop.enter(callback)

    async def offload(self, work: Callable[[], T]) -> T:
        """Run `work` in the loop's thread at a quiet point, in order of asking; virtual time does not pass."""
        await self.loop.quiet()
        return work()

    def close(self) -> None:
        """Do nothing: there is no storage thread, and offloaded work that was not reached is its waiters'."""


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def run(
    main: Callable[[VirtualClock], Coroutine[Any, Any, T]],
    *,
    seed: int = 0,
    pace: float | None = None,
    watchdog_s: float | None = None,
    soft: tuple[str, ...] = ("modbus:",),
) -> T:
    """Run `main(clock)` on a fresh virtual loop and return its result.

    `pace` is virtual seconds for each real one (None: as fast as it goes); after `watchdog_s` real seconds
    without progress the process dumps what waits and exits with status 9 (None: no watchdog).
    """
    loop = VirtualLoop(pace=pace, soft=soft)
    with asyncio.Runner(loop_factory=lambda: loop) as runner, Watchdog(loop, watchdog_s):
        return runner.run(main(VirtualClock(loop, seed=seed)))
