"""A pump of parts: a peristaltic drive with the curve of its tubing, and, where it needs one, a relay that enables it.

Two ways to bound a dose:

- The drive counts its own steps (`set_steps`, `dispense_mode`): it stops by itself, whatever becomes of us.
- The drive only runs and stops: then this program stops it after the time that the curve says, and a relay on a module
  with a host watchdog of its own takes its power away when this program dies.  Without such a relay it is not accepted.

Neither has a totaliser.  What it says of the volume is an estimate from speed and time, marked uncertain; its doses are
closed by mass alone, and what the scales cannot tell from nothing is not dosed by it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from devices.calibration import Curve
from devices.equipment.base import Act, Equipment, Parts, Source
from devices.equipment.outputs import switch
from devices.instrument import Args, CommandRefused, DeviceError, OutcomeUnknown, Priority
from devices.profile_types import Profile
from devices.reading import Quality, Reading, bad
from devices.role import BOOL

STOP_AGAIN_S = 0.5
STOP_AGAIN_MOST_S = 5.0
LEAST_RATE = 0.1  # mL/min
MOST_ML = 10_000.0


@dataclass(frozen=True, slots=True)
class Enable:
    """The relay that gives the drive its power: an output of an I/O module with a host watchdog."""

    part: str
    channel: int


@dataclass
class _Run:
    """What is being dispensed: since when (monotonic s), at which rate (mL/min), how much (mL).

    `answered` is when the start was answered, or not: what the drive showed before that says nothing of this run.
    """

    began: float
    rate: float
    volume: float
    answered: float | None = None
    ended: float | None = None

    def saw(self, running: Reading) -> None:
        """Note whether the drive turns.  Invariant: one that turns again has not ended: never too little is said."""
        if self.answered is None or running.at < self.answered:
            return
        if running.value is True:
            self.ended = None
        elif running.value is False and self.ended is None:
            self.ended = running.at

    def moved(self, now: float) -> float:
        """Return the volume (mL) that speed and time make until `now`."""
        return min(self.volume, max(0.0, (self.ended or now) - self.began) * self.rate / 60.0)


class PeristalticPump(Equipment):
    """The role `pump`."""

    role = "pump"
    idempotent = {"dispense": False, "stop": True}  # noqa: RUF012 - a constant
    ends = "stop"
    counter = False

    def __init__(self, name: str, parts: Parts, drive: str, curve: Curve, enable: Enable | None = None) -> None:
        """Build it; raises ValueError for a drive that nothing would stop if this program died."""
        commands = parts.instruments[drive].profile.commands
        self.counts_itself = {"set_steps", "dispense_mode"} <= commands.keys()
        if not self.counts_itself and enable is None:
            raise ValueError(
                f"{drive} ({parts.instruments[drive].profile.id}) does not bound a dose by itself: give it an `enable` "
                "relay on a module with a host watchdog, or a dead controller leaves it running"
            )
        if enable is not None:
            _provable(enable.part, parts.instruments[enable.part].profile)
        self._drive = drive
        self._curve = curve
        self._enable = enable
        self._sequence = 0
        self._run: _Run | None = None
        self._ending: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("pump").bind(device=name)
        super().__init__(name, parts, (drive, enable.part) if enable else (drive,), "stop")

    async def close(self) -> None:
        """Let go of a dose under way: whoever ends the program has stopped the pump, or the relay will."""
        if self._ending is not None:
            self._ending.cancel()
            await asyncio.wait((self._ending,))

    def acts(self) -> Mapping[str, Act]:
        """Return what carries out each command."""
        return {"dispense": self._dispense, "stop": self._stop}

    def derive(self) -> dict[str, Reading]:
        """Return what the pump does; volume is an estimate, the totaliser is none."""
        now = self.clock.monotonic()
        running = self.seen(Source(self._drive, "running"), BOOL)
        speed = self.seen(Source(self._drive, "speed"), "rpm")
        turns = speed.value if isinstance(speed.value, float) and running.value is True else 0.0
        rate = bad("mL/min", speed.at)
        if speed.value is not None and running.value is not None:
            rate = Reading(self._curve.rate(turns) if turns else 0.0, "mL/min", speed.quality, speed.at)
        if self._run is not None:
            self._run.saw(running)
        estimate = bad("mL", now)  # of a run of an earlier life of this program nothing is known
        if self._run is not None:
            estimate = Reading(self._run.moved(now), "mL", Quality.UNCERTAIN, now)
        return {
            "running": running,
            "rate": rate,
            "total": bad("mL", now),
            "dispensed": estimate,
            "sequence": Reading(float(self._sequence), "", Quality.GOOD, now),
        }

    async def _dispense(self, args: Args, priority: Priority) -> None:
        stops = self.ended
        rate, volume = (
            _within(self.name, args, "rate", LEAST_RATE, self._curve.most),
            _within(self.name, args, "volume", 0.0, MOST_ML),
        )
        sequence = int(_within(self.name, args, "sequence", 1, 65_535))
        await self._at_rest(priority, stops)
        await self._prepare(volume, self._curve.speed(rate), priority, stops)
        self._sequence = sequence
        run = self._run = _Run(self.clock.monotonic(), rate, volume)
        if not self.counts_itself:  # before the start: whatever becomes of its answer, it is stopped in time
            self._stop_from(run.began + run.volume / run.rate * 60.0)
        try:
            await self.order(self._drive, "start", {}, priority)
        except CommandRefused:
            run.ended = run.began
            raise
        finally:
            run.answered = self.clock.monotonic()
            if stops != self.ended:  # the stop may have overtaken the start on its way: it is stopped once more
                self._stop_from(run.answered)

    def _not_stopped(self, stops: int) -> None:
        """Refuse to go on where a stop has begun since there were `stops`.

        Invariant: a stop outlasts every dose that was under way to its start when it came.
        """
        if stops != self.ended:
            raise CommandRefused(self.name, "stopped meanwhile, nothing was started", "see why it was stopped")

    async def _at_rest(self, priority: Priority, stops: int) -> None:
        """Invariant: a drive that turns, or of which that is not known, is not commanded."""
        try:
            await self.look(self._drive, priority)
        except DeviceError as error:
            raise CommandRefused(self.name, f"dispense was not sent: {error.what}", error.hint) from error
        if self.seen(Source(self._drive, "running"), BOOL).value is not False:
            raise CommandRefused(self.name, "dispense was not sent: the drive turns already", "stop it first")
        self._not_stopped(stops)  # before what a stop that failed has left in force is given up
        if self._ending is not None:
            self._ending.cancel()
            await asyncio.wait((self._ending,))
            self._ending = None

    async def _prepare(self, volume: float, speed: float, priority: Priority, stops: int) -> None:
        """Bring the drive and its relay to where only the start is missing; raises CommandRefused.

        Whatever fails here, the drive has not been started: its power is taken again, and nothing has flowed.
        """
        try:
            if self.counts_itself:
                await self._count_to(volume, speed, priority)
            await self.order(self._drive, "set_speed", {"value": speed}, priority)
            self._not_stopped(stops)
            if self._enable is not None:
                await self._switch(self._enable, 1.0, priority)
                self._not_stopped(stops)  # nothing is awaited from here to the start
        except DeviceError as error:
            if self._enable is not None:
                with contextlib.suppress(DeviceError):
                    await self._switch(self._enable, 0.0, Priority.STOP)
            raise CommandRefused(self.name, f"dispense was not sent: {error.what}", error.hint) from error

    async def _count_to(self, volume: float, speed: float, priority: Priority) -> None:
        """Tell the drive to stop by itself after the steps that `volume` mL take."""
        per_turn = self.number(Source(self._drive, "steps_per_turn"))
        if not per_turn:
            raise CommandRefused(self.name, "steps_per_turn is not known", "see the drive")
        steps = round(volume / self._curve.per_turn(speed) * per_turn)
        await self.order(self._drive, "set_steps", {"value": float(steps)}, priority)
        await self.order(self._drive, "dispense_mode", {"value": 1.0}, priority)

    async def _switch(self, relay: Enable, value: float, priority: Priority) -> None:
        await switch(self, relay.part, relay.channel, value, priority)

    def _stop_from(self, at: float) -> None:
        """Stop the drive from `at` (monotonic s) on, until it says that it stands."""
        if self._ending is not None:
            self._ending.cancel()
        self._ending = asyncio.create_task(self._end(at), name=f"dose:{self.name}")

    async def _end(self, at: float) -> None:
        """Wait and stop the drive.  Invariant: nobody gives up on a drive that may turn."""
        await self.clock.sleep_until(at)
        pause = STOP_AGAIN_S
        while True:
            try:
                await self._halt(Priority.STOP)
            except DeviceError as error:
                self._log.error("dose_not_ended", error=str(error), again_s=pause)
            else:
                return
            await self.clock.sleep(pause)
            pause = min(2 * pause, STOP_AGAIN_MOST_S)

    async def _stop(self, _args: Args, priority: Priority) -> None:
        try:
            await self._halt(priority)
        except DeviceError:
            self._stop_from(self.clock.monotonic() + STOP_AGAIN_S)
            raise
        if self._ending is not None:  # only now: a stop that fails leaves the other in force
            self._ending.cancel()

    async def _halt(self, priority: Priority) -> None:
        """Stop the drive and take its power, beside each other; raises when neither is known to have worked."""
        work: list[Coroutine[Any, Any, object]] = [self.order(self._drive, "stop", {}, priority)]
        if self._enable is not None:
            work.append(self._switch(self._enable, 0.0, priority))
        results = await asyncio.gather(*work, return_exceptions=True)
        failed = [result for result in results if isinstance(result, BaseException)]
        if failed:  # also where a driver fails by itself: it is as little known to stand
            text = "; ".join(str(error) or repr(error) for error in failed)
            raise OutcomeUnknown(self.name, f"stop: {text}", "look at the pump", {}) from failed[0]


def _provable(part: str, profile: Profile) -> None:
    """Refuse a module that keeps its relays, or that cannot be seen at its commissioning to open them."""
    if profile.on_comm_loss != "stops":
        text = "does not open its outputs by itself when its host is gone: it cannot be what stops a pump"
        raise ValueError(f"{part} ({profile.id}) {text}")
    if profile.silence is None:
        text = "nothing shows that it has noticed that its host is gone: its profile needs `silence` beside `stops`"
        raise ValueError(f"{part} ({profile.id}): {text}")


def _within(device: str, args: Args, name: str, low: float, high: float) -> float:
    value = args.get(name)
    if not isinstance(value, (int, float)) or not low <= value <= high:
        raise CommandRefused(device, f"dispense: {name} {value!r} is outside {low:g} to {high:g}", "nothing was sent")
    return float(value)
