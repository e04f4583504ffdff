"""Where numbers come from: every block with a number names its source, and every source is declared."""

from __future__ import annotations

from typing import cast

from pydantic import BaseModel

from devices.document import DataPath
from recipes import syntax
from recipes.expr import compile
from recipes.findings import Findings
from recipes.model import Recipe
from recipes.placed import lists
from recipes.steps import AnyVerb, Choose
from recipes.syntax import ExprError

_WORDS = "id verb source of set_ text label reason holds class_ title from_ to as_ in_ with_ load profile role"
_LISTS = (
    "steps cases branches containers over marks count density scan sign choices priority then results defer on_failure"
)
NO_NUMBERS = frozenset((*_WORDS.split(), *_LISTS.split()))
"""Fields that hold no number of the process; what a bag holds is words, and its density has a default."""


def check_sources(recipe: Recipe, findings: Findings) -> None:
    """Report numbers without a source, and sources that are not declared."""
    for section in ("equipment", "containers", "parameters", "results", "clocks", "estimates"):
        entries: dict[str, BaseModel] = getattr(recipe, section)
        for name, entry in entries.items():
            _block(entry, (section, name), f"{section} {name}", recipe, findings)
    for index, guard in enumerate(recipe.guards):
        _block(guard, ("guards", index), f"guard {guard.id}", recipe, findings)
    for index, operation in enumerate(recipe.procedure):
        _steps(operation.steps, ("procedure", index, "steps"), recipe, findings, covered=False)
    for name, branch in recipe.exceptions.items():
        _steps(branch.steps, ("exceptions", name, "steps"), recipe, findings, covered=False)


def _steps(steps: tuple[AnyVerb, ...], base: DataPath, recipe: Recipe, findings: Findings, *, covered: bool) -> None:
    for index, step in enumerate(steps):
        path: DataPath = (*base, index, step.verb)
        _block(step, path, f"step {step.id}", recipe, findings, covered=covered)
        inside = covered or step.source is not None
        for number, case in enumerate(step.cases if isinstance(step, Choose) else ()):
            if case.when is not None and not inside and has_number(case.when):
                _missing(f"a condition of {step.id}", (*path, "cases", number, "when"), recipe, findings)
        for below, inner in lists(step, path):
            _steps(inner, below, recipe, findings, covered=covered)


def _block(
    entry: BaseModel, path: DataPath, what: str, recipe: Recipe, findings: Findings, *, covered: bool = False
) -> None:
    source: str | None = getattr(entry, "source", None)
    for tag in (part.strip() for part in (source or "").split(",")):
        if tag and tag not in recipe.sources:
            hint = f"declared: {', '.join(recipe.sources) or 'none'}"
            findings.error("source-unknown", (*path, "source"), f"no source '{tag}'", hint)
    if source is None and not covered and any(_numbers(getattr(entry, name)) for name in _fields(entry)):
        _missing(what, path, recipe, findings)


def _missing(what: str, path: DataPath, recipe: Recipe, findings: Findings) -> None:
    hint = f"add source: one of {', '.join(recipe.sources) or 'sources: that you declare'}"
    findings.warning("source-missing", path, f"a number in {what} has no source", hint)


def _fields(entry: BaseModel) -> list[str]:
    return [name for name in type(entry).model_fields if name in entry.model_fields_set and name not in NO_NUMBERS]


def _numbers(value: object) -> bool:
    """Return whether there is a number other than zero in a field, as written."""
    if isinstance(value, BaseModel):
        return getattr(value, "source", None) is None and any(_numbers(getattr(value, name)) for name in _fields(value))
    if isinstance(value, dict):
        return any(_numbers(item) for item in cast("dict[str, object]", value).values())
    if isinstance(value, list | tuple):
        return any(_numbers(item) for item in cast("list[object]", value))
    if isinstance(value, bool):
        return False
    return (isinstance(value, str) and has_number(value)) or (isinstance(value, int) and value > 0)


def has_number(text: str) -> bool:
    """Return whether there is a number other than zero in an expression or amount; an index is none."""
    try:
        nodes = list(syntax.every(compile(text).node))
    except ExprError:
        return any(character in "123456789" for character in text)
    inside = {index for node in nodes if isinstance(node, syntax.Name) for index in syntax.subtrees(node)}
    return any(
        isinstance(node, syntax.Literal) and node not in inside and set(node.text) & set("123456789") for node in nodes
    )
