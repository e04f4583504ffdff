"""`freeze`: run a freezing profile.  Once started it is never paused, stopped by a hold, or started again.

What follows the run to its end is `engine/freezing_run.py`, in every state of the batch; this step starts it and waits.
"""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

from devices.document import DocumentError
from devices.instrument import DeviceError, NotApplied, OutcomeUnknown
from recipes.freezing_model import FreezeProfile, program
from recipes.steps import Freeze
from tilctl.engine.context import Context
from tilctl.engine.errors import StepError
from tilctl.engine.freezing_run import failed_alarm, frozen_profile, may_refreeze
from tilctl.engine.shield import finish
from tilctl.engine.state import Intent
from tilctl.journal import events as ev
from tilctl.plant.outputs import Cause, OutputRefused

REFREEZE, RESCUED, DISCARD = "refreeze", "rescued to vapour by hand", "discard"


async def run(context: Context, step: Freeze) -> dict[str, Any]:
    """Have freezer and load, then run."""
    load = [container.name for container in context.batch.state.ledger.family(step.load)]
    async with context.alone(context.batch.equipment[step.with_], *load):
        return await _run(context, step)


async def _run(context: Context, step: Freeze) -> dict[str, Any]:
    """Load the programme, start it once, wait for its end; what failed is a person's to decide."""
    batch = context.batch
    device = batch.equipment[step.with_]
    profile = _frozen(context, step)
    while True:
        intents = batch.state.intents_of(context.path)
        intent = intents[-1] if intents else None
        started = False
        if intent is not None and intent.outcome == "partial":
            decision = await _decided(context, intent)
            if decision != REFREEZE:
                return {"profile": profile.id, "intent": intent.number, "decision": decision}
            intent = None
        if intent is None or intent.outcome == "nothing":
            intent, started = await _start(context, step, device, profile), True
        if intent.outcome == "":
            context.freezing.follow(intent.number)
            await context.freezing.closed(intent.number)
        match intent.outcome:
            case "done":
                return {"profile": profile.id, "intent": intent.number}
            case "nothing" if started:  # Invariant: a start that came to nothing is not sent again without a person
                reason = f"{context.path}: {device} did not take the start"
                raise StepError(reason, "see to the freezer, then restart the batch")
            case "":
                raise StepError(f"{context.path}: the run is not followed any more", "look at the freezer, restart")
            case _:
                pass  # it failed, or an earlier life sent nothing: once more round


async def _decided(context: Context, intent: Intent) -> str:
    """Return what a person decided of a failed run.  Raises StepError only by its wait being cancelled.

    Invariant: a run that failed is followed by another only by a person's signed decision, as an intent of its own.
    """
    batch = context.batch
    phase = f"decided_{intent.number}"
    if phase in context.node.phases:
        return str(context.node.phases[phase][1]["decision"])
    choices = [REFREEZE, RESCUED, DISCARD] if may_refreeze(batch, intent) else [RESCUED, DISCARD]
    inputs: dict[str, Any] = {
        "decision": {"type": "choice", "choices": choices, "label": "what is, or was, done with the bags"},
        "why": {"type": "text", "label": "why"},
        "sign.operator": {"type": "text", "label": "operator (name or badge)"},
    }
    alarm = batch.state.alarms.get(failed_alarm(context.path))
    text = f"A freezing run failed. {alarm.text if alarm else ''} What becomes of the bags?"
    if REFREEZE in choices:
        text += f" {REFREEZE}: bring the chamber back to its start first"
    spec: dict[str, Any] = {"inputs": inputs, "sign": ["operator"], "containers": [], "intent": intent.number}
    prompt = await context.prompts.ask(context.path, "freeze-failed", text, spec, None, intent.number)
    await context.prompts.wait(prompt)
    answer = prompt.answer or {}
    decision, who, why = (str(answer[key]) for key in ("decision", "sign.operator", "why"))
    # Invariant: in one transaction, so that a crash has it neither twice nor forgotten.
    batch.note(ev.ExceptionRaised("freeze-failed", f"{decision}, decided by {who}: {why}", context.path))
    if failed_alarm(context.path) in batch.state.alarms:
        context.clear(failed_alarm(context.path))
    await batch.record(ev.StepPhase(context.path, phase, {"decision": decision, "who": who}))
    return decision


def _frozen(context: Context, step: Freeze) -> FreezeProfile:
    """Return the profile as it was frozen at the start of the batch."""
    try:
        return frozen_profile(context.batch.state, step.profile)
    except DocumentError as error:
        raise StepError(f"{context.path}: the profile on record cannot be used: {error}", "stop the batch") from error


async def _start(context: Context, step: Freeze, device: str, profile: FreezeProfile) -> Intent:
    batch = context.batch
    sequence = await _ready(context, device)
    number = batch.next_intent()
    args = {"sequence": sequence % 65535 + 1, "profile": profile.id, "load": step.load}
    opened = await batch.record(
        ev.IntentOpened(number, context.path, device, "start", args, {"sequence": float(sequence)})
    )
    path, seq = context.path, opened.seq
    try:
        rows = {"rows": program(profile)}
        await batch.plant.gate.act(batch.name, device, "load_program", rows, cause=Cause(path, seq, "attached"))
        await _ready(context, device)
    except (DeviceError, OutputRefused, StepError) as error:
        await _never_started(context, number, f"the programme was not taken: {error}", error)
    except asyncio.CancelledError:  # held, stopped: the start was not sent, and the freezer is free again
        why = {"why": "the batch was held before the start was sent"}
        await finish(batch.record(ev.IntentClosed(number, context.path, "nothing", None, None, why)))
        raise
    await finish(_send(context, number, device, Cause(path, seq, "one_shot")))  # a hold does not tear it
    return batch.state.intents[number]


async def _send(context: Context, number: int, device: str, cause: Cause) -> None:
    """Send the start, once, and follow what comes of it, also where nobody knows whether it was heard."""
    batch = context.batch
    start = {"sequence": batch.state.intents[number].args["sequence"]}
    try:
        await batch.plant.gate.act(batch.name, device, "start", start, cause=cause)
    except (OutcomeUnknown, NotApplied) as error:
        text = f"{context.path}: whether the run started is not known: {error}; {device} is asked until it says so"
        batch.note(ev.ExceptionRaised("freezing", text, context.path))
    except (DeviceError, OutputRefused) as error:
        await _never_started(context, number, f"the run did not start: {error}", error)
    context.freezing.follow(number)


async def _never_started(context: Context, number: int, why: str, error: Exception) -> NoReturn:
    """Close a start that was never sent as `nothing`, and hold the batch."""
    await context.batch.record(ev.IntentClosed(number, context.path, "nothing", None, None, {"why": why}))
    raise StepError(f"{context.path}: {why}", "see to the freezer, then restart the batch") from error


async def _ready(context: Context, device: str) -> int:
    """Return the number of the last run of a freezer that is ready for one; raises StepError."""
    batch = context.batch
    try:
        await batch.plant.scanner.fresh(device)
    except DeviceError as error:
        raise StepError(f"{context.path}: {device} is silent: {error}", "see to the freezer, then restart") from error
    sequence = batch.image.number(f"{device}.sequence")
    if sequence is None or batch.image.number(f"{device}.ready") != 1.0:
        raise StepError(f"{context.path}: {device} is not ready", "look at LN2, lid and chamber, then restart")
    return int(sequence)
