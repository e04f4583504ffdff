"""What a verb gets to work with: its place in the walk, the values around it, and the means to act."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from devices.quantity import Quantity
from recipes.expr import INVALID, ExprError, Expression, Invalid, Operand, Value, compile, explain, reference
from recipes.steps import AnyVerb
from recipes.template import render
from tilctl.engine.batch import Batch
from tilctl.engine.errors import StepError
from tilctl.engine.freezing_run import FreezingRuns
from tilctl.engine.prompts import Prompts
from tilctl.engine.scope import BatchScope
from tilctl.engine.state import Node
from tilctl.journal import events as ev
from tilctl.plant.ledger import Container

Walk = Callable[[tuple[AnyVerb, ...], str, Mapping[str, str]], Awaitable[None]]


@dataclass(frozen=True)
class Context:
    """One step in its place."""

    batch: Batch
    prompts: Prompts
    path: str
    aliases: Mapping[str, str]
    walk: Walk
    alarm: Callable[[str, str, str], None]  # id, priority, text
    clear: Callable[[str], None]
    freezing: FreezingRuns

    def at(self, path: str, aliases: Mapping[str, str]) -> Context:
        """Return the context of another place in the same walk."""
        return replace(self, path=path, aliases=aliases)

    def alone(self, *needs: str) -> AbstractAsyncContextManager[None]:
        """Have these for this step alone inside the block; waits until no branch beside it has one of them."""
        return self.batch.exclusion.alone(self.path, needs)

    @property
    def scope(self) -> BatchScope:
        """What names mean here."""
        return BatchScope(self.batch, self.aliases, self.path)

    @property
    def node(self) -> Node:
        """This step as the record knows it."""
        return self.batch.state.nodes[self.path]

    def evaluate(self, text: str) -> Value | Invalid:
        """Return the value of an expression; raises StepError where it makes no sense."""
        try:
            return compile(text).evaluate(self.scope)
        except ExprError as error:
            raise StepError(
                f"{self.path}: '{text}' cannot be computed: {error}", "the recipe needs a correction"
            ) from error

    def number(self, text: str, unit: str) -> float:
        """Return the number of an expression in a canonical unit; raises StepError when it is not known."""
        found = self.evaluate(text)
        if found is INVALID:
            raise StepError(*self._unknown(text))
        if not isinstance(found, Quantity) or found.unit != unit:
            raise StepError(
                f"{self.path}: '{text}' gives {found}, wanted {unit or 'a plain number'}", "correct the recipe"
            )
        return found.value

    def truth(self, text: str) -> bool:
        """Return whether a condition holds; raises StepError when that is not known: unknown is not false."""
        found = self.evaluate(text)
        if found is INVALID:
            raise StepError(*self._unknown(text))
        return bool(found)

    def operands(self, expression: Expression) -> list[Operand]:
        """Return what an expression is made of, as it is now."""
        return explain(expression, self.scope)

    def container(self, text: str) -> Container:
        """Return the mounted container that a recipe names; raises StepError when there is none."""
        try:
            name = reference(text).resolve(self.scope)
        except ExprError as error:
            raise StepError(f"{self.path}: {error}", "the recipe needs a correction") from error
        found = None if name is INVALID else self.scope.container(name)
        if found is None or not found.mounted:
            raise StepError(f"{self.path}: no container '{text}' is mounted", "mount it, then restart the batch")
        return found

    def due(self, seconds: float, since: datetime | None = None) -> datetime:
        """Return the moment `seconds` after this step began (biological time: it counts always)."""
        return (since or self.node.started) + timedelta(seconds=seconds)

    async def sleep_until(self, moment: datetime) -> None:
        """Wait until a moment of the record's time, on the monotonic clock."""
        left = (moment - self.batch.clock.now()).total_seconds()
        await self.batch.clock.sleep(max(0.0, left))

    async def set_values(self, values: Mapping[str, Value | None]) -> None:
        """Put named values on the record under this step."""
        plain: dict[str, float | str | bool | None] = {}
        units: dict[str, str] = {}
        for name, value in values.items():
            if isinstance(value, Quantity):
                plain[name] = value.value
                if value.unit:
                    units[name] = value.unit
            else:
                plain[name] = value
        await self.batch.record(ev.ValuesSet(self.path, plain, units))

    def fill_in(self, text: str) -> str:
        """Return a text with its `{expression}` places filled in; raises StepError where one makes no sense."""
        try:
            return render(text, self.scope)
        except ExprError as error:
            raise StepError(f"{self.path}: {error}", "the recipe needs a correction") from error

    def _unknown(self, text: str) -> tuple[str, str]:
        missing = [
            f"{operand.name} is {operand.quality.value if operand.value is not None else 'not known'}"
            for operand in self.operands(compile(text))
            if operand.value is None or operand.quality.value in ("stale", "bad")
        ]
        return (
            f"{self.path}: '{text}' cannot be judged: {', '.join(missing) or 'no such number'}",
            "see to what is missing, then restart the batch",
        )
