"""The watches of a recipe: its guards and its biological clocks, as the guard judges them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import is_
from typing import Any

from devices.quantity import parse, parse_as
from devices.reading import Reading
from recipes.expr import INVALID, Expression, compile, explain
from recipes.hysteresis import still
from recipes.model import BiologicalClock, step_at, walk
from recipes.model import Guard as GuardModel
from recipes.steps import AnyVerb
from recipes.syntax import Call, Name, every
from recipes.units import number
from tilctl.engine.batch import Batch
from tilctl.engine.machine import FINAL, State
from tilctl.engine.scope import BatchScope
from tilctl.engine.state import StepStatus
from tilctl.guard.board import Condition, Watch
from tilctl.guard.catalog import details_of


def watches_of(batch: Batch) -> list[Watch]:
    """Return everything that is watched from the start of a batch to its end, also while it is held."""
    found = [_guard(batch, guard) for guard in batch.recipe.guards]
    for name, clock in batch.recipe.clocks.items():
        found += _clock(batch, name, clock)
    for operation in batch.recipe.procedure:
        for path, step in walk(operation.steps, operation.id):
            if step.max_hold is not None:
                found.append(_longest_hold(batch, path, step, step.max_hold))
    return found


def _longest_hold(batch: Batch, path: str, step: AnyVerb, limit: str) -> Watch:
    """Return the watch over how long a step stands held; the cells may not bear longer."""
    seconds = parse_as(limit, "s")

    def applies() -> bool:
        if batch.state.state is not State.HELD:
            return False  # first of all: it is asked at each scan, and a loop of 500 turns has thousands of nodes
        nodes = batch.state.nodes.values()
        return any(n.status is not StepStatus.COMPLETE and step_at(batch.recipe, n.path) is step for n in nodes)

    def condition() -> bool | None:
        since = batch.state.changed
        return since is not None and (batch.clock.now() - since).total_seconds() > seconds

    return Watch(
        id=f"max-hold-{path.replace('/', '-')}", text=f"{path} is held for longer than {limit}", priority="high",
        then="alarm", for_s=0.0, condition=condition, operands=dict[str, Any], applies=applies,
    )  # fmt: skip


def _guard(batch: Batch, guard: GuardModel) -> Watch:
    expression = compile(guard.when)
    scope = BatchScope(batch, {})
    names = _tags(expression, batch)
    before: list[Reading] = []
    judged: bool | None = None

    def condition() -> bool | None:
        nonlocal before, judged
        seen: list[Reading] = []
        for name in names:
            reading = None if name in batch.state.values else batch.tag(name)
            if reading is not None:
                seen.append(reading)
        # A reading that has turned stale is another object at each look, so what is judged anew is whatever changed.
        if names and len(seen) == len(names) == len(before) and all(map(is_, seen, before)):
            return judged
        found = expression.truth(scope)
        before, judged = seen, None if found is INVALID else found
        return judged

    return Watch(
        id=guard.id,
        text=guard.text or f"{guard.when} for {guard.for_}",
        priority=guard.priority,
        then=guard.then,
        for_s=parse_as(guard.for_, "s"),
        condition=condition,
        operands=lambda: _operands(expression, scope),
        applies=_between(batch, guard.span),
        goes_on=_goes_on(expression, scope, guard.deadband),
        off_delay=parse_as(guard.off_delay, "s"),
        unless=None if guard.unless is None else _truth(compile(guard.unless), scope),
        devices=_devices(batch, names) if names and guard.unless is None else None,
        details=details_of(guard),
    )


def _devices(batch: Batch, names: Iterable[str]) -> frozenset[str] | None:
    """Return the devices whose readings may change a condition on these tags, None where a result is among them."""
    heads = {name.partition(".")[0] for name in names}
    return frozenset(batch.equipment[head] for head in heads) if heads <= batch.equipment.keys() else None


def _goes_on(expression: Expression, scope: BatchScope, deadband: str | None) -> Condition | None:
    if deadband is None:
        return None
    quantity = parse(deadband)
    eased = number(quantity.value, quantity.unit)

    def goes_on() -> bool | None:
        found = still(expression, scope, eased)
        return None if found is INVALID else found

    return goes_on


def _truth(expression: Expression, scope: BatchScope) -> Condition:
    def holds() -> bool | None:
        found = expression.truth(scope)
        return None if found is INVALID else found

    return holds


def _tags(expression: Expression, batch: Batch) -> list[str]:
    """Return the names that an expression reads where all of them are tags (or results), else nothing."""
    found: list[str] = []
    for node in every(expression.node):
        if isinstance(node, Call) and node.function == "since":
            return []
        if isinstance(node, Name):
            if node.bare is not None and node.bare in batch.recipe.parameters:
                continue  # it stands for the whole batch
            head, _, rest = node.pattern.partition(".")
            if not rest or "[" in node.pattern or head in batch.recipe.containers:
                return []
            found.append(node.pattern)
    return found


def _between(batch: Batch, span: tuple[str, str] | None) -> Callable[[], bool]:
    def applies() -> bool:
        marks = batch.state.marks
        if batch.state.state in (*FINAL, State.IDLE):
            return False
        return span is None or (span[0] in marks and span[1] not in marks)

    return applies


def _too_short(batch: Batch, name: str, clock: BiologicalClock, least: str) -> Watch:
    """Return the watch over a time that has to be at least so long; known once it is over."""
    seconds = parse_as(least, "s")

    def condition() -> bool | None:
        marks = batch.state.marks
        if clock.from_ not in marks or clock.to not in marks:
            return False
        return (marks[clock.to] - marks[clock.from_]).total_seconds() < seconds

    return Watch(
        id=f"{name}-short", text=f"time from {clock.from_} to {clock.to} was less than {least}", priority="high",
        then="alarm", for_s=0.0, condition=condition, operands=dict[str, Any],
        applies=lambda: batch.state.state not in (*FINAL, State.IDLE),
    )  # fmt: skip


def _clock(batch: Batch, name: str, clock: BiologicalClock) -> list[Watch]:
    found: list[Watch] = [] if clock.min is None else [_too_short(batch, name, clock, clock.min)]
    for limit, priority, text in (
        (clock.warn, "medium", "nears its limit"),
        (clock.high, "high", "is over its limit"),
        (clock.max, "high", "is over its limit"),
    ):
        if limit is None:
            continue
        seconds = parse_as(limit, "s")

        def condition(seconds: float = seconds) -> bool | None:
            elapsed = batch.state.since(clock.from_, batch.clock.now())
            return elapsed is not None and elapsed.total_seconds() > seconds

        found.append(
            Watch(
                id=f"{name}-{'warn' if priority == 'medium' else 'limit'}",
                text=f"time from {clock.from_} to {clock.to} {text} of {limit}",
                priority="medium" if priority == "medium" else "high",
                then="alarm",
                for_s=0.0,
                condition=condition,
                operands=dict[str, Any],
                applies=_between(batch, (clock.from_, clock.to)),
            )
        )
    return found


def _operands(expression: Expression, scope: BatchScope) -> dict[str, Any]:
    return {operand.name: operand.value for operand in explain(expression, scope)}
