"""`repeat`: the steps turn after turn, at moments that were settled when the first began."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from recipes.expr import compile
from recipes.steps import Repeat
from tilctl.engine.context import Context
from tilctl.engine.errors import StepError
from tilctl.engine.turns import Turn, turn_of
from tilctl.engine.waiting import until_true
from tilctl.journal import events as ev


async def run(
    context: Context, step: Repeat, first: Callable[[], Awaitable[None]] | None = None, ends: datetime | None = None
) -> None:
    """Walk the turns; a turn that the record says has begun is walked to its end, whatever the condition says now.

    `first` is done at the begin of each turn that has not begun yet; from `ends` on none begins, as after the last.
    """
    every_s = None if step.every is None else context.number(step.every, "s")
    if every_s is not None and every_s <= 0.0:
        raise StepError(f"{context.path}: every: {step.every} is no time", "the recipe needs a correction")
    turn = turn_of(context.node)
    if turn is None:
        if step.until is not None and context.truth(step.until):
            return
        turn = Turn(1, context.node.started)
        await context.batch.record(turn.phase(context.path))
    while True:
        if not _begun(context, step, turn):
            if not _over(context, turn, ends) and not await _begins(context, step, turn):
                return
            if _over(context, turn, ends):
                if step.until is None or not context.truth(step.until):
                    await _at_most(context, step, turn.number - 1)
                return
            if first is not None:
                await first()
        await context.walk(step.steps, f"{context.path}/{turn.number}", context.aliases)
        if step.until is not None and context.truth(step.until):
            return
        if turn.number >= step.max:
            await _at_most(context, step, turn.number)
            return
        turn, missed = turn.after(context.batch.clock.now(), every_s)
        if missed:
            text = f"{missed} turns were passed over, before turn {turn.number}"
            context.batch.note(ev.ExceptionRaised("missed", text, context.path))
        await context.batch.record(turn.phase(context.path))


def _begun(context: Context, step: Repeat, turn: Turn) -> bool:
    return context.batch.state.node(f"{context.path}/{turn.number}/{step.steps[0].id}") is not None


async def _begins(context: Context, step: Repeat, turn: Turn) -> bool:
    """Wait for a turn's moment; return whether it begins, or the condition comes true before."""
    if step.until is not None:
        return not await until_true(context, compile(step.until), turn.due)
    await context.sleep_until(turn.due)
    return True


def _over(context: Context, turn: Turn, ends: datetime | None) -> bool:
    """Whether a turn that has not begun comes too late for good."""
    return ends is not None and max(turn.due, context.batch.clock.now()) >= ends


async def _at_most(context: Context, step: Repeat, turns: int) -> None:
    if step.until is None:
        return
    text = f"'{step.until}' is not true after {turns} turns"
    if step.on_max == "hold":
        raise StepError(f"{context.path}: {text}", "see to its operands, then restart the batch")
    await context.batch.record(ev.ExceptionRaised("repeat", text, context.path))
