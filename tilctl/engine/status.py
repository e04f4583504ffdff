"""What is known of a unit now, as JSON-able values: one answer for MQTT, HTTP and the command line."""

from __future__ import annotations

from typing import Any

from devices.reading import Reading
from recipes.expr import compile, explain
from recipes.model import walk
from tilctl.engine.machine import FINAL, State, legal_commands
from tilctl.engine.runner import Runner
from tilctl.engine.scope import BatchScope
from tilctl.engine.state import Node, StepStatus, format_time
from tilctl.plant.unit import UnitPlant


def status_of(unit: UnitPlant, runner: Runner | None) -> dict[str, Any]:
    """Return the status of a unit; see `tilctl.engine.port.ControllerPort.status` for the keys."""
    readings = {name: _reading(unit, reading) for name, reading in sorted(_own(unit).items())}
    if runner is None:
        return {
            "state": State.IDLE.value, "state_version": 0, "batch": "", "recipe": "", "day": None, "operation": "",
            "path": "", "waits": [], "alarms": [], "targets": {}, "readings": readings, "containers": [],
            "legal": [command.value for command in legal_commands(State.IDLE)], "reason": "",
        }  # fmt: skip
    batch, state = runner.batch, runner.batch.state
    day = state.since("day0", batch.clock.now())
    acting = [node for node in state.nodes.values() if node.status is not StepStatus.COMPLETE]
    return {
        "state": runner.state.value,
        "state_version": state.version,
        "batch": batch.name,
        "recipe": batch.recipe.recipe,
        "day": None if day is None else round(day.total_seconds() / 86400, 4),
        "operation": state.operation,
        "path": acting[-1].path if acting else "",
        "waits": waits_of(runner),
        "alarms": [
            {"alarm": a.id, "priority": a.priority, "text": a.text, "since": format_time(a.since)}
            for a in state.alarms.values()
        ],
        "targets": {tag: {"value": value, "unit": unit_} for tag, (value, unit_) in state.targets.items()},
        "readings": readings,
        "containers": [
            {"name": c.name, "place": c.place, "volume_ml": round(c.volume_ml, 2)} for c in state.ledger if c.mounted
        ],
        "legal": [command.value for command in legal_commands(runner.state)],
        "reason": state.reason,
        "record": "failed" if batch.record_failed else "ok",
    }


def waits_of(runner: Runner) -> list[dict[str, Any]]:
    """Return why it is not moving: what each acting step waits for, with every operand of its condition."""
    state = runner.batch.state
    if runner.state is State.HELD:
        held = [node for node in state.nodes.values() if node.reason]
        reason = held[-1].reason if held else "held"
        return [{"path": held[-1].path if held else "", "text": f"operator: restart ({reason})"}]
    if runner.state in FINAL:
        return [{"path": "", "text": "operator: reset"}]
    waits = [
        {"path": prompt.path, "text": f"operator: {prompt.text}", "prompt": prompt.id, "due": prompt.spec.get("due")}
        for prompt in state.prompts.values()
        if prompt.open
    ]
    waits += [
        _wait(runner, node)
        for node in state.nodes.values()
        if node.status is StepStatus.ACTING and node.verb in ("wait", "incubate", "transfer", "freeze")
    ]
    return waits


def _wait(runner: Runner, node: Node) -> dict[str, Any]:
    batch = runner.batch
    wait: dict[str, Any] = {"path": node.path, "text": node.verb}
    for operation in batch.recipe.procedure:
        for path, step in walk(operation.steps, operation.id):
            if path != node.path:
                continue
            until = getattr(step, "until", None)
            if isinstance(until, str):
                operands = explain(compile(until), BatchScope(batch, {}))
                wait["text"] = f"{node.verb} until {until}"
                wait["operands"] = [
                    {"name": o.name, "value": o.value, "unit": o.unit, "quality": o.quality.value, "age_s": o.age}
                    for o in operands
                ]
    ordered = node.phases.get("ordered")
    if ordered is not None:
        wait["text"] = f"transfer {ordered[1]['source']} to {ordered[1]['destination']}, {ordered[1]['volume']:.0f} mL"
    return wait


def _own(unit: UnitPlant) -> dict[str, Reading]:
    names = set(unit.devices) | {place.scale_device for place in unit.site.places.values()}
    return {name: reading for name, reading in unit.image.all().items() if name.partition(".")[0] in names}


def _reading(unit: UnitPlant, reading: Reading) -> dict[str, Any]:
    return {
        "v": reading.value,
        "u": reading.unit,
        "q": reading.quality.value,
        "age_s": round(unit.clock.monotonic() - reading.at, 3),
    }
