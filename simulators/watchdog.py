"""A thread that notices when virtual time has come to a stop for good, and says where."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from simulators.virtual import VirtualLoop

EXIT_STUCK = 9
LOOKS = 8  # in each period


class Watchdog:
    """Watch a virtual loop from a thread: a loop cannot see its own blocking call, spin or lost wake-up.

    The signs of life are the virtual time and the number of holds released.  When neither has changed for `seconds`
    of real time, and the loop waits neither for a person nor for its pace, then every open hold, every task with file
    and line and the stack of every thread go to standard error, and the process exits with status 9.  None: no watch.
    """

    def __init__(self, loop: VirtualLoop, seconds: float | None) -> None:
        self._loop = loop
        self._seconds = seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        if self._seconds is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._seconds is not None:
            self._thread.join()

    def _watch(self) -> None:
        seconds = self._seconds or 0.0
        seen, since = (-1.0, -1), 0.0
        while not self._done.wait(seconds / LOOKS):
            sign, now = (self._loop.time(), self._loop.released), time.monotonic()
            if sign != seen or self._loop.patient:
                seen, since = sign, now
            elif now - since >= seconds:
                self._die(seconds)

    def _die(self, seconds: float) -> None:
        print(report(self._loop, seconds), file=sys.stderr, flush=True)  # noqa: T201 - the process is about to end
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
        os._exit(EXIT_STUCK)  # sys.exit would wait for the main thread, which is stuck


def report(loop: VirtualLoop, seconds: float) -> str:
    """Return what waits for what in a loop that has stood for `seconds` of real time, for a person."""
    tasks = sorted((task.get_name(), _places(task.get_coro())) for task in asyncio.all_tasks(loop))
    lines = [
        f"virtual time has stood at {loop.time()} s for {seconds:g} real seconds, and nobody is asked anything",
        f"  open holds: {[hold.label for hold in (*loop.holds, *loop.soft_holds)]}",
        *(f"  task {name}: {' > '.join(places)}" for name, places in tasks),
        "What to do: look there for a call that blocks, a loop without a wait, or a wait that nobody ends.",
    ]
    return "\n".join(lines)


def _places(awaited: Any) -> list[str]:
    """Return file:line of a coroutine and of what it awaits, outermost first."""
    places: list[str] = []
    while (frame := getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)) is not None:
        places.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return places
