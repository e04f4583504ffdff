"""Data as YAML text of this project, where every scalar is text: what `devices.document` reads back as the same data.

Written by rules of our own and not by a library's, so that one recipe has one text, and one hash, with every version
of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, cast

from devices.yaml_text import UNSEEN

_PLAIN = re.compile(r"[A-Za-z0-9(<=+/][A-Za-z0-9_ .()/+*<>=%;$-]*(?<! )")
"""A text that needs no quotes, in a list between brackets neither."""


def written(data: dict[str, Any]) -> str:
    """Return a mapping of mappings, lists and texts as YAML."""
    return "".join(f"{line}\n" for line in _mapping(data))


def _mapping(node: dict[str, Any]) -> Iterator[str]:
    for key, item in node.items():
        yield from _entry(f"{_scalar(key)}:", item)


def _entry(head: str, item: Any) -> Iterator[str]:
    """Yield a key, or the dash of a list, with its value: on its own line, or indented below."""
    if isinstance(item, str):
        yield f"{head} {_scalar(item)}"
        return
    if not item:
        yield f"{head} {'{}' if isinstance(item, dict) else '[]'}"
        return
    if isinstance(item, list):
        items = cast("list[Any]", item)
        if all(isinstance(each, str) for each in items):
            yield f"{head} [{', '.join(map(_scalar, items))}]"
            return
        inner = [line for each in items for line in _entry("-", each)]
    else:
        inner = list(_mapping(item))
    first = [f"- {inner.pop(0)}"] if head == "-" else [head]
    yield from (*first, *(f"  {line}" for line in inner))


def _scalar(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)
