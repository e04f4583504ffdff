"""Negative controls: two controllers that are wrong on purpose, and that the oracles must catch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tilctl.engine import recovery
from tilctl.engine.batch import Batch
from tilctl.engine.controller import Controller
from tilctl.engine.intents import way_of
from tilctl.journal import events as ev
from tilctl.journal.store import Journal

LINGERS_S = 0.05  # between the early acknowledgement and its commit


def install(kind: str) -> None:
    """Make this process wrong: `repeats` an interrupted dose, or answers `early`."""
    {"repeats": _repeats, "early": _early}[kind]()


def _repeats() -> None:
    """An open dispense counts as not done: the walk gives it again, whole, with a new number."""

    async def resolve(batch: Batch) -> dict[str, str]:
        for intent in batch.state.open_intents():
            if intent.action == "dispense" and not intent.outcome:
                way = way_of(batch, str(intent.args["from"]), str(intent.args["to"]))
                await batch.plant.gate.protect(way.pump, "stop")
                await batch.record(ev.IntentClosed(intent.number, intent.path, "nothing", None, None, {"why": "wrong"}))
        return {}

    recovery._resolve = resolve


def _early() -> None:
    """`accepted` goes out when the event has its place in the chain, before it is on disk."""
    execute = Controller.execute
    record = Journal.record
    waiting: list[Callable[[int, str], None]] = []

    async def executing(self: Controller, command: Any, accepted: Callable[[int, str], None]) -> Any:
        waiting.append(accepted)
        return await execute(self, command, lambda _seq, _hash: None)

    async def recording(self: Journal, event: ev.Event) -> Any:
        if not isinstance(event, ev.CommandReceived):
            return await record(self, event)
        future = self.append(event)
        made = self._pending[-1].record
        waiting.pop()(made.seq, made.hash)
        time.sleep(LINGERS_S)  # noqa: ASYNC251  the loop stands as at a slow disk; the answer is on its way in its own thread
        return await future

    Controller.execute = executing  # type: ignore[method-assign]
    Journal.record = recording  # type: ignore[method-assign]
