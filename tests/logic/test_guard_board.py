"""The guard: delays, unknown values, what it causes and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilctl.guard.board import CHATTERS, INVALID_AFTER, STEADY_FOR, Action, GuardBoard, Reactions, Watch


class Room:
    """One guarded value, its clock, and what the guard did."""

    def __init__(
        self, then: Action = "alarm", delay: float = 60.0, standing: Sequence[str] = (), priority: str = "high"
    ) -> None:
        self.t = 0.0
        self.value: bool | None = False
        self.applies = True
        self.done: list[str] = []
        watch = Watch(
            id="warm",
            text="too warm",
            priority=priority,  # type: ignore[arg-type]
            then=then,
            for_s=delay,
            condition=lambda: self.value,
            operands=lambda: {"t": 39.0},
            applies=lambda: self.applies,
        )
        reactions = Reactions(self._raised, lambda alarm: self.done.append(f"clear {alarm}"), self._acted)
        self.board = GuardBoard(self, [watch], reactions, standing)  # type: ignore[arg-type]

    def monotonic(self) -> float:
        return self.t

    def _raised(self, alarm: str, priority: str, text: str, values: dict[str, Any]) -> None:
        self.done.append(f"raise {alarm} {priority}")
        assert values == {"t": 39.0}
        assert "too warm" in text

    def _acted(self, alarm: str, action: str, text: str) -> None:
        self.done.append(f"{action} {alarm}")

    def look(self, value: bool | None, *, after: float) -> list[str]:
        """Scan once, `after` seconds later; return what that caused."""
        self.t += after
        self.value = value
        self.done.clear()
        self.board.scan()
        return list(self.done)


def test_it_fires_after_its_delay_and_once() -> None:
    room = Room()
    assert room.look(value=True, after=1.0) == []
    assert room.look(value=True, after=59.9) == []
    assert room.look(value=True, after=0.1) == ["raise warm high"]
    assert room.look(value=True, after=600.0) == []
    assert room.look(value=False, after=1.0) == ["clear warm"]
    assert room.look(value=False, after=1.0) == []


def test_the_delay_begins_anew_when_the_condition_was_false() -> None:
    room = Room()
    room.look(value=True, after=0.0)
    room.look(value=False, after=59.0)
    assert room.look(value=True, after=1.0) == []
    assert room.look(value=True, after=59.0) == []
    assert room.look(value=True, after=1.0) == ["raise warm high"]


@pytest.mark.parametrize("action", ["hold", "stop"])
def test_it_acts_first_and_reports_second(action: Action) -> None:
    assert Room(action, delay=0.0).look(value=True, after=0.0) == [f"{action} warm", "raise warm high"]


def test_unknown_neither_fires_nor_clears_and_is_an_alarm_of_its_own() -> None:
    room = Room("hold", delay=60.0)
    assert room.look(value=None, after=0.0) == []
    assert room.look(value=None, after=INVALID_AFTER - 1.0) == []
    assert room.look(value=None, after=1.0) == ["raise warm-invalid medium"]
    assert room.look(value=None, after=3600.0) == [], "an hour of not knowing is not an hour of being warm"
    assert room.look(value=True, after=1.0) == ["clear warm-invalid"]
    assert room.look(value=True, after=60.0) == ["hold warm", "raise warm high"]
    assert room.look(value=None, after=1.0) == [], "unknown does not clear"
    assert room.look(value=None, after=600.0) == ["raise warm-invalid medium"]
    assert room.look(value=False, after=1.0) == ["clear warm-invalid", "clear warm"]


def test_outside_its_time_it_is_silent_and_clears() -> None:
    room = Room(delay=0.0)
    room.look(value=True, after=0.0)
    room.applies = False
    assert room.look(value=True, after=1.0) == ["clear warm"]
    assert room.look(value=True, after=999.0) == []
    room.applies = True
    assert room.look(value=True, after=1.0) == ["raise warm high"]


def test_after_a_restart_what_stands_is_not_announced_again_but_acts() -> None:
    room = Room("hold", delay=0.0, standing=["warm", "other"])
    assert room.look(value=True, after=1.0) == ["hold warm"], "the alarm is known, but nobody held for it in this life"
    assert room.look(value=True, after=1.0) == []
    assert room.look(value=False, after=1.0) == ["clear warm"]
    room = Room("hold", delay=0.0, standing=["warm-invalid"])
    assert room.look(value=None, after=600.0) == []
    assert room.look(value=False, after=1.0) == ["clear warm-invalid"]


def test_rearmed_it_acts_again_on_a_condition_that_still_holds() -> None:
    room = Room("hold", delay=10.0)
    room.look(value=True, after=0.0)
    assert "hold warm" in room.look(value=True, after=10.0)
    room.board.rearm()
    assert room.look(value=True, after=1.0) == []
    assert room.look(value=True, after=10.0) == ["hold warm"], "the alarm stands, it only acts anew"
    assert room.look(value=True, after=99.0) == []
    room.board.rearm()
    assert room.look(value=False, after=1.0) == ["clear warm"], "and it clears also when it never acted again"


SEEN = st.lists(st.tuples(st.sampled_from([True, False, None]), st.floats(0.1, 100.0)), max_size=60)


@given(SEEN, st.floats(0.0, 200.0))
def test_alarms_are_raised_and_cleared_in_turn(seen: list[tuple[bool | None, float]], delay: float) -> None:
    room = Room("hold", delay=delay)
    history: list[str] = []
    true_since: float | None = None
    for value, pause in seen:
        caused = room.look(value, after=pause)
        history += caused
        if value is True:
            true_since = room.t if true_since is None else true_since
        elif value is False:
            true_since = None
        if "raise warm high" in caused:
            assert value is True
            assert true_since is not None
            assert room.t - true_since >= delay
        if "clear warm" in caused:
            assert value is False
    for alarm in ("warm", "warm-invalid"):
        turns = [entry.split()[0] for entry in history if entry.split()[1] == alarm and entry.split()[0] != "hold"]
        assert turns == (["raise", "clear"] * len(turns))[: len(turns)]
    assert history.count("hold warm") == history.count("raise warm high")


def test_one_that_chatters_for_a_day_is_raised_a_bounded_number_of_times_and_still_acts() -> None:
    room = Room("hold", delay=0.0)
    raised = held = 0
    for second in range(86400):
        done = room.look(value=second % 2 == 0, after=1.0)
        raised += "raise warm high" in done
        if second % 3600 == 1800:  # a person restarts the batch
            room.board.rearm()
        held += "hold warm" in done
    assert raised == CHATTERS
    assert held >= CHATTERS + 23, "each time that it is armed anew"
    assert room.look(value=False, after=1.0) == []
    assert room.look(value=False, after=STEADY_FOR - 2.0) == []
    assert room.look(value=False, after=2.0) == ["clear warm"], "steady"
    assert room.look(value=True, after=1.0) == ["hold warm", "raise warm high"]
    assert room.look(value=False, after=1.0) == ["clear warm"], "the hour of its chatter is over"
