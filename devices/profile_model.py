"""The shape of a profile file: one YAML document for each instrument model, read by driver and simulator alike.

These models only say which keys exist and how their text is typed; `devices.profile` checks what they mean
together and compiles them. Addresses are wire addresses (from 0), never the 4xxxx notation.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from devices.alarm import AlarmFields, AlarmId
from devices.codec import RegType, WordOrder
from devices.profile_fields import (
    Address,
    BitIndex,
    Evidence,
    Flag,
    Integer,
    Milliseconds,
    Name,
    Number,
    Pause,
    ReadCode,
    Seconds,
    UnitId,
    WriteCode,
    integer,
    number,
)
from devices.profile_ne107 import Ne107Model


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HeaderModel(_Strict):
    """Who made the instrument, and how far the file may be trusted."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]*$", max_length=64)]
    version: Annotated[int, BeforeValidator(integer), Field(ge=1)]
    role: Name
    maker: str
    model: str
    evidence: Evidence
    sources: Annotated[list[str], Field(min_length=1)]
    open_checks: list[str] = Field(default_factory=list[str])


class TcpModel(_Strict):
    """Where the instrument listens as it comes from its maker."""

    port: Annotated[int, BeforeValidator(integer), Field(ge=1, le=65535)] = 502
    unit: UnitId = 1


class RtuModel(_Strict):
    """How the instrument speaks on a serial line as it comes from its maker."""

    baud: Annotated[int, BeforeValidator(integer), Field(ge=1200, le=921_600)]
    format: Annotated[str, Field(pattern=r"^[78][NEO][12]$")]
    unit: UnitId = 1


class TransportModel(_Strict):
    """How the instrument is reached, and after how many failures in a row it counts as gone.

    `gap_ms` is the least time from the end of one request to it until the next.  The time-out belongs to the bus (site
    file): it must exceed that of a gateway and its queue.
    """

    kinds: Annotated[list[Literal["tcp", "rtu"]], Field(min_length=1)]
    offline_after: Annotated[int, BeforeValidator(integer), Field(ge=1, le=100)] = 3
    gap_ms: Pause = 0
    pause_after_connect_ms: Pause = 0
    tcp: TcpModel | None = None
    rtu: RtuModel | None = None


class CodecModel(_Strict):
    """How values of several registers are ordered."""

    word_order: WordOrder = WordOrder.ABCD


class LimitsModel(_Strict):
    """Most registers in one request; the protocol allows 125 to read and 123 to write."""

    max_read: Annotated[int, BeforeValidator(integer), Field(ge=1, le=125)] = 125
    max_write: Annotated[int, BeforeValidator(integer), Field(ge=1, le=123)] = 123


class SerialModel(_Strict):
    """Where the serial number of the one unit stands, in the same registers as the identity."""

    addr: Address
    type: RegType
    length: Annotated[int, BeforeValidator(integer), Field(ge=0, le=32)] = 0


class IdentityModel(_Strict):
    """A register that tells the model: read at every connect; another value means the wrong instrument.

    A number must be `expect`, a text begins with `starts`; without either what is read is part of the serial number.
    """

    fc: ReadCode
    addr: Address
    type: RegType
    length: Annotated[int, BeforeValidator(integer), Field(ge=0, le=32)] = 0
    word_order: WordOrder | None = None
    expect: Integer | None = None
    starts: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    serial: SerialModel | None = None
    doc: str = ""


class AssertModel(_Strict):
    """A setting that must stand as the profile assumes: read at connect and every hour."""

    fc: ReadCode
    addr: Address
    type: RegType
    word_order: WordOrder | None = None
    equals: Number | None = None
    among: Annotated[list[Number] | None, Field(alias="in")] = None
    why: str
    doc: str = ""


class BlockModel(_Strict):
    """Registers read by one request. `demand` blocks are read only when asked for by name.

    What tells of alarms is read `first`: it goes before the data of all units of its bus.
    """

    fc: ReadCode
    addr: Address
    count: Annotated[int, BeforeValidator(integer), Field(ge=1, le=2000)]
    scan: Literal["fast", "slow", "demand"]
    atomic: Flag = False
    first: Flag = False
    doc: str = ""


class QualityRuleModel(_Strict):
    """The value is bad, or uncertain, when the raw value of another point is (not) one of these, or a bit is set.

    Where the other point stands in another block, its latest good reading decides; without one the value is uncertain.
    """

    point: Name | None = None
    bit: Name | None = None
    among: Annotated[list[Integer] | None, Field(alias="in")] = None
    not_in: list[Integer] | None = None


