"""The fold: what each event makes of the state of a batch, and that resuming is folding."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from tilctl.engine.machine import State
from tilctl.engine.state import BatchState, StepStatus, fold, format_time, parse_time
from tilctl.journal import events as ev
from tilctl.journal.chain import Record

T0 = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


def records(*events: ev.Event, every: float = 1.0) -> list[Record]:
    """Return events as records, `every` seconds apart."""
    return [
        Record(number, format_time(T0 + timedelta(seconds=every * number)), event, "", "")
        for number, event in enumerate(events, 1)
    ]


def plain(state: BatchState) -> dict[str, Any]:
    return {**vars(state), "ledger": [*state.ledger, dict(state.ledger.others)]}


def mounted(name: str, volume: float, place: str = "h1") -> ev.Mounted:
    return ev.Mounted("op/mount", name, place, "bag", volume, "LOT-1", 30.0)


def opened(number: int, volume: float = 60.0, path: str = "op/dose") -> ev.IntentOpened:
    args = {"from": "media", "to": "flask", "sequence": number, "volume": volume}
    return ev.IntentOpened(number, path, "pump_media", "dispense", args, {"boots": 1})


def closed(number: int, outcome: Any, delivered: float | None, by: Any = "device") -> ev.IntentClosed:
    return ev.IntentClosed(number, "op/dose", outcome, delivered, delivered, {}, by)


FILLED = [mounted("media", 1000.0), mounted("flask", 0.0, "p1"), ev.StepStarted("op/dose", "transfer")]


# --- time -------------------------------------------------------------------------------------------------------------


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_times_of_the_record_are_kept_to_the_millisecond(moment: datetime) -> None:
    text = format_time(moment)
    assert text.endswith("Z")
    assert len(text) == len("2026-01-05T08:00:00.000Z")
    assert timedelta(0) <= moment - parse_time(text) < timedelta(milliseconds=1)
    assert format_time(parse_time(text)) == text


# --- states -----------------------------------------------------------------------------------------------------------


def test_batch_and_operation_have_states_of_their_own() -> None:
    state = fold(
        records(
            ev.StateChanged("", "idle", "running", "start"),
            ev.StateChanged("op", "idle", "running", "start"),
            ev.StateChanged("", "running", "holding", "hold"),
            ev.StateChanged("op", "running", "holding", "hold"),
        )
    )
    assert (state.state, state.states["op"], state.operation) == (State.HOLDING, State.HOLDING, "op")
    assert state.version == 2, "the version counts transitions of the batch alone"
    assert BatchState().state is State.IDLE


def test_an_unknown_state_on_record_is_an_error() -> None:
    with pytest.raises(ValueError, match="dancing"):
        fold(records(ev.StateChanged("", "idle", "dancing")))


# --- steps ------------------------------------------------------------------------------------------------------------


def test_the_life_of_a_step() -> None:
    events: list[ev.Event] = [ev.StepStarted("op/a", "wait", {"due": 1})]
    state = fold(records(*events))
    node = state.nodes["op/a"]
    assert (node.status, node.data, node.started) == (StepStatus.ACTING, {"due": 1}, T0 + timedelta(seconds=1))
    for event, status, reason in (
        (ev.StepHeld("op/a", "hold by x"), StepStatus.HELD, "hold by x"),
        (ev.StepStarted("op/a", "wait"), StepStatus.ACTING, ""),
        (ev.StepFailed("op/a", "broken", "mend it"), StepStatus.FAILED, "broken"),
        (ev.StepStarted("op/a", "wait"), StepStatus.ACTING, ""),
        (ev.StepInDoubt("op/a", 1, "who knows"), StepStatus.IN_DOUBT, "who knows"),
        (ev.StepStarted("op/a", "wait"), StepStatus.ACTING, ""),
        (ev.StepPhase("op/a", "half", {"x": 2}), StepStatus.ACTING, ""),
        (ev.StepCompleted("op/a", {"y": 3}), StepStatus.COMPLETE, ""),
    ):
        events.append(event)
        state = fold(records(*events))
        node = state.nodes["op/a"]
        assert (node.status, node.reason) == (status, reason)
    assert node.started == T0 + timedelta(seconds=1), "a step that is walked again began when it began"
    assert node.data == {"due": 1, "y": 3}
    assert node.phases["half"] == (T0 + timedelta(seconds=8), {"x": 2})
    assert state.complete("op/a")
    assert not state.complete("op/b")


# --- intents and the ledger -------------------------------------------------------------------------------------------


def test_closing_an_intent_books_it_once() -> None:
    state = fold(records(*FILLED, opened(1)))
    assert [i.number for i in state.open_intents()] == [1]
    assert volume(state, "flask") == 0.0, "what is only intended is not booked"
    state = fold(records(*FILLED, opened(1), closed(1, "done", 59.2)))
    assert state.open_intents() == []
    assert (volume(state, "media"), volume(state, "flask")) == (940.8, 59.2)


def test_in_doubt_books_nothing_until_a_person_says_what_went_over() -> None:
    doubt = [*FILLED, opened(1), closed(1, "in_doubt", None)]
    state = fold(records(*doubt))
    assert [i.number for i in state.open_intents()] == [1]
    assert volume(state, "flask") == 0.0
    state = fold(records(*doubt, closed(1, "partial", 41.0, by="person")))
    assert state.open_intents() == []
    assert (state.intents[1].outcome, volume(state, "flask")) == ("partial", 41.0)


def test_an_intent_that_moves_no_liquid_books_nothing() -> None:
    start = ev.IntentOpened(1, "op/freeze", "freezer", "start", {"sequence": 1}, {})
    state = fold(records(*FILLED, start, ev.IntentClosed(1, "op/freeze", "done", None, None, {})))
    assert volume(state, "media") == 1000.0


OUTCOMES = st.lists(
    st.tuples(st.floats(0.0, 300.0), st.sampled_from(["done", "partial", "nothing", "in_doubt", "open", "person"])),
    max_size=25,
)


@given(OUTCOMES)
def test_any_intents_conserve_volume_and_book_what_was_delivered(doses: list[tuple[float, str]]) -> None:
    events: list[ev.Event] = [*FILLED]
    booked = 0.0
    for number, (delivered, outcome) in enumerate(doses, 1):
        events.append(opened(number, 300.0))
        if outcome == "open":
            continue
        if outcome in ("in_doubt", "person"):
            events.append(closed(number, "in_doubt", None))
        if outcome == "person":
            events.append(closed(number, "partial", delivered, by="person"))
        if outcome in ("done", "partial"):
            events.append(closed(number, outcome, delivered))
        if outcome == "nothing":
            events.append(closed(number, outcome, 0.0))
        booked += delivered if outcome in ("done", "partial", "person") else 0.0
    state = fold(records(*events))
    assert volume(state, "flask") == approx(booked, abs=1e-6)
    assert volume(state, "media") + volume(state, "flask") == approx(1000.0, abs=1e-6)
    undecided = [n for n, (_, outcome) in enumerate(doses, 1) if outcome in ("open", "in_doubt")]
    assert [intent.number for intent in state.open_intents()] == undecided


# --- people, values, alarms -------------------------------------------------------------------------------------------


def test_the_life_of_a_question() -> None:
    due = "2026-01-05T09:00:00.000Z"
    asked = [ev.PromptOpened("p1", "op/ask", "ask", "Well?", {"inputs": {}}, due)]
    prompt = fold(records(*asked)).prompts["p1"]
    assert (prompt.open, prompt.answered) == (True, False)
    assert prompt.due == T0 + timedelta(hours=1)
    told = [*asked, ev.AnswerReceived("p1", "c1", "me", {"x": 1.0}, "2026-01-05T08:30:00.000Z")]
    prompt = fold(records(*told)).prompts["p1"]
    assert (prompt.open, prompt.answered, prompt.answer) == (False, False, {"x": 1.0})
    assert prompt.effective == T0 + timedelta(minutes=30)
    prompt = fold(records(*told, ev.PromptAnswered("p1", "op/ask", {"x": 1.0}))).prompts["p1"]
    assert (prompt.open, prompt.answered) == (False, True)
    prompt = fold(records(*asked, ev.PromptWithdrawn("p1", "stopped"))).prompts["p1"]
    assert (prompt.open, prompt.answered, prompt.withdrawn) == (False, False, True)


def test_values_have_the_name_of_their_step_and_the_newest_counts() -> None:
    state = fold(
        records(
            ev.ValuesSet("op/count", {"tvc": 1e9, "viability": None}, {"tvc": "cells"}),
            ev.ValuesSet("op/loop/2/count", {"tvc": 2e9}, {"tvc": "cells"}),
        )
    )
    assert state.values == {"count.tvc": (2e9, "cells"), "count.viability": (None, "")}


def test_marks_targets_alarms_commands() -> None:
    state = fold(
        records(
            ev.Marked("day0", "2026-01-05T08:00:00.000Z"),
            ev.TargetSet("op/set", "station.temperature", 37.0, "degC"),
            ev.TargetSet("op/set2", "station.temperature", 36.0, "degC"),
            ev.AlarmRaised("warm", "high", "too warm", "op/x", {"t": 40.0}),
            ev.AlarmRaised("cold", "low", "too cold"),
            ev.AlarmCleared("cold"),
            ev.AlarmCleared("never"),
            ev.CommandReceived("c1", "me", "hold", {}, "abc", ""),
            ev.CommandAnswered("c1", "done", "", ""),
            ev.BatchEnded("aborted", "enough"),
            ev.BatchClosed(),
        )
    )
    assert state.since("day0", T0 + timedelta(days=2)) == timedelta(days=2)
    assert state.since("never", T0) is None
    assert state.targets == {"station.temperature": (36.0, "degC")}
    assert {name: (a.priority, a.path) for name, a in state.alarms.items()} == {"warm": ("high", "op/x")}
    assert state.commands["c1"].verb == "hold"
    assert state.answers["c1"].status == "done"
    assert (state.result, state.reason, state.closed) == ("aborted", "enough", True)


def volume(state: BatchState, name: str) -> float:
    container = state.ledger.get(name)
    assert container is not None
    return container.volume_ml


# --- folding ----------------------------------------------------------------------------------------------------------

LIFE: list[ev.Event] = [
    ev.BatchCreated("b1", "cell1", "small", "1.0.0", "", "", {}, {}, "0", ""),
    ev.StateChanged("", "idle", "running", "start"),
    ev.StepStarted("op", "operation"),
    ev.StateChanged("op", "idle", "running", "start"),
    *FILLED,
    ev.TargetSet("op/set", "station.temperature", 37.0, "degC"),
    ev.TargetConfirmed("station.temperature", 37.0),
    opened(1),
    ev.AlarmRaised("warm", "high", "too warm"),
    closed(1, "partial", 20.0),
    ev.StepHeld("op/dose", "hold"),
    opened(2, 40.0),
    closed(2, "in_doubt", None),
    ev.PromptOpened("p1", "op/dose", "reconcile", "?", {"inputs": {}}, None),
    ev.AnswerReceived("p1", "c1", "me", {"delivered": 39.0}, "2026-01-05T08:30:00.000Z"),
    ev.PromptAnswered("p1", "op/dose", {"delivered": 39.0}),
    closed(2, "done", 39.0, by="person"),
    ev.StepCompleted("op/dose"),
    ev.Moved("op/count", 0, "flask", "samples", 2.0),
    ev.Noted("op/note", "text", exception=False),
    ev.Unmounted("op/away", "flask", "p1", 57.0),
    ev.Recovered({}),
    ev.BatchEnded("complete", ""),
    ev.StateChanged("", "running", "complete", "done"),
]


@given(st.integers(0, len(LIFE)))
def test_a_fold_can_be_taken_up_anywhere(cut: int) -> None:
    whole = records(*LIFE)
    state = fold(whole[:cut])
    for record in whole[cut:]:
        state.apply(record)
    assert plain(state) == plain(fold(whole))


def test_a_fold_changes_no_event() -> None:
    whole = records(*LIFE)
    before = [repr(record) for record in whole]
    state = fold(whole)
    state.nodes["op/dose"].data["x"] = 1
    state.prompts["p1"].spec["x"] = 1
    state.intents[1].args["x"] = 1
    assert [repr(record) for record in whole] == before
