"""What must hold after a tortured batch: the record whole, every acknowledgement on it, every dose given once.

Only the devices' own counts show a dose that was given twice; so the plant's truth is the last word on volumes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.torture.ties import number_of, seconds
from tests.torture.witness import Heard
from tilctl.engine.machine import FINAL, State
from tilctl.engine.state import BatchState, fold
from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.journal.verify import read

CLOSES_ML, CLOSES_SHARE = 3.0, 0.02  # evidence closes within these
NOTHING_ML = 0.5  # mL that a pump may have moved before it was found to have done nothing
WARMED_S = 5400.0  # s from the first set point until the chamber is there: six times its lag
TARGET = 37.0  # degC, of shakedown
WARM = (34.5, 38.0)  # degC; each opened door costs 0.75 K, and a mount of several bags opens it several times


@dataclass
class Findings:
    """What is wrong with a batch, as texts; `in_doubt` counts doses that went to a person, by rights."""

    lost: list[str] = field(default_factory=list[str])
    doubled: list[str] = field(default_factory=list[str])
    other: list[str] = field(default_factory=list[str])
    in_doubt: int = 0
    doses: int = 0
    acknowledged: int = 0
    state: str = ""

    @property
    def bad(self) -> list[str]:
        """Return everything that is wrong."""
        return [*self.lost, *self.doubled, *self.other]


@dataclass(frozen=True)
class Outage:
    """From when to when nobody was in control, in s of virtual time."""

    since: float
    until: float


def examine(
    batch: Path,
    site: Path,
    heard: Sequence[Heard],
    truth: dict[str, Any],
    outages: Sequence[Outage],
    wanted: State | None,
    unnumbered: Mapping[str, float] | None = None,
) -> Findings:
    """Judge one batch by its record, what was heard of it, and what the plant knows.

    The drives of the pumps `unnumbered` know no numbers of doses; their runs are tied to doses by time.  Each may
    outlive its controller for so many s.
    """
    found = Findings()
    records, verdict = read(batch)
    site_records, site_verdict = read(site)
    for path, each in ((batch, verdict), (site, site_verdict)):
        if not each.ok:
            found.other.append(f"{path.name} does not verify: {each.reason}")
    state = fold(records)
    found.state = _ended(records)
    short = found.state == State.STOPPED and _ran_short(records, state, unnumbered or {})
    if (wanted is not None and found.state != wanted and not short) or State(found.state) not in FINAL:
        found.other.append(f"the batch ended {found.state}, expected {wanted or 'a final state'}")
    _acknowledged(found, records, site_records, heard)
    _once(found, records)
    found.in_doubt = sum(isinstance(r.event, ev.IntentClosed) and r.event.outcome == "in_doubt" for r in records)
    _doses(found, state, truth, unnumbered or {})
    _volumes(found, truth)
    _outages(found, records, outages)
    return found


def _ended(records: Sequence[Record]) -> str:
    states = [r.event.to_state for r in records if isinstance(r.event, ev.StateChanged) and not r.event.path]
    return next((state for state in reversed(states) if state != State.IDLE), "idle")


def _acknowledged(found: Findings, batch: Sequence[Record], site: Sequence[Record], heard: Iterable[Heard]) -> None:
    """Everything that was `accepted` is on record where the answer said; everything final is on record as answered."""
    by_hash = {record.hash: record for record in [*batch, *site]}
    events = [record.event for record in [*batch, *site]]
    answered = {(e.command_id, e.status) for e in events if isinstance(e, ev.CommandAnswered)}
    known: set[str] = set()
    for answer in dict.fromkeys(heard):
        if answer.hash is not None:
            record = by_hash.get(answer.hash)
            event = None if record is None or record.seq != answer.seq else record.event
            if not isinstance(event, ev.CommandReceived) or event.command_id != answer.command:
                found.lost.append(f"{answer.command} was {answer.status} as event {answer.seq}, which is not on record")
                continue
            known.add(answer.command)
            if answer.status != "accepted" and (answer.command, answer.status) not in answered:
                found.lost.append(f"{answer.command} was answered {answer.status}, which is not on record")
    found.acknowledged = len(known)
    if not known:
        found.other.append("no acknowledgement was heard: nothing could be judged by it")
    prompts = Counter(e.prompt for e in events if isinstance(e, ev.AnswerReceived))
    found.doubled += [f"prompt {prompt} was answered {n} times" for prompt, n in prompts.items() if n > 1]


def _once(found: Findings, records: Sequence[Record]) -> None:
    """No step is completed twice, nothing completed is begun again, and times never go back."""
    done: set[str] = set()
    before = ""
    for record in records:
        event = record.event
        if record.t < before:
            found.other.append(f"event {record.seq} is of {record.t}, the one before it of {before}")
        before = record.t
        if isinstance(event, ev.StepCompleted):
            if event.path in done:
                found.doubled.append(f"{event.path} was completed twice")
            done.add(event.path)
        elif isinstance(event, (ev.StepStarted, ev.IntentOpened)) and event.path in done:
            found.doubled.append(f"{event.path} was begun again after it was complete ({event.kind})")


def _ran_short(records: Sequence[Record], state: BatchState, unnumbered: Mapping[str, float]) -> bool:
    """Tell whether a person ended it for want of liquid that drives had moved on after their controller died."""
    failed = [record.event.reason for record in records if isinstance(record.event, ev.StepFailed)]
    short = re.search(r"holds ([\d.]+) mL, ([\d.]+) mL are wanted", failed[-1]) if failed else None
    doses = [intent for intent in state.intents.values() if intent.action == "dispense"]
    most = sum(unnumbered.get(dose.device, 0.0) * float(dose.args["rate"]) / 60.0 for dose in doses)
    return short is not None and 0.0 < float(short[2]) - float(short[1]) <= most


def _doses(found: Findings, state: BatchState, truth: dict[str, Any], unnumbered: Mapping[str, float]) -> None:
    """Each number that a pump took was ordered once; each step moved what was ordered, by the plant's own count."""
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for pump, what in truth["pumps"].items():
        for run in what["log"]:
            number = number_of(pump, run, state.intents.values(), unnumbered)
            runs.setdefault((pump, number), []).append(run)
            if run["ended"] is None:
                found.other.append(f"{pump} still turns")
    ordered: dict[tuple[str, int], Any] = {}
    moved: dict[str, float] = {}
    overrun: dict[str, float] = {}  # mL that drives may have moved after their controller died
    starts = 0
    for intent in state.intents.values():
        if intent.action != "dispense":
            starts += intent.outcome != "nothing"
            continue
        key = (intent.device, int(intent.args["sequence"]))
        if key in ordered:
            found.doubled.append(f"intent {intent.number} has the number of another one: {key}")
        ordered[key] = intent
        found.doses += 1
        done = sum(run["moved_ml"] for run in runs.get(key, []))
        moved[intent.path] = moved.get(intent.path, 0.0) + done
        outlives = unnumbered.get(intent.device, 0.0) * float(intent.args["rate"]) / 60.0
        overrun[intent.path] = overrun.get(intent.path, 0.0) + outlives
        _evidence(found, intent, done)
    for key, log in runs.items():
        if key not in ordered:
            found.doubled.append(f"{key[0]} ran number {key[1]}, which nobody ordered")
        elif len(log) > 1:
            found.doubled.append(f"{key[0]} ran number {key[1]} {len(log)} times")
    for path, volume in moved.items():
        _total(found, state, path, volume, overrun[path])
    if truth["freezer_run"] > starts:
        found.doubled.append(f"the freezer was started {truth['freezer_run']} times, ordered {starts} times")


