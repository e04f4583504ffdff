"""An instrument behind an MQTT broker: its profile made alive.

Values are the latest messages, with the time at which they came; what was kept by the broker is uncertain until the
instrument says it again. A command is published at most once, answered where the instrument answers, and then proven
by messages that came after it; what cannot be proven is said, never guessed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping, Sequence

from devices.clock import Clock
from devices.frames import holds
from devices.instrument import (
    Args,
    ArgValue,
    CommandRefused,
    DeviceOffline,
    DeviceState,
    DeviceStatus,
    NotApplied,
    OutcomeUnknown,
    Priority,
    ReadFailed,
)
from devices.mqtt.arguments import ArgumentError, checked, places, wanted
from devices.mqtt.broker import MqttBroker, NotPublishedError, PublishError, PublishRefusedError
from devices.mqtt.inbox import Awaited, Inbox, InboxCounts
from devices.mqtt.payload import PayloadError, as_text, filled, rendered
from devices.mqtt.profile import at_prefix
from devices.mqtt.types import Action, MqttProfile
from devices.profile_types import Check, Command, Profile
from devices.reading import Reading

PROBE_MIN_S = 1.0
PROBE_MAX_S = 30.0
_IDS = 1 << 30  # ids of requests start anywhere below: the answer to an earlier process must not fit

_Wanted = Sequence[tuple[Check, tuple[float | bool | str, ...]]]


class MqttInstrument:
    """One instrument at one prefix of a broker. Has no task of its own: it works when it is asked, or is told."""

    def __init__(self, name: str, profile: MqttProfile, broker: MqttBroker, clock: Clock, prefix: str = "") -> None:
        """Bind a profile to the unit whose topics begin with `prefix` ("": as the profile says); before `broker.open`.

        Raises ValueError for a prefix that cannot be one.
        """
        self.name = name
        self._mqtt = at_prefix(profile, prefix) if prefix else profile
        self.profile: Profile = self._mqtt
        self._broker = broker
        self._clock = clock
        self._standing = {"prefix": self._mqtt.prefix, "reply": f"{broker.identifier}-{name}"}
        self._inbox = Inbox(self._mqtt, self._standing, clock)
        self._refused = ""
        self._failures = 0
        self._probe_at = 0.0
        self._probe_pause = PROBE_MIN_S
        self._serial = ""
        self._asked: dict[str, float] = {}  # block -> when it was asked for last
        self._turn = asyncio.Lock()
        self._id = random.Random().randrange(_IDS)
        broker.add(self._inbox.topics, self)

    @property
    def prefix(self) -> str:
        """Return what its topics begin with."""
        return self._mqtt.prefix

    @property
    def counts(self) -> InboxCounts:
        """Return what came of it."""
        return self._inbox.counts

    @property
    def status(self) -> DeviceStatus:
        """Return whether it can be relied on at this moment."""
        if self._broker.down:
            return DeviceStatus(DeviceState.OFFLINE, self._broker.down)
        if self._refused:
            return DeviceStatus(DeviceState.FAULT, self._refused)
        if text := self._absent():
            return DeviceStatus(DeviceState.OFFLINE, text)
        if self._failures >= self.profile.offline_after:
            return DeviceStatus(DeviceState.OFFLINE, f"{self._failures} questions without an answer")
        if self._failures:
            return DeviceStatus(DeviceState.CHECKING, f"{self._failures} questions without an answer")
        return DeviceStatus(DeviceState.ONLINE)

    @property
    def serial(self) -> str:
        """Return its serial number as last heard; "" where it has none, or did not say it yet."""
        if self._mqtt.serial_place is not None:
            block, path = self._mqtt.serial_place
            heard = self._inbox.heard(block)
            if heard is not None and heard.payload is not None:
                with contextlib.suppress(PayloadError):
                    self._serial = (as_text(heard.payload.at(path)) or "")[:100]
        return self._serial

    # --- what the broker tells

    def receive(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Take a message."""
        self._inbox.receive(topic, payload, retained=retained)
        if not retained and self._inbox.alive:
            self._failures, self._probe_at, self._probe_pause = 0, 0.0, PROBE_MIN_S

    def joined(self, refused: Sequence[str]) -> None:
        """Begin anew: nothing that was heard on another connection counts."""
        self._inbox.clear()
        self._asked.clear()
        self._refused = "; ".join(refused)
        self._failures, self._probe_at, self._probe_pause = 0, 0.0, PROBE_MIN_S

    def parted(self) -> None:
        """Take note that nothing can be heard."""
        self._inbox.clear()

    # --- reading

    async def read(self, block: str, priority: Priority = Priority.DATA) -> dict[str, Reading]:
        """Return one block: its latest message, asked for where that is old and the instrument can be asked.

        A block of which nothing was heard, and one with a payload that makes no sense, is bad. Raises DeviceOffline
        or ReadFailed.
        """
        self._reachable()
        ask = self._mqtt.topics[block].ask
        heard = self._inbox.heard(block)
        if ask is not None and (heard is None or not heard.live or self._clock.monotonic() - heard.at >= ask.every_s):
            await self._question(block)
        if text := self._absent():
            raise DeviceOffline(self.name, text, "check its power and network, and the prefix of its topics")
        return self._inbox.readings(block)

    async def read_all(self, priority: Priority = Priority.DATA) -> dict[str, Reading]:
        """Read every block that is scanned. Raises DeviceOffline or ReadFailed."""
        readings: dict[str, Reading] = {}
        for block in self.profile.blocks.values():
            if block.scan != "demand":
                readings |= await self.read(block.id, priority)
        return readings

    def _reachable(self) -> None:
        """Raise DeviceOffline or ReadFailed where nothing of it can be heard."""
        if self._broker.down:
            raise DeviceOffline(self.name, self._broker.down, "check the broker and its address")
        if self._refused:
            raise ReadFailed(self.name, self._refused, "allow it in the broker's access list")
        if self._inbox.online is False:
            raise DeviceOffline(self.name, self._absent(), "check its power and network")
        if self._failures >= self.profile.offline_after and self._clock.monotonic() < self._probe_at:
            text = f"{self._failures} questions without an answer"
            raise DeviceOffline(self.name, text, f"probed every {PROBE_MAX_S:g} s; check power and settings")

    def _absent(self) -> str:
        """Return why it is not there; "" where it is."""
        if self._inbox.online is False:
            return f"its online topic says {self._inbox.word!r}"
        if self._inbox.online is None and not self._inbox.alive:
            return f"nothing was heard of it yet at {self._mqtt.prefix}"
        return ""

    async def _question(self, block: str) -> None:
        """Ask for a block and wait for it; raises DeviceOffline where that failed too often."""
        ask = self._mqtt.topics[block].ask
        if ask is None:
            return
        if (now := self._clock.monotonic()) - self._asked.get(block, -ask.within_s) < ask.within_s:
            return  # a block that does not come must not hold up the others at every turn
        self._asked[block] = now
        before = self._inbox.numbers[block]
        with contextlib.suppress(PublishError):
            await self._publish_ask(block, ask.within_s)
            if await self._inbox.until(lambda: self._inbox.numbers[block] > before, ask.within_s):
                return
        self._asked[block] = self._clock.monotonic()
        self._failures += 1
        if self._failures >= self.profile.offline_after:
            self._probe_at = self._clock.monotonic() + self._probe_pause
            self._probe_pause = min(2 * self._probe_pause, PROBE_MAX_S)
            text = f"block {block} was asked for and did not come within {ask.within_s:g} s"
            raise DeviceOffline(self.name, text, "check its power, and which of its topics are switched on")

    async def _publish_ask(self, block: str, within: float) -> None:
        """Publish the question for a block, where it has one; whether the broker took it in time is not looked at."""
        ask = self._mqtt.topics[block].ask
        if ask is not None:
            standing = {**self._standing, "id": self._next_id()}
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._broker.publish(filled(ask.message.topic, standing), rendered(ask.message, standing))

    def _next_id(self) -> int:
        self._id = (self._id + 1) % (2 * _IDS)
        return self._id

    # --- commands

    async def command(self, name: str, args: Args, priority: Priority = Priority.COMMAND) -> dict[str, Reading]:
        """Publish once, then read back until the profile's checks hold; return the readings that prove it.

        Raises CommandRefused or DeviceOffline (no effect), NotApplied or OutcomeUnknown.
        """
        command = self.profile.commands.get(name)
        if command is None:
            known = ", ".join(self.profile.commands) or "none"
            raise CommandRefused(self.name, f"{self.profile.id} has no command {name}", f"its commands: {known}")
        try:
            sent = checked(command, self._mqtt.actions[name], args)
        except ArgumentError as error:
            raise CommandRefused(self.name, str(error), "nothing was sent") from None
        if priority is Priority.STOP:
            # Invariant: a stop waits for nothing, and goes out whatever is known of the instrument
            return await self._carry_out(command, sent, urgent=True)
        async with self._turn:
            try:
                self._reachable()
                if text := self._absent():
                    raise DeviceOffline(self.name, f"{name} was not sent: {text}", "check its power and network")
                if not command.idempotent and command.verify.blocks:
                    await self._not_done_yet(command, wanted(command, sent))
            except ReadFailed as error:
                raise CommandRefused(self.name, f"{name} was not sent: {error.what}", error.hint) from error
            return await self._carry_out(command, sent, urgent=False)

    async def _not_done_yet(self, command: Command, checks: _Wanted) -> None:
        """Invariant: what must not be repeated is not sent when its evidence holds already: it would prove nothing."""
        readings: dict[str, Reading] = {}
        for block in command.verify.blocks:
            readings |= await self.read(block, Priority.COMMAND)
        if all(holds(check, values, readings.get(check.point)) for check, values in checks):
            text = f"{command.name} was not sent: {_show(readings, checks)} already"
            raise CommandRefused(self.name, text, "it must not be carried out twice")

    async def _carry_out(self, command: Command, sent: Mapping[str, ArgValue], *, urgent: bool) -> dict[str, Reading]:
        """Publish, wait for the answer, prove. Invariant: published at most once."""
        action = self._mqtt.actions[command.name]
        filling = {**self._standing, "id": self._next_id(), **places(action, sent)}
        before = {block: self._inbox.numbers[block] for block in command.verify.blocks}
        awaited = None if action.ack is None else Awaited(action.ack, filling)
        if awaited is not None and not self._inbox.expect(awaited) and not urgent:
            raise CommandRefused(self.name, f"{command.name} was not sent: too many answers are awaited", "wait")
        try:
            lost = await self._publish_once(action, command.name, filling, urgent=urgent)
            if awaited is not None and action.ack is not None:
                answered = await self._inbox.until(lambda: awaited.done, action.ack.within_s)
                lost = "" if answered else lost or f"no answer within {action.ack.within_s:g} s"
            elif not lost:
                lost = "the instrument gives no answer"
        finally:
            if awaited is not None:
                self._inbox.forget(awaited)
        if awaited is not None and awaited.refusal:
            hint = "the instrument refused it; check its mode and the profile"
            raise CommandRefused(self.name, f"{command.name}: {awaited.refusal}", hint)
        return await self._prove(command, wanted(command, sent), before, lost)

    async def _publish_once(
        self, action: Action, name: str, filling: Mapping[str, bool | int | float | str], *, urgent: bool
    ) -> str:
        """Publish; return "" when the broker has it, or why nobody knows."""
        topic, payload = filled(action.message.topic, filling), rendered(action.message, filling)
        try:
            await self._broker.publish(topic, payload, urgent=urgent)
        except NotPublishedError as error:
            text = f"{name} was not sent: {error}"
            raise DeviceOffline(self.name, text, "check the broker and its address") from error
        except PublishRefusedError as error:
            raise CommandRefused(self.name, f"{name}: {error}", "allow it in the broker's access list") from error
        except PublishError as error:
            return str(error)
        return ""

    async def _prove(
        self, command: Command, checks: _Wanted, before: Mapping[str, int], lost: str
    ) -> dict[str, Reading]:
        """Read back from messages that came after the command, until its checks hold or the time is over."""
        what = f"{command.name} was sent once; "
        if not before:
            if lost:
                raise OutcomeUnknown(self.name, what + lost, f"it cannot be read back: {command.verify.reason}", {})
            return {}
        within = command.verify.within_ms / 1000
        deadline, pause = self._clock.monotonic() + within, 0.25
        while True:
            readings, old = self._since(before)
            if not old and all(holds(check, values, readings.get(check.point)) for check, values in checks):
                return readings
            left = deadline - self._clock.monotonic()
            if left <= 0:
                break
            with contextlib.suppress(PublishError):
                for block in before:
                    await self._publish_ask(block, min(pause, left))
            numbers = dict(self._inbox.numbers)
            await self._inbox.until(lambda seen=numbers: self._inbox.numbers != seen, min(pause, left))
            pause = min(2 * pause, 2.0)
        seen = _show(readings, checks) or "nothing"
        if lost or old:
            silent = f"nothing came of {', '.join(old)} since" if old else ""
            reasons = "; ".join(text for text in (lost, silent) if text)
            hint = "look at the instrument before doing anything again"
            raise OutcomeUnknown(self.name, f"{what}{reasons}; after {within:g} s it shows {seen}", hint, readings)
        hint = "it may be in local mode, or limit the value itself"
        text = f"{what}wanted {_wish(checks)}, after {within:g} s it shows {seen}"
        raise NotApplied(self.name, text, hint, readings)

    def _since(self, before: Mapping[str, int]) -> tuple[dict[str, Reading], list[str]]:
        """Return what the blocks of a read-back show, and those that sent nothing since."""
        readings: dict[str, Reading] = {}
        for block in before:
            readings |= self._inbox.readings(block)
        return readings, [block for block, number in before.items() if self._inbox.numbers[block] <= number]


def _wish(checks: _Wanted) -> str:
    """Return what was wanted, for a person."""
    return ", ".join(f"{check.point} = {' or '.join(str(value) for value in values)}" for check, values in checks)


def _show(readings: Mapping[str, Reading], checks: _Wanted) -> str:
    """Return what the checked points read, for a person."""
    shown = [(check.point, readings[check.point]) for check, _ in checks if check.point in readings]
    return ", ".join(f"{point} = {reading.value} {reading.unit}".rstrip() for point, reading in shown)
