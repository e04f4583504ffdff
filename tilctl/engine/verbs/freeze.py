"""`freeze`: run a freezing profile.  Once started it is never paused, stopped by a hold, or started again."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any, NoReturn

from devices.document import DocumentError, parse, validate
from devices.instrument import DeviceError, NotApplied, OutcomeUnknown
from devices.reading import Quality
from recipes.freezing import accept
from recipes.freezing_model import FreezeProfile, longest, program
from recipes.steps import Freeze
from tilctl.engine.context import Context
from tilctl.engine.errors import InDoubt, StepError
from tilctl.engine.shield import finish
from tilctl.engine.state import Intent, format_time
from tilctl.journal import events as ev
from tilctl.plant.outputs import Cause, OutputRefused

SILENT_S = 60.0  # s without a reading before it is an alarm; the device goes on by itself
KEEP_EVERY_S = 10.0  # s between the readings that are kept for the report
SEEN_WHOLE_S = 120.0  # s of a run that may have gone unseen for it to be judged
REPORT_EVERY = 3  # every third of those goes into the record as a series
Sample = tuple[float, float | None, float | None, float | None]  # s, chamber, sample, set point in degC


async def run(context: Context, step: Freeze) -> dict[str, Any]:
    """Load the programme, start it once, follow the device to its end, judge the run."""
    batch = context.batch
    device = batch.equipment[step.with_]
    profile = _frozen(context, step)
    with batch.plant.scanner.active(device):
        intents = batch.state.intents_of(context.path)
        intent = intents[-1] if intents else None
        if intent is not None and intent.outcome == "":
            await _look_whether_it_started(context, device, intent)
            intent = batch.state.intents[intent.number]
        if intent is None or intent.outcome == "nothing":
            intent = await _start(context, step, device, profile)
        if intent.outcome == "":
            samples = await _follow(context, step, device, intent, profile)
            await _close(context, step, device, intent, profile, samples)
    closed = batch.state.intents[intent.number]
    if closed.outcome != "done":
        raise StepError(
            f"{context.path}: the freezing run ended as {closed.outcome}",
            "rescue the bags to vapour by hand if they are not cold, then stop the batch and hand over to quality",
        )
    return {"profile": profile.id, "intent": intent.number}


async def _look_whether_it_started(context: Context, device: str, intent: Intent) -> None:
    """Close an open start as `nothing` where the device proves that it never took it; else leave it as it is.

    Invariant: only a device that knows an older run than this one, and runs none, may be started again.
    """
    batch = context.batch
    try:
        await batch.plant.scanner.fresh(device)
    except DeviceError as error:
        raise StepError(f"{context.path}: {device} is silent: {error}", "see to the freezer, then restart") from error
    sequence = batch.image.number(f"{device}.sequence")
    reading = batch.image.get(f"{device}.program_state")
    running = reading is None or reading.value == "running"
    if sequence is not None and sequence == intent.evidence.get("sequence") and not running:
        why = {"why": f"{device} knows run {sequence:.0f}, and runs none"}
        await batch.record(ev.IntentClosed(intent.number, intent.path, "nothing", None, None, why))


def _frozen(context: Context, step: Freeze) -> FreezeProfile:
    """Return the profile as it was frozen at the start of the batch."""
    created = context.batch.state.created
    texts = {} if created is None else created.profiles
    try:
        return validate(parse(texts.get(step.profile, ""), step.profile), FreezeProfile, "schema")
    except DocumentError as error:
        raise StepError(f"{context.path}: the profile on record cannot be used: {error}", "stop the batch") from error


async def _start(context: Context, step: Freeze, device: str, profile: FreezeProfile) -> Intent:
    batch = context.batch
    sequence = await _ready(context, device)
    number = len(batch.state.intents) + 1
    args = {"sequence": sequence % 65535 + 1, "profile": profile.id, "load": step.load}
    opened = await batch.record(
        ev.IntentOpened(number, context.path, device, "start", args, {"sequence": float(sequence)})
    )
    act, path, seq = batch.plant.gate.act, context.path, opened.seq
    try:
        rows = {"rows": program(profile)}
        await act(batch.name, device, "load_program", rows, cause=Cause(path, seq, "attached"))
        await _ready(context, device)
    except (DeviceError, OutputRefused, StepError) as error:
        await _never_started(context, number, f"the programme was not taken: {error}", error)
    except asyncio.CancelledError:  # held, stopped: the start was not sent, and the freezer is free again
        why = {"why": "the batch was held before the start was sent"}
        await finish(batch.record(ev.IntentClosed(number, context.path, "nothing", None, None, why)))
        raise
    start = {"sequence": args["sequence"]}
    try:
        await act(batch.name, device, "start", start, cause=Cause(path, seq, "one_shot"))
    except (OutcomeUnknown, NotApplied) as error:
        raise InDoubt(number, f"{context.path}: whether the run started is not known: {error}") from error
    except (DeviceError, OutputRefused) as error:
        await _never_started(context, number, f"the run did not start: {error}", error)
    return batch.state.intents[number]


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


async def _follow(context: Context, step: Freeze, device: str, intent: Intent, profile: FreezeProfile) -> list[Sample]:
    """Watch the run until the device says that it has ended; a hold ends the watching, never the run."""
    batch = context.batch
    image = batch.image
    began = batch.clock.monotonic()
    deadline = began + longest(profile) * 1.2 + 600.0
    samples: list[Sample] = []
    silent = f"freezer-silent-{context.path.rpartition('/')[2]}"
    while batch.clock.monotonic() < deadline:
        try:
            async with asyncio.timeout(SILENT_S):
                await image.next_scan(device)
        except TimeoutError:
            if silent not in batch.state.alarms:
                context.alarm(
                    silent, "critical", f"{device} is silent in a freezing run; look at it, it goes on by itself"
                )
            continue
        if silent in batch.state.alarms:
            context.clear(silent)
        now = batch.clock.monotonic()
        if not samples or now - samples[-1][0] - began >= KEEP_EVERY_S:
            chamber, sample, wanted = (
                image.number(f"{device}.{point}") for point in ("chamber_temperature", "sample_temperature", "setpoint")
            )
            samples.append((now - began, chamber, sample, wanted))
        if image.number(f"{device}.sequence") != intent.args["sequence"]:
            raise InDoubt(
                intent.number, f"{context.path}: {device} does not know this run (it was restarted or operated by hand)"
            )
        mark = step.marks.get("started")
        if mark is not None and mark not in batch.state.marks:  # the device has it: the run counts from its command
            await batch.record(ev.Marked(mark, format_time(intent.opened)))
        reading = image.get(f"{device}.program_state")
        if (
            reading is not None
            and reading.quality is Quality.GOOD
            and reading.value in ("complete", "aborted", "fault")
        ):
            return samples
    raise StepError(
        f"{context.path}: the run has not ended in time", "look at the freezer, rescue the bags by hand if need be"
    )


async def _close(
    context: Context, step: Freeze, device: str, intent: Intent, profile: FreezeProfile, samples: list[Sample]
) -> None:
    batch = context.batch
    reading = batch.image.get(f"{device}.program_state")
    state = str(reading.value) if reading is not None else "unknown"
    readings = [(t, chamber, sample) for t, chamber, sample, _ in samples]
    whole = bool(samples) and (batch.clock.now() - intent.opened).total_seconds() - samples[-1][0] < SEEN_WHOLE_S
    findings = accept(profile, readings, [wanted for *_, wanted in samples]) if step.accept and whole else []
    # Invariant: what a run came to is on record in one transaction, so that no crash has it reported twice.
    if step.accept and not whole:  # watched only in part: what was not seen is not judged
        text = "the run was not watched from its start to its end: judge it by the freezer's own record"
        batch.note(ev.ExceptionRaised("freezing", text, context.path))
    data: dict[str, Any] = {
        "profile": profile.id,
        "device": device,
        "ended_as": state,
        "series": [[round(v, 2) if v is not None else None for v in row] for row in samples[::REPORT_EVERY]],
        "findings": [asdict(finding) for finding in findings],
    }
    batch.note(ev.FreezeReported(context.path, data))
    for finding in findings:
        if not finding.ok:
            text = f"{finding.criterion}: {finding.value}, limit {finding.limit}: {finding.consequence}"
            batch.note(ev.ExceptionRaised("freezing", text, context.path))
    if (mark := step.marks.get("ended")) is not None:
        batch.note(ev.Marked(mark, format_time(batch.clock.now())))
    outcome = "done" if state == "complete" else "partial"
    await batch.record(ev.IntentClosed(intent.number, context.path, outcome, None, None, {"ended_as": state}))
