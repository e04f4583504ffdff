"""Where the steps inside a step stand in the file of a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from devices.document import DataPath
from recipes.steps import AnyVerb, Choose, ForEach, Parallel, Perfuse, children


def lists(step: AnyVerb, path: DataPath) -> list[tuple[DataPath, tuple[AnyVerb, ...]]]:
    """Return the lists of steps inside the step at `path`, each with its place."""
    match step:
        case Choose():
            return [
                ((*path, "cases", number, "else" if case.when is None else "steps"), case.steps)
                for number, case in enumerate(step.cases)
            ]
        case Parallel():
            return [((*path, "branches", name), steps) for name, steps in step.branches.items()]
        case Perfuse():  # its steps are written nowhere
            return [((*path, "turns"), step.turns.steps)]
        case _:
            return [((*path, "steps"), steps) for steps in children(step)]


def placed(
    steps: tuple[AnyVerb, ...], base: DataPath, loops: Mapping[str, str]
) -> Iterator[tuple[DataPath, AnyVerb, Mapping[str, str]]]:
    """Yield every step of a list and inside it with its place, and the family of each loop's name around it."""
    for index, step in enumerate(steps):
        path: DataPath = (*base, index, step.verb)
        yield path, step, loops
        inner = {**loops, step.as_: step.in_} if isinstance(step, ForEach) else loops
        for below, inside in lists(step, path):
            yield from placed(inside, below, inner)