class ExampleModel(_Strict):
    """What the manual gives as an example: registers, and what they read in the unit of the point."""

    words: Annotated[list[Address], Field(min_length=1, max_length=4)]
    reads: Number


class PointModel(_Strict):
    """One value the instrument offers: raw * scale + offset, in `unit`."""

    block: Name
    addr: Address
    type: RegType
    length: Annotated[int, BeforeValidator(integer), Field(ge=0, le=125)] = 0
    word_order: WordOrder | None = None
    unit: str = ""
    scale: Number = 1.0
    offset: Number = 0.0
    symbols: dict[Integer, Name] = Field(default_factory=dict[int, str])
    bits: dict[BitIndex, Name] = Field(default_factory=dict[int, str])
    range: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    stale_ms: Milliseconds
    nan: list[Number] = Field(default_factory=list[float])
    bad_when: list[QualityRuleModel] = Field(default_factory=list[QualityRuleModel])
    uncertain_when: list[QualityRuleModel] = Field(default_factory=list[QualityRuleModel])
    alive: Flag = False
    frozen: Seconds | None = None
    slope: Number | None = None
    example: ExampleModel | None = None
    doc: str = ""


class KeepModel(_Strict):
    """Bits of a written word that stay as `point` reads them: a control word is written whole, by its one owner."""

    point: Name
    mask: Integer


class FieldModel(_Strict):
    """One value of a written frame: an argument of the command, or a fixed raw value.

    With `modulo` the register holds a part of the argument, floor(value / scale) modulo it: hours, minutes and seconds
    of one time stand in three fields.
    """

    arg: Name | None = None
    value: Number | None = None
    type: RegType
    word_order: WordOrder | None = None
    unit: str = ""
    scale: Number = 1.0
    min: Number | None = None
    max: Number | None = None
    symbols: dict[Integer, Name] = Field(default_factory=dict[int, str])
    modulo: Annotated[int, BeforeValidator(integer), Field(ge=2, le=65_536)] | None = None
    keep: KeepModel | None = None


class IndexModel(_Strict):
    """An argument that chooses where a command writes: the address grows by `stride` for each above `first`."""

    arg: Name
    first: Annotated[int, BeforeValidator(integer), Field(ge=0, le=1000)] = 0
    last: Annotated[int, BeforeValidator(integer), Field(ge=0, le=1000)]
    stride: Annotated[int, BeforeValidator(integer), Field(ge=1, le=10_000)] = 1


class RowsModel(_Strict):
    """A table: `arg` is a list of rows; rows that are not given are written as zeros."""

    arg: Name
    max: Annotated[int, BeforeValidator(integer), Field(ge=1, le=100)]
    fields: Annotated[list[FieldModel], Field(min_length=1)]


class WriteModel(_Strict):
    """The one request of a command: its fields stand one after the other from `addr`."""

    fc: WriteCode
    addr: Address
    index: Annotated[list[IndexModel], Field(max_length=2)] = Field(default_factory=list[IndexModel])
    fields: list[FieldModel] = Field(default_factory=list[FieldModel])
    rows: RowsModel | None = None


class CheckModel(_Strict):
    """What a point must read after the write: the argument as given, a fixed value, or one of several."""

    point: Name
    arg: Name | None = None
    equals: str | None = None
    among: Annotated[list[str] | None, Field(alias="in")] = None
    tolerance: Annotated[float, BeforeValidator(number), Field(ge=0)] = 0.0


class VerifyModel(_Strict):
    """The read-back: checks of points, or a block that must echo the frame, or `none` with its reason."""

    within_ms: Milliseconds = 2000
    points: list[CheckModel] = Field(default_factory=list[CheckModel])
    echo: Name | None = None
    none: str | None = None


class StorageModel(_Strict):
    """Where a written value is kept; memory that wears has a budget, of writes a day and in all."""

    kind: Literal["volatile", "eeprom"]
    per_day: Annotated[int, BeforeValidator(integer), Field(ge=1)] | None = None
    life: Annotated[int, BeforeValidator(integer), Field(ge=1)] | None = None


