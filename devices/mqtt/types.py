"""A compiled MQTT profile: where the values of its points stand in which messages, and what its commands publish.

An `MqttProfile` is a Profile like any other for the controller; what it adds is for the driver and the simulators.
Topics still have their places: `{prefix}` is the one of the unit, `{reply}` the name of who asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from devices.profile_types import Profile

JsonPath = tuple[str | int, ...]
"""Keys and list indexes from the outside in; empty is the whole payload."""

ArgValue = float | str


@dataclass(frozen=True, slots=True)
class Form:
    """How a value is written in a message: as a number (raw * scale + offset), or as one of some texts."""

    kind: str  # number, bool, symbol or text
    scale: float = 1.0
    offset: float = 0.0
    true: str | None = None
    """The text of true; None where JSON's own true and false are meant."""
    false: str | None = None
    symbols: Mapping[str, str] | None = None
    """Text in the message -> symbol."""


@dataclass(frozen=True, slots=True)
class PointPlace:
    """Where the value of a point stands; `absent` is its value (in its unit) in a message that does not have it."""

    path: JsonPath
    form: Form
    absent: float | bool | str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """What is published: `text` with places to fill, or `json`, in which a whole text `{arg}` is a place."""

    topic: str
    text: str = ""
    json: Any = None
    is_json: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """What makes an instrument send a block again; how long (s) that may take, and after which age (s) it is asked."""

    message: Message
    within_s: float
    every_s: float


@dataclass(frozen=True, slots=True)
class Source:
    """A block: the latest message of a topic; with `has`, the latest that has a value there."""

    topic: str
    has: JsonPath | None
    ask: Ask | None


@dataclass(frozen=True, slots=True)
class Arg:
    """How an argument is sent; only where the argument `only[0]` has the value `only[1]`, otherwise left out."""

    form: Form
    only: tuple[str, ArgValue] | None = None


@dataclass(frozen=True, slots=True)
class Ack:
    """What an instrument answers to a command: on which topic, with which values where (with places to fill).

    A reply that fits and has something at `refusal` says that the command was not carried out.
    """

    topic: str
    match: tuple[tuple[JsonPath, str], ...]
    refusal: JsonPath | None
    within_s: float


@dataclass(frozen=True, slots=True)
class Action:
    """What a command publishes, and how it is acknowledged; None where the instrument gives no answer of its own."""

    message: Message
    args: Mapping[str, Arg]
    ack: Ack | None


@dataclass(frozen=True, slots=True)
class Online:
    """The topic that tells whether the instrument is there; `lost` is what its will says."""

    topic: str
    payloads: frozenset[str]
    lost: str


@dataclass(frozen=True, slots=True)
class MqttProfile(Profile):
    """A profile with all that MQTT adds for each block, point and command, and where the serial number stands.

    There are no registers: function codes, addresses and word counts of blocks, points and commands are 0.
    """

    prefix: str = ""
    online: Online = Online("", frozenset(), "")
    topics: Mapping[str, Source] = field(default_factory=dict[str, Source])
    places: Mapping[str, PointPlace] = field(default_factory=dict[str, PointPlace])
    actions: Mapping[str, Action] = field(default_factory=dict[str, Action])
    serial_place: tuple[str, JsonPath] | None = None
