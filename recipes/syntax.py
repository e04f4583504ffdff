"""The grammar of expressions, and the tree that it gives.

The tree is small and frozen; evaluation, checking and bounds are plain functions over it.  A literal is kept as text
with its sign (`-40 degC` is one literal, because an absolute temperature cannot be negated).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import lark

MAX_EXPRESSION = 1000
"""Longest expression in characters; longer ones are refused, so that depth stays bounded."""
MAX_DEPTH = 60
"""Deepest nesting of brackets and calls."""
MAX_HEIGHT = 100
"""Most levels of a tree, to which each operand of a chain such as a + b + c adds one."""

# Any word behind a number is its unit (and is refused if there is no such unit); a pair is written without spaces,
# mL/min, and its second word must be one that exists, so that `12 L/n` divides by n.
_WORD = r"(?!(?:and|or|of|within)\b)[A-Za-zµμ°℃%]+"
_SECOND = "(?:cells|min|mol|mmol|mL|IU|uL|L|kg|g|s|h|d|K)"

GRAMMAR = r"""
?start: either
?either: both ("or" both)*            -> either
?both: negation ("and" negation)*     -> both
?negation: "not" negation             -> negation
         | comparison
?comparison: sum
           | sum RELATION sum         -> relation
           | sum "within" sum "of" sum -> within
?sum: term (SIGN term)*               -> chain
?term: factor (SCALE factor)*         -> chain
?factor: SIGN factor                  -> signed
       | atom
?atom: NUMBER                         -> number
     | STRING                         -> text
     | "true"                         -> true
     | "false"                        -> false
     | WORD "(" either ("," either)* ")" -> call
     | name
     | "(" either ")"
