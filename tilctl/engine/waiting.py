"""Waiting for a condition: on each scan of what it reads, and exactly when time alone will make it true."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING

from recipes.expr import INVALID, Expression, Operand, Scope

if TYPE_CHECKING:
    from tilctl.engine.context import Context

_HORIZON = 90 * 86400.0  # s; no culture lasts longer
_STEP = 0.001  # s; the resolution of the record
_LOOK_AGAIN = 60.0  # s; a value that no scan announces is looked at this often


class _Later:
    """The scope as it will be after some seconds if only time passes."""

    def __init__(self, scope: Scope, seconds: float) -> None:
        self._scope = scope
        self._seconds = seconds

    def lookup(self, name: str) -> Operand | None:
        """Return the operand with that time added to what counts time."""
        found = self._scope.lookup(name)
        if not _timed(name) or found is None or not isinstance(found.value, (int, float)):
            return found
        return Operand(name, found.value + self._seconds, found.unit, found.quality, found.age)


def _timed(name: str) -> bool:
    return name == "day" or name.startswith("since(")


def seconds_until(expression: Expression, scope: Scope) -> float | None:
    """Return after how many seconds the passing of time alone makes a condition true, or None if it does not."""
    if not any(_timed(name) for name in expression.names):
        return None
    if expression.truth(_Later(scope, _HORIZON)) is not True:
        return None
    low, high = 0.0, _HORIZON
    while high - low > _STEP / 2:
        middle = (low + high) / 2
        if expression.truth(_Later(scope, middle)) is True:
            high = middle
        else:
            low = middle
    return high


def seconds_since(context: Context, expression: Expression) -> float:
    """Return for how many seconds a condition has been true by the passing of time, at most since the batch began."""
    began = context.batch.state.started or context.node.started
    return seconds_true(expression, context.scope, (context.batch.clock.now() - began).total_seconds())


def seconds_true(expression: Expression, scope: Scope, most_s: float) -> float:
    """Return for how many seconds a condition has been true by the passing of time, `most_s` at most."""
    if not any(_timed(name) for name in expression.names):
        return 0.0
    low, high = 0.0, max(0.0, most_s)
    if expression.truth(_Later(scope, -high)) is True:
        return high
    while high - low > _STEP / 2:
        middle = (low + high) / 2
        if expression.truth(_Later(scope, -middle)) is True:
            low = middle
        else:
            high = middle
    return low


async def until_true(context: Context, expression: Expression, limit: datetime | None) -> bool:
    """Wait until a condition is true; False when `limit` comes first.  INVALID waits on: unknown is not false."""
    batch = context.batch
    while True:
        scope = context.scope
        found = expression.truth(scope)
        if found is not INVALID and found:
            return True
        now = batch.clock.now()
        if limit is not None and now >= limit:
            return False
        ahead = seconds_until(expression, scope)
        devices = _devices(context, expression)
        waits = [_HORIZON] if ahead is None else [ahead]
        if limit is not None:
            waits.append((limit - now).total_seconds())
        # Also where only time counts: another branch may set the mark from which it does.
        if ahead is None or any(not _timed(name) for name in expression.names):
            waits.append(_LOOK_AGAIN)
        await _scan_or_time(context, devices, max(_STEP, min(waits)))


async def _scan_or_time(context: Context, devices: list[str], seconds: float) -> None:
    clock = context.batch.clock
    if not devices:
        await clock.sleep(seconds)
        return
    scans = [asyncio.create_task(context.batch.image.next_scan(device)) for device in devices]
    try:
        async with asyncio.timeout(seconds):
            await asyncio.wait(scans, return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError:
        return
    finally:
        for scan in scans:
            scan.cancel()
        await asyncio.gather(*scans, return_exceptions=True)


def _devices(context: Context, expression: Expression) -> list[str]:
    """Return the instruments whose scans may change a condition."""
    found: list[str] = []
    batch = context.batch
    for name in expression.names:
        equipment, _, tag = name.partition(".")
        if not tag:
            continue
        if equipment in batch.equipment:
            found.append(batch.equipment[equipment])
    return list(dict.fromkeys(found))
