"""What fits what in a profile: addresses in their table, values in their register type, scales, symbols, evidence."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from devices import profile_model as model
from devices.codec import BITS, FLOATS, CodecError, RegType, decode, encode, format_of

LAST_ADDRESS = 0xFFFF
LEAST_SCALE, MOST_SCALE = 1e-12, 1e12
"""Sizes of a scale (engineering default): what is beyond them is a slip of the pen, and overflows the arithmetic."""
_Path = tuple[str | int, ...]
_Find = Callable[[_Path, str, str], None]


def scale_fits(scale: float) -> bool:
    """Tell whether values may be divided by a scale, and multiplied with it."""
    return LEAST_SCALE <= abs(scale) <= MOST_SCALE


def check_scale(scale: float, path: _Path, find: _Find) -> bool:
    """Report a scale that no register has; a scale of 0 is reported by its user, who knows what it would do."""
    if scale and not scale_fits(scale):
        text = f"{scale:g} is no scale of a register; expected {LEAST_SCALE:g} to {MOST_SCALE:g} in size"
        find(path, text, "one raw count is so many of `unit`: look at the power of ten")
    return scale_fits(scale)


def check_end(what: str, addr: int, words: int, path: _Path, find: _Find) -> None:
    """Report `words` registers from `addr` that go on behind the last address that there is."""
    end = addr + words - 1
    if end > LAST_ADDRESS:
        hint = "addresses are those of the wire, from 0: look at addr and at how many registers there are from it"
        find(path, f"{what} reaches address {end}; the last one is {LAST_ADDRESS}", hint)


def check_table(fc: int, kind: RegType, path: _Path, find: _Find) -> None:
    """Report a value of registers that is read from a table of bits."""
    if fc in (1, 2) and kind is not RegType.BOOL:
        hint = "read registers by function code 3 or 4, or make it bool"
        find(path, f"function code {fc} carries bits: type must be bool, not {kind}", hint)


def check_raw(kind: RegType, value: float, path: _Path, find: _Find) -> None:
    """Report a raw value that a register of this type never reads."""
    try:
        held = decode(kind, encode(kind, value))
    except (CodecError, OverflowError):
        held = None
    if held is None or held != value:
        near = f", the nearest is {held!r}" if kind in FLOATS and held is not None else ""
        find(path, f"{value!r} cannot stand in {kind}{near}", f"{kind} holds {_span(kind)}")


def check_symbols(kind: RegType, symbols: Mapping[int, str], path: _Path, find: _Find) -> None:
    """Report raw values that the type cannot hold, and a name that means two of them."""
    seen: dict[str, int] = {}
    for raw, name in symbols.items():
        if name in seen:
            text = f"{name} is the name of {seen[name]} and of {raw}"
            find((*path, raw), text, "give each raw value a name of its own; a check may list several with `in`")
        seen.setdefault(name, raw)
        if kind not in FLOATS and kind is not RegType.STRING:
            check_raw(kind, raw, (*path, raw), find)


def check_evidence(header: model.HeaderModel, find: _Find) -> None:
    """Report an instrument that was seen on the bench and is not settled."""
    if header.evidence == "bench" and header.open_checks:
        text = f"evidence is bench, but of open_checks {len(header.open_checks)} are left: {header.open_checks[0]!r}"
        hint = "settle each on the instrument and take it out, or keep the evidence that it has without them"
        find(("profile", "evidence"), text, hint)


def _span(kind: RegType) -> str:
    if kind is RegType.BOOL:
        return "0 or 1"
    if kind in FLOATS:
        return "what is a sum of its binary places: write that value"
    form = format_of(kind)
    bits = 8 * struct.calcsize(">" + form)
    low, high = (0, 2**bits - 1) if form.isupper() or kind in BITS else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return f"whole numbers from {low} to {high}"
