"""Lives of a controller on one virtual loop: booted, and ended as a power cut ends them.

A life is known by a context variable: every task that a task of the life begins belongs to it.  Once it is dead,
nothing of it is written, sent or waited for: its tasks are cancelled, one that it still begins never runs, its clock
refuses, and its files are put back to what was on the medium.  Several lives, one after the other, share the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import sys
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from structlog import DropEvent

from simulators.virtual import VirtualClock, VirtualLoop

T = TypeVar("T")
ROUNDS = 50  # of cancelling what is left; a task that survives as many is a fault of ours
_LIFE: ContextVar[Life | None] = ContextVar("life", default=None)
_numbers = count()


class Life:
    """One life of a controller; `context` is where its work is begun."""

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.dead = False
        self.connections: list[sqlite3.Connection] = []
        self.context: Context = copy_context()
        self.context.run(_LIFE.set, self)

    def begin(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Begin a task of this life."""
        return self.loop.create_task(work, name=name, context=self.context)

    def kill(self) -> None:
        """End it at once: from here on it does nothing more."""
        self.dead = True
        for task in self._left():
            task.cancel()

    async def bury(self, data: Path) -> None:
        """Wait until nothing of a killed life is left, and let go of its files as a dead process does.

        Raises RuntimeError where a task cannot be ended.
        """
        for _ in range(ROUNDS):
            left = self._left()
            if not left:
                break
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=1.0)
        else:
            raise RuntimeError(f"life {self.name} cannot be ended: {[task.get_name() for task in self._left()]}")
        with _medium(data):
            for connection in self.connections:
                connection.close()
        self.connections.clear()

    def _left(self) -> list[_Task]:
        mine = [t for t in asyncio.all_tasks(self.loop) if isinstance(t, _Task) and t.life is self]
        return sorted((t for t in mine if t is not _current()), key=lambda task: task.number)


class LifeClock(VirtualClock):
    """The clock of one life.  Nobody outside is waited for: people act on the loop itself.

    `disk` is asked before each piece of storage work and may raise OSError, or say how long (s) it hangs.  After
    `commits_left` pieces the life is ended between the work and the news of it (None: never).
    """

    def __init__(self, life: Life, disk: Callable[[], float], on_crash: Callable[[], None]) -> None:
        super().__init__(life.loop)
        self.life = life
        self.commits_left: int | None = None
        self._disk = disk
        self._on_crash = on_crash

    def outside(self, label: str) -> Any:
        """Mark nothing."""
        del label
        return contextlib.nullcontext()

    async def sleep(self, seconds: float) -> None:
        """Wait; the dead do not."""
        self._living()
        await super().sleep(seconds)

    async def sleep_until(self, monotonic: float) -> None:
        """Wait; the dead do not."""
        self._living()
        await super().sleep_until(monotonic)

    async def offload(self, work: Callable[[], T]) -> T:
        """Do storage work at a quiet point; the disk may be full, slow or dead."""
        await self.loop.quiet()
        self._living()
        hangs = self._disk()
        if hangs > 0.0:
            await super().sleep(hangs)
            self._living()
        result = work()
        if self.commits_left is not None:
            self.commits_left -= 1
            if self.commits_left < 0:
                self._on_crash()
                self._living()
        return result

    def _living(self) -> None:
        if self.life.dead:
            raise asyncio.CancelledError


class _Task(asyncio.Task[Any]):
    """A task that knows whose it is; numbered, because sets of tasks have no order."""

    life: Life | None = None
    number: int = 0


def install(loop: VirtualLoop) -> None:
    """Have the loop note for each task whose life it belongs to."""
    loop.set_task_factory(_factory)
    _listen_for_files()


def _factory(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> _Task:
    context: Context | None = kwargs.get("context")
    life = _LIFE.get() if context is None else context.get(_LIFE)
    task = _Task(coro, loop=loop, **kwargs)
    task.life, task.number = life, next(_numbers)
    if life is not None and life.dead:
        task.cancel()  # Invariant: what the dead begin never runs
    return task


def _current() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def mute_the_dead(_logger: Any, _method: str, event: Any) -> Any:
    """Drop what a dead life logs (a structlog processor)."""
    life = _LIFE.get()
    if life is not None and life.dead:
        raise DropEvent
    return event


@contextlib.contextmanager
def _medium(data: Path) -> Generator[None]:
    """Have the files after the block as they were before it: closing a connection folds its log into the file."""
    kept: list[tuple[Path, Path]] = []
    for log in sorted(data.rglob("*.db-wal")):
        for path in (log.with_name(log.name.removesuffix("-wal")), log):
            if path.exists():
                copy = path.with_name(path.name + ".kept")
                shutil.copyfile(path, copy)
                kept.append((copy, path))
    try:
        yield
    finally:
        for copy, path in kept:
            copy.replace(path)
            path.with_name(path.name + "-shm").unlink(missing_ok=True)


_listening: list[bool] = []


def _listen_for_files() -> None:
    """Note each database connection under the life that opens it; what it holds open dies with it."""
    if not _listening:
        _listening.append(True)
        sys.addaudithook(_heard)


def _heard(event: str, args: tuple[Any, ...]) -> None:
    if event == "sqlite3.connect/handle":
        life = _LIFE.get()
        if life is not None:
            life.connections.append(args[0])
