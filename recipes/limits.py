"""The limits in a condition: what each of its names is compared with, as it is now.  For people, not for deciding."""

from __future__ import annotations

from devices.quantity import Quantity, show
from recipes import syntax
from recipes.expr import INVALID, ExprError, Expression, Invalid, Scope, Value, explain
from recipes.syntax import Node

_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def limits(expression: Expression, scope: Scope) -> dict[str, str]:
    """Return what each name that is compared directly has to be, by name: `{"since(day0)": ">= 2 h"}`.

    A name inside a calculation has none, and one that is compared several times the last; never raises.
    """
    found: dict[str, str] = {}
    for node in syntax.every(expression.node):
        if isinstance(node, syntax.Binary) and node.operator in _TURNED:
            _note(found, node.left, node.operator, node.right, scope)
            _note(found, node.right, _TURNED[node.operator], node.left, scope)
        elif isinstance(node, syntax.Within):
            _note(found, node.value, f"within {_shown(node.tolerance, scope)} of", node.target, scope)
    return found


def _note(found: dict[str, str], named: Node, word: str, other: Node, scope: Scope) -> None:
    if not isinstance(named, syntax.Name | syntax.Call):
        return
    if isinstance(named, syntax.Call) and named.function != "since":
        return
    if _choice(named, scope):
        return
    try:
        operands = explain(Expression("", named), scope)
    except ExprError:
        return
    if operands:
        found[operands[-1].name] = f"{word} {_shown(other, scope)}"


def _shown(node: Node, scope: Scope) -> str:
    choice = _choice(node, scope)
    if choice:
        return choice
    try:
        return _text(Expression("", node).evaluate(scope))
    except ExprError:
        return "what cannot be computed"


def _choice(node: Node, scope: Scope) -> str:
    """Return a bare word that is no name, as one of the choices of what it is compared with; "" for all else."""
    bare = node.bare if isinstance(node, syntax.Name) else None
    return bare if bare is not None and scope.lookup(bare) is None else ""


def _text(value: Value | Invalid) -> str:
    if value is INVALID:
        return "what is not known"
    if isinstance(value, Quantity):
        return show(value.value, value.unit)
    return str(value).lower() if isinstance(value, bool) else str(value)
