"""Recovery: a batch that was under way when the controller went down comes back by folding its record.

In this order, each part harmless to repeat: the record is verified and folded; every device is read before anything
is written; standing targets that a device lost are written again; intents that nobody closed are resolved by evidence;
then each step's `on_restart` decides.  The batch
comes back Held unless every step under way may resume and the outage is within its limits.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from devices.clock import Clock
from devices.document import DocumentError, parse, validate
from devices.instrument import DeviceError
from devices.quantity import parse_as
from recipes.model import Recipe, walk
from recipes.steps import AnyVerb
from tilctl.config import Site
from tilctl.engine.batch import Batch
from tilctl.engine.errors import StepError
from tilctl.engine.intents import enough, settle, way_of
from tilctl.engine.machine import FINAL, QUIESCENT, Command, State
from tilctl.engine.runner import TARGET_OFF, Runner
from tilctl.engine.state import BatchState, Node, StepStatus, bare_path, format_time, parse_time
from tilctl.engine.verbs.set_target import write_target
from tilctl.journal import events as ev
from tilctl.journal.store import Journal, JournalError
from tilctl.plant.suite import Suite
from tilctl.plant.unit import PlantError

RESUMES = ("resume", "redo", "reattach")
GOING_ON = (State.RUNNING, State.PAUSING, State.RESTARTING)
READ = "read"
READ_WITHIN = 10.0  # s for each instrument to show itself before anything is written


async def reopen(path: Path, site: Site, suite: Suite, clock: Clock) -> Batch:
    """Open the record of a batch and fold it; raises JournalError when it is broken, or is not of this site."""
    journal = await Journal.open(path, clock)
    created = journal.records()[0].event
    if not isinstance(created, ev.BatchCreated) or created.unit not in site.units:
        await journal.close()
        raise JournalError(f"{path}: this is no batch of a unit of this site ({', '.join(site.units)})")
    try:  # the schema only: it was checked when it was started, and a later, stricter check does not unseat it
        recipe = validate(parse(created.recipe_text, f"{created.recipe} as frozen in {path.name}"), Recipe, "schema")
    except DocumentError as error:
        await journal.close()
        raise JournalError(f"{path}: this version cannot run the recipe frozen in it:\n{error}") from error
    shared = {role.device for role in site.shared.values()}
    taken = tuple(device for device in created.bindings.values() if device in shared)
    return Batch(created.batch, journal, recipe, suite.units[created.unit], clock, created.bindings, taken)


async def resume(runner: Runner, suite: Suite, last_beat: str | None) -> None:
    """Bring a reopened batch back; see the module for the order."""
    batch = runner.batch
    state = batch.state
    log = structlog.get_logger("recovery").bind(batch=batch.name)
    now = batch.clock.now()
    outage, set_back = _outage(batch, last_beat, now)
    if outage is not None:
        await batch.record(ev.Outage(format_time(outage), format_time(now), round((now - outage).total_seconds(), 3)))
    readings = await _read_everything(suite)
    for path in _granted(state):
        for device in state.nodes[path].phases["granted"][1]["devices"]:
            suite.sharing.restore(str(device), batch.name)
    await _reestablish(runner)  # in every state: targets stand until the unit is freed
    resolved = await _resolve(batch)
    seconds = 0.0 if outage is None else (now - outage).total_seconds()
    against = _against_resuming(batch, seconds)
    if set_back:
        against.append("the clock was set back: how long the outage was is not known")
    against += [f"{name} is {how}" for name, how in readings.items() if how != READ and name in _needed(batch)]
    report: dict[str, Any] = {
        "state": state.state.value, "outage_s": round(seconds, 3), "devices": readings, "intents": resolved,
        "holds": against,
    }  # fmt: skip
    await batch.record(ev.Recovered(report))
    runner.prompts.resume()
    log.info("recovered", **report)
    if runner.state is State.IDLE:  # it died between the making of the record and the first state on it
        runner.fire(Command.START, "the controller was restarted")
        return
    # Invariant: what is decided here is decided on the live state; a guard may have held it meanwhile.
    if runner.state in QUIESCENT:
        await runner.make_safe_again()
        return
    if runner.state not in GOING_ON:
        runner.resume_transient("the controller was restarted")
        return
    if not against:
        runner.go_on()
        return
    runner.alarm("restarted", "high", f"the controller was down for {seconds:.0f} s: {'; '.join(against)}")
    await batch.record(ev.ExceptionRaised("restart", "; ".join(against), ""))
    runner.fire("fault", f"after a restart: {'; '.join(against)}")


def _outage(batch: Batch, last_beat: str | None, now: datetime) -> tuple[datetime | None, bool]:
    """Return since when nobody was in control (the last sign of life or event), and whether the clock was set back.

    An outage after which nobody recovered the batch goes on: the controller that noted it died in its recovery.
    """
    for record in reversed(batch.journal.records()):
        if isinstance(record.event, ev.Outage):
            since = parse_time(record.event.from_t)
            return min(since, now), since > now
        if isinstance(record.event, ev.Recovered):
            break
    known = [parse_time(record.t) for record in batch.journal.records()[-1:]]
    if last_beat is not None:
        known.append(parse_time(last_beat))
    since = max(known, default=None)
    return (None, False) if since is None else (min(since, now), since > now)


async def _read_everything(suite: Suite) -> dict[str, str]:
    """Invariant: every device is read before anything is written.  Return how each of them is."""

    async def look(name: str) -> str:
        try:
            async with asyncio.timeout(READ_WITHIN):
                await suite.scanner.fresh(name)
        except (DeviceError, TimeoutError) as error:
            return f"silent: {error}"
        return READ

    names = list(suite.instruments)
    return dict(zip(names, await asyncio.gather(*(look(name) for name in names)), strict=True))


async def _reestablish(runner: Runner) -> None:
    """Write the standing targets that a device no longer has, as after a power cut; the cells do not wait."""
    batch = runner.batch
    for tag, (value, _unit) in batch.state.targets.items():
        equipment, _, name = tag.partition(".")
        now = batch.image.number(f"{batch.equipment[equipment]}.{name}_target")
        if not isinstance(value, (int, float)) or (now is not None and abs(now - value) <= TARGET_OFF):
            continue
        try:
            await write_target(batch, tag, float(value))
        except StepError as error:
            runner.alarm(f"target-lost-{tag}", "critical", f"{error.reason} ({error.hint})")


def _needed(batch: Batch) -> set[str]:
    """Return the instruments without which a batch cannot go on: its own, and what weighs in its places."""
    scales = {place.scale_device for place in batch.plant.site.places.values()}
    return {*batch.plant.devices, *scales, *batch.equipment.values()}


def _granted(state: BatchState) -> list[str]:
    """Return the operations whose shared equipment is still theirs; what has ended keeps only a freezer that runs."""
    if state.state in FINAL and not any(intent.action == "start" for intent in state.open_intents()):
        return []
    return [
        path
        for path, node in state.nodes.items()
        if node.verb == "operation" and "granted" in node.phases and node.status is not StepStatus.COMPLETE
    ]


async def _resolve(batch: Batch) -> dict[str, str]:
    """Close the dispenses that were under way by what the devices say now."""
    resolved: dict[str, str] = {}
    for intent in batch.state.open_intents():
        if intent.action != "dispense" or intent.outcome:
            continue
        try:
            way = way_of(batch, str(intent.args["from"]), str(intent.args["to"]))
        except (PlantError, KeyError) as error:
            resolved[str(intent.number)] = str(error)
            continue
        why = await settle(batch, intent, way, wanted=enough(intent))
        resolved[str(intent.number)] = why or "closed by evidence"
    return resolved


def _against_resuming(batch: Batch, outage: float) -> list[str]:
    """Return why a person has to restart the batch: one text for each step that may not go on by itself."""
    against: list[str] = []
    for node in batch.state.nodes.values():
        if node.verb == "operation" or node.status is StepStatus.COMPLETE:
            continue
        step = _step_at(batch, node)
        if step is None:
            against.append(f"{node.path} is not in the recipe")
        elif node.status is not StepStatus.ACTING:
            against.append(f"{node.path} is {node.status.value}")
        elif step.on_restart not in RESUMES:
            against.append(f"{node.path} has to be restarted by a person (on_restart: {step.on_restart})")
        elif step.max_outage is not None and outage > parse_as(step.max_outage, "s"):
            against.append(f"{node.path} allows an outage of {step.max_outage}, it was {outage:.0f} s")
    return against


def _step_at(batch: Batch, node: Node) -> AnyVerb | None:
    """Return the step of the recipe that a node walks; numbers of loops and branches are left out of its path."""
    bare = bare_path(node.path)
    for operation in batch.recipe.procedure:
        for path, step in walk(operation.steps, operation.id):
            if path == bare:
                return step
    return None
