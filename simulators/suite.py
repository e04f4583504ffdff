"""The instruments of a suite on their buses: one server for each bus, several units on each."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from devices.clock import Clock
from devices.modbus.rtu import Line
from simulators.device import SimDevice
from simulators.facility import suffix_of
from simulators.rtu import RtuServer
from simulators.server import ModbusServer, UnitFaults

Buses = Mapping[str, Mapping[int, SimDevice]]

_NO_LINES: Mapping[str, Line] = {}

LAYOUT: Mapping[str, Mapping[int, str]] = {
    "climate": {1: "incubator"},
    "fluidics": {
        1: "pump_media",
        2: "pump_cells",
        3: "pump_waste",
        4: "valves_media",
        5: "valves_cells",
        6: "valves_waste",
    },
    "weighing": {1: "scales"},
    "freezing": {1: "freezer"},
}
"""Bus -> unit id -> instrument of the demonstration suite, as its site file says it too."""


def layout(cells: int) -> dict[str, dict[int, str]]:
    """Return the layout of a facility: buses of its own for each cell (the second's end in `_2`), one for all."""
    found: dict[str, dict[int, str]] = {}
    for index in range(cells):
        end = suffix_of(index)
        for bus, units in LAYOUT.items():
            if bus != "freezing":
                found[f"{bus}{end}"] = {unit: f"{name}{end}" for unit, name in units.items()}
    return found | {"freezing": dict(LAYOUT["freezing"])}


def wire(devices: Mapping[str, SimDevice], layout: Mapping[str, Mapping[int, str]] = LAYOUT) -> Buses:
    """Return bus -> unit id -> instrument for a plant's `devices`; raises KeyError for one that it has not."""
    return {bus: {unit: devices[name] for unit, name in units.items()} for bus, units in layout.items()}


class Suite:
    """Serve the instruments of an already built plant; `servers[bus].faults[unit]` makes one misbehave."""

    def __init__(self, buses: Buses, clock: Clock, lines: Mapping[str, Line] = _NO_LINES) -> None:
        """`lines` (bus -> manners of the line) are the buses that speak RTU; the others speak Modbus TCP."""
        self.lines = dict(lines)
        self.servers = {
            bus: (RtuServer if bus in self.lines else ModbusServer)(units, clock) for bus, units in buses.items()
        }

    def faults(self, device: SimDevice) -> UnitFaults:
        """Return what is wrong with an instrument, to be changed; raises KeyError when it is on no bus."""
        for server in self.servers.values():
            for unit, served in server.units.items():
                if served is device:
                    return server.faults[unit]
        raise KeyError(f"{device.profile.id} is on none of the buses {sorted(self.servers)}")

    async def start(
        self, ports: Mapping[str, int] | None = None, host: str = "127.0.0.1", serial: Collection[str] = ()
    ) -> dict[str, int | str]:
        """Listen on a port for each bus (0 or none given: any) and return them.

        Those of `serial` get a pseudo-terminal, whose path stands for the port. Raises OSError naming the bus when a
        port is taken; then nothing listens.
        """
        wanted = dict(ports or {})
        taken: dict[str, int | str] = {}
        for bus, server in self.servers.items():
            try:
                if bus in serial and isinstance(server, RtuServer):
                    taken[bus] = await server.start_pty()
                else:
                    taken[bus] = await server.start(host, wanted.get(bus, 0))
            except OSError as error:
                await self.close()
                hint = "is another simulation running? Choose another port or end that one"
                raise OSError(
                    error.errno, f"bus {bus}: cannot listen on {host}:{wanted.get(bus, 0)} ({hint})"
                ) from error
        return taken

    async def close(self) -> None:
        """Close every server."""
        for server in self.servers.values():
            await server.close()
