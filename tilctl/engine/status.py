"""What is known of a unit now, as JSON-able values: one answer for MQTT, HTTP and the command line."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from devices.instrument import DeviceState
from devices.reading import Reading
from recipes.model import step_at
from tilctl.engine.adjusting import adjustables
from tilctl.engine.allocation import waiting_text
from tilctl.engine.balancing import ledger_of
from tilctl.engine.batch import Batch
from tilctl.engine.machine import FINAL, State, legal_commands
from tilctl.engine.runner import Runner
from tilctl.engine.state import BatchState, StandingControl, StepStatus, format_time
from tilctl.engine.waits import describe
from tilctl.guard.alarm import AlarmState
from tilctl.guard.book import SetAside
from tilctl.guard.desk import Desk
from tilctl.journal.alarms import AlarmRaised
from tilctl.plant.unit import UnitPlant


def status_of(unit: UnitPlant, runner: Runner | None) -> dict[str, Any]:
    """Return the status of a unit; see `tilctl.engine.port.ControllerPort.status` for the keys."""
    readings = {name: _reading(unit, reading) for name, reading in sorted(_own(unit).items())}
    if runner is None:
        return {
            "state": State.IDLE.value, "state_version": 0, "batch": "", "recipe": "", "day": None, "operation": "",
            "path": "", "waits": [], "targets": {}, "controls": {}, "readings": readings, "containers": [],
            "ledger": {}, "adjustable": [], "procedure_mode": "automatic", "estimates": [], "releases": {},
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
        "targets": {tag: {"value": value, "unit": unit_} for tag, (value, unit_) in state.targets.items()},
        "controls": {of: _control(control) for of, control in state.controls.items()},
        "readings": readings,
        "containers": [
            {"name": c.name, "place": c.place, "volume_ml": round(c.volume_ml, 2)} for c in state.ledger if c.mounted
        ],
        "ledger": ledger_of(batch),
        "adjustable": adjustables(batch),
        "procedure_mode": state.mode,
        "estimates": batch.estimating.rows(),
        "releases": {
            path: {"outcome": lot.outcome, "verdicts": dict(lot.verdicts), "pending": list(lot.pending), "by": lot.by}
            for path, lot in state.lots.items()
        },
        "legal": [command.value for command in legal_commands(runner.state)],
        "reason": state.reason,
        "record": "failed" if batch.record_failed else "ok",
    }


def _control(control: StandingControl) -> dict[str, Any]:
    """Return what a control keeps at what, since when, and when it moved a target last."""
    cascade = control.cascade
    return {
        "at": cascade.at, "unit": cascade.unit, "deadband": cascade.deadband, "by": list(cascade.tags),
        "path": control.path, "since": format_time(control.since),
        "moved": None if control.moved is None else format_time(control.moved),
    }  # fmt: skip


def alarm_rows(desk: Desk) -> list[dict[str, Any]]:
    """Return what is on the book of a desk; see `ControllerPort.alarms`."""
    return [
        {
            "alarm": alarm.id,
            "priority": alarm.priority or desk.declared.get(alarm.id, ""),
            "text": alarm.text,
            "since": format_time(alarm.since),
            "state": alarm.state.value,
            "active": alarm.active,
            "waiting": alarm.waiting,
            "by": alarm.by,
            "aside": {how: _aside(flag) for how, flag in alarm.aside.items()},
            "help": alarm.help,
            "values": alarm.values,
            "seq": alarm.seq,
            "group": alarm.group,
            "escalated": alarm.escalated,
        }
        for alarm in desk.book
    ]


def _aside(flag: SetAside) -> dict[str, Any]:
    until = None if flag.until is None else format_time(flag.until)
    return {"by": flag.by, "reason": flag.reason, "until": until, "work_order": flag.work_order}


def alarms_beside(batch: Batch) -> list[dict[str, Any]]:
    """Return the alarms that are active and could not be put on the record of a batch."""
    return unnoted_rows(entry for name, entry in batch.beside.raised.items() if name not in batch.state.alarms)


def unnoted_rows(alarms: Iterable[tuple[datetime, AlarmRaised]]) -> list[dict[str, Any]]:
    """Return alarms that are on no record, with since when."""
    state = AlarmState.UNACKNOWLEDGED.value
    return [
        {
            "alarm": alarm.alarm, "priority": alarm.priority, "text": alarm.text, "since": format_time(since),
            "state": state, "active": True, "waiting": True, "by": "", "aside": {}, "help": alarm.help,
            "values": alarm.values, "on_record": False,
        }
        for since, alarm in alarms
    ]  # fmt: skip


def waits_of(runner: Runner) -> list[dict[str, Any]]:
    """Return why it is not moving: what it waits for, each with what is known of it.

    Entries have `path` and `text`; `due` (a moment) where time alone will end it, `operands` where a condition will,
    `prompt` where a person will, and `device` where an instrument is silent.
    """
    state = runner.batch.state
    queued = [
        {"path": node.path, "text": text}
        for node in state.nodes.values()
        if node.verb == "operation" and node.status is not StepStatus.COMPLETE
        for text in waiting_text(runner.batch, runner.sharing, node)
    ]
    if runner.state is State.HELD:
        return [*_held(state), *queued]
    if runner.state in FINAL:
        return [{"path": "", "text": "operator: reset"}]
    if runner.state is State.PAUSED:
        return [{"path": "", "text": "operator: resume"}, *queued]
    waits: list[dict[str, Any]] = [
        {"path": prompt.path, "text": f"operator: {prompt.text}", "prompt": prompt.id, "due": prompt.spec.get("due")}
        for prompt in state.prompts.values()
        if prompt.open
    ]
    waits += [  # answered, but the answer is not in force yet
        {"path": prompt.path, "text": f"the answer to {prompt.id} takes effect", "due": format_time(prompt.effective)}
        for prompt in state.prompts.values()
        if prompt.effective is not None and not prompt.answered and not prompt.withdrawn
    ]
    waits += queued
    waits += [{"path": path, "text": f"operator: {wanted}"} for path, wanted in runner.batch.pacing.wanted()]
    for node in state.nodes.values():
        if node.status is not StepStatus.ACTING or (step := step_at(runner.batch.recipe, node.path)) is None:
            continue
        if beside := runner.batch.exclusion.waiting(node.path):
            waits.append({"path": node.path, "text": beside})
        else:
            waits += describe(runner.batch, node, step)
    return waits + _silent(runner)


def _held(state: BatchState) -> list[dict[str, Any]]:
    """Return what a held batch waits for: a restart, with each step that could not do what it should."""
    held = [node for node in state.nodes.values() if node.reason]
    if not held:
        return [{"path": "", "text": f"operator: restart ({state.held_for or 'held'})"}]
    failed = [node for node in held if node.status in (StepStatus.FAILED, StepStatus.IN_DOUBT)]
    return [{"path": n.path, "text": f"operator: restart ({n.reason})"} for n in failed or held[-1:]]


def _silent(runner: Runner) -> list[dict[str, Any]]:
    """Return the instruments of the unit that do not answer: whatever waits for one of them waits for that."""
    plant = runner.batch.plant
    names = [
        *plant.devices,
        *(place.scale_device for place in plant.site.places.values()),
        *runner.batch.equipment.values(),
    ]
    silent: list[dict[str, Any]] = []
    for name in dict.fromkeys(name for name in names if name):
        status = plant.instruments[name].status
        if status.state is not DeviceState.ONLINE:
            silent.append({"path": "", "device": name, "text": f"{name} is {status.state.value}: {status.text}"})
    return silent


def _own(unit: UnitPlant) -> dict[str, Reading]:
    return {name: reading for name, reading in unit.image.all().items() if unit.sees(name)}


def _reading(unit: UnitPlant, reading: Reading) -> dict[str, Any]:
    return {
        "v": reading.value,
        "u": reading.unit,
        "q": reading.quality.value,
        "age_s": round(unit.clock.monotonic() - reading.at, 3),
    }
