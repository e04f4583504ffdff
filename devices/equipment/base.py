"""What all equipment has in common: it is an instrument to the controller, and asks its parts.

A point of the equipment is a reading of a part, or is made from several; its quality and time are theirs.  A part that
fails makes bad what comes from it and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from devices.clock import Clock
from devices.codec import RegType, WordOrder
from devices.instrument import (
    Args,
    CommandRefused,
    DeviceError,
    DeviceOffline,
    DeviceState,
    DeviceStatus,
    Instrument,
    Priority,
    ReadFailed,
)
from devices.profile_types import Block, Command, Point, Profile, Slot, Verify
from devices.quantity import CANONICAL
from devices.reading import Quality, Reading, bad
from devices.role import ROLES

OnPart = Callable[[str, Mapping[str, Reading] | None], None]
"""Told what a part read, or None when it failed."""

Act = Callable[[Args, Priority], Awaitable[None]]
NOW, REST = "now", "rest"  # the two blocks of equipment: what its parts scan fast, and slowly
_WORST = (DeviceState.FAULT, DeviceState.OFFLINE, DeviceState.CHECKING, DeviceState.ONLINE)
_EVIDENCE = ("simulated", "driver", "manual", "manual+driver", "bench")
_USABLE = (Quality.GOOD, Quality.UNCERTAIN)


class Source(NamedTuple):
    """A point of a part; one is made for each reading, which a tuple costs least."""

    part: str
    point: str

    def __str__(self) -> str:
        return f"{self.part}.{self.point}"


@dataclass(frozen=True, slots=True)
class Parts:
    """What equipment is built of, and what it needs of the place around it."""

    instruments: Mapping[str, Instrument]
    clock: Clock
    told: OnPart = lambda _name, _readings: None


class Equipment:
    """A role filled by several instruments; `devices.instrument.Instrument`."""

    role = ""
    idempotent: Mapping[str, bool] = {}
    """Command -> whether it may be repeated; the commands of the role, and those beyond it."""
    ends = ""
    """The command that everything under way gives way to."""
    counter = True
    """Of a pump: it counts what it moved."""

    def __init__(self, name: str, parts: Parts, used: tuple[str, ...], safe_command: str | None = None) -> None:
        """Build it of the parts named `used`, asked in this order."""
        self.name = name
        self.clock = parts.clock
        self.parts = {part: parts.instruments[part] for part in dict.fromkeys(used)}
        self.latest: dict[Source, Reading] = {}
        self.ended = 0
        """How many commands `ends` have come: who finds more than when it began was overtaken."""
        self._told = parts.told
        self._trouble: dict[str, DeviceError] = {}
        self.profile = self._described(safe_command)

    @property
    def status(self) -> DeviceStatus:
        """The worst of its parts, and which it is."""
        each = [(part.status, name) for name, part in self.parts.items()]
        for state in _WORST:
            texts = [f"{name}: {status.text or state.value}" for status, name in each if status.state is state]
            if texts:
                return DeviceStatus(state, "" if state is DeviceState.ONLINE else "; ".join(texts))
        return DeviceStatus(DeviceState.ONLINE)

    @property
    def serial(self) -> str:
        """The serial numbers of the parts that have one; "" until all of them were read."""
        numbered = {name: part for name, part in self.parts.items() if has_serial(part.profile)}
        if not numbered or not all(part.serial for part in numbered.values()):
            return ""
        return ", ".join(f"{name} {part.serial}" for name, part in numbered.items())

    async def read(self, block: str, priority: Priority = Priority.DATA) -> dict[str, Reading]:
        """Read what the parts scan fast (`now`) or slowly (`rest`); raises DeviceError when no part answers."""
        await self._ask("fast" if block == NOW else "slow", priority)
        return self._derived()

    async def read_all(self, priority: Priority = Priority.DATA) -> dict[str, Reading]:
        """Read both blocks; raises DeviceError when no part answers."""
        return {**await self.read(NOW, priority), **await self.read(REST, priority)}

    async def command(self, name: str, args: Args, priority: Priority = Priority.COMMAND) -> dict[str, Reading]:
        """Carry out a command of the role through the parts; see `Instrument.command`."""
        act = self.acts().get(name)
        if act is None:
            known = ", ".join(self.profile.commands) or "none"
            raise CommandRefused(self.name, f"{self.profile.id} has no command {name}", f"its commands: {known}")
        # Invariant: counted before anything is awaited: what ends something outlasts all that was under way to it.
        if name == self.ends:
            self.ended += 1
        await act(args, priority)
        return self._derived()

    async def close(self) -> None:
        """End what it does by itself."""

    # --- for the kinds of equipment -------------------------------------------------------------------------------

    def acts(self) -> Mapping[str, Act]:
        """Return what carries out each command."""
        return {}

    def derive(self) -> dict[str, Reading]:
        """Return the points of the role, from the latest readings of the parts."""
        return {}

    async def order(
        self, part: str, command: str, args: Args, priority: Priority = Priority.COMMAND
    ) -> dict[str, Reading]:
        """Command a part, once, and keep what it read back; raises DeviceError."""
        readings = await self.parts[part].command(command, args, priority)
        self._keep(part, readings)
        return readings

    async def look(self, part: str, priority: Priority = Priority.COMMAND) -> None:
        """Read all that a part scans, now; raises DeviceError."""
        self._keep(part, await self.parts[part].read_all(priority))

    async def look_at(self, part: str, block: str, priority: Priority = Priority.COMMAND) -> None:
        """Read one block of a part, now; raises DeviceError."""
        self._keep(part, await self.parts[part].read(block, priority))

    def seen(self, source: Source | None, unit: str) -> Reading:
        """Return the latest reading of a part in `unit`; bad where it failed or was never read, or is in another unit.

        Invariant: nothing is relabelled: 22 degC never becomes 22 % CO2.
        """
        reading = None if source is None else self.latest.get(source)
        if source is None or reading is None or source.part in self._trouble:
            return bad(unit, self.clock.monotonic())
        return reading if reading.unit == unit else bad(unit, reading.at)

    def number(self, source: Source | None) -> float | None:
        """Return the latest value of a part as a number; None where it is not to be trusted."""
        reading = None if source is None else self.latest.get(source)
        if source is None or reading is None or source.part in self._trouble:
            return None
        if reading.quality not in _USABLE or isinstance(reading.value, str) or reading.value is None:
            return None
        return float(reading.value)

    # --- inside ---------------------------------------------------------------------------------------------------

    async def _ask(self, scan: str, priority: Priority) -> None:
        """Read the blocks of a scan class of every part, all parts beside each other."""
        asked = [
            (name, [b for b in part.profile.blocks.values() if b.scan == scan]) for name, part in self.parts.items()
        ]
        wanted = [(name, blocks) for name, blocks in asked if blocks]
        if not wanted:
            return
        failed = await asyncio.gather(*(self._ask_part(name, blocks, priority) for name, blocks in wanted))
        errors = [error for error in failed if error is not None]
        if len(errors) == len(wanted):
            raise DeviceOffline(self.name, "; ".join(map(str, errors)), "see to its parts") from errors[0]

    async def _ask_part(self, name: str, blocks: list[Block], priority: Priority) -> DeviceError | None:
        part = self.parts[name]
        try:
            for block in blocks:
                self._keep(name, await part.read(block.id, priority))
        except DeviceError as error:
            trouble = error
        except Exception as error:  # noqa: BLE001 - Invariant: a driver that fails by itself harms its own part only
            trouble = ReadFailed(name, f"its driver failed: {error!r:.200}", "report it")
        else:
            return None
        self._trouble[name] = trouble
        self._told(name, None)
        return trouble

    def _keep(self, part: str, readings: Mapping[str, Reading]) -> None:
        self._trouble.pop(part, None)
        for point, reading in readings.items():
            self.latest[Source(part, point)] = reading
        if readings:
            self._told(part, readings)

    def _derived(self) -> dict[str, Reading]:
        return {name: reading for name, reading in self.derive().items() if name in self.profile.points}

    def _described(self, safe_command: str | None) -> Profile:
        """Return the profile of the equipment: its role's points and commands, its parts' evidence."""
        role = ROLES[self.role]
        units = {**role.points, **role.tags, **self.own_points()}
        points = {name: _point(name, unit) for name, unit in units.items()}
        profiles = [part.profile for part in self.parts.values()]
        scans = {block.scan for profile in profiles for block in profile.blocks.values()}
        blocks = {NOW: Block(NOW, 0, 0, 0, "fast", atomic=False, points=tuple(points.values()))}
        if "slow" in scans:
            blocks[REST] = Block(REST, 0, 0, 0, "slow", atomic=False, points=())
        commands = {
            name: _command(name, role.commands.get(name, ()), idempotent=idempotent)
            for name, idempotent in self.idempotent.items()
        }
        return Profile(
            id=f"{self.role} of {', '.join(profile.id for profile in profiles)}",
            version=1,
            role=self.role,
            maker="several",
            model=", ".join(profile.model for profile in profiles),
            evidence=min((profile.evidence for profile in profiles), key=_EVIDENCE.index),
            sources=tuple(dict.fromkeys(source for profile in profiles for source in profile.sources)),
            order=WordOrder.ABCD,
            offline_after=max(profile.offline_after for profile in profiles),
            max_read=0,
            max_write=0,
            identity=None,
            asserts=(),
            blocks=blocks,
            points=points,
            bits={},
            commands=commands,
            safe_command=safe_command,
            on_comm_loss="keeps_running",
            watchdog=None,
            after_power_loss={},
            sim=None,
            sha256="".join(profile.sha256[:8] for profile in profiles),
            open_checks=tuple(f"{profile.id}: {text}" for profile in profiles for text in profile.open_checks),
            counter=self.counter,
        )

    def own_points(self) -> Mapping[str, str]:
        """Return points beyond those of the role, with their units."""
        return {}


def has_serial(profile: Profile) -> bool:
    """Tell whether a part says which unit it is, not only which model."""
    identity = profile.identity
    return identity is not None and (identity.serial is not None or not identity.setting.expected)


def _point(name: str, unit: str) -> Point:
    kind = RegType.FLOAT64 if unit in CANONICAL else RegType.UINT16
    return Point(name, NOW, 0, kind, 0, WordOrder.ABCD, unit, 1.0, 0.0, {}, {}, None, 60_000, (), ())


def _command(name: str, args: tuple[str, ...], *, idempotent: bool) -> Command:
    fields = tuple(Slot(arg, None, RegType.FLOAT64, 0, WordOrder.ABCD, "", 1.0, None, None, {}) for arg in args)
    return Command(name, 0, 0, 0, fields, None, idempotent, Verify(0, (), None, (), "by its parts"))
