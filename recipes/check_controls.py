"""Checking `control`: what it reads, what it moves and how far, and that nothing else moves that."""

from __future__ import annotations

from collections.abc import Mapping

from devices.document import DataPath
from devices.role import ROLES
from recipes.check_expr import expression
from recipes.control import LEAST_EVERY_S, Control, Move
from recipes.findings import Findings
from recipes.model import Recipe
from recipes.names import Names
from recipes.ranges import Range


def check_control(
    step: Control, recipe: Recipe, names: Names, findings: Findings, path: DataPath, limits: Mapping[str, Range]
) -> None:
    """Report what is wrong with one; `limits` are what the site's equipment can be told, by tag."""
    kind = names.type_of(step.of)
    if step.of.partition(".")[0] not in recipe.equipment or kind is None or kind.kind != "number":
        findings.error("name-unknown", (*path, "of"), f"'{step.of}' is no reading of equipment", names.hint(step.of))
        return
    unit = kind.dim.unit
    if step.stop:
        if step.of not in names.controls:
            hint = f"controlled here: {', '.join(names.controls) or 'nothing'}"
            findings.error("control-tag", path, f"nothing controls '{step.of}' here", hint)
        elif step.when is None:
            del names.controls[step.of]
        return
    expression(step.at or "", names, findings, (*path, "at"), unit)
    _more_than_nothing(step.deadband or "", _difference(unit), findings, (*path, "deadband"))
    every = findings.quantity(step.every or "", ("s",), (*path, "every"))
    if every is not None and every < LEAST_EVERY_S:
        text = f"'{step.every}' is too soon to see what the move before it did"
        findings.error("range", (*path, "every"), text, f"at least {LEAST_EVERY_S:g} s", offset=0)
    for number, move in enumerate(step.by):
        _move(step, move, number, recipe, names, findings, (*path, "by", number), limits)
    names.controls[step.of] = tuple(move.set_ for move in step.by)


def check_free(tag: str, names: Names, findings: Findings, path: DataPath) -> None:
    """Report a tag that is set while a control moves it."""
    of = next((of for of, moved in names.controls.items() if tag in moved), None)
    if of is not None:
        hint = f"end it first: control: {{of: {of}, stop: true}}"
        findings.error("control-tag", path, f"'{tag}' is moved by the control of {of}", hint)


def _move(
    step: Control, move: Move, number: int, recipe: Recipe, names: Names, findings: Findings, path: DataPath,
    limits: Mapping[str, Range],
) -> None:  # fmt: skip
    head, _, tag = move.set_.partition(".")
    equipment = recipe.equipment.get(head)
    role = None if equipment is None else ROLES.get(equipment.role)
    settable = {} if role is None or equipment is None else role.settable_for(equipment.needs)
    here = (*path, "set")
    if tag not in settable:
        hint = f"settable: {', '.join(f'{head}.{each}' for each in settable) or 'nothing'}"
        findings.error("tag-unknown", here, f"'{move.set_}' cannot be set", hint)
        return
    if move.set_ == step.of:
        findings.error("control-tag", here, f"'{step.of}' is read and moved by one control", "move what acts on it")
    others = [each.set_ for each in step.by[:number]]
    if move.set_ in others:
        findings.error("control-tag", here, f"'{move.set_}' is moved twice", "name each output once")
    other = next((of for of, moved in names.controls.items() if of != step.of and move.set_ in moved), None)
    if other is not None:
        text = f"'{move.set_}' is moved by the control of {other} already"
        findings.error("control-tag", here, text, f"one control for each: end that of {other} first")
    allowed = findings.span(move.range, settable[tag], (*path, "range"))
    by = _more_than_nothing(move.step, _difference(settable[tag]), findings, (*path, "step"))
    if allowed is not None and by is not None and by > allowed.high - allowed.low:
        findings.error("range", (*path, "step"), f"'{move.step}' is more than the whole range", move.range, offset=0)
    takes = limits.get(move.set_)
    if allowed is not None and takes is not None and not (allowed.low in takes and allowed.high in takes):
        text = f"{move.range} goes beyond what the equipment takes"
        findings.error("limit", (*path, "range"), text, f"{takes}", offset=0)


def _difference(unit: str) -> str:
    """Return the unit of a difference: K of degC, else the same."""
    return "K" if unit == "degC" else unit


def _more_than_nothing(text: str, unit: str, findings: Findings, path: DataPath) -> float | None:
    value = findings.quantity(text, (unit,), path)
    if value is not None and value <= 0.0:
        findings.error("range", path, f"'{text}' is no difference", "more than nothing", offset=0)
        return None
    return value
