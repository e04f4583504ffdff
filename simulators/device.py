"""A simulated instrument: a profile's registers, with getters behind its points and handlers behind its commands."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devices.codec import FLOATS, RegType, WordOrder, encode, format_of, reorder
from devices.profile_types import Command, Point, Profile, Setting, Slot

Value = float | bool | str | Iterable[str] | None
Getter = Callable[[], Value]
Bend = Callable[[Value], Value]
Handler = Callable[[Mapping[str, Any]], None]

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, DEVICE_FAILURE, NO_RESPONSE = 1, 2, 3, 4, 0x0B
MOST_BITS, MOST_REGISTERS = 2000, 125  # of one read, by the protocol
MEANINGLESS = b"\x5a\xa5"  # what an instrument reads that gives no exception for an address that it has not
READS_BACK = {5: 1, 15: 1, 6: 3, 16: 3}  # write function -> function that reads the same table


class ModbusFault(Exception):
    """The device refuses a request, with a Modbus exception code."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"Modbus exception {code:#04x}")


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Life:
    """What power does to an instrument: it goes, it comes back, and the instrument is as new (counters, log)."""

    off: Callable[[], None] = _nothing
    on: Callable[[], None] = _nothing
    new: Callable[[], None] = _nothing


@dataclass(frozen=True, slots=True)
class StandIn:
    """The parts that stand in for one instrument of the suite, and where its points are found among them."""

    devices: tuple[SimDevice, ...]
    points: Mapping[str, tuple[SimDevice, str]]


class SimDevice:
    """One instrument that answers as its profile says.

    - `values`: one getter for each point of the profile, by the point's name; called at each read, so it must be cheap
      and change nothing.  It returns the value in the unit of the point: a number, a bool, for a point with symbols the
      symbol's text, for a bits point an int or the names of the bits that are set, or None for "no value" (the point's
      first `nan`, else NaN in a float).  Whole numbers roll over as the register does, so a totaliser may count on.
      Identity and asserted registers need no getter: they are served as the profile expects them, with `serial`.
    - `commands`: one handler for each command of the profile, by its name.  It gets the decoded arguments by name:
      numbers in the unit of the field (int where the registers hold one and no scale is given), symbols as text, bool
      for `bool`; a table as `{arg: [{field: value}, ...]}` without the zero rows at its end.  What a handler accepts
      has happened when it returns.  It may raise `ModbusFault(code)`; to ignore a request (a repeated sequence number)
      it just returns.

    The device itself enforces the profile's limits (exception 3); an unlisted address is exception 2, a function that
    it has nowhere exception 1.  Of several commands at one address, the one whose fixed values fit the frame is meant.
    What was written reads back where a readable block has no point (a program table).

    Raises ValueError when getters or handlers do not match the profile, or points overlap.
    """

    def __init__(
        self,
        profile: Profile,
        values: Mapping[str, Getter],
        commands: Mapping[str, Handler],
        *,
        serial: int | str = 0,
    ) -> None:
        _match(profile, "getter", values.keys(), profile.points.keys())
        _match(profile, "handler", commands.keys(), profile.commands.keys())
        self.profile = profile
        self.heard: list[Callable[[str, Mapping[str, Any]], None]] = []  # told of each command, just before it is done
        self.asked: list[Callable[[], None]] = []  # told of each request, for what watches its host
        self.serial = serial
        self.deaf = False  # a fault: writes are acknowledged and ignored
        self.life = Life()
        self.boots = 1
        self._values = dict(values)
        self._bends: dict[str, tuple[Bend, ...]] = {}
        self._handlers = dict(commands)
        self._images: list[_Image] = []
        self._build()
        frames = [_Frame(command) for command in profile.commands.values()]
        self._frames = sorted(frames, key=lambda frame: -frame.fixed)
        self._indexed = [  # (reading function, address, words) of the places that indexed commands write to
            (READS_BACK[f.command.fc], place, f.command.words) for f in frames if f.command.index for place in f.places
        ]
        self._discards = profile.sim is not None and profile.sim.unlisted == "discard"
        self._undefined = profile.sim is not None and profile.sim.unlisted == "undefined"
        self._functions = {i.fc for i in self._images} | {f.command.fc for f in frames}
        self.written: dict[tuple[int, int], int] = {}  # what clients wrote: (reading function, address) -> word

    def read(self, fc: int, addr: int, count: int) -> list[int]:
        """Return `count` registers (or bits, each 0 or 1) as function `fc` (1 to 4) reads them; raises ModbusFault."""
        return list(struct.unpack(f">{count}H", self.read_bytes(fc, addr, count)))

    def read_bytes(self, fc: int, addr: int, count: int) -> bytes:
        """Return what `read` does as bytes of the wire, two for each register or bit; raises ModbusFault."""
        if self.asked:
            self._tell_asked()
        image = self._exact.get((fc, addr, count))
        if image is not None:
            return image.render(self.written)
        if fc not in self._functions:
            raise ModbusFault(ILLEGAL_FUNCTION)
        if not 1 <= count <= (MOST_BITS if fc in (1, 2) else MOST_REGISTERS):
            raise ModbusFault(ILLEGAL_VALUE)
        words: dict[int, bytes] = {}
        for table, place, size in self._indexed:
            if table == fc and place < addr + count and addr < place + size:
                words.update((a, struct.pack(">H", self.written.get((fc, a), 0))) for a in range(place, place + size))
        for part in self._images:
            if part.fc == fc and part.addr < addr + count and addr < part.addr + part.count:
                data = part.render(self.written)
                words.update((part.addr + i, data[2 * i : 2 * i + 2]) for i in range(part.count))
        wanted = range(addr, addr + count)
        if any(address not in words for address in wanted) and not (self._undefined or self._discards):
            raise ModbusFault(ILLEGAL_ADDRESS)
        return b"".join(words.get(address, MEANINGLESS) for address in wanted)

    def write(self, fc: int, addr: int, values: Sequence[int]) -> None:
        """Carry out a write by function `fc` (5, 6, 15, 16; bits as 0 or 1); raises ModbusFault."""
        if fc not in self._functions:
            raise ModbusFault(ILLEGAL_FUNCTION)
        fitting = [f for f in self._frames if f.command.fc == fc and addr in f.places and f.takes(len(values))]
        if not fitting:
            if self._discards:
                return
            raise ModbusFault(ILLEGAL_ADDRESS)
        data = struct.pack(f">{len(values)}H", *values)
        for frame in fitting:
            args = frame.decode(data, addr)
            if args is not None and self.deaf:
                return
            if args is not None:
                for hear in self.heard:
                    hear(frame.command.name, args)
                self._handlers[frame.command.name](args)
                self.written.update(((READS_BACK[fc], addr + i), word) for i, word in enumerate(values))
                self._tell_asked()
                return
        raise ModbusFault(ILLEGAL_VALUE)

    def _tell_asked(self) -> None:
        for tell in self.asked:
            tell()

    @property
    def frozen(self) -> bool:
        """Whether reads show the registers of an earlier moment."""
        return any(image.frozen is not None for image in self._images)

    def freeze(self, frozen: bool) -> None:
        """Let every read show the registers as they are now, until this is called with False."""
        if frozen is self.frozen:
            return
        for image in self._images:
            image.frozen = image.render(self.written) if frozen else None

    def reads(self, point: str) -> Value:
        """Return what a point reads now, in its unit."""
        return _bent(self._values[point], self._bends.get(point, ()))()

    def do(self, command: str, args: Mapping[str, Any]) -> None:
        """Carry out a command as from the instrument's own panel; raises ModbusFault where it is refused."""
        self._handlers[command](args)

    def bend(self, point: str, *bends: Bend) -> None:
        """Let a point read what `bends`, one after the other, make of its value; without any, as it is."""
        self._bends[point] = bends
        self._build()

    def power(self, on: bool) -> None:
        """Lose power, or start anew with it: what then is kept and lost is what the instrument's `life` does."""
        if not on:
            self.life.off()
            return
        self.written.clear()
        self.boots += 1
        self.life.on()

    def replace(self, serial: int | str) -> None:
        """Be another instrument of the same model: as new, with another serial number."""
        self.power(on=False)
        self.serial = serial
        self.power(on=True)
        self.boots = 1
        self.life.new()
        self._build()

    def _build(self) -> None:
        """Lay out the registers; frozen ones stay so."""
        before = [image.frozen for image in self._images]
        values = self._values | {name: _bent(self._values[name], bends) for name, bends in self._bends.items()}
        self._images = [*_blocks(self.profile, values), *_settings(self.profile, self.serial)]
        for image, frozen in zip(self._images, before, strict=False):
            image.frozen = frozen
        self._exact = {(i.fc, i.addr, i.count): i for i in reversed(self._images)}


class _Image:
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


def _blocks(profile: Profile, values: Mapping[str, Getter]) -> list[_Image]:
    images: list[_Image] = []
    for block in profile.blocks.values():
        points = sorted(block.points, key=lambda point: point.addr)
        cells = [_Cell(p.addr, p.type, p.words, p.order, _encoder(p, values[p.name])) for p in points]
        images.append(_Image(block.fc, block.addr, block.count, cells))
    return images


def _settings(profile: Profile, serial: int | str) -> list[_Image]:
    """Return the identity and the asserted registers, as the profile expects them."""
    taken = {(b.fc, a) for b in profile.blocks.values() for p in b.points for a in range(p.addr, p.addr + p.words)}
    images = [_Image(s.fc, s.addr, s.words, [_constant(s)]) for s in profile.asserts if (s.fc, s.addr) not in taken]
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
        images.append(_Image(identity.fc, identity.addr, identity.count, cells))
    return images


def _fitting(serial: int | str, kind: RegType, words: int) -> int | str:
    """Return a serial number as its registers can hold it."""
    if kind is RegType.STRING:
        return str(serial)
    return int(serial) % (1 << 16 * words) if str(serial).isdigit() else 0


def _constant(setting: Setting, serial: int | str = 0) -> _Cell:
    """Return what an identity or an asserted register must hold; where anything will do, the serial number."""
    if setting.type is RegType.STRING:
        text = setting.starts.encode("ascii")[: 2 * setting.words]
        return _Cell(setting.addr, setting.type, setting.words, setting.order, lambda: text)
    expected = setting.among[0] if setting.among else float(_fitting(serial, setting.type, setting.words))
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


def _bent(getter: Getter, bends: Sequence[Bend]) -> Getter:
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


class _Frame:
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


def _match(profile: Profile, what: str, given: Iterable[str], wanted: Iterable[str]) -> None:
    missing, unknown = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
    if missing or unknown:
        raise ValueError(f"simulated {profile.id}: no {what} for {missing}, and nothing in the profile for {unknown}")
