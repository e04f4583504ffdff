"""A recipe as frozen models; what each verb takes is in `recipes.steps`.

Values stay text here.  Importing this module brings neither pint nor lark.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from devices.alarm import AlarmFields
from recipes.estimates import Estimate
from recipes.fields import SOME, Amount, Flag, Frozen, Id, Names, Span, Text
from recipes.steps import AnyVerb, Choose, Parallel, Step, children

Title = Annotated[str, StringConstraints(pattern="^[a-z0-9][a-z0-9-]*$", max_length=60)]
Version = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]


class Equipment(Frozen):
    """A role that the recipe needs, bound to a place by the site; `shared` is taken by `using:`."""

    role: Text
    needs: tuple[Id, ...] = ()
    positions: int = Field(default=0, ge=0, le=64)
    shared: Flag = False
    source: Text | None = None


FULL_SHARE = 0.98
"""Share of its limit at which a container is too full, and pumps are stopped (engineering default)."""


class Container(Frozen):
    """An account of the volume ledger; `limit` is the most it may hold.

    `count` makes it a family, whose members are `NAME[1]`, `NAME[2]`, ...  `density` defaults to that of medium,
    1.005 g/mL (general knowledge).  `evaporation` is what it loses while it is mounted, such as 0.5 mL/d; none unless
    it is declared.  `stock` says how much of each substance that is dosed from it is in a mL: `{okt3: 50 ug/mL}`.
    """

    kind: Literal["vessel", "bag"]
    class_: Text | None = Field(default=None, alias="class")
    count: Text | None = None
    limit: Amount
    holds: Text | None = None
    density: Amount = "1.005 g/mL"
    evaporation: Amount = "0 mL/d"
    stock: dict[Id, Amount] = Field(default_factory=dict[Id, Amount])
    source: Text | None = None

    @property
    def place_class(self) -> Literal["station", "hook"]:
        """Return where it goes when a mount does not say."""
        return "station" if self.kind == "vessel" else "hook"

    @property
    def rocked(self) -> bool:
        """Return whether it is made to be rocked: its class begins with `rocking`."""
        return (self.class_ or "").startswith("rocking")


class Adjust(Frozen):
    """That a parameter may be changed while the batch runs: by one of `role`, within `range` where that is narrower.

    The new value is read by steps that begin from then on; a step that has begun keeps what it began with.
    """

    role: Names
    range: Span | None = None
    source: Text | None = None


class Parameter(Frozen):
    """A value that whoever starts a batch may change, within `range` or `choices`; `adjust`: while it runs, too."""

    label: Text | None = None
    default: Text
    range: Span | None = None
    choices: tuple[Text, ...] = ()
    adjust: Adjust | None = None
    source: Text | None = None


class Result(Frozen):
    """A kind of laboratory result: a number in `unit` within `range`, or one of `choices`."""

    label: Text | None = None
    unit: Text | None = None
    range: Span | None = None
    choices: tuple[Text, ...] = ()
    source: Text | None = None


class BiologicalClock(Frozen):
    """Biological time between two marks, with the limits at which it alarms (`max` counts as high).

    `min` is the least that it has to be: less is an alarm once it is over, and the windows may not lead there.
    """

    from_: Id = Field(alias="from")
    to: Id
    min: Amount | None = None
    warn: Amount | None = None
    high: Amount | None = None
    max: Amount | None = None
    source: Text | None = None

    @model_validator(mode="after")
    def _some_limit(self) -> BiologicalClock:
        if not any((self.min, self.warn, self.high, self.max)):
            raise ValueError("a clock without a limit watches nothing: give min, warn, high or max")
        return self


class Guard(AlarmFields):
    """A condition watched from batch start to end, also while held; it may alarm, hold or stop, nothing else."""

    id: Id
    while_: Annotated[str, StringConstraints(pattern=r"^mark [a-z][a-z0-9_]* to [a-z][a-z0-9_]*$")] | None = Field(
        default=None, alias="while"
    )

    @property
    def span(self) -> tuple[str, str] | None:
        """Return the marks between which it watches, or None for the whole batch."""
        if self.while_ is None:
            return None
        words = self.while_.split()
        return words[1], words[3]


class Operation(Frozen):
    """A named part of the procedure; `using` is granted before its first step and given back at its end."""

    id: Id = Field(alias="operation")
    title: Text | None = None
    using: tuple[Id, ...] = ()
    steps: Annotated[tuple[Step, ...], SOME]


class Recipe(Frozen):
    """A whole recipe. `sources` explains the tags that every number carries."""

    recipe: Title
    version: Version
    title: Text
    status: Literal["draft", "illustrative", "approved"]
    description: Text | None = None
    sources: dict[str, Text] = Field(default_factory=dict[str, Text])
    equipment: dict[Id, Equipment] = Field(default_factory=dict[Id, Equipment])
    containers: dict[Id, Container] = Field(default_factory=dict[Id, Container])
    parameters: dict[Id, Parameter] = Field(default_factory=dict[Id, Parameter])
    results: dict[Id, Result] = Field(default_factory=dict[Id, Result])
    clocks: dict[Id, BiologicalClock] = Field(default_factory=dict[Id, BiologicalClock])
    guards: tuple[Guard, ...] = ()
    estimates: dict[Id, Estimate] = Field(default_factory=dict[Id, Estimate])
    procedure: Annotated[tuple[Operation, ...], SOME]


def step_at(recipe: Recipe, path: str) -> AnyVerb | None:
    """Return the step that the engine walks at a path, None where there is none.

    A number after a choice is the branch that was taken, after a loop the round.  Where the path leaves it out, the
    first step of that id is meant.  After a `parallel` comes the name of the branch.
    """
    head, *parts = path.split("/")
    steps: tuple[AnyVerb, ...] = next((each.steps for each in recipe.procedure if each.id == head), ())
    found: AnyVerb | None = None
    named = False  # whether the next part is the name of a branch, where `found` has those
    for part in parts:
        if named and isinstance(found, Parallel):
            if part not in found.branches:
                return None
            steps, named = found.branches[part], False
        elif not part.isdigit():
            found = next((step for step in steps if step.id == part), None)
            if found is None:
                return None
            steps, named = tuple(chain.from_iterable(children(found))), True
        elif isinstance(found, Choose):
            steps = found.cases[int(part) - 1].steps if 0 < int(part) <= len(found.cases) else ()
    return found


def walk(steps: tuple[AnyVerb, ...], path: str) -> Iterator[tuple[str, AnyVerb]]:
    """Yield every step below `path` with its path of ids, in the order of the text.

    A loop's iterations and a choice's branches share one path here; the engine counts iterations (`draw/1/collect`).
    The name of a branch of a `parallel` is part of the path here too.
    """
    for step in steps:
        here = f"{path}/{step.id}" if path else step.id
        yield here, step
        if isinstance(step, Parallel):
            for name, inner in step.branches.items():
                yield from walk(inner, f"{here}/{name}")
            continue
        for inner in children(step):
            yield from walk(inner, here)
