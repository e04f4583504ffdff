"""Branches walked at the same time: what ends one of them ends all, and never before the others are finished."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from tilctl.engine.errors import ProcedureEnd, SafePoint, Several, StepError


async def together(branches: Mapping[str, Coroutine[Any, Any, None]]) -> None:
    """Walk all branches (name -> its walk) to their end.

    Raises what ended one of them: the others are cancelled, and waited for until what they had under way is finished.
    Of several faults all are told.  SafePoint is raised when every branch has come to one, or to its end.
    """
    tasks = [asyncio.create_task(walk, name=f"branch:{name}") for name, walk in branches.items()]
    try:
        left = set(tasks)
        while left and not any(_broken(task) for task in tasks):
            _, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _finished(tasks)
    _raise_first([error for task in tasks if not task.cancelled() and (error := task.exception()) is not None], tasks)


def _broken(task: asyncio.Task[None]) -> bool:
    """Whether a branch is over in a way that ends the others too."""
    if not task.done():
        return False
    return task.cancelled() or not isinstance(task.exception(), (SafePoint, type(None)))


async def _finished(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel what is left.

    Invariant: nothing of a branch is under way when its walk is over, however often the walk is cancelled meanwhile: a
    dose is stopped and its intent closed before the batch is held.  What a step finishes is bounded by itself.
    """
    cancelled: asyncio.CancelledError | None = None
    for task in tasks:
        task.cancel()
    while left := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(left)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def _raise_first(errors: list[BaseException], tasks: Iterable[asyncio.Task[None]]) -> None:
    """Raise what weighs most: a fault of record or program, what holds the batch, what ends it, a pause."""
    known = (StepError, ProcedureEnd, SafePoint)
    worst = next((error for error in errors if not isinstance(error, known)), None)
    if worst is not None:
        raise worst
    failed = [error for error in errors if isinstance(error, StepError)]
    if len(failed) > 1:
        raise Several([each for error in failed for each in error.each])
    for kind in known:
        for error in errors:
            if isinstance(error, kind):
                raise error
    if any(task.cancelled() for task in tasks):
        raise asyncio.CancelledError
