"""Values to Modbus registers and back: the types, the word orders, nothing else.

A register is 16 bits, sent high byte first. A value of several registers has a *word order*, written as the
order in which its bytes A B C D (A highest) come over the wire: ABCD (plain), CDAB (words swapped), BADC
(bytes of each word swapped), DCBA (both). For 64 bits the same rules hold over four words.
Shared by the drivers and by the simulators, so that one cannot disagree with the other in silence.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from enum import StrEnum

Raw = int | float | str


class CodecError(ValueError):
    """A value that cannot be carried by its register type."""


class RegType(StrEnum):
    """What a run of registers means."""

    BOOL = "bool"
    UINT16 = "uint16"
    INT16 = "int16"
    UINT32 = "uint32"
    INT32 = "int32"
    UINT64 = "uint64"
    INT64 = "int64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    BITS16 = "bits16"
    BITS32 = "bits32"
    STRING = "string"


class WordOrder(StrEnum):
    """Order of the bytes of a value on the wire."""

    ABCD = "ABCD"
    CDAB = "CDAB"
    BADC = "BADC"
    DCBA = "DCBA"


_FORMATS: dict[RegType, str] = {
    RegType.BOOL: "H",
    RegType.UINT16: "H",
    RegType.INT16: "h",
    RegType.UINT32: "I",
    RegType.INT32: "i",
    RegType.UINT64: "Q",
    RegType.INT64: "q",
    RegType.FLOAT32: "f",
    RegType.FLOAT64: "d",
    RegType.BITS16: "H",
    RegType.BITS32: "I",
}

FLOATS = frozenset({RegType.FLOAT32, RegType.FLOAT64})
BITS = frozenset({RegType.BITS16, RegType.BITS32})


def format_of(kind: RegType) -> str:
    """Return the `struct` letter of a numeric type (to be used with `>`); raises KeyError for strings."""
    return _FORMATS[kind]


def words_of(kind: RegType, length: int = 0) -> int:
    """Return how many registers a value takes; `length` is the number of registers of a string."""
    if kind is RegType.STRING:
        return length
    return struct.calcsize(">" + _FORMATS[kind]) // 2


def reorder(data: bytes, order: WordOrder) -> bytes:
    """Turn bytes of one value from `order` into ABCD, or back: each order is its own inverse."""
    if order in (WordOrder.BADC, WordOrder.DCBA):
        data = b"".join(data[i + 1 : i + 2] + data[i : i + 1] for i in range(0, len(data), 2))
    if order in (WordOrder.CDAB, WordOrder.DCBA):
        data = b"".join(data[i : i + 2] for i in range(len(data) - 2, -1, -2))
    return data


def pack(words: Sequence[int]) -> bytes:
    """Return registers as the bytes of the wire."""
    return struct.pack(f">{len(words)}H", *words)


def unpack(data: bytes) -> list[int]:
    """Return the bytes of the wire as registers."""
    return list(struct.unpack(f">{len(data) // 2}H", data))


def decode(kind: RegType, words: Sequence[int], order: WordOrder = WordOrder.ABCD) -> Raw:
    """Return the raw value of exactly the registers of one value.

    bool gives 0 or 1 (any register that is not 0 counts as 1). Strings are ASCII, cut at the first NUL, spaces
    at the end removed; in a string the word order says only whether the two bytes of each register are swapped.
    Raises CodecError for a wrong number of registers or a string that is not ASCII.
    """
    if kind is RegType.STRING:
        swap = WordOrder.BADC if order in (WordOrder.BADC, WordOrder.DCBA) else WordOrder.ABCD
        text = reorder(pack(words), swap).split(b"\0", 1)[0]
        try:
            return text.decode("ascii").rstrip()
        except UnicodeDecodeError:
            raise CodecError(f"the registers hold {text!r}, which is not ASCII text") from None
    if len(words) != words_of(kind):
        raise CodecError(f"{kind} takes {words_of(kind)} registers, got {len(words)}")
    value: int | float = struct.unpack(">" + _FORMATS[kind], reorder(pack(words), order))[0]
    return int(value != 0) if kind is RegType.BOOL else value


def encode(kind: RegType, value: Raw, order: WordOrder = WordOrder.ABCD, length: int = 0) -> list[int]:
    """Return the registers of a raw value.

    Integer types want a whole number (a float that is whole will do). Raises CodecError when the value does
    not fit the type, is not finite, or is no number.
    """
    if kind is RegType.STRING:
        return _encode_text(value, order, length)
    if isinstance(value, str):
        raise CodecError(f"{kind} takes a number, got the text {value!r}")
    if kind is RegType.BOOL:
        return [int(value != 0)]
    if not math.isfinite(value):
        raise CodecError(f"{kind} takes a finite number, got {value}")
    number: int | float = value
    if kind not in FLOATS:
        if value != int(value):
            raise CodecError(f"{kind} takes a whole number, got {value}")
        number = int(value)
    try:
        data = struct.pack(">" + _FORMATS[kind], number)
    except (struct.error, OverflowError):
        raise CodecError(f"{value} does not fit {kind}") from None
    return unpack(reorder(data, order))


def _encode_text(value: Raw, order: WordOrder, length: int) -> list[int]:
    """Return the registers of a text, filled up with NUL."""
    try:
        data = str(value).encode("ascii")
    except UnicodeEncodeError:
        raise CodecError(f"{value!r} is not ASCII text") from None
    if len(data) > 2 * length:
        raise CodecError(f"{value!r} is longer than {2 * length} characters")
    swap = WordOrder.BADC if order in (WordOrder.BADC, WordOrder.DCBA) else WordOrder.ABCD
    return unpack(reorder(data.ljust(2 * length, b"\0"), swap))
