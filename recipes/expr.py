"""Expressions: three-valued, with units.

`compile("5 L - seed.volume").evaluate(scope)` gives a `Quantity` in its canonical unit, a bool, or a choice (str), or
INVALID.  INVALID is a result of its own: an operand is unknown, stale or bad, or there is no such number (division by
zero).  It is neither true nor false, and asking it for its truth raises.  `and` and `or` follow Kleene: what is certain
without the unknown operand stays certain.  Every operand is looked at always, so that `explain` shows all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import pairwise
from typing import Final, Protocol

from devices.quantity import NUMBER, Quantity
from devices.reading import Quality
from recipes import kinds, syntax, units
from recipes.kinds import Type, TypeScope, check
from recipes.syntax import ExprError, Node
from recipes.units import Number

__all__ = [
    "INVALID",
    "ExprError",
    "Expression",
    "Invalid",
    "Operand",
    "Reference",
    "Scope",
    "Value",
    "compile",
    "explain",
    "reference",
]  # fmt: skip


class Invalid(Enum):
    """The type of INVALID, the only result that is no value."""

    INVALID = "INVALID"

    def __bool__(self) -> bool:
        """Refuse: raises TypeError, because unknown is not false."""
        raise TypeError("INVALID is neither true nor false: compare with `is INVALID` first")


INVALID: Final = Invalid.INVALID
Value = Quantity | bool | str
_Inner = Number | bool | str | Invalid


@dataclass(frozen=True, slots=True)
class Operand:
    """What a name stands for now: `value` in the canonical `unit` (None when there is none), and how good it is.

    `unit` is empty for plain numbers, bools and choices.  `age` is in seconds, or None where age means nothing.
    """

    name: str
    value: float | bool | str | None
    unit: str = ""
    quality: Quality = Quality.GOOD
    age: float | None = None


class Scope(Protocol):
    """Where names get their values: `station.temperature`, `pre[1].volume`, `day`, `since(rep_start)`."""

    def lookup(self, name: str) -> Operand | None:
        """Return the operand of this name, or None where the name is unknown."""
        ...


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression."""

    text: str
    node: Node

    @property
    def names(self) -> frozenset[str]:
        """Return the names that it reads, each index emptied (`cm4[].volume`), and `since(MARK)` as it stands.

        A bare word to the right of == or != is left out, since it may be a choice.
        """
        return frozenset(_names(self.node))

    def check(self, scope: TypeScope) -> Type:
        """Return what kind of value this gives; raises ExprError with the column of what does not fit."""
        return check(self.node, scope)

    def evaluate(self, scope: Scope) -> Value | Invalid:
        """Return the value now, or INVALID; raises ExprError where kinds or dimensions do not fit."""
        found = evaluated(self.node, scope)
        return units.named(found) if isinstance(found, Number) else found

    def number(self, scope: Scope, unit: str) -> float | Invalid:
        """Return the value in the canonical `unit`, or INVALID; raises ExprError when it is something else."""
        found = self.evaluate(scope)
        if found is INVALID:
            return INVALID
        if not isinstance(found, Quantity) or found.unit != unit:
            given = found.unit or "a plain number" if isinstance(found, Quantity) else repr(found)
            raise ExprError(f"'{self.text}' gives {given}, wanted {unit or 'a plain number'}")
        return found.value

    def truth(self, scope: Scope) -> bool | Invalid:
        """Return true, false or INVALID; raises ExprError when it is no condition."""
        found = self.evaluate(scope)
        if found is INVALID or isinstance(found, bool):
            return found
        raise ExprError(f"'{self.text}' is no condition", hint="compare with < <= > >= == !=")


@lru_cache(maxsize=4096)
def compile(text: str) -> Expression:  # noqa: A001 - the word for it; nobody compiles Python here
    """Return the expression; raises ExprError with the column of what cannot be read."""
    node = syntax.parse(text)
    for part in syntax.every(node):
        if isinstance(part, syntax.Literal):
            units.literal(part)
    return Expression(text, node)


def explain(expression: Expression, scope: Scope) -> list[Operand]:
    """Return every operand of an expression as it is now, in the order of the text, each once.

    This answers "why is it not moving?".  A name that is unknown shows as an operand without value.
    """
    seen: dict[str, Operand] = {}

    class Recorder:
        def lookup(self, name: str) -> Operand | None:
            found = scope.lookup(name)
            seen.setdefault(name, found or Operand(name, None, quality=Quality.BAD))
            return found

    evaluated(expression.node, Recorder())
    return list(seen.values())


