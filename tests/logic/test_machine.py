"""The table of states: as the standard has it, and no way through it that is not there."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilctl.engine.machine import DONE, FAULT, FINAL, NUMBERS, QUIESCENT, Command, State, legal_commands, next_state

# By hand from the table of ISA-88 / IEC 61512: state -> event -> next state; what is not here is not legal.
NEXT: dict[str, dict[str, str]] = {
    "idle": {"start": "running"},
    "running": {
        "pause": "pausing", "hold": "holding", "stop": "stopping", "abort": "aborting",
        "done": "complete", "fault": "holding",
    },
    "pausing": {"hold": "holding", "stop": "stopping", "abort": "aborting", "done": "paused", "fault": "holding"},
    "paused": {"resume": "running", "hold": "holding", "stop": "stopping", "abort": "aborting", "fault": "holding"},
    "holding": {"stop": "stopping", "abort": "aborting", "done": "held"},
    "held": {"restart": "restarting", "stop": "stopping", "abort": "aborting"},
    "restarting": {"hold": "holding", "stop": "stopping", "abort": "aborting", "done": "running", "fault": "holding"},
    "stopping": {"abort": "aborting", "done": "stopped"},
    "stopped": {"abort": "aborting", "reset": "idle"},
    "aborting": {"done": "aborted"},
    "aborted": {"reset": "idle"},
    "complete": {"reset": "idle"},
}  # fmt: skip
EVENTS = [*(command.value for command in Command), DONE, FAULT]
STATES = st.sampled_from(list(State))


def test_there_are_twelve_states_and_eight_commands() -> None:
    assert {state.value for state in State} == set(NEXT)
    assert len(State) == 12
    assert len(Command) == 8


@pytest.mark.parametrize("state", State)
def test_every_event_in_every_state(state: State) -> None:
    for event in EVENTS:
        found = next_state(state, event)
        assert (None if found is None else found.value) == NEXT[state.value].get(event), (state, event)


@pytest.mark.parametrize("state", State)
def test_the_legal_commands_are_those_of_the_table(state: State) -> None:
    wanted = {event for event in NEXT[state.value] if event not in (DONE, FAULT)}
    assert {command.value for command in legal_commands(state)} == wanted


@given(st.lists(st.sampled_from(EVENTS), max_size=60))
def test_any_sequence_of_events(events: list[str]) -> None:
    """The machine has no memory: what one state does next depends on that state and the event alone."""
    state, path = State.IDLE, [State.IDLE]
    for event in events:
        found = next_state(state, event)
        if found is not None:
            state = found
            path.append(state)
    for before, after in itertools.pairwise(path):
        assert after.value in NEXT[before.value].values()
        if before in FINAL:
            assert after in (State.IDLE, State.ABORTING), "what has ended does not run again"
        if after is State.RUNNING:
            assert before in (State.IDLE, State.PAUSED, State.RESTARTING)


@given(STATES)
def test_a_batch_can_always_be_made_safe_and_brought_to_an_end(state: State) -> None:
    active = {State.RUNNING, State.PAUSING, State.PAUSED, State.RESTARTING}
    assert (next_state(state, Command.HOLD) is State.HOLDING) == (state in active)
    over = {State.IDLE, State.COMPLETE, State.ABORTING, State.ABORTED}
    assert (next_state(state, Command.ABORT) is State.ABORTING) == (state not in over)


def test_transient_states_end_by_themselves_and_the_others_do_not() -> None:
    for state in State:
        ends = next_state(state, DONE) is not None
        assert ends == (state not in QUIESCENT), state
    assert FINAL < QUIESCENT


def test_the_numbers_are_those_of_the_trade() -> None:
    assert len(set(NUMBERS.values())) == len(State)
    assert {s.value: n for s, n in NUMBERS.items() if n <= 100} == {
        "aborting": 10, "holding": 20, "stopping": 30, "restarting": 40, "running": 50, "held": 60,
        "complete": 70, "stopped": 80, "aborted": 90, "idle": 100,
    }  # fmt: skip
