"""Shared equipment as the record knows it: who asked when, who has it, and all of that again after a restart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from tilctl.engine.batch import Batch
from tilctl.engine.machine import FINAL, State
from tilctl.engine.state import BatchState, Node, StepStatus, format_time, parse_time
from tilctl.journal import events as ev
from tilctl.plant.sharing import Sharing

ASKED, GRANTED = "asked", "granted"


async def take(batch: Batch, sharing: Sharing, path: str, devices: Sequence[str]) -> None:
    """Take shared devices for an operation: ask, wait for one's turn, and have each step on the record first.

    Cancelled by a hold it keeps its place; called again, here or in a later process, it goes on from there.
    """
    node = batch.state.nodes[path]
    since = sharing.ask(devices, batch.name, _asked(node) or parse_time(format_time(batch.clock.now())))
    if ASKED not in node.phases and GRANTED not in node.phases:
        await batch.record(ev.StepPhase(path, ASKED, {"devices": list(devices), "since": format_time(since)}))
    for device in devices:
        await sharing.acquire(device, batch.name)
    if GRANTED not in node.phases:
        await batch.record(ev.StepPhase(path, GRANTED, {"devices": list(devices)}))


def restore(batches: Iterable[Batch], sharing: Sharing) -> None:
    """Give shared devices back to the batches that have them, then the places in the queues to those that wait.

    Invariant: all owners first, then the queues in the order of asking, and all of it before any batch goes on.
    """
    owners: list[tuple[datetime, str, str, bool]] = []
    places: list[tuple[datetime, str, str]] = []
    for batch in batches:
        if batch.state.closed or (batch.state.state is State.IDLE and batch.state.version > 0):
            continue  # it was reset: it has nothing any more
        over = bool(batch.state.result) or batch.state.state in FINAL
        for node in _operations(batch.state):
            granted = node.phases.get(GRANTED)
            if granted is not None:
                kept = _running(batch.state) if over else _devices(granted)
                owners += [(granted[0], batch.name, device, over) for device in kept]
            elif ASKED in node.phases and not over:
                asked = _asked(node) or node.started
                places += [(asked, batch.name, device) for device in _devices(node.phases[ASKED])]
    for since, owner, device, leaving in sorted(owners):
        if not sharing.restore(device, owner, since, leaving=leaving):
            places.append((since, owner, device))
    for since, owner, device in sorted(places):
        sharing.wait_again(device, owner, since)


def waiting_text(batch: Batch, sharing: Sharing, node: Node) -> list[str]:
    """Return what an operation waits for: one text for each shared device that it has asked for and has not."""
    if GRANTED in node.phases or ASKED not in node.phases:
        return []
    names = {device: name for name, device in batch.equipment.items()}
    texts: list[str] = []
    for device in _devices(node.phases[ASKED]):
        queue, holder = sharing.queue(device), sharing.holder(device)
        if batch.name not in queue:
            continue
        if holder is None:
            why = f"which nobody holds, but {device} is not known to rest"
        else:
            why = f"held by {holder.owner} since {format_time(holder.since)}"
            why += " until its run has ended" if holder.leaving else ""
        texts.append(f"waits for {names.get(device, device)}, {why}, {_nth(queue.index(batch.name) + 1)} in the queue")
    return texts


def _operations(state: BatchState) -> list[Node]:
    return [n for n in state.nodes.values() if n.verb == "operation" and n.status is not StepStatus.COMPLETE]


def _running(state: BatchState) -> list[str]:
    """Return the devices in which a batch that has ended left a run of which nobody knows that it has ended."""
    return list(dict.fromkeys(intent.device for intent in state.open_intents() if intent.action == "start"))


def _devices(phase: tuple[datetime, dict[str, Any]]) -> list[str]:
    return [str(device) for device in phase[1]["devices"]]


def _asked(node: Node) -> datetime | None:
    asked = node.phases.get(ASKED)
    return None if asked is None else parse_time(str(asked[1]["since"]))


def _nth(number: int) -> str:
    teen = 10 <= number % 100 <= 20
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
