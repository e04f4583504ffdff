"""Watchdogs in the devices: armed and fed while an output acts, so that it ends with the controller that wanted it.

They are the second line: a dispense is bounded by the pump's own count in any case.  A device is fed only while the
controller is well (`UnitPlant.well`); whoever is not, lets go.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import structlog

from devices.instrument import DeviceError
from devices.profile_types import Watchdog
from tilctl.plant.unit import UnitPlant

DISARM_WITHIN = 5.0  # s


@contextlib.asynccontextmanager
async def guarded(plant: UnitPlant, device: str) -> AsyncGenerator[None]:
    """Arm the device's watchdog, where it has one, and feed it inside the block; `release` disarms it.

    Raises DeviceError when the device does not take it.
    """
    watchdog = plant.instruments[device].profile.watchdog
    if watchdog is None:
        yield
        return
    await plant.gate.upkeep(device, watchdog.command, {watchdog.arg: watchdog.timeout_s})
    feeding = asyncio.create_task(_feed(plant, device, watchdog), name=f"watchdog:{device}")
    try:
        yield
    finally:
        feeding.cancel()
        await asyncio.wait((feeding,))


async def _feed(plant: UnitPlant, device: str, watchdog: Watchdog) -> None:
    """Feed it; a device that does not hear of it ends by itself, which is what its watchdog is for."""
    log = structlog.get_logger("watchdog")
    due = plant.clock.monotonic()
    while True:
        due += watchdog.period_s
        await plant.clock.sleep_until(due)
        if not plant.well():
            log.error("device_not_fed", device=device, why="the controller is not well")
            continue
        try:
            async with asyncio.timeout(watchdog.period_s):
                await plant.gate.upkeep(device, watchdog.command, {watchdog.arg: watchdog.timeout_s})
        except (DeviceError, TimeoutError) as error:
            log.warning("device_not_fed", device=device, why=str(error) or "no answer")


async def release(plant: UnitPlant, device: str) -> None:
    """Disarm the device's watchdog, where it has one, and end what it shows; bounded, never raises."""
    watchdog = plant.instruments[device].profile.watchdog
    if watchdog is None:
        return
    try:
        async with asyncio.timeout(DISARM_WITHIN):
            await plant.gate.upkeep(device, watchdog.command, {watchdog.arg: 0.0})
    except (DeviceError, TimeoutError) as error:  # it trips, and stops what stands still
        structlog.get_logger("watchdog").warning("device_not_disarmed", device=device, why=str(error) or "no answer")


def tripped(plant: UnitPlant, device: str) -> bool:
    """Whether a device shows that its watchdog has acted; what is not known has not."""
    watchdog = plant.instruments[device].profile.watchdog
    if watchdog is None:
        return False
    reading = plant.image.get(f"{device}.{watchdog.tripped}")
    return reading is not None and reading.value is True
