"""The envelope of a command: what is read, what is refused with which code, and what its content hash covers."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilctl.commands.envelope import MAX_BYTES, RawCommand, RefusedError, check_fresh, open_envelope, peek_id
from tilctl.commands.verbs import VERBS, Code
from tilctl.gateway.topics import Topics, clean

NOW = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


def body(verb: str = "hold", **changes: Any) -> dict[str, Any]:
    """Return a correct command; `changes` replaces entries, None removes one."""
    whole = {
        "specversion": "1.0",
        "id": "c-1",
        "source": "desk",
        "type": f"til.cmd.{verb}.v1",
        "subject": "cell1",
        "time": "2026-01-05T08:00:00Z",
        "exp": "2026-01-05T08:00:30Z",
        "data": {"args": {}},
        **changes,
    }
    return {key: value for key, value in whole.items() if value is not None}


def raw(content: object, verb: str = "hold", **changes: Any) -> RawCommand:
    payload = content if isinstance(content, bytes) else json.dumps(content).encode()
    return RawCommand(**{"client": "desk", "unit": "cell1", "verb": verb, "payload": payload, **changes})


def refused(message: RawCommand) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        open_envelope(message)
    assert caught.value.text
    return caught.value


def test_a_correct_command_is_read_whole():
    data = {
        "batch": "b1",
        "expect": {"state": "held", "state_version": 7},
        "args": {"prompt": "p7", "inputs": {"volume.cm1": "4800 mL", "count": 3, "ok": True}},
        "reason": {"code": "check", "text": "bag looked low"},
        "effective": "2026-01-05T09:00:00+01:00",
    }
    actor = {"user": "station-3", "role": "operator"}
    _, command = open_envelope(raw(body("prompt-answer", data=data, actor=actor, ctr=4), "prompt-answer"))
    assert (command.id, command.client, command.unit, command.verb) == ("c-1", "desk", "cell1", "prompt-answer")
    assert (command.batch, command.expect_state, command.expect_version) == ("b1", "held", 7)
    assert command.args == {
        "batch": "",
        "prompt": "p7",
        "inputs": {"volume.cm1": "4800 mL", "count": 3, "ok": True},
        "reported": {},
    }
    assert command.reason == "check: bag looked low"
    assert command.actor == "station-3 (operator)"
    assert command.effective == "2026-01-05T08:00:00.000Z"
    assert len(command.content_sha256) == 64


def test_a_boolean_input_stays_a_boolean():
    _, command = open_envelope(
        raw(body("prompt-answer", data={"args": {"prompt": "p", "inputs": {"ok": True}}}), "prompt-answer"),
    )
    assert command.args["inputs"]["ok"] is True


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", Code.MALFORMED),
        (b"hold", Code.MALFORMED),
        (b"[]", Code.MALFORMED),
        (b"\xff\xfe{}", Code.MALFORMED),
        (json.dumps(body()).encode("utf-16"), Code.MALFORMED),
        (b'{"id": "a", "id": "b"}', Code.MALFORMED),
        (b'{"id": NaN}', Code.MALFORMED),
        (b'{"ctr": 1e999}', Code.MALFORMED),
        (b'{"id": "\\ud800"}', Code.MALFORMED),
        (b'{"ctr": ' + b"9" * 5000 + b"}", Code.MALFORMED),
        (b"[" * 60_000, Code.MALFORMED),
        (b"eyJhbGciOiJFZERTQSJ9.e30.c2ln", Code.MALFORMED),
        (b" " * (MAX_BYTES + 1), Code.TOO_LARGE),
        (body(unexpected=1), Code.MALFORMED),
        (body(specversion="2.0"), Code.MALFORMED),
        (body(id=None), Code.MALFORMED),
        (body(id="../../x"), Code.MALFORMED),
        (body(id="x" * 81), Code.MALFORMED),
        (body(time=None), Code.MALFORMED),
        (body(exp=None), Code.MALFORMED),
        (body(exp="2026-01-05T08:00:30"), Code.MALFORMED),
        (body(exp=1767600030), Code.MALFORMED),
        (body(exp="1767600030"), Code.MALFORMED),
        (body(type="til.cmd.hold.v2"), Code.MALFORMED),
        (body(type="til.cmd.abort.v1"), Code.MALFORMED),
        (body(subject="cell2"), Code.MALFORMED),
        (body(source="other"), Code.WRONG_CLIENT),
        (body(sig={"nonce": "x"}), Code.MALFORMED),
        (body(data={"args": {"now": True}}), Code.MALFORMED),
        (body(data={"args": {}, "expect": {"state_version": "7"}}), Code.MALFORMED),
        (body(data={"args": {}, "reason": {"code": "x", "text": ""}}), Code.MALFORMED),
    ],
)
def test_what_is_wrong_is_refused_with_its_code(content: object, code: Code):
    assert refused(raw(content)).code == code


@pytest.mark.parametrize(
    ("verb", "args", "code"),
    [
        ("start", {}, Code.BAD_PARAMETER),
        ("start", {"recipe": "til-22d", "parameters": {"seed_cap": 5}}, Code.BAD_PARAMETER),
        ("start", {"recipe": "til-22d", "fast": "yes"}, Code.BAD_PARAMETER),
        ("prompt-answer", {"inputs": {}}, Code.BAD_ANSWER),
        ("prompt-answer", {"prompt": "p1", "inputs": {"volume": ["5 mL"]}}, Code.BAD_ANSWER),
        ("prompt-answer", {"prompt": "p1", "inputs": {"note": "x" * 1001}}, Code.BAD_ANSWER),
    ],
)
def test_arguments_of_the_wrong_shape_are_refused(verb: str, args: dict[str, Any], code: Code):
    assert refused(raw(body(verb, data={"args": args}), verb)).code == code


def test_refusals_carry_the_id_where_one_can_be_read():
    assert refused(raw(body(unexpected=1))).command_id == "c-1"
    assert refused(raw(body(id="../../x"))).command_id == ""
    assert peek_id(b"no json") == ""


def test_retained_and_unknown_verbs_are_refused():
    assert refused(raw(body(), retained=True)).code == Code.RETAINED
    error = refused(raw(body("dance"), "dance"))
    assert error.code == Code.UNKNOWN_VERB
    assert "prompt-answer" in error.text


@pytest.mark.parametrize("verb", [v for v in VERBS if v not in ("start", "prompt-answer")])
def test_a_foreign_response_topic_is_refused_except_where_safety_comes_first(verb: str):
    message = raw(body(verb), verb, foreign_reply=True)
    if verb in ("hold", "stop", "abort"):
        assert open_envelope(message)[1].verb == verb
    else:
        assert refused(message).code == Code.BAD_RESPONSE_TOPIC


@pytest.mark.parametrize(
    ("sent", "expires", "code"),
    [
        (0, 30, None),
        (-29, 1, None),
        (29, 59, None),
        (0, 300, None),
        (29, 329, None),
        (-60, 0, Code.EXPIRED),
        (-60, -1, Code.EXPIRED),
        (31, 60, Code.NOT_YET_VALID),
        (0, 331, Code.NOT_YET_VALID),
        (0, 86400, Code.NOT_YET_VALID),
    ],
)
def test_freshness_is_judged_against_the_real_clock(sent: float, expires: float, code: Code | None):
    times = {name: (NOW + timedelta(seconds=s)).isoformat() for name, s in (("time", sent), ("exp", expires))}
    envelope, _ = open_envelope(raw(body(**times)))
    if code is None:
        check_fresh(envelope, NOW)
        return
    with pytest.raises(RefusedError) as caught:
        check_fresh(envelope, NOW)
    assert caught.value.code == code
    assert " s " in caught.value.text, "the refusal tells the skew"


def test_the_content_hash_is_of_what_is_meant_not_of_when_it_was_sent():
    digest = open_envelope(raw(body()))[1].content_sha256
    later = body(time="2026-01-05T08:00:10Z", exp="2026-01-05T08:00:40Z", ctr=9)
    assert open_envelope(raw(later))[1].content_sha256 == digest
    for other in (
        body(data={"args": {}, "batch": "b"}),
        body(actor={"user": "u", "role": "r"}),
        body(subject="cell1/rep"),
    ):
        assert open_envelope(raw(other))[1].content_sha256 != digest


@given(st.binary(max_size=300))
def test_no_payload_raises_anything_but_a_refusal(payload: bytes):
    with pytest.raises(RefusedError):
        open_envelope(raw(payload))


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.sampled_from([*body(), "actor", "ctr", "sig"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
        ),
    ),
)
def test_no_content_raises_anything_but_a_refusal(changes: dict[str, Any]):
    with contextlib.suppress(RefusedError):
        assert open_envelope(raw({**body(), **changes}))[1].id


TOPICS = Topics("til/v1/demo/suite1")


def test_command_topics_are_read_back_and_others_are_not():
    assert TOPICS.read_command(TOPICS.command("desk", "cell1", "hold")) == ("desk", "cell1", "hold")
    for other in (
        "cmd/desk/cell1",
        "cmd/desk/cell1/hold/x",
        "cmd//cell1/hold",
        "cmd/de sk/cell1/hold",
        "rsp/desk/cell1/hold",
    ):
        assert TOPICS.read_command(f"{TOPICS.prefix}/{other}") is None


@pytest.mark.parametrize(
    ("topic", "own"),
    [
        ("til/v1/demo/suite1/rsp/desk/c-1", True),
        ("til/v1/demo/suite1/rsp/desk/a/b", True),
        ("til/v1/demo/suite1/rsp/desk/", False),
        ("til/v1/demo/suite1/rsp/desk2/c-1", False),
        ("til/v1/demo/suite1/rsp/desk", False),
        ("til/v1/demo/suite1/cmd/desk/cell1/hold", False),
        ("til/v1/demo/suite1/rsp/desk/+", False),
        ("til/v1/demo/suite1/rsp/desk/" + "x" * 300, False),
    ],
)
def test_only_a_response_topic_of_the_same_client_is_answered(topic: str, own: bool):
    assert TOPICS.is_reply_of(topic, "desk") is own


@given(st.text(max_size=50))
def test_no_name_makes_a_wildcard_or_another_level(text: str):
    assert not set(clean(text)) & set("+#/\0")
    assert clean(text)
