"""The `ne107` section of a profile: which bits and symbols mean what, in the words of NE 107; checked, compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from devices.diagnosis import Ne107, Sign
from devices.profile_types import Bit, Block, Point
from devices.role import BOOL, SYMBOL

SignText = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(=[a-z][a-z0-9_]*)?$", max_length=140)]
Find = Callable[[tuple[str | int, ...], str, str], None]


class Ne107Model(BaseModel):
    """What the instrument shows of itself: bits and points that read true (or a number but 0), `point=symbol`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    failure: list[SignText] = Field(default_factory=list[str])
    function_check: list[SignText] = Field(default_factory=list[str])
    out_of_specification: list[SignText] = Field(default_factory=list[str])
    maintenance_required: list[SignText] = Field(default_factory=list[str])


def signs_of(
    source: Ne107Model,
    blocks: Mapping[str, Block],
    points: Mapping[str, Point],
    bits: Mapping[str, Bit],
    find: Find,
) -> tuple[Sign, ...]:
    """Return the signs of a profile; what is wrong with them goes to `find`."""
    found: dict[str, Sign] = {}
    for status in (Ne107.FAILURE, Ne107.FUNCTION_CHECK, Ne107.OUT_OF_SPECIFICATION, Ne107.MAINTENANCE):
        for i, text in enumerate(getattr(source, status.value)):
            path = ("ne107", status.value, i)
            name, _, symbol = text.partition("=")
            point = points.get(bits[name].point if name in bits else name)
            if point is None:
                find(path, f"there is no bit or point {name}", "name a bit, or a point, of `points`")
                continue
            if text in found:
                find(path, f"{text} has a class already: {found[text].status}", "each sign means one thing")
            if point.block in blocks and blocks[point.block].scan == "demand":
                find(path, f"{name} is read on demand only: nobody would see it", "scan its block fast or slow")
            _check(name, symbol, None if name in bits else point, path, find)
            found[text] = Sign(status, name, symbol)
    return tuple(found.values())


def _check(name: str, symbol: str, point: Point | None, path: tuple[str | int, ...], find: Find) -> None:
    """Report a sign that could never be seen, or that would say nothing; `point` is None for a bit."""
    if point is not None and point.unit == SYMBOL:
        if symbol not in point.symbols.values():
            text = f"{name} has no symbol {symbol}" if symbol else f"{name} is a symbol: say which"
            find(path, text, f"{name}= one of {', '.join(point.symbols.values())}")
    elif symbol:
        find(path, f"{name} has no symbols", f"write {name} alone: it counts while it is true, or not 0")
    elif point is not None and point.unit not in (BOOL, ""):
        find(path, f"{name} is a value, not a sign", "name a bit, a bool, a count of errors, or a symbol")
