"""Instruments in reach of a command: the controller's own drivers, one bus open, and an ear on what goes over it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, field

from devices.clock import Clock, SystemClock
from devices.instrument import Instrument
from devices.modbus.gateway import rtu_tcp_links
from devices.modbus.link import Ask, Link
from devices.modbus.serial import serial_links
from devices.modbus.wire import LinkMaker, Wire
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.plain import one_line
from tilctl.config import Bus, Site
from tilctl.plant.suite import Suite

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

    def at_once(self, ask: Ask) -> list[int] | None:
        """Return None: what is not awaited cannot be timed."""
        return None

    async def exchange(self, ask: Ask, timeout_s: float) -> list[int]:
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


def maker_of(bus: Bus, clock: Clock) -> LinkMaker:
    """Return what makes the connections of a bus, as its kind says."""
    if bus.kind == "modbus-tcp":
        return Link
    if bus.kind == "modbus-rtu-tcp":
        return rtu_tcp_links(clock, turnaround=bus.turnaround)
    lines = serial_links(
        clock, baud=bus.baud, format=bus.format, turnaround=bus.turnaround, local_echo=bus.local_echo
    )  # fmt: skip
    return lambda _host, _port, on_lost: lines(bus.path, 0, on_lost)


@dataclass(frozen=True, slots=True)
class Reach:
    """The instruments of a site, as the controller would have them; `heard` by bus."""

    site: Site
    suite: Suite
    clock: SystemClock
    heard: dict[str, Heard]

    def instrument(self, name: str) -> Instrument:
        """Return an instrument of the site file, also where it is a part of equipment."""
        return self.suite.devices[name]

    def heard_of(self, name: str) -> Heard:
        """Return what was heard on the bus of an instrument."""
        return self.heard[self.site.devices[name].bus]


@contextlib.asynccontextmanager
async def reach(site: Site, names: Iterable[str]) -> AsyncGenerator[Reach]:
    """Open the buses of these instruments, and no other, for as long as the block lasts; nothing is scanned."""
    clock = SystemClock()
    heard = {bus: Heard() for bus in site.buses}
    makers = {name: maker_of(bus, clock) for name, bus in site.buses.items() if bus.kind != "mqtt"}
    links = {name: listening(maker, heard[name], clock.monotonic) for name, maker in makers.items()}
    suite = Suite(site, clock, links)
    try:
        for bus in dict.fromkeys(site.devices[name].bus for name in names):
            await suite.buses[bus].open()
        yield Reach(site, suite, clock, heard)
    finally:
        await suite.close()
        clock.close()


def known(site: Site, names: Iterable[str]) -> list[str]:
    """Return the names, each of which the site file must have; raises CommandFailed."""
    found = list(names)
    for name in found:
        if name not in site.devices:
            text = f"no instrument is called {one_line(name)!r}; the site file has {', '.join(site.devices)}"
            raise CommandFailed(Exit.BAD_INPUT, text)
    return found
