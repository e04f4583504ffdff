"""The suite: every instrument of the site with its bus, the process image, the scanner and the output gate."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from devices.clock import Clock
from devices.instrument import DeviceState, Instrument
from devices.modbus.bus import LinkMaker, ModbusBus
from devices.modbus.driver import ModbusDevice
from devices.modbus.link import Link
from devices.profile import load_profile
from tilctl.config import Site
from tilctl.plant.image import ProcessImage
from tilctl.plant.outputs import OutputGate
from tilctl.plant.scanning import Scanner, ScanPeriods
from tilctl.plant.sharing import Sharing, known_to_rest
from tilctl.plant.unit import UnitPlant

_QUIET_ROLES = ("bioreactor",)  # what the cells live in is read at the quiet pace, what only rests at the idle pace


class Suite:
    """All of the plant, opened and closed as one."""

    def __init__(self, site: Site, clock: Clock, links: Mapping[str, LinkMaker] | None = None) -> None:
        """Describe the suite of a site; `links` (bus -> maker) stand in for TCP where a rehearsal brings them."""
        self.site = site
        self.clock = clock
        makers = links or {}
        self.buses = {
            name: ModbusBus(name, bus.host, bus.port, clock, timeout=bus.timeout, link=makers.get(name, Link))
            for name, bus in site.buses.items()
        }
        self.instruments: dict[str, Instrument] = {
            name: ModbusDevice(name, load_profile(device.profile), self.buses[device.bus], device.unit, clock)
            for name, device in site.devices.items()
        }
        self.image = ProcessImage(clock)
        self.gate = OutputGate(self.instruments, self.image.put)
        self.sharing = Sharing(self.gate, clock, partial(known_to_rest, self.image, self.instruments))
        self.image.watch(lambda device, _readings: self.sharing.scanned(device))
        self.scanner = Scanner(clock, self.image, ScanPeriods(site.scan.active, site.scan.quiet, site.scan.idle))
        for instrument in self.instruments.values():
            self.scanner.add(instrument, quiet=instrument.profile.role in _QUIET_ROLES)
        self.units = {
            name: UnitPlant(name, unit, self.instruments, clock, self.image, self.gate, self.scanner)
            for name, unit in site.units.items()
        }

    async def open(self) -> None:
        """Connect every bus and begin to scan; an absent device is no error here, it shows as offline."""
        await asyncio.gather(*(bus.open() for bus in self.buses.values()))
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
        await asyncio.gather(*(bus.close() for bus in self.buses.values()))
