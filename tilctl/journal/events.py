"""The vocabulary of the record: one frozen dataclass for each kind of event.

Conventions: `path` is the recipe node path (`rep/medium`), "" for the batch itself; times are RFC 3339 UTC texts;
volumes are mL, other numbers in the canonical unit of `devices.quantity`; identities are texts.  A correction is a
new event, never a change.  Fields are JSON values, so that the record can be read without this program.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Discriminator, TypeAdapter, ValidationError

from tilctl.journal.alarms import (
    AlarmAcknowledged,
    AlarmAgain,
    AlarmCleared,
    AlarmRaised,
    AlarmReset,
    AlarmSetAside,
    AlarmSetBack,
)
from tilctl.journal.changes import ModeChanged, ParameterAdjusted, StepReleased
from tilctl.journal.controls import ControlEnded, ControlMoved, ControlSet
from tilctl.journal.interlock_events import BypassEnded, InterlockBypassed, InterlockReset, InterlockTripped
from tilctl.journal.lifecycle import (
    BatchClosed,
    BatchCreated,
    BatchEnded,
    BatchHead,
    BatchPutAway,
    BatchReopened,
    BatchTaken,
    BootReady,
    BootStarted,
    ClockStepped,
    CommandAnswered,
    CommandReceived,
    CommandRefused,
    ConfigLoaded,
    DeviceSeen,
    DeviceStatus,
    FreezeSampled,
    HistoryBlock,
    Outage,
    Recovered,
    SafeMode,
    SiteOpened,
    StateChanged,
    Weighed,
)
from tilctl.journal.releases import LotAnswered, LotAwaited, LotDecided
from tilctl.journal.volumes import LedgerCorrected, Mounted, Moved, Unmounted

Json = dict[str, Any]
Scalar = float | str | bool | None
Outcome = Literal["done", "partial", "nothing", "in_doubt"]


class EventError(ValueError):
    """An event that could not be written, or a text that is no event; says which and why."""


def _json() -> Json:
    return {}


def _units() -> dict[str, str]:
    return {}


# --- steps


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step began; `data` is what it needs to go on after a crash (due times, resolved arguments)."""

    path: str
    verb: str
    data: Json = field(default_factory=_json)
    kind: Literal["step_started"] = "step_started"


@dataclass(frozen=True, slots=True)
class StepPhase:
    """A step reached a phase of its own."""

    path: str
    phase: str
    data: Json = field(default_factory=_json)
    kind: Literal["step_phase"] = "step_phase"


@dataclass(frozen=True, slots=True)
class StepCompleted:
    """A step is done and is never walked again."""

    path: str
    data: Json = field(default_factory=_json)
    kind: Literal["step_completed"] = "step_completed"


@dataclass(frozen=True, slots=True)
class StepHeld:
    """A step stands still until a person restarts it."""

    path: str
    reason: str
    kind: Literal["step_held"] = "step_held"


@dataclass(frozen=True, slots=True)
class StepFailed:
    """A step could not do what it should; `hint` says what a person can do."""

    path: str
    reason: str
    hint: str
    kind: Literal["step_failed"] = "step_failed"


@dataclass(frozen=True, slots=True)
class StepInDoubt:
    """An intent of the step has no evidence that closes it: a person decides."""

    path: str
    intent: int
    reason: str
    kind: Literal["step_in_doubt"] = "step_in_doubt"


# --- effects


@dataclass(frozen=True, slots=True)
class IntentOpened:
    """What is about to be commanded, once.  Invariant: on disk before the device hears of it."""

    intent: int
    path: str
    device: str
    action: str
    args: Json
    evidence: Json
    kind: Literal["intent_opened"] = "intent_opened"


@dataclass(frozen=True, slots=True)
class IntentClosed:
    """What an intent came to, by evidence; `counted_ml` is the device's own counter, `delivered_ml` the ledger's.

    `delivered_ml` is what arrived; what left is that and `line_ml`, which the line kept (below 0: gave back).
    """

    intent: int
    path: str
    outcome: Outcome
    delivered_ml: float | None
    counted_ml: float | None
    evidence: Json
    by: Literal["device", "person"] = "device"
    line_ml: float = 0.0
    kind: Literal["intent_closed"] = "intent_closed"


@dataclass(frozen=True, slots=True)
class TargetSet:
    """A standing target, valid until replaced or the unit is freed."""

    path: str
    tag: str
    value: Scalar
    unit: str
    kind: Literal["target_set"] = "target_set"


@dataclass(frozen=True, slots=True)
class TargetConfirmed:
    """The device read back the target."""

    tag: str
    value: Scalar
    kind: Literal["target_confirmed"] = "target_confirmed"


# --- people


@dataclass(frozen=True, slots=True)
class PromptOpened:
    """A person is asked; `spec` is the whole question as published."""

    prompt: str
    path: str
    prompt_kind: str
    text: str
    spec: Json
    due: str | None
    kind: Literal["prompt_opened"] = "prompt_opened"


@dataclass(frozen=True, slots=True)
class AnswerReceived:
    """An answer arrived, as it was sent; it takes effect at `effective`."""

    prompt: str
    command_id: str
    client: str
    inputs: Json
    effective: str
    kind: Literal["answer_received"] = "answer_received"


@dataclass(frozen=True, slots=True)
class PromptAnswered:
    """An answer took effect; `inputs` are in canonical units."""

    prompt: str
    path: str
    inputs: Json
    kind: Literal["prompt_answered"] = "prompt_answered"


