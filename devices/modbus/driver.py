"""An instrument on a Modbus bus: its profile made alive.

Identity and settings are checked on every new connection before a value is trusted or a command is sent. A
command is written at most once and then proven by reading back; what cannot be proven is said, never guessed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from devices import codec
from devices.alive import Living
from devices.clock import Clock
from devices.elsewhere import ElsewhereRules
from devices.frames import ArgumentError, BlockDecoder, command_address, encode_command, holds, serial_of, wanted
from devices.given import NOTHING, Given, same
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
from devices.modbus.pdu import (
    BadReplyError,
    BusError,
    ExceptionReplyError,
    GaveWayError,
    NoReplyError,
    NotSentError,
)  # fmt: skip
from devices.modbus.proving import Proof
from devices.plausible import Plausible
from devices.profile_types import Command, Profile, Setting
from devices.reading import Quality, Reading
from devices.wear import WriteLedger

CHECK_PERIOD_S = 3600.0
PROBE_MIN_S = 1.0
PROBE_MAX_S = 30.0
_REFUSALS = frozenset({1, 2, 3, 6, 7})
"""Exceptions after which a write has had no effect; after any other its outcome is unknown."""
_ACKNOWLEDGE = 5
RECONNECTS = 3
"""So many connections are tried for one request; then its bus is said to reconnect too fast."""
_TOO_FAST = "the bus reconnects faster than the instrument can be checked"
_BUSY = 6
BUSY_AGAIN = 2
"""A read that a busy instrument turned away is asked again so many times; a write never is."""
BUSY_PAUSE_S = 0.15
_ABSENT = frozenset({10, 11})
"""A gateway answers for a device that does not."""
_ENDS = ("stop", "close", "abort")
"""Commands that make a whole instrument safe, also where its profile names none for that."""
_Stops = tuple[int, int]
"""Of one place, and of the whole instrument."""


class ModbusDevice:
    """One unit on a bus, driven by its profile. Has no task of its own: it works when it is asked."""

    def __init__(
        self,
        name: str,
        profile: Profile,
        bus: ModbusBus,
        unit: int,
        clock: Clock,
        wear: WriteLedger | None = None,
        given: Given = NOTHING,
    ) -> None:
        """Bind a profile to a unit (1 to 247) of a bus; nothing is sent before the first read.

        `wear` counts the writes to memory that wears, over all restarts; without one they are counted from now on.
        `given` is what the site says of this unit.
        """
        if not 1 <= unit <= 247:
            raise ValueError(f"{name}: unit {unit} is not between 1 and 247")
        self.name = name
        self.profile = profile
        self.status = DeviceStatus(DeviceState.OFFLINE, "not contacted yet")
        self.serial = ""
        self.busy = 0
        """How often a read was turned away by a busy instrument."""
        self._bus = bus
        self._unit = unit
        self._clock = clock
        self._decoders = {block.id: BlockDecoder(block) for block in profile.blocks.values()}
        self._living = Living(profile)
        self._plausible = Plausible(profile)
        self._elsewhere = ElsewhereRules(profile)
        self._wear = wear or WriteLedger(clock)
        self._given = given
        self._stands = given.checks(profile)  # block -> what its settings must read
        self._wrote: dict[str, float] = {}  # command -> when it was written last (monotonic s)
        self._kept: dict[str, int] = {}  # point -> word, of which a command keeps bits
        self._stops: dict[int, int] = {}  # address -> how often a stop was written there
        self._ends = 0  # how often the command came that makes the whole instrument safe
        self._turns: dict[str, asyncio.Lock] = {}  # command -> who carries it out
        self._generation = -1
        self._foreign = False
        self._check_due = 0.0
        self._checking = asyncio.Lock()
        self._failures = 0
        self._probe_at = 0.0
        self._probe_pause = PROBE_MIN_S
        self._log = structlog.get_logger("device")

    async def read(self, block: str, priority: Priority = Priority.DATA) -> dict[str, Reading]:
        """Read one block with one request. Raises DeviceOffline or ReadFailed."""
        registers = await self._registers(block, priority)
        now = self._clock.monotonic()
        readings = self._decoders[block].decode(registers, now)
        stands = self._stands.get(block)
        if stands and not all(holds(check, values, readings[check.point]) for check, values in stands):
            self._check_due = 0.0  # it has lost what was set on connecting: now it is set again, or a fault
            registers, now = await self._registers(block, priority), self._clock.monotonic()
            readings = self._decoders[block].decode(registers, now)
        if self.profile.elsewhere:
            readings = self._elsewhere.judged(readings, now)
        if block in self._plausible.blocks:
            readings = self._plausible.judged(block, readings)
        return self._living.judged(block, readings) if block in self._living.blocks else readings

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
            addr = command_address(command, args)
            # Invariant: counted before anything is awaited: a stop outlasts all that was under way.
            if urgent:
                self._stops[addr] = self._stops.get(addr, 0) + 1
                self._ends += name == self.profile.safe_command or (name in _ENDS and not command.args)
            stops = self._stopped(command, addr)
            kept = await self._kept_words(command, priority)
            proof = self._proof(command, addr, encode_command(command, args, kept), args)
        except ArgumentError as error:
            raise CommandRefused(self.name, str(error), "nothing was sent") from None
        if urgent:
            return await self._carried_out(command, proof, priority, stops)
        async with self._turns.setdefault(name, asyncio.Lock()):  # intervals and budgets hold for all who want it
            return await self._carried_out(command, proof, priority, stops)

    async def _carried_out(
        self, command: Command, proof: Proof, priority: Priority, stops: _Stops
    ) -> dict[str, Reading]:
        """Send a command and prove it; `stops`: how often it had been stopped when it was given."""
        name, urgent = command.name, priority is Priority.STOP
        try:
            await self._ready(priority)
            if not urgent:
                await self._allowed(command, priority)
            if command.verify.blocks and not urgent and (command.only_on_change or not command.idempotent):
                proven, readings = await self._evidence(proof, priority)
                if proven and command.only_on_change:
                    return readings
                if proven:
                    # Invariant: a command that must not be repeated is not sent when its evidence holds already;
                    # its read-back would prove nothing.
                    hint = "use a new sequence number" if proof.numbered else "it is so already: look at the instrument"
                    raise CommandRefused(self.name, f"{name} was not sent: {proof.shown(readings)} already", hint)
        except ReadFailed as error:
            raise CommandRefused(self.name, f"{name} was not sent: {error.what}", error.hint) from error
        lost = await self._write_once(proof, priority, stops)
        return await proof.stands(
            self.name, lambda: self._evidence(proof, priority), self._clock, lost, 2 * self._bus.timeout
        )

    def _proof(self, command: Command, addr: int, words: list[int], args: Args) -> Proof:
        checks = [(check, wanted(command, check, args)) for check in command.verify.checks]
        return Proof(self.profile, command, checks, addr, words)

    async def _evidence(self, proof: Proof, priority: Priority) -> tuple[bool, dict[str, Reading]]:
        """Read what proves a command once, from a checked instrument."""
        return await proof.evidence(self._registers, self._decoders, self._clock, priority)

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
        """Wait for a command's interval, then hold it against what its profile asks for; raises CommandRefused."""
        for name, pause in {**command.after_s, command.name: command.min_interval_s}.items():
            last = self._wrote.get(name)
            if last is not None and pause:
                await self._clock.sleep_until(last + pause)
        for check in command.requires:
            block = self.profile.points[self._point_of(check.point)].block
            reading = (await self.read(block, priority)).get(check.point)
            if not holds(check, check.among, reading):
                shown = "not known" if reading is None or reading.quality is not Quality.GOOD else reading.value
                text = f"{command.name} was not sent: {check.point} is {shown}, it must be {check.wish}"
                raise CommandRefused(self.name, text, "bring the instrument into that state first")

    def _point_of(self, name: str) -> str:
        return self.profile.bits[name].point if name in self.profile.bits else name

    async def _registers(self, block_id: str, priority: Priority, moved: int = 0) -> list[int]:
        """Return the registers of a block from a checked instrument, or those `moved` addresses further on.

        Invariant: what waited while the connection was lost is not read from an instrument that nobody has checked.
        """
        for _ in range(RECONNECTS):
            if self._generation != self._bus.generation or self._clock.monotonic() >= self._check_due:
                await self._ready(priority)
            try:
                return await self._block(block_id, priority, moved, checked=priority is not Priority.STOP)
            except ReconnectedError:
                continue
        raise ReadFailed(self.name, _TOO_FAST, "")

    async def _block(self, block_id: str, priority: Priority, moved: int = 0, *, checked: bool = False) -> list[int]:
        block = self.profile.blocks[block_id]
        if block.first and priority is Priority.DATA:
            priority = Priority.ALARM
        generation = self._generation if checked else None
        return await self._fetch(block.fc, block.addr + moved, block.count, priority, generation)

    async def _fetch(
        self, fc: int, addr: int, count: int, priority: Priority, generation: int | None = None, again: int = BUSY_AGAIN
    ) -> list[int]:
        """Read registers, `again` after a pause while the instrument is busy, and keep the books of what failed.

        With a `generation`, ReconnectedError is raised where the connection is another by then.
        """
        try:
            registers = await self._bus.read(self._unit, fc, addr, count, priority=priority, generation=generation)
        except ReconnectedError:
            raise
        except BusError as error:
            busy = isinstance(error, ExceptionReplyError) and error.code == _BUSY
            self.busy += busy
            if busy and again:
                await self._clock.sleep(BUSY_PAUSE_S)
                return await self._fetch(fc, addr, count, priority, generation, again - 1)
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
            for _ in range(RECONNECTS):  # a reconnect during the check asks for another
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
                await self._check_expected(priority)
                await self._set(generation, priority)
                if generation == self._bus.generation:
                    self.status = DeviceStatus(DeviceState.ONLINE)
                    self._generation, self._check_due = generation, now + CHECK_PERIOD_S
                    self._failures, self._probe_pause = 0, PROBE_MIN_S
        if self._generation != self._bus.generation:
            raise ReadFailed(self.name, _TOO_FAST, "")

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
        self.serial = serial_of(identity, registers, found, self.profile.order)

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

    async def _check_expected(self, priority: Priority) -> None:
        """Compare what the site says of this unit with what it reads; a difference is a fault of the instrument."""
        for name, expected in self._given.expected.items():
            block = self.profile.points[name].block
            registers = await self._block(block, priority)
            found = self._decoders[block].decode(registers, self._clock.monotonic())[name].value
            if not same(expected, found):
                why = self.profile.at_commissioning[name]
                self._put_off(DeviceState.FAULT, f"{name} reads {found}, the site expects {expected} ({why})")
                self._refuse()

    async def _set(self, generation: int, priority: Priority) -> None:
        """Write what the instrument's power loses, each once, on a new connection or where it does not stand.

        Invariant: an instrument that does not hold what the site gave is in fault, so none of its values is good.
        """
        for name in self._given.settings:
            command, args = self.profile.commands[name], self._given.args(self.profile, name)
            proof = self._proof(command, command.addr, encode_command(command, args), args)

            async def look(proof: Proof = proof) -> tuple[bool, dict[str, Reading]]:
                return await proof.evidence(self._block, self._decoders, self._clock, priority)

            if self._generation == generation and (await look())[0]:
                continue
            try:
                self._count(command, priority)
                lost = await self._send(proof, priority, generation)
                await proof.stands(self.name, look, self._clock, lost, 2 * self._bus.timeout)
            except ReconnectedError:
                return  # never sent: the instrument is checked anew on the new connection
            except (CommandRefused, NotApplied, OutcomeUnknown) as error:
                self._put_off(DeviceState.FAULT, f"not set as the site wants it: {error.what}")
                self._refuse()
            self._log.info("device_set", device=self.name, command=name, value=self._given.settings[name])

    def _count(self, command: Command, priority: Priority) -> None:
        """Note a write that is about to be sent; raises CommandRefused where memory that wears has no more for it."""
        if why := self._wear.spend(self.name, command, whatever=priority is Priority.STOP):
            hint = "its memory wears out; see the profile"
            raise CommandRefused(self.name, f"{command.name} was not sent: {why}", hint)
        self._wrote[command.name] = self._clock.monotonic()

    def _stopped(self, command: Command, addr: int) -> _Stops:
        """Return how often a stop was written to a place, and the whole instrument was made safe.

        The latter is nothing to a watchdog, which only ever ends something: one that was not disarmed would trip.
        """
        dog = self.profile.watchdog
        return self._stops.get(addr, 0), 0 if dog is not None and command.name == dog.command else self._ends

    async def _write_once(self, proof: Proof, priority: Priority, stops: _Stops) -> str:
        """Write; return "" when acknowledged, or why nobody knows. Invariant: sent to the wire at most once."""
        command = proof.command

        def in_force() -> bool:  # a stop gives way to nothing
            return priority is Priority.STOP or self._stopped(command, proof.addr) == stops

        for tried in range(3):
            # Invariant: what was given before a stop is not sent after it, however often it has to be tried.
            if not in_force():
                text = f"{command.name} was not sent: a stop was, after it was given"
                raise CommandRefused(self.name, text, "give it again, if it is still wanted")
            if not tried:
                self._count(command, priority)
            generation = None if priority is Priority.STOP else self._generation
            try:
                return await self._send(proof, priority, generation, in_force)
            except ReconnectedError:  # never sent: check the instrument on the new connection, then try again
                try:
                    await self._ready(priority)
                except ReadFailed as error:
                    raise CommandRefused(self.name, f"{command.name} was not sent: {error.what}", error.hint) from error
        raise DeviceOffline(self.name, f"{command.name} was not sent: the bus keeps reconnecting", "check the network")

    async def _send(
        self, proof: Proof, priority: Priority, generation: int | None, in_force: Callable[[], bool] | None = None
    ) -> str:
        """Send a write, here and nowhere else; return "" when acknowledged, or why nobody knows its outcome.

        Invariant: what the profile denies is never sent, whoever made the command and however it was checked before.
        Raises CommandRefused, DeviceOffline or ReconnectedError: then it had no effect.
        """
        command, addr, words = proof.command, proof.addr, proof.words
        if why := self.profile.denial(addr, len(words)):
            raise CommandRefused(self.name, f"{command.name} was not sent: {why}", "see `deny` of its profile")
        try:
            await self._bus.write(
                self._unit, command.fc, addr, words, priority=priority, generation=generation, in_force=in_force
            )
        except ReconnectedError:
            raise
        except GaveWayError as error:
            hint = "give it again, if it is still wanted"
            raise CommandRefused(self.name, f"{command.name} was not sent: {error}", hint) from error
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