name: WORD (field | index)*
field: "." WORD
index: "[" either "]"
RELATION: "<=" | ">=" | "==" | "!=" | "<" | ">"
SIGN: "+" | "-"
SCALE: "*" | "/"
NUMBER: /(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?(?:[ \t]*(?:UNIT(?:\/SECOND)?|1\/SECOND)(?![A-Za-z0-9_(.]))?/
WORD: /[a-z][a-z0-9_]*/
STRING: /"[^"\n]*"/
%ignore /[ \t\r\n]+/
""".replace("UNIT", _WORD).replace("SECOND", _SECOND)


class ExprError(ValueError):
    """An expression that cannot be; `column` counts from 1 within its text, `hint` says what to write."""

    def __init__(self, message: str, column: int = 1, hint: str = "", *, code: str = "expression") -> None:
        super().__init__(message)
        self.message = message
        self.column = column
        self.hint = hint
        self.code = code


@dataclass(frozen=True, slots=True)
class Literal:
    """A number with its unit, as written."""

    text: str
    column: int


@dataclass(frozen=True, slots=True)
class Symbol:
    """A quoted choice."""

    text: str
    column: int


@dataclass(frozen=True, slots=True)
class Truth:
    """The word true or false."""

    value: bool
    column: int


@dataclass(frozen=True, slots=True)
class Name:
    """A dotted name; each part is a word and, where it is indexed, the tree of the index."""

    parts: tuple[tuple[str, Node | None], ...]
    column: int

    @property
    def pattern(self) -> str:
        """Return the name with every index emptied: `cm4[].volume`."""
        return ".".join(word if index is None else f"{word}[]" for word, index in self.parts)

    @property
    def bare(self) -> str | None:
        """Return the word, when the name is one word alone: it may then be a choice."""
        word, index = self.parts[0]
        return word if len(self.parts) == 1 and index is None else None


@dataclass(frozen=True, slots=True)
class Binary:
    """Two operands under one of + - * / < <= > >= == != and or."""

    operator: str
    left: Node
    right: Node
    column: int


@dataclass(frozen=True, slots=True)
class Unary:
    """One operand under `-` or `not`."""

    operator: str
    operand: Node
    column: int


@dataclass(frozen=True, slots=True)
class Within:
    """`value within tolerance of target`."""

    value: Node
    tolerance: Node
    target: Node
    column: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function of the fixed list, or `since(MARK)`."""

    function: str
    arguments: tuple[Node, ...]
    column: int


Node = Literal | Symbol | Truth | Name | Binary | Unary | Within | Call

FUNCTIONS: dict[str, tuple[int, int]] = {
    "min": (2, 8), "max": (2, 8), "ceil": (1, 1), "floor": (1, 1), "round": (1, 1), "abs": (1, 1), "clamp": (3, 3),
    "default": (2, 2), "known": (1, 1), "since": (1, 1), "stepped": (4, 16),
}  # fmt: skip
"""Every function with the least and the most arguments it takes."""


def subtrees(node: Node) -> tuple[Node, ...]:
    """Return the operands of a node, indices included."""
    if isinstance(node, Name):
        return tuple(index for _, index in node.parts if index is not None)
    if isinstance(node, Binary):
        return (node.left, node.right)
    if isinstance(node, Unary):
        return (node.operand,)
    if isinstance(node, Within):
        return (node.value, node.tolerance, node.target)
    return node.arguments if isinstance(node, Call) else ()


def every(node: Node) -> Iterator[Node]:
    """Yield a tree's nodes, from the root down."""
    yield node
    for inner in subtrees(node):
        yield from every(inner)


@cache
def _parser() -> lark.Lark:
    import lark  # noqa: PLC0415 - the parser generator is only paid for where expressions are

    return lark.Lark(GRAMMAR, parser="lalr", lexer="basic", propagate_positions=True, cache=False)


@lru_cache(maxsize=4096)
def parse(text: str) -> Node:
    """Return the tree of an expression; raises ExprError with a column."""
    import lark  # noqa: PLC0415 - see _parser

    if len(text) > MAX_EXPRESSION:
        raise ExprError(f"the expression has {len(text)} characters", 1, f"at most {MAX_EXPRESSION}; use let")
    try:
        tree = cast("Any", _parser()).parse(text)  # lark's own annotations are partly unknown
    except lark.exceptions.UnexpectedEOF:
        raise ExprError("the expression ends too early", len(text) + 1, "something is missing at the end") from None
    except lark.exceptions.UnexpectedInput as error:
        raise _unexpected(text, error) from None
    node = _build(tree, 0)
    if _height(node) > MAX_HEIGHT:
        raise ExprError("the expression has too many parts in a row", 1, "use let for some of them")
    return node


def _height(node: Node) -> int:
    """Return how many levels a tree has, counted without recursion."""
    height, level = 0, [node]
    while level:
        height, level = height + 1, [inner for each in level for inner in subtrees(each)]
    return height


def _unexpected(text: str, error: lark.exceptions.UnexpectedInput) -> ExprError:
    """Say what stood where nothing fitted."""
    position = error.pos_in_stream if error.pos_in_stream is not None else len(text)
    rest = text[position:].split()
    if position >= len(text) or not rest or (getattr(getattr(error, "token", None), "type", "") == "$END"):
        return ExprError("the expression ends too early", len(text) + 1, "something is missing at the end")
    before = text[:position].rstrip()
    if before and before[-1].isdigit() and rest[0][0].isalpha():
        return ExprError(
            f"no unit '{rest[0]}'", position + 1, "units: mL, L, g, s, min, h, d, degC, K, %, cells, IU, IU/mL, mL/min"
        )
    hint = "names are lower case (a-z, 0-9, _); compare with < <= > >= == != within..of; join with and, or, not"
    return ExprError(f"'{rest[0]}' does not fit here", position + 1, hint)


def _build(item: Any, depth: int) -> Node:
    """Turn lark's tree into ours."""
    if depth > MAX_DEPTH:
        raise ExprError("the expression is nested too deeply", 1, "use let for a part of it")
    tree = cast("lark.Tree[Any]", item)
    column = int(tree.meta.column) if not tree.meta.empty else 1
    kind = str(tree.data)
    parts = tree.children
    deeper = depth + 1
    if kind == "number":
        return Literal(str(parts[0]), column)
    if kind == "text":
        return Symbol(str(parts[0])[1:-1], column)
    if kind in ("true", "false"):
        return Truth(kind == "true", column)
    if kind == "name":
        return Name(_name_parts(parts, deeper), column)
    if kind == "signed":
        return _signed(str(parts[0]), _build(parts[1], deeper), column)
    if kind == "negation":
        return Unary("not", _build(parts[0], deeper), column)
    if kind == "within":
        return Within(_build(parts[0], deeper), _build(parts[1], deeper), _build(parts[2], deeper), column)
    if kind == "call":
        return _call(str(parts[0]), tuple(_build(part, deeper) for part in parts[1:]), column)
    return _joined(kind, parts, deeper)


def _joined(kind: str, parts: list[Any], depth: int) -> Node:
    """Fold `a - b + c` and `a and b and c` to the left; a relation has one operator."""
    node = _build(parts[0], depth)
    if kind in ("either", "both"):
        word = "or" if kind == "either" else "and"
        for part in parts[1:]:
            right = _build(part, depth)
            node = Binary(word, node, right, right.column)
        return node
    for operator, part in zip(parts[1::2], parts[2::2], strict=True):
        node = Binary(str(operator), node, _build(part, depth), int(operator.column))
    return node


def _name_parts(parts: list[Any], depth: int) -> tuple[tuple[str, Node | None], ...]:
    """Pair each word of a name with its index."""
    words: list[tuple[str, Node | None]] = [(str(parts[0]), None)]
    for part in parts[1:]:
        if str(part.data) == "field":
            words.append((str(part.children[0]), None))
            continue
        word, index = words[-1]
        if index is not None:
            raise ExprError("only one index fits here", int(part.meta.column), "write family[1].volume")
        words[-1] = (word, _build(part.children[0], depth))
    return tuple(words)


def _signed(sign: str, operand: Node, column: int) -> Node:
    """Fold a sign into the literal behind it."""
    if sign == "+":
        return operand
    if isinstance(operand, Literal) and not operand.text.startswith("-"):
        return Literal(f"-{operand.text}", column)
    return Unary("-", operand, column)


def _call(function: str, arguments: tuple[Node, ...], column: int) -> Node:
    """Check a function's name and number of arguments."""
    if function not in FUNCTIONS:
        raise ExprError(f"no function '{function}'", column, f"the functions are {', '.join(FUNCTIONS)}")
    least, most = FUNCTIONS[function]
    if not least <= len(arguments) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise ExprError(f"{function} takes {wanted} arguments, not {len(arguments)}", column)
    if function == "since" and not (isinstance(arguments[0], Name) and arguments[0].bare):
        raise ExprError("since takes the id of a mark", column, "write since(rep_start)")
    return Call(function, arguments, column)
