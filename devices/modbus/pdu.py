"""What is the same on every Modbus wire: function code and data of a request, and what its reply must say."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from devices.modbus.link import Ask, ExceptionReplyError

_HEAD = struct.Struct(">BHH")  # function code, address, count or value
_EXCEPTION = 0x80


def encode(ask: Ask) -> bytes:
    """Return a request without unit, header or checksum; raises ValueError for a function code that we do not use."""
    if ask.fc not in (1, 2, 3, 4, 5, 6, 15, 16):
        raise ValueError(f"function code {ask.fc} is not one of 1 to 6, 15, 16")
    if ask.fc <= 4:
        return _HEAD.pack(ask.fc, ask.addr, ask.count)
    if ask.fc == 5:
        return _HEAD.pack(5, ask.addr, 0xFF00 if ask.words[0] else 0)
    if ask.fc == 6:
        return _HEAD.pack(6, ask.addr, ask.words[0])
    data = _bits(ask.words) if ask.fc == 15 else struct.pack(f">{len(ask.words)}H", *ask.words)
    return _HEAD.pack(ask.fc, ask.addr, len(ask.words)) + bytes((len(data),)) + data


def decode(ask: Ask, pdu: bytes) -> list[int]:
    """Return the registers (coils as 0 and 1) of a checked reply, [] for a write; raises ExceptionReplyError."""
    function = pdu[0]
    if function & _EXCEPTION:
        raise ExceptionReplyError(pdu[1])
    if function > 4:
        return []
    if function > 2:
        return list(struct.unpack_from(f">{ask.count}H", pdu, 2))
    return [pdu[2 + i // 8] >> i % 8 & 1 for i in range(ask.count)]


def _bits(words: Sequence[int]) -> bytes:
    """Return one byte for each eight coils, the first coil lowest."""
    number = sum(1 << i for i, word in enumerate(words) if word)
    return number.to_bytes((len(words) + 7) // 8, "little")
