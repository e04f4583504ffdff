"""`set`: standing targets, valid until replaced or the unit is freed."""

from __future__ import annotations

from devices.instrument import DeviceError
from devices.quantity import Quantity
from recipes.steps import Set
from tilctl.engine.batch import Batch
from tilctl.engine.context import Context
from tilctl.engine.errors import StepError
from tilctl.journal import events as ev
from tilctl.plant.outputs import Cause, OutputRefused


async def run(context: Context, step: Set) -> None:
    """Put each target on the record, then write it; an idempotent effect, so a repeated walk writes it again."""
    for tag, text in step.targets.items():
        if (of := _controlled(context.batch, tag)) is not None:
            why = f"{context.path}: {tag} is moved by the control of {of}"
            raise StepError(why, f"the recipe needs a correction: control: {{of: {of}, stop: true}} before it")
        value = context.evaluate(text)
        if not isinstance(value, Quantity):
            raise StepError(f"{context.path}: {tag}: '{text}' is no quantity", "correct the recipe")
        await context.batch.record(ev.TargetSet(context.path, tag, value.value, value.unit))
        await write_target(context.batch, tag, value.value)


def _controlled(batch: Batch, tag: str) -> str | None:
    """Return the reading whose control moves a target, None where none does."""
    return next((of for of, standing in batch.state.controls.items() if tag in standing.cascade.tags), None)


async def write_target(batch: Batch, tag: str, value: float) -> None:
    """Write one standing target and put its read-back on the record; raises StepError when it does not take.

    Its cause is the event that set it, also when it is written again.
    """
    path, seq = batch.state.wanted[tag]
    cause = Cause(path, seq, "idempotent")
    try:
        equipment, _, name = tag.partition(".")
        await batch.plant.gate.act(batch.name, batch.equipment[equipment], f"set_{name}", {"value": value}, cause=cause)
    except (DeviceError, OutputRefused) as error:
        raise StepError(
            f"{tag} could not be set to {value:g}: {error}", "see to the device, then restart the batch"
        ) from error
    await batch.record(ev.TargetConfirmed(tag, value))
