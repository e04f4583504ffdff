"""Three simple instruments on one RTU line, for tests of the line."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from devices.clock import Clock
from devices.document import parse
from devices.modbus.bus import LinkMaker, ModbusBus
from devices.modbus.driver import ModbusDevice
from devices.modbus.gateway import rtu_tcp_links
from devices.modbus.serial import serial_links
from devices.profile import compile_profile
from simulators.device import SimDevice
from simulators.rtu import RtuServer

PROFILE = compile_profile(
    parse(
        """\
profile: {id: counter, version: 1, role: mini_bioreactor, maker: m, model: x, evidence: simulated, sources: [s]}
transport: {kinds: [tcp, rtu], offline_after: 2}
identity: {fc: 3, addr: 100, type: uint16, expect: 0x5199, serial: {addr: 101, type: uint32}}
blocks:
  state: {fc: 3, addr: 0, count: 4, scan: fast}
  more: {fc: 3, addr: 20, count: 10, scan: slow}
points:
  first: {block: state, addr: 0, type: uint16, stale_ms: 5000}
  second: {block: state, addr: 1, type: uint16, stale_ms: 5000}
  doses: {block: state, addr: 2, type: uint16, stale_ms: 5000}
  unit: {block: state, addr: 3, type: uint16, stale_ms: 5000}
  temperature: {block: more, addr: 20, type: uint16, unit: degC, stale_ms: 5000}
commands:
  dose:
    write: {fc: 6, addr: 2, fields: [{arg: doses, type: uint16, min: 1, max: 65535}]}
    idempotent: false
    verify: {within_ms: 200, points: [{point: doses, arg: doses}]}
  set:
    write:
      fc: 16
      addr: 0
      fields: [{arg: first, type: uint16, min: 0, max: 999}, {arg: second, type: uint16, min: 0, max: 999}]
    idempotent: true
    verify: {within_ms: 200, points: [{point: first, arg: first}, {point: second, arg: second}]}
failsafe: {on_comm_loss: unknown}
""",
        "counter.yaml",
    )
)


class Counter(SimDevice):
    """An instrument whose doses can be counted."""

    def __init__(self, unit: int) -> None:
        self.state: dict[str, Any] = {
            "first": 10 * unit,
            "second": 20 * unit,
            "doses": 0,
            "unit": unit,
            "temperature": unit,
        }
        self.done: list[Mapping[str, Any]] = []
        values = {name: (lambda name=name: self.state[name]) for name in self.state}
        super().__init__(PROFILE, values, {"dose": self._do, "set": self._do}, serial=unit)

    def _do(self, args: Mapping[str, Any]) -> None:
        self.done.append(dict(args))
        self.state.update(args)


@dataclass
class Stand:
    """A line with units 1 to 3, and a bus to them."""

    clock: Clock
    server: RtuServer
    bus: ModbusBus
    where: tuple[str, int]
    link: LinkMaker

    def unit(self, number: int) -> Counter:
        """Return a simulated instrument."""
        device = self.server.units[number]
        assert isinstance(device, Counter)
        return device

    def driver(self, number: int) -> ModbusDevice:
        """Return a driver of one."""
        return ModbusDevice(f"counter{number}", PROFILE, self.bus, number, self.clock)

    async def first(self, number: int) -> int:
        """Read the first register of a unit."""
        return (await self.bus.read(number, 3, 0, 4))[0]


@contextlib.asynccontextmanager
async def line(clock: Clock, over: str, within: float = 0.25, **given: Any) -> AsyncIterator[Stand]:
    """Put up a stand over "tcp" or a "pty", its bus open; `given` to the maker of its links."""
    server = RtuServer({unit: Counter(unit) for unit in (1, 2, 3)}, clock)
    wanted = {"baud": 115200, **given}
    if over == "tcp":
        where, link = ("127.0.0.1", await server.start()), rtu_tcp_links(clock, **wanted)
    else:
        where, link = (await server.start_pty(), 0), serial_links(clock, **wanted)
    bus = ModbusBus("line", *where, clock, timeout=within, link=link)
    await bus.open()
    try:
        yield Stand(clock, server, bus, where, link)
    finally:
        await bus.close()
        await server.close()
