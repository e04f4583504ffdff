"""A compiled profile: what the drivers and the simulators hold in their hands.

Values are in canonical units (`devices.quantity`); times in milliseconds where the name says so; addresses are
those of the wire. Made by `devices.profile`, which has checked that the parts fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from devices.alarm import AlarmFields
from devices.codec import RegType, WordOrder
from devices.diagnosis import Sign
from devices.reading import Quality

TEXT = "text"  # the unit of a point that is a text, beside BOOL and SYMBOL of `devices.role`


@dataclass(frozen=True, slots=True)
class Rule:
    """It holds when (the raw value of `point` is one of `values`) is `inside`; with a `mask`, when that bit is set."""

    point: str
    values: frozenset[int]
    inside: bool
    mask: int = 0


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Quality of a point by another block: `quality` when (the reading of `other` is one of `values`) is `inside`."""

    point: str
    other: str
    values: frozenset[float | bool | str]
    inside: bool
    quality: Quality


@dataclass(frozen=True, slots=True)
class Point:
    """One value of an instrument: raw * scale + offset, in `unit`.

    `unit` is `bool`, `symbol` or `text` where the value is no number.
    """

    name: str
    block: str
    addr: int
    type: RegType
    words: int
    order: WordOrder
    unit: str
    scale: float
    offset: float
    symbols: Mapping[int, str]
    bits: Mapping[int, str]
    range: tuple[float, float] | None
    stale_ms: int
    nan: tuple[float, ...]
    bad_when: tuple[Rule, ...]
    alive: bool = False
    """It must be another value in reads 5 s apart; where it stands still, the readings of its block are stale."""
    uncertain_when: tuple[Rule, ...] = ()
    doc: str = ""
    frozen_s: float = 0.0
    """s after which a value that stands still to its last digit is stale; 0: it may."""
    slope: float = 0.0
    """What it can change by in a minute, in its unit; a leap makes it uncertain for a while. 0: anything."""


@dataclass(frozen=True, slots=True)
class Bit:
    """One named bit of a bits point; it gives a reading of its own, true or false."""

    name: str
    point: str
    index: int


@dataclass(frozen=True, slots=True)
class Block:
    """Registers read by one request; `scan` is fast, slow or demand (only when asked for by name).

    `first`: it tells of alarms, so on its bus it goes before data.
    """

    id: str
    fc: int
    addr: int
    count: int
    scan: str
    atomic: bool
    points: tuple[Point, ...]
    doc: str = ""
    first: bool = False


@dataclass(frozen=True, slots=True)
class Slot:
    """One value of a written frame: an argument (`arg`) or a fixed raw `value`; min and max in `unit`.

    With `modulo` it is a part of the argument; the bits of `keep_mask` come from the word that `keep` reads.
    """

    arg: str | None
    value: float | None
    type: RegType
    words: int
    order: WordOrder
    unit: str
    scale: float
    min: float | None
    max: float | None
    symbols: Mapping[int, str]
    modulo: int | None = None
    keep: str = ""
    keep_mask: int = 0


