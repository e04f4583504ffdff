"""`control`: a reading is kept from here on; its moves are made beside the walk (`tilctl.engine.controls`)."""

from __future__ import annotations

from devices.quantity import parse_as
from devices.role import ROLES
from recipes.control import Control
from recipes.model import Recipe
from recipes.ranges import parse_range
from tilctl.engine.batch import Batch
from tilctl.engine.context import Context
from tilctl.engine.errors import StepError
from tilctl.engine.verbs.set_target import write_target
from tilctl.journal import events as ev
from tilctl.plant.control.cascade import Cascade, Output, begins


async def run(context: Context, step: Control) -> None:
    """Put the control on the record, and bring its targets into their ranges; or end it."""
    batch = context.batch
    standing = batch.state.controls.get(step.of)
    if step.stop:
        if standing is not None:
            await batch.record(ev.ControlEnded(context.path, step.of))
        return
    if standing is None or standing.path != context.path:  # else a repeated walk: it stands already
        cascade = _settled(context, step)
        for other in batch.state.controls.values():
            if other.cascade.of != cascade.of and (both := {*other.cascade.tags} & {*cascade.tags}):
                text = f"{context.path}: {', '.join(both)} is moved by the control of {other.cascade.of} already"
                raise StepError(text, "the recipe needs a correction: end that one first")
        await batch.record(ev.ControlSet(context.path, step.of, cascade.as_data()))
    cascade = batch.state.controls[step.of].cascade
    for move in begins(cascade, numbers(batch)):
        await batch.record(ev.TargetSet(context.path, move.tag, move.value, move.unit))
    for tag in cascade.tags:
        if tag not in batch.state.confirmed:
            await write_target(batch, tag, numbers(batch)[tag])


def numbers(batch: Batch) -> dict[str, float]:
    """Return the standing targets of a batch that are numbers."""
    return {tag: float(value) for tag, (value, _) in batch.state.targets.items() if isinstance(value, (int, float))}


def _settled(context: Context, step: Control) -> Cascade:
    unit = _unit(context.batch.recipe, step.of)
    return cascade_of(context.batch.recipe, step, context.number(step.at or "", unit))


def cascade_of(recipe: Recipe, step: Control, at: float) -> Cascade:
    """Return what a step puts in place, with the value `at` that it keeps (canonical unit of the reading)."""
    outputs: list[Output] = []
    for move in step.by:
        unit = _unit(recipe, move.set_)
        span = parse_range(move.range, unit)
        outputs.append(Output(move.set_, unit, span.low, span.high, parse_as(move.step, _difference(unit))))
    unit = _unit(recipe, step.of)
    deadband = parse_as(step.deadband or "", _difference(unit))
    return Cascade(step.of, unit, at, deadband, parse_as(step.every or "", "s"), tuple(outputs))


def _unit(recipe: Recipe, name: str) -> str:
    head, _, tag = name.partition(".")
    equipment = recipe.equipment[head]
    return ROLES[equipment.role].tags_for(equipment.needs)[tag]


def _difference(unit: str) -> str:
    """Return the unit of a difference: K of degC, else the same."""
    return "K" if unit == "degC" else unit
