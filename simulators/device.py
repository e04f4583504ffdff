"""A simulated instrument: a profile's registers, with getters behind its points and handlers behind its commands."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devices.profile_types import Command, Profile, Setting
from simulators.heard import Frame
from simulators.image import Bend, Getter, Image, Value, bent, blocks, settings

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
    """What power does to an instrument: it goes, it comes back, and the instrument is as new (counters, log).

    `trip` is what its own watchdog does; None where it has none.
    """

    off: Callable[[], None] = _nothing
    on: Callable[[], None] = _nothing
    new: Callable[[], None] = _nothing
    trip: Callable[[], None] | None = None


class Left:
    """Something that is there so many times more."""

    def __init__(self, times: int) -> None:
        self.times = times

    def take(self) -> bool:
        """Take one; False when there is none left."""
        if self.times <= 0:
            return False
        self.times -= 1
        return True


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
    What was written reads back where a readable block has no point (a program table).  A read that touches an atomic
    block and is not just that block is exception 2: makers forbid it (Hamilton), and what they answer is an open check.

    Writes by commands with a `storage` are counted in `stores`.  Past the life of that memory, or with a `worn` that
    has none left, they are acknowledged and the old value stays.  Where unlisted addresses are discarded, that is for
    FC16 alone, and one that touches a register which is there but not written so is an error (Eurotherm HA026230).

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
        self.worn: Left | None = None  # a fault: how many writes the memory that wears still takes
        self.stores: Counter[str] = Counter()  # command -> writes to memory that wears, over its whole life
        self.life = Life()
        self.boots = 1
        self._values = dict(values)
        self._bends: dict[str, tuple[Bend, ...]] = {}
        self._handlers = dict(commands)
        self._by_hand: dict[tuple[int, int], float] = {}  # asserted registers that somebody changed
        self._whole = [(b.fc, b.addr, b.count) for b in profile.blocks.values() if b.atomic]
        self._images: list[Image] = []
        self._build()
        frames = [Frame(command) for command in profile.commands.values()]
        self._frames = sorted(frames, key=lambda frame: -frame.fixed)
        self._indexed = [  # (reading function, address, words) of the places that indexed commands write to
            (READS_BACK[f.command.fc], place, f.command.words) for f in frames if f.command.index for place in f.places
        ]
        self._discards = profile.sim is not None and profile.sim.unlisted == "discard"
        self._undefined = profile.sim is not None and profile.sim.unlisted == "undefined"
        self._functions = {i.fc for i in self._images} | {f.command.fc for f in frames}
        self.written: dict[tuple[int, int], int] = {}  # what clients wrote: (reading function, address) -> word
        self._stored: set[tuple[int, int]] = set()  # of that, what a power cut does not take

    def read(self, fc: int, addr: int, count: int) -> list[int]:
        """Return `count` registers (or bits, each 0 or 1) of the table of function `fc` (1 to 4); raises ModbusFault.

        It looks from inside, also at a part of an atomic block.
        """
        return list(struct.unpack(f">{count}H", self._bytes(fc, addr, count, inside=True)))

    def read_bytes(self, fc: int, addr: int, count: int) -> bytes:
        """Return what is read over the wire, two bytes for each register or bit; raises ModbusFault."""
        if self.asked:
            self._tell_asked()
        return self._bytes(fc, addr, count)

    def _bytes(self, fc: int, addr: int, count: int, *, inside: bool = False) -> bytes:
        image = self._exact.get((fc, addr, count))
        if image is not None:
            return image.render(self.written)
        if fc not in self._functions:
            raise ModbusFault(ILLEGAL_FUNCTION)
        if not 1 <= count <= (MOST_BITS if fc in (1, 2) else MOST_REGISTERS):
            raise ModbusFault(ILLEGAL_VALUE)
        torn = (fc == b and addr < first + size and first < addr + count for b, first, size in self._whole)
        if not inside and any(torn):
            raise ModbusFault(ILLEGAL_ADDRESS)
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
        if fc not in self._functions and not (self._discards and fc == 16):
            raise ModbusFault(ILLEGAL_FUNCTION)
        fitting = [f for f in self._frames if f.command.fc == fc and addr in f.places and f.takes(len(values))]
        if not fitting:
            if self._discards and fc == 16 and not self._has(READS_BACK[fc], addr, len(values)):
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
                if not self._wears_out(frame.command):
                    self._handlers[frame.command.name](args)
                    words = {(READS_BACK[fc], addr + i): word for i, word in enumerate(values)}
                    self.written.update(words)
                    if frame.command.storage is not None:
                        self._stored.update(words)
                self._tell_asked()
                return
        raise ModbusFault(ILLEGAL_VALUE)

    def _has(self, fc: int, addr: int, count: int) -> bool:
        """Tell whether one of some addresses can be read."""
        return any(i.fc == fc and i.addr < addr + count and addr < i.addr + i.count for i in self._images)

    def _wears_out(self, command: Command) -> bool:
        """Count a write to memory that wears; tell whether it is lost because that is worn."""
        storage = command.storage
        if storage is None:
            return False
        self.stores[command.name] += 1
        spent = storage.life is not None and self.stores[command.name] > storage.life
        return spent or (self.worn is not None and not self.worn.take())

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
        return bent(self._values[point], self._bends.get(point, ()))()

    def do(self, command: str, args: Mapping[str, Any]) -> None:
        """Carry out a command as from the instrument's own panel; raises ModbusFault where it is refused."""
        self._handlers[command](args)

    def bend(self, point: str, *bends: Bend) -> None:
        """Let a point read what `bends`, one after the other, make of its value; without any, as it is."""
        self._bends[point] = bends
        self._build()

    def set_by_hand(self, setting: Setting, raw: float | None) -> None:
        """Let an asserted register, at which no point stands, hold another value; None: what the profile expects."""
        if raw is None:
            self._by_hand.pop((setting.fc, setting.addr), None)
        else:
            self._by_hand[setting.fc, setting.addr] = raw
        self._build()

    def power(self, on: bool) -> None:
        """Lose power, or start anew with it: what then is kept and lost is what the instrument's `life` does."""
        if not on:
            self.life.off()
            return
        for place in self.written.keys() - self._stored:
            del self.written[place]
        self.boots += 1
        self.life.on()

    def replace(self, serial: int | str) -> None:
        """Be another instrument of the same model: as new, with another serial number."""
        self.power(on=False)
        self.serial = serial
        self.power(on=True)
        self.boots = 1
        self.written.clear()
        self.stores.clear()
        self.life.new()
        self._build()

    def _build(self) -> None:
        """Lay out the registers; frozen ones stay so."""
        before = [image.frozen for image in self._images]
        values = self._values | {name: bent(self._values[name], bends) for name, bends in self._bends.items()}
        self._images = [*blocks(self.profile, values), *settings(self.profile, self.serial, self._by_hand)]
        for image, frozen in zip(self._images, before, strict=False):
            image.frozen = frozen
        self._exact = {(i.fc, i.addr, i.count): i for i in reversed(self._images)}


def _match(profile: Profile, what: str, given: Iterable[str], wanted: Iterable[str]) -> None:
    missing, unknown = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
    if missing or unknown:
        raise ValueError(f"simulated {profile.id}: no {what} for {missing}, and nothing in the profile for {unknown}")
