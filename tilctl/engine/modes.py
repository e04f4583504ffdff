"""Automatic, semi-automatic and manual mode of a batch (ISA-88), and the steps that people let begin or pass over.

Hold, stop, abort, guards, interlocks, targets and controls are the same in every mode.  Who gives a command and with
which role is what it claims.
"""

from __future__ import annotations

from typing import cast

from devices.quantity import show
from tilctl.engine.adjusting import NOT_IN, unsigned
from tilctl.engine.pacing import OPERATION
from tilctl.engine.port import Command, Outcome
from tilctl.engine.runner import Runner
from tilctl.journal import events as ev
from tilctl.journal.changes import Mode

MAY_CHANGE = ("process_engineer", "quality")
"""Roles that may change the mode or pass over a step (engineering default); any may let a step begin."""


async def change_mode(runner: Runner | None, command: Command) -> Outcome:
    """Let the steps that have not begun yet begin in another way from now on; raises JournalError."""
    if (refused := _no_batch(runner, command)) is not None or runner is None:
        return refused or Outcome("refused", "illegal_state")
    batch = runner.batch
    await batch.at_rest()  # Invariant: from here to the event nothing is waited for
    if command.id in batch.state.changed_by:
        return Outcome("already", "", "it is on record already")
    if (refused := _no_batch(runner, command) or unsigned(command, MAY_CHANGE)) is not None:
        return refused
    mode, before = cast("Mode", command.args["mode"]), batch.state.mode
    if mode == before:
        return Outcome("already", "", f"the mode is {mode} already")
    await batch.record(ev.ModeChanged(before, mode, command.reason, command.actor, command.id))
    return Outcome("done", "", f"the mode is {mode} (was {before}); what has begun goes on")


async def release(runner: Runner | None, command: Command) -> Outcome:
    """Let a step begin that waits for a person, or pass over it; raises JournalError."""
    if (refused := _no_batch(runner, command)) is not None or runner is None:
        return refused or Outcome("refused", "illegal_state")
    batch = runner.batch
    await batch.at_rest()  # Invariant: from here to the event nothing is waited for, so that each step is told once
    if command.id in batch.state.changed_by:
        return Outcome("already", "", "it is on record already")
    skip, path = command.verb == "skip", str(command.args["step"])
    verb = batch.pacing.verb(path)
    refused = unsigned(command, MAY_CHANGE if skip else (), reason=skip) or _not_waiting(runner, path, verb)
    if refused is None and skip:
        refused = _not_skippable(runner, verb)
    if refused is not None:
        return refused
    if not skip:
        await batch.record(ev.StepReleased(path, "proceed", command.reason, command.actor, command.id))
        return Outcome("done", "", f"{path} begins")
    # Invariant: in one transaction; what is passed over is on the list for review.
    batch.note(ev.StepReleased(path, "skip", command.reason, command.actor, command.id))
    runner.prompts.withdraw(f"{path} is passed over", path)
    text = f"{verb} {path} was passed over by {command.actor}{_done(runner, path)}: {command.reason}"
    await batch.record(ev.ExceptionRaised("skipped", text, path))
    return Outcome("done", "", f"{path} is passed over")


def _done(runner: Runner, path: str) -> str:
    """Return in words what a step that is passed over has done, "" where it had not begun."""
    state = runner.batch.state
    if state.node(path) is None:
        return ""
    delivered = sum(intent.delivered_ml or 0.0 for intent in state.intents_of(path))
    return f", {show(round(delivered, 1), 'mL')} delivered" if state.intents_of(path) else ", begun and not complete"


def _no_batch(runner: Runner | None, command: Command) -> Outcome | None:
    if runner is not None and runner.state not in NOT_IN:
        return None
    state = "no batch" if runner is None else f"a batch that is {runner.state.value}"
    return Outcome("refused", "illegal_state", f"{command.unit} has {state}: {command.verb} is for one that goes on")


def _not_waiting(runner: Runner, path: str, verb: str) -> Outcome | None:
    if verb:
        return None
    waiting = ", ".join(runner.batch.pacing.paths()) or f"none (the batch is {runner.state.value})"
    return Outcome("refused", "not_waiting", f"{path} does not wait for a person; what does: {waiting}")


def _not_skippable(runner: Runner, verb: str) -> Outcome | None:
    if runner.batch.state.mode != "manual":
        return Outcome("refused", "not_skippable", "steps are passed over in manual mode only: change the mode first")
    if verb == OPERATION:
        return Outcome("refused", "not_skippable", "an operation is not passed over as a whole: skip its steps")
    return None
