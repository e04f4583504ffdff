"""What is known of volumes at one point of a procedure, as bounds; see `recipes.check_volumes`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from recipes import syntax
from recipes.bounds import Bound, between, either, exactly
from recipes.model import Recipe


@dataclass
class State:
    """What is known at one point: bounds of values, of volumes (mL), and of how many of a container are mounted.

    `volumes` and `mounted` go by container; `members` holds the volumes of loop containers, by the text that names
    them.  `at` is the class of place where each container is.
    """

    values: dict[str, Bound] = field(default_factory=dict[str, Bound])
    volumes: dict[str, Bound] = field(default_factory=dict[str, Bound])
    mounted: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    members: dict[str, Bound] = field(default_factory=dict[str, Bound])
    loops: dict[str, str] = field(default_factory=dict[str, str])
    at: dict[str, str] = field(default_factory=dict[str, str])

    def fork(self) -> State:
        """Return a copy for a branch."""
        return State(
            dict(self.values),
            dict(self.volumes),
            dict(self.mounted),
            dict(self.members),
            dict(self.loops),
            dict(self.at),
        )

    def join(self, others: Iterable[State]) -> None:
        """Become what holds for this and all of the others."""
        for other in others:
            for name, value in other.values.items():
                self.values[name] = either(self.values.get(name, value), value)
            for name, value in other.volumes.items():
                self.volumes[name] = either(self.volumes.get(name, value), value)
            for name in set(self.mounted) | set(other.mounted):
                (low, high), (bottom, top) = self.mounted.get(name, (0, 0)), other.mounted.get(name, (0, 0))
                self.mounted[name] = (min(low, bottom), max(high, top))
            self.at = {**other.at, **self.at}


@dataclass(frozen=True)
class VolumeScope:
    """Bounds of names at one point of the walk."""

    recipe: Recipe
    state: State
    limits: dict[str, float]

    def bound_of(self, name: syntax.Name) -> Bound | None:
        """Return the bound of a name."""
        pattern = name.pattern
        if pattern in self.state.values:
            return self.state.values[pattern]
        head, _, attribute = pattern.partition(".")
        family = self.state.loops.get(head, head.removesuffix("[]"))
        if family not in self.limits or not attribute:
            return None
        if attribute == "limit":
            return exactly(self.limits[family])
        if attribute == "mounted":
            least, most = self.state.mounted.get(family, (0, 0))
            return between(float(least), float(most))
        if attribute != "volume":
            return None
        if head in self.state.loops:
            return self.state.members.get(head)
        each = self.state.volumes.get(family, exactly(0.0))
        declared = self.recipe.containers[family].count
        if declared is None or head.endswith("[]"):
            return each
        least, most = self.state.mounted.get(family, (0, 0))
        return between(least * each.low, most * each.high)
