"""Who is told of which alarm and when: grouped, repeated, to the next person, once when it is over.  Virtual time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tilctl.gateway.notify_plan import GROUP_S, Message, Plan, Recipient, Standing, standing
from tilctl.gateway.notify_words import LISTED, body_of, mail_of
from tilctl.guard.alarm import AlarmState

REPEAT = 900.0
ALL = frozenset({"critical", "high", "medium", "low"})
UNKNOWN, KNOWN, RETURNED = AlarmState.UNACKNOWLEDGED, AlarmState.ACKNOWLEDGED, AlarmState.RETURNED


def alarm(name: str = "warm", priority: str = "high", at: int = 0, **fields: object) -> Standing:
    since = f"2026-03-01T00:{at // 60:02}:{at % 60:02}.000Z"
    return replace(Standing("cell1", name, priority, f"{name} text", since, UNKNOWN), **fields)  # type: ignore[arg-type]


def shift(levels: frozenset[str] = ALL, escalation: int = 0, unit: str = "") -> Plan:
    plan = Plan(Recipient("shift", levels, escalation, unit), REPEAT)
    plan.look(0.0, [])
    return plan


def said(message: Message | None) -> list[tuple[str, str]]:
    return [] if message is None else [(why, each.alarm) for why, each in message.alarms]


def test_it_is_told_at_once_and_once() -> None:
    plan = shift()
    message = plan.look(10.0, [alarm()])
    assert message is not None
    assert (message.kind, said(message), message.count) == ("raised", [("raised", "warm")], {"high": 1})
    assert plan.look(11.0, [alarm()]) is None
    assert plan.due == 10.0 + REPEAT


@given(at=st.floats(0.0, 3e6), repeat=st.floats(GROUP_S, 86_400.0))
def test_at_the_moment_that_is_due_it_is_said(at: float, repeat: float) -> None:
    """To the last bit of the moment: one that is due and not said would be looked at without end."""
    plan = Plan(Recipient("shift", ALL), repeat)
    plan.look(at, [alarm()])
    assert plan.due is not None
    assert said(plan.look(plan.due, [alarm()])) == [("repeated", "warm")]


@given(at=st.floats(0.0, 3e6))
@example(at=84.472)  # (84.472 + 60) - 84.472 is less than 60
def test_what_waits_for_its_minute_is_said_at_its_end(at: float) -> None:
    plan = Plan(Recipient("shift", ALL), REPEAT)
    plan.look(at, [alarm()])
    assert plan.look(at + 1.0, [alarm(), alarm("b")]) is None
    assert plan.due is not None
    assert said(plan.look(plan.due, [alarm(), alarm("b")])) == [("raised", "b")]


def test_one_that_is_his_no_more_is_not_due() -> None:
    plan = shift(frozenset({"high"}))
    plan.look(1.0, [alarm()])
    assert plan.look(2 * REPEAT, [alarm(priority="low")]) is None
    assert plan.due is None
    assert said(plan.look(3 * REPEAT, [])) == [("over", "warm")], "who was told of it hears of its end"


def test_only_what_concerns_a_person() -> None:
    assert shift(frozenset({"critical"})).look(1.0, [alarm(), alarm("b", "low")]) is None
    assert shift(unit="cell2").look(1.0, [alarm()]) is None
    assert shift(unit="cell1").look(1.0, [alarm()]) is not None
    plan = shift()
    assert plan.look(1.0, [alarm(aside=True), alarm("b", state=KNOWN)]) is None, "set aside, or somebody knows already"


def test_it_is_repeated_until_somebody_acknowledges_it() -> None:
    plan = shift()
    plan.look(0.0, [alarm()])
    assert plan.look(REPEAT - 1, [alarm()]) is None
    message = plan.look(REPEAT, [alarm()])
    assert message is not None
    assert (message.kind, said(message)) == ("repeated", [("repeated", "warm")])
    assert said(plan.look(2 * REPEAT, [alarm(state=RETURNED)])) == [("repeated", "warm")], "over, and nobody knows"
    assert said(plan.look(2 * REPEAT + 61, [alarm(state=KNOWN)])) == [("acknowledged", "warm")]
    assert plan.look(9 * REPEAT, [alarm(state=KNOWN)]) is None
    assert plan.due is None


@pytest.mark.parametrize(
    ("now", "why"), [([], "over"), ([alarm(aside=True)], "set_aside"), ([alarm(state=KNOWN)], "acknowledged")]
)
def test_its_end_is_told_once_to_who_was_told_of_it(now: list[Standing], why: str) -> None:
    plan = shift()
    plan.look(0.0, [alarm()])
    message = plan.look(100.0, now)
    assert message is not None
    assert (message.kind, said(message), message.count) == ("over", [(why, "warm")], {})
    assert plan.look(9000.0, now) is None
    assert shift().look(100.0, now) is None, "who was not told of it hears nothing"


def test_what_comes_within_a_minute_is_one_message() -> None:
    plan = shift()
    assert plan.look(0.0, [alarm()]) is not None
    stands = [alarm()]
    for second in range(1, 60):
        stands.append(alarm(f"a{second}", at=second))
        assert plan.look(float(second), stands) is None
        assert plan.due == GROUP_S
    message = plan.look(GROUP_S, stands)
    assert message is not None
    assert len(message.alarms) == 59
    assert said(message)[0] == ("raised", "a1"), "the first-out alarm first"
    assert message.count == {"high": 60}


def test_what_came_and_was_acknowledged_within_the_minute_is_not_told() -> None:
    plan = shift()
    plan.look(0.0, [alarm()])
    plan.look(10.0, [alarm(), alarm("b", at=10)])
    assert plan.look(60.0, [alarm(), alarm("b", at=10, state=KNOWN)]) is None


def test_the_first_comes_first_then_the_worst() -> None:
    stands = [alarm("c", "low", 3), alarm("b", "critical", 2), alarm("a", "low", 1), alarm("d", "critical", 4)]
    assert [name for _, name in said(shift().look(5.0, stands))] == ["a", "b", "d", "c"]


def test_the_next_person_is_told_when_the_record_says_that_nobody_came() -> None:
    on_call = shift(escalation=1)
    assert on_call.look(1.0, [alarm()]) is None
    message = on_call.look(1800.0, [alarm(escalated=1)])
    assert message is not None
    assert (message.kind, said(message)) == ("escalated", [("escalated", "warm")])
    assert said(on_call.look(1800.0 + REPEAT, [alarm(escalated=1)])) == [("repeated", "warm")]
    assert said(on_call.look(3000.0, [alarm(state=KNOWN, escalated=0)])) == [("acknowledged", "warm")]
    assert on_call.look(4000.0, [alarm()]) is None, "announced anew it begins with the first person"
    first = shift()
    first.look(0.0, [alarm()])
    assert said(first.look(1800.0, [alarm(escalated=1)])) == [("escalated", "warm")], "the first one hears of that too"


def test_one_that_came_again_is_new() -> None:
    plan = shift()
    plan.look(0.0, [alarm()])
    assert said(plan.look(100.0, [alarm(at=90)])) == [("raised", "warm")]


def test_one_that_is_shown_at_two_desks_is_one() -> None:
    plan = shift()
    both = [alarm(at=90), alarm(at=10, state=RETURNED)]
    assert said(plan.look(100.0, both)) == [("raised", "warm")]
    assert plan.look(170.0, both) is None


def test_after_a_start_there_is_one_message_of_all_that_stands() -> None:
    plan = Plan(Recipient("shift", ALL), REPEAT)
    message = plan.look(
        0.0, [alarm("b", at=5), alarm("a", at=1), alarm("c", at=3, state=KNOWN), alarm("d", aside=True)]
    )
    assert message is not None
    assert (message.kind, said(message)) == ("restarted", [("stands", "a"), ("stands", "c"), ("stands", "b")])
    assert message.count == {"high": 2}
    assert said(plan.look(REPEAT, [alarm("a", at=1), alarm("b", at=5)])) == [("repeated", "a"), ("repeated", "b")]
    assert Plan(Recipient("shift", ALL), REPEAT).look(0.0, []) is None


STATES = st.sampled_from([UNKNOWN, KNOWN, RETURNED])
STANDS = st.lists(
    st.builds(
        alarm, st.sampled_from("abcdef"), st.sampled_from(sorted(ALL)), st.integers(0, 59), state=STATES,
        aside=st.booleans(), escalated=st.integers(0, 2),
    ),
    max_size=6,
    unique_by=lambda each: each.alarm,
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0.1, 400.0), STANDS), max_size=25), st.integers(0, 2))
def test_whatever_happens_messages_are_a_minute_apart_and_nothing_that_waits_is_forgotten(
    looks: list[tuple[float, list[Standing]]], escalation: int
) -> None:
    plan, now, last = shift(escalation=escalation), 0.0, None
    stands: list[Standing] = []
    for wait, stands in looks:
        now += wait
        message = plan.look(now, stands)
        if message is not None:
            assert last is None or now - last >= GROUP_S
            assert not any(each.aside for why, each in message.alarms if why != "set_aside")
            last = now
    now += GROUP_S
    plan.look(now, stands)
    told = {key for key, each in plan._told.items() if each.what.waiting}
    wanted = {each.key for each in stands if each.waiting and each.escalated >= escalation}
    assert wanted <= told
    assert told <= {each.key for each in stands if each.waiting}


# --- words ------------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WHO = {"site": "demo", "node": "suite1"}


def test_the_body_of_a_storm_is_bounded_and_counts_the_rest() -> None:
    storm = [alarm(f"a{n:03}", at=n, text="x" * 5000, help={"action": "y" * 5000, "secret": "z"}) for n in range(500)]
    message = shift().look(600.0, storm)
    assert message is not None
    body = body_of(message, WHO, "boot-1", NOW, batch=False)
    assert (body["first"]["alarm"], len(body["others"]), body["more"]) == ("a000", LISTED, 500 - LISTED - 1)
    assert body["waiting"] == {"high": 500}
    assert len(str(body)) < 40_000
    assert "secret" not in body["first"]
    mail = mail_of(body, "tilctl@lab.example", "ops@lab.example")
    assert f"and {500 - LISTED - 1} more" in mail.get_content()


def test_a_batch_is_named_only_where_the_site_wants_it_and_nobody_is() -> None:
    row = {
        "alarm": "warm", "priority": "high", "text": "too warm", "since": "2026-03-01T00:00:00.000Z",
        "state": "unacknowledged", "by": "anna", "help": {"cause": "a cable", "allowed": "30 min"},
    }  # fmt: skip
    message = shift().look(1.0, [standing("cell1", row, "cell1-20260301")])
    assert message is not None
    body = body_of(message, WHO, "boot-1", NOW, batch=False)
    assert body["first"] == {
        "unit": "cell1", "alarm": "warm", "why": "raised", "priority": "high", "text": "too warm",
        "since": "2026-03-01T00:00:00.000Z", "state": "unacknowledged", "cause": "a cable", "allowed": "30 min",
    }  # fmt: skip
    assert (body["id"], body["kind"], body["to"], body["t"]) == (
        "boot-1",
        "raised",
        "shift",
        "2026-03-01T12:00:00.000Z",
    )
    assert (body["site"], body["node"]) == ("demo", "suite1")
    assert "anna" not in str(body)
    assert body_of(message, WHO, "boot-1", NOW, batch=True)["first"]["batch"] == "cell1-20260301"


def test_a_text_cannot_write_into_the_head_of_an_e_mail() -> None:
    message = shift().look(1.0, [alarm(text="warm\r\nBcc: all@lab.example\n\ud800\x1b[31m é")])
    assert message is not None
    mail = mail_of(body_of(message, WHO, "boot-1", NOW, batch=False), "tilctl@lab.example", "ops@lab.example")
    assert mail["Bcc"] is None
    assert mail["Subject"].startswith("[demo/suite1] alarm: high: cell1 warm: warm  Bcc: all@lab.example")
    assert b"\x1b" not in bytes(mail)
