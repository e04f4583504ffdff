"""The storage thread: blocking work one after the other, off the loop.

It is a daemon and is not waited for without end: a disk that never answers must not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
CLOSE_WITHIN = 5.0  # s for work that was asked for before `close`

_Job = tuple["Future[Any]", Callable[[], Any]]


class StorageThread:
    """One thread and its queue; the thread begins with the first work."""

    def __init__(self, name: str) -> None:
        """Take the name of the thread."""
        self._name = name
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in its turn and return its result; cancelled, it is not begun, or its result is dropped.

        Raises RuntimeError after `close`.
        """
        if self._closed:
            raise RuntimeError(f"the {self._name} thread is closed")
        future: Future[T] = Future()
        self._queue.put((future, work))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        return await asyncio.wrap_future(future)

    def close(self, within: float = CLOSE_WITHIN) -> bool:
        """Take no more work and wait, at most `within` s, until the rest is done; False where the disk hangs."""
        self._closed = True
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(within)
            return not self._thread.is_alive()
        return True

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            future, work = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - whatever it is belongs to who asked
                future.set_exception(error)
            else:
                future.set_result(result)
            del job, future, work
