"""What an acting step waits for: its condition with every operand and limit, its due time, its effect under way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from devices.quantity import Quantity, show
from recipes.expr import ExprError, Operand, Scope, compile, explain
from recipes.limits import limits
from recipes.model import step_at
from recipes.steps import AnyVerb, ForEach, Freeze, Incubate, Perfuse, Repeat, Transfer, Wait
from tilctl.engine.batch import Batch
from tilctl.engine.scope import BatchScope
from tilctl.engine.state import Intent, Node, format_time
from tilctl.engine.turns import Turn, awaited
from tilctl.engine.verbs.incubate import STAFFED
from tilctl.engine.waiting import seconds_until

Entry = dict[str, Any]


def describe(batch: Batch, node: Node, step: AnyVerb) -> list[Entry]:
    """Return what an acting step waits for, besides people and shared equipment.  Never raises."""
    scope = BatchScope(batch, aliases(batch, node.path), node.path)
    match step:
        case Wait() if step.for_ is not None:
            return [_entry(node, f"wait for {step.for_}") | _due(node, step.for_, scope)]
        case Wait() | Incubate():
            return [_condition(batch, node, step, scope)]
        case Transfer():
            return [_transfer(batch, node, step, scope)]
        case Freeze():
            return [_freeze(batch, node, step)]
        case Repeat() if (turn := awaited(node, batch.clock.now())) is not None:
            return [_turn(batch, node, step, scope, turn)]
        case Perfuse() if (turn := awaited(node, batch.clock.now())) is not None:
            return [_turn(batch, node, step.turns, scope, turn)]
        case _:
            return []


def aliases(batch: Batch, path: str) -> dict[str, str]:
    """Return what the loop names above a step stand for, as the record has settled it (`f` -> `flask[2]`)."""
    found: dict[str, str] = {}
    parts = path.split("/")
    for length in range(1, len(parts)):
        above = "/".join(parts[:length])
        step, node = step_at(batch.recipe, above), batch.state.node(above)
        if isinstance(step, ForEach) and node is not None and "members" in node.phases and parts[length].isdigit():
            names: list[str] = node.phases["members"][1]["names"]
            number = int(parts[length])
            if 1 <= number <= len(names):
                found[step.as_] = names[number - 1]
    return found


def _entry(node: Node, text: str) -> Entry:
    return {"path": node.path, "text": text}


def _due(node: Node, amount: str, scope: Scope) -> Entry:
    """Return the moment so long after the step began, or nothing where that is not known."""
    try:
        span = compile(amount).evaluate(scope)
    except ExprError:
        return {}
    if not isinstance(span, Quantity) or span.unit != "s":
        return {}
    return {"due": format_time(node.started + timedelta(seconds=span.value))}


def _condition(batch: Batch, node: Node, step: Wait | Incubate | Repeat, scope: Scope) -> Entry:
    text = step.until or "true"
    entry = _entry(node, f"{step.verb} until {text}")
    if (staffed := node.phases.get(STAFFED)) is not None:
        return entry | {"text": f"{entry['text']}, then for working time", "due": staffed[1]["until"]}
    try:
        expression = compile(text)
        entry["operands"] = _operands(explain(expression, scope), limits(expression, scope))
        ahead = seconds_until(expression, scope)
    except ExprError as error:
        return entry | {"text": f"{entry['text']}, which cannot be judged: {error}"}
    if ahead is not None:
        entry["due"] = format_time(batch.clock.now() + timedelta(seconds=ahead))
    if isinstance(step, Wait) and step.timeout is not None and (limit := _due(node, step.timeout, scope)):
        entry["text"] += f", at the latest {limit['due']}"
        entry["due"] = min(limit["due"], entry.get("due", limit["due"]))
    return entry


def _turn(batch: Batch, node: Node, step: Repeat, scope: Scope, turn: Turn) -> Entry:
    entry = _entry(node, f"turn {turn.number} of at most {step.max}")
    entry["due"] = format_time(turn.due)
    if step.until is None:
        return entry
    ends = _condition(batch, node, step, scope)
    text = f"{entry['text']}, unless {step.until}"
    return ends | {"text": text, "due": min(entry["due"], ends.get("due", entry["due"]))}


def _operands(operands: Iterable[Operand], wanted: Mapping[str, str]) -> list[Entry]:
    return [
        {"name": o.name, "value": o.value, "unit": o.unit, "quality": o.quality.value, "age_s": o.age}
        | ({"limit": wanted[o.name]} if o.name in wanted else {})
        for o in operands
    ]


def _transfer(batch: Batch, node: Node, step: Transfer, scope: Scope) -> Entry:
    ordered = node.phases.get("ordered")
    if ordered is None:
        return _entry(node, "transfer")
    order = ordered[1]
    text = f"transfer {order['source']} to {order['destination']}, {order['volume']:.0f} mL"
    intents = batch.state.intents_of(node.path)
    if not intents and step.settle is not None:
        settles = _due(node, step.settle, scope)
        if settles.get("due", "") > format_time(batch.clock.now()):
            return _entry(node, f"{text}, after settling for {step.settle}") | settles
    rests = str(node.phases["rests"][1]["until"]) if "rests" in node.phases else ""
    if intents and intents[-1].outcome and rests > format_time(batch.clock.now()):
        return _entry(node, f"{text}, in parts between which what is rocked gets oxygen") | {"due": rests}
    if intents and intents[-1].outcome == "":
        return _entry(node, text) | {"operands": _dispense(batch, intents[-1])}
    return _entry(node, text)


def _dispense(batch: Batch, intent: Intent) -> list[Entry]:
    wanted = show(float(intent.args.get("volume", 0.0)), "mL")
    return _readings(batch, intent.device, {"running": "== false", "dispensed": f"of {wanted}"})


def _freeze(batch: Batch, node: Node, step: Freeze) -> Entry:
    device = batch.equipment.get(step.with_, step.with_)
    wanted = {"program_state": "== complete", "chamber_temperature": "", "sample_temperature": "", "segment": ""}
    return _entry(node, f"freezing run {step.profile} on {device}") | {"operands": _readings(batch, device, wanted)}


def _readings(batch: Batch, device: str, wanted: Mapping[str, str]) -> list[Entry]:
    now = batch.clock.monotonic()
    found: list[Operand] = []
    for point in wanted:
        reading = batch.image.get(f"{device}.{point}")
        if reading is not None:
            unit = "" if reading.unit in ("bool", "symbol", "text") else reading.unit
            found.append(Operand(f"{device}.{point}", reading.value, unit, reading.quality, now - reading.at))
    return _operands(found, {f"{device}.{point}": limit for point, limit in wanted.items() if limit})
