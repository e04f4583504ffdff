"""Checking `release`: its conditions, and that each says of the results that may be pending that they may."""

from __future__ import annotations

from devices.document import DataPath
from recipes import check_expr, kinds
from recipes.check_expr import CONDITION, expression
from recipes.expr import compile
from recipes.findings import Findings
from recipes.model import Recipe, walk
from recipes.names import Names
from recipes.release import OUTCOMES, PENDING, Condition, Release
from recipes.steps import Sample
from recipes.syntax import ExprError


def check_release(step: Release, recipe: Recipe, names: Names, findings: Findings, path: DataPath) -> None:
    """Report what is wrong with one, and bring `ID.outcome`."""
    if names.loops or names.turns:
        text = "a release in a loop: what comes late would not know which round it is of"
        findings.error("release-loop", path, text, "put it after the loop")
    if step.text is not None:
        check_expr.text(step.text, names, findings, (*path, "text"))
    if step.due is not None:
        findings.quantity(step.due, ("s",), (*path, "due"))
    late = late_results(recipe)
    for name, condition in step.conditions.items():
        _condition(name, condition, late, names, findings, (*path, "conditions", name))
    names.bring(f"{step.id}.outcome", kinds.choice(OUTCOMES), maybe=step.when is not None)


def late_results(recipe: Recipe) -> dict[str, bool]:
    """Return every result of a sample by its name, and whether it may come later than the sample is over."""
    found: dict[str, bool] = {}
    for operation in recipe.procedure:
        for _, step in walk(operation.steps, operation.id):
            if not isinstance(step, Sample):
                continue
            for name in step.results:
                declared = recipe.results.get(name)
                open_ended = declared is not None and PENDING in declared.choices
                passes = step.due is not None and step.on_overdue == "continue"
                late = name in step.deferred or passes or open_ended
                found[f"{step.id}.{name}"] = found.get(f"{step.id}.{name}", False) or late
    return found


def _condition(
    name: str, condition: Condition, late: dict[str, bool], names: Names, findings: Findings, path: DataPath
) -> None:
    known = names.fork()
    known.maybe -= set(condition.pending)
    expression(condition.when, known, findings, (*path, "when"), CONDITION)
    try:
        compiled = compile(condition.when)
    except ExprError:
        return  # reported already
    read = compiled.names
    for index, given in enumerate(condition.pending):
        here: DataPath = (*path, "pending", index) if len(condition.pending) > 1 else (*path, "pending")
        if given not in late:
            results = ", ".join(late) or "none"
            findings.error("release-result", here, f"'{given}' is no result of a sample", f"results: {results}")
        elif given not in read:
            findings.error("release-result", here, f"the condition '{name}' does not read '{given}'", "drop it here")
    for result in sorted(read - set(condition.pending) - check_expr.guarded(compiled.node)):
        if late.get(result):
            text = f"'{result}' may be pending when the lot is released, and the condition '{name}' does not say so"
            findings.error("release-pending", (*path, "when"), text, f"add pending: [{result}], or wait for it before")
