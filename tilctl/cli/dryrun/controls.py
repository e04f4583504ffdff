"""Standing controls of a dry run: the plant's own values, looked at when a move is due."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from recipes.control import Control
from recipes.model import Recipe
from tilctl.cli.dryrun.liquids import Liquids
from tilctl.cli.dryrun.tags import Tags
from tilctl.engine.errors import StepError
from tilctl.engine.verbs.control import cascade_of
from tilctl.plant.control.cascade import Cascade, begins, next_move


class Controls:
    """What keeps which reading; targets are those that the dry run has set."""

    def __init__(self, recipe: Recipe, tags: Tags, liquids: Liquids) -> None:
        self.moves: list[tuple[float, str, float]] = []  # when (s), which target, its value
        self._recipe = recipe
        self._tags = tags
        self._liquids = liquids
        self._targets: dict[str, float] = {}
        self._standing: dict[str, tuple[Cascade, float]] = {}  # reading -> control, when the next move may be (s)

    def set(self, path: str, targets: Mapping[str, float]) -> None:
        """Take note of what a `set` has set; raises StepError for what a control moves."""
        for tag in targets:
            of = next((of for of, (cascade, _) in self._standing.items() if tag in cascade.tags), None)
            if of is not None:
                raise StepError(f"{path}: {tag} is moved by the control of {of}", "end that one first")
        self._write(targets)

    def begin(self, step: Control, now: float, number: Callable[[str], float]) -> None:
        """Begin, replace or end one at a time (s)."""
        self._standing.pop(step.of, None)
        if step.stop:
            return
        cascade = cascade_of(self._recipe, step, number(step.at or ""))
        self._write({move.tag: move.value for move in begins(cascade, self._targets)})
        self._standing[step.of] = cascade, now + cascade.every_s

    def due(self) -> float | None:
        """Return when the next one is to be looked at (s), None where there is none."""
        return min((due for _, due in self._standing.values()), default=None)

    def look(self, now: float) -> None:
        """Judge those that are due; what nobody knows moves nothing."""
        for of, (cascade, due) in list(self._standing.items()):
            if due > now:
                continue
            self._standing[of] = cascade, now + cascade.every_s
            seen = self._tags.read(of)
            if seen is None or not isinstance(seen.value, (int, float)):
                continue
            move = next_move(cascade, float(seen.value), self._targets)
            if move is not None:
                self._write({move.tag: move.value})
                self.moves.append((now, move.tag, move.value))

    def _write(self, targets: Mapping[str, float]) -> None:
        self._targets |= targets
        self._liquids.set_climate({tag.partition(".")[2]: value for tag, value in targets.items()})
