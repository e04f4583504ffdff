"""Whether a read-back proves anything: what a check compares must be able to read so, and to read otherwise.

Invariant: a proof that every value would give is no proof; a write that it takes for done may not have happened.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from devices.codec import FLOATS, CodecError, RegType, words_of
from devices.frames import BlockDecoder, holds, point_words
from devices.profile_bounds import scale_fits
from devices.profile_types import TEXT, Block, Check, Point, Slot
from devices.role import BOOL, SYMBOL

_Path = tuple[str | int, ...]
_Find = Callable[[_Path, str, str], None]
_MEANS: Mapping[tuple[str, str], tuple[str, bool]] = {
    ("plug", "off"): ("on", False),
    ("pump", "stop"): ("running", False),
    ("pump_drive", "stop"): ("running", False),
    ("pump_drive", "start"): ("running", True),
}
"""Role and command -> the point that it is about, and what that reads when it was carried out."""


def check_meaning(role: str, command: str, check: Check, path: _Path, find: _Find) -> None:
    """Report a stop that would be taken for done while it runs, and the like."""
    point, value = _MEANS.get((role, command), ("", False))
    if check.point == point and check.arg is None and set(check.among) != {value}:
        shown, text = _shown([*check.among]), str(value).lower()
        find(path, f"{command} of a {role} is proven by {point} = {shown}: it means {text}", f"equals: {text}")


def check_proof(check: Check, point: Point, slot: Slot | None, path: _Path, find: _Find, *, bit: bool = False) -> None:
    """Report a check that cannot hold, or cannot fail; `slot` is the argument that it compares with, None for values.

    `bit` says that it looks at one named bit of `point`.
    """
    unit = BOOL if bit else point.unit
    number = unit not in (BOOL, SYMBOL, TEXT)
    if check.tolerance and not number:
        find((*path, "tolerance"), f"{check.point} is no number: it has no tolerance", "leave `tolerance` out")
    if slot is not None:
        _against_argument(check, unit, point, slot, path, find)
    elif check.arg is None and not number:
        _against_names(check, unit, point, path, find)
    elif check.arg is None:
        fits = [_readable(check, float(value), point, path, find) for value in check.among]
        if all(fits):
            _against_numbers(check, point, path, find)


def _against_argument(check: Check, unit: str, point: Point, slot: Slot, path: _Path, find: _Find) -> None:
    wanted = BOOL if slot.type is RegType.BOOL and not slot.symbols else slot.unit
    counted = slot.type not in FLOATS and slot.scale == 1.0 and (slot.min, slot.max) == (0.0, 1.0)
    if wanted != unit and not (unit == BOOL and wanted == "" and counted):  # 0 and 1 are false and true
        text = f"{check.point} reads {_said(unit)}, but the argument {slot.arg} is {_said(wanted)}"
        find(path, f"{text}: the one does not prove the other", f"name a point that reads {_said(wanted)}")
        return
    if unit == SYMBOL:
        if never := [name for name in slot.symbols.values() if name not in point.symbols.values()]:
            text = f"{check.point} never reads {', '.join(never)}, which the argument {slot.arg} may be"
            find(path, text, f"{check.point} is one of {', '.join(point.symbols.values())}")
        return
    if unit == BOOL or slot.min is None or slot.max is None:
        return
    low, high = point.range or (-math.inf, math.inf)
    if slot.min < low or slot.max > high:
        text = f"{slot.arg} may be {slot.min:g} to {slot.max:g}, but {check.point} is bad outside {low:g} to {high:g}"
        find(path, f"{text}: such a write could never be proven", "make the limits narrower or the range wider")
    span = slot.max - slot.min or (high - low)
    if check.tolerance and 2 * check.tolerance >= span:
        text = f"{check.tolerance:g} on {check.point} is no tolerance for values of {slot.min:g} to {slot.max:g}"
        find((*path, "tolerance"), text, f"less than {span / 2:g}, half of its limits; the resolution as a rule")


def _against_names(check: Check, unit: str, point: Point, path: _Path, find: _Find) -> None:
    every = {True, False} if unit == BOOL else {*point.symbols.values()} if unit == SYMBOL else set[bool | str]()
    if every and every <= {*check.among}:
        text = f"{check.point} is always one of {_shown(check.among)}: that shows nothing"
        find(path, text, "leave out what it reads when nothing was done")


def _readable(check: Check, value: float, point: Point, path: _Path, find: _Find) -> bool:
    """Tell whether the point can read a value, as the driver would from its registers."""
    low, high = point.range or (-math.inf, math.inf)
    if not math.isfinite(value):
        find(path, f"{check.point} is never {value}", "write the finite number that it reads")
    elif not low <= value <= high:
        text = f"{check.point} never reads {value:g}: it is bad outside {low:g} to {high:g}"
        find(path, text, "write a value within its range, or mend the range")
    elif point.words and scale_fits(point.scale):
        alone = replace(point, bad_when=(), uncertain_when=(), bits={})
        try:
            decoder = BlockDecoder(Block("", 3, point.addr, point.words, "demand", atomic=True, points=(alone,)))
            reading = decoder.decode(point_words(alone, value), 0.0)[point.name]
        except (CodecError, OverflowError) as error:
            find(path, f"{check.point} never reads {value:g}: {error}", "write a value that its registers can hold")
            return False
        if not holds(check, (value,), reading):
            near = "no value, by `nan`" if reading.value is None else f"{reading.value!r}"
            text = f"{check.point} never reads {value:g}: its registers ({point.type}) then read {near}"
            find(path, text, "write a value that they can hold, or a tolerance")
            return False
        return True
    else:
        return True
    return False


def _against_numbers(check: Check, point: Point, path: _Path, find: _Find) -> None:
    span, counts = _span(point)
    values = len({*check.among})
    if check.tolerance and span is None:
        text = f"{check.point} has no range: nothing tells whether a tolerance of {check.tolerance:g} leaves any doubt"
        find((*path, "tolerance"), text, "give the point its range")
    elif span is not None and (2 * check.tolerance * values >= span or (counts is not None and values >= counts)):
        text = (
            f"all that {check.point} reads is within {check.tolerance:g} of {_shown(check.among)}: that shows nothing"
        )
        find(path, text, f"its range spans {span:g}: fewer values, or a smaller tolerance")


def _span(point: Point) -> tuple[float | None, int | None]:
    """Return how far apart the values of a point may be, and how many there are; None where that is not known."""
    whole = point.words > 0 and point.type not in FLOATS and scale_fits(point.scale)
    if point.range is not None:
        span = point.range[1] - point.range[0]
        return span, math.floor(span / abs(point.scale) + 1e-9) + 1 if whole and span < 1e9 * abs(point.scale) else None
    return (2.0 ** (16 * words_of(point.type)) - 1) * abs(point.scale) if whole else None, None


def _said(unit: str) -> str:
    return {BOOL: "true or false", SYMBOL: "one of its symbols", TEXT: "a text", "": "a number without a unit"}.get(
        unit, f"in {unit}"
    )


def _shown(values: Sequence[float | bool | str]) -> str:
    return ", ".join(str(v).lower() if isinstance(v, bool) else v if isinstance(v, str) else f"{v:g}" for v in values)
