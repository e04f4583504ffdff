"""What branches never use at once, and how branches end together: without plant and record."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tilctl.engine.errors import InDoubt, ProcedureEnd, SafePoint, Several, StepError
from tilctl.engine.exclusion import Exclusion
from tilctl.engine.together import together


class Users:
    """Steps that take things, keep them until they are told to let go, and note in which order they had them."""

    def __init__(self) -> None:
        self.doses: dict[str, str] = {}
        self.exclusion = Exclusion(lambda: self.doses)
        self.had: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._over: dict[str, asyncio.Event] = {}

    async def ask(self, path: str, *needs: str) -> None:
        self._over[path] = asyncio.Event()
        self.tasks[path] = asyncio.create_task(self._use(path, needs))
        await asyncio.sleep(0)

    async def _use(self, path: str, needs: tuple[str, ...]) -> None:
        async with self.exclusion.alone(path, needs):
            self.had.append(path)
            await self._over[path].wait()

    async def end(self, *paths: str) -> None:
        for path in paths:
            self._over[path].set()
        await asyncio.gather(*(self.tasks[path] for path in paths))
        for _ in range(3):
            await asyncio.sleep(0)


async def test_all_at_once_in_the_order_of_asking_and_what_needs_nothing_of_it_at_once() -> None:
    users = Users()
    await users.ask("a", "pump", "bag")
    await users.ask("b", "pump", "vessel")
    await users.ask("c", "vessel")
    await users.ask("d", "other")
    assert users.had == ["a", "d"], "c asked after b, and b has nothing while it waits"
    assert users.exclusion.waiting("b") == "waits for pump, which a has"
    assert users.exclusion.waiting("c") == "waits for vessel, for which b has asked before"
    assert users.exclusion.waiting("a") == users.exclusion.waiting("nobody") == ""
    await users.end("a")
    assert users.had == ["a", "d", "b"]
    await users.end("b")
    assert users.had == ["a", "d", "b", "c"]
    await users.end("c", "d")


async def test_who_is_cancelled_leaves_the_queue_and_keeps_nothing() -> None:
    users = Users()
    for path in ("a", "b", "c"):
        await users.ask(path, "pump")
    users.tasks["b"].cancel()
    users.tasks["a"].cancel()
    await asyncio.gather(users.tasks["a"], users.tasks["b"], return_exceptions=True)
    await asyncio.sleep(0)
    assert users.had == ["a", "c"]
    await users.end("c")


async def test_what_an_open_dose_is_about_is_its_own_steps_until_it_is_closed() -> None:
    users = Users()
    users.doses = {"pump": "a", "bag": "a"}
    await users.ask("b", "bag", "vessel")
    await users.ask("a", "bag", "pump")
    assert users.had == ["a"], "who asked before it waits for just that"
    assert users.exclusion.waiting("b") == "waits for bag, which a has"
    await users.end("a")
    assert users.exclusion.waiting("b") == "waits for bag, to or from which a dose of a is not closed"
    users.doses = {}
    users.exclusion.look()
    await asyncio.sleep(0)
    assert users.had == ["a", "b"]
    await users.end("b")


# --- ending together --------------------------------------------------------------------------------------------------


class Finishing:
    """A branch that has something to finish when it is cancelled."""

    def __init__(self, raises: Exception | None = None) -> None:
        self.finished = False
        self._raises = raises

    async def walk(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            self.finished = True
            if self._raises is not None:
                raise self._raises


async def fails(error: Exception) -> None:
    await asyncio.sleep(0)
    raise error


async def ends() -> None:
    await asyncio.sleep(0)


def told(reason: str) -> StepError:
    return StepError(reason, f"see to {reason}")


async def ended(**branches: Coroutine[Any, Any, None]) -> BaseException | None:
    try:
        await together(branches)
    except (StepError, ProcedureEnd, SafePoint, OSError) as error:
        return error
    return None


async def test_all_are_over_when_each_is() -> None:
    assert await ended(a=ends(), b=ends()) is None


async def test_what_fails_ends_the_others_once_they_are_finished() -> None:
    other = Finishing()
    error = await ended(a=fails(told("pump")), b=other.walk())
    assert isinstance(error, StepError)
    assert error.reason == "pump"
    assert other.finished


async def test_several_faults_are_all_told() -> None:
    error = await ended(a=fails(told("pump")), b=Finishing(InDoubt(3, "bag")).walk())
    assert isinstance(error, Several)
    assert [each.reason for each in error.each] == ["pump", "bag"]
    assert error.reason == "pump; bag"
    within = await ended(c=fails(Several([told("x"), told("y")])), d=fails(told("z")))
    assert isinstance(within, StepError)
    assert [each.reason for each in within.each] == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ProcedureEnd("complete", "over"), told("pump")),
        (SafePoint(), ProcedureEnd("complete", "over")),
        (SafePoint(), told("pump")),
        (told("pump"), OSError("disk")),
    ],
)
async def test_what_weighs_more_is_raised(first: Exception, second: Exception) -> None:
    assert await ended(a=fails(first), b=fails(second)) is second
    assert await ended(a=fails(second), b=fails(first)) is second


async def test_a_pause_waits_for_all() -> None:
    going_on = asyncio.Event()
    task = asyncio.create_task(ended(a=fails(SafePoint()), b=going_on.wait()))  # pyright: ignore[reportArgumentType]
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    going_on.set()
    assert isinstance(await task, SafePoint)


async def test_cancelled_again_and_again_it_is_over_when_all_is_finished() -> None:
    branches = [Finishing(), Finishing()]
    walk = asyncio.create_task(together({str(i): branch.walk() for i, branch in enumerate(branches)}))
    await asyncio.sleep(0)
    for _ in range(4):
        walk.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await walk
    assert all(branch.finished for branch in branches)
