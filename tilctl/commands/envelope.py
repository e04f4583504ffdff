"""The envelope of a command: what must be in it, how large and how fresh it is.

The payload is JSON in UTF-8 (version 1 of each verb):
`{specversion, id, source, type "til.cmd.<verb>.v1", subject, time, exp, ctr?, dataschema?, actor?, sig?,
data: {batch?, expect?: {state?, state_version?}, args, reason?: {code, text}, effective?}}`.
A signed command will be a JWS (compact form) whose payload is that same JSON: `_unwrap` is its place. Until
identities exist a JWS is refused, never taken on trust.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, NoReturn, cast

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, ValidationError

from tilctl.commands.verbs import VERBS, Code
from tilctl.engine.port import Command

MAX_BYTES = 64 * 1024
"""Largest payload that is read, as in the broker's configuration."""
MAX_AHEAD = timedelta(seconds=300)
"""How far ahead `exp` may lie: a command is for now."""
MAX_SKEW = timedelta(seconds=30)
"""How far the clock of a station may be ahead of ours before its commands are refused."""


def _text_moment(value: object) -> object:
    if not isinstance(value, str) or "T" not in value:
        raise ValueError("must be an RFC 3339 time with zone, such as 2026-01-05T08:00:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_text_moment)]
CommandId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
Short = Annotated[str, Field(min_length=1, max_length=200)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Expect(_Model):
    state: Short | None = None
    state_version: StrictInt | None = None


class _Reason(_Model):
    code: Short
    text: Annotated[str, Field(min_length=1, max_length=2000)]


class _Actor(_Model):
    user: Short
    role: Short


class _Data(_Model):
    batch: Short | None = None
    expect: _Expect = _Expect()
    args: dict[str, Any] = {}
    reason: _Reason | None = None
    effective: Moment | None = None


class Envelope(_Model):
    """A command as it is sent. `sig` is the place of a signature, empty until people have keys."""

    specversion: Literal["1.0"]
    id: CommandId
    source: Short
    type: Annotated[str, Field(pattern=r"^til\.cmd\.[a-z-]{1,40}\.v1$")]
    subject: Short
    time: Moment
    exp: Moment
    ctr: StrictInt | None = None
    dataschema: Short | None = None
    data: _Data = _Data()
    actor: _Actor | None = None
    sig: None = None


@dataclass(frozen=True, slots=True)
class RawCommand:
    """A message as it came: names from its topic, payload unread.

    `foreign_reply`: the response topic that it asked for is not one of this client's.
    """

    client: str
    unit: str
    verb: str
    payload: bytes
    retained: bool = False
    foreign_reply: bool = False


class RefusedError(Exception):
    """A command that the door turns away; `command_id` is "" where none could be read."""

    def __init__(self, code: Code, text: str, command_id: str = "") -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.command_id = command_id


def peek_id(payload: bytes) -> str:
    """Return the command id of a payload, "" where none can be read; raises nothing."""
    try:
        data = _read_json(payload)
    except RefusedError:
        return ""
    return _id_of(data)


def open_envelope(raw: RawCommand) -> tuple[Envelope, Command]:
    """Check a message for everything that needs no clock and no state; raises RefusedError.

    The content hash covers what a command means, not when it was sent: a station may renew `time`, `exp` and `ctr`
    when it repeats a command.
    """
    data = _read_json(raw.payload)
    command_id = _id_of(data)
    if raw.retained:
        raise RefusedError(Code.RETAINED, "a command must not be retained: publish it with retain=0", command_id)
    verb = VERBS.get(raw.verb)
    if verb is None:
        raise RefusedError(Code.UNKNOWN_VERB, f"no verb is called {raw.verb!r}; known: {', '.join(VERBS)}", command_id)
    try:
        envelope = Envelope.model_validate(data)
    except ValidationError as error:
        raise RefusedError(Code.MALFORMED, _plain(error), command_id) from None
    if envelope.source != raw.client:
        text = f"source is {envelope.source!r}, and the topic belongs to {raw.client!r}"
        raise RefusedError(Code.WRONG_CLIENT, text, command_id)
    if envelope.type != f"til.cmd.{raw.verb}.v1":
        raise RefusedError(Code.MALFORMED, f"type is {envelope.type!r}, and the topic says {raw.verb!r}", command_id)
    if envelope.subject.split("/")[0] != raw.unit:
        raise RefusedError(
            Code.MALFORMED, f"subject is {envelope.subject!r}, and the topic says {raw.unit!r}", command_id
        )
    if raw.foreign_reply and not verb.protective:
        text = "the response topic is not one of this client's: use .../rsp/<client>/<anything>"
        raise RefusedError(Code.BAD_RESPONSE_TOPIC, text, command_id)
    try:
        args = verb.args.model_validate(envelope.data.args)
    except ValidationError as error:
        raise RefusedError(verb.bad_args, f"args: {_plain(error)}", command_id) from None
    return envelope, _command(raw, envelope, args.model_dump())


def check_fresh(envelope: Envelope, now: datetime) -> None:
    """Compare the times of a command with the real clock; raises RefusedError, which tells the skew."""
    skew = (envelope.time - now).total_seconds()
    if envelope.exp <= now:
        late = (now - envelope.exp).total_seconds()
        text = f"expired {late:.1f} s ago by the controller's clock; it was made {-skew:.1f} s ago"
        raise RefusedError(Code.EXPIRED, text, envelope.id)
    if envelope.time - now > MAX_SKEW:
        text = (
            f"made {skew:.1f} s in the future: set the clock of the station (allowed {MAX_SKEW.total_seconds():.0f} s)"
        )
        raise RefusedError(Code.NOT_YET_VALID, text, envelope.id)
    if envelope.exp - now > MAX_AHEAD + MAX_SKEW:
        ahead = (envelope.exp - now).total_seconds()
        text = f"exp lies {ahead:.0f} s ahead; at most {MAX_AHEAD.total_seconds():.0f} s, for a command is for now"
        raise RefusedError(Code.NOT_YET_VALID, text, envelope.id)


def rfc3339(moment: datetime) -> str:
    """Return a moment in UTC with milliseconds, as on the record."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _command(raw: RawCommand, envelope: Envelope, args: dict[str, Any]) -> Command:
    data = envelope.data
    content = {
        "source": envelope.source,
        "type": envelope.type,
        "subject": envelope.subject,
        "data": data.model_dump(mode="json"),
        "actor": envelope.actor.model_dump() if envelope.actor else None,
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Command(
        id=envelope.id,
        client=raw.client,
        unit=raw.unit,
        verb=raw.verb,
        batch=data.batch or "",
        expect_state=data.expect.state,
        expect_version=data.expect.state_version,
        args=args,
        reason=f"{data.reason.code}: {data.reason.text}" if data.reason else "",
        actor=f"{envelope.actor.user} ({envelope.actor.role})" if envelope.actor else "",
        user=envelope.actor.user if envelope.actor else "",
        role=envelope.actor.role if envelope.actor else "",
        effective=rfc3339(data.effective) if data.effective else "",
        content_sha256=hashlib.sha256(canonical.encode()).hexdigest(),
    )


def _unwrap(payload: bytes) -> bytes:
    """Return the JSON inside a payload: here a JWS will be verified and opened."""
    if payload.startswith(b"ey") and payload.count(b".") == 2:
        raise RefusedError(Code.MALFORMED, "signed commands (JWS) are not accepted by this version: send plain JSON")
    return payload


def _read_json(payload: bytes) -> dict[str, Any]:
    if len(payload) > MAX_BYTES:
        raise RefusedError(Code.TOO_LARGE, f"{len(payload)} bytes; at most {MAX_BYTES}")
    try:
        text = _unwrap(payload).decode("utf-8")
        data: object = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode()  # 1e400 and lone surrogates cannot be recorded
    except RecursionError:
        raise RefusedError(Code.MALFORMED, "nested too deeply") from None
    except ValueError as error:
        raise RefusedError(Code.MALFORMED, f"not JSON in UTF-8: {error}") from None
    if not isinstance(data, dict):
        raise RefusedError(Code.MALFORMED, "the payload must be a JSON object")
    return cast("dict[str, Any]", data)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return data


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _id_of(data: dict[str, Any]) -> str:
    value = data.get("id")
    safe = isinstance(value, str) and 0 < len(value) <= 80 and not set(value) - _ID_CHARACTERS
    return value if isinstance(value, str) and safe and value[0].isalnum() else ""


_ID_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


def _plain(error: ValidationError) -> str:
    """Return the findings of pydantic as one line for a person."""
    return "; ".join(f"{'.'.join(str(p) for p in e['loc']) or 'command'}: {e['msg']}" for e in error.errors()[:5])
