"""What goes over the wire for a profile: blocks to readings, commands to registers, read-backs to a verdict.

Pure: no I/O, no clock. The hot path is `BlockDecoder.decode`, built once for each block.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from devices.codec import FLOATS, CodecError, Raw, RegType, WordOrder, decode, encode, format_of, reorder, unpack
from devices.instrument import Args, ArgValue
from devices.profile_types import Block, Check, Command, Identity, Point, Rule, Slot
from devices.reading import Quality, Reading, Value, made
from devices.role import BOOL

_Converter = Callable[[Any], Value]
_Rules = tuple[tuple[int, Container[object], bool], ...]
_More = tuple[_Rules, _Rules, tuple[tuple[str, int], ...]]
_GOOD, _BAD, _UNCERTAIN = Quality.GOOD, Quality.BAD, Quality.UNCERTAIN


_NONE_KEPT: Mapping[str, int] = {}


class ArgumentError(ValueError):
    """An argument that may not be sent: missing, unknown, or outside its limits."""


class BlockDecoder:
    """Turns the registers of one block into readings."""

    def __init__(self, block: Block) -> None:
        self._pack = struct.Struct(f">{block.count}H").pack
        self._layers, places = _layers(block)
        self._steps = [
            (
                p.name,
                p.unit,
                places[p.name],
                None if _as_it_is(p) else _converter(p),
                _limits(p),
                _more(p, places),
            )
            for p in block.points
        ]

    def decode(self, registers: Sequence[int], at: float) -> dict[str, Reading]:
        """Return a reading for every point and every named bit; `at` is the monotonic time (s) of the reply.

        Raises struct.error when the number of registers is not that of the block.
        """
        data = self._pack(*registers)
        raws: tuple[Any, ...] = ()
        for swaps, unpack_all in self._layers:
            raws += unpack_all(data if swaps is None else bytes([data[i] for i in swaps]))
        readings: dict[str, Reading] = {}
        for name, unit, place, convert, (low, high), more in self._steps:
            if convert is not None:
                value = convert(raws[place])
            elif not low <= (value := raws[place]) <= high:  # of most points there is nothing else to ask
                value = None
            if more is None:
                readings[name] = made(value, unit, _BAD if value is None else _GOOD, at)
                continue
            rules, doubts, bits = more
            for other, values, inside in rules:
                if (raws[other] in values) is inside:
                    value = None
            quality = _BAD if value is None else _GOOD
            for other, values, inside in doubts:
                if (raws[other] in values) is inside and value is not None:
                    quality = _UNCERTAIN
            readings[name] = made(value, unit, quality, at)
            for bit, mask in bits:
                flag = bool(int(value) & mask) if isinstance(value, float) else None
                readings[bit] = made(flag, BOOL, quality, at)
        return readings


def _layers(block: Block) -> tuple[list[tuple[list[int] | None, Callable[[bytes], tuple[Any, ...]]]], dict[str, int]]:
    """Return how all raw values of a block are taken at once, and the place of each point among them.

    One struct takes every point that overlaps no other of it; where points overlap there is more than one.
    """
    layers: list[list[Point]] = []
    for point in sorted(block.points, key=lambda p: p.addr):
        free = next((layer for layer in layers if layer[-1].addr + layer[-1].words <= point.addr), None)
        if free is None:
            layers.append([point])
        else:
            free.append(point)
    places = {point.name: place for place, point in enumerate(point for layer in layers for point in layer)}
    return [_layer(block, layer) for layer in layers], places


def _layer(block: Block, points: Sequence[Point]) -> tuple[list[int] | None, Callable[[bytes], tuple[Any, ...]]]:
    form, at, swaps = ">", block.addr, list(range(2 * block.count))
    for point in points:
        text = point.type is RegType.STRING
        form += f"{2 * (point.addr - at)}x" + (f"{2 * point.words}s" if text else format_of(point.type))
        at = point.addr + point.words
        first, size = 2 * (point.addr - block.addr), 2 * point.words
        if not text:
            swaps[first : first + size] = [first + i for i in reorder(bytes(range(size)), point.order)]
    form += f"{2 * (block.addr + block.count - at)}x"
    return (None if swaps == sorted(swaps) else swaps), struct.Struct(form).unpack


class _Masked:
    """The numbers that have one of the bits of a mask."""

    def __init__(self, mask: int) -> None:
        self._mask = mask

    def __contains__(self, raw: object) -> bool:
        return isinstance(raw, int) and bool(raw & self._mask)


def _rules(rules: Sequence[Rule], places: Mapping[str, int]) -> _Rules:
    return tuple((places[r.point], _Masked(r.mask) if r.mask else r.values, r.inside) for r in rules)


def _more(point: Point, places: Mapping[str, int]) -> _More | None:
    """Return the rules that make a point bad, those that make it uncertain, and its bits; None where it has none."""
    if not (point.bad_when or point.uncertain_when or point.bits):
        return None
    bits = tuple((name, 1 << i) for i, name in point.bits.items())
    return _rules(point.bad_when, places), _rules(point.uncertain_when, places), bits


def _limits(point: Point) -> tuple[float, float]:
    """Return between what a value must be to be plausible; finite."""
    low, high = point.range or (-math.inf, math.inf)
    return max(low, -sys.float_info.max), min(high, sys.float_info.max)


def _as_it_is(point: Point) -> bool:
    """Tell whether the number of the registers is the value, where it is within its limits."""
    return point.type in FLOATS and point.scale == 1.0 and point.offset == 0.0 and not point.nan and not point.symbols


def _converter(point: Point) -> _Converter:
    """Return what makes of a raw value the value in its unit; None is bad."""
    if point.type is RegType.STRING:
        return lambda raw: _text(raw, point.order)
    if point.type is RegType.BOOL:
        return lambda raw: raw != 0
    if point.symbols:
        return point.symbols.get
    scale = _scaler(point.scale)
    offset, sentinels = point.offset, frozenset(point.nan)
    low, high = _limits(point)

    # Invariant: what is not a plausible finite number is bad, never passed on (NaN is between no limits).
    def number(raw: float) -> float | None:
        if raw in sentinels:
            return None
        value = scale(raw) + offset
        return value if low <= value <= high else None

    def plain(raw: float) -> float | None:
        value = raw + offset
        return value if low <= value <= high else None

    return plain if scale is float and not sentinels and isinstance(offset, float) else number


def _text(raw: bytes, order: WordOrder) -> str | None:
    try:
        return str(decode(RegType.STRING, unpack(raw), order)) or None
    except CodecError:
        return None


def _scaler(scale: float) -> Callable[[float], float]:
    """Return raw to value; a scale such as 0.01 divides by 100, which gives the exact decimal."""
    if scale == 1.0:
        return float
    inverse = round(1 / scale)
    if inverse and abs(inverse * scale - 1) < 1e-12:
        return lambda raw: raw / inverse
    return lambda raw: raw * scale


def point_words(point: Point, value: float | bool | str) -> list[int]:
    """Return the registers that make `point` read `value` (in its unit, or a symbol); for simulators.

    Raises CodecError when the point cannot carry it.
    """
    raw: float | str = value
    if point.type is RegType.STRING:
        return encode(point.type, str(value), point.order, point.words)
    if point.symbols:
        raw = _raw_symbol(point.symbols, value, point.name)
    elif not isinstance(value, str) and point.type is not RegType.BOOL:
        raw = (value - point.offset) / point.scale
        raw = raw if point.type in FLOATS else round(raw)
    return encode(point.type, raw, point.order)


def _raw_symbol(symbols: Mapping[int, str], value: ArgValue, name: str) -> int:
    for raw, symbol in symbols.items():
        if value in (symbol, raw):
            return raw
    raise CodecError(f"{name} is one of {', '.join(symbols.values())}, got {value!r}")


def command_address(command: Command, args: Args) -> int:
    """Return where a command writes; raises ArgumentError for an index that is missing, no whole number, or outside."""
    addr = command.addr
    for index in command.index:
        value = args.get(index.arg)
        if value is None or isinstance(value, str) or not isinstance(value, (int, float)) or value != int(value):
            raise ArgumentError(f"{command.name}: {index.arg} must be a whole number, got {value!r}")
        if not index.first <= value <= index.last:
            limits = f"{index.first} to {index.last}"
            raise ArgumentError(f"{command.name}: {index.arg} {value:g} is outside {limits}")
        addr += (int(value) - index.first) * index.stride
    return addr


def encode_command(command: Command, args: Args, kept: Mapping[str, int] = _NONE_KEPT) -> list[int]:
    """Return the registers of the one write of `command`; `kept` are the words from which it keeps bits, by point.

    Raises ArgumentError for arguments that are missing, unknown, not finite or outside the limits of the profile.
    """
    if unknown := sorted(set(args) - set(command.args)):
        raise ArgumentError(f"{command.name} has no argument {', '.join(unknown)}")
    words: list[int] = []
    for slot in command.fields:
        words += _slot_words(slot, args, command.name, kept)
    if command.rows is not None:
        table = command.rows
        rows = args.get(table.arg)
        if rows is None or isinstance(rows, (str, float, int)):
            raise ArgumentError(f"{command.name} needs {table.arg}, a list of rows")
        if not 1 <= len(rows) <= table.max:
            raise ArgumentError(f"{command.name}: {len(rows)} rows; the device holds 1 to {table.max}")
        for number, row in enumerate(rows, 1):
            extra = sorted(set(row) - {slot.arg for slot in table.fields})
            if extra:
                raise ArgumentError(f"{command.name}: row {number} has no field {', '.join(extra)}")
            for slot in table.fields:
                words += _slot_words(slot, row, f"{command.name}: row {number}")
        words += [0] * (table.words * (table.max - len(rows)))
    return words


def _slot_words(slot: Slot, args: Args, where: str, kept: Mapping[str, int] = _NONE_KEPT) -> list[int]:
    if slot.keep:
        if slot.keep not in kept:
            raise ArgumentError(f"{where}: {slot.keep} is not known, of which bits have to stay")
        (word,) = _plain_words(slot, args, where)
        return [word | (kept[slot.keep] & slot.keep_mask)]
    return _plain_words(slot, args, where)


def _plain_words(slot: Slot, args: Args, where: str) -> list[int]:
    if slot.arg is None:
        return encode(slot.type, slot.value or 0, slot.order)
    value = args.get(slot.arg)
    if value is None or not isinstance(value, (str, float, int)):
        raise ArgumentError(f"{where}: {slot.arg} is missing")
    try:
        if slot.symbols:
            return encode(slot.type, _raw_symbol(slot.symbols, value, slot.arg), slot.order)
        return encode(slot.type, _raw_number(slot, value, where), slot.order)
    except CodecError as error:
        raise ArgumentError(f"{where}: {slot.arg}: {error}") from None


def _raw_number(slot: Slot, value: ArgValue, where: str) -> float:
    """Return the raw number of an argument within its limits; Invariant: nothing outside them is ever sent."""
    if isinstance(value, str) or not math.isfinite(value):
        raise ArgumentError(f"{where}: {slot.arg} must be a finite number of {slot.unit or 'no unit'}, got {value!r}")
    if (slot.min is not None and value < slot.min) or (slot.max is not None and value > slot.max):
        limits = f"{slot.min:g} to {slot.max:g} {slot.unit}".rstrip()
        given = f"{value:g} {slot.unit}".rstrip()
        raise ArgumentError(f"{where}: {slot.arg} {given} is outside {limits}")
    raw = value / slot.scale
    if slot.modulo is not None:
        return math.floor(raw + 1e-9) % slot.modulo
    if slot.type in FLOATS or (slot.unit == "" and slot.scale == 1.0):
        return raw  # a count that is not whole is refused by the codec, never rounded in silence
    return round(raw)


def wanted(command: Command, check: Check, args: Args) -> tuple[float | bool | str, ...]:
    """Return the values that satisfy a check, as the register would hold them (rounded to its resolution)."""
    if check.arg is None:
        return check.among
    slot = next(slot for slot in command.fields if slot.arg == check.arg and slot.modulo is None)
    raw = decode(slot.type, _plain_words(slot, args, command.name), slot.order)
    if slot.symbols:
        return (slot.symbols[int(raw)],)
    return (_scaler(slot.scale)(float(raw)),)


def holds(check: Check, values: Sequence[float | bool | str], reading: Reading | None) -> bool:
    """Tell whether a good reading is one of `values`, or none of them, numbers within the tolerance of the check."""
    if reading is None or reading.quality is not Quality.GOOD or reading.value is None:
        return False
    got = reading.value
    if isinstance(got, str):
        return (got in values) is check.inside
    found = any(not isinstance(value, str) and abs(got - value) <= check.tolerance for value in values)
    return found is check.inside


def serial_of(identity: Identity, registers: Sequence[int], found: Raw, order: WordOrder) -> str:
    """Return the serial number that stands beside an identity; `found` is part of it where nothing is expected."""
    parts = [] if identity.setting.expected else [str(found)]
    if identity.serial is not None:
        start = identity.serial.addr - identity.addr
        raw = registers[start : start + identity.serial.words]
        parts.append(str(decode(identity.serial.type, raw, order)))
    return " ".join(parts)
