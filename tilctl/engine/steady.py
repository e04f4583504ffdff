"""The record's time: it never jumps, whatever the wall clock does.

Within a boot it runs on the monotonic clock; the wall clock is asked only to bridge the time in which no controller
ran, and not even for that where the machine itself has gone on.  So a due moment, `since()` and a culture's day
are right after a step of the wall clock; the difference is on record (`ClockStepped`), and is kept over restarts.
Only where no batch is on record, or where the bridge itself was not to be trusted, the wall clock's time is taken over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TypeVar

from devices.clock import Clock
from tilctl.engine.state import format_time, parse_time
from tilctl.journal import events as ev
from tilctl.journal.chain import Record

T = TypeVar("T")
NOTICED = 0.5  # s between two looks from which on a difference is a step and no noise
ALARMING = 5.0  # s from which on a step is an alarm
NOT_SYNCHRONISED = "the clock is not synchronised"
SET_BACK = "the clock was set back"


class SteadyClock:
    """A `devices.clock.Clock` whose `now` is the record's time."""

    def __init__(self, wall: Clock) -> None:
        """Begin at the wall clock's time; `bridge` comes before the first record."""
        self._wall = wall
        self._origin = wall.utc(0.0)  # the record's time at monotonic zero
        self._offset = 0.0  # s that the wall clock stands before the record's time, as far as it is on record
        self.uncertain = ""  # why the time since the last boot is not known, "" where it is

    def now(self) -> datetime:
        """Return the present moment of the record, aware UTC."""
        return self.utc(self._wall.monotonic())

    def monotonic(self) -> float:
        """Return seconds on a clock that is never stepped."""
        return self._wall.monotonic()

    def utc(self, monotonic: float) -> datetime:
        """Return the record's moment that belongs to a monotonic time of this boot."""
        return self._origin + timedelta(seconds=monotonic)

    @property
    def offset(self) -> float:
        """Seconds that the wall clock stands before the record's time, as far as it is on record."""
        return self._offset

    def bridge(self, site: Iterable[Record], beat: str | None, *, needed: bool) -> list[ev.ClockStepped]:
        """Find the record's time at boot, from the site's record as it was; return what is to be put on record.

        `beat` is the last sign of life; `needed`: there are batches whose time has to go on.
        """
        offset, zero, machine, last = 0.0, None, "", None
        for record in site:
            last = record.t
            match record.event:
                case ev.BootStarted() as boot:
                    machine, zero = boot.machine, parse_time(boot.zero) if boot.zero else None
                case ev.ClockStepped() as step:
                    offset = step.offset_s
                    if step.cause == "adopted" and zero is not None:
                        zero += timedelta(seconds=step.by_s)
                case _:
                    pass
        wall = self._wall.now()
        if not needed:
            return self._noted(-offset, 0.0, "adopted") if offset else []
        here = self._wall.machine()
        if here is not None and zero is not None and here[0] == machine:
            moment = zero + timedelta(seconds=here[1])
        else:
            moment = wall - timedelta(seconds=offset)
            if self._wall.synchronised() is False:
                self.uncertain = NOT_SYNCHRONISED
        self._origin += moment - wall
        self._offset = offset
        for known in (beat, last):
            if known is not None:
                self._lift(parse_time(known))
        return self._found_off()

    def not_before(self, moment: datetime) -> list[ev.ClockStepped]:
        """See that the record's time goes on from a moment that is on record; return what is to be put on record."""
        self._lift(moment)
        return self._found_off()

    def boot(self) -> tuple[str, str]:
        """Return the machine's boot and the record's time at its beginning, for the site's record; "" where unknown."""
        here = self._wall.machine()
        return ("", "") if here is None else (here[0], format_time(self.now() - timedelta(seconds=here[1])))

    def look(self, *, needed: bool) -> ev.ClockStepped | None:
        """Compare the two clocks; return the step that is to be put on record, None where there was none.

        Where no batch needs the record's time, or it was bridged by a clock that was wrong, the wall clock is taken
        over, but never to go back in a batch's time.
        """
        off = (self._wall.now() - self.now()).total_seconds()
        by = off - self._offset
        mended = self.uncertain == NOT_SYNCHRONISED and self._wall.synchronised() is True
        if mended:
            self.uncertain = ""
        if not needed or (mended and off > 0):
            if abs(off) <= NOTICED:
                return None
            self._origin += timedelta(seconds=off)
            self._offset = 0.0
            return ev.ClockStepped(round(off, 3), 0.0, "adopted")
        if abs(by) <= NOTICED:
            return None
        self._offset = off
        return ev.ClockStepped(round(by, 3), round(off, 3), "run")

    def accept(self) -> None:
        """Go on by the time as it is: a person has looked at it."""
        self.uncertain = ""

    def _lift(self, moment: datetime) -> None:
        behind = moment - self.now()
        if behind > timedelta(seconds=NOTICED):
            self.uncertain = self.uncertain or SET_BACK
        self._origin += max(behind, timedelta(0))

    def _found_off(self) -> list[ev.ClockStepped]:
        off = (self._wall.now() - self.now()).total_seconds()
        by = off - self._offset
        return self._noted(by, off, "boot") if abs(by) > NOTICED else []

    def _noted(self, by: float, offset: float, cause: str) -> list[ev.ClockStepped]:
        self._offset = offset
        return [ev.ClockStepped(round(by, 3), round(offset, 3), "adopted" if cause == "adopted" else "boot")]

    # --- the rest of the port, unchanged --------------------------------------------------------------------------

    def synchronised(self) -> bool | None:
        """Return whether the wall clock follows a time server."""
        return self._wall.synchronised()

    def machine(self) -> tuple[str, float] | None:
        """Return which boot of the machine this is, and the seconds since it."""
        return self._wall.machine()

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        await self._wall.sleep(seconds)

    async def sleep_until(self, monotonic: float) -> None:
        """Wait until the given monotonic time."""
        await self._wall.sleep_until(monotonic)

    def hold(self, label: str) -> contextlib.AbstractContextManager[None]:
        """Stop virtual time inside the block."""
        return self._wall.hold(label)

    def outside(self, label: str) -> contextlib.AbstractContextManager[None]:
        """Mark a wait for a person."""
        return self._wall.outside(label)

    def enter(self, callback: Callable[[], None]) -> None:
        """Run `callback` on the loop; may be called from any thread."""
        self._wall.enter(callback)

    async def offload(self, work: Callable[[], T]) -> T:
        """Run blocking storage work off the loop, in order of asking."""
        return await self._wall.offload(work)

    def close(self) -> None:
        """Do nothing: the wall clock belongs to who made it."""
