"""Recovery: a batch that was under way when the controller went down comes back by folding its record.

In this order, each part harmless to repeat: the record is verified and folded, and says since when nobody was in
control; every device is read before anything is written; standing targets that a device lost are written again;
intents that nobody closed are resolved by evidence; commands that were cut off are answered; then each step's
`on_restart` decides.  The batch comes back Held unless every step under way may resume and the outage is within its
limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import structlog

from devices.instrument import DeviceError
from devices.quantity import parse_as
from recipes.expr import compile
from recipes.model import step_at, walk
from recipes.steps import AnyVerb
from tilctl import __version__
from tilctl.engine import identity, interrupted
from tilctl.engine.batch import Batch
from tilctl.engine.beside import told
from tilctl.engine.errors import StepError
from tilctl.engine.intents import enough, settle, way_of
from tilctl.engine.machine import QUIESCENT, Command, State
from tilctl.engine.runner import Runner
from tilctl.engine.standing import TARGET_OFF
from tilctl.engine.state import StepStatus, format_time, parse_time
from tilctl.engine.steady import NOT_SYNCHRONISED, SET_BACK
from tilctl.engine.verbs.set_target import write_target
from tilctl.guard.fluid_rules import rule_of
from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.plant.suite import Suite
from tilctl.plant.unit import PlantError

RESUMES = ("resume", "redo", "reattach")
GOING_ON = (State.RUNNING, State.PAUSING, State.RESTARTING)
READ = "read"
READ_WITHIN = 10.0  # s for each instrument to show itself before anything is written


class Looks:
    """One look at each instrument, begun for all of them at once; a batch waits for those that it needs."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite
        self._tasks: dict[str, asyncio.Task[str]] = {}

    async def at(self, names: Iterable[str]) -> dict[str, str]:
        """Invariant: a batch's devices are read before anything is written to them.  Return how each of them is."""
        for name in self._suite.instruments:
            if name not in self._tasks:
                self._tasks[name] = asyncio.create_task(self._look(name), name=f"look:{name}")
        return {name: await asyncio.shield(self._tasks[name]) for name in names}

    async def close(self) -> None:
        """End what nobody waits for any more."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _look(self, name: str) -> str:
        try:
            async with asyncio.timeout(READ_WITHIN):
                await self._suite.scanner.fresh(name)
        except (DeviceError, TimeoutError) as error:
            return f"silent: {error}"
        return READ


def begin(batch: Batch, last_beat: str | None, uncertain: str) -> None:
    """Say first of all in this life since when nobody has been in control of a batch.

    Invariant: whatever a life puts on a record before it has recovered the batch is no sign of control.
    """
    since, before = _uncontrolled(batch.journal.records(), last_beat)
    batch.away = (min(since, batch.clock.now()), uncertain or before)
    batch.note(ev.BatchReopened(format_time(batch.away[0]), batch.away[1], __version__))


async def resume(runner: Runner, looks: Looks, uncertain: str) -> None:
    """Bring a reopened batch back; see the module for the order.

    `uncertain` says why the record's time over the outage is not to be trusted, "" where it is.
    """
    batch = runner.batch
    log = structlog.get_logger("recovery").bind(batch=batch.name)
    try:
        report = await _brought_back(runner, looks, uncertain)
    except Exception as error:  # Invariant: what breaks in one batch's recovery is held, and keeps no other back
        log.exception("recovery_failed")
        report = {"state": batch.state.state.value, "holds": [f"recovery broke off: {error!r}"]}
        runner.alarm("recovery-failed", "critical", f"recovery broke off: {error!r}; look at the plant, then restart")
    against = report["holds"]
    runner.recovering = False
    # Invariant: that it is recovered is on record together with what follows from it, so that no crash has the one
    # without the other: from here to the end nothing is waited for.
    interrupted.answer(batch)
    batch.note(ev.Recovered(report | {"software": __version__}))
    log.info("recovered", **report)
    runner.freezing.follow_open()
    runner.prompts.resume()
    runner.releases.look()
    if runner.state is State.IDLE:  # it died between the making of the record and the first state on it, just now
        runner.fire(Command.START, "the controller was restarted")
        if against:
            runner.fire("fault", _held_for(against))
        return
    # Invariant: what is decided here is decided on the live state; a guard or a person may have held it meanwhile.
    if runner.state in QUIESCENT:
        await runner.make_safe_again()
        return
    if runner.state not in GOING_ON:
        runner.resume_transient("the controller was restarted")
        return
    if not against:
        runner.go_on()
        return
    runner.alarm("restarted", "high", f"after a restart of the controller: {'; '.join(against)}")
    batch.note(ev.ExceptionRaised("restart", "; ".join(against), ""))
    runner.fire("fault", _held_for(against))


def _held_for(against: Iterable[str]) -> str:
    return f"after a restart: {'; '.join(against)}"


async def _brought_back(runner: Runner, looks: Looks, uncertain: str) -> dict[str, Any]:
    """Do all that comes before the decision; return the report, `holds` being against going on without a person."""
    batch = runner.batch
    now = batch.clock.now()
    since, before = batch.away
    uncertain = uncertain or (before if before == SET_BACK else "")
    seconds = (now - since).total_seconds()
    await batch.record(ev.Outage(format_time(since), format_time(now), round(seconds, 3), uncertain))
    readings = await looks.at(identity.needed(batch))
    await looks.at(runner.judged_by)  # Invariant: interlocks are judged on what is there now, before any write
    replaced, off = identity.replaced(batch), [str(found) for found in identity.mismatches(batch)]
    await _reestablish(runner)  # in every state: targets stand until the unit is freed
    resolved = await _resolve(batch)
    against = [*runner.unsound, *_against_resuming(batch, seconds)]
    if batch.beside.mark is not None:
        against.append(told(batch.beside.mark))
    if uncertain == NOT_SYNCHRONISED and (timed := time_critical(batch)):
        against.append(f"{uncertain}, and the time counts for {timed}: restart, or wait until it is")
    elif uncertain == SET_BACK:
        against.append("the clock was set back: how long the outage was is not known")
    against += [f"{name} is {how}" for name, how in readings.items() if how != READ]
    for alarm, texts in ((identity.REPLACED, replaced), (identity.MISMATCH, off)):
        if texts:
            runner.alarm(alarm, "high", f"{'; '.join(texts)}: a restart accepts it")
            against += [f"{alarm}: {text}" for text in texts]
    return {
        "state": batch.state.state.value, "outage_s": round(seconds, 3), "devices": readings, "intents": resolved,
        "holds": against,
    }  # fmt: skip


async def synchronised(runner: Runner) -> None:
    """Go on by itself with a batch that was held for want of the time alone, now that the time is known."""
    batch = runner.batch
    await runner.settled()
    outage = next((r.event for r in reversed(batch.recent) if isinstance(r.event, ev.Outage)), None)
    report = next((r.event.report for r in reversed(batch.recent) if isinstance(r.event, ev.Recovered)), None)
    if runner.state is not State.HELD or outage is None or report is None:
        return
    if batch.state.held_for != _held_for(report["holds"]):
        return  # Invariant: what a person, a guard or a step holds is not for the clock to undo
    if any(rule_of(alarm) is not None or alarm.startswith("interlock-") for alarm in batch.state.alarms):
        return  # it was found while the batch was held already, and waits for a person as well
    if [text for text in report["holds"] if not str(text).startswith(NOT_SYNCHRONISED)]:
        return
    seconds = (batch.clock.now() - parse_time(outage.from_t)).total_seconds()
    under_way = [node for node in batch.state.nodes.values() if node.status is not StepStatus.COMPLETE]
    steps = {node.path: step for node in under_way if (step := step_at(batch.recipe, node.path)) is not None}
    if too_long := [f"{path} {text}" for path, step in steps.items() if (text := _too_long(step, seconds))]:
        batch.note(ev.ExceptionRaised("restart", "; ".join(too_long), ""))
        return
    runner.fire(Command.RESTART, f"the clock is synchronised: at most {seconds:.0f} s were missed")


def time_critical(batch: Batch) -> str:
    """Return the first step still to come (or running clock) for which the time counts, "" where there is none."""
    for name, clock in batch.recipe.clocks.items():
        if clock.from_ in batch.state.marks and clock.to not in batch.state.marks:
            return f"the clock {name}"
    for operation in batch.recipe.procedure:
        for path, step in walk(operation.steps, operation.id):
            if not batch.state.complete(path) and _timed(step):
                return path
    return ""


def _timed(step: AnyVerb) -> bool:
    if getattr(step, "due", None) is not None or step.max_outage is not None:
        return True
    if getattr(step, "for_", None) is not None or getattr(step, "timeout", None) is not None:
        return True
    until = getattr(step, "until", None)
    return isinstance(until, str) and any(n == "day" or n.startswith("since(") for n in compile(until).names)


def _uncontrolled(records: Sequence[Record], last_beat: str | None) -> tuple[datetime, str]:
    """Return since when nobody has been in control, and why that is no fact ("" where it is one).

    That is the last sign of life or event; a life that began and did not recover the batch changes nothing of it.
    """
    for record in reversed(records):
        match record.event:
            case ev.BatchReopened() as event:
                return parse_time(event.since), event.uncertain
            case ev.Outage() as event:
                return parse_time(event.from_t), event.uncertain
            case ev.Recovered():
                break
            case _:
                pass
    known = [parse_time(record.t) for record in records[-1:]]
    if last_beat is not None:
        known.append(parse_time(last_beat))
    return max(known), ""


async def _reestablish(runner: Runner) -> None:
    """Write the standing targets that a device no longer has, as after a power cut; the cells do not wait."""
    batch = runner.batch
    for tag, (value, _unit) in batch.state.targets.items():
        equipment, _, name = tag.partition(".")
        now = batch.image.number(f"{batch.equipment[equipment]}.{name}_target")
        if not isinstance(value, (int, float)) or (now is not None and abs(now - value) <= TARGET_OFF):
            continue
        if runner.standing.safe_value(tag) is not None:
            continue  # a held batch gets what is declared for that
        if batch.plant.gate.barred(batch.equipment[equipment], f"set_{name}"):
            continue  # an interlock has cut it off
        try:
            await write_target(batch, tag, float(value))
        except StepError as error:
            runner.alarm(f"target-lost-{tag}", "critical", f"{error.reason} ({error.hint})")


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
        step = step_at(batch.recipe, node.path)
        if step is None:
            against.append(f"{node.path} is not in the recipe")
        elif node.status is not StepStatus.ACTING:
            against.append(f"{node.path} is {node.status.value}")
        elif step.on_restart not in RESUMES:
            against.append(f"{node.path} has to be restarted by a person (on_restart: {step.on_restart})")
        elif too_long := _too_long(step, outage):
            against.append(f"{node.path} {too_long}")
    return against


def _too_long(step: AnyVerb, outage: float) -> str:
    """Return what a step says against going on by itself after so long an outage (s), "" where it says nothing."""
    if step.max_outage is None or outage <= parse_as(step.max_outage, "s"):
        return ""
    return f"allows an outage of {step.max_outage}, it was {outage:.0f} s"
