"""Expressions in words: `count.tvc >= floor and known(x.n)` is "count.tvc is at least floor and x.n is known"."""

from __future__ import annotations

from typing import assert_never

from recipes import syntax
from recipes.expr import compile
from recipes.syntax import ExprError, Node

_RELATIONS = {
    "<": "is below", "<=": "is at most", ">": "is above", ">=": "is at least", "==": "is", "!=": "is not",
}  # fmt: skip
_OR, _AND, _NOT, _RELATION, _PHRASE, _SUM, _TERM, _ATOM = range(8)
"""How tightly each kind of words holds together: what is looser than its place gets brackets."""


def in_words(text: str) -> str:
    """Return an expression for people: names and arithmetic as written, the rest in words.

    One that cannot be read comes back as it is: the check tells of it.
    """
    try:
        return _said(compile(text).node, _OR)
    except ExprError:
        return text


def _said(node: Node, least: int) -> str:
    words, holds = _words(node)
    return words if holds >= least else f"({words})"


def _words(node: Node) -> tuple[str, int]:
    match node:
        case syntax.Literal():
            return node.text, _ATOM
        case syntax.Symbol():
            return f"'{node.text}'", _ATOM
        case syntax.Truth():
            return str(node.value).lower(), _ATOM
        case syntax.Name():
            parts = [word if index is None else f"{word}[{_said(index, _PHRASE)}]" for word, index in node.parts]
            return ".".join(parts), _ATOM
        case syntax.Unary(operator="not", operand=syntax.Call(function="known", arguments=(argument,))):
            return f"{_said(argument, _SUM)} is not known", _RELATION
        case syntax.Unary(operator="not"):
            return f"not ({_said(node.operand, _OR)})", _NOT
        case syntax.Unary():
            return f"-{_said(node.operand, _ATOM)}", _ATOM
        case syntax.Within():
            value, tolerance, target = (_said(part, _SUM) for part in (node.value, node.tolerance, node.target))
            return f"{value} is within {tolerance} of {target}", _RELATION
        case syntax.Binary():
            return _binary(node)
        case syntax.Call():
            return _call(node)
        case _:
            assert_never(node)


def _binary(node: syntax.Binary) -> tuple[str, int]:
    if node.operator in _RELATIONS:
        return f"{_said(node.left, _SUM)} {_RELATIONS[node.operator]} {_said(node.right, _SUM)}", _RELATION
    if node.operator in ("and", "or"):
        joined = (_joined(side, node.operator) for side in (node.left, node.right))
        return f" {node.operator} ".join(joined), _OR if node.operator == "or" else _AND
    holds = _SUM if node.operator in "+-" else _TERM
    return f"{_said(node.left, holds)} {node.operator} {_said(node.right, holds + 1)}", holds  # a - (b - c) keeps them


def _joined(side: Node, operator: str) -> str:
    """Put brackets around `and` in `or` too: not everybody knows which of them binds tighter."""
    other = isinstance(side, syntax.Binary) and side.operator in ("and", "or") and side.operator != operator
    return _said(side, _ATOM if other else _OR)


def _call(node: syntax.Call) -> tuple[str, int]:
    match node.function, node.arguments:
        case "known", (value,):
            return f"{_said(value, _SUM)} is known", _RELATION
        case "default", (value, other):
            return f"{_said(value, _PHRASE)}, or {_said(other, _SUM)} where that is not known", _PHRASE
        case "clamp", (value, low, high):
            return f"{_said(value, _PHRASE)}, limited to {_said(low, _ATOM)}..{_said(high, _ATOM)}", _PHRASE
        case "stepped", (value, lowest, *steps):
            what = _said(value, _ATOM)
            pairs = zip(steps[::2], steps[1::2], strict=True)
            rising = [f"{_said(step, _ATOM)} from {_said(bound, _ATOM)} on" for bound, step in pairs]
            return f"by {what}: {_said(lowest, _ATOM)} below, {', '.join(rising)}", _PHRASE
        case "ceil" | "floor" | "round" as function, (value,):
            how = {"ceil": " up", "floor": " down", "round": ""}[function]
            return f"{_said(value, _ATOM)} rounded{how}", _PHRASE
        case "since", (mark,):
            return f"the time since {_said(mark, _ATOM)}", _SUM
        case function, arguments:
            return f"{function}({', '.join(_said(argument, _SUM) for argument in arguments)})", _ATOM
