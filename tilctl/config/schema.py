"""The shape of the site file, as it is written: texts, checked for form only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tilctl.config.site import PlaceClass

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
TopicLevel = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=40)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Entry(BaseModel):
    """An entry of the site file: no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MqttEntry(Entry):
    """The broker."""

    url: str


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


class BusEntry(Entry):
    """A physical bus."""

    kind: Literal["modbus-tcp"]
    host: str
    port: Port
    timeout: str = "1 s"


class DeviceEntry(Entry):
    """An instrument."""

    profile: str
    bus: str
    unit: Annotated[int, Field(ge=0, le=255)]


class RoleEntry(Entry):
    """A role and the device that fills it."""

    role: str
    device: str


class PlaceEntry(Entry):
    """A place for a vessel or bag."""

    at: PlaceClass
    port: Annotated[int, Field(ge=1, le=16)]
    scale: str = ""


class LineEntry(Entry):
    """A way for liquid."""

    id: Name
    source: Annotated[list[PlaceClass], Field(alias="from", min_length=1)]
    destination: Annotated[list[PlaceClass], Field(alias="to", min_length=1)]
    pump: str
    valves: str


class InterlockEntry(Entry):
    """A limit of a tag over which its instrument is cut off."""

    tag: str
    above: str


class UnitEntry(Entry):
    """What one batch owns."""

    roles: dict[Name, RoleEntry]
    places: dict[Name, PlaceEntry] = {}
    lines: list[LineEntry] = []
    culture_safe: dict[str, str]
    interlocks: dict[Name, InterlockEntry] = {}


class SiteFile(Entry):
    """The whole file."""

    site: TopicLevel
    node: TopicLevel
    data: str
    time_zone: str = "Etc/UTC"
    mqtt: MqttEntry
    http: HttpEntry = HttpEntry()
    commands: CommandsEntry = CommandsEntry()
    scan: ScanEntry = ScanEntry()
    buses: Annotated[dict[Name, BusEntry], Field(min_length=1)]
    devices: Annotated[dict[Name, DeviceEntry], Field(min_length=1)]
    units: Annotated[dict[Name, UnitEntry], Field(min_length=1)]
    shared: dict[Name, RoleEntry] = {}
