"""What a batch takes: vessels, bags and what is in them, samples; counted from a dry run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from devices.quantity import parse_as
from recipes.model import Recipe
from tilctl.cli.dryrun.course import Course, Dosed
from tilctl.cli.planning.timeline import at


@dataclass(frozen=True, slots=True)
class Vessels:
    """Vessels of one class, or bags that come empty: which containers, how many, and the most that one may hold."""

    class_: str
    containers: tuple[str, ...]
    count: int
    limit_ml: float


@dataclass(frozen=True, slots=True)
class Content:
    """Bags that hold something, under one name of the recipe.

    `count`: how many in the dry run; `allowed`: how many the recipe allows.  `moved_ml`: what flowed out of all of them
    and into samples.  `needed_ml`: what was wanted or moved, whichever is more, and the tolerance of each transfer;
    `most_ml`: the most of that from one bag, which has to be within `limit_ml`.  `stated_ml`: what the recipe says that
    they hold together; None where a person enters it.
    """

    container: str
    holds: str
    count: int
    allowed: str
    moved_ml: float
    needed_ml: float
    most_ml: float
    limit_ml: float
    stated_ml: float | None

    @property
    def fits(self) -> bool:
        """Return whether no bag has to hold more than it may."""
        return self.most_ml <= self.limit_ml


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample that is drawn, and what the laboratory finds in it."""

    path: str
    moment: datetime
    container: str
    volume_ml: float
    results: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Total:
    """All bags of the same content, under whichever names."""

    holds: str
    count: int
    needed_ml: float


@dataclass(frozen=True, slots=True)
class Materials:
    """All that a batch takes, as far as the recipe declares it; what only texts of steps name is not counted."""

    vessels: tuple[Vessels, ...]
    empty_bags: tuple[Vessels, ...]
    contents: tuple[Content, ...]
    totals: tuple[Total, ...]
    samples: tuple[Sample, ...]


def materials(recipe: Recipe, course: Course, start: datetime) -> Materials:
    """Count what a dry run took; a container that is mounted again counts again."""
    mounted = Counter(_family(each.container) for each in course.mounted)
    held = {_family(each.container) for each in course.mounted if each.stated_ml is None or each.stated_ml > 0.0}
    vessels: dict[str, list[str]] = {}
    empty: list[str] = []
    contents: list[Content] = []
    for family in mounted:
        declared = recipe.containers[family]
        if declared.kind == "vessel":
            vessels.setdefault(declared.class_ or "vessel", []).append(family)
        elif declared.holds is None or family not in held:
            empty.append(family)
        else:
            contents.append(_content(family, declared.holds, mounted[family], recipe, course))
    kinds = dict.fromkeys(each.holds for each in contents)
    return Materials(
        tuple(_vessels(name, families, mounted, recipe) for name, families in vessels.items()),
        tuple(_vessels(recipe.containers[name].class_ or "bag", [name], mounted, recipe) for name in empty),
        tuple(contents),
        tuple(_total(holds, [each for each in contents if each.holds == holds]) for holds in kinds),
        tuple(
            Sample(each.path, at(start, each.t), each.container, each.volume_ml, each.results)
            for each in course.sampled
        ),
    )  # fmt: skip


def _content(family: str, holds: str, count: int, recipe: Recipe, course: Course) -> Content:
    needed: dict[str, float] = {}
    moved = 0.0
    for dosed in course.dosed:
        if _family(dosed.source) == family:
            needed[dosed.source] = needed.get(dosed.source, 0.0) + _needed(dosed)
            moved += dosed.moved_ml
    for sample in course.sampled:
        if _family(sample.container) == family:
            needed[sample.container] = needed.get(sample.container, 0.0) + sample.volume_ml
            moved += sample.volume_ml
    stated = [each.stated_ml for each in course.mounted if _family(each.container) == family]
    declared = recipe.containers[family]
    return Content(
        family, holds, count, declared.count or "1", moved, sum(needed.values()), max(needed.values(), default=0.0),
        _limit(recipe, family), None if None in stated else sum(each or 0.0 for each in stated),
    )  # fmt: skip


def _needed(dosed: Dosed) -> float:
    """Return what a transfer may take: a pump that slips less than the simulated one takes all that was wanted."""
    return max(dosed.wanted_ml, dosed.moved_ml) + dosed.tolerance_ml


def _vessels(name: str, families: Sequence[str], mounted: Counter[str], recipe: Recipe) -> Vessels:
    limit = max(_limit(recipe, family) for family in families)
    return Vessels(name, tuple(families), sum(mounted[family] for family in families), limit)


def _limit(recipe: Recipe, family: str) -> float:
    return parse_as(recipe.containers[family].limit, "mL")


def _total(holds: str, contents: Sequence[Content]) -> Total:
    return Total(holds, sum(each.count for each in contents), sum(each.needed_ml for each in contents))


def _family(container: str) -> str:
    return container.partition("[")[0]
