"""`tilctl device check --watchdog`: see the instrument's own watchdog act.

One that is armed and fed is armed, not fed, seen to act and disarmed.  One that any request feeds, set up at the
instrument itself, is tried by silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from devices.clock import Clock
from devices.instrument import DeviceError, Instrument
from devices.profile_types import Watchdog
from devices.reading import Reading

LATE_S = 5.0  # after its time-out an instrument may take so long, or half of the time-out, to act
LOOK_S = 0.2
SILENT_LATE_S = 1.0  # after the time within which a silence has to be noticed
DISARM_S = 30.0  # so long at most is disarming tried
EARLY = 0.9  # of the time-out: what acts before would act on a single lost feed


class WatchdogFailed(Exception):
    """The watchdog did not do what the profile says; says what it did."""


async def tried(instrument: Instrument, clock: Clock, interrupted: Callable[[], str] = str) -> str:
    """Try it, and return what was seen.  Raises WatchdogFailed, DeviceError.

    `interrupted` is asked again and again: why it has to end now, "" while it has not.

    Invariant: however it ends, disarming is tried, so that nothing acts later by itself; what is left armed is said.
    """
    dog = instrument.profile.watchdog
    if dog is None:
        raise WatchdogFailed("the profile knows of no watchdog")
    try:
        seconds = await _acts(instrument, dog, clock, interrupted)
    except WatchdogFailed as failed:
        await _disarm(instrument, dog, str(failed))
        raise WatchdogFailed(f"{failed}; disarmed") from failed
    except (DeviceError, asyncio.CancelledError) as error:
        await _disarm(instrument, dog, str(error) or "cancelled")
        raise
    readings = await _disarm(instrument, dog, f"it acted after {seconds:.1f} s")
    readings |= await _read(instrument, dog)
    if readings[dog.armed].value != 0 or readings[dog.tripped].value is not False:
        raise WatchdogFailed(f"it acted after {seconds:.1f} s, but it cannot be disarmed: {_shown(dog, readings)}")
    return f"armed with {dog.timeout_s:g} s and not fed, it acted after {seconds:.1f} s ({dog.action}); disarmed"


async def silent(instrument: Instrument, clock: Clock, interrupted: Callable[[], str] = str) -> str:
    """Ask nothing of it for as long as it may take, and return what it then shows.  Raises WatchdogFailed, DeviceError.

    `interrupted` is as for `tried`.

    Invariant: nothing is switched on for this, and no safe status is cleared after it: who closes an output does that.
    """
    told = instrument.profile.silence
    if told is None:
        raise WatchdogFailed("the profile knows of nothing that shows a silence")
    before = await _values(instrument, (*told.safe, *told.opened))
    if stood := [name for name in told.safe if before[name] is not False]:
        raise WatchdogFailed(
            f"{_listed(before, stood)} before it was tried: have its safe status cleared, and try again"
        )
    seconds = told.within_s + SILENT_LATE_S
    until = clock.monotonic() + seconds
    while clock.monotonic() < until:
        if why := interrupted():
            raise WatchdogFailed(f"interrupted ({why}) before the silence was over")
        await clock.sleep(min(LOOK_S, seconds))
    after = await _values(instrument, (*told.safe, *told.opened))
    wrong = [n for n in told.safe if after[n] is not True] + [n for n in told.opened if after[n] is not False]
    if wrong:
        text = (
            f"it was asked nothing for {seconds:g} s and shows {_listed(after, wrong)}: see that its host watchdog is "
        )
        raise WatchdogFailed(f"{text}enabled for all of them, with {told.within_s:g} s or less")
    closed = [name for name in told.opened if before[name] is True]
    opened = f"{', '.join(closed)} opened" if closed else "no output was closed, so that its safe status alone shows it"
    return (
        f"it was asked nothing for {seconds:g} s and noticed it: {opened}; its safe status stands until it is cleared"
    )


async def _disarm(instrument: Instrument, dog: Watchdog, seen: str) -> dict[str, Reading]:
    """Disarm it within DISARM_S; raises WatchdogFailed where it may still be armed, with what was `seen` before."""
    try:
        async with asyncio.timeout(DISARM_S):
            return await instrument.command(dog.command, {dog.arg: 0.0})
    except (DeviceError, TimeoutError) as error:
        why = str(error) or f"no answer within {DISARM_S:g} s"
        text = f"{seen}; it may STILL BE ARMED with {dog.timeout_s:g} s, disarming failed: {why}"
        raise WatchdogFailed(text) from error


async def _acts(instrument: Instrument, dog: Watchdog, clock: Clock, interrupted: Callable[[], str]) -> float:
    await instrument.command(dog.command, {dog.arg: dog.timeout_s})
    armed_at = clock.monotonic()
    readings = await _read(instrument, dog)
    if readings[dog.tripped].value is not False:
        raise WatchdogFailed(f"armed just now, it says that it has acted: {_shown(dog, readings)}")
    most = dog.timeout_s + max(LATE_S, dog.timeout_s / 2)
    while readings[dog.tripped].value is not True:
        if why := interrupted():
            raise WatchdogFailed(f"interrupted ({why}) before it acted")
        if clock.monotonic() - armed_at > most:
            raise WatchdogFailed(f"armed with {dog.timeout_s:g} s and not fed for {most:g} s, it did not act")
        await clock.sleep(LOOK_S)
        readings = await _read(instrument, dog)
    seconds = clock.monotonic() - armed_at
    if seconds < EARLY * dog.timeout_s - LOOK_S:
        raise WatchdogFailed(f"armed with {dog.timeout_s:g} s, it acted after {seconds:.1f} s already")
    return seconds


async def _read(instrument: Instrument, dog: Watchdog) -> dict[str, Reading]:
    """Read the blocks that show it."""
    return await _blocks_of(instrument, (dog.armed, dog.tripped))


async def _values(instrument: Instrument, names: tuple[str, ...]) -> dict[str, object]:
    """Read what points and bits are now."""
    readings = await _blocks_of(instrument, names)
    return {name: readings[name].value for name in names}


async def _blocks_of(instrument: Instrument, names: tuple[str, ...]) -> dict[str, Reading]:
    """Read the blocks in which points and bits stand."""
    profile = instrument.profile
    points = [profile.bits[name].point if name in profile.bits else name for name in names]
    readings: dict[str, Reading] = {}
    for block in dict.fromkeys(profile.points[point].block for point in points):
        readings |= await instrument.read(block)
    return readings


def _listed(values: dict[str, object], names: list[str]) -> str:
    return ", ".join(f"{name} = {values[name]}" for name in names)


def _shown(dog: Watchdog, readings: dict[str, Reading]) -> str:
    return f"{dog.armed} = {readings[dog.armed].value}, {dog.tripped} = {readings[dog.tripped].value}"
