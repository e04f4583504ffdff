"""What waits in the queue of a bus: requests, and how long a unit wants to be left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from devices.instrument import Priority
from devices.modbus.pdu import Ask, BusError


@dataclass(slots=True)
class Pace:
    """How long a unit must be left alone after a request (s), and until when that is now (s, monotonic)."""

    gap_s: float
    until: float = 0.0


@dataclass(slots=True)
class Request:
    """One of them; `number` says when it came, `generation` for which connection it is meant (None: for any).

    `in_force` is asked just before it is sent, whether it still may be (None: it may).
    """

    priority: Priority
    number: int
    ask: Ask
    generation: int | None
    future: asyncio.Future[list[int]]
    in_force: Callable[[], bool] | None = None
    answered: bool = False


def reject(request: Request, error: BusError) -> None:
    """Tell the caller that nothing comes of it, unless it knows or has gone."""
    if not request.future.done():
        request.future.set_exception(error)
