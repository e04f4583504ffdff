"""The procedural state machine: 12 states, 8 commands, one table, for batches and operations alike.

The table follows ISA-88 / IEC 61512 as transcribed in the project's notes; state numbers are those that
FactoryTalk Batch uses, then pausing and paused, which it does not number.
`transitions` is used as a synchronous table only: it runs no code of ours and knows no time.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Any

from transitions import Machine, MachineError


class State(StrEnum):
    """The twelve states of a procedural element."""

    IDLE = "idle"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    HOLDING = "holding"
    HELD = "held"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    ABORTING = "aborting"
    ABORTED = "aborted"
    COMPLETE = "complete"


class Command(StrEnum):
    """The eight commands that people may give."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    HOLD = "hold"
    RESTART = "restart"
    STOP = "stop"
    ABORT = "abort"
    RESET = "reset"


DONE = "done"  # internal: the transient state, or the procedure, has come to its end
FAULT = "fault"  # internal: something needs the hold logic

NUMBERS: dict[State, int] = {
    State.ABORTING: 10,
    State.HOLDING: 20,
    State.STOPPING: 30,
    State.RESTARTING: 40,
    State.RUNNING: 50,
    State.HELD: 60,
    State.COMPLETE: 70,
    State.STOPPED: 80,
    State.ABORTED: 90,
    State.IDLE: 100,
    State.PAUSING: 110,
    State.PAUSED: 120,
}

QUIESCENT = frozenset({State.IDLE, State.PAUSED, State.HELD, State.STOPPED, State.ABORTED, State.COMPLETE})
FINAL = frozenset({State.STOPPED, State.ABORTED, State.COMPLETE})
SAFE_STATES = frozenset(
    {State.HOLDING, State.HELD, State.STOPPING, State.STOPPED, State.ABORTING, State.ABORTED}
)  # with the declared outputs

_S = State
TABLE: tuple[tuple[str, tuple[State, ...], State], ...] = (
    (Command.START, (_S.IDLE,), _S.RUNNING),
    (Command.PAUSE, (_S.RUNNING,), _S.PAUSING),
    (Command.RESUME, (_S.PAUSED,), _S.RUNNING),
    (Command.HOLD, (_S.RUNNING, _S.PAUSING, _S.PAUSED, _S.RESTARTING), _S.HOLDING),
    (Command.RESTART, (_S.HELD,), _S.RESTARTING),
    (Command.STOP, (_S.RUNNING, _S.PAUSING, _S.PAUSED, _S.HOLDING, _S.HELD, _S.RESTARTING), _S.STOPPING),
    (
        Command.ABORT,
        (
            _S.RUNNING,
            _S.PAUSING,
            _S.PAUSED,
            _S.HOLDING,
            _S.HELD,
            _S.RESTARTING,
            _S.STOPPING,
            _S.STOPPED,
        ),
        _S.ABORTING,
    ),
    (Command.RESET, (_S.COMPLETE, _S.STOPPED, _S.ABORTED), _S.IDLE),
    (DONE, (_S.RUNNING,), _S.COMPLETE),
    (DONE, (_S.PAUSING,), _S.PAUSED),
    (DONE, (_S.HOLDING,), _S.HELD),
    (DONE, (_S.RESTARTING,), _S.RUNNING),
    (DONE, (_S.STOPPING,), _S.STOPPED),
    (DONE, (_S.ABORTING,), _S.ABORTED),
    (FAULT, (_S.RUNNING, _S.PAUSING, _S.PAUSED, _S.RESTARTING), _S.HOLDING),
)


@cache
def _table() -> Any:
    return Machine(
        states=[state.value for state in State],
        transitions=[
            {"trigger": str(trigger), "source": [s.value for s in sources], "dest": target.value}
            for trigger, sources, target in TABLE
        ],
        initial=State.IDLE.value,
        auto_transitions=False,
    )


def next_state(state: State, event: str) -> State | None:
    """Return the state that a command or an internal event leads to, or None where it is not legal."""
    machine = _table()
    machine.set_state(state.value)
    try:
        machine.trigger(event)
    except MachineError:
        return None
    return State(machine.state)


@cache
def legal_commands(state: State) -> tuple[Command, ...]:
    """Return the commands that are legal in a state."""
    return tuple(command for command in Command if next_state(state, command) is not None)
