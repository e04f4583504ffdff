"""An instrument whose readings are corrected by its calibrations, before anybody sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from devices.calibration import corrected
from devices.instrument import Args, DeviceStatus, Instrument, Priority
from devices.profile_types import Profile
from devices.reading import Reading

_IS_SET = frozenset({"setpoint", "target", "output", "compensation"})


def is_set(profile: Profile, point: str) -> bool:
    """Tell whether a point shows what the instrument was told, or what it drives, and not what it measures.

    So does each by which a command is proven: corrected, it would read another value than was written; taken for a
    probe, it would always agree.
    """
    proving = {check.point for command in profile.commands.values() for check in command.verify.checks}
    return point in proving or not _IS_SET.isdisjoint(point.split("_"))


Pairs = Sequence[tuple[float, float]]


class Corrected:
    """Any instrument with corrections of some of its points; what it is commanded goes on to it as it is."""

    def __init__(self, instrument: Instrument, corrections: Mapping[str, Pairs]) -> None:
        """Correct the named points, each by pairs of what it showed and what the reference said."""
        self._instrument = instrument
        self._corrections = dict(corrections)
        self.name = instrument.name
        self.profile: Profile = instrument.profile

    @property
    def status(self) -> DeviceStatus:
        """Whether it can be relied on at this moment."""
        return self._instrument.status

    @property
    def serial(self) -> str:
        """Its serial number as last read."""
        return self._instrument.serial

    async def read(self, block: str, priority: Priority = Priority.DATA) -> dict[str, Reading]:
        """Read one block, corrected; raises DeviceOffline or ReadFailed."""
        return self._right(await self._instrument.read(block, priority))

    async def read_all(self, priority: Priority = Priority.DATA) -> dict[str, Reading]:
        """Read every block that is scanned, corrected; raises DeviceOffline or ReadFailed."""
        return self._right(await self._instrument.read_all(priority))

    async def command(self, name: str, args: Args, priority: Priority = Priority.COMMAND) -> dict[str, Reading]:
        """Command once and read back; see `Instrument.command`."""
        return self._right(await self._instrument.command(name, args, priority))

    def _right(self, readings: dict[str, Reading]) -> dict[str, Reading]:
        for point in self._corrections.keys() & readings.keys():
            reading = readings[point]
            if isinstance(reading.value, (int, float)) and not isinstance(reading.value, bool):
                readings[point] = replace(reading, value=corrected(self._corrections[point], float(reading.value)))
        return readings
