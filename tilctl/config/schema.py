"""The shape of the site file, as it is written: texts, checked for form only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from devices.alarm import AlarmFields, Amount, Priority, Words
from tilctl.config.site import CONTROLLER, PlaceClass

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
TopicLevel = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=40)]
Baud = Annotated[int, Field(ge=1200, le=921_600)]
Format = Annotated[str, Field(pattern=r"^8[NEO][12]$")]
Port = Annotated[int, Field(ge=0, le=65535)]


class Entry(BaseModel):
    """An entry of the site file: no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsEntry(Entry):
    """Files for TLS, as PEM: the CA of the broker, and our own certificate with its key."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None


class StationEntry(Entry):
    """How a client proves at the broker that it is the one of this name."""

    password_file: str | None = None
    cert: str | None = None
    key: str | None = None


class MqttEntry(Entry):
    """The broker, who the controller is there, and its stations by name."""

    url: str
    user: TopicLevel = CONTROLLER.user
    password_file: str | None = None
    tls: TlsEntry = TlsEntry()
    stations: dict[TopicLevel, StationEntry] = {}


class HttpEntry(Entry):
    """Where metrics and health are served."""

    host: str = "127.0.0.1"
    port: Port = 9464


class CommandsEntry(Entry):
    """What the door allows."""

    scheduled: Literal["accept", "refuse"] = "refuse"


class ScanEntry(Entry):
    """Periods of the scan classes."""

    active: str = "1 s"
    quiet: str = "1 s"
    idle: str = "1 s"
    trend: str = "1 s"


class TcpBusEntry(Entry):
    """A Modbus TCP server, or a gateway that speaks RTU over TCP; `baud` and `format` are of the line behind that."""

    kind: Literal["modbus-tcp", "modbus-rtu-tcp"]
    host: str
    port: Port
    timeout: str = "1 s"
    turnaround: str = "0 s"
    baud: Baud = 9600
    format: Format = "8N1"
    local_echo: Literal["yes", "no"] = "no"


class SerialBusEntry(Entry):
    """A serial line with Modbus RTU."""

    kind: Literal["modbus-rtu"]
    path: str
    baud: Baud
    format: Format
    timeout: str = "1 s"
    turnaround: str = "0 s"
    local_echo: Literal["yes", "no"] = "no"


class MqttBusEntry(Entry):
    """A broker behind which instruments are."""

    kind: Literal["mqtt"]
    url: str
    user: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    password_file: str | None = None
    tls: TlsEntry = TlsEntry()


BusEntry = Annotated[TcpBusEntry | SerialBusEntry | MqttBusEntry, Field(discriminator="kind")]


class DeviceEntry(Entry):
    """An instrument: a unit on a Modbus bus, or what a broker has under a prefix.

    `corrections` maps points to calibrations; `settings` are values that its profile writes on each new connection,
    `expect` what points must read that its profile names `at_commissioning`.
    """

    profile: str
    bus: str
    unit: Annotated[int, Field(ge=0, le=255)] | None = None
    prefix: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    corrections: dict[str, Name] = {}
    settings: dict[str, str] = {}
    expect: dict[str, str] = {}


class CalibrationEntry(Entry):
    """One calibration; `points` are pairs of what was set or shown, and what was measured."""

    what: str
    points: Annotated[list[Annotated[list[str], Field(min_length=2, max_length=2)]], Field(min_length=1, max_length=50)]
    made: str
    by: Annotated[str, Field(min_length=1)]
    expires: str


class GasEntry(Entry):
    """A mixer: two mass-flow controllers, and what they give together."""

    co2: str
    carrier: str
    total: str


class SecondEntry(Entry):
    """A second probe for the same value, and when the two disagree."""

    probe: str
    within: str
    lasts: str


class ClimateEntry(Entry):
    """A bioreactor of parts."""

    kind: Literal["climate"]
    programmer: str
    co2: str
    gas: GasEntry
    second: SecondEntry | None = None
    humidity: str | None = None


class EnableEntry(Entry):
    """A relay that gives a drive its power."""

    io: str
    channel: Annotated[int, Field(ge=0, le=63)]


class PumpEntry(Entry):
    """A pump of a drive and its tubing."""

    kind: Literal["pump"]
    drive: str
    tubing: str
    enable: EnableEntry | None = None


class ValvesEntry(Entry):
    """A manifold of relays: port -> `io.channel`."""

    kind: Literal["valves"]
    suction: Annotated[dict[Annotated[int, Field(ge=1, le=16)], str], Field(min_length=1)]
    delivery: Annotated[dict[Annotated[int, Field(ge=1, le=16)], str], Field(min_length=1)]


class ProgrammerFreezerEntry(Entry):
    """A freezer by a temperature programmer."""

    kind: Literal["freezer-programmer"]
    programmer: str
    sample: str | None = None
    ln2: str | None = None


class ContactFreezerEntry(Entry):
    """A freezer by its contacts; `programmes` maps the digest of each stored one to the output that starts it."""

    kind: Literal["freezer-contacts"]
    io: str
    programmes: Annotated[dict[str, Annotated[int, Field(ge=0, le=63)]], Field(min_length=1)]
    running: Annotated[int, Field(ge=0, le=63)]
    alarm: Annotated[int, Field(ge=0, le=63)]
    hold: Annotated[int, Field(ge=0, le=63)] | None = None
    chamber: str | None = None
    sample: str
    ln2: str | None = None


EquipmentEntry = Annotated[
    ClimateEntry | PumpEntry | ValvesEntry | ProgrammerFreezerEntry | ContactFreezerEntry, Field(discriminator="kind")
]


class RoleEntry(Entry):
    """A role and the device that fills it."""

    role: str
    device: str


class PlaceEntry(Entry):
    """A place for a vessel or bag; `rocked_by` is the role whose instrument rocks it."""

    at: PlaceClass
    port: Annotated[int, Field(ge=1, le=16)]
    scale: str = ""
    rocked_by: str = ""


class LineEntry(Entry):
    """A way for liquid; what its set keeps between doses (`dead`), and what filling it dry takes beside (`prime`)."""

    id: Name
    source: Annotated[list[PlaceClass], Field(alias="from", min_length=1)]
    destination: Annotated[list[PlaceClass], Field(alias="to", min_length=1)]
    pump: str
    valves: str
    dead: str = "0 mL"
    prime: str = "0 mL"


class Told(Entry):
    """What a person is told when a rule acts, and where its numbers come from; `allowed` is the time to act.

    `bypass`: whether it may be set aside for a time, by two persons.
    """

    text: Words | None = None
    priority: Priority = "critical"
    cause: Words | None = None
    consequence: Words | None = None
    action: Words | None = None
    allowed: Amount | None = None
    bypass: Literal["allowed", "never"] | None = None
    source: Words | None = None

    @property
    def help(self) -> dict[str, str]:
        """Return what a person is told beside the text."""
        given = {
            "cause": self.cause, "consequence": self.consequence, "action": self.action, "allowed": self.allowed
        }  # fmt: skip
        return {key: text for key, text in given.items() if text}


class InterlockEntry(Told):
    """A condition (`when`) on which outputs are made safe (`then`).

    The short form `{tag, above}` cuts the instrument of the tag off over a limit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    tag: str | None = None
    above: str | None = None
    when: Words | None = None
    then: dict[str, str] | None = None
    for_: Amount = Field(default="0 s", alias="for")
    off_delay: Amount = "0 s"
    deadband: Amount | None = None
    reset: Literal["auto", "restart", "manual"] = "restart"


