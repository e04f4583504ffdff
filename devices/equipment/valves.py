"""A pinch-valve manifold of relays: a port of each side belongs to an output of an I/O module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from devices.equipment.base import Act, Equipment, Parts, Source
from devices.equipment.outputs import switch
from devices.instrument import Args, CommandRefused, DeviceError, NotApplied, OutcomeUnknown, Priority
from devices.reading import Quality, Reading, bad
from devices.role import BOOL


@dataclass(frozen=True, slots=True)
class Output:
    """One relay."""

    part: str
    channel: int


class RelayValves(Equipment):
    """The role `valves`: at most one clamp of each side is open; what the modules read back is shown."""

    role = "valves"
    ends = "close"
    idempotent = {"select": True, "close": True}  # noqa: RUF012 - a constant

    def __init__(self, name: str, parts: Parts, suction: Mapping[int, Output], delivery: Mapping[int, Output]) -> None:
        """Build it of the relays of each side, by port."""
        self._sides = {"suction": dict(suction), "delivery": dict(delivery)}
        used = tuple(output.part for side in self._sides.values() for output in side.values())
        super().__init__(name, parts, used, "close")

    def acts(self) -> Mapping[str, Act]:
        """Return what carries out each command."""
        return {"select": self._select, "close": self._close}

    def derive(self) -> dict[str, Reading]:
        """Return the open port of each side, 0 where none is; bad where it is not known, or more than one is."""
        return {side: self._open(outputs) for side, outputs in self._sides.items()}

    def _open(self, outputs: Mapping[int, Output]) -> Reading:
        seen = {port: self.seen(Source(o.part, f"do_{o.channel}"), BOOL) for port, o in outputs.items()}
        oldest = min(reading.at for reading in seen.values())
        if any(reading.quality is not Quality.GOOD for reading in seen.values()):
            return bad("", oldest)
        open_ = [port for port, reading in seen.items() if reading.value is True]
        return bad("", oldest) if len(open_) > 1 else Reading(float(sum(open_)), "", Quality.GOOD, oldest)

    async def _select(self, args: Args, priority: Priority) -> None:
        """Open the wanted port of each side; raises NotApplied where the clamps were closed meanwhile.

        Invariant: a close outlasts every way that was under way when it came: what was not opened yet is not opened
        any more, and what was on its way already is closed again.
        """
        ended = self.ended
        wanted = {side: int(_port(self.name, side, args, outputs)) for side, outputs in self._sides.items()}
        # Invariant: what shall be closed is closed before anything is opened; no two ways stand open together.
        for value in (0.0, 1.0):
            for side, outputs in self._sides.items():
                for port, output in outputs.items():
                    if (port == wanted[side]) is not (value == 1.0):
                        continue
                    try:
                        await self._set(output, value, priority)
                    finally:
                        if ended != self.ended:
                            await self._close({}, Priority.STOP)
                    if ended != self.ended:
                        text = "select: the clamps were closed meanwhile and stay closed"
                        raise NotApplied(self.name, text, "see why they were closed", self._derived())

    async def _close(self, _args: Args, priority: Priority) -> None:
        failed: list[DeviceError] = []
        for outputs in self._sides.values():
            for output in outputs.values():
                try:
                    await self._set(output, 0.0, priority)
                except DeviceError as error:  # the others are closed all the same
                    failed.append(error)
        if failed:
            text = "; ".join(map(str, failed[:4]))
            raise OutcomeUnknown(self.name, f"close: {text}", "look at the clamps", {}) from failed[0]

    async def _set(self, output: Output, value: float, priority: Priority) -> None:
        now = self.latest.get(Source(output.part, f"do_{output.channel}"))
        await switch(self, output.part, output.channel, value, priority)
        if now is not None:
            fresh = Reading(value == 1.0, BOOL, Quality.GOOD, self.clock.monotonic())
            self.latest[Source(output.part, f"do_{output.channel}")] = fresh  # proven by the read-back of the command


def _port(device: str, side: str, args: Args, outputs: Mapping[int, Output]) -> float:
    value = args.get(side)
    if isinstance(value, (int, float)) and (value == 0 or int(value) in outputs) and value == int(value):
        return float(value)
    ports = ", ".join(map(str, outputs))
    raise CommandRefused(device, f"select: {side} {value!r} is no port of it", f"0 or one of {ports}; nothing was sent")
