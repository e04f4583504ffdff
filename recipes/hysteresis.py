"""Deadband: what has to be true for a condition to go on holding, once it has held.

`temperature > 38 degC` with a deadband of 0.2 K begins above 38 and ends at 37.8 degC: each comparison of that
dimension is eased by the deadband, towards holding.  Below a `not` it is eased the other way.
"""

from __future__ import annotations

from devices.quantity import Dim, QuantityError
from recipes import syntax, units
from recipes.expr import INVALID, Expression, Invalid, Scope, evaluated, kleene
from recipes.kinds import TypeScope, check
from recipes.syntax import ExprError, Node
from recipes.units import Number

_ORDER = ("<", "<=", ">", ">=")


def still(expression: Expression, scope: Scope, deadband: Number) -> bool | Invalid:
    """Return whether a condition that has held goes on holding, or INVALID; `deadband` is a difference."""
    return _still(expression.node, scope, deadband, 1.0)


def fits(expression: Expression, types: TypeScope, deadband: Dim) -> bool:
    """Return whether some comparison of a condition is of the deadband's dimension; raises ExprError as `check`."""
    return any(
        _difference(check(left, types).dim, check(right, types).dim) == deadband
        for node in syntax.every(expression.node)
        for left, right in _compared(node)
    )


def _compared(node: Node) -> list[tuple[Node, Node]]:
    if isinstance(node, syntax.Binary) and node.operator in _ORDER:
        return [(node.left, node.right)]
    return [(node.value, node.target)] if isinstance(node, syntax.Within) else []


def _difference(left: Dim, right: Dim) -> Dim | None:
    try:
        return left.minus(right)
    except QuantityError:
        return None


def _still(node: Node, scope: Scope, deadband: Number, towards: float) -> bool | Invalid:
    if isinstance(node, syntax.Binary) and node.operator in ("and", "or"):
        left, right = (_still(side, scope, deadband, towards) for side in (node.left, node.right))
        return kleene(node, left, right)
    if isinstance(node, syntax.Unary) and node.operator == "not":
        found = _still(node.operand, scope, deadband, -towards)
        return INVALID if found is INVALID else not found
    if isinstance(node, syntax.Within):
        return _still_within(node, scope, deadband, towards)
    if isinstance(node, syntax.Binary) and node.operator in _ORDER:
        left, right = (evaluated(side, scope) for side in (node.left, node.right))
        if isinstance(left, Number) and isinstance(right, Number):
            units.same(left.dim, right.dim, node.column)
            eased = deadband.value * towards if _difference(left.dim, right.dim) == deadband.dim else 0.0
            over = left.value - right.value + (eased if node.operator in (">", ">=") else -eased)
            return {"<": over < 0, "<=": over <= 0, ">": over > 0, ">=": over >= 0}[node.operator]
        return INVALID
    found = evaluated(node, scope)
    if isinstance(found, bool) or found is INVALID:
        return found
    raise ExprError("a condition is wanted here", node.column, "compare with < <= > >= == !=")


def _still_within(node: syntax.Within, scope: Scope, deadband: Number, towards: float) -> bool | Invalid:
    value, tolerance, target = (evaluated(part, scope) for part in (node.value, node.tolerance, node.target))
    if not (isinstance(value, Number) and isinstance(tolerance, Number) and isinstance(target, Number)):
        return INVALID
    eased = deadband.value * towards if _difference(value.dim, target.dim) == deadband.dim else 0.0
    return abs(value.value - target.value) <= tolerance.value + eased
