"""The site as the controller sees it: frozen, checked, in canonical units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from devices.alarm import AlarmFields, Priority
from devices.calibration import Calibration
from devices.equipment.spec import Spec
from devices.given import NOTHING, Given
from devices.mqtt.login import NOBODY, Login
from devices.profile import Profile
from tilctl.config.interlock import NO_RULES, Rules
from tilctl.config.working import Working

CONTROLLER = Login("tilctl")
"""Who the controller is at its broker, where the site file does not say otherwise (`deploy/mosquitto/tilctl.acl`)."""

PlaceClass = Literal["station", "hook", "waste"]
BusKind = Literal["modbus-tcp", "modbus-rtu-tcp", "modbus-rtu", "mqtt"]


@dataclass(frozen=True, slots=True)
class Scan:
    """Periods of the scan classes in s: an output acts; nothing acts; an instrument nobody uses.

    `trend` (s) is the shortest time between two points of a trend.
    """

    active: float
    quiet: float
    idle: float
    trend: float


@dataclass(frozen=True, slots=True)
class Bus:
    """One wire, or one broker; `timeout` (s) bounds each request on it, `turnaround` (s) is silence after a reply.

    `kind` modbus-tcp and modbus-rtu-tcp have `host` and `port`, modbus-rtu the serial port `path`, mqtt the `url`
    and `login`.
    """

    name: str
    kind: BusKind
    host: str = ""
    port: int = 0
    timeout: float = 1.0
    turnaround: float = 0.0
    path: str = ""
    baud: int = 0
    format: str = ""
    local_echo: bool = False
    url: str = ""
    login: Login = NOBODY

    @property
    def address(self) -> str:
        """Where it is, for people."""
        if self.kind == "mqtt":
            return self.url
        return f"{self.path} at {self.baud} {self.format}" if self.path else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Device:
    """One instrument: its profile id, its bus, and its Modbus unit id or what its topics begin with.

    `corrections` maps points to the calibrations by which they are corrected; `given` is what the site says of this
    one unit.
    """

    name: str
    profile: str
    bus: str
    unit: int
    prefix: str = ""
    corrections: Mapping[str, str] = field(default_factory=dict[str, str])
    given: Given = NOTHING


@dataclass(frozen=True, slots=True)
class RoleBinding:
    """A role that is filled by a device (`station` is the incubator)."""

    name: str
    role: str
    device: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a vessel or bag is mounted: its class, its port on every valve set, the point that weighs it (or "").

    `rocked_by` is the instrument that rocks it, and stands still for a while to have it weighed ("": nothing does).
    """

    name: str
    at: PlaceClass
    port: int
    scale_device: str
    scale_point: str
    rocked_by: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A way for liquid between two classes of places, with its pump and valves; `dead` and `prime` in mL.

    `dead` stays in its set between doses, `prime` is what filling the dry set takes beside: neither arrives.
    """

    id: str
    source: tuple[PlaceClass, ...]
    destination: tuple[PlaceClass, ...]
    pump: str
    valves: str
    dead: float = 0.0
    prime: float = 0.0

    @property
    def swallows(self) -> float:
        """Return the most (mL) that it holds of what left a source and did not arrive."""
        return self.dead + self.prime


@dataclass(frozen=True, slots=True)
class Safe:
    """What an output does while a batch is held, stopped or aborted; `value` (canonical) belongs to `value` only."""

    action: Literal["keep", "value", "stop", "closed"]
    value: float | None = None


@dataclass(frozen=True, slots=True)
class SiteAlarm:
    """An alarm of the site or of a profile; `reads` and `unless_reads` map the names of its conditions to points."""

    name: str
    declared: AlarmFields
    reads: Mapping[str, str]
    unless_reads: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class UnitSite:
    """One unit: what one batch owns exclusively; `rules` are its interlocks and permissives.

    `working`: when people are there, None where the site does not say.
    """

    name: str
    roles: Mapping[str, RoleBinding]
    places: Mapping[str, Place]
    lines: tuple[Line, ...]
    culture_safe: Mapping[str, Safe]
    alarms: Mapping[str, SiteAlarm] = field(default_factory=dict[str, SiteAlarm])
    rules: Rules = NO_RULES
    working: Working | None = None

    def line(self, source: PlaceClass, destination: PlaceClass) -> Line | None:
        """Return the first line that leads from one class of places to another, None if there is none."""
        for line in self.lines:
            if source in line.source and destination in line.destination:
                return line
        return None


@dataclass(frozen=True, slots=True)
class Person:
    """Who is told of alarms: of which priorities, at once or at the so-manieth escalation, by webhook or e-mail.

    `token` proves us at the webhook, by the file that `password_file` names.
    """

    name: str
    levels: tuple[Priority, ...] = ("critical", "high")
    escalation: int = 0
    webhook: str = ""
    token: Login = NOBODY
    email: str = ""


@dataclass(frozen=True, slots=True)
class Mail:
    """The server that takes our e-mail, and whose it is said to be."""

    host: str
    port: int
    tls: Literal["starttls", "tls", "none"]
    sender: str
    login: Login = NOBODY


@dataclass(frozen=True, slots=True)
class Notify:
    """How people are told: again every `repeat` (s) until somebody knows, the next one after `escalate` (s).

    `batch`: name the batch in what leaves by webhook and e-mail.
    """

    repeat: float = 900.0
    escalate: float = 1800.0
    batch: bool = False
    people: tuple[Person, ...] = ()
    mail: Mail | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """The whole site file. `sha256` is of its text, and of overrides that are no addresses.

    `profiles` are those of its devices, by the device; `equipment` is built of them and takes part under its own name,
    with a profile of its own in `equipment_profiles`.
    `mqtt_login` is who the controller is at its broker, `stations` who others are, by their name there.
    `rules` are the interlocks and permissives of shared equipment.
    """

    name: str
    node: str
    data: Path
    time_zone: str
    mqtt_url: str
    http_host: str
    http_port: int
    scheduled_commands: bool
    scan: Scan
    buses: Mapping[str, Bus]
    devices: Mapping[str, Device]
    units: Mapping[str, UnitSite]
    shared: Mapping[str, RoleBinding]
    sha256: str
    profiles: Mapping[str, Profile] = field(default_factory=dict[str, Profile])
    equipment: Mapping[str, Spec] = field(default_factory=dict[str, Spec])
    equipment_profiles: Mapping[str, Profile] = field(default_factory=dict[str, Profile])
    calibrations: Mapping[str, tuple[Calibration, ...]] = field(default_factory=dict[str, tuple[Calibration, ...]])
    mqtt_login: Login = CONTROLLER
    stations: Mapping[str, Login] = field(default_factory=dict[str, Login])
    alarms: Mapping[str, SiteAlarm] = field(default_factory=dict[str, SiteAlarm])
    rules: Rules = NO_RULES
    notify: Notify = field(default_factory=Notify)

    @property
    def topic_prefix(self) -> str:
        """Return the root of the topic tree, `til/v1/<site>/<node>`."""
        return f"til/v1/{self.name}/{self.node}"
