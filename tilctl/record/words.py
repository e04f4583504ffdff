"""The events of the record in words: one phrase for each, for whoever reads a batch without this program's source."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, assert_never, cast

from devices.quantity import show
from tilctl.journal import events as ev
from tilctl.journal.changes import Mode
from tilctl.record.alarm_words import of_an_alarm
from tilctl.record.interlock_words import of_an_interlock

LONGEST = 120
"""Characters of one value that is data (a table, a list); the whole of it is in the record."""
_DOSE = {"volume": "mL", "rate": "mL/min"}


def describe(event: ev.Event) -> str:
    """Return what happened as one phrase; its path, where it has one, is not repeated."""
    match event:
        case (
            ev.SiteOpened()
            | ev.BootStarted()
            | ev.BatchHead()
            | ev.ConfigLoaded()
            | ev.Outage()
            | ev.Recovered()
            | ev.HistoryBlock()
        ):
            return _of_the_record(event)
        case (
            ev.BootReady()
            | ev.SafeMode()
            | ev.ClockStepped()
            | ev.DeviceSeen()
            | ev.Weighed()
            | ev.FreezeSampled()
            | ev.BatchReopened()
        ):
            return _of_continuity(event)
        case ev.BatchTaken():
            return f"{event.unit} has batch {event.batch}" + (f", by command {event.command}" if event.command else "")
        case ev.BatchPutAway():
            return f"batch {event.batch} is put away ({event.result}): its unit is free"
        case ev.DeviceStatus():
            why = "; ".join(event.reasons)
            return f"device {event.device}: {event.status.replace('_', ' ')}" + _because(why[:LONGEST])
        case (
            ev.BatchCreated()
            | ev.BatchEnded()
            | ev.BatchClosed()
            | ev.CommandReceived()
            | ev.CommandAnswered()
            | ev.CommandRefused()
            | ev.StateChanged()
        ):
            return _of_the_batch(event)
        case (
            ev.StepStarted()
            | ev.StepPhase()
            | ev.StepCompleted()
            | ev.StepHeld()
            | ev.StepFailed()
            | ev.StepInDoubt()
            | ev.FreezeReported()
        ):
            return _of_a_step(event)
        case (
            ev.IntentOpened()
            | ev.IntentClosed()
            | ev.TargetSet()
            | ev.TargetConfirmed()
            | ev.Mounted()
            | ev.Unmounted()
            | ev.Moved()
            | ev.LedgerCorrected()
        ):
            return _of_an_effect(event)
        case ev.ControlSet() | ev.ControlEnded() | ev.ControlMoved():
            return _of_a_control(event)
        case ev.ParameterAdjusted() | ev.ModeChanged() | ev.StepReleased():
            return changed(event)
        case ev.LotDecided() | ev.LotAwaited() | ev.LotAnswered():
            return _of_a_lot(event)
        case (
            ev.PromptOpened()
            | ev.AnswerReceived()
            | ev.PromptAnswered()
            | ev.PromptWithdrawn()
            | ev.Noted()
            | ev.ValuesSet()
            | ev.Marked()
            | ev.ReadingNoted()
        ):
            return _of_a_person(event)
        case (
            ev.AlarmRaised()
            | ev.AlarmCleared()
            | ev.AlarmAcknowledged()
            | ev.AlarmReset()
            | ev.AlarmAgain()
            | ev.AlarmSetAside()
            | ev.AlarmSetBack()
        ):
            values = _data(event.values) if isinstance(event, ev.AlarmRaised) else ""
            return of_an_alarm(event) + (f" [{values}]" if values else "")
        case ev.InterlockTripped() | ev.InterlockReset() | ev.InterlockBypassed() | ev.BypassEnded():
            return of_an_interlock(event)
        case ev.GuardActed():
            return f"guard: {event.action} for alarm {event.alarm}"
        case ev.MadeSafe():
            failed = [f"{each['device']} not: {each['error']}" for each in event.outcomes if each["error"]]
            return f"made safe: {len(event.outcomes) - len(failed)} devices" + "".join(f"; {text}" for text in failed)
        case ev.ExceptionRaised():
            return f"exception {event.code}: {event.text}"
        case _:
            assert_never(event)


def _of_the_record(event: ev.RecordEvent) -> str:
    match event:
        case ev.SiteOpened():
            return f"site {event.site}, node {event.node}: record opened by version {event.version}"
        case ev.BootStarted():
            before = f", last sign of life {event.previous_beat}" if event.previous_beat else ""
            return f"the controller came up: boot {event.boot}, version {event.version}{before}"
        case ev.BatchHead():
            return f"head of batch {event.batch}: event {event.seq}, {event.hash}"
        case ev.ConfigLoaded():
            return f"site file in force: sha256 {event.hash}"
        case ev.Outage():
            unsure = f" (uncertain: {event.uncertain})" if event.uncertain else ""
            return f"the controller was away for {show(event.seconds, 's')}, {event.from_t} to {event.to_t}{unsure}"
        case ev.Recovered():
            return f"recovered: {_data(event.report)}"
        case ev.HistoryBlock():
            last = event.first + event.blocks - 1
            return f"trends of {event.t0} to {event.t1}, blocks {event.first} to {last}: sha256 {event.sha256}"
        case _:
            assert_never(event)


def _of_continuity(event: ev.ContinuityEvent) -> str:
    match event:
        case ev.BootReady():
            return f"recovery is complete: boot {event.boot}"
        case ev.SafeMode():
            by = f" by {event.by}" if event.by else ""
            return f"safe mode {'on' if event.on else 'left'}{by}" + _because(event.reason)
        case ev.ClockStepped():
            how = {"run": "jumped", "boot": "was found off at boot", "adopted": "was taken over"}[event.cause]
            return f"the wall clock {how} by {event.by_s:+.3f} s; it is {event.offset_s:+.3f} s off the record's time"
        case ev.DeviceSeen():
            return f"instrument {event.device} is {event.profile}, serial number {event.serial or 'not known'}"
        case ev.Weighed():
            was = f"{show(event.found_g, 'g')} where {show(event.expected_g, 'g')} were expected"
            return f"{event.container} at {event.place} was accepted with {was}"
        case ev.FreezeSampled():
            last = event.rows[-1] if event.rows and len(event.rows[-1]) > 2 else []
            seen = f", the last at {last[0] or 0.0:g} s: sample {_value(last[2], 'degC')}" if last else ""
            nucleated = "nucleation not known" if event.nucleated is None else _nucleated(event.nucleated)
            return f"freezing run of intent {event.intent}: {len(event.rows)} readings{seen}, {nucleated}"
        case ev.BatchReopened():
            unsure = f" (uncertain: {event.uncertain})" if event.uncertain else ""
            return f"version {event.software} opened the record; nobody was in control since {event.since}{unsure}"
        case _:
            assert_never(event)


def _of_the_batch(event: ev.BatchEvent) -> str:
    match event:
        case ev.BatchCreated():
            given = f" with {_data(event.parameters)}" if event.parameters else ""
            recipe = f"recipe {event.recipe} {event.recipe_version} (sha256 {event.recipe_sha256})"
            return f"batch {event.batch} on {event.unit}: {recipe}{given}, by version {event.software}"
        case ev.BatchEnded():
            return f"the procedure is over: {event.result}" + _because(event.reason)
        case ev.BatchClosed():
            return "the record is closed, the unit is free"
        case ev.CommandReceived():
            args = _data(event.args)
            who = f"{event.client}, {event.actor}" if event.actor else event.client
            return f"command {event.verb} from {who}" + (f": {args}" if args else "") + f" [{event.command_id}]"
        case ev.CommandAnswered():
            text = " ".join(part for part in (event.code, event.text) if part)
            return f"answer: {event.status}" + _because(text) + f" [{event.command_id}]"
        case ev.CommandRefused():
            who = f"{event.client}, for {event.unit}" if event.unit else event.client
            return (
                f"command {event.verb} from {who} was refused: {event.code}{_because(event.text)} [{event.command_id}]"
            )
        case ev.StateChanged():
            what = "the batch" if not event.path else "operation"
            by = f" by {event.command}" if event.command else ""
            return f"{what}: {event.from_state} -> {event.to_state}{by}" + _because(event.reason)
        case _:
            assert_never(event)


def _of_a_step(event: ev.StepEvent) -> str:
    match event:
        case ev.StepStarted():
            data = _data(event.data)
            return f"{event.verb} begins" + (f": {data}" if data else "")
        case ev.StepPhase():
            data = _data(event.data, _DOSE if event.phase == "ordered" else {})
            return f"phase {event.phase}" + (f": {data}" if data else "")
        case ev.StepCompleted():
            data = _data(event.data)
            return "complete" + (f": {data}" if data else "")
        case ev.StepHeld():
            return "held" + _because(event.reason)
        case ev.StepFailed():
            return f"failed: {event.reason}; to do: {event.hint}"
        case ev.StepInDoubt():
            return f"in doubt about intent {event.intent}: {event.reason}"
        case ev.FreezeReported():
            findings = cast("list[Mapping[str, Any]]", event.data.get("findings") or [])
            unseen = [str(finding.get("criterion")) for finding in findings if not finding.get("judged", True)]
            bad = [str(f.get("criterion")) for f in findings if not f.get("ok") and f.get("judged", True)]
            judged = f"not met: {', '.join(bad)}" if bad else "all met" if not unseen else "no other missed"
            judged += f"; not judged: {', '.join(unseen)}" if unseen else ""
            profile, ended = event.data.get("profile"), event.data.get("ended_as")
            return f"freezing run {profile} ended as {ended}; {len(findings)} criteria, {judged}"
        case _:
            assert_never(event)


def _of_a_control(event: ev.ControlEvent) -> str:
    match event:
        case ev.ControlSet():
            unit, at, deadband = (event.data.get(name) for name in ("unit", "at", "deadband"))
            by = ", ".join(str(output["tag"]) for output in event.data.get("outputs", ()))
            return f"{event.of} is kept at {_value(at, str(unit))}, {_value(deadband)} either way, by {by}"
        case ev.ControlEnded():
            return f"{event.of} is kept no longer"
        case ev.ControlMoved():
            moved = f"target {event.tag} = {_value(event.value, event.unit)}"
            return f"{event.of} is {_value(event.reading)}: {moved}"
        case _:
            assert_never(event)


def _of_a_lot(event: ev.LotEvent) -> str:
    awaited = f"; awaited: {', '.join(event.pending)}" if event.pending else ""
    match event:
        case ev.LotDecided():
            return f"the lot is {event.outcome}, by {event.by}{_because(event.text)}{awaited}"
        case ev.LotAwaited():
            return f"the lot of {event.batch} is conditional{awaited}; it is decided here from now on"
        case ev.LotAnswered():
            given = f"answer to {event.prompt} of {event.batch} by {event.by}: {_data(event.inputs)}"
            return f"{given}; the lot is {event.outcome}{awaited}"
        case _:
            assert_never(event)


def _of_an_effect(event: ev.EffectEvent) -> str:
    match event:
        case ev.IntentOpened():
            return f"intent {event.intent}: {event.device} is to {event.action}, {_data(event.args, _DOSE)}"
        case ev.IntentClosed():
            delivered = f", {_volume(event.delivered_ml)} delivered" if event.delivered_ml is not None else ""
            counted = f", {_volume(event.counted_ml)} counted" if event.counted_ml is not None else ""
            kept = f", {_volume(event.line_ml)} kept by the line" if event.line_ml else ""
            return f"intent {event.intent} {event.outcome}{delivered}{counted}{kept} (by {event.by})"
        case ev.TargetSet():
            return f"target {event.tag} = {_value(event.value, event.unit)}"
        case ev.TargetConfirmed():
            return f"target {event.tag} = {_value(event.value)} read back"
        case ev.Mounted():
            scan = f", label {event.scan}" if event.scan else ""
            mass = f", {show(event.mass_g, 'g')} gross" if event.mass_g is not None else ""
            what = f"{event.container} ({event.vessel_class})"
            return f"{what} mounted at {event.place} with {_volume(event.volume_ml)}{mass}{scan}"
        case ev.Unmounted():
            return f"{event.container} taken from {event.place} with {_volume(event.volume_ml)}"
        case ev.Moved():
            return f"{_volume(event.volume_ml)} from {event.from_container} to {event.to_container}"
        case ev.LedgerCorrected():
            return corrected(event)
        case _:
            assert_never(event)


def _of_a_person(event: ev.PersonEvent) -> str:
    match event:
        case ev.PromptOpened():
            due = f" (due {event.due})" if event.due else ""
            return f"prompt {event.prompt} ({event.prompt_kind}): {event.text}{due}"
        case ev.AnswerReceived():
            who = f"answer to {event.prompt} from {event.client}, in force at {event.effective}"
            return f"{who}: {_data(event.inputs)}" if event.inputs else who
        case ev.PromptAnswered():
            return f"prompt {event.prompt} is answered" + (f": {_data(event.inputs)}" if event.inputs else "")
        case ev.PromptWithdrawn():
            return f"prompt {event.prompt} is withdrawn" + _because(event.reason)
        case ev.Noted():
            return f"{'exception noted' if event.exception else 'note'}: {event.text}"
        case ev.ValuesSet():
            values = (f"{name} = {_value(value, event.units.get(name, ''))}" for name, value in event.values.items())
            return ", ".join(values) or "no values"
        case ev.Marked():
            return f"mark {event.mark} at {event.t}"
        case ev.ReadingNoted():
            return f"estimate {event.estimate}: {event.tag} reads {_value(event.value, event.unit)}"
        case _:
            assert_never(event)


def changed(event: ev.ChangeEvent) -> str:
    """Return what a person changed of a running batch in words, for the record and for the review alike."""
    match event:
        case ev.ParameterAdjusted():
            what = f"{event.parameter} adjusted from {event.old} to {event.new}"
        case ev.ModeChanged():
            what = f"mode {spaced(event.from_mode)} -> {spaced(event.to_mode)}"
        case ev.StepReleased():
            what = "told to proceed" if event.how == "proceed" else "passed over"
        case _:
            assert_never(event)
    return f"{what}, by {event.who}" + _because(event.reason)


def spaced(mode: Mode) -> str:
    """Return a mode as people write it: `semi-automatic`."""
    return mode.replace("_", "-")


def corrected(event: ev.LedgerCorrected) -> str:
    """Return a correction of the ledger in words, for the record and for the review alike."""
    sign = "+" if event.change_ml > 0 else ""
    what = f"{event.container} corrected by {sign}{_volume(event.change_ml)} to {_volume(event.volume_ml)}"
    since = " as of its mounting" if event.from_mounting else ""
    return f"{what}{since}, by {event.who}, seconded by {event.second}: {event.reason}"


def _nucleated(nucleated: bool) -> str:
    return "nucleated" if nucleated else "not nucleated"


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _volume(volume: float) -> str:
    return show(volume, "mL")


def _value(value: object, unit: str = "") -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return show(float(value), unit)
    if isinstance(value, Mapping):
        text = f"({_data(cast('Mapping[str, Any]', value))})"
    elif isinstance(value, list):
        text = ", ".join(_value(item) for item in cast("list[object]", value))
    else:
        text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _data(data: Mapping[str, Any], units: Mapping[str, str] = MappingProxyType({})) -> str:
    given = {name: value for name, value in data.items() if value not in ("", {}, [])}
    return ", ".join(f"{name} {_value(value, units.get(name, ''))}" for name, value in given.items())
