"""Texts with values in them: `Wash to {bags.conc}`; `{{` and `}}` stand for the braces themselves."""

from __future__ import annotations

import re
from functools import lru_cache

from devices.quantity import Quantity
from recipes.expr import INVALID, Expression, Invalid, Scope, Value, compile
from recipes.syntax import ExprError

PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def shown(value: Value | Invalid) -> str:
    """Return a value as people read it: `100 mL`, `yes`, `growth`; INVALID is `unknown`."""
    if value is INVALID:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, Quantity) else value


@lru_cache(maxsize=512)
def pieces(text: str) -> tuple[str | Expression, ...]:
    """Return the plain parts and the expressions of a text, in order; raises ExprError for one that cannot be read."""
    found: list[str | Expression] = []
    end = 0
    for match in PIECE.finditer(text):
        found.append(text[end : match.start()])
        end = match.end()
        if match[0] in ("{{", "}}"):
            found.append(match[0][0])
        elif match[1] is None:
            raise ExprError(
                "a brace without its partner", match.start() + 1, "write {{ for a brace, {name} for a value"
            )
        else:
            found.append(_compiled(match[1], match.start() + 2))
    return tuple(filter(None, [*found, text[end:]]))


def render(text: str, scope: Scope) -> str:
    """Return the text with every expression replaced by its value now; raises ExprError as `pieces` does."""
    return "".join(part if isinstance(part, str) else shown(part.evaluate(scope)) for part in pieces(text))


def _compiled(text: str, column: int) -> Expression:
    try:
        return compile(text)
    except ExprError as error:
        raise ExprError(error.message, column + error.column - 1, error.hint, code=error.code) from None
