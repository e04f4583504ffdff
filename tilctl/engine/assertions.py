"""What must hold of a batch at any time.  Cheap, and left on: the answer to a violation is a culture-safe hold."""

from __future__ import annotations

import asyncio

from tilctl.engine.batch import Batch
from tilctl.engine.machine import State
from tilctl.journal import events as ev
from tilctl.journal.chain import Record

TRANSIENT_WITHIN = {  # s that a state may last which ends by itself; a step under way has 120 s to close its evidence
    State.HOLDING: 300.0,
    State.RESTARTING: 300.0,
    State.STOPPING: 300.0,
    State.ABORTING: 300.0,
}
NOISE_ML, NOISE_SHARE = 20.0, 0.05  # what a ledger of many doses may be off by (engineering default)


def wrong_with(
    batch: Batch,
    state: State,
    since: float,
    walk: asyncio.Task[None] | None,
    transient: asyncio.Task[None] | None,
) -> tuple[str, str] | None:
    """Return the name and the text of what is wrong with a batch that has been in a state `since` (s), or None."""
    if state in (State.RUNNING, State.PAUSING) and (walk is None or walk.done()):
        return "walk", f"the batch is {state.value} and nothing walks"
    bound = TRANSIENT_WITHIN.get(state)
    if bound is not None:
        if batch.clock.monotonic() - since > bound:
            return "transient", f"the batch has been {state.value} for more than {bound:g} s"
        if transient is None or transient.done():
            return "transient", f"the batch is {state.value} and nothing works on it"
    for device in batch.plant.devices:
        owner = batch.plant.gate.owner(device)
        if owner != batch.name:
            return "owner", f"{device} belongs to {owner or 'nobody'}, not to {batch.name}"
    return None


def wrong_after(batch: Batch, record: Record) -> str:
    """Return what an event that has just been folded shows to be wrong, "" where all is well."""
    match record.event:
        case ev.IntentClosed() as event:
            if event.intent in batch.state.closed_twice:
                return f"intent {event.intent} of {event.path} was closed twice"
            intent = batch.state.intents[event.intent]
            names = {str(intent.args[key]) for key in ("from", "to") if key in intent.args}
        case ev.Moved() as event:
            names = {event.from_container, event.to_container}
        case _:
            return ""
    return next(filter(None, (_volume(batch, name) for name in sorted(names))), "")


def _volume(batch: Batch, name: str) -> str:
    """Return what is wrong with a container's volume in the ledger."""
    container = batch.state.ledger.get(name)
    if container is None or container.family not in batch.recipe.containers:
        return ""
    limit = batch.limit_ml(container.name)
    noise = max(NOISE_ML, NOISE_SHARE * limit)
    if container.volume_ml < -noise:
        return f"{container.name} holds {container.volume_ml:.1f} mL by the ledger: less than nothing"
    if container.volume_ml > limit + noise:
        return f"{container.name} holds {container.volume_ml:.1f} mL by the ledger, its limit is {limit:.0f} mL"
    return ""
