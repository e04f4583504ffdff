"""What an expression may name at each point of a recipe, and of which kind it is.

Names come to be as the procedure goes: an answer may be used after its `ask`, a mark after it was set.  A name that is
there only sometimes (a branch, an optional input, a deferred result) is a *maybe*: using it unguarded draws a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from devices.quantity import parse
from devices.role import BOOL, ROLES, SYMBOL
from recipes import kinds
from recipes.kinds import Type
from recipes.model import Equipment, Recipe

VOLUME = kinds.number("mL")
CELLS = kinds.number("cells")
TIME = kinds.number("s")
COUNT = kinds.number("")
DAY_ZERO = "day0"
"""The mark from which `day` counts."""
RESERVED = frozenset({"and", "or", "not", "of", "within", "true", "false", "day", "since"})
"""Words of the expression language, which cannot be names."""


@dataclass
class Names:
    """The names that are known at one point."""

    recipe: Recipe
    outputs: dict[str, Type] = field(default_factory=dict[str, Type])
    marks: set[str] = field(default_factory=set[str])
    loops: dict[str, str] = field(default_factory=dict[str, str])
    maybe: set[str] = field(default_factory=set[str])
    acquired: frozenset[str] = frozenset()
    turns: bool = False  # inside a `repeat`
    everywhen: bool = False
    advised: bool = False  # where an estimate that only advises may be named
    controls: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Reading that a `control` may be keeping -> the tags that it moves."""

    def __post_init__(self) -> None:
        """Count what is estimated among what may have no value, anywhere."""
        self.maybe |= {f"{name}.{value}" for name, each in self.recipe.estimates.items() for value in each.values}

    def fork(self) -> Names:
        """Return a copy for a branch or a loop."""
        return replace(
            self, outputs=dict(self.outputs), marks=set(self.marks), loops=dict(self.loops), maybe=set(self.maybe),
            controls=dict(self.controls),
        )  # fmt: skip

    def join(self, branches: list[Names]) -> None:
        """Take over what the branches brought; what not all of them brought is a maybe."""
        for branch in branches:
            for name, kind in branch.outputs.items():
                self.outputs.setdefault(name, kind)
            self.marks |= branch.marks
        if branches:  # what may stand after any of them
            self.controls = {of: moved for branch in branches for of, moved in branch.controls.items()}
        for name in (*self.outputs, *(f"since({mark})" for mark in self.marks)):
            sure = [name not in branch.maybe and branch.has(name) for branch in branches]
            if sure and not all(sure):
                self.maybe.add(name)
            elif sure:
                self.maybe.discard(name)

    def beside(self, others: Iterable[Names]) -> tuple[Names, frozenset[str]]:
        """Return a copy for a branch beside others, and the names that only those bring: each of them is a maybe."""
        branch, foreign = self.fork(), set[str]()
        for other in others:
            for name, kind in other.outputs.items():
                if name not in self.outputs:
                    branch.bring(name, kind, maybe=True)
                    foreign.add(name)
            for mark in other.marks - self.marks:
                branch.set_mark(mark, maybe=True)
                foreign.add(f"since({mark})")
            branch.controls |= other.controls  # may stand by then
        return branch, frozenset(foreign)

    def gather(self, branch: Names, foreign: frozenset[str]) -> None:
        """Take over what one of several branches brought that are all walked to their end."""
        for name, kind in branch.outputs.items():
            if name not in foreign:
                self.bring(name, kind, maybe=name in branch.maybe)
        for mark in branch.marks:
            if (name := f"since({mark})") not in foreign:
                self.set_mark(mark, maybe=name in branch.maybe)
        ended = self.controls.keys() - branch.controls.keys()
        self.controls = {of: moved for of, moved in {**self.controls, **branch.controls}.items() if of not in ended}

    def has(self, name: str) -> bool:
        """Return whether a step's output or a mark has come to be."""
        return name in self.outputs or (name.startswith("since(") and name[6:-1] in self.marks)

    def bring(self, name: str, kind: Type, *, maybe: bool) -> None:
        """Add a step's output."""
        self.outputs[name] = kind
        (self.maybe.add if maybe else self.maybe.discard)(name)

    def set_mark(self, mark: str, *, maybe: bool) -> None:
        """Add a mark."""
        self.marks.add(mark)
        (self.maybe.add if maybe else self.maybe.discard)(f"since({mark})")

    def type_of(self, name: str) -> Type | None:
        """Return the type of a name, indices emptied, or None where there is none here."""
        if name == "day":
            return TIME if self.everywhen or DAY_ZERO in self.marks else None
        if name.startswith("since("):
            return TIME if self.everywhen or name[6:-1] in self.marks else None
        head, _, attribute = name.partition(".")
        if not attribute:
            return parameter_type(self.recipe, name)
        family = head.removesuffix("[]")
        if head in self.loops:
            return {"index": COUNT, "volume": VOLUME, "limit": VOLUME}.get(attribute)
        if family in self.recipe.containers:
            return self._container(family, attribute, indexed=head != family)
        if head in self.recipe.equipment:
            return tag_type(self.recipe.equipment[head], attribute)
        if head in self.recipe.estimates:
            return CELLS if attribute in self.recipe.estimates[head].values else None
        return self.outputs.get(name)

    def _container(self, family: str, attribute: str, *, indexed: bool) -> Type | None:
        counted = self.recipe.containers[family].count is not None
        if indexed and not counted:
            return None
        if attribute in ("volume", "limit"):
            return VOLUME
        if attribute == "mounted":
            return COUNT if counted and not indexed else kinds.BOOL
        return COUNT if attribute == "index" and indexed else None

    def hint(self, name: str) -> str:
        """Return what may have been meant by a name that is not known."""
        if name == "day" or name.startswith("since("):
            mark = DAY_ZERO if name == "day" else name[6:-1]
            return f"no mark '{mark}' is set before this: add mark: {{id: {mark}}}"
        known = [
            *self.recipe.parameters,
            *self.outputs,
            *(f"{loop}.{word}" for loop in self.loops for word in ("index", "volume")),
        ]
        known += [f"{family}.volume" for family in self.recipe.containers]
        known += [f"{place}.{tag}" for place, kind in self.recipe.equipment.items() for tag in tags_of(kind)]
        known += [f"{name}.{value}" for name, each in self.recipe.estimates.items() for value in each.values]
        near = get_close_matches(name, known, n=3, cutoff=0.5)
        step = name.partition(".")[0]
        later = "; a step's values can be used after the step only" if "." in name and step not in self.loops else ""
        return f"did you mean {' or '.join(near)}?{later}" if near else f"nothing of this name before this step{later}"


def parameter_type(recipe: Recipe, name: str) -> Type | None:
    """Return the type of a parameter, by its default; raises QuantityError where that is no quantity."""
    parameter = recipe.parameters.get(name)
    if parameter is None:
        return None
    return kinds.choice(parameter.choices) if parameter.choices else kinds.number(parse(parameter.default).unit)


def tags_of(equipment: Equipment) -> Mapping[str, str]:
    """Return the tags that a recipe may read of its equipment, none for a role that does not exist."""
    return ROLES[equipment.role].tags_for(equipment.needs) if equipment.role in ROLES else {}


def tag_type(equipment: Equipment, tag: str) -> Type | None:
    """Return the type of a tag, or None where the equipment has no such tag."""
    unit = tags_of(equipment).get(tag)
    if unit is None:
        return None
    if unit == BOOL:
        return kinds.BOOL
    return kinds.TEXT if unit == SYMBOL else kinds.number(unit)
