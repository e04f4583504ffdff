"""A block of a recipe, field by field: the path of each field's name and its text, for people and for comparing."""

from __future__ import annotations

from typing import cast

from pydantic import BaseModel

from recipes.steps import Mount

Key = tuple[str, ...]
"""`("volume",)`, or deeper: `("inputs", "cells", "range")`."""

PROSE = frozenset({"text", "label", "reason", "holds", "title", "description", "cause", "consequence", "action"})
"""Fields that are written for people: their words are no values."""
_APART = frozenset({"id", "verb", "steps", "cases", "branches"})
_INSIDE = {"inputs": "value ", "targets": "", "values": "", "marks": "mark ", "by": "move ", "adjust": "adjust "}


def flat(block: BaseModel, *, defaults: bool = True) -> dict[Key, str]:
    """Return the fields of a block but its name and what is inside it, as text by their names in YAML.

    A field without a value is left out, with `defaults=False` also one that the recipe does not write.
    """
    found: dict[Key, str] = {}
    for name in type(block).model_fields:
        if name not in _APART and (defaults or name in block.model_fields_set):
            _add(found, (name.rstrip("_"),), getattr(block, name), defaults=defaults)
    if isinstance(block, Mount):
        _each(found, block)
    return found


def label(key: Key) -> str:
    """Return what a field is called: `up to`, `volume of rep`, `station.temperature`, `value cells range`."""
    head, *rest = key
    if not rest:
        return head.replace("_", " ")
    if head in _INSIDE:
        return f"{_INSIDE[head]}{' '.join(rest)}"
    return f"{head} of {' '.join(rest)}"


def _add(found: dict[Key, str], key: Key, value: object, *, defaults: bool) -> None:
    match value:
        case None | ():
            return
        case bool():
            found[key] = "yes" if value else "no"
        case BaseModel():
            found |= {(*key, *inner): text for inner, text in flat(value, defaults=defaults).items()}
        case dict():
            for name, item in cast("dict[str, object]", value).items():
                _add(found, (*key, name), item, defaults=defaults)
        case tuple():
            items = cast("tuple[object, ...]", value)
            if isinstance(items[0], BaseModel):
                for number, item in enumerate(items, start=1):
                    _add(found, (*key, str(number)), item, defaults=defaults)
            else:
                found[key] = ", ".join(str(item) for item in items)
        case _:
            found[key] = str(value)


def _each(found: dict[Key, str], mount: Mount) -> None:
    """Write volume and count of a mount for each container, however the recipe writes them."""
    for key in [key for key in found if key[0] in ("volume", "count")]:
        del found[key]
    for name in mount.containers:
        found["volume", name] = mount.volume_of(name)
        count = mount.count_of(name)
        if count is not None:
            found["count", name] = count
