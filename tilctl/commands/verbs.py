"""The verbs that the door knows, and what each takes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Key = Annotated[str, Field(min_length=1, max_length=80)]
Text = Annotated[str, Field(max_length=1000)]


class Code(StrEnum):
    """Why a command was refused or failed; the text beside it is for the person."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    RETAINED = "retained"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    UNKNOWN_VERB = "unknown_verb"
    UNKNOWN_UNIT = "unknown_unit"
    WRONG_CLIENT = "wrong_client"
    BAD_RESPONSE_TOPIC = "bad_response_topic"
    REPEATED_OTHER_CONTENT = "repeated_other_content"
    ILLEGAL_STATE = "illegal_state"
    VERSION_MISMATCH = "version_mismatch"
    UNKNOWN_RECIPE = "unknown_recipe"
    BAD_RECIPE = "bad_recipe"
    BAD_PARAMETER = "bad_parameter"
    NO_PROMPT = "no_prompt"
    BAD_ANSWER = "bad_answer"
    SCHEDULED_NOT_ALLOWED = "scheduled_not_allowed"
    BUSY = "busy"
    TOO_MANY = "too_many"
    INTERRUPTED = "interrupted"
    NOT_READY = "not_ready"
    JOURNAL_FAILED = "journal_failed"
    DISK_LOW = "disk_low"
    NO_RECORD = "no_record"
    RECOVERING = "recovering"
    SAFE_MODE = "safe_mode"
    UNKNOWN_INTERLOCK = "unknown_interlock"
    NOT_OVER = "not_over"
    BYPASS_NEVER = "bypass_never"
    NO_ACTOR = "no_actor"
    NO_REASON = "no_reason"
    ROLE_NOT_ALLOWED = "role_not_allowed"
    SECOND_PERSON = "second_person"
    BAD_DURATION = "bad_duration"
    RENEWED_ALREADY = "renewed_already"
    INTERNAL = "internal"
    NOT_ADJUSTABLE = "not_adjustable"
    NOT_READ = "not_read"
    NOT_WAITING = "not_waiting"
    NOT_SKIPPABLE = "not_skippable"
    NO_ALARM = "no_alarm"
    NOT_SHELVABLE = "not_shelvable"
    NEEDS_REASON = "needs_reason"
    NEEDS_ACTOR = "needs_actor"


class Nothing(BaseModel):
    """A verb without arguments."""

    model_config = ConfigDict(extra="forbid")


class StartArgs(Nothing):
    """What `start` takes: a recipe of the library by name, and parameters as text with their unit."""

    recipe: Annotated[str, Field(min_length=1, max_length=200)]
    parameters: Annotated[dict[Key, Text], Field(max_length=200)] = {}


class Reported(Nothing):
    """When a result was found and by whom; `row` marks the row of the file that it came from."""

    time: Annotated[str, Field(max_length=80)]
    analyst: Annotated[str, Field(max_length=200)]
    row: Annotated[str, Field(max_length=80)] = ""


class AnswerArgs(Nothing):
    """What `prompt-answer` takes: the prompt and a value for each input, text with its unit or a plain number.

    `batch`: a closed one, whose results are still awaited.  `reported`: who found what when, for the record.
    """

    prompt: Key
    batch: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,79})?$")] = ""
    inputs: Annotated[dict[Key, Text | int | float | bool], Field(max_length=200)] = {}
    reported: Annotated[dict[Key, Reported], Field(max_length=200)] = {}


class PersonArg(Nothing):
    """Who somebody says to be; nobody has proven it."""

    user: Annotated[str, Field(min_length=1, max_length=200)]
    role: Annotated[str, Field(min_length=1, max_length=200)]


class CorrectArgs(Nothing):
    """What `correct` takes: a container, its true volume now or by how much it changes, and who seconds it."""

    container: Key
    volume: Text = ""
    change: Text = ""
    second: PersonArg


class AdjustArgs(Nothing):
    """What `adjust` takes: a parameter, its new value as text with its unit, and the one that was seen (`was`)."""

    parameter: Key
    value: Annotated[str, Field(min_length=1, max_length=80)]
    was: Annotated[str, Field(max_length=80)] = ""


class ModeArgs(Nothing):
    """What `mode` takes: how the steps of the batch begin from now on."""

    mode: Literal["automatic", "semi_automatic", "manual"]