@dataclass(frozen=True, slots=True)
class Index:
    """An argument (whole, `first` to `last`) that moves a command's address, by `stride` each."""

    arg: str
    first: int
    last: int
    stride: int


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a table command: up to `max` rows of `words` registers each; the rest is written as zeros."""

    arg: str
    max: int
    fields: tuple[Slot, ...]
    words: int


@dataclass(frozen=True, slots=True)
class Check:
    """What `point` must read after a command: the argument `arg`, or one of `among`; none of them if not `inside`."""

    point: str
    arg: str | None
    among: tuple[float | bool | str, ...]
    tolerance: float
    inside: bool = True

    @property
    def wish(self) -> str:
        """What is wanted of the value, for a person."""
        values = (f"{v:g}" if isinstance(v, float) else str(v).lower() for v in self.among)
        return f"{'' if self.inside else 'anything but '}{' or '.join(values)}"


@dataclass(frozen=True, slots=True)
class Verify:
    """The read-back of a command: `blocks` are read until all checks hold; `reason` says why there is none."""

    within_ms: int
    checks: tuple[Check, ...]
    echo: str | None
    blocks: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Storage:
    """Memory that wears: most writes a day, and in the life of the instrument; None where it is not known."""

    per_day: int | None
    life: int | None


@dataclass(frozen=True, slots=True)
class Command:
    """One action: one request of `words` registers from `addr`, and its read-back.

    `storage` is None where the value is volatile; `requires` must read so before it is sent; `after_s` is the least
    time since another command, by its name.  Times in s.
    """

    name: str
    fc: int
    addr: int
    words: int
    fields: tuple[Slot, ...]
    rows: Table | None
    idempotent: bool
    verify: Verify
    index: tuple[Index, ...] = ()
    storage: Storage | None = None
    only_on_change: bool = False
    min_interval_s: float = 0.0
    delay_s: float = 0.0
    requires: tuple[Check, ...] = ()
    doc: str = ""
    after_s: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def args(self) -> tuple[str, ...]:
        """The names of its arguments, each once, in the order in which they are written."""
        named = [index.arg for index in self.index] + [slot.arg for slot in self.fields if slot.arg]
        return tuple(dict.fromkeys(named + ([self.rows.arg] if self.rows else [])))


@dataclass(frozen=True, slots=True)
class Watchdog:
    """What an instrument does by itself when nobody feeds it.

    `command` has the one argument `arg`, in s: written with `timeout_s` it arms the watchdog, written again in time it
    feeds it, written with 0 it disarms it (so it is after power-up).  Feed each `period_s`.  When `timeout_s` passed
    without that, the instrument does `action` and disarms itself; `tripped` (a bit or a bool point) then reads true
    until it is armed again or disarmed.  `armed` is the point with the time (s) it is armed with, 0 when it is not.
    """

    command: str
    arg: str
    timeout_s: float
    period_s: float
    action: str
    armed: str
    tripped: str


@dataclass(frozen=True, slots=True)
class Silence:
    """What shows, after `within_s` without a request, that an instrument has noticed that its host is gone.

    The points `safe` read true then, and the outputs `opened` false.
    """

    within_s: float
    safe: tuple[str, ...]
    opened: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """A value that must stand at `addr`: one of `among`, a text that begins with `starts`; anything where neither is.

    `why` is for the person.
    """

    fc: int
    addr: int
    type: RegType
    words: int
    among: tuple[float, ...]
    why: str
    order: WordOrder = WordOrder.ABCD
    starts: str = ""
    doc: str = ""

    @property
    def expected(self) -> str:
        """What is expected, for a person; "" where anything will do."""
        return f"{self.starts}..." if self.starts else " or ".join(f"{value:g}" for value in self.among)

    def holds(self, value: float | str) -> bool:
        """Tell whether a raw value is as it must be."""
        if self.starts:
            return str(value).startswith(self.starts)
        return not self.among or value in self.among


@dataclass(frozen=True, slots=True)
class Serial:
    """Where the serial number stands."""

    addr: int
    type: RegType
    words: int


@dataclass(frozen=True, slots=True)
class Identity:
    """How to know the model; one request of `count` registers from `addr` holds identity and serial number."""

    fc: int
    addr: int
    count: int
    setting: Setting
    serial: Serial | None


@dataclass(frozen=True, slots=True)
class Deny:
    """Registers from `first` to `last` that no command may touch."""

    first: int
    last: int
    why: str


@dataclass(frozen=True, slots=True)
class Factory:
    """How the instrument is reached as it comes from its maker; 0 and "" where it has no such interface."""

    port: int
    tcp_unit: int
    baud: int
    format: str
    rtu_unit: int


@dataclass(frozen=True, slots=True)
class Sim:
    """What the simulator needs beyond the map: physics, what points read of which that knows nothing, and manners."""

    model: str
    values: Mapping[str, str] = field(default_factory=dict[str, str])
    latency_s: tuple[float, float] = (0.0, 0.0)
    unlisted: str = "exception"


@dataclass(frozen=True, slots=True)
class Profile:
    """A checked and compiled profile. `bits` are the named bits of all bits points; `sha256` is of the file."""

    id: str
    version: int
    role: str
    maker: str
    model: str
    evidence: str
    sources: tuple[str, ...]
    order: WordOrder
    offline_after: int
    max_read: int
    max_write: int
    identity: Identity | None
    asserts: tuple[Setting, ...]
    blocks: Mapping[str, Block]
    points: Mapping[str, Point]
    bits: Mapping[str, Bit]
    commands: Mapping[str, Command]
    safe_command: str | None
    on_comm_loss: str
    watchdog: Watchdog | None
    after_power_loss: Mapping[str, str]  # part -> kept, lost, defaults, ..: for people, and done by the simulator
    sim: Sim | None
    sha256: str = field(repr=False)
    kinds: tuple[str, ...] = ("tcp",)
    gap_s: float = 0.0
    pause_after_connect_s: float = 0.0
    factory: Factory | None = None
    deny: tuple[Deny, ...] = ()
    elsewhere: tuple[Elsewhere, ...] = ()
    open_checks: tuple[str, ...] = ()
    on_connect: tuple[str, ...] = ()  # commands sent on each new connection, with the values that the site gives
    at_commissioning: Mapping[str, str] = field(default_factory=dict[str, str])  # point that a site expects -> why
    silence: Silence | None = None  # what shows that it has noticed that its host is gone
    alarms: Mapping[str, AlarmFields] = field(default_factory=dict[str, AlarmFields])  # on its own points
    counter: bool = True  # of a pump: it counts what it moved; without that its doses are closed by mass alone
    ne107: tuple[Sign, ...] = ()  # what its bits and symbols say of itself

    def denial(self, addr: int, words: int) -> str:
        """Return why `words` registers (or coils) from `addr` must not be written, "" where they may be."""
        for deny in self.deny:
            if addr <= deny.last and addr + words - 1 >= deny.first:
                return f"it writes denied registers ({deny.first} to {deny.last}): {deny.why}"
        return ""
