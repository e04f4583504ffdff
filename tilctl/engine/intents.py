"""Closing intents: by evidence of the devices, or by a person where the evidence does not close."""

from __future__ import annotations

from typing import Any

from tilctl.engine.batch import Batch
from tilctl.engine.context import Context
from tilctl.engine.state import Intent
from tilctl.journal import events as ev
from tilctl.plant.control.dispense import Closure, Evidence, close_evidence, end_dispense
from tilctl.plant.unit import Way

SLIP = 0.02  # share by which a peristaltic pump may move less than it counts (engineering default)


def enough(intent: Intent) -> float:
    """Return from how many mL on a dispense counts as done where its step is not there to say so."""
    return float(intent.args["volume"]) * (1.0 - SLIP)


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
    after = await end_dispense(batch.plant, way)
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
    outcome = "nothing" if not (counted and delivered) else "done" if delivered >= wanted else "partial"
    await batch.record(ev.IntentClosed(intent.number, intent.path, outcome, delivered, counted, evidence))
    return ""


def _judge(batch: Batch, intent: Intent, before: Evidence, after: Evidence | None) -> Closure:
    if after is None:
        return Closure(None, None, None, None, closes=False, why="pump or scales do not answer")
    dry = bool(intent.args.get("empty"))
    return close_evidence(before, after, batch.density(str(intent.args["from"])), may_run_dry=dry)


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
        {"inputs": inputs, "containers": [], "intent": intent.number},
        None,
        intent.number,
    )
    await context.prompts.wait(prompt)
    context.clear(f"in-doubt-{intent.number}")
    answer = prompt.answer or {}
    delivered = float(answer["delivered"])
    outcome = "done" if delivered >= enough(intent) else "partial" if delivered > 0 else "nothing"
    await batch.record(
        ev.IntentClosed(
            intent.number, intent.path, outcome, delivered, intent.counted_ml, {"why": str(answer["why"])}, by="person"
        )
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
