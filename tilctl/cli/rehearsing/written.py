"""What the recipe of a batch says, as its record holds it; the oracles compare with that what is done."""

from __future__ import annotations

from dataclasses import dataclass

from devices.document import parse, validate
from recipes.model import Recipe, step_at
from recipes.steps import AnyVerb
from tilctl.engine.state import BatchState


@dataclass
class Written:
    """The recipe of one batch, read once."""

    recipe: Recipe | None = None

    def read(self, state: BatchState) -> Recipe | None:
        """Return the recipe; None while there is no batch."""
        if self.recipe is None and state.created is not None:
            created = state.created
            self.recipe = validate(parse(created.recipe_text, created.recipe), Recipe, "schema")
        return self.recipe

    def step(self, state: BatchState, path: str) -> AnyVerb | None:
        """Return the step at a path of the engine; None for what is no step."""
        recipe = self.read(state)
        return None if recipe is None else step_at(recipe, path)
