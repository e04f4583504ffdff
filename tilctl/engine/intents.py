"""Closing intents: by evidence of the devices, or by a person where the evidence does not close."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tilctl.engine.batch import Batch
from tilctl.engine.context import Context
from tilctl.engine.state import Intent
from tilctl.journal import events as ev
from tilctl.plant.control.dispense import end_dispense
from tilctl.plant.evidence import UNPROVABLE_ML, Closure, Evidence, close_evidence, untouched
from tilctl.plant.unit import Way

SLIP = 0.02  # share by which a peristaltic pump may move less than it counts (engineering default)


def enough(intent: Intent) -> float:
    """Return from how many mL on a dispense counts as done where its step is not there to say so."""
    return float(intent.args["volume"]) * (1.0 - SLIP)


def not_safe(device: str) -> str:
    """Return the alarm of a device that did not take what makes it safe; it is tried again."""
    return f"not-safe-{device}"


def way_of(batch: Batch, source: str, destination: str) -> Way:
    """Return the way between two mounted containers; raises PlantError when no line connects their places."""
    ledger = batch.state.ledger
    from_, to = ledger.get(source), ledger.get(destination)
    if from_ is None or to is None:
        raise KeyError(source if from_ is None else destination)
    return batch.plant.way(from_.place, to.place)


async def settle(batch: Batch, intent: Intent, way: Way, wanted: float) -> str:
    """Stop the pump, read the evidence and close the intent; "" when it closed, else why it is in doubt.

    Bounded in time; `wanted` (mL) is what makes the outcome `done` instead of `partial`.
    """
    after, ended = await end_dispense(batch.plant, way)
    for each in ended:
        if each.error:
            text = f"{each.device} could not be made safe: {each.error}"
            batch.note(ev.AlarmRaised(not_safe(each.device), "critical", text, intent.path))
    before = Evidence(**intent.evidence)
    closure = _judge(batch, intent, before, after)
    evidence = {
        "before": before.as_data(),
        "after": None if after is None else after.as_data(),
        "source_ml": _rounded(closure.source_ml),
        "destination_ml": _rounded(closure.destination_ml),
        "why": closure.why,
    }
    counted = _rounded(closure.counted_ml)
    if not closure.closes or closure.delivered_ml is None:
        text = f"{intent.path}: whether and how much went over is in doubt: {closure.why}"
        batch.note(ev.AlarmRaised(f"in-doubt-{intent.number}", "high", text, intent.path))
        await batch.record(ev.IntentClosed(intent.number, intent.path, "in_doubt", None, counted, evidence))
        return closure.why
    delivered = round(closure.delivered_ml, 3)
    # A pump that counted nothing did nothing; what the scales show then is their noise.
    nothing = counted == 0.0 or not (delivered or closure.line_ml)
    outcome = "nothing" if nothing else "done" if delivered >= wanted else "partial"
    if closure.exception:
        batch.note(ev.ExceptionRaised("evidence", f"{way.pump}: {closure.exception}", intent.path))
    kept = round(closure.line_ml, 3)
    await batch.record(ev.IntentClosed(intent.number, intent.path, outcome, delivered, counted, evidence, line_ml=kept))
    return ""


def room_of(batch: Batch, line: str) -> tuple[float, float]:
    """Return what a line may give back, and what it may still keep (mL)."""
    kept = batch.state.ledger.kept_by(line)
    swallows = next((each.swallows for each in batch.plant.site.lines if each.id == line), 0.0)
    return max(kept, 0.0), max(swallows - kept, 0.0)


def _judge(batch: Batch, intent: Intent, before: Evidence, after: Evidence | None) -> Closure:
    if after is None:
        return Closure(None, None, None, None, closes=False, why="pump or scales do not answer")
    dry, ordered = bool(intent.args.get("empty")), float(intent.args["volume"])
    density = batch.density(str(intent.args["from"]))
    line = room_of(batch, str(intent.args.get("way", "")))
    closure = close_evidence(before, after, density, may_run_dry=dry, ordered=ordered, line=line)
    # Invariant: after a crash a dose that the scales cannot tell from nothing goes to a person.
    crashed = intent.seq <= batch.found
    if crashed and closure.closes and ordered < UNPROVABLE_ML and not untouched(before, after):
        why = f"the controller was down meanwhile, and {ordered:g} mL cannot be told from nothing by the scales"
        return replace(closure, closes=False, delivered_ml=None, why=why)
    return closure


async def resolve(context: Context, intent: Intent) -> None:
    """Close an intent that an earlier try left open: by evidence, else a person says what was moved."""
    batch = context.batch
    source, destination = str(intent.args["from"]), str(intent.args["to"])
    way = way_of(batch, source, destination)
    # Invariant: an open intent is never commanded again; it is closed by evidence, or by a person.
    if intent.outcome == "" and not await settle(batch, intent, way, wanted=enough(intent)):
        return
    await end_dispense(batch.plant, way)  # whatever was not known, from now on nothing flows
    ordered = float(intent.args["volume"])
    inputs: dict[str, Any] = {
        "delivered": {"type": "number", "unit": "mL", "canonical": "mL", "min": 0.0, "max": ordered * 1.1 + 10},
        "why": {"type": "text", "label": "how you know"},
        "sign.operator": {"type": "text", "label": "operator (name or badge)"},
    }
    text = f"How many mL went from {source} to {destination}? {ordered:g} mL were commanded, the evidence is open"
    prompt = await context.prompts.ask(
        context.path,
        "reconcile",
        text,
        {"inputs": inputs, "containers": [], "intent": intent.number, "sequence": intent.args.get("sequence")},
        None,
        intent.number,
    )
    await context.prompts.wait(prompt)
    context.clear(f"in-doubt-{intent.number}")
    answer = prompt.answer or {}
    delivered = float(answer["delivered"])
    outcome = "done" if delivered >= enough(intent) else "partial" if delivered > 0 else "nothing"
    who, why = str(answer["sign.operator"]), str(answer["why"])
    batch.note(
        ev.ExceptionRaised("reconciled", f"{delivered:g} of {ordered:g} mL went over, says {who}: {why}", context.path)
    )
    evidence = {"why": why, "who": who}
    await batch.record(
        ev.IntentClosed(intent.number, intent.path, outcome, delivered, intent.counted_ml, evidence, by="person")
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