def _evidence(found: Findings, intent: Any, done: float) -> None:
    """What an intent was closed with is what the pump moved; what did not close went to a person."""
    text = f"{intent.path}, intent {intent.number}: {done:.2f} mL were moved"
    if intent.outcome in ("done", "partial", "nothing"):
        said = intent.delivered_ml or 0.0
        most = max(CLOSES_ML, CLOSES_SHARE * float(intent.args["volume"]))
        if abs(said - done) > most:
            found.other.append(f"{text}, the record says {said:.2f} ({intent.outcome})")
        if intent.outcome == "nothing" and done > NOTHING_ML:
            found.doubled.append(f"{text}, the record says nothing was")
    elif done > NOTHING_ML:
        found.other.append(f"{text}, and the intent is {intent.outcome or 'open'}")


def _total(found: Findings, state: BatchState, path: str, volume: float, overrun: float) -> None:
    """Over all intents of a step, no more was moved than was ordered; after it was completed, no less either.

    `overrun` (mL) is what drives that do not count may have moved beyond it.
    """
    phase = state.nodes[path].phases.get("ordered")
    if phase is None:
        found.other.append(f"{path} moved {volume:.1f} mL without an order")
        return
    wanted, tolerance = float(phase[1]["volume"]), float(phase[1]["tolerance"])
    slack = max(tolerance, CLOSES_ML, CLOSES_SHARE * wanted)
    empty = 0.02 * wanted + 2.0 if phase[1]["empty"] else 0.0
    if volume > wanted + slack + empty + overrun:
        found.doubled.append(f"{path}: {volume:.1f} mL were moved, {wanted:.1f} were ordered")
    if state.complete(path) and volume < wanted - 2.0 * slack:
        found.other.append(f"{path}: only {volume:.1f} of {wanted:.1f} mL were moved, and it is complete")


