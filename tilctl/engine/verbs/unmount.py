"""`unmount`: a person takes containers away."""

from __future__ import annotations

from typing import Any

from devices.quantity import parse_as
from recipes.steps import Unmount
from tilctl.engine.context import Context
from tilctl.engine.overdue import answered
from tilctl.engine.verbs.mount import published
from tilctl.journal import events as ev
from tilctl.plant.ledger import Container


async def run(context: Context, step: Unmount) -> None:
    """Ask for the containers to be taken, then free their places."""
    leaving: list[Container] = []
    for name in step.containers:
        leaving += context.batch.state.ledger.family(name)
    if not leaving:
        return
    async with context.alone(*(container.name for container in leaving)):
        await _take_away(context, step, leaving)


async def _take_away(context: Context, step: Unmount, leaving: list[Container]) -> None:
    spec: dict[str, Any] = {"inputs": {}, "containers": [published(context.batch, c) for c in leaving]}
    text = context.fill_in(step.text) if step.text else f"Take away {', '.join(c.name for c in leaving)}"
    due = None if step.due is None else parse_as(step.due, "s")
    prompt = await context.prompts.ask(context.path, "unmount", text, spec, due)
    if not await answered(context, prompt, "continue"):  # overdue: told, and waited for all the same
        await context.prompts.wait(prompt)
    for container in leaving:
        await context.batch.record(
            ev.Unmounted(context.path, container.name, container.place, round(container.volume_ml, 3))
        )
