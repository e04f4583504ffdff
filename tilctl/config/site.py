"""The site as the controller sees it: frozen, checked, in canonical units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

PlaceClass = Literal["station", "hook", "waste"]


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
    """One physical bus; `timeout` (s) bounds each request on it."""

    name: str
    kind: Literal["modbus-tcp"]
    host: str
    port: int
    timeout: float


@dataclass(frozen=True, slots=True)
class Device:
    """One instrument: its profile id, its bus and its Modbus unit id."""

    name: str
    profile: str
    bus: str
    unit: int


@dataclass(frozen=True, slots=True)
class RoleBinding:
    """A role that is filled by a device (`station` is the incubator)."""

    name: str
    role: str
    device: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a vessel or bag is mounted: its class, its port on every valve set, the point that weighs it (or "")."""

    name: str
    at: PlaceClass
    port: int
    scale_device: str
    scale_point: str


@dataclass(frozen=True, slots=True)
class Line:
    """A way for liquid between two classes of places, with its pump and valves."""

    id: str
    source: tuple[PlaceClass, ...]
    destination: tuple[PlaceClass, ...]
    pump: str
    valves: str


@dataclass(frozen=True, slots=True)
class Safe:
    """What an output does while a batch is held, stopped or aborted; `value` (canonical) belongs to `value` only."""

    action: Literal["keep", "value", "stop", "closed"]
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Interlock:
    """Where `tag` is over `above` (canonical), `device` is cut off by `command`, the safe one of its profile."""

    name: str
    tag: str
    device: str
    point: str
    above: float
    command: str


@dataclass(frozen=True, slots=True)
class UnitSite:
    """One unit: what one batch owns exclusively."""

    name: str
    roles: Mapping[str, RoleBinding]
    places: Mapping[str, Place]
    lines: tuple[Line, ...]
    culture_safe: Mapping[str, Safe]
    interlocks: Mapping[str, Interlock] = field(default_factory=dict[str, Interlock])

    def line(self, source: PlaceClass, destination: PlaceClass) -> Line | None:
        """Return the first line that leads from one class of places to another, None if there is none."""
        for line in self.lines:
            if source in line.source and destination in line.destination:
                return line
        return None


@dataclass(frozen=True, slots=True)
class Site:
    """The whole site file. `sha256` is of its text, and of overrides that are no addresses."""

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

    @property
    def topic_prefix(self) -> str:
        """Return the root of the topic tree, `til/v1/<site>/<node>`."""
        return f"til/v1/{self.name}/{self.node}"