def _volumes(found: Findings, truth: dict[str, Any]) -> None:
    gone = truth["volume_total_ml"] - truth["brought_ml"]
    if abs(gone) > 0.01:
        found.other.append(f"{gone:.3f} mL came from nowhere")
    if truth["spilled_ml"] > 0.01:
        found.other.append(f"{truth['spilled_ml']:.1f} mL are on the floor")
    found.other += [f"at the bench: {text}" for text in truth["problems"]]


def _outages(found: Findings, records: Sequence[Record], outages: Sequence[Outage]) -> None:
    """Every time that nobody was in control is inside an outage on record, where somebody recovered after it."""
    noted = [(_seconds(r.event.from_t), _seconds(r.event.to_t)) for r in records if isinstance(r.event, ev.Outage)]
    last = max((until for _, until in noted), default=0.0)
    for outage in outages:
        inside = any(since <= outage.since + 0.002 and outage.until <= until + 0.002 for since, until in noted)
        if not inside and outage.until > outage.since and outage.until <= last and _acting(records, outage.since):
            found.other.append(f"nobody was in control from {outage.since:.3f} to {outage.until:.3f} s: not on record")


def _seconds(text: str) -> float:
    return seconds(datetime.fromisoformat(text))


def _acting(records: Sequence[Record], t: float) -> bool:
    return _seconds(records[0].t) < t < _seconds(records[-1].t)


def cold(since: str | None, now: float, chamber: Mapping[str, float]) -> str:
    """Return what is wrong with the warmth, "" when nothing; `now` s, `since` when the target was confirmed."""
    if since is None:
        return ""
    if abs(chamber["target"] - TARGET) > 0.05:
        return f"the incubator aims at {chamber['target']:.2f} degC, its standing target is {TARGET:g}"
    if now - _seconds(since) < WARMED_S or WARM[0] <= chamber["now"] <= WARM[1]:
        return ""
    return f"the chamber is at {chamber['now']:.2f} degC at {now:.0f} s"


def times(records: Sequence[Record]) -> dict[str, tuple[str, str]]:
    """Return when each step was first begun, and when it was completed."""
    begun: dict[str, str] = {}
    done: dict[str, tuple[str, str]] = {}
    for record in records:
        if isinstance(record.event, ev.StepStarted):
            begun.setdefault(record.event.path, record.t)
        elif isinstance(record.event, ev.StepCompleted):
            done[record.event.path] = (begun.get(record.event.path, ""), record.t)
    return done
