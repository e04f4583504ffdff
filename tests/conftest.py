"""What every test gets: no leaked task, thread or socket, no lost exception; Debian programs or a named skip."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import shutil
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

# A busy machine is no failure; and what CI refuses must be refused again when it is looked into.
settings.register_profile(
    "tilctl", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("TILCTL_CI"))
)
settings.load_profile("tilctl")


@pytest_asyncio.fixture
async def no_leaked_tasks(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Fail an async test that leaves a task behind or loses an exception in the background."""
    loop = asyncio.get_running_loop()
    lost: list[str] = []
    loop.set_exception_handler(
        lambda _loop, context: lost.append(f"{context.get('message')}: {context.get('exception')!r}")
    )
    before = asyncio.all_tasks()
    yield
    for _ in range(3):  # what was cancelled at the very end of a test may need a turn to finish
        await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() - before - {asyncio.current_task()} if not task.done()]
    names = [repr(task.get_coro()) for task in left]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    gc.collect()
    assert not names, f"tasks left behind: {names}"
    assert not lost, f"exceptions lost in the background: {lost}"


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    """Fail a test that leaves a thread behind."""
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and t.is_alive() and not t.name.startswith("asyncio_")]
    for thread in left:
        thread.join(timeout=2.0)
    names = [t.name for t in left if t.is_alive()]
    assert not names, f"threads left behind: {names}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Watch every async test for leaks; sync tests need no loop for that."""
    if inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.insert(0, "no_leaked_tasks")


def pytest_collection_finish() -> None:
    """Take what is there for good out of the garbage collector's rounds, which walk through it again and again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip by name what needs an absent Debian program; in CI (TILCTL_CI=1) a missing program is an error.

    Tests of processes come first: they mostly wait, which costs nothing beside others and much at the end.
    """
    items.sort(key=lambda item: ("process" not in item.path.parts, "stack" not in item.path.parts))
    for item in items:
        for mark in item.iter_markers("debian"):
            missing = [name for name in mark.args if shutil.which(name) is None]
            if missing and os.environ.get("TILCTL_CI"):
                message = f"{item.nodeid} needs {missing}, and CI must have them"
                raise pytest.UsageError(message)
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"needs Debian program(s): {', '.join(missing)}"))
