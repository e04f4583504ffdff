"""A command that moves something, told to end: by Ctrl-C, SIGTERM, or a terminal that has gone (SIGHUP).

Invariant: what was begun at an instrument is ended in order, and how it ended is on the record; so a signal only asks.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, Self, TypeVar

_T = TypeVar("_T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """It was told to end; `begun` is whether anything may have been sent by then."""

    def __init__(self, why: str, *, begun: bool) -> None:
        super().__init__(f"interrupted ({why})")
        self.begun = begun


class Ending:
    """Hears the signals for as long as its block lasts; `why` names the first one, "" while none came.

    A later one changes nothing: all that is still done is bounded. One that the process ignores stays ignored.
    """

    def __init__(self) -> None:
        self.why = ""
        self._cancel: Callable[[], object] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # no other can have them
            for each in _SIGNALS:
                if signal.getsignal(each) is not signal.SIG_IGN:
                    self._before[each] = signal.signal(each, self._told)
        return self

    def __exit__(self, *_: object) -> None:
        for each, before in self._before.items():
            signal.signal(each, before)

    def _told(self, number: int, _frame: FrameType | None) -> None:
        if self.why:
            return
        self.why = signal.Signals(number).name
        if self._cancel is not None:
            self._cancel()

    def run(self, main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run it in a loop of its own, and cancel it when told to end; raises Interrupted then."""
        if self.why:
            raise Interrupted(self.why, begun=False)
        try:
            return asyncio.run(self._watched(main))
        except asyncio.CancelledError:
            raise Interrupted(self.why or "cancelled", begun=True) from None

    async def _watched(self, main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel) if task is not None else None
        try:
            if self.why:  # it came just before
                raise asyncio.CancelledError
            return await main()
        finally:
            self._cancel = None
