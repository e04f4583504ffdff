"""What every step of a dry run works with: plant, people, what is known, and a time that is let pass."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path

from devices.quantity import Quantity
from recipes.expr import INVALID, compile, reference
from recipes.model import Recipe
from simulators.bench import Bench
from simulators.operator import Operator
from simulators.physics.donors import donor
from simulators.physics.fluid import CLASSES
from simulators.physics.parameters import Setting
from simulators.physics.vessels import OF_CLASS
from simulators.plant import Plant
from simulators.virtual import EPOCH
from tilctl.cli.dryrun.asking import Asking
from tilctl.cli.dryrun.clock import MovedClock
from tilctl.cli.dryrun.controls import Controls
from tilctl.cli.dryrun.course import Course
from tilctl.cli.dryrun.guards import Guards
from tilctl.cli.dryrun.interleaved import Gate, Interleaved
from tilctl.cli.dryrun.liquids import Liquids
from tilctl.cli.dryrun.scope import Known, KnownScope
from tilctl.cli.dryrun.tags import Tags
from tilctl.config.working import Working
from tilctl.engine.errors import StepError
from tilctl.engine.estimating import EVERY
from tilctl.engine.exclusion import Exclusion
from tilctl.engine.waiting import seconds_until
from tilctl.plant.ledger import Container

LOOK_S = 60.0  # between looks at a value of the plant that a step waits for
LONGEST_S = 120 * 86400.0  # a recipe that has not ended by then never does
ROCKED = ("rocking", "oxygen", "ph", "gas_oxygen")  # what needs one of these gets the suite with a rocker
Aliases = Mapping[str, str]
"""What the names of the loops around a step stand for."""


class Run:
    """One dry run of a recipe for one donor."""

    def __init__(
        self,
        recipe: Recipe,
        seed: int,
        parameters: Mapping[str, str],
        setting: Setting | None = None,
        folders: Sequence[Path] = (),
        start: datetime = EPOCH,
        working: Working | None = None,
    ) -> None:
        """`seed` draws people and noise, and the donor unless `setting` has one.

        `folders`: where freezing profiles are looked for before the library.  `start`: when it begins; `working`: when
        people are there, always where that is not said.
        """
        self.clock = MovedClock(start)
        self.working = working
        given = setting or Setting(donor(seed))
        floors = {name: given.vessel for name in CLASSES if name.startswith("gas-permeable")}
        self.plant = Plant(self.clock, seed, given.donor, kinetics=given.kinetics, vessels={**OF_CLASS, **floors})
        if any(tag in each.needs for each in recipe.equipment.values() for tag in ROCKED):
            self.plant.put_up_rocker()
        self.bench = Bench(self.plant)
        self.liquids = Liquids(self.plant, self.bench)
        self.recipe = recipe
        self.folders = folders
        inputs = {name: parameters.get(name, each.default) for name, each in recipe.parameters.items()}
        self._tags = Tags(recipe.equipment, self.plant)
        self.known = Known(recipe, inputs, self.clock.monotonic, self._tags.read)
        self.guards = Guards(recipe, self.known)
        self.controls = Controls(recipe, self._tags, self.liquids)
        self.course = Course(plant=self.plant)
        self.asking = Asking(Operator(seed, self.bench.call))
        self.branches = Interleaved(self.clock.monotonic, self._let_pass)
        self._exclusion = Exclusion(dict[str, str], lambda: Gate(self.branches))

    # --- time -----------------------------------------------------------------------------------------------------

    async def pass_s(self, seconds: float) -> None:
        """Let so many seconds pass."""
        await self.branches.pass_to(self.clock.monotonic() + max(0.0, seconds))

    def _let_pass(self, t: float) -> None:
        if t > LONGEST_S:
            raise StepError(f"it would last more than {LONGEST_S / 86400:.0f} days", "look at what it waits for")
        while True:
            now, pending, due = self.clock.monotonic(), self.guards.pending(), self.controls.due()
            look = math.inf if pending is None else now + pending
            first = min(look, math.inf if due is None else due)
            if first >= t:
                break
            self._move_to(max(first, now))
            self.controls.look(self.clock.monotonic())
            if look <= first:
                self.guards.look()
        self._move_to(t)

    def _move_to(self, t: float) -> None:
        self.clock.move_to(t)
        self.plant.time()
        self.known.ledger.evaporate(t)

    async def until(self, path: str, text: str, aliases: Aliases, limit_s: float | None = None) -> bool:
        """Let time pass until a condition holds; False where `limit_s` comes first."""
        expression = compile(text)
        # A moment, for what is left of a time gets too small to be added to it.
        end = None if limit_s is None else self.clock.monotonic() + limit_s
        while True:
            scope = self.scope(aliases)
            if (found := expression.truth(scope)) is not INVALID and found:
                return True
            now = self.clock.monotonic()
            if end is not None and now >= end:
                return False
            ahead = seconds_until(expression, scope)
            reads_plant = any(name.partition(".")[0] in self._tags.devices for name in expression.names)
            estimated = any(name.partition(".")[0] in self.recipe.estimates for name in expression.names)
            look = LOOK_S if reads_plant else EVERY if estimated else None
            left = None if end is None else end - now
            waits = [each for each in (ahead, look, left) if each is not None]
            if not waits and self.branches.alone:
                raise StepError(f"{path}: '{text}' never comes true", "nothing that it reads changes any more")
            t = now + min(waits) if waits else None
            await self.branches.pass_to_or_change(t if t is None or end is None else min(t, end))

    def alone(self, path: str, *containers: str) -> AbstractAsyncContextManager[None]:
        """Have these containers, or the pump, for one step alone; see `tilctl.engine.exclusion`."""
        return self._exclusion.alone(path, containers)

    # --- values ---------------------------------------------------------------------------------------------------

    def scope(self, aliases: Aliases) -> KnownScope:
        """Return what names mean in a step."""
        return KnownScope(self.known, aliases)

    def truth(self, path: str, text: str, aliases: Aliases) -> bool:
        """Return whether a condition holds; raises StepError where that is not known."""
        found = compile(text).truth(self.scope(aliases))
        if found is INVALID:
            raise StepError(f"{path}: '{text}' cannot be judged", "see to what is missing")
        return found

    def number(self, path: str, text: str, aliases: Aliases) -> float:
        """Return the number of an expression; raises StepError where it is not known."""
        found = compile(text).evaluate(self.scope(aliases))
        if not isinstance(found, Quantity):
            raise StepError(f"{path}: '{text}' is not known", "see to what is missing")
        return found.value

    def container(self, path: str, text: str, aliases: Aliases) -> Container:
        """Return the mounted container that a recipe names; raises StepError where there is none."""
        name = reference(text).resolve(self.scope(aliases))
        found = None if name is INVALID else self.known.ledger.get(aliases.get(str(name), str(name)))
        if found is None or not found.mounted:
            raise StepError(f"{path}: no container '{text}' is mounted", "mount it first")
        return found
