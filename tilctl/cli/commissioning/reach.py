"""Instruments in reach of a command: the controller's own drivers, one bus open, and an ear on what goes over it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from devices.clock import SystemClock
from devices.equipment.spec import parts_of
from devices.instrument import DeviceState, Instrument
from devices.kept import Kept
from devices.modbus.bus import ModbusBus
from devices.modbus.pdu import Ask, Deliver, nobody
from devices.modbus.wire import LinkMaker, Wire
from devices.wear import WriteLedger
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.plain import one_line
from tilctl.config import Site
from tilctl.plant.wires import Wires, maker_of

JOINED_WITHIN_S = 5.0  # to join a broker, and to hear from what is behind it
LOOK_S = 0.05
Where = tuple[int, int, int, int]
"""Unit, function code, address, count."""


@dataclass
class Heard:
    """What went over the wire: the registers that each read brought last, and how long (s) each exchange took."""

    words: dict[Where, list[int]] = field(default_factory=dict[Where, list[int]])
    took: dict[Where, float] = field(default_factory=dict[Where, float])
    latencies: list[float] = field(default_factory=list[float])


class _Ear:
    """A wire that is listened to; `devices.modbus.bus.Wire`."""

    def __init__(self, wire: Wire, heard: Heard, monotonic: Callable[[], float]) -> None:
        self._wire = wire
        self._heard = heard
        self._monotonic = monotonic

    @property
    def connected(self) -> bool:
        """Whether the connection stands."""
        return self._wire.connected

    @property
    def lost(self) -> bool:
        """Whether the peer has ended it."""
        return self._wire.lost

    async def connect(self, timeout_s: float) -> None:
        """Connect once; raises OSError or TimeoutError."""
        await self._wire.connect(timeout_s)

    async def settle(self, timeout_s: float) -> None:
        """Wait until nothing of the past can come any more; raises OSError."""
        await self._wire.settle(timeout_s)

    @property
    def free_at(self) -> float:
        """From when on (monotonic s) a request may be sent."""
        return self._wire.free_at

    def at_once(self, ask: Ask) -> list[int] | None:
        """Return None: what is not awaited cannot be timed."""
        return None

    async def exchange(self, ask: Ask, timeout_s: float, deliver: Deliver = nobody) -> list[int]:
        """Send one request, at most once, and return its checked reply."""
        began = self._monotonic()
        words = await self._wire.exchange(ask, timeout_s)
        seconds = self._monotonic() - began
        where = (ask.unit, ask.fc, ask.addr, ask.count)
        self._heard.latencies.append(seconds)
        self._heard.took[where] = seconds
        if not ask.words:
            self._heard.words[where] = words
        return words

    def drop(self) -> None:
        """End the connection at once."""
        self._wire.drop()


def listening(maker: LinkMaker, heard: Heard, monotonic: Callable[[], float]) -> LinkMaker:
    """Return a maker of connections that are listened to."""
    return lambda host, port, on_lost: _Ear(maker(host, port, on_lost), heard, monotonic)


@dataclass(frozen=True, slots=True)
class Reach:
    """The instruments of a site, as the controller would have them; `heard` by bus."""

    site: Site
    wires: Wires
    clock: SystemClock
    heard: dict[str, Heard]

    def instrument(self, name: str) -> Instrument:
        """Return an instrument of the site file, also where it is a part of equipment."""
        return self.wires.devices[name]

    def heard_of(self, name: str) -> Heard:
        """Return what was heard on the bus of an instrument; nothing of a broker."""
        return self.heard[self.site.devices[name].bus]

    async def open(self, names: Sequence[str]) -> None:
        """Open the buses and brokers of these instruments, and no other; wait a while for those behind a broker."""
        used = dict.fromkeys(self.site.devices[name].bus for name in names)
        for bus in used:
            await (self.wires.buses[bus] if bus in self.wires.buses else self.wires.brokers[bus]).open()
        brokers = [self.wires.brokers[bus] for bus in used if bus in self.wires.brokers]
        behind = [self.wires.devices[name] for name in names if self.site.devices[name].bus in self.wires.brokers]
        await self._until(lambda: all(broker.connected for broker in brokers))
        await self._until(lambda: all(each.status.state is not DeviceState.OFFLINE for each in behind))

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait until it is so, at most JOINED_WITHIN_S: what is not there by then is told when it is asked."""
        deadline = self.clock.monotonic() + JOINED_WITHIN_S
        while not condition() and self.clock.monotonic() < deadline:
            await self.clock.sleep(LOOK_S)


@contextlib.asynccontextmanager
async def reach(site: Site, names: Sequence[str]) -> AsyncGenerator[Reach]:
    """Have instruments in reach for as long as the block lasts; nothing is scanned.

    Writes to memory that wears are counted where the controller counts them.
    """
    clock = SystemClock()
    wear = WriteLedger(clock, Kept(clock, site.data / "writes.json"))
    heard = {bus: Heard() for bus in site.buses}
    makers = {name: maker_of(bus, clock) for name, bus in site.buses.items() if bus.kind != "mqtt"}
    wires = Wires(site, clock, wear, {n: listening(maker, heard[n], clock.monotonic) for n, maker in makers.items()})
    paced(site, wires.buses)
    there = Reach(site, wires, clock, heard)
    try:
        await there.open(names)
        yield there
    finally:
        await wear.close()
        await wires.close()
        clock.close()


def paced(site: Site, buses: Mapping[str, ModbusBus]) -> None:
    """Give each unit the pauses that its profile asks for."""
    for name, device in site.devices.items():
        bus = buses.get(device.bus)
        if bus is not None:
            profile = site.profiles[name]
            bus.pace(device.unit, profile.gap_s)
            bus.pause_after_connect = max(bus.pause_after_connect, profile.pause_after_connect_s)


def known(site: Site, names: Iterable[str]) -> list[str]:
    """Return the names, each of which the site file must have; raises CommandFailed."""
    found = list(names)
    for name in found:
        if name in site.equipment:
            parts = ", ".join(parts_of(site.equipment[name]))
            raise CommandFailed(
                Exit.BAD_INPUT, f"{name} is equipment of parts, and no instrument of its own: ask its parts, {parts}"
            )
        if name not in site.devices:
            text = f"no instrument is called {one_line(name)!r}; the site file has {', '.join(site.devices)}"
            raise CommandFailed(Exit.BAD_INPUT, text)
    return found
