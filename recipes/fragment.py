"""Fragments: operations or steps that recipes share, with parameters.  What a fragment file says, and what `$name` is.

A parameter stands in a fragment as `$name`.  Values are put into the values of the file that was read, never into its
text: a value cannot become a key, a list or a second step, and an expression stays one operand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import Field, model_validator

from recipes import syntax
from recipes.fields import ID_PATTERN, Frozen, Id, Text
from recipes.model import Title, Version
from recipes.syntax import ExprError
from recipes.template import PIECE

Kind = Literal["container", "name", "expression", "text"]
PARAMETER = re.compile(r"\$([a-z][a-z0-9_]*)")
_JOINED = re.compile(r"[A-Za-z0-9_.$]\Z")
SECTIONS = ("sources", "equipment", "containers", "parameters", "results", "clocks")
"""What a fragment may declare beside its steps; it is put with what the recipe declares."""


class Take(Frozen):
    """A parameter of a fragment; without a default it has to be given.

    `container` stands for a container (`cm1`, `cm4[g.index]`), `name` for an id, `expression` for an operand, `text`
    for words in a text, or for one whole value.
    """

    kind: Kind
    label: Text | None = None
    default: Text | None = None


class Fragment(Frozen):
    """The header of a fragment; what is inside is judged where it was written out, in the recipe that includes it."""

    fragment: Title
    version: Version
    title: Text
    description: Text | None = None
    takes: dict[Id, Take] = Field(default_factory=dict[Id, Take])
    sources: dict[str, Any] = Field(default_factory=dict[str, Any])
    equipment: dict[str, Any] = Field(default_factory=dict[str, Any])
    containers: dict[str, Any] = Field(default_factory=dict[str, Any])
    parameters: dict[str, Any] = Field(default_factory=dict[str, Any])
    results: dict[str, Any] = Field(default_factory=dict[str, Any])
    clocks: dict[str, Any] = Field(default_factory=dict[str, Any])
    procedure: list[Any] = Field(default_factory=list[Any])
    steps: list[Any] = Field(default_factory=list[Any])

    @model_validator(mode="after")
    def _one_body(self) -> Fragment:
        if bool(self.procedure) == bool(self.steps):
            raise ValueError("a fragment holds either operations (procedure) or steps, at least one")
        return self


class Include(Frozen):
    """Where a fragment is written out: `include: {fragment: NAME, id: PREFIX, with: {NAME: VALUE}}`.

    `id` is put before the ids of the fragment's operations, so that it can be included twice.
    """

    fragment: Title
    id: Id | None = None
    with_: dict[Id, Text] = Field(default_factory=dict[Id, Text], alias="with")


class IncludeItem(Frozen):
    """The entry of a list of operations or of steps that is an include."""

    include: Include


@dataclass(frozen=True, slots=True)
class Value:
    """What a parameter stands for."""

    kind: Kind
    text: str

    @property
    def operand(self) -> str:
        """Return it as one operand of an expression."""
        return self.text if isinstance(syntax.parse(self.text), syntax.Name) else f"({self.text})"


def wrong(value: Value) -> ExprError | None:
    """Return why a value is none of its kind, None where it is one."""
    if value.kind == "text":
        return None
    if value.kind == "name":
        fits = re.fullmatch(ID_PATTERN, value.text)
        return None if fits else ExprError(f"'{value.text}' is no name", 1, "a name is one word: a-z, 0-9 and _")
    try:
        node = syntax.parse(value.text)
    except ExprError as error:
        return error
    if value.kind == "container" and not (isinstance(node, syntax.Name) and len(node.parts) == 1):
        return ExprError(f"'{value.text}' is no container", 1, "write cm1, or cm4[1] of a family")
    return None


def filled(text: str, values: Mapping[str, Value], *, prose: bool, whole: bool = True) -> str:
    """Return a value of a fragment with its parameters put in; raises ExprError, with code and column.

    `prose`: a text for people, in which expressions stand in braces; `whole`: a text may be all of the value.
    """
    inside = [match.span() for match in PIECE.finditer(text) if match[1] is not None] if prose else [(0, len(text))]

    def put(match: re.Match[str]) -> str:
        value = values.get(match[1])
        column = match.start() + 1
        if value is None:
            near = get_close_matches(match[1], values, n=1)
            hint = f"did you mean ${near[0]}?" if near else f"it takes: {', '.join(values) or 'nothing'}"
            raise ExprError(f"the fragment takes no '{match[1]}'", column, hint, code="include-parameter")
        if whole and not prose and match.span() == (0, len(text)):
            return value.text
        operand = any(start <= match.start() < end for start, end in inside)
        if operand == (value.kind == "text"):
            hint = "only a text for people takes it" if operand else f"write {{${match[1]}}}"
            place = "an expression" if operand else "a text"
            message = f"'${match[1]}' is of kind {value.kind} and stands in {place}"
            raise ExprError(message, column, hint, code="include-parameter")
        if operand and _JOINED.search(text, 0, match.start()):
            message, hint = f"'${match[1]}' stands within a word", "a value is one operand: make room before it"
            raise ExprError(message, column, hint, code="include-parameter")
        return value.operand if operand else value.text

    return PARAMETER.sub(put, text)