@dataclass(frozen=True, slots=True)
class Reference:
    """A container as a recipe names it: `rep`, a loop's name, `cm4[g.index]`."""

    name: str
    index: Expression | None = None

    def resolve(self, scope: Scope) -> str | Invalid:
        """Return the name with its index as a number (`cm4[2]`), or INVALID where the index is unknown."""
        if self.index is None:
            return self.name
        found = self.index.evaluate(scope)
        position = _position(found.value) if isinstance(found, Quantity) and not found.unit else None
        return INVALID if position is None else f"{self.name}[{position}]"


_REFERENCE = re.compile(r"([a-z][a-z0-9_]*)(?:\[(.+)\])?", re.DOTALL)


@lru_cache(maxsize=1024)
def reference(text: str) -> Reference:
    """Read a container's name as it stands in `from:` and `to:`; raises ExprError."""
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise ExprError(f"'{text}' names no container", 1, "write rep, pre[1], or cm4[g.index]")
    return Reference(match[1], None if match[2] is None else compile(match[2]))


def _names(node: Node) -> list[str]:
    """Collect names; see Expression.names."""
    if isinstance(node, syntax.Call) and node.function == "since":
        return [_since(node)]
    skipped = node.right if isinstance(node, syntax.Binary) and node.operator in ("==", "!=") else None
    found = [node.pattern] if isinstance(node, syntax.Name) else []
    for inner in syntax.subtrees(node):
        if inner is skipped and isinstance(inner, syntax.Name) and inner.bare is not None:
            continue
        found.extend(_names(inner))
    return found


def _since(node: syntax.Call) -> str:
    mark = node.arguments[0]
    return f"since({mark.bare})" if isinstance(mark, syntax.Name) else "since()"


def _position(value: float) -> int | None:
    """Return an index from 1, or None where the number is none."""
    return int(value) if value >= 1 and value == math.floor(value) and math.isfinite(value) else None


def evaluated(node: Node, scope: Scope) -> _Inner:
    """Return what a part of an expression gives, in coherent units; raises ExprError as `evaluate` does."""
    if isinstance(node, syntax.Literal):
        return units.literal(node)
    if isinstance(node, syntax.Symbol):
        return node.text
    if isinstance(node, syntax.Truth):
        return node.value
    if isinstance(node, syntax.Name):
        return _name(node, scope)
    if isinstance(node, syntax.Unary):
        return _unary(node, evaluated(node.operand, scope))
    if isinstance(node, syntax.Within):
        return _within(node, scope)
    if isinstance(node, syntax.Call):
        return _call(node, scope)
    if node.operator in ("and", "or"):
        return kleene(node, _truth(node.left, scope), _truth(node.right, scope))
    left = evaluated(node.left, scope)
    if node.operator in ("==", "!="):
        return _equal(node, left, scope)
    return _arithmetic(node, _number(left, node.left), _number(evaluated(node.right, scope), node.right))


def _name(node: syntax.Name, scope: Scope) -> _Inner:
    words: list[str] = []
    for word, index in node.parts:
        if index is None:
            words.append(word)
            continue
        found = _number(evaluated(index, scope), index)
        if found is INVALID:
            return INVALID
        position = _position(found.value) if found.dim == NUMBER else None
        if position is None:
            return INVALID
        words.append(f"{word}[{position}]")
    return _operand(scope.lookup(".".join(words)))


def _operand(operand: Operand | None) -> _Inner:
    """Invariant: what is unknown, stale or bad is INVALID and never a number."""
    if operand is None or operand.value is None or operand.quality in (Quality.STALE, Quality.BAD):
        return INVALID
    if isinstance(operand.value, (bool, str)):
        return operand.value
    return _finite(units.number(float(operand.value), operand.unit))


def _finite(number: Number) -> Number | Invalid:
    return number if math.isfinite(number.value) else INVALID


def _number(found: _Inner, node: Node) -> Number | Invalid:
    if isinstance(found, Number) or found is INVALID:
        return found
    raise ExprError("a number is wanted here", node.column)


def _truth(node: Node, scope: Scope) -> bool | Invalid:
    found = evaluated(node, scope)
    if isinstance(found, bool) or found is INVALID:
        return found
    raise ExprError("a condition is wanted here", node.column, "compare with < <= > >= == !=")


def _unary(node: syntax.Unary, found: _Inner) -> _Inner:
    if node.operator == "not":
        if found is INVALID:
            return INVALID
        if not isinstance(found, bool):
            raise ExprError("not is for conditions", node.column)
        return not found
    number = _number(found, node.operand)
    if number is INVALID:
        return INVALID
    return Number(-number.value, units.negated(number.dim, node.column))


