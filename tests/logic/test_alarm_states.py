"""The states of an alarm: the table by hand, and the book that is folded from any record."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilctl.guard.alarm import (
    ACTIVE,
    LATCHED,
    WAITING,
    AlarmState,
    Trigger,
    clearing,
    next_state,
    table_text,
)
from tilctl.guard.book import AlarmBook
from tilctl.journal import alarms as ev
from tilctl.journal.alarms import FIRST_OUT

T0 = datetime(2026, 3, 1, tzinfo=UTC)

# By hand from the letters of ISA-18.2: a row for each state, `-` where nothing changes.
BY_HAND = """
                        raise  clear  clear_latched  clear_unasked  acknowledge  reset  again
normal                  B      -      -              -              -            -      -
unacknowledged          -      D      E              A              C            -      -
acknowledged            -      A      F              A              -            -      B
returned                B      -      -              -              A            -      -
latched_unacknowledged  B      -      -              -              F            -      -
latched_acknowledged    B      -      -              -              -            A      -
"""
LETTER = dict(zip("ABCDEF", AlarmState, strict=True))
HEAD, *ROWS = [line.split() for line in BY_HAND.strip().splitlines()]
CELLS = [(AlarmState(row[0]), Trigger(head), to) for row in ROWS for head, to in zip(HEAD, row[1:], strict=True)]


@pytest.mark.parametrize(("state", "trigger", "to"), CELLS)
def test_every_state_and_trigger(state: AlarmState, trigger: Trigger, to: str) -> None:
    assert next_state(state, trigger) == (None if to == "-" else LETTER[to])


def test_the_table_by_hand_is_whole() -> None:
    assert len(CELLS) == len(AlarmState) * len(Trigger)
    assert len(table_text().splitlines()) == len(AlarmState) + 2
    assert "| unacknowledged | - | returned | latched_unacknowledged | normal | acknowledged |" in table_text()


@pytest.mark.parametrize(
    ("priority", "latching", "trigger"),
    [
        ("critical", False, Trigger.CLEAR),
        ("high", False, Trigger.CLEAR),
        ("medium", False, Trigger.CLEAR),
        ("low", False, Trigger.CLEAR_UNASKED),
        ("low", True, Trigger.CLEAR_LATCHED),
        ("critical", True, Trigger.CLEAR_LATCHED),
    ],
)
def test_what_the_end_of_a_condition_is(priority: str, *, latching: bool, trigger: Trigger) -> None:
    assert clearing(priority, latching=latching) is trigger


# --- the book, from any record ----------------------------------------------------------------------------------------

CLASSES = {
    "low": ("low", False),
    "medium": ("medium", False),
    "high": ("high", False),
    "latching": ("critical", True),
    "low_latching": ("low", True),
}
WAYS: tuple[ev.Aside, ...] = ("shelved", "suppressed", "out_of_service")


def raised(name: str, group: str = "") -> ev.AlarmRaised:
    priority, latching = CLASSES[name]
    return ev.AlarmRaised(name, priority, "text", latching=latching, group=group)  # type: ignore[arg-type]


def events_of(name: str) -> st.SearchStrategy[ev.AlarmEvent]:
    return st.one_of(
        st.just(raised(name)),
        st.just(ev.AlarmCleared(name)),
        st.just(ev.AlarmAcknowledged(name, "anna")),
        st.just(ev.AlarmReset(name, "anna")),
        st.builds(ev.AlarmAgain, st.just(name), st.sampled_from(["re_alarm", "escalated"])),
        st.builds(
            ev.AlarmSetAside, st.just(name), st.sampled_from(WAYS), st.just("anna"), st.just("why"), once=st.booleans()
        ),
        st.builds(ev.AlarmSetBack, st.just(name), st.sampled_from(WAYS), st.just("anna")),
    )


EVENTS = st.lists(st.sampled_from(sorted(CLASSES)).flatmap(events_of), max_size=40)


def state_of(book: AlarmBook, name: str) -> AlarmState:
    found = book.get(name)
    return AlarmState.NORMAL if found is None else found.state


@settings(max_examples=50)
@given(EVENTS)
def test_the_book_is_consistent_after_any_record(events: list[ev.AlarmEvent]) -> None:
    book = AlarmBook()
    holds: set[str] = set()  # alarms whose condition holds, told apart from the book
    for number, event in enumerate(events, start=1):
        name, before = event.alarm, state_of(book, event.alarm)
        book.apply(event, T0 + timedelta(seconds=number), number)
        after = state_of(book, name)
        if isinstance(event, ev.AlarmRaised):
            holds.add(name)
        elif isinstance(event, ev.AlarmCleared):
            holds.discard(name)
        assert {a.id for a in book if a.active} == set(book.active) == holds, "an active alarm is never normal"
        assert all(book.active[n] is book.entries[n] for n in book.active)
        assert all(a.state is not AlarmState.NORMAL or a.aside for a in book), "what is normal is not kept"
        priority, latching = CLASSES[name]
        if before in WAITING and after not in WAITING:
            unasked = isinstance(event, ev.AlarmCleared) and priority == "low" and not latching
            assert isinstance(event, ev.AlarmAcknowledged) or unasked, "it disappeared, and nobody said that he knows"
        if latching and before is not AlarmState.NORMAL and after is AlarmState.NORMAL:
            assert isinstance(event, ev.AlarmReset), "a latching one went without reset"
        if after in LATCHED:
            assert latching
        found = book.get(name)
        assert found is None or found.waiting is (found.state in WAITING and not found.aside)


@settings(max_examples=50)
@given(EVENTS)
def test_setting_aside_changes_no_state(events: list[ev.AlarmEvent]) -> None:
    """Shelved, suppressed and out of service stand beside the states: without them the same states follow."""
    with_, without = AlarmBook(), AlarmBook()
    for number, event in enumerate(events, start=1):
        with_.apply(event, T0, number)
        if not isinstance(event, ev.AlarmSetAside | ev.AlarmSetBack):
            without.apply(event, T0, number)
    assert {n: state_of(with_, n) for n in CLASSES} == {n: state_of(without, n) for n in CLASSES}


def book_of(*events: ev.AlarmEvent, every: float = 60.0) -> AlarmBook:
    book = AlarmBook()
    for number, event in enumerate(events, start=1):
        book.apply(event, T0 + timedelta(seconds=every * (number - 1)), number)
    return book


def test_raised_twice_is_one_alarm_with_the_moment_of_the_first() -> None:
    alarm = book_of(raised("high"), raised("high")).entries["high"]
    assert (alarm.since, alarm.seq) == (T0, 1)


def test_who_acknowledged_is_forgotten_when_it_is_announced_anew() -> None:
    book = book_of(raised("high"), ev.AlarmAcknowledged("high", "anna"))
    assert book.entries["high"].by == "anna"
    book.apply(ev.AlarmAgain("high", "re_alarm"), T0 + timedelta(hours=1), 3)
    alarm = book.entries["high"]
    assert (alarm.state, alarm.by, alarm.announced) == (AlarmState.UNACKNOWLEDGED, "", T0 + timedelta(hours=1))


def test_escalations_are_counted_until_somebody_knows() -> None:
    again = ev.AlarmAgain("high", "escalated")
    book = book_of(raised("high"), again, again)
    assert (book.entries["high"].escalated, book.entries["high"].state) == (2, AlarmState.UNACKNOWLEDGED)
    book.apply(ev.AlarmAcknowledged("high", "anna"), T0, 4)
    assert book.entries["high"].escalated == 0, "the next time it begins with the first person"


def test_shelved_until_it_is_over_ends_with_the_condition_and_is_told_from_then_on() -> None:
    once = ev.AlarmSetAside("high", "shelved", "anna", "cable", once=True)
    book = book_of(raised("high"), once, ev.AlarmCleared("high"))
    alarm = book.entries["high"]
    assert (alarm.state, alarm.aside, alarm.waiting) == (AlarmState.RETURNED, {}, True)
    assert alarm.announced == T0 + timedelta(minutes=2), "who was not told yet is not late yet"


def test_shelved_once_while_normal_waits_for_the_next_time() -> None:
    once = ev.AlarmSetAside("low", "shelved", "anna", "cable", once=True)
    book = book_of(once, raised("low"))
    assert not book.entries["low"].announceable
    assert "low" in book.active
    book.apply(ev.AlarmCleared("low"), T0, 3)
    assert book.get("low") is None


def test_one_way_back_of_two_announces_nothing_yet() -> None:
    book = book_of(
        raised("high"),
        ev.AlarmSetAside("high", "shelved", "anna", "cable"),
        ev.AlarmSetAside("high", "out_of_service", "ben", "probe", work_order="W1"),
        ev.AlarmSetBack("high", "shelved", "anna"),
    )
    alarm = book.entries["high"]
    assert not alarm.announceable
    assert alarm.announced == T0
    book.apply(ev.AlarmSetBack("high", "out_of_service", "ben"), T0 + timedelta(hours=9), 5)
    assert book.entries["high"].waiting
    assert book.entries["high"].announced == T0 + timedelta(hours=9)


def test_the_first_of_a_group_is_by_its_place_on_the_record_and_never_one_that_is_set_aside() -> None:
    book = book_of(raised("medium", "g"), raised("high", "g"), raised("latching", "g"), raised("low"))
    assert {group: alarm.id for group, alarm in book.firsts().items()} == {"g": "medium"}
    book.apply(ev.AlarmSetAside("medium", "shelved", "anna", "cable"), T0, 5)
    assert book.firsts()["g"].id == "high"
    book.apply(ev.AlarmSetAside("high", "suppressed", FIRST_OUT, "medium came first"), T0, 6)
    assert book.firsts()["g"].id == "high", "what follows may come first when its first is set aside"
    book.apply(ev.AlarmCleared("high"), T0, 7)
    assert book.firsts()["g"].id == "latching"


def test_what_ends_an_alarm_that_is_normal_changes_nothing() -> None:
    book = book_of(
        ev.AlarmCleared("x"),
        ev.AlarmAcknowledged("x", "anna"),
        ev.AlarmReset("x", "anna"),
        ev.AlarmAgain("x", "re_alarm"),
        ev.AlarmSetBack("x", "shelved", "anna"),
    )
    assert book == AlarmBook()


def test_the_moment_until_which_it_is_set_aside_is_read_in_utc() -> None:
    flag = ev.AlarmSetAside("high", "shelved", "anna", "cable", "2026-03-01T02:00:00+02:00")
    assert book_of(flag).entries["high"].aside["shelved"].until == T0
    assert replace(flag, until=None) == ev.AlarmSetAside("high", "shelved", "anna", "cable")


def test_active_and_waiting_states_are_as_named() -> None:
    assert {AlarmState.UNACKNOWLEDGED, AlarmState.ACKNOWLEDGED} == ACTIVE
    assert AlarmState.ACKNOWLEDGED not in WAITING
    assert AlarmState.LATCHED_ACKNOWLEDGED not in WAITING
