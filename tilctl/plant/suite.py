"""The suite: every instrument of the site with its bus, the process image, the scanner and the output gate."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from devices.clock import Clock
from devices.equipment.base import Equipment, Parts
from devices.equipment.spec import build, parts_of
from devices.instrument import DeviceState, Instrument
from devices.kept import Kept
from devices.modbus.bus import LinkMaker
from devices.role import BOOL
from devices.wear import WriteLedger
from tilctl.config import Site
from tilctl.plant.image import ProcessImage
from tilctl.plant.outputs import OutputGate
from tilctl.plant.scanning import Scanner, ScanPeriods
from tilctl.plant.sharing import Sharing, known_to_rest
from tilctl.plant.unit import UnitPlant
from tilctl.plant.wires import Wires

if TYPE_CHECKING:
    from devices.mqtt.wire import Connect

_QUIET_ROLES = (
    "bioreactor",
    "automaton",
)  # what the cells live in is read at the quiet pace, what only rests at the idle pace


class Suite:
    """All of the plant, opened and closed as one."""

    def __init__(
        self,
        site: Site,
        clock: Clock,
        links: Mapping[str, LinkMaker] | None = None,
        brokers: Mapping[str, Connect] | None = None,
    ) -> None:
        """Describe the suite of a site; `links` and `brokers` (bus -> maker) of a rehearsal stand in for TCP."""
        self.site = site
        self.clock = clock
        self.wear = WriteLedger(clock, Kept(clock, site.data / "writes.json"))
        self._wires = Wires(site, clock, self.wear, links or {}, brokers or {})
        self.buses = self._wires.buses
        self.devices = self._wires.devices
        self.image = ProcessImage(clock)
        self._runs = Kept(clock, site.data / "runs.json")
        equipment = self._equipment()
        parts = {part for spec in site.equipment.values() for part in parts_of(spec)}
        # Invariant: a part is read and commanded by its equipment alone.
        self.instruments = {name: device for name, device in self.devices.items() if name not in parts} | equipment
        self.gate = OutputGate(self.instruments, self.image.put, self.image.show)
        self.sharing = Sharing(self.gate, clock, partial(known_to_rest, self.image, self.instruments))
        self.image.watch(lambda device, _readings: self.sharing.scanned(device))
        self.scanner = Scanner(clock, self.image, ScanPeriods(site.scan.active, site.scan.quiet, site.scan.idle))
        for instrument in self.instruments.values():
            self.scanner.add(instrument, quiet=instrument.profile.role in _QUIET_ROLES)
        self.units = {
            name: UnitPlant(name, unit, self.instruments, clock, self.image, self.gate, self.scanner)
            for name, unit in site.units.items()
        }

    def _equipment(self) -> dict[str, Instrument]:
        """Return what is built of several instruments; what its parts read is in the image as well."""
        site, clock = self.site, self.clock

        parts = Parts(self.devices, clock, self.image.put_part)
        for name in {part for spec in site.equipment.values() for part in parts_of(spec)}:
            profile = self.devices[name].profile
            units = {point: value.unit for point, value in profile.points.items()}
            self.image.own(name, units | dict.fromkeys(profile.bits, BOOL))
            self.image.expect(name, max(5.0, 2.5 * max(site.scan.quiet, site.scan.idle)))
        return {name: build(name, spec, parts, self._runs) for name, spec in site.equipment.items()}

    def latencies(self) -> dict[str, tuple[tuple[int, ...], float]]:
        """Return how long the replies of each instrument took, by `devices.modbus.statistics`."""
        found: dict[str, tuple[tuple[int, ...], float]] = {}
        for name, device in self.site.devices.items():
            bus = self.buses.get(device.bus)
            measured = None if bus is None else bus.latencies.get(device.unit)
            if measured is not None:
                found[name] = (tuple(measured.buckets), measured.total_s)
        return found

    async def open(self) -> None:
        """Connect every bus and begin to scan; an absent device is no error here, it shows as offline."""
        await self._wires.open()
        self.scanner.start()

    async def settled(self, within: float = 5.0) -> None:
        """Wait until every instrument has answered or failed, at most `within` seconds: readiness, not success."""
        waiting = (DeviceState.OFFLINE, DeviceState.CHECKING)
        try:
            async with asyncio.timeout(within):
                await self.scanner.tried()  # takes no time of a rehearsal, unlike looking again and again
                while any(i.status.state in waiting for i in self.instruments.values()):
                    await self.clock.sleep(0.05)
        except TimeoutError:
            return

    async def close(self) -> None:
        """End scanning and leave every bus."""
        await self.scanner.close()
        await asyncio.gather(*(each.close() for each in self.instruments.values() if isinstance(each, Equipment)))
        await self.wear.close()
        await self._wires.close()
