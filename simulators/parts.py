"""Any instrument from its profile alone: its registers as plain memory, with physics over the points that have some.

A point reads what physics says of it; else what a command did to it; else what was last written to its registers; else
what the profile's `sim.values` say; else 0, or its first symbol.  A command does what its read-back expects of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from devices.codec import RegType, decode
from devices.profile_sim import sim_value
from devices.profile_types import Command, Point, Profile
from simulators.device import READS_BACK, Getter, Handler, Life, SimDevice, Value

_Written = Mapping[tuple[int, int], int]


def simulated(
    profile: Profile,
    values: Mapping[str, Getter] | None = None,
    handlers: Mapping[str, Handler] | None = None,
    *,
    serial: int | str = 0,
) -> SimDevice:
    """Return the instrument of a profile; `values` and `handlers` are what physics gives and takes, by name."""
    return _Registers(profile, values or {}, handlers or {}).device(serial)


class _Registers:
    """The memory of one instrument."""

    def __init__(self, profile: Profile, values: Mapping[str, Getter], handlers: Mapping[str, Handler]) -> None:
        self._profile = profile
        self._physics = {name: values[name] for name in profile.points if name in values}
        self._handlers = {name: handlers[name] for name in profile.commands if name in handlers}
        self._effects: dict[str, Value] = {}  # point -> what a command made of it
        self._bits: dict[str, dict[str, bool]] = {}
        self._said = {} if profile.sim is None else dict(profile.sim.values)
        self._written: _Written = {}

    def device(self, serial: int | str) -> SimDevice:
        """Return it behind its registers."""
        getters = {name: self._getter(point) for name, point in self._profile.points.items()}
        handlers = {name: self._handler(command) for name, command in self._profile.commands.items()}
        device = SimDevice(self._profile, getters, handlers, serial=serial)
        self._written = device.written
        device.life = Life(off=self._forget)
        return device

    def _forget(self) -> None:
        """Lose what a power cut takes: what commands did, but for memory that wears, which is there to stay."""
        kept = {
            check.point
            for command in self._profile.commands.values()
            if command.storage is not None
            for check in command.verify.checks
        }
        self._effects = {name: value for name, value in self._effects.items() if name in kept}
        self._bits.clear()

    def _getter(self, point: Point) -> Getter:
        physics = self._physics.get(point.name)
        if physics is not None:
            return physics
        fc = self._profile.blocks[point.block].fc
        places = [(fc, point.addr + i) for i in range(point.words)]
        default = self._default(point)

        def read() -> Value:
            value = default
            if point.name in self._effects:
                value = self._effects[point.name]
            elif places[0] in self._written and all(place in self._written for place in places):
                value = _value(point, [self._written[place] for place in places])
            bits = self._bits.get(point.name)
            if not bits or not isinstance(value, int):
                return value
            for index, name in point.bits.items():
                if name in bits:
                    value = value | 1 << index if bits[name] else value & ~(1 << index)
            return value

        return read

    def _default(self, point: Point) -> Value:
        """Return what a point reads before anybody wrote to it."""
        said = self._said.get(point.name)
        if said is not None:
            return sim_value(point, said)
        for setting in self._profile.asserts:
            same = (setting.fc, setting.addr) == (self._profile.blocks[point.block].fc, point.addr)
            if same and setting.among:
                raw = setting.among[0]
                return point.symbols.get(int(raw), raw) if point.symbols else raw * point.scale + point.offset
        if point.type is RegType.STRING:
            return ""
        if point.type is RegType.BOOL:
            return False
        if point.symbols:
            return next(iter(point.symbols.values()))
        if point.range is not None and not point.range[0] <= 0.0 <= point.range[1]:
            return point.range[0]
        return 0

    def _handler(self, command: Command) -> Handler:
        physics = self._handlers.get(command.name)
        touched = {(READS_BACK[command.fc], command.addr + i) for i in range(command.words)}

        def carry_out(args: Mapping[str, Any]) -> None:
            if physics is not None:
                physics(args)
            for point in self._profile.points.values():
                fc = self._profile.blocks[point.block].fc
                if {(fc, point.addr + i) for i in range(point.words)} & touched:
                    self._effects.pop(point.name, None)
            for check in command.verify.checks:
                value: Value = args.get(check.arg) if check.arg is not None else check.among[0] if check.among else None
                self._do(check.point, value, told=check.arg is not None, touched=touched)

        return carry_out

    def _do(self, name: str, value: Value, *, told: bool, touched: set[tuple[int, int]]) -> None:
        bit = self._profile.bits.get(name)
        if bit is not None:
            self._bits.setdefault(bit.point, {})[name] = bool(value)
            return
        point = self._profile.points[name]
        place = (self._profile.blocks[point.block].fc, point.addr)
        if not (told and place in touched):  # what was written there reads back by itself
            self._effects[name] = value


def _value(point: Point, words: list[int]) -> Value:
    """Return what registers mean, in the unit of the point."""
    raw = decode(point.type, words, point.order)
    if isinstance(raw, str):
        return raw
    if point.symbols:
        return point.symbols.get(int(raw), next(iter(point.symbols.values())))
    if point.type is RegType.BOOL:
        return raw != 0
    if point.bits:
        return int(raw)
    return raw * point.scale + point.offset
