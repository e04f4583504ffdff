"""What kind of value an expression gives, found without values: the check that runs before anything moves."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

from devices.quantity import NUMBER, Dim
from recipes import syntax, units
from recipes.syntax import ExprError, Node


@dataclass(frozen=True, slots=True)
class Type:
    """A number of a dimension, a truth, or a choice; a choice without `choices` is free text."""

    kind: Literal["number", "bool", "choice"]
    dim: Dim = NUMBER
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.kind == "number":
            return units.described(self.dim)
        return "a condition" if self.kind == "bool" else f"one of {', '.join(self.choices) or 'any text'}"


BOOL = Type("bool")
TEXT = Type("choice")


def number(unit: str) -> Type:
    """Return the type of numbers in this canonical unit."""
    return Type("number", Dim.of(unit))


def choice(choices: tuple[str, ...]) -> Type:
    """Return the type of these choices."""
    return Type("choice", choices=choices)


class TypeScope(Protocol):
    """Where names get their types; every index comes emptied: `cm4[].volume`."""

    def type_of(self, name: str) -> Type | None:
        """Return the type of this name, or None where there is no such name."""
        ...


def check(node: Node, scope: TypeScope) -> Type:
    """Return the type of a tree; raises ExprError with the column of what does not fit."""
    if isinstance(node, syntax.Literal):
        return Type("number", units.literal(node).dim)
    if isinstance(node, syntax.Symbol):
        return choice((node.text,))
    if isinstance(node, syntax.Truth):
        return BOOL
    if isinstance(node, syntax.Name):
        return _name(node, scope)
    if isinstance(node, syntax.Unary):
        if node.operator == "not":
            return _truth(node.operand, scope)
        return Type("number", units.negated(_number(node.operand, scope), node.column))
    if isinstance(node, syntax.Within):
        difference = units.combined("-", _number(node.value, scope), _number(node.target, scope), node.column)
        units.same(difference, _number(node.tolerance, scope), node.column)
        return BOOL
    if isinstance(node, syntax.Call):
        return _call(node, scope)
    return _binary(node, scope)


def _name(node: syntax.Name, scope: TypeScope) -> Type:
    for _, index in node.parts:
        if index is not None:
            units.plain(_number(index, scope), "an index", index.column)
    return _known(node.pattern, scope, node.column)


def _known(name: str, scope: TypeScope, column: int) -> Type:
    found = scope.type_of(name)
    if found is None:
        raise ExprError(f"no name '{name}' here", column, code="name-unknown")
    return found


def _number(node: Node, scope: TypeScope) -> Dim:
    found = check(node, scope)
    if found.kind != "number":
        raise ExprError(f"a number is wanted here, not {found}", node.column)
    return found.dim


def _truth(node: Node, scope: TypeScope) -> Type:
    found = check(node, scope)
    if found.kind != "bool":
        raise ExprError(f"a condition is wanted here, not {found}", node.column, "compare with < <= > >= == !=")
    return BOOL


def _binary(node: syntax.Binary, scope: TypeScope) -> Type:
    if node.operator in ("and", "or"):
        _truth(node.left, scope)
        return _truth(node.right, scope)
    if node.operator in ("==", "!="):
        return _equal(node, scope)
    left, right = _number(node.left, scope), _number(node.right, scope)
    if node.operator in ("<", "<=", ">", ">="):
        units.same(left, right, node.column)
        return BOOL
    return Type("number", units.combined(node.operator, left, right, node.column))


def _equal(node: syntax.Binary, scope: TypeScope) -> Type:
    left = check(node.left, scope)
    if left.kind == "choice" and isinstance(node.right, syntax.Name) and node.right.bare is not None:
        right = choice((node.right.bare,))
    else:
        right = check(node.right, scope)
    if left.kind != right.kind:
        raise ExprError(f"{left} does not go with {right}", node.column)
    if left.kind == "number":
        units.same(left.dim, right.dim, node.column)
    if left.choices and right.choices and not set(left.choices) & set(right.choices):
        raise ExprError(f"it is never {', '.join(right.choices)}", node.right.column, f"it is {left}", code="choice")
    return BOOL


def _call(node: syntax.Call, scope: TypeScope) -> Type:
    if node.function == "since":
        mark = node.arguments[0]
        word = mark.bare if isinstance(mark, syntax.Name) else ""
        return _known(f"since({word})", scope, mark.column)
    if node.function in ("known", "default"):
        found = [check(argument, scope) for argument in node.arguments]
        if node.function == "known":
            return BOOL
        first, second = found
        if first.kind != second.kind:
            raise ExprError(f"{first} does not go with {second}", node.column)
        units.same(first.dim, second.dim, node.column)
        return Type(
            first.kind, first.dim, (*first.choices, *second.choices) if first.choices and second.choices else ()
        )
    dims = [_number(argument, scope) for argument in node.arguments]
    if node.function == "stepped":
        return Type("number", stepped(node, dims))
    if node.function in ("ceil", "floor", "round"):
        units.plain(dims[0], node.function, node.column)
    if node.function == "abs":
        units.negated(dims[0], node.column)
    for other in dims[1:]:
        units.same(dims[0], other, node.column)
    return Type("number", dims[0])


def stepped(node: syntax.Call, dims: list[Dim]) -> Dim:
    """Return what `stepped(x, lowest, from, value, ...)` gives; each `from` is of the kind of x, and they rise."""
    if len(dims) % 2:
        hint = "write stepped(x, value below, from, value, from, value, ...)"
        raise ExprError("a step of stepped is a bound and a value", node.column, hint)
    for bound in dims[2::2]:
        units.same(dims[0], bound, node.column)
    for value in dims[3::2]:
        units.same(dims[1], value, node.column)
    bounds = [units.literal(each) for each in node.arguments[2::2] if isinstance(each, syntax.Literal)]
    if any(later.value <= earlier.value for earlier, later in pairwise(bounds)):
        raise ExprError("the bounds of stepped have to rise", node.column, "write the lowest step first")
    return dims[1]
