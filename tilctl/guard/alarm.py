"""The states of an alarm, by ISA-18.2 / IEC 62682: one table, as `engine.machine` is one for procedures.

The letters are those of ISA-18.2 as transcribed in the project's notes.  Shelved, suppressed by design and out of
service are no states of this table: they are set beside it (`tilctl.guard.book`), the alarm goes on underneath.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Any

from transitions import Machine, MachineError


class AlarmState(StrEnum):
    """The six states of an alarm."""

    NORMAL = "normal"  # A
    UNACKNOWLEDGED = "unacknowledged"  # B: its condition holds, nobody has said that he knows
    ACKNOWLEDGED = "acknowledged"  # C: it holds, and somebody knows
    RETURNED = "returned"  # D: it is over, and nobody has said that he knows
    LATCHED_UNACKNOWLEDGED = "latched_unacknowledged"  # E: over, but it stays until it is known and reset
    LATCHED_ACKNOWLEDGED = "latched_acknowledged"  # F: over and known, and it stays until it is reset


class Trigger(StrEnum):
    """What moves an alarm; which of the three clearing ones it is follows from its class (`clearing`)."""

    RAISE = "raise"
    CLEAR = "clear"
    CLEAR_LATCHED = "clear_latched"
    CLEAR_UNASKED = "clear_unasked"
    ACKNOWLEDGE = "acknowledge"
    RESET = "reset"
    AGAIN = "again"  # the re-alarm time of one that was acknowledged and not put right is over


_A = AlarmState
ACTIVE = frozenset({_A.UNACKNOWLEDGED, _A.ACKNOWLEDGED})
"""The condition holds."""
WAITING = frozenset({_A.UNACKNOWLEDGED, _A.RETURNED, _A.LATCHED_UNACKNOWLEDGED})
"""A person has to say that he knows."""
LATCHED = frozenset({_A.LATCHED_UNACKNOWLEDGED, _A.LATCHED_ACKNOWLEDGED})

TABLE: tuple[tuple[Trigger, tuple[AlarmState, ...], AlarmState], ...] = (
    (Trigger.RAISE, (_A.NORMAL, _A.RETURNED, _A.LATCHED_UNACKNOWLEDGED, _A.LATCHED_ACKNOWLEDGED), _A.UNACKNOWLEDGED),
    (Trigger.CLEAR, (_A.UNACKNOWLEDGED,), _A.RETURNED),
    (Trigger.CLEAR, (_A.ACKNOWLEDGED,), _A.NORMAL),
    (Trigger.CLEAR_UNASKED, (_A.UNACKNOWLEDGED, _A.ACKNOWLEDGED), _A.NORMAL),
    (Trigger.CLEAR_LATCHED, (_A.UNACKNOWLEDGED,), _A.LATCHED_UNACKNOWLEDGED),
    (Trigger.CLEAR_LATCHED, (_A.ACKNOWLEDGED,), _A.LATCHED_ACKNOWLEDGED),
    (Trigger.ACKNOWLEDGE, (_A.UNACKNOWLEDGED,), _A.ACKNOWLEDGED),
    (Trigger.ACKNOWLEDGE, (_A.RETURNED,), _A.NORMAL),
    (Trigger.ACKNOWLEDGE, (_A.LATCHED_UNACKNOWLEDGED,), _A.LATCHED_ACKNOWLEDGED),
    (Trigger.RESET, (_A.LATCHED_ACKNOWLEDGED,), _A.NORMAL),
    (Trigger.AGAIN, (_A.ACKNOWLEDGED,), _A.UNACKNOWLEDGED),
)


@cache
def _table() -> Any:
    return Machine(
        states=[state.value for state in AlarmState],
        transitions=[
            {"trigger": str(trigger), "source": [s.value for s in sources], "dest": target.value}
            for trigger, sources, target in TABLE
        ],
        initial=AlarmState.NORMAL.value,
        auto_transitions=False,
    )


@cache
def next_state(state: AlarmState, trigger: Trigger) -> AlarmState | None:
    """Return the state that a trigger leads to, or None where it changes nothing."""
    machine = _table()
    machine.set_state(state.value)
    try:
        machine.trigger(str(trigger))
    except MachineError:
        return None
    return AlarmState(machine.state)


def clearing(priority: str, *, latching: bool) -> Trigger:
    """Return what the end of a condition is to an alarm: one of low priority that is over asks for no person."""
    if latching:
        return Trigger.CLEAR_LATCHED
    return Trigger.CLEAR_UNASKED if priority == "low" else Trigger.CLEAR


def table_text() -> str:
    """Return the table as Markdown: a row for each state, what each trigger leads to, `-` where it changes nothing."""
    rows = [["state", *(str(trigger) for trigger in Trigger)], ["---"] * (len(Trigger) + 1)]
    rows += [
        [state.value, *(found.value if (found := next_state(state, t)) else "-" for t in Trigger)]
        for state in AlarmState
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
