"""What is known of volumes at one point of a procedure, as bounds; see `recipes.check_volumes`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from recipes import syntax
from recipes.bounds import Bound, between, either, exactly
from recipes.check_parallel import Touched
from recipes.model import Recipe

T = TypeVar("T")


@dataclass
class Log:
    """What a branch can do to containers beside others.

    By container (mL): what is `added` at most in all, the highest level that one is filled up to, and every volume that
    is `seen` in it.  `places`: how many of each class it takes at most, beside those taken `before`.
    """

    added: dict[str, float] = field(default_factory=dict[str, float])
    levels: dict[str, float] = field(default_factory=dict[str, float])
    seen: dict[str, Bound] = field(default_factory=dict[str, Bound])
    places: dict[str, int] = field(default_factory=dict[str, int])
    before: dict[str, int] = field(default_factory=dict[str, int])

    def filled(self, family: str, level: float | None, most: float) -> None:
        """Note a transfer into a container: up to a level, or so much at most.

        What is drawn off is not taken into account: it may come before or after.
        """
        if level is not None:
            self.levels[family] = max(level, self.levels.get(family, 0.0))
        else:
            self.added[family] = self.added.get(family, 0.0) + max(0.0, most)

    def saw(self, family: str, volume: Bound) -> None:
        """Note a volume that a container has."""
        self.seen[family] = either(self.seen.get(family, volume), volume)

    def mounted(self, used: Mapping[str, int]) -> None:
        """Note how many places are taken, beside those that were when the branch began."""
        for place, number in used.items():
            self.places[place] = max(self.places.get(place, 0), number - self.before.get(place, 0))


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
    others: dict[str, Bound] = field(default_factory=dict[str, Bound])
    places: dict[str, int] = field(default_factory=dict[str, int])
    log: Log | None = None

    def fork(self) -> State:
        """Return a copy for a branch."""
        return State(
            dict(self.values),
            dict(self.volumes),
            dict(self.mounted),
            dict(self.members),
            dict(self.loops),
            dict(self.at),
            self.others,
            self.places,
            self.log,
        )

    def beside(self, others: dict[str, Bound], places: dict[str, int], ids: set[str], log: Log | None) -> State:
        """Return a copy for a branch beside others; `ids` are those of the steps that the others walk."""
        branch = self.fork()
        branch.others = {**self.others, **others}
        branch.places = {at: number + self.places.get(at, 0) for at, number in places.items()} or self.places
        branch.values = {name: value for name, value in self.values.items() if name.partition(".")[0] not in ids}
        branch.log = log
        if log is not None and log is not self.log:
            for name, (_, most) in self.mounted.items():
                log.before[self.at.get(name, "hook")] = log.before.get(self.at.get(name, "hook"), 0) + most
        return branch

    def gather(self, branch: State, part: Touched) -> None:
        """Take over what one of several branches did that are all walked to their end."""
        self.values |= branch.values
        for name in part.changed | part.mounted:
            if name in branch.volumes:
                self.volumes[name] = branch.volumes[name]
        for name in part.mounted:
            _take_over(name, self.mounted, branch.mounted)
            _take_over(name, self.at, branch.at)
        for text, volume in branch.members.items():
            head = text.partition("[")[0].strip()
            if self.loops.get(head, head) in part.changed or text not in self.members:
                self.members[text] = volume

    def shared(self, volumes: Mapping[str, Bound]) -> None:
        """Let these containers hold what any order of the branches may leave in them."""
        self.volumes |= volumes
        for text in self.members:
            head = text.partition("[")[0].strip()
            self.members[text] = volumes.get(self.loops.get(head, head), self.members[text])

    def become(self, other: State) -> None:
        """Become another state of the same place in the procedure."""
        self.values, self.volumes, self.members = other.values, other.volumes, other.members
        self.mounted, self.at = other.mounted, other.at

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


def _take_over(name: str, ours: dict[str, T], theirs: dict[str, T]) -> None:
    if name in theirs:
        ours[name] = theirs[name]
    else:
        ours.pop(name, None)


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
        if head in self.state.loops and family not in self.state.others:
            return self.state.members.get(head)
        each = self.state.others.get(family, self.state.volumes.get(family, exactly(0.0)))
        declared = self.recipe.containers[family].count
        if declared is None or head.endswith("[]") or head in self.state.loops:
            return each
        least, most = self.state.mounted.get(family, (0, 0))
        return between(least * each.low, most * each.high)
