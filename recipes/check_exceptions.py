"""Checking exceptions: their steps in each place where they may be walked, and that there is such a place."""

from __future__ import annotations

from collections.abc import Callable

from devices.document import DataPath
from recipes.findings import Findings
from recipes.model import EXCEPT, Recipe, walk
from recipes.names import Names
from recipes.steps import AnyVerb, Parallel

NOT_HERE = ("freeze", "release")
"""Verbs that go on beside the walk, and are not for what takes the place of a failure."""
Walk = Callable[[tuple[AnyVerb, ...], Names, DataPath, Findings], bool]


def check_exceptions(recipe: Recipe, findings: Findings) -> None:
    """Report exceptions that nothing leads to, and what may not stand in one."""
    named = {operation.on_failure for operation in recipe.procedure}
    for operation in recipe.procedure:
        for _, step in walk(operation.steps, operation.id):
            named.add(step.on_failure)
            if step.id == EXCEPT or (isinstance(step, Parallel) and EXCEPT in step.branches):
                path: DataPath = ("procedure",)
                findings.error("name-taken", path, f"'{EXCEPT}' stands in paths before an exception", "choose another")
    for name, branch in recipe.exceptions.items():
        path = ("exceptions", name)
        if name not in named:
            findings.error("unreachable", path, f"no on_failure names the exception '{name}'", "name it, or drop it")
        for _, step in walk(branch.steps, ""):
            if step.verb in NOT_HERE:
                text = f"a {step.verb} cannot take the place of a step that failed"
                findings.error("exception-step", path, text, "put it into the procedure")
            if step.on_failure is not None:
                text = f"'{step.id}' fails within an exception, and has no other"
                findings.error("exception-step", path, text, "drop its on_failure: the batch is held, and restarted")


def check_branch(
    recipe: Recipe, name: str, before: Names, names: Names, findings: Findings, path: DataPath, walked: Walk,
    *, ended: bool, beside: bool,
) -> bool:  # fmt: skip
    """Check the exception `name` of the step at `path` by what was known `before` it; return whether the batch ends.

    What only the step brings, or only the exception, may not be there afterwards.
    """
    here: DataPath = (*path, "on_failure")
    branch = recipe.exceptions.get(name)
    if branch is None:
        known = f"exceptions: {', '.join(recipe.exceptions) or 'none'}"
        findings.error("exception-unknown", here, f"no exception '{name}'", known)
        return ended
    if beside:
        text = "a step of a parallel has no exception: what its steps touch could not be told from the other branches"
        findings.error("exception-step", here, text, "give the on_failure to the parallel, or to the operation")
        return ended
    scratch = Findings(findings.document)
    gone = walked(branch.steps, before, ("exceptions", name, "steps"), scratch)
    findings.found += [each for each in scratch.found if each not in findings.found]  # it may be walked at many places
    ways = [*([] if ended else [names.fork()]), *([] if gone else [before])]
    names.join(ways)
    return not ways
