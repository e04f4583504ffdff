"""What the controller sees of an instrument, whatever carries it: Modbus, MQTT or memory.

Every read and every command goes through this surface, so that drivers can be exchanged and rehearsed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Protocol

from devices.profile_types import Profile
from devices.reading import Reading

ArgValue = float | str
"""A number in the canonical unit of the argument, or a symbol of it."""

Args = Mapping[str, ArgValue | Sequence[Mapping[str, ArgValue]]]
"""Arguments of a command; a table command takes a list of rows under one name."""


class Priority(IntEnum):
    """Who goes first on a bus; lower goes first."""

    STOP = 0
    COMMAND = 1
    ALARM = 2
    DATA = 3


class DeviceState(StrEnum):
    """How far an instrument may be relied on."""

    OFFLINE = "offline"
    CHECKING = "checking"
    ONLINE = "online"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """The state of an instrument; `text` says why it is offline or in fault."""

    state: DeviceState
    text: str = ""


class DeviceError(Exception):
    """An instrument did not do what it was asked. `device`, what happened, and what a person can do."""

    def __init__(self, device: str, what: str, hint: str = "") -> None:
        super().__init__(f"{device}: {what}" + (f" ({hint})" if hint else ""))
        self.device = device
        self.what = what
        self.hint = hint


class DeviceOffline(DeviceError):
    """Nothing was sent: the instrument does not answer, or its bus is down."""


class ReadFailed(DeviceError):
    """A read gave no value that may be used: time-out, wrong reply, exception, wrong instrument."""


class CommandRefused(DeviceError):
    """The command had no effect: out of limits before it was sent, or refused by the instrument itself."""


class NotApplied(DeviceError):
    """The instrument acknowledged the write, but its read-back never showed it; `readings` are the last ones."""

    def __init__(self, device: str, what: str, hint: str, readings: Mapping[str, Reading]) -> None:
        super().__init__(device, what, hint)
        self.readings = readings


class OutcomeUnknown(DeviceError):
    """The write may or may not have been carried out, and the read-back could not prove either."""

    def __init__(self, device: str, what: str, hint: str, readings: Mapping[str, Reading]) -> None:
        super().__init__(device, what, hint)
        self.readings = readings


class Instrument(Protocol):
    """One instrument: named blocks of readings, and commands that are read back."""

    @property
    def name(self) -> str:
        """Name of the instrument in the site file."""
        ...

    @property
    def profile(self) -> Profile:
        """What the instrument offers."""
        ...

    @property
    def status(self) -> DeviceStatus:
        """Whether it can be relied on at this moment."""
        ...

    @property
    def serial(self) -> str:
        """Its serial number as last read; "" where it has none, or was not asked yet."""
        ...

    async def read(self, block: str, priority: Priority = Priority.DATA) -> dict[str, Reading]:
        """Read one block, one request; readings by point and by named bit. Raises DeviceOffline or ReadFailed."""
        ...

    async def read_all(self, priority: Priority = Priority.DATA) -> dict[str, Reading]:
        """Read every block that is scanned (fast and slow). Raises DeviceOffline or ReadFailed."""
        ...

    async def command(self, name: str, args: Args, priority: Priority = Priority.COMMAND) -> dict[str, Reading]:
        """Command once, then read back until it is proven; return the readings that prove it.

        Raises CommandRefused or DeviceOffline (no effect), NotApplied (acknowledged, but not to be seen) or
        OutcomeUnknown (the write got lost on the way and its effect cannot be seen). Never writes twice.
        """
        ...
