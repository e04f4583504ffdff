"""The registers of a simulated instrument as they are read: runs of values, rendered through precompiled structs."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from devices.codec import FLOATS, RegType, WordOrder, encode, format_of, reorder
from devices.profile_types import Point, Profile, Setting

Value = float | bool | str | Iterable[str] | None
Getter = Callable[[], Value]
Bend = Callable[[Value], Value]
Places = Mapping[tuple[int, int], float]


class Image:
    """A run of registers, rendered through one precompiled struct."""

    def __init__(self, fc: int, addr: int, count: int, cells: Sequence[_Cell]) -> None:
        self.fc, self.addr, self.count = fc, addr, count
        self._getters = [cell.raw for cell in cells]
        swaps, at, layout = list(range(2 * count)), addr, ">"
        for cell in cells:
            if cell.addr < at or cell.addr + cell.words > addr + count:
                raise ValueError(f"function {fc}, register {cell.addr}: a point overlaps another or leaves its block")
            layout += f"{2 * (cell.addr - at)}x{cell.form}"
            first, size = 2 * (cell.addr - addr), 2 * cell.words
            swaps[first : first + size] = [first + i for i in reorder(bytes(range(size)), cell.order)]
            at = cell.addr + cell.words
        self._struct = struct.Struct(f"{layout}{2 * (addr + count - at)}x")
        self._swaps = swaps if swaps != sorted(swaps) else None
        covered = {a for cell in cells for a in range(cell.addr, cell.addr + cell.words)}
        self._holes = [a for a in range(addr, addr + count) if a not in covered]
        self.frozen: bytes | None = None

    def render(self, written: Mapping[tuple[int, int], int]) -> bytes:
        """Return the bytes of all registers at this moment, or at that at which they were frozen."""
        if self.frozen is not None:
            return self.frozen
        data = self._struct.pack(*[raw() for raw in self._getters])
        if self._swaps is not None:
            data = bytes([data[i] for i in self._swaps])
        if written and self._holes:
            patched = bytearray(data)
            for a in self._holes:
                struct.pack_into(">H", patched, 2 * (a - self.addr), written.get((self.fc, a), 0))
            data = bytes(patched)
        return data


class _Cell:
    """Where one value stands in an image, and the function that gives it raw."""

    def __init__(
        self, addr: int, kind: RegType, words: int, order: WordOrder, raw: Callable[[], float | bytes]
    ) -> None:
        self.addr, self.words, self.order, self.form = addr, words, order, f"{2 * words}s"
        if kind is not RegType.STRING:
            self.form = format_of(kind)
        elif order is not WordOrder.ABCD:  # of a text, at most the two bytes of each register are swapped
            self.order = WordOrder.ABCD if order is WordOrder.CDAB else WordOrder.BADC
        self.raw = raw


def blocks(profile: Profile, values: Mapping[str, Getter]) -> list[Image]:
    """Return the blocks of a profile over the getters of its points."""
    images: list[Image] = []
    for block in profile.blocks.values():
        points = sorted(block.points, key=lambda point: point.addr)
        cells = [_Cell(p.addr, p.type, p.words, p.order, _encoder(p, values[p.name])) for p in points]
        images.append(Image(block.fc, block.addr, block.count, cells))
    return images


def settings(profile: Profile, serial: int | str, by_hand: Places) -> list[Image]:
    """Return the identity and the asserted registers, as the profile expects them but where a hand changed one."""
    taken = {(b.fc, a) for b in profile.blocks.values() for p in b.points for a in range(p.addr, p.addr + p.words)}
    images = [
        Image(s.fc, s.addr, s.words, [_constant(s, by_hand=by_hand.get((s.fc, s.addr)))])
        for s in profile.asserts
        if (s.fc, s.addr) not in taken
    ]
    identity = profile.identity
    if identity is not None and not identity.setting.expected and (identity.fc, identity.setting.addr) in taken:
        identity = None  # points of the instrument itself say who it is
    if identity is not None:
        cells = [_constant(identity.setting, serial)]
        if (place := identity.serial) is not None:
            words = encode(place.type, _fitting(serial, place.type, place.words), profile.order, place.words)
            data = struct.pack(f">{len(words)}H", *words)
            cells.append(_Cell(place.addr, RegType.STRING, place.words, WordOrder.ABCD, lambda: data))
        cells.sort(key=lambda cell: cell.addr)
        images.append(Image(identity.fc, identity.addr, identity.count, cells))
    return images


def _fitting(serial: int | str, kind: RegType, words: int) -> int | str:
    """Return a serial number as its registers can hold it."""
    if kind is RegType.STRING:
        return str(serial)
    return int(serial) % (1 << 16 * words) if str(serial).isdigit() else 0


def _constant(setting: Setting, serial: int | str = 0, *, by_hand: float | None = None) -> _Cell:
    """Return what an identity or an asserted register must hold; where anything will do, the serial number."""
    if setting.type is RegType.STRING:
        text = setting.starts.encode("ascii")[: 2 * setting.words]
        return _Cell(setting.addr, setting.type, setting.words, setting.order, lambda: text)
    expected = setting.among[0] if setting.among else float(_fitting(serial, setting.type, setting.words))
    if by_hand is not None:
        expected = by_hand
    value = expected if setting.type in FLOATS else int(expected)
    return _Cell(setting.addr, setting.type, setting.words, setting.order, lambda: value)


def _encoder(point: Point, getter: Getter) -> Callable[[], Any]:
    """Return a function that gives the raw value of a point."""
    missing: float = point.nan[0] if point.nan else math.nan
    scale, offset = point.scale, point.offset
    if point.type is RegType.STRING:
        size = 2 * point.words
        return lambda: str(getter()).encode("ascii")[:size]
    if point.symbols:
        symbols = {text: raw for raw, text in point.symbols.items()}
        return lambda: symbols[str(getter())]
    if point.bits:
        masks = {name: 1 << index for index, name in point.bits.items()}
        return lambda: _bits(getter(), masks)
    if point.type in FLOATS:
        if scale == 1.0 and offset == 0.0:
            return lambda: missing if (value := getter()) is None else value
        return lambda: missing if (value := _number(getter())) is None else (value - offset) / scale
    span = 1 << 16 * point.words
    upper = format_of(point.type).isupper()
    if not point.nan:  # a whole number has no NaN: a dead input shows the end of its range
        missing = span - 1 if upper else -(span // 2)
        if upper:
            return lambda: missing if (v := _number(getter())) is None else round((v - offset) / scale) % span
        return lambda: missing if (v := _number(getter())) is None else round((v - offset) / scale)
    if upper:
        return lambda: round(missing if (v := _number(getter())) is None else (v - offset) / scale) % span
    return lambda: round(missing if (v := _number(getter())) is None else (v - offset) / scale)


def bent(getter: Getter, bends: Sequence[Bend]) -> Getter:
    """Return a getter of what bends, one after the other, make of a value."""

    def read() -> Value:
        value = getter()
        for bend in bends:
            value = bend(value)
        return value

    return read if bends else getter


def _number(value: Value) -> float | None:
    if value is None or isinstance(value, int | float):
        return value
    raise TypeError(f"a number was expected of a getter, not {value!r}")


def _bits(value: Value, masks: Mapping[str, int]) -> int:
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return sum(masks[name] for name in set(value))
    raise TypeError(f"an int or the names of bits were expected of a getter, not {value!r}")