def kleene(node: syntax.Binary, left: bool | Invalid, right: bool | Invalid) -> bool | Invalid:
    """Join two truths: for `and` one false decides, for `or` one true."""
    deciding = node.operator == "or"
    if left is deciding or right is deciding:
        return deciding
    return INVALID if left is INVALID or right is INVALID else not deciding


def _equal(node: syntax.Binary, left: _Inner, scope: Scope) -> bool | Invalid:
    """Compare; a bare word to the right of a choice is a choice, not a name."""
    if left is INVALID:
        return INVALID
    if isinstance(left, str) and isinstance(node.right, syntax.Name) and node.right.bare is not None:
        right: _Inner = node.right.bare
    else:
        right = evaluated(node.right, scope)
    if right is INVALID:
        return INVALID
    if isinstance(left, Number) and isinstance(right, Number):
        units.same(left.dim, right.dim, node.column)
        same = left.value == right.value
    elif type(left) is type(right):
        same = left == right
    else:
        raise ExprError("the two sides of == are of different kinds", node.column)
    return same if node.operator == "==" else not same


_ORDER: dict[str, Callable[[float, float], bool]] = {
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


def _arithmetic(node: syntax.Binary, left: Number | Invalid, right: Number | Invalid) -> Number | bool | Invalid:
    if left is INVALID or right is INVALID:
        return INVALID
    if node.operator in _ORDER:
        units.same(left.dim, right.dim, node.column)
        return _ORDER[node.operator](left.value, right.value)
    dim = units.combined(node.operator, left.dim, right.dim, node.column)
    if node.operator == "/":
        return INVALID if right.value == 0 else _finite(Number(left.value / right.value, dim))
    if node.operator == "*":
        return _finite(Number(left.value * right.value, dim))
    return _finite(Number(left.value + (right.value if node.operator == "+" else -right.value), dim))


def _within(node: syntax.Within, scope: Scope) -> bool | Invalid:
    value = _number(evaluated(node.value, scope), node.value)
    tolerance = _number(evaluated(node.tolerance, scope), node.tolerance)
    target = _number(evaluated(node.target, scope), node.target)
    if value is INVALID or tolerance is INVALID or target is INVALID:
        return INVALID
    units.same(units.combined("-", value.dim, target.dim, node.column), tolerance.dim, node.column)
    return abs(value.value - target.value) <= tolerance.value


def _call(node: syntax.Call, scope: Scope) -> _Inner:
    if node.function == "since":
        return _operand(scope.lookup(_since(node)))
    found = [evaluated(argument, scope) for argument in node.arguments]
    if node.function == "known":
        return found[0] is not INVALID
    if node.function == "default":
        first, second = found
        if isinstance(first, Number) and isinstance(second, Number):
            units.same(first.dim, second.dim, node.column)
        elif INVALID not in found and type(first) is not type(second):
            raise ExprError("both values of default must be of one kind", node.column)
        return second if first is INVALID else first
    numbers = [_number(item, argument) for item, argument in zip(found, node.arguments, strict=True)]
    known = [number for number in numbers if number is not INVALID]
    if len(known) < len(numbers):
        return INVALID
    return _function(node, known)


def _function(node: syntax.Call, numbers: list[Number]) -> Number | Invalid:
    first = numbers[0]
    values = [number.value for number in numbers]
    if node.function in ("ceil", "floor", "round"):
        units.plain(first.dim, node.function, node.column)
        rounding = {"ceil": math.ceil, "floor": math.floor, "round": round}[node.function]
        return Number(float(rounding(values[0])), first.dim)
    if node.function == "abs":
        return Number(abs(values[0]), units.negated(first.dim, node.column))
    if node.function == "stepped":
        kinds.stepped(node, [number.dim for number in numbers])
        return _stepped(numbers)
    for other in numbers[1:]:
        units.same(first.dim, other.dim, node.column)
    if node.function == "clamp":
        value, low, high = values
        return INVALID if low > high else Number(min(max(value, low), high), first.dim)
    return Number((min if node.function == "min" else max)(values), first.dim)


def _stepped(numbers: list[Number]) -> Number | Invalid:
    """Return the value of the last step that is reached; INVALID where the steps do not rise."""
    x, found, *steps = numbers
    bounds = [bound.value for bound in steps[::2]]
    if any(later <= earlier for earlier, later in pairwise(bounds)):
        return INVALID
    for bound, value in zip(bounds, steps[1::2], strict=True):
        found = value if x.value >= bound else found
    return found
