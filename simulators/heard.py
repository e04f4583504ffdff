"""Commands as they come over the wire to a simulated instrument, and what they say."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

from devices.codec import RegType, format_of, reorder
from devices.profile_types import Command, Slot


class Frame:
    """One command as it comes over the wire."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.fixed = sum(slot.value is not None for slot in command.fields)
        self._head = sum(slot.words for slot in command.fields)
        self.places: dict[int, dict[str, int]] = {command.addr: {}}  # address -> what its index says
        for index in command.index:
            self.places = {
                addr + (i - index.first) * index.stride: {**there, index.arg: i}
                for addr, there in self.places.items()
                for i in range(index.first, index.last + 1)
            }

    def takes(self, words: int) -> bool:
        """Tell whether a frame of so many words can be this command."""
        table, rows = words - self._head, self.command.rows
        if rows is None:
            return table == 0
        return 0 < table <= rows.max * rows.words and table % rows.words == 0

    def decode(self, data: bytes, addr: int) -> dict[str, Any] | None:
        """Return the arguments, or None when a fixed value or a limit does not fit."""
        args = _decode(self.command.fields, data)
        rows = self.command.rows
        if args is None or rows is None:
            return args if args is None else {**self.places[addr], **args}
        lines = [data[at : at + 2 * rows.words] for at in range(2 * self._head, len(data), 2 * rows.words)]
        while lines and not any(lines[-1]):
            lines.pop()
        table = [_decode(rows.fields, line) for line in lines]
        return None if None in table else {**args, rows.arg: table}


def _decode(slots: Sequence[Slot], data: bytes) -> dict[str, Any] | None:
    args: dict[str, Any] = {}
    at = 0
    for slot in slots:
        size = 2 * slot.words
        (raw,) = struct.unpack(f">{format_of(slot.type)}", reorder(data[at : at + size], slot.order))
        at += size
        if slot.keep_mask:
            raw &= ~slot.keep_mask
        if slot.arg is None:
            if raw != slot.value:
                return None
            continue
        if slot.modulo is not None or slot.arg in args:  # parts of one time
            if slot.modulo is not None and raw >= slot.modulo:
                return None
            args[slot.arg] = args.get(slot.arg, 0.0) + raw * slot.scale
            continue
        value = _checked(slot, raw)
        if value is None:
            return None
        args[slot.arg] = value
    return args


def _checked(slot: Slot, raw: float) -> float | bool | str | None:
    """Return the value of an argument in its unit, or None when it is not allowed."""
    if slot.symbols:
        return slot.symbols.get(int(raw))
    if slot.type is RegType.BOOL:
        return bool(raw) if raw in (0, 1) else None
    value = raw
    if slot.scale != 1.0:  # a scale of 0.01 is a division by 100, which gives the exact decimal
        steps = round(1.0 / slot.scale)
        value = raw / steps if steps and math.isclose(steps * slot.scale, 1.0) else raw * slot.scale
    slack = 1e-6 * abs(value)  # float32 on the wire: a limit must not fail on its own rounding
    low, high = slot.min, slot.max
    inside = math.isfinite(value) and (low is None or value >= low - slack) and (high is None or value <= high + slack)
    return value if inside else None
