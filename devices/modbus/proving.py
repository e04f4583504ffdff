"""What proves a command: its read-back, looked at until it stands or its time is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from devices.clock import Clock
from devices.frames import BlockDecoder, holds
from devices.given import Wanted
from devices.instrument import DeviceOffline, NotApplied, OutcomeUnknown, Priority, ReadFailed
from devices.profile_types import Command, Profile
from devices.reading import Reading

Registers = Callable[[str, Priority, int], Awaitable[list[int]]]
"""Reads the registers of a block, or those so many addresses further on; raises DeviceOffline or ReadFailed."""
_COILS = (5, 15)


class Proof:
    """The read-back of one command with its arguments: `checks`, or an echo of `words` at `addr`."""

    def __init__(self, profile: Profile, command: Command, checks: Wanted, addr: int, words: list[int]) -> None:
        self.command = command
        self.addr = addr
        self.words = words
        self._profile = profile
        self._checks = checks
        self._echoed = ""

    @property
    def numbered(self) -> bool:
        """Whether an argument of the command stands in its proof, as a sequence number does."""
        return any(check.arg is not None for check, _ in self._checks)

    async def evidence(
        self, registers_of: Registers, decoders: Mapping[str, BlockDecoder], clock: Clock, priority: Priority
    ) -> tuple[bool, dict[str, Reading]]:
        """Read what proves the command once; tell whether it is proven. Raises DeviceOffline or ReadFailed."""
        command, addr, words = self.command, self.addr, self.words
        proven, readings = True, dict[str, Reading]()
        for block_id in command.verify.blocks:
            block = self._profile.blocks[block_id]
            apart = block_id == command.verify.echo and addr + len(words) > block.addr + block.count
            moved = addr - command.addr if apart else 0
            registers = await registers_of(block_id, priority, moved)
            if not moved:
                readings |= decoders[block_id].decode(registers, clock.monotonic())
            if block_id == command.verify.echo:
                start = addr - moved - block.addr
                echoed = registers[start : start + len(words)]
                self._echoed = "registers " + " ".join(f"0x{word:04X}" for word in echoed)
                proven = echoed == ([int(word != 0) for word in words] if command.fc in _COILS else words)
        stands = all(holds(check, values, readings.get(check.point)) for check, values in self._checks)
        return proven and stands, readings

    async def stands(
        self,
        name: str,
        look: Callable[[], Awaitable[tuple[bool, dict[str, Reading]]]],
        clock: Clock,
        lost: str,
        more: float,
    ) -> dict[str, Reading]:
        """Look until the checks hold, and return the readings that show it; raises NotApplied or OutcomeUnknown.

        `name` is the instrument's; `lost` says why the write was not acknowledged, then it has `more` seconds.
        """
        command = self.command
        what = f"{command.name} was written once; "
        if not command.verify.blocks:
            if lost:
                raise OutcomeUnknown(name, what + lost, f"it cannot be read back: {command.verify.reason}", {})
            return {}
        if command.delay_s:
            await clock.sleep(command.delay_s)
        within = command.verify.within_ms / 1000 + (more if lost else 0.0)
        deadline = clock.monotonic() + within
        pause, readings, failure = 0.02, dict[str, Reading](), ""
        while True:
            try:
                proven, readings = await look()
            except (DeviceOffline, ReadFailed) as error:
                failure = error.what
            else:
                failure = ""
                if proven:
                    return readings
            left = deadline - clock.monotonic()
            if left <= 0:
                break
            await clock.sleep(min(pause, left))
            pause = min(2 * pause, 0.5)
        seen = self.shown(readings) or self._echoed or "nothing"
        if lost or failure:
            hint = "look at the instrument before doing anything again"
            reasons = "; ".join(text for text in (lost, failure) if text)
            raise OutcomeUnknown(name, f"{what}{reasons}; after {within:g} s it shows {seen}", hint, readings)
        hint = "it may be in local mode, or limit the value itself"
        raise NotApplied(name, f"{what}wanted {self._wish()}, after {within:g} s it shows {seen}", hint, readings)

    def shown(self, readings: Mapping[str, Reading]) -> str:
        """Return what the checked points read, for a person."""
        found = [(check.point, readings[check.point]) for check, _ in self._checks if check.point in readings]
        return ", ".join(f"{point} = {reading.value} {reading.unit}".rstrip() for point, reading in found)

    def _wish(self) -> str:
        """Return what was wanted, for a person."""
        wishes = [f"{check.point} = {' or '.join(str(value) for value in values)}" for check, values in self._checks]
        return ", ".join(wishes) or "the registers as written"
