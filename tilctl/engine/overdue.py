"""Waiting for an answer, with an alarm when it is overdue."""

from __future__ import annotations

from typing import Literal

from tilctl.engine.context import Context
from tilctl.engine.errors import StepError
from tilctl.engine.prompts import overdue
from tilctl.engine.state import Prompt
from tilctl.journal import events as ev


async def answered(context: Context, prompt: Prompt, on_overdue: Literal["continue", "hold"]) -> bool:
    """Wait until an answer is in force; False when it is overdue and the recipe goes on without it.

    Raises StepError when it is overdue and the recipe says hold; the question stays open.
    """
    alarm = overdue(prompt.id)  # cleared when the answer takes effect
    if prompt.due is None or prompt.answered or await context.prompts.wait(prompt, prompt.due):
        await context.prompts.wait(prompt)
        if alarm in context.batch.state.alarms:
            context.clear(alarm)
        return True
    if alarm not in context.batch.state.alarms:
        text, due = f"{prompt.text}: no answer by {prompt.spec.get('due')}", prompt.spec.get("due")
        raised = ev.ExceptionRaised("overdue", f"{prompt.text}: no answer in time", context.path)
        if on_overdue == "hold":
            # Invariant: the alarm says that it was held once, so it stands on the record only together with the hold.
            notes = (ev.AlarmRaised(alarm, "medium", text, context.path, {}), raised)
            raise StepError(f"{context.path}: no answer by {due}", "answer, then restart the batch", notes)
        context.alarm(alarm, "medium", text)
        await context.batch.record(raised)
    if on_overdue == "continue":
        return False
    await context.prompts.wait(prompt)  # held once for it, restarted by a person: now it waits as long as it takes
    return True
