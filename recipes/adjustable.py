"""Parameters that may be changed while a batch runs: within what, by whom, which steps read them, and their check."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic import BaseModel

from devices.document import DataPath
from devices.quantity import QuantityError, parse
from recipes.expr import Expression, compile
from recipes.findings import Findings
from recipes.flat import PROSE, Key, flat
from recipes.model import Adjust, Parameter, Recipe, walk
from recipes.ranges import Range, parse_range
from recipes.steps import AnyVerb, Choose
from recipes.syntax import ExprError, Name, every
from recipes.template import pieces

_WORDS = frozenset({"priority", "then", "source", "as", "use"})
"""Fields whose word is one of a few of the language, and no name."""


def adjusted(parameter: Parameter) -> str:
    """Return in words within what and by whom a parameter may be changed while a batch runs, "" where it may not."""
    if parameter.adjust is None:
        return ""
    limits = ", ".join(parameter.choices) or parameter.adjust.range or parameter.range or ""
    return f"{limits}, by {' or '.join(parameter.adjust.role)}"


def limits_of(parameter: Parameter) -> Range | None:
    """Return within what a number may be adjusted, None where that is not said; raises QuantityError."""
    unit = parse(parameter.default).unit
    own = parameter.adjust.range if parameter.adjust is not None else None
    text = own or parameter.range
    return None if text is None else parse_range(text, unit)


def reads(step: AnyVerb, name: str) -> bool:
    """Return whether a step itself reads a parameter, not one inside it."""
    blocks: list[BaseModel] = [step, *(step.cases if isinstance(step, Choose) else ())]
    return _read_in(blocks, name)


def readers(recipe: Recipe, name: str) -> list[str]:
    """Return the paths of ids of the steps that read a parameter, in the order of the text."""
    steps = (each for operation in recipe.procedure for each in walk(operation.steps, operation.id))
    return [path for path, step in steps if reads(step, name)]


def check_adjustable(recipe: Recipe, findings: Findings) -> None:
    """Report what is declared adjustable and has no sound limits, is read by nothing, or beside the steps."""
    for name, each in recipe.parameters.items():
        if each.adjust is not None:
            _limits(name, each, each.adjust, recipe, findings)
            _uses(name, recipe, findings)


def _limits(name: str, parameter: Parameter, adjust: Adjust, recipe: Recipe, findings: Findings) -> None:
    path: DataPath = ("parameters", name, "adjust")
    for tag in (part.strip() for part in (adjust.source or "").split(",")):
        if tag and tag not in recipe.sources:
            hint = f"declared: {', '.join(recipe.sources) or 'none'}"
            findings.error("source-unknown", (*path, "source"), f"no source '{tag}'", hint)
    own = adjust.range
    if parameter.choices:
        if own is not None:
            findings.error("adjust", (*path, "range"), "choices have no range", "drop it: any choice may be taken")
        return
    if own is None and parameter.range is None:
        hint = "say within what: adjust: {range: 10..12 d, ...}"
        findings.error("adjust", path, f"'{name}' may be adjusted to anything", hint)
    if own is None or parameter.range is None:
        return
    try:
        unit = parse(parameter.default).unit
        outer, inner = parse_range(parameter.range, unit), findings.span(own, unit, (*path, "range"))
    except QuantityError:
        return  # reported where it stands
    if inner is not None and not (inner.low in outer and inner.high in outer):
        hint = "while a batch runs no more is allowed than when it starts"
        findings.error("adjust", (*path, "range"), f"{own} is not within {parameter.range}", hint, offset=0)


def _uses(name: str, recipe: Recipe, findings: Findings) -> None:
    path: DataPath = ("parameters", name, "adjust")
    beside: list[tuple[str, DataPath, BaseModel]] = [
        *((f"guard {each.id}", ("guards", index), each) for index, each in enumerate(recipe.guards)),
        *((f"estimate {each}", ("estimates", each), it) for each, it in recipe.estimates.items()),
    ]
    for what, where, block in beside:
        if _read_in([block], name):
            hint = "what stands beside the steps stays as it was when the batch began: give it a parameter of its own"
            findings.error("adjust", where, f"{what} reads '{name}', an adjustable", hint)
    if not readers(recipe, name):
        findings.error("adjust", path, f"no step reads '{name}'", "read it in a step, or drop adjust")


def _read_in(blocks: Iterable[BaseModel], name: str) -> bool:
    found = (each for block in blocks for key, text in flat(block).items() for each in _expressions(key, text))
    return any(isinstance(node, Name) and node.bare == name for each in found for node in every(each.node))


def _expressions(key: Key, text: str) -> Iterator[Expression]:
    if key[0] in _WORDS or key[0].startswith("on_"):
        return
    try:
        if key[-1] in PROSE and key[0] != "values":
            yield from (piece for piece in pieces(text) if isinstance(piece, Expression))
        else:
            yield compile(text)
    except ExprError:
        return  # a word or a list, or reported where it stands