class RequireModel(_Strict):
    """What must be read, fresh, before a command is sent: one of these, or none of them."""

    point: Name
    among: Annotated[list[str] | None, Field(alias="in", min_length=1)] = None
    not_in: Annotated[list[str] | None, Field(min_length=1)] = None


class CommandModel(_Strict):
    """One action. `idempotent: false` means that doing it twice does it twice.

    `only_on_change`: it is not written where the read-back shows it already.  `min_interval_ms` is the least time
    between two of it, `after` that since another command (name -> ms), `delay_ms` the time from the write to the first
    look at its effect.
    """

    write: WriteModel
    idempotent: Flag
    verify: VerifyModel = VerifyModel()  # one that is missing is found with all that does not fit
    storage: StorageModel = StorageModel(kind="volatile")
    only_on_change: Flag = False
    min_interval_ms: Pause = 0
    delay_ms: Pause = 0
    after: dict[Name, Pause] = Field(default_factory=dict[str, int])
    requires: list[RequireModel] = Field(default_factory=list[RequireModel])
    doc: str = ""


class DenyModel(_Strict):
    """Registers that no command may touch: passcodes, configuration, worn-out memory."""

    range: Annotated[list[Address], Field(min_length=2, max_length=2)]
    why: str


class WatchdogModel(_Strict):
    """A watchdog in the instrument: `command` arms and feeds it with seconds, and disarms it with 0.

    `timeout` is what it is armed with, `period` how often it is fed, `action` what the instrument then does by itself;
    the point `armed` reads the seconds it is armed with, `tripped` reads true after it has acted.
    """

    command: Name
    timeout: Seconds
    period: Seconds
    action: Literal["stop", "safe_values"]
    armed: Name
    tripped: Name


class SilenceModel(_Strict):
    """What an instrument that stops when its host is gone shows of it, once nobody has asked it for `within`.

    The time is set up at the instrument: `within` is what it has to be at most.  Then the points `safe` read true and
    the outputs `opened` false.
    """

    within: Seconds
    safe: Annotated[list[Name], Field(max_length=64)] = Field(default_factory=list[str])
    opened: Annotated[list[Name], Field(max_length=64)] = Field(default_factory=list[str])


Fate = Literal["kept", "lost", "defaults", "closed", "aborted", "configured"]


class FailsafeModel(_Strict):
    """What makes it safe, and what it does by itself when nobody talks to it or its power comes back."""

    safe_command: Name | None = None
    on_comm_loss: Literal["keeps_running", "stops", "unknown"]
    doc: str = ""
    after_power_loss: dict[Name, Fate] = Field(default_factory=dict[str, Fate])
    watchdog: WatchdogModel | None = None
    silence: SilenceModel | None = None


class SimModel(_Strict):
    """Which simulated physics stands behind the registers.

    `values` are what points read of which physics knows nothing; `unlisted` is what becomes of an address that the
    profile does not name: an exception, a value without meaning, or, of a write, that it is acknowledged and discarded.
    """

    model: Name
    values: dict[Name, str] = Field(default_factory=dict[str, str])
    latency_ms: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    unlisted: Literal["exception", "undefined", "discard"] = "exception"


class ProfileModel(_Strict):
    """A whole profile file.

    `on_connect` are commands whose value is lost with the instrument's power: they are sent on each new connection,
    with the values that a site gives (`settings`).  `at_commissioning` are points, with the reason, whose right value
    only a site knows (`expect`): read at connect and every hour.  `ne107` says what its own bits and symbols mean,
    `alarms` what a person has to know of its points: `heater_fault == true`.
    """

    profile: HeaderModel
    transport: TransportModel
    codec: CodecModel = CodecModel()
    limits: LimitsModel = LimitsModel()
    identity: IdentityModel | None = None
    asserts: list[AssertModel] = Field(default_factory=list[AssertModel])
    blocks: Annotated[dict[Name, BlockModel], Field(min_length=1)]
    points: Annotated[dict[Name, PointModel], Field(min_length=1)]
    commands: dict[Name, CommandModel]
    on_connect: list[Name] = Field(default_factory=list[str])
    at_commissioning: dict[Name, str] = Field(default_factory=dict[str, str])
    ne107: Ne107Model = Ne107Model()
    deny: list[DenyModel] = Field(default_factory=list[DenyModel])
    failsafe: FailsafeModel
    alarms: dict[AlarmId, AlarmFields] = Field(default_factory=dict[str, AlarmFields])
    sim: SimModel | None = None
