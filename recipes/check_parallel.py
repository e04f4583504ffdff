"""Branches that are walked at the same time: what they may not share, and which containers each of them changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from devices.document import DataPath
from recipes import steps as verbs
from recipes.findings import Findings
from recipes.placed import placed
from recipes.steps import AnyVerb, Parallel


@dataclass
class Touched:
    """The containers (by family) that a branch fills or empties, those that it mounts or takes away, and its ids."""

    changed: set[str] = field(default_factory=set[str])
    mounted: set[str] = field(default_factory=set[str])
    ids: set[str] = field(default_factory=set[str])


class _Use(NamedTuple):
    """One thing that a step needs for itself; two of which `alone` is one do not go together in two branches."""

    what: str
    path: DataPath
    alone: bool
    text: str
    hint: str


def touched(steps: tuple[AnyVerb, ...], loops: Mapping[str, str]) -> Touched:
    """Return what a branch touches; `loops`: the family of each loop's name around it."""
    found = Touched()
    for _, step, inside in placed(steps, (), loops):
        found.ids.add(step.id)
        match step:
            case verbs.Transfer():
                found.changed |= {_family(step.from_, inside), _family(step.to, inside)}
            case verbs.Mount() | verbs.Unmount():
                found.mounted |= {_family(name, inside) for name in step.containers}
            case _:
                pass
    return found


def filled_at(step: Parallel, family: str, loops: Mapping[str, str], path: DataPath) -> DataPath:
    """Return the place of the last transfer into a container, that of the whole step where there is none."""
    found = path
    for name, steps in step.branches.items():
        for here, inner, inside in placed(steps, (*path, "branches", name), loops):
            if isinstance(inner, verbs.Transfer) and _family(inner.to, inside) == family:
                found = (*here, "to")
    return found


def ordered(step: Parallel, loops: Mapping[str, str]) -> set[str]:
    """Return the containers (families) of which what they hold, or give, hangs on which branch comes first.

    One that several branches only take stated volumes from is none.
    """
    parts = [touched(steps, loops).changed for steps in step.branches.values()]
    shared = {family for part in parts for family in part if sum(family in other for other in parts) > 1}
    found: set[str] = set()
    for steps in step.branches.values():
        for _, inner, inside in placed(steps, (), loops):
            if isinstance(inner, verbs.Transfer):
                source = {_family(inner.from_, inside)} if inner.amount in ("all", "leave") else set[str]()
                found |= shared & (source | {_family(inner.to, inside)})
    return found


def check_parallel(step: Parallel, loops: Mapping[str, str], findings: Findings, path: DataPath) -> None:
    """Report steps of one id in two branches, and what two branches cannot both have."""
    ids: dict[str, str] = {}
    uses: dict[str, tuple[str, _Use]] = {}
    for name, steps in step.branches.items():
        base: DataPath = (*path, "branches", name)
        for here, inner, inside in placed(steps, base, loops):
            made = here[-4:-2] == ("perfuse", "turns")  # what a perfusion is made of has no name of the recipe's
            if not made and ids.setdefault(inner.id, name) != name:
                text = f"'{inner.id}' is a step of the branch {ids[inner.id]} too"
                findings.error("id-duplicate", here, text, "what runs at the same time has ids of its own")
            for use in _uses(inner, here, inside):
                other, known = uses.get(use.what, (name, use))
                if other != name and (use.alone or known.alone):
                    findings.error("parallel-clash", use.path, use.text.format(other), use.hint)
                if use.what not in uses or use.alone:
                    uses[use.what] = name, use


def _uses(step: AnyVerb, path: DataPath, loops: Mapping[str, str]) -> Iterator[_Use]:
    match step:
        case verbs.Set():
            for tag in step.targets:
                text = f"'{tag}' is set in the branch {{}} too, at the same time"
                yield _Use(tag, (*path, tag), True, text, "set it in one branch, or before all of them")
        case verbs.Control():
            hint = "have it in one branch, or before all of them"
            text = f"'{step.of}' is put under control in the branch {{}} too, at the same time"
            yield _Use(f"control of {step.of}", (*path, "of"), True, text, hint)
            for number, move in enumerate(step.by):
                text = f"'{move.set_}' is set in the branch {{}} too, at the same time"
                yield _Use(move.set_, (*path, "by", number, "set"), True, text, hint)
        case verbs.Freeze():
            text = f"'{step.with_}' freezes in the branch {{}} too, at the same time"
            yield _Use(step.with_, (*path, "with"), True, text, "freeze in one branch, one run after the other")
            yield _use(step.load, path, loops, alone=False)
        case verbs.Mount() | verbs.Unmount():
            for name in step.containers:
                yield _use(name, path, loops, alone=True)
        case verbs.Transfer():
            yield _use(step.from_, path, loops, alone=False)
            yield _use(step.to, path, loops, alone=False)
        case verbs.Sample():
            yield _use(step.from_, path, loops, alone=False)
        case verbs.ForEach():
            yield _use(step.in_, path, loops, alone=False)
        case verbs.Balance():
            for name in step.over:
                yield _use(name, path, loops, alone=False)
        case _:
            pass


def _use(text: str, path: DataPath, loops: Mapping[str, str], *, alone: bool) -> _Use:
    family = _family(text, loops)
    said = f"'{family}' is used in the branch {{}} too, and mounted or taken away in one of the two"
    return _Use(family, path, alone, said, "mount it before the branches begin, and take it away when all are over")


def _family(text: str, loops: Mapping[str, str]) -> str:
    head = text.partition("[")[0].strip()
    return loops.get(head, head)