class StepArgs(Nothing):
    """What `proceed` and `skip` take: the step that is expected to wait, by its path."""

    step: Annotated[str, Field(min_length=1, max_length=400)]


class EventsArgs(Nothing):
    """What `events` takes: a batch (else the unit's latest), the first event, the last one, how many at most."""

    batch: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,79})?$")] = ""
    first: Annotated[int, Field(alias="from", ge=1)] = 1
    to: Annotated[int, Field(ge=1)] | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 500
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class AlarmArgs(Nothing):
    """Which alarm; `*` acknowledges all that wait."""

    alarm: Annotated[str, Field(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9_.-]{0,159})$")]


class ShelveArgs(AlarmArgs):
    """What `shelve` takes: for how long, and whether it ends with the condition."""

    for_: Annotated[str, Field(alias="for", min_length=1, max_length=80)]
    once: bool = False


class OutOfServiceArgs(AlarmArgs):
    """What `out-of-service` takes: the number of the work order."""

    work_order: Annotated[str, Field(min_length=1, max_length=80)]


class InterlockArgs(Nothing):
    """What `interlock-reset` and `unbypass` take: an interlock (or a permissive) by its name in the site file."""

    interlock: Key


class SecondPerson(Nothing):
    """Who agrees to a bypass, by his own word; nobody can prove it yet."""

    user: Annotated[str, Field(min_length=1, max_length=200)]
    role: Annotated[str, Field(min_length=1, max_length=200)]


class BypassArgs(InterlockArgs):
    """What `bypass` takes: for how long, as text with its unit, and who agrees."""

    lasts: Annotated[str, Field(alias="for", min_length=1, max_length=40)]
    second: SecondPerson
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


@dataclass(frozen=True, slots=True)
class Verb:
    """How the door treats one verb.

    Invariant: a `protective` verb is never turned away for want of room or for a wrong response topic.
    `bound_to_screen`: refused when what the sender saw last (`expect`) has changed. Hold and abort are not: a
    person who wants the batch safe is right on any screen. `beside`: answered by the gateway from the record alone,
    and never at the door. `of_site`: may be about the site, which is no unit.
    """

    args: type[BaseModel] = Nothing
    bad_args: Code = Code.MALFORMED
    protective: bool = False
    bound_to_screen: bool = True
    beside: bool = False
    of_site: bool = False


VERBS: dict[str, Verb] = {
    "start": Verb(StartArgs, Code.BAD_PARAMETER),
    "pause": Verb(),
    "resume": Verb(),
    "hold": Verb(protective=True, bound_to_screen=False),
    "restart": Verb(),
    "stop": Verb(protective=True),
    "abort": Verb(protective=True, bound_to_screen=False),
    "reset": Verb(),
    "prompt-answer": Verb(AnswerArgs, Code.BAD_ANSWER),
    "adjust": Verb(AdjustArgs, Code.BAD_PARAMETER),
    "mode": Verb(ModeArgs, Code.BAD_PARAMETER),
    "proceed": Verb(StepArgs, Code.BAD_PARAMETER),
    "skip": Verb(StepArgs, Code.BAD_PARAMETER),
    "correct": Verb(CorrectArgs, Code.BAD_PARAMETER),
    "status": Verb(bound_to_screen=False, of_site=True),
    "leave-safe-mode": Verb(bound_to_screen=False),
    "ack": Verb(AlarmArgs, bound_to_screen=False, of_site=True),
    "alarm-reset": Verb(AlarmArgs, bound_to_screen=False, of_site=True),
    "shelve": Verb(ShelveArgs, bound_to_screen=False, of_site=True),
    "unshelve": Verb(AlarmArgs, bound_to_screen=False, of_site=True),
    "out-of-service": Verb(OutOfServiceArgs, bound_to_screen=False, of_site=True),
    "in-service": Verb(AlarmArgs, bound_to_screen=False, of_site=True),
    "interlock-reset": Verb(InterlockArgs, bound_to_screen=False),
    "bypass": Verb(BypassArgs, bound_to_screen=False),
    "unbypass": Verb(InterlockArgs, bound_to_screen=False),
    "events": Verb(EventsArgs, bound_to_screen=False, beside=True),
}