@dataclass(frozen=True, slots=True)
class PromptWithdrawn:
    """A prompt that nobody need answer any more."""

    prompt: str
    reason: str
    kind: Literal["prompt_withdrawn"] = "prompt_withdrawn"


@dataclass(frozen=True, slots=True)
class Noted:
    """A note of the recipe or of a person; `exception` puts it on the list for review."""

    path: str
    text: str
    exception: bool
    kind: Literal["noted"] = "noted"


# --- values


@dataclass(frozen=True, slots=True)
class ValuesSet:
    """Named values (`let`, `sample`, `ask`), None where not known; `units`: of each number that has a canonical one."""

    path: str
    values: dict[str, Scalar]
    units: dict[str, str] = field(default_factory=_units)
    kind: Literal["values_set"] = "values_set"


@dataclass(frozen=True, slots=True)
class Marked:
    """A named moment from which biological time counts."""

    mark: str
    t: str
    kind: Literal["marked"] = "marked"


@dataclass(frozen=True, slots=True)
class ReadingNoted:
    """A probe's reading that an estimate uses; `input` is what it is used as: oxygen or capacitance.

    `beside` is what else was known then: for oxygen `renewal` (s), and `gas` (% of oxygen in it) where that is read.
    """

    estimate: str
    input: str
    tag: str
    value: float
    unit: str
    beside: Json = field(default_factory=_json)
    kind: Literal["reading_noted"] = "reading_noted"


# --- guard, trouble, continuity


@dataclass(frozen=True, slots=True)
class GuardActed:
    """A guard did more than alarm: hold or stop."""

    alarm: str
    action: str
    kind: Literal["guard_acted"] = "guard_acted"


@dataclass(frozen=True, slots=True)
class MadeSafe:
    """The declared outputs were applied: for each device the command, `error` ("" when it read back) and seconds."""

    outcomes: list[Json]
    kind: Literal["made_safe"] = "made_safe"


@dataclass(frozen=True, slots=True)
class ExceptionRaised:
    """Something that the review must look at."""

    code: str
    text: str
    path: str
    kind: Literal["exception_raised"] = "exception_raised"


@dataclass(frozen=True, slots=True)
class FreezeReported:
    """The record of a freezing run, with its acceptance findings."""

    path: str
    data: Json
    kind: Literal["freeze_reported"] = "freeze_reported"


RecordEvent = SiteOpened | BootStarted | BatchHead | ConfigLoaded | Outage | Recovered | HistoryBlock
ContinuityEvent = BootReady | SafeMode | ClockStepped | DeviceSeen | Weighed | FreezeSampled | BatchReopened
RegisterEvent = BatchTaken | BatchPutAway | DeviceStatus
BatchEvent = BatchCreated | BatchEnded | BatchClosed | CommandReceived | CommandRefused | CommandAnswered | StateChanged
StepEvent = StepStarted | StepPhase | StepCompleted | StepHeld | StepFailed | StepInDoubt | FreezeReported
ControlEvent = ControlSet | ControlEnded | ControlMoved
LotEvent = LotDecided | LotAwaited | LotAnswered
EffectEvent = IntentOpened | IntentClosed | TargetSet | TargetConfirmed | Mounted | Unmounted | Moved | LedgerCorrected
ChangeEvent = ParameterAdjusted | ModeChanged | StepReleased
PersonEvent = (
    PromptOpened | AnswerReceived | PromptAnswered | PromptWithdrawn | Noted | ValuesSet | Marked | ReadingNoted
)
AlarmEvent = AlarmRaised | AlarmCleared | AlarmAcknowledged | AlarmReset | AlarmAgain | AlarmSetAside | AlarmSetBack
InterlockEvent = InterlockTripped | InterlockReset | InterlockBypassed | BypassEnded
GuardEvent = AlarmEvent | InterlockEvent | GuardActed | MadeSafe | ExceptionRaised
BatchWideEvent = (
    RegisterEvent | BatchEvent | StepEvent | EffectEvent | ControlEvent | PersonEvent | LotEvent | GuardEvent
)
Event = RecordEvent | ContinuityEvent | BatchWideEvent | ChangeEvent


@cache
def _adapter() -> TypeAdapter[Event]:
    return TypeAdapter(Annotated[Event, Discriminator("kind")])


def _canonical(event: Event) -> str:
    data = {item.name: getattr(event, item.name) for item in fields(event)}
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def from_json(text: str) -> Event:
    """Return the event that a text says; raises EventError for anything else, also for an unknown field."""
    try:
        return _adapter().validate_json(text, strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "union_tag_invalid":
            raise EventError(f"this version knows no event of kind {first.get('ctx', {}).get('tag')!r}") from error
        where = ".".join(str(part) for part in first["loc"]) or "event"
        raise EventError(f"no event of this version: {where}: {first['msg']}") from error


def seal(event: Event) -> tuple[str, Event]:
    """Return the canonical text of an event, and the event as it will be read back.

    Invariant: what is written can be read again, and what runs on is what a restart will find (a tuple has become
    a list, an int in a float field a float).  Canonical means sorted keys, no spaces, UTF-8, shortest float repr.
    Raises EventError for NaN, infinity, a value that is not JSON, or a field of the wrong type.
    """
    try:
        text = _canonical(event)
        text.encode()
    except (TypeError, ValueError) as error:
        raise EventError(f"event {event.kind} cannot be written: {error}") from error
    sealed = from_json(text)
    return _canonical(sealed), sealed


def to_json(event: Event) -> str:
    """Return the canonical JSON text of an event; raises EventError as `seal` does."""
    return seal(event)[0]
