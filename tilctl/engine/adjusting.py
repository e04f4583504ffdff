"""Parameters that a recipe declares adjustable, changed while its batch runs: change control, nothing else is editable.

A new value is read by the steps that begin after it is on record; a step that has begun keeps what it began with, and
a standing target is written again by a step only.  Who gives a command and with which role is what it claims.
"""

from __future__ import annotations

from typing import Any

from devices.quantity import QuantityError, parse, parse_as
from recipes.adjustable import adjusted, limits_of, reads
from recipes.model import Parameter
from recipes.steps import AnyVerb, children
from tilctl.engine.batch import Batch
from tilctl.engine.machine import FINAL, State
from tilctl.engine.port import Command, Outcome
from tilctl.engine.runner import Runner
from tilctl.journal import events as ev

NOT_IN = (*FINAL, State.IDLE, State.STOPPING, State.ABORTING)
"""States in which nothing of a batch is changed any more."""
_MOST_NAMED = 5  # steps that are named in an answer


async def adjust(runner: Runner | None, command: Command) -> Outcome:
    """Give a parameter another value for the steps that begin from now on; raises JournalError."""
    if runner is None or runner.state in NOT_IN:
        state = "no batch" if runner is None else f"a batch that is {runner.state.value}"
        return Outcome("refused", "illegal_state", f"{command.unit} has {state}: nothing is adjusted")
    batch = runner.batch
    await batch.at_rest()  # Invariant: from here to the event nothing is waited for: it is judged by all that is known
    if command.id in batch.state.changed_by:
        return Outcome("already", "", "it is on record already")
    name, value = str(command.args["parameter"]), str(command.args["value"]).strip()
    if runner.state in NOT_IN:
        return Outcome("refused", "illegal_state", f"the batch is {runner.state.value} by now")
    parameter = batch.recipe.parameters.get(name)
    if parameter is None or parameter.adjust is None:
        known = ", ".join(each for each, it in batch.recipe.parameters.items() if it.adjust is not None)
        text = f"{batch.recipe.recipe} does not declare {name!r} adjustable; what it does: {known or 'nothing'}"
        return Outcome("refused", "not_adjustable", text)
    if (refused := unsigned(command, parameter.adjust.role)) is not None:
        return refused
    old, was = batch.parameter(name) or "", str(command.args.get("was") or "")
    if was and not _same(parameter, was, old):
        return Outcome("refused", "version_mismatch", f"{name} is {old}, not {was}: look again, then decide")
    if why := _wrong(name, parameter, value):
        return Outcome("refused", "bad_parameter", why)
    to_come = ahead(batch, name)
    if not to_come:
        return Outcome("refused", "not_read", f"no step that is still to begin reads {name}: it would change nothing")
    if _same(parameter, value, old):
        return Outcome("already", "", f"{name} is {old} already")
    await batch.record(ev.ParameterAdjusted(name, old, value, command.reason, command.actor, command.id))
    return Outcome("done", "", f"{name} is {value} (was {old}), for steps that begin from now on: {_named(to_come)}")


def adjustables(batch: Batch) -> list[dict[str, Any]]:
    """Return what may be adjusted, as JSON-able values: `name`, `label`, `value`, `limits` (in words)."""
    return [
        {
            "name": name,
            "label": each.label or "",
            "value": batch.parameter(name),
            "limits": adjusted(each),
        }
        for name, each in batch.recipe.parameters.items()
        if each.adjust is not None
    ]


def ahead(batch: Batch, name: str) -> list[str]:
    """Return the steps that read a parameter and may still begin, by their paths; a loop names each of its own once."""
    found: list[str] = []
    for operation in batch.recipe.procedure:
        if not batch.state.complete(operation.id):
            _ahead(batch, operation.steps, operation.id, name, again=False, found=found)
    return found


def _ahead(batch: Batch, steps: tuple[AnyVerb, ...], path: str, name: str, *, again: bool, found: list[str]) -> None:
    """`again`: a loop around them may walk them once more, whatever they have done."""
    for step in steps:
        here = f"{path}/{step.id}"
        node = batch.state.node(here)
        if not again and batch.state.complete(here):
            continue
        if (again or node is None) and reads(step, name):
            found.append(here)
        if step.verb == "parallel":
            for branch, inner in step.branches.items():
                _ahead(batch, inner, f"{here}/{branch}", name, again=again, found=found)
        elif step.verb == "choose":
            decided = None if node is None or again else node.phases.get("decided")
            taken = None if decided is None else int(decided[1]["case"])
            for number, inner in enumerate(children(step), start=1):
                if taken in (None, number):
                    _ahead(batch, inner, f"{here}/{number}", name, again=again, found=found)
        else:
            for inner in children(step):
                _ahead(batch, inner, here, name, again=True, found=found)


def unsigned(command: Command, roles: tuple[str, ...], *, reason: bool = True) -> Outcome | None:
    """Return the refusal of a change without a person, a reason, or a role that may make it; no `roles`: any may."""
    if not command.user or not command.role:
        return Outcome("refused", "no_actor", f"{command.verb} needs to know who asks: actor {{user, role}}")
    if reason and not command.reason.strip():
        return Outcome("refused", "no_reason", f"{command.verb} needs a reason: it goes on the record")
    if roles and command.role not in roles:
        text = f"{command.user} is {command.role}: only {' or '.join(roles)} may do this"
        return Outcome("refused", "role_not_allowed", text)
    return None


def _wrong(name: str, parameter: Parameter, value: str) -> str:
    """Return why a value is none for a parameter, "" where it is."""
    if parameter.choices:
        return "" if value in parameter.choices else f"{name} is one of {', '.join(parameter.choices)}, not {value!r}"
    try:
        number, limits = parse_as(value, parse(parameter.default).unit), limits_of(parameter)
    except QuantityError as error:
        return f"{name}: {error}"
    if limits is None or number not in limits:
        return f"{name} may be adjusted within {adjusted(parameter)}; {value} is outside"
    return ""


def _same(parameter: Parameter, one: str, other: str) -> bool:
    if parameter.choices:
        return one == other
    try:
        return parse(one) == parse(other)
    except QuantityError:
        return False


def _named(paths: list[str]) -> str:
    more = f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else ""
    return ", ".join(paths[:_MOST_NAMED]) + more
