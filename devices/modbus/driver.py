"""An instrument on a Modbus bus: its profile made alive.

Identity and settings are checked on every new connection before a value is trusted or a command is sent. A
command is written at most once and then proven by reading back; what cannot be proven is said, never guessed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from devices import codec
from devices.clock import Clock
from devices.elsewhere import ElsewhereRules
from devices.frames import ArgumentError, BlockDecoder, command_address, encode_command, holds, wanted
from devices.instrument import (
    Args,
    CommandRefused,
    DeviceError,
    DeviceOffline,
    DeviceState,
    DeviceStatus,
    NotApplied,
    OutcomeUnknown,
    Priority,
    ReadFailed,
)
from devices.modbus.bus import ModbusBus, ReconnectedError
from devices.modbus.link import BadReplyError, BusError, ExceptionReplyError, NoReplyError, NotSentError
from devices.profile_types import Check, Command, Profile, Setting
from devices.reading import Quality, Reading, Value
from devices.wear import WriteLedger

CHECK_PERIOD_S = 3600.0
ALIVE_WITHIN_S = 5.0
PROBE_MIN_S = 1.0
PROBE_MAX_S = 30.0
_REFUSALS = frozenset({1, 2, 3, 6, 7})
"""Exceptions after which a write has had no effect; after any other its outcome is unknown."""
_ACKNOWLEDGE = 5
_COILS = (5, 15)
_ABSENT = frozenset({10, 11})
"""A gateway answers for a device that does not."""

_Wanted = list[tuple[Check, tuple[float | bool | str, ...]]]


class ModbusDevice:
    """One unit on a bus, driven by its profile. Has no task of its own: it works when it is asked."""

    def __init__(
        self, name: str, profile: Profile, bus: ModbusBus, unit: int, clock: Clock, wear: WriteLedger | None = None
    ) -> None:
        """Bind a profile to a unit (1 to 247) of a bus; nothing is sent before the first read.

        `wear` counts the writes to memory that wears, over all restarts; without one they are counted from now on.
        """
        if not 1 <= unit <= 247:
            raise ValueError(f"{name}: unit {unit} is not between 1 and 247")
        self.name = name
        self.profile = profile
        self.status = DeviceStatus(DeviceState.OFFLINE, "not contacted yet")
        self.serial = ""
        self._bus = bus
        self._unit = unit
        self._clock = clock
        self._decoders = {block.id: BlockDecoder(block) for block in profile.blocks.values()}
        self._alive = {point.block: point.name for point in profile.points.values() if point.alive}
        self._moved: dict[str, tuple[Value, float]] = {}  # block -> what its living point was, and since when
        self._elsewhere = ElsewhereRules(profile)
        self._wear = wear or WriteLedger(clock)
        self._wrote: dict[str, float] = {}  # command -> when it was written last (monotonic s)
        self._kept: dict[str, int] = {}  # point -> word, of which a command keeps bits
        self._generation = -1
        self._foreign = False
        self._check_due = 0.0
        self._checking = asyncio.Lock()
        self._failures = 0
        self._probe_at = 0.0
        self._probe_pause = PROBE_MIN_S

    async def read(self, block: str, priority: Priority = Priority.DATA) -> dict[str, Reading]:
        """Read one block with one request. Raises DeviceOffline or ReadFailed."""
        registers = await self._registers(block, priority)
        now = self._clock.monotonic()
        readings = self._decoders[block].decode(registers, now)
        if self.profile.elsewhere:
            readings = self._elsewhere.judged(readings, now)
        return self._moving(block, readings) if block in self._alive else readings

    def _moving(self, block: str, readings: dict[str, Reading]) -> dict[str, Reading]:
        """Invariant: an instrument that answers, but whose registers stand still, is not taken for good."""
        living = readings[self._alive[block]]
        value, since = self._moved.get(block, (None, living.at))
        if living.value != value:
            self._moved[block] = (living.value, living.at)
        elif living.at - since >= ALIVE_WITHIN_S:
            return {
                name: replace(reading, quality=Quality.STALE) if reading.quality is Quality.GOOD else reading
                for name, reading in readings.items()
            }
        return readings

    async def read_all(self, priority: Priority = Priority.DATA) -> dict[str, Reading]:
        """Read every block that is scanned, one after the other. Raises DeviceOffline or ReadFailed."""
        readings: dict[str, Reading] = {}
        for block in self.profile.blocks.values():
            if block.scan != "demand":
                readings |= await self.read(block.id, priority)
        return readings

    async def command(self, name: str, args: Args, priority: Priority = Priority.COMMAND) -> dict[str, Reading]:
        """Write once, then read back until the profile's checks hold; return the readings that prove it.

        Raises CommandRefused or DeviceOffline (no effect), NotApplied or OutcomeUnknown.
        """
        command = self.profile.commands.get(name)
        if command is None:
            known = ", ".join(self.profile.commands) or "none"
            raise CommandRefused(self.name, f"{self.profile.id} has no command {name}", f"its commands: {known}")
        urgent = priority is Priority.STOP
        try:
            kept = await self._kept_words(command, priority)
            addr, words = command_address(command, args), encode_command(command, args, kept)
            checks = [(check, wanted(command, check, args)) for check in command.verify.checks]
        except ArgumentError as error:
            raise CommandRefused(self.name, str(error), "nothing was sent") from None
        try:
            await self._ready(priority)
            if not urgent:
                await self._allowed(command, priority)
            if command.verify.blocks and not urgent and (command.only_on_change or not command.idempotent):
                proven, readings = await self._evidence(command, checks, addr, words, priority)
                if proven and command.only_on_change:
                    return readings
                if proven:
                    # Invariant: a command that must not be repeated is not sent when its evidence holds already;
                    # its read-back would prove nothing.
                    raise CommandRefused(
                        self.name,
                        f"{name} was not sent: {_show(readings, checks)} already",
                        "use a new sequence number",
                    )
        except ReadFailed as error:
            raise CommandRefused(self.name, f"{name} was not sent: {error.what}", error.hint) from error
        lost = await self._write_once(command, addr, words, priority)
        return await self._prove(command, checks, addr, words, priority, lost)

    async def _kept_words(self, command: Command, priority: Priority) -> dict[str, int]:
        """Return the words of which the command keeps bits, as they are now.

        Invariant: a stop goes out whatever is known: with the word as it was last seen, or without bits to keep.
        """
        for point in {slot.keep for slot in command.fields if slot.keep}:
            block = self.profile.blocks[self.profile.points[point].block]
            try:
                registers = await self._registers(block.id, priority)
            except (DeviceOffline, ReadFailed) as error:
                if priority is not Priority.STOP:
                    raise CommandRefused(self.name, f"{command.name} was not sent: {error.what}", error.hint) from error
                self._kept.setdefault(point, 0)
            else:
                self._kept[point] = registers[self.profile.points[point].addr - block.addr]
        return self._kept

    async def _allowed(self, command: Command, priority: Priority) -> None:
        """Hold a command against what its profile asks for; raises CommandRefused, and waits for its interval."""
        if why := self._wear.refusal(self.name, command):
            raise CommandRefused(
                self.name, f"{command.name} was not sent: {why}", "its memory wears out; see the profile"
            )
        for check in command.requires:
            block = self.profile.points[self._point_of(check.point)].block
            reading = (await self.read(block, priority)).get(check.point)
            if not holds(check, check.among, reading):
                shown = "not known" if reading is None or reading.quality is not Quality.GOOD else reading.value
                text = f"{command.name} was not sent: {check.point} is {shown}, it must be {check.wish}"
                raise CommandRefused(self.name, text, "bring the instrument into that state first")
        last = self._wrote.get(command.name)
        if last is not None and command.min_interval_s:
            await self._clock.sleep_until(last + command.min_interval_s)

    def _point_of(self, name: str) -> str:
        return self.profile.bits[name].point if name in self.profile.bits else name

    async def _registers(self, block_id: str, priority: Priority, moved: int = 0) -> list[int]:
        """Return the registers of a block from a checked instrument, or those `moved` addresses further on."""
        if self._generation != self._bus.generation or self._clock.monotonic() >= self._check_due:
            await self._ready(priority)
        block = self.profile.blocks[block_id]
        return await self._fetch(block.fc, block.addr + moved, block.count, priority)

    async def _fetch(self, fc: int, addr: int, count: int, priority: Priority) -> list[int]:
        """Read registers, and keep the books of what failed."""
        try:
            registers = await self._bus.read(self._unit, fc, addr, count, priority=priority)
        except BusError as error:
            raise self._failed(error, f"reading {count} registers from {addr} (function code {fc})") from error
        self._failures, self._probe_at = 0, 0.0  # somebody answers: the next scan may look
        return registers

    def _failed(self, error: BusError, doing: str) -> DeviceError:
        """Judge a failure: the bus, the unit, or the request; return what to raise."""
        if isinstance(error, NotSentError):
            if self._bus.down:
                self._generation = -1
                self.status = DeviceStatus(DeviceState.OFFLINE, str(error))
            return DeviceOffline(self.name, str(error), "check network, power and address of the bus")
        if isinstance(error, ExceptionReplyError) and error.code not in _ABSENT:
            self._failures = 0
            return ReadFailed(self.name, f"{doing}: {error}", "the profile may not fit this instrument")
        self._failures += 1
        text = f"{doing}: {error}"
        if self._failures >= self.profile.offline_after or isinstance(error, ExceptionReplyError):
            self._put_off(DeviceState.OFFLINE, text)
            return DeviceOffline(self.name, text, f"probed every {PROBE_MAX_S:g} s; check power and unit {self._unit}")
        self.status = DeviceStatus(DeviceState.CHECKING, text)
        return ReadFailed(self.name, text, f"failure {self._failures} of {self.profile.offline_after}")

    def _put_off(self, state: DeviceState, text: str) -> None:
        """Leave the instrument alone for a while, so that it does not slow its neighbours."""
        self.status = DeviceStatus(state, text)
        self._generation = -1
        self._probe_at = self._clock.monotonic() + self._probe_pause
        self._probe_pause = min(2 * self._probe_pause, PROBE_MAX_S)

    async def _ready(self, priority: Priority) -> None:
        """Make sure that identity and settings were checked on this connection.

        Raises DeviceOffline or ReadFailed; at once while an absent or wrong instrument is left alone.

        Invariant: a stop is sent without any of this, however the instrument is thought of. After a reconnect it is
        almost surely still the one that it was, a stop or close does it no harm, and the check costs time or fails
        just when the stop is needed. Only one whose identity was read and is another's is asked again who it is:
        there nothing of ours runs, and the registers mean something else.
        """
        if priority is Priority.STOP and not self._foreign:
            return
        async with self._checking:
            for _ in range(3):  # a reconnect during the check asks for another
                now = self._clock.monotonic()
                if self._generation == self._bus.generation and now < self._check_due:
                    return
                if now < self._probe_at and priority is not Priority.STOP:
                    self._refuse()
                if self.status.state is DeviceState.ONLINE:
                    self.status = DeviceStatus(DeviceState.CHECKING, "")
                await self._check_identity(priority)
                generation = self._bus.generation  # of the connection that brought the reply just now
                for setting in self.profile.asserts:
                    registers = await self._fetch(setting.fc, setting.addr, setting.words, priority)
                    self._check_setting(setting, registers, setting.addr)
                if generation == self._bus.generation:
                    self.status = DeviceStatus(DeviceState.ONLINE)
                    self._generation, self._check_due = generation, now + CHECK_PERIOD_S
                    self._failures, self._probe_pause = 0, PROBE_MIN_S
        if self._generation != self._bus.generation:
            raise ReadFailed(self.name, "the bus reconnects faster than the instrument can be checked", "")

    def _refuse(self) -> None:
        """Raise again what the last probe found."""
        if self.status.state is DeviceState.FAULT:
            raise ReadFailed(self.name, self.status.text, "put it right; it is looked at again by itself")
        raise DeviceOffline(self.name, self.status.text, f"check power and unit {self._unit}; it is probed by itself")

    async def _check_identity(self, priority: Priority) -> None:
        """Read the identity registers: without one, the first block shows that somebody answers."""
        identity = self.profile.identity
        if identity is None:
            block = next(iter(self.profile.blocks.values()))
            await self._fetch(block.fc, block.addr, block.count, priority)
            return
        registers = await self._fetch(identity.fc, identity.addr, identity.count, priority)
        self._foreign = True  # unless the next line finds its register right
        found = self._check_setting(identity.setting, registers, identity.addr)
        self._foreign = False
        parts = [] if identity.setting.expected else [str(found)]
        if identity.serial is not None:
            start = identity.serial.addr - identity.addr
            raw = registers[start : start + identity.serial.words]
            parts.append(str(codec.decode(identity.serial.type, raw, self.profile.order)))
        self.serial = " ".join(parts)

    def _check_setting(self, setting: Setting, registers: list[int], addr: int) -> codec.Raw:
        """Compare one register with what the profile assumes; a difference is a fault of the instrument."""
        start = setting.addr - addr
        try:
            value = codec.decode(setting.type, registers[start : start + setting.words], setting.order)
        except codec.CodecError as error:
            value = str(error)
        if not setting.holds(value):
            text = f"register {setting.addr} reads {value}, expected {setting.expected} ({setting.why})"
            self._put_off(DeviceState.FAULT, text)
            self._refuse()
        return value

    async def _write_once(self, command: Command, addr: int, words: list[int], priority: Priority) -> str:
        """Write; return "" when acknowledged, or why nobody knows. Invariant: sent to the wire at most once."""
        self._wrote[command.name] = self._clock.monotonic()
        self._wear.wrote(self.name, command)
        for _ in range(3):
            generation = None if priority is Priority.STOP else self._generation
            try:
                await self._bus.write(self._unit, command.fc, addr, words, priority=priority, generation=generation)
            except ReconnectedError:  # never sent: check the instrument on the new connection, then try again
                try:
                    await self._ready(priority)
                except ReadFailed as error:
                    raise CommandRefused(self.name, f"{command.name} was not sent: {error.what}", error.hint) from error
                continue
            except NotSentError as error:
                raise self._failed(error, command.name) from error
            except ExceptionReplyError as error:
                if error.code in _REFUSALS:
                    hint = "the instrument refused it; check its mode and the profile"
                    raise CommandRefused(self.name, f"{command.name}: {error}", hint) from error
                return "" if error.code == _ACKNOWLEDGE else str(error)
            except (NoReplyError, BadReplyError) as error:
                self._failed(error, command.name)
                return str(error)
            return ""
        raise DeviceOffline(self.name, f"{command.name} was not sent: the bus keeps reconnecting", "check the network")

    async def _prove(
        self, command: Command, checks: _Wanted, addr: int, words: list[int], priority: Priority, lost: str
    ) -> dict[str, Reading]:
        """Read back until the checks hold or the time is over. `lost` says why the write was not acknowledged."""
        what = f"{command.name} was written once; "
        if not command.verify.blocks:
            if lost:
                raise OutcomeUnknown(self.name, what + lost, f"it cannot be read back: {command.verify.reason}", {})
            return {}
        if command.delay_s:
            await self._clock.sleep(command.delay_s)
        within = command.verify.within_ms / 1000 + (2 * self._bus.timeout if lost else 0.0)
        deadline = self._clock.monotonic() + within
        pause, readings, failure = 0.02, dict[str, Reading](), ""
        while True:
            try:
                proven, readings = await self._evidence(command, checks, addr, words, priority)
            except (DeviceOffline, ReadFailed) as error:
                failure = error.what
            else:
                failure = ""
                if proven:
                    return readings
            left = deadline - self._clock.monotonic()
            if left <= 0:
                break
            await self._clock.sleep(min(pause, left))
            pause = min(2 * pause, 0.5)
        seen = _show(readings, checks) or "nothing"
        if lost or failure:
            hint = "look at the instrument before doing anything again"
            reasons = "; ".join(text for text in (lost, failure) if text)
            raise OutcomeUnknown(self.name, f"{what}{reasons}; after {within:g} s it shows {seen}", hint, readings)
        hint = "it may be in local mode, or limit the value itself"
        raise NotApplied(self.name, f"{what}wanted {_wish(checks)}, after {within:g} s it shows {seen}", hint, readings)

    async def _evidence(
        self, command: Command, checks: _Wanted, addr: int, words: list[int], priority: Priority
    ) -> tuple[bool, dict[str, Reading]]:
        """Read what proves a command once; tell whether it is proven."""
        proven, readings = True, dict[str, Reading]()
        for block_id in command.verify.blocks:
            block = self.profile.blocks[block_id]
            apart = block_id == command.verify.echo and addr + len(words) > block.addr + block.count
            moved = addr - command.addr if apart else 0
            registers = await self._registers(block_id, priority, moved)
            if not moved:
                readings |= self._decoders[block_id].decode(registers, self._clock.monotonic())
            if block_id == command.verify.echo:
                start = addr - moved - block.addr
                echoed = registers[start : start + len(words)]
                proven = echoed == ([int(word != 0) for word in words] if command.fc in _COILS else words)
        return proven and all(holds(check, values, readings.get(check.point)) for check, values in checks), readings


def _wish(checks: _Wanted) -> str:
    """Return what was wanted, for a person."""
    wishes = [f"{check.point} = {' or '.join(str(value) for value in values)}" for check, values in checks]
    return ", ".join(wishes) or "the registers as written"


def _show(readings: Mapping[str, Reading], checks: _Wanted) -> str:
    """Return what the checked points read, for a person."""
    shown = [(check.point, readings[check.point]) for check, _ in checks if check.point in readings]
    return ", ".join(f"{point} = {reading.value} {reading.unit}".rstrip() for point, reading in shown)
