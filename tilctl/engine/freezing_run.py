"""A freezing run that has started is followed to its end in every state of its batch, also held, stopped or aborted.

The follower is a task of its own, not the walk: it scans the freezer at the active pace, gathers what is seen, and
closes the intent when the device says that the run has ended.  It never writes to the device.  The step (the verb
`freeze`) waits for it, or finds the intent closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog

from devices.document import DocumentError, parse, validate
from devices.reading import Quality
from recipes.freezing import Gap, accept, nucleation, unseen
from recipes.freezing_model import FreezeProfile, longest
from recipes.model import step_at
from recipes.steps import Freeze
from tilctl.engine.batch import Batch
from tilctl.engine.state import BatchState, Intent, format_time
from tilctl.journal import events as ev
from tilctl.journal.store import JournalError

SILENT_S = 60.0  # s without a reading before it is an alarm; the device goes on by itself
KEEP_EVERY_S = 10.0  # s between the readings that are kept
SAVE_EVERY_S = 60.0  # s between the events with them: a crash loses no more than that
REPORT_EVERY = 3  # every third of them goes into the report as a series
STRANGE_S = 30.0  # s for which a device must say that it does not know the run, or rests, before that is believed
LATE_S = 600.0  # s beyond the longest that a run may take, and of watching, before it is given up
LATE_SHARE = 1.2
LONGEST_S = 24 * 3600.0  # where the profile cannot be read
RECORD_RETRY_S = 10.0
TOO_COLD = -2.0  # degC: a bag that was not seen nucleated and is warmer than that may be frozen anew
ENDED = ("complete", "aborted", "fault")
Row = list[float | None]


def silent_alarm(path: str) -> str:
    """Return the alarm of a freezer that is silent in a run."""
    return f"freezer-silent-{path.rpartition('/')[2]}"


def failed_alarm(path: str) -> str:
    """Return the alarm of a run that did not come to its end."""
    return f"freeze-failed-{path.rpartition('/')[2]}"


@dataclass
class _Run:
    """One run under way: what was seen of it, and what of that is not on the record yet."""

    intent: Intent
    step: Freeze | None
    profile: FreezeProfile | None
    began: float  # monotonic s, of the following
    rows: list[Row]
    seen: bool  # the device was once seen with it
    fresh: list[Row] = field(default_factory=list[Row])
    saved: float = float("-inf")
    strange: float | None = None  # since when (monotonic s) the device does not know the run, or knows it and rests
    segment: int | None = None
    nucleated: bool | None = None


class FreezingRuns:
    """The followers of a batch's freezing runs: one for each start that was sent and is not closed."""

    def __init__(
        self,
        batch: Batch,
        alarm: Callable[[str, str, str], None],
        clear: Callable[[str], None],
        fail: Callable[[str], object],
        ended: Callable[[asyncio.Task[None]], None],
    ) -> None:
        """`fail` holds the batch where it runs; `ended` is told of each follower that has ended."""
        self._batch, self._alarm, self._clear, self._fail, self._ended = batch, alarm, clear, fail, ended
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._log = structlog.get_logger("freezing").bind(batch=batch.name)

    def follow_open(self) -> None:
        """Follow every run that an earlier life of the controller left open."""
        for intent in self._batch.state.open_intents():
            if intent.action == "start" and intent.outcome == "":
                self.follow(intent.number)

    def follow(self, number: int) -> None:
        """Follow the run of an intent whose start was, or may have been, sent; once."""
        task = self._tasks.get(number)
        if self._batch.state.intents[number].outcome == "" and (task is None or task.done()):
            task = self._tasks[number] = asyncio.create_task(self._follow(number), name=f"freezing:{number}")
            task.add_done_callback(self._ended)

    def followed(self) -> list[Intent]:
        """Return the runs that are followed now; each ends by itself, at the latest as one that has not ended."""
        return [self._batch.state.intents[number] for number, task in self._tasks.items() if not task.done()]

    async def closed(self, number: int) -> None:
        """Wait until nobody follows a run any more: its intent is closed then, unless the follower broke."""
        if (task := self._tasks.get(number)) is not None and not task.done():
            await asyncio.wait([task])

    async def close(self) -> None:
        """End all following; the runs go on, and are followed again by the next life of the controller."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    # --- one run --------------------------------------------------------------------------------------------------

    async def _follow(self, number: int) -> None:
        batch = self._batch
        intent = batch.state.intents[number]
        parts = batch.state.freezing.get(number, [])
        rows = [list(row) for part in parts for row in part.rows]
        run = _Run(
            intent, _step(batch, intent.path), _profile(batch, intent), batch.clock.monotonic(), rows, bool(parts)
        )
        if parts:
            run.segment, run.nucleated = parts[-1].segment, parts[-1].nucleated
        try:
            with batch.plant.scanner.active(intent.device):
                while intent.outcome == "":
                    came_to = self._look(run)
                    if came_to:
                        await self._close(run, came_to)
                    else:
                        await self._next(run)
        finally:
            self._save(run)

    async def _next(self, run: _Run) -> None:
        """Wait for the next scan; a device that is silent is an alarm, and goes on by itself."""
        device, alarm = run.intent.device, silent_alarm(run.intent.path)
        try:
            async with asyncio.timeout(SILENT_S):
                await self._batch.image.next_scan(device)
        except TimeoutError:
            self._alarm(alarm, "critical", f"{device} is silent in a freezing run; look at it, it goes on by itself")
            return
        if alarm in self._batch.state.alarms:
            self._clear(alarm)

    def _look(self, run: _Run) -> str:
        """Take in what the device says now; return what the run came to, "" while it is under way."""
        batch, intent = self._batch, run.intent
        now, device, number = batch.clock.monotonic(), intent.device, batch.image.number
        late = LONGEST_S if run.profile is None else longest(run.profile) * LATE_SHARE + LATE_S
        if self._since(run) > late and now - run.began > LATE_S:
            return "not_ended"
        sequence, reading = number(f"{device}.sequence"), batch.image.get(f"{device}.program_state")
        if sequence is None or reading is None or reading.quality is not Quality.GOOD:
            return ""  # unknown is nothing: neither ended nor another's
        state = str(reading.value)
        if sequence != intent.args["sequence"]:
            run.strange = now if run.strange is None else run.strange
            if now - run.strange < STRANGE_S:
                return ""
            # Invariant: only a device that knows the run before this one, runs none, and was never seen with this one
            # did not take it.
            never = sequence == intent.evidence.get("sequence") and state != "running" and not run.seen
            return "nothing" if never else "not_known"
        if state == "running" or state in ENDED:
            run.strange = None
        else:
            # Invariant: a run that stands still and was not seen to end is a person's: its bags are in there.
            run.strange = now if run.strange is None else run.strange
            return "not_seen" if now - run.strange >= STRANGE_S else ""
        segment, nucleated = number(f"{device}.segment"), number(f"{device}.nucleated")
        run.segment = run.segment if segment is None else int(segment)
        run.nucleated = run.nucleated if nucleated is None else bool(nucleated)
        self._sample(run, state)
        return state if state in ENDED else ""

    def _sample(self, run: _Run, state: str) -> None:
        """Keep a reading of a run under way; of one that has ended only the last, where it was seen to end."""
        device, number = run.intent.device, self._batch.image.number
        elapsed = number(f"{device}.elapsed")
        t = round(self._since(run)) if elapsed is None else elapsed
        last = run.rows[-1][0] or 0.0 if run.rows else None
        ends = state == "complete" and last is not None and last < t <= last + 3 * KEEP_EVERY_S
        if ends or (state == "running" and (last is None or t >= last + KEEP_EVERY_S)):
            row: Row = [float(t)]
            for point in ("chamber_temperature", "sample_temperature", "setpoint"):
                value = number(f"{device}.{point}")
                row.append(None if value is None else round(value, 2))
            run.rows.append(row)
            run.fresh.append(row)
        if state == "running" and self._batch.clock.monotonic() - run.saved >= SAVE_EVERY_S:
            self._started(run)
            self._save(run)

    def _started(self, run: _Run) -> None:
        mark = None if run.step is None else run.step.marks.get("started")
        if mark is not None and self._batch.state.marks.get(mark) != run.intent.opened and not run.seen:
            self._batch.note(ev.Marked(mark, format_time(run.intent.opened)))  # the run counts from its command

    def _save(self, run: _Run) -> None:
        """Put what was seen since the last time on the record; what cannot be written now goes with the next."""
        if not run.fresh or self._batch.journal.failed:
            return
        fresh, run.fresh, run.seen = run.fresh, [], True
        run.saved = self._batch.clock.monotonic()
        intent = run.intent
        self._batch.note(ev.FreezeSampled(intent.path, intent.number, fresh, run.segment, run.nucleated))

    def _since(self, run: _Run) -> float:
        return (self._batch.clock.now() - run.intent.opened).total_seconds()

    # --- its end --------------------------------------------------------------------------------------------------

    async def _close(self, run: _Run, came_to: str) -> None:
        """Put what a run came to on the record, and hold the batch where that is not what was wanted."""
        batch, intent = self._batch, run.intent
        if batch.journal.failed:
            await batch.clock.sleep(RECORD_RETRY_S)
            return
        # Invariant: what a run came to is on record in one transaction, so that no crash has it reported twice.
        for alarm in (silent_alarm(intent.path), f"in-doubt-{intent.number}"):
            if alarm in batch.state.alarms:
                self._clear(alarm)
        evidence: dict[str, Any] = {"ended_as": came_to}
        if came_to == "nothing":
            evidence = {"why": f"{intent.device} does not know this run, knows the one before, and runs none"}
        elif came_to != "complete":
            text = self._known(run, came_to)
            self._fail(text)  # Actuate first, report second.
            self._alarm(failed_alarm(intent.path), "critical", text)
            evidence["known"] = text
        if came_to != "nothing":
            self._report(run, came_to)
        outcome = "done" if came_to == "complete" else "nothing" if came_to == "nothing" else "partial"
        closing = ev.IntentClosed(intent.number, intent.path, outcome, None, None, evidence)
        try:
            await batch.record(closing)
        except JournalError as error:
            self._log.error("freezing_run_not_on_record", intent=intent.number, error=str(error))

    def _report(self, run: _Run, came_to: str) -> None:
        batch, intent, step = self._batch, run.intent, run.step
        if came_to not in ENDED:
            run.nucleated = None  # what it says, if anything, is of another run
        else:
            self._started(run)
        fresh, run.fresh, run.seen = run.fresh, [], True
        batch.note(ev.FreezeSampled(intent.path, intent.number, fresh, run.segment, run.nucleated))
        elapsed = batch.image.number(f"{intent.device}.elapsed") if came_to in ENDED else None
        lasted = self._since(run) if elapsed is None else elapsed
        gaps = unseen([row[0] or 0.0 for row in run.rows], lasted)
        findings = []
        if run.profile is not None and (step is None or step.accept):
            rows = [(row[0] or 0.0, row[1], row[2]) for row in run.rows]
            findings = accept(run.profile, rows, [row[3] for row in run.rows], gaps)
        data: dict[str, Any] = {
            "profile": str(intent.args.get("profile", "")),
            "device": intent.device,
            "intent": intent.number,
            "ended_as": came_to,
            "lasted_s": round(lasted, 1),
            "unseen": [[round(a, 1), round(b, 1)] for a, b in gaps],
            "series": run.rows[::REPORT_EVERY],
            "findings": [asdict(finding) for finding in findings],
        }
        batch.note(ev.FreezeReported(intent.path, data))
        for finding in findings:
            if not finding.ok:
                text = f"{finding.criterion}: {finding.value}, limit {finding.limit}: {finding.consequence}"
                batch.note(ev.ExceptionRaised("freezing", text, intent.path))
        if gaps:
            batch.note(ev.ExceptionRaised("freezing", f"the run was not seen {_shown(gaps)}", intent.path))
        if step is not None and (mark := step.marks.get("ended")) is not None:
            batch.note(ev.Marked(mark, format_time(batch.clock.now())))

    def _known(self, run: _Run, came_to: str) -> str:
        """Return what is known of a run that did not come to its end, and what a person can do."""
        device, image = run.intent.device, self._batch.image
        how = {
            "not_known": "is not known to it any more (was it exchanged, or operated by hand?)",
            "not_seen": "is over, and nobody has seen how it ended",
            "not_ended": "has not ended in its time, or nobody has seen it end",
        }.get(came_to, f"ended as {came_to}")
        elapsed = image.number(f"{device}.elapsed") if came_to in ENDED else None
        parts = [f"{device}: the freezing run {how}"]
        if elapsed is not None:
            parts.append(f"after {elapsed / 60:.1f} min, {max(0.0, self._since(run) - elapsed) / 60:.1f} min ago")
        if run.segment:
            name = run.profile.rows[run.segment - 1].id if run.profile and run.segment <= len(run.profile.rows) else "?"
            parts.append(f"in row {run.segment} ({name})")
        nucleated = run.nucleated if came_to in ENDED else None
        parts.append({True: "nucleated", False: "not nucleated", None: "whether nucleated is not known"}[nucleated])
        sample = image.number(f"{device}.sample_temperature")
        if sample is not None:
            parts.append(f"the sample is at {sample:.1f} degC")
        elif run.rows:
            parts.append(f"the sample was last seen at {run.rows[-1][2]} degC, {(run.rows[-1][0] or 0.0) / 60:.1f} min")
        if nucleated is False and sample is not None and sample > TOO_COLD:
            hint = "bring the chamber back to its start, or rescue the bags"
        else:
            hint = "rescue the bags to vapour by hand, now"
        return f"{', '.join(parts)}; {hint}; then restart: you are asked for what was done"


def may_refreeze(batch: Batch, intent: Intent) -> bool:
    """Whether the bags of a failed run are known not to have nucleated and to be warm enough to be frozen anew.

    Invariant: unknown is not false; what was or may have been frozen is not offered to be frozen again.
    """
    parts = batch.state.freezing.get(intent.number, [])
    rows = [row for part in parts for row in part.rows]
    whole = [(row[0] or 0.0, row[1], row[2]) for row in rows if row[1] is not None and row[2] is not None]
    t, chamber, seen = [row[0] for row in whole], [row[1] for row in whole], [row[2] for row in whole]
    if not parts or parts[-1].nucleated is not False or any(part.nucleated for part in parts):
        return False
    sample = batch.image.number(f"{intent.device}.sample_temperature")
    return nucleation(t, chamber, seen) is None and sample is not None and sample > TOO_COLD


def frozen_profile(state: BatchState, name: str) -> FreezeProfile:
    """Return a profile as it was frozen at the start of the batch; raises DocumentError."""
    texts = {} if state.created is None else state.created.profiles
    return validate(parse(texts.get(name, ""), name), FreezeProfile, "schema")


def _profile(batch: Batch, intent: Intent) -> FreezeProfile | None:
    try:
        return frozen_profile(batch.state, str(intent.args.get("profile", "")))
    except DocumentError:
        return None  # the step has said so; the run is followed all the same


def _step(batch: Batch, path: str) -> Freeze | None:
    step = step_at(batch.recipe, path)
    return step if isinstance(step, Freeze) else None


def _shown(gaps: list[Gap]) -> str:
    return ", ".join(f"from {a / 60:.1f} to {b / 60:.1f} min" for a, b in gaps)
