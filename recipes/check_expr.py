"""Checking one expression or text where it stands: names, kinds, dimensions, and what may be unknown there."""

from __future__ import annotations

from collections.abc import Iterator

from devices.document import DataPath
from devices.quantity import Dim
from recipes import syntax, template
from recipes.expr import Expression, compile, reference
from recipes.findings import Findings
from recipes.kinds import Type
from recipes.names import Names
from recipes.syntax import ExprError, Node
from recipes.units import described

CONDITION = "condition"
"""What `expression` is told to want where a truth is wanted; else it is a canonical unit, or None for anything."""


def expression(text: str, names: Names, findings: Findings, path: DataPath, want: str | None) -> Type | None:
    """Report what is wrong with an expression at `path`; return its type, or None where it has none."""
    try:
        compiled = compile(text)
        kind = compiled.check(names)
    except ExprError as error:
        unknown = error.message.split("'")[1] if error.code == "name-unknown" else ""
        findings.expression(error, path, names.hint(unknown) if unknown else "")
        return None
    if want == CONDITION and kind.kind != "bool":
        findings.error(
            "kind", path, f"a condition is wanted, this gives {kind}", "compare with < <= > >= == !=", offset=0
        )
    elif want is not None and want != CONDITION and (kind.kind != "number" or kind.dim != Dim.of(want)):
        wanted = described(Dim.of(want))
        findings.error(
            "dimension", path, f"{wanted} is wanted, this gives {kind}", "see the units of each part", offset=0
        )
    _usable(compiled, names, findings, path)
    _advised(compiled, names, findings, path)
    return kind


def text(given: str, names: Names, findings: Findings, path: DataPath) -> None:
    """Report what is wrong with the values in a text."""
    try:
        for piece in template.pieces(given):
            if isinstance(piece, Expression):
                piece.check(names)
                _acquired(piece, names, findings, path)
    except ExprError as error:
        unknown = error.message.split("'")[1] if error.code == "name-unknown" else ""
        findings.error("text", path, error.message, names.hint(unknown) if unknown else error.hint)


def container(given: str, names: Names, findings: Findings, path: DataPath, *, family: bool = False) -> str | None:
    """Report what is wrong with a container's name; return its family, or None where it names none.

    `family`: the name of a counted family alone stands for all of it.
    """
    try:
        found = reference(given)
        if found.index is not None:
            index = found.index.check(names)
            if index.kind != "number" or index.dim != Dim.of(""):
                findings.error("kind", path, f"an index is a plain number, this gives {index}", offset=0)
    except ExprError as error:
        findings.expression(error, path)
        return None
    if found.name in names.loops:
        return names.loops[found.name]
    declared = names.recipe.containers.get(found.name)
    if declared is None:
        hint = f"declared: {', '.join((*names.loops, *names.recipe.containers))}"
        findings.error("container-unknown", path, f"no container '{found.name}'", hint)
        return None
    if declared.count is None and found.index is not None:
        findings.error("container-index", path, f"'{found.name}' is one container", f"write {found.name}")
    elif declared.count is not None and found.index is None and not family:
        hint = f"write {found.name}[1], or go through them with for_each"
        findings.error("container-index", path, f"which of '{found.name}'?", hint)
    return found.name


def guarded(node: Node) -> frozenset[str]:
    """Return the names that an expression asks `known` about or gives a `default` for."""
    calls = [part for part in syntax.every(node) if isinstance(part, syntax.Call)]
    return frozenset(
        name for call in calls if call.function in ("known", "default") for name in _patterns(call.arguments[0])
    )


def made_sure(node: Node) -> frozenset[str]:
    """Return the names that are certainly known where this condition is true."""
    if isinstance(node, syntax.Binary) and node.operator == "and":
        return made_sure(node.left) | made_sure(node.right)
    if isinstance(node, syntax.Call) and node.function == "known":
        return frozenset(_patterns(node.arguments[0]))
    return frozenset()


def _patterns(node: Node) -> Iterator[str]:
    for part in syntax.every(node):
        if isinstance(part, syntax.Name):
            yield part.pattern


def _usable(compiled: Expression, names: Names, findings: Findings, path: DataPath) -> None:
    for name in sorted((compiled.names & names.maybe) - guarded(compiled.node)):
        findings.warning(
            "name-maybe",
            path,
            f"'{name}' may have no value here, and then this waits and alarms",
            f"write default({name}, ...) or test known({name}) first",
        )
    _acquired(compiled, names, findings, path)


def _advised(compiled: Expression, names: Names, findings: Findings, path: DataPath) -> None:
    """Invariant: an estimate decides nothing that the recipe does not say it may decide."""
    estimates = names.recipe.estimates
    heads = {name.partition(".")[0] for name in compiled.names}
    for name in sorted(heads & estimates.keys()):
        if estimates[name].use == "advise" and not names.advised:
            text = f"the estimate '{name}' only advises, and this would decide by it"
            hint = "use: decide lets it; else name it in texts, and in guards that only alarm"
            findings.error("estimate-advises", path, text, hint)


def _acquired(compiled: Expression, names: Names, findings: Findings, path: DataPath) -> None:
    for name in sorted(compiled.names):
        head = name.partition(".")[0]
        declared = names.recipe.equipment.get(head)
        if declared is not None and declared.shared and head not in names.acquired:
            findings.error(
                "not-acquired", path, f"'{head}' is shared and not held here", f"add using: [{head}] to the operation"
            )
