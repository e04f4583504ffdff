"""What the recipe of a batch says, as its record holds it; the oracles compare with that what is done."""

from __future__ import annotations

from dataclasses import dataclass, field

from devices.document import parse, validate
from recipes.model import Recipe, walk
from recipes.steps import AnyVerb
from tilctl.engine.state import BatchState, bare_path


@dataclass
class Written:
    """The recipe of one batch, read once."""

    recipe: Recipe | None = None
    _steps: dict[str, AnyVerb] = field(default_factory=dict[str, AnyVerb])

    def read(self, state: BatchState) -> Recipe | None:
        """Return the recipe; None while there is no batch."""
        if self.recipe is None and state.created is not None:
            created = state.created
            self.recipe = validate(parse(created.recipe_text, created.recipe), Recipe, "schema")
            for operation in self.recipe.procedure:
                self._steps.update(walk(operation.steps, operation.id))
        return self.recipe

    def step(self, state: BatchState, path: str) -> AnyVerb | None:
        """Return the step at a path, whatever the numbers of its loops; None for what is no step."""
        self.read(state)
        return self._steps.get(bare_path(path))
