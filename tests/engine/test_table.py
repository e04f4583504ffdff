"""Every command in every state, on a real batch that was driven there: done, refused or already, never ignored."""

from __future__ import annotations

import asyncio

import pytest
from story import UNIT, Story

from tilctl.engine.machine import Command, State

# Standard table of the procedural states (ISA-88 / IEC 61512 examples), written down once more on purpose.
NEXT: dict[str, dict[str, str]] = {
    "idle": {"start": "running"},
    "running": {"pause": "pausing", "hold": "holding", "stop": "stopping", "abort": "aborting"},
    "pausing": {"hold": "holding", "stop": "stopping", "abort": "aborting"},
    "paused": {"resume": "running", "hold": "holding", "stop": "stopping", "abort": "aborting"},
    "holding": {"stop": "stopping", "abort": "aborting"},
    "held": {"restart": "restarting", "stop": "stopping", "abort": "aborting"},
    "restarting": {"hold": "holding", "stop": "stopping", "abort": "aborting"},
    "stopping": {"abort": "aborting"},
    "stopped": {"abort": "aborting", "reset": "idle"},
    "aborting": {},
    "aborted": {"reset": "idle"},
    "complete": {"reset": "idle"},
}
ALREADY = {
    ("running", "resume"), ("running", "restart"), ("pausing", "pause"), ("paused", "pause"), ("holding", "hold"),
    ("held", "hold"), ("restarting", "restart"), ("stopping", "stop"), ("stopped", "stop"), ("aborting", "abort"),
    ("aborted", "abort"), ("idle", "reset"),
}  # fmt: skip
LEGAL = [(state, command) for state, row in NEXT.items() for command in row]


async def reach(suite: Story, state: str) -> None:
    """Bring a batch into a state; a transient one lasts because an instrument is slow."""
    if state == "idle":
        return
    await suite.start("still")
    await suite.until("stay/one", "acting")
    if state in ("holding", "stopping", "aborting"):
        suite.faults("pump_media").delay_s = 0.6
        suite.spawn(suite.do({"holding": "hold", "stopping": "stop", "aborting": "abort"}[state]), "slow")
        await asyncio.sleep(0.01)
    elif state in ("pausing", "paused"):
        await suite.do("pause")
    elif state in ("held", "restarting"):
        await suite.do("hold")
    elif state in ("stopped", "aborted"):
        await suite.do({"stopped": "stop", "aborted": "abort"}[state])
    if state in ("paused", "complete"):
        await suite.until_state(state)
    if state == "restarting":
        suite.faults("incubator").delay_s = 0.6
        suite.spawn(suite.do("restart"), "slow")
        await asyncio.sleep(0.01)
    assert suite.runner.state == state
    await suite.settle()


def test_the_table_has_all_states_and_commands() -> None:
    assert set(NEXT) == {state.value for state in State}
    assert {command for row in NEXT.values() for command in row} == {command.value for command in Command}


@pytest.mark.parametrize("state", NEXT)
async def test_what_is_not_legal_is_answered_and_changes_nothing(suite: Story, state: str) -> None:
    await reach(suite, state)
    changes = [] if state == "idle" else suite.events("state_changed")
    for command in Command:
        if command.value in NEXT[state]:
            continue
        args = {"recipe": "still"} if command is Command.START else {}
        outcome = await suite.do(command.value, args, expect=None)
        if (state, command.value) in ALREADY:
            assert (outcome.status, outcome.code) == ("already", ""), command
        else:
            assert (outcome.status, outcome.code) == ("refused", "illegal_state"), command
        assert state in outcome.text, outcome
        assert suite.controller.status(UNIT)["state"] == state, command
    if state != "idle":
        assert suite.events("state_changed") == changes
        answered = [e.status for e in suite.events("command_answered")][-1]
        assert answered in ("refused", "already"), "the answer is on record too"


@pytest.mark.parametrize(("state", "command"), LEGAL)
async def test_what_is_legal_is_done(suite: Story, state: str, command: str) -> None:
    await reach(suite, state)
    before = 0 if state == "idle" else len(suite.events("state_changed", path=""))
    outcome = await suite.do(command, {"recipe": "still"} if command == "start" else {})
    assert outcome.code == ""
    if command == "reset":
        assert suite.controller.status(UNIT)["state"] == "idle"
        assert suite.runner_or_none is None
        closed = list((suite.folder / "data" / "batches" / "closed").glob("*.db"))
        assert len(closed) == 1
        return
    change = suite.events("state_changed", path="")[before]
    assert (change.from_state, change.to_state, change.command) == (state, NEXT[state][command], command)
    settled = {"holding": "held", "stopping": "stopped", "aborting": "aborted", "restarting": "running"}
    wanted = settled.get(NEXT[state][command], NEXT[state][command])
    assert suite.runner.state == wanted, "a command is answered when its transient state is over"
    assert wanted in outcome.text


async def test_status_tells_the_legal_commands(suite: Story) -> None:
    assert suite.controller.status(UNIT)["legal"] == ["start"]
    await reach(suite, "paused")
    assert set(suite.controller.status(UNIT)["legal"]) == set(NEXT["paused"])
