"""The shape of a profile of an instrument over MQTT; header, failsafe and checks are those of every profile.

Every scalar of a file is text, so a JSON payload is written as JSON text: `json: '{"id": 0, "on": "{value}"}'`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from devices.alarm import AlarmFields, AlarmId
from devices.profile_model import CheckModel, FailsafeModel, Flag, HeaderModel, Milliseconds, Name, Number
from devices.profile_ne107 import Ne107Model

Topic = Annotated[str, Field(min_length=1, max_length=300)]
Text = Annotated[str, Field(max_length=4000)]
Path = Annotated[str, Field(max_length=200)]
Kind = Literal["number", "bool", "symbol", "text"]


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MqttModel(_Strict):
    """The topics begin with `prefix` (a site gives that of the unit); messages are sent and taken with this QoS."""

    prefix: Topic
    qos: Literal["1"] = "1"


class OnlineModel(_Strict):
    """The topic that tells whether it is there: one of `payload` says so, all else denies it; `lost` is its will."""

    topic: Topic
    payload: Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]
    lost: str


class TransportModel(_Strict):
    """How the instrument is reached, and after how many questions in a row without an answer it counts as gone."""

    kinds: Annotated[list[Literal["mqtt"]], Field(min_length=1, max_length=1)]
    mqtt: MqttModel
    online: OnlineModel
    offline_after: Annotated[int, BeforeValidator(lambda v: int(v) if isinstance(v, str) and v.isdecimal() else v)] = 3


class MessageModel(_Strict):
    """What is published, never retained: a text, or JSON; places are `{arg}`, `{id}`, `{reply}` and `{prefix}`."""

    topic: Topic
    text: Text | None = None
    json_text: Annotated[Text | None, Field(alias="json")] = None


class AskModel(MessageModel):
    """What makes the instrument send the block again, once it is older than `every_ms` (half of its stale_ms)."""

    within_ms: Milliseconds = 2000
    every_ms: Milliseconds | None = None


class BlockModel(_Strict):
    """The latest message of a topic; with `has`, the latest that has a value at that place."""

    topic: Topic
    scan: Literal["fast", "slow", "demand"]
    has: Path | None = None
    ask: AskModel | None = None
    doc: str = ""


class FormModel(_Strict):
    """How a value stands in a message."""

    type: Kind
    unit: str = ""
    scale: Number = 1.0
    offset: Number = 0.0
    true: str | None = None
    false: str | None = None
    symbols: dict[str, Name] = Field(default_factory=dict[str, str])


class PointModel(FormModel):
    """One value: where in the message of its block it stands (`json_path`, dotted; empty is the whole payload)."""

    block: Name
    json_path: Path = ""
    range: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    absent: str | None = None
    stale_ms: Milliseconds
    doc: str = ""


class ArgModel(FormModel):
    """An argument; a number needs limits. `only_when`: sent only where another argument has that value."""

    min: Number | None = None
    max: Number | None = None
    only_when: Annotated[dict[Name, str] | None, Field(min_length=1, max_length=1)] = None


class AckModel(_Strict):
    """What the instrument answers: `match` gives the values at places of the answer, `refusal` the place of an error.

    An answer that fits and has something at `refusal` says that the command was not carried out.
    """

    topic: Topic
    match: Annotated[dict[str, str], Field(min_length=1)]
    refusal: Path | None = None
    within_ms: Milliseconds = 2000


class VerifyModel(_Strict):
    """The read-back: checks of points, or `none` with its reason."""

    within_ms: Milliseconds = 2000
    points: list[CheckModel] = Field(default_factory=list[CheckModel])
    none: str | None = None


class CommandModel(_Strict):
    """One action: one message, its acknowledgement and its read-back."""

    args: dict[Name, ArgModel] = Field(default_factory=dict[str, ArgModel])
    publish: MessageModel
    ack: AckModel | None = None
    idempotent: Flag
    verify: VerifyModel
    doc: str = ""


class SerialModel(_Strict):
    """Where the serial number stands."""

    block: Name
    json_path: Path


class SimModel(_Strict):
    """Which simulated instrument stands behind the topics."""

    model: Name
    values: dict[Name, str] = Field(default_factory=dict[str, str])


class MqttProfileModel(_Strict):
    """A whole profile file."""

    profile: HeaderModel
    transport: TransportModel
    serial: SerialModel | None = None
    blocks: Annotated[dict[Name, BlockModel], Field(min_length=1)]
    points: Annotated[dict[Name, PointModel], Field(min_length=1)]
    commands: dict[Name, CommandModel] = Field(default_factory=dict[str, CommandModel])
    ne107: Ne107Model = Ne107Model()
    failsafe: FailsafeModel
    alarms: dict[AlarmId, AlarmFields] = Field(default_factory=dict[str, AlarmFields])
    sim: SimModel | None = None
