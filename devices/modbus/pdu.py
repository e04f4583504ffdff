"""What is the same on every Modbus wire: function code and data of a request, what its reply must say, what fails."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

EXCEPTION_TEXTS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledged, still working on it",
    6: "device busy",
    7: "negative acknowledge",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway: the device did not answer",
}


class BusError(Exception):
    """A request that brought no usable reply."""


class NotSentError(BusError):
    """The device cannot have seen the request."""


class GaveWayError(NotSentError):
    """It was taken from the queue for a stop: nothing is the matter with the device."""


class NoReplyError(BusError):
    """The request was sent and no reply came: its effect is unknown."""


class BadReplyError(BusError):
    """The request was sent and the reply does not belong to it: its effect is unknown."""


class ExceptionReplyError(BusError):
    """The device, or a gateway before it, answered with a Modbus exception."""

    def __init__(self, code: int) -> None:
        super().__init__(f"Modbus exception {code}: {EXCEPTION_TEXTS.get(code, 'not a code of the standard')}")
        self.code = code


@dataclass(slots=True)  # not frozen: that costs a microsecond for each request
class Ask:
    """One request: `count` registers (or coils) to read from `addr`, or `words` to write there."""

    unit: int
    fc: int
    addr: int
    count: int
    words: Sequence[int] = ()


Deliver = Callable[[list[int]], None]
"""Takes the checked registers of a reply."""


def nobody(registers: list[int]) -> None:
    """Take registers for which nobody waits."""


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


def reply_size(ask: Ask, fc: int) -> int:
    """Return the size (bytes) of the right reply from its function code `fc` on, without checksum."""
    if fc & 0x80:
        return 2
    if ask.fc in (3, 4):
        return 2 + 2 * ask.count
    if ask.fc in (1, 2):
        return 2 + (ask.count + 7) // 8
    return 5


def contradiction(ask: Ask, pdu: bytes) -> str:
    """Tell where a whole reply (from its function code on) of the right size contradicts its request; "" if nowhere."""
    if pdu[0] & 0x80:
        return ""
    if ask.fc <= 4:
        return "" if pdu[1] == len(pdu) - 2 else f"byte count {pdu[1]} instead of {len(pdu) - 2}"
    if int.from_bytes(pdu[1:3], "big") != ask.addr:
        return f"the reply names address {int.from_bytes(pdu[1:3], 'big')} instead of {ask.addr}"
    echo = int.from_bytes(pdu[3:5], "big")
    if ask.fc in (15, 16):
        return "" if echo == len(ask.words) else f"the reply confirms {echo} values instead of {len(ask.words)}"
    value = ask.words[0] if ask.fc == 6 else 0xFF00 if ask.words[0] else 0
    return "" if echo == value else f"the reply confirms the value {echo} instead of {value}"


def _bits(words: Sequence[int]) -> bytes:
    """Return one byte for each eight coils, the first coil lowest."""
    number = sum(1 << i for i, word in enumerate(words) if word)
    return number.to_bytes((len(words) + 7) // 8, "little")