class PermissiveEntry(Told):
    """Commands (`forbids`) that are refused while a condition (`needs`) is not true."""

    forbids: Annotated[list[str], Field(min_length=1, max_length=50)]
    needs: Words


class UnitEntry(Entry):
    """What one batch owns."""

    roles: dict[Name, RoleEntry]
    places: dict[Name, PlaceEntry] = {}
    lines: list[LineEntry] = []
    culture_safe: dict[str, str]
    interlocks: dict[Name, InterlockEntry] = {}
    alarms: dict[Name, AlarmFields] = {}
    permissives: dict[Name, PermissiveEntry] = {}


class PersonEntry(Entry):
    """Who is told of alarms; `escalation`: 0 at once, 1 when nobody has acknowledged for `escalate`, and so on."""

    name: Name
    levels: Annotated[list[Priority], Field(min_length=1, max_length=4)] = ["critical", "high"]
    escalation: Annotated[int, Field(ge=0, le=5)] = 0
    webhook: Annotated[str, Field(max_length=1000)] | None = None
    token_file: str | None = None
    email: Annotated[str, Field(max_length=200)] | None = None


class MailEntry(Entry):
    """The server that takes e-mail; without a port 587 for starttls, 465 for tls, 25 for none."""

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    tls: Literal["starttls", "tls", "none"] = "starttls"
    sender: Annotated[str, Field(alias="from", max_length=200)]
    user: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    password_file: str | None = None


class NotifyEntry(Entry):
    """Who is told of alarms beside MQTT, how often, and how; `ca` for servers with a certificate of the house."""

    repeat: str = "15 min"
    escalate: str = "30 min"
    batch: Literal["yes", "no"] = "no"
    ca: str | None = None
    people: Annotated[list[PersonEntry], Field(max_length=20)] = []
    email: MailEntry | None = None


class WorkingEntry(Entry):
    """When people are there, by the clocks of the site: for steps that wait for them (`staffed`)."""

    hours: str = "08:00-17:00"
    days: str = "mon-fri"
    holidays: Annotated[list[str], Field(max_length=1000)] = []


class SiteFile(Entry):
    """The whole file."""

    site: TopicLevel
    node: TopicLevel
    data: str
    time_zone: str = "Etc/UTC"
    working: WorkingEntry | None = None
    mqtt: MqttEntry
    http: HttpEntry = HttpEntry()
    commands: CommandsEntry = CommandsEntry()
    scan: ScanEntry = ScanEntry()
    buses: Annotated[dict[Name, BusEntry], Field(min_length=1)]
    devices: Annotated[dict[Name, DeviceEntry], Field(min_length=1)]
    profiles: str = ""
    calibrations: dict[Name, Annotated[list[CalibrationEntry], Field(min_length=1)]] = {}
    equipment: dict[Name, EquipmentEntry] = {}
    units: Annotated[dict[Name, UnitEntry], Field(min_length=1)]
    shared: dict[Name, RoleEntry] = {}
    alarms: dict[Name, AlarmFields] = {}
    interlocks: dict[Name, InterlockEntry] = {}
    permissives: dict[Name, PermissiveEntry] = {}
    notify: NotifyEntry = NotifyEntry()
