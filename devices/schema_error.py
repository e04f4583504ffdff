"""What a schema found wrong, in plain words: pydantic's error details for the person who wrote the file."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel, RootModel, Tag
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

_EXPECTED = {
    "string_type": "text",
    "string_sub_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "yes or no",
    "bool_parsing": "yes or no",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping of keys",
    "mapping_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "dataclass_type": "a mapping of keys",
    "none_required": "nothing",
}
_SHOULD = "Input should be "
_LONGEST = 48


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a schema refused; `expected` and `got` where the two say it all.

    `about_key` says that the message names the key itself; others are read after the name of their key.
    """

    message: str
    hint: str = ""
    expected: str = ""
    got: str = ""
    about_key: bool = False


def explain(error: ErrorDetails, model: type[BaseModel], parent: Any) -> Finding:
    """Return a pydantic error of `model` in plain words; `parent` is the data in which the offending key stands."""
    kind, context = error["type"], error.get("ctx", {})
    last = str(error["loc"][-1]) if error["loc"] else ""
    got = shorten(error["input"])
    match kind:
        case "missing":
            return Finding(f"'{last}' is missing", about_key=True)
        case "extra_forbidden":
            hint = _keys_hint(last, allowed_keys(model, error["loc"][:-1], parent))
            return Finding(f"unknown key '{last}'", hint, about_key=True)
        case "literal_error" | "enum":
            return _expected(_choices(str(context["expected"])), got)
        case "union_tag_invalid":
            hint = f"expected one of {_plain(str(context['expected_tags']))}"
            return Finding(f"unknown {_discriminator(context)} '{context['tag']}'", hint, about_key=True)
        case "union_tag_not_found":
            return Finding(f"'{_discriminator(context)}' is missing", about_key=True)
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            return _expected(f"a number {error['msg'].removeprefix(_SHOULD)}", got)
        case "too_short" | "too_long":
            side = "at least" if kind == "too_short" else "at most"
            limit = context["min_length" if kind == "too_short" else "max_length"]
            return Finding(f"expected {side} {limit} entries, got {context['actual_length']}")
        case "string_pattern_mismatch":
            return Finding(f"{got} does not have the form {context['pattern']}")
        case "value_error" | "assertion_error":
            cause = context.get("error")
            message = str(getattr(cause, "message", "")) or str(cause)
            return Finding(message, str(getattr(cause, "hint", "")))
        case _ if kind in _EXPECTED:
            return _expected(_EXPECTED[kind], got)
        case _:
            # The remaining kinds (limits, lengths) read "Input should be ..." with their limit in the sentence.
            text = error["msg"]
            return (
                _expected(text.removeprefix(_SHOULD), got)
                if text.startswith(_SHOULD)
                else Finding(f"{text}, got {got}")
            )


def merge(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Yield the findings of one place, the branches of a union as one: expected text or a list, got ..."""
    either: dict[str, list[str]] = {}
    for finding in dict.fromkeys(findings):
        if finding.expected:
            either.setdefault(finding.got, []).append(finding.expected)
        else:
            yield finding
    for got, expected in either.items():
        yield _expected(" or ".join(dict.fromkeys(expected)), got)


def shorten(value: object) -> str:
    """Return what was found, short enough for a message."""
    if isinstance(value, Mapping):
        return "a mapping of keys"
    if isinstance(value, list | tuple):
        return "a list"
    if value in ("", None):
        return "nothing"
    text = str(value)
    return repr(text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "...")


def allowed_keys(model: type[BaseModel], loc: Sequence[str | int], parent: Any) -> list[str]:
    """Return the keys that the schema knows at a place, in the order of their declaration."""
    branches = list(_branches(model))
    for item in loc:
        branches = _descend(branches, item) or branches
    present = set(cast("Mapping[str, Any]", parent)) if isinstance(parent, Mapping) else set[str]()
    keys: dict[str, None] = {}
    for branch in branches:
        if _is_model(branch.kind):
            for name, info in branch.kind.model_fields.items():
                key = info.alias or name
                # A discriminator that the file does not show was put there by the schema itself.
                if len(_literals(info)) != 1 or key in present:
                    keys[key] = None
    return list(keys)


@dataclass(frozen=True, slots=True)
class _Branch:
    kind: Any
    args: tuple[Any, ...] = ()
    tag: str = ""


def _branches(annotation: Any, tag: str = "") -> Iterator[_Branch]:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        named = next((item.tag for item in args[1:] if isinstance(item, Tag)), tag)
        yield from _branches(args[0], named)
    elif origin in (Union, types.UnionType):
        for arg in args:
            yield from _branches(arg, tag)
    elif _is_model(annotation) and issubclass(annotation, RootModel):
        yield from _branches(annotation.model_fields["root"].annotation, tag)
    else:
        yield _Branch(origin or annotation, args, tag)


def _descend(branches: list[_Branch], item: str | int) -> list[_Branch]:
    found: list[_Branch] = []
    for branch in branches:
        if _is_model(branch.kind):
            fields: dict[str, FieldInfo] = branch.kind.model_fields
            by_key = [info for name, info in fields.items() if item in (name, info.alias)]
            if by_key:
                found.extend(_branches(by_key[0].annotation))
            elif item in (branch.tag, branch.kind.__name__) or any(item in _literals(info) for info in fields.values()):
                found.append(branch)
        elif branch.args and _is_kind(branch.kind, Mapping):
            found.extend(_branches(branch.args[-1]))
        elif branch.args and isinstance(item, int) and _is_kind(branch.kind, Sequence):
            found.extend(_branches(branch.args[0]))
    return found


def _is_model(kind: Any) -> bool:
    return _is_kind(kind, BaseModel)


def _is_kind(kind: Any, of: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, of)


def _literals(info: FieldInfo) -> tuple[Any, ...]:
    return get_args(info.annotation) if get_origin(info.annotation) is Literal else ()


def _expected(expected: str, got: str) -> Finding:
    return Finding(f"expected {expected}, got {got}", expected=expected, got=got)


def _choices(quoted: str) -> str:
    return f"one of {_plain(quoted)}" if " or " in quoted else _plain(quoted)


def _plain(quoted: str) -> str:
    return quoted.replace(" or ", ", ").replace("'", "")


def _discriminator(context: Mapping[str, Any]) -> str:
    """Return the key that chooses the branch of a union; a function that chooses has no name to show."""
    text = str(context["discriminator"])
    return text.strip("'") if text.startswith("'") else "kind"


def _keys_hint(key: str, allowed: list[str]) -> str:
    if not allowed:
        return ""
    near = get_close_matches(key, allowed, n=1)
    meant = f"did you mean '{near[0]}'? " if near else ""
    return f"{meant}known here: {', '.join(allowed)}"
