"""Outputs of I/O modules: one that the module's own host watchdog has opened is closed again by an order only."""

from __future__ import annotations

import structlog

from devices.equipment.base import Equipment, Source
from devices.instrument import CommandRefused, DeviceError, NotApplied, Priority

_log = structlog.get_logger("outputs")


async def switch(equipment: Equipment, part: str, channel: int, value: float, priority: Priority) -> None:
    """Switch an output; before it closes one, clear its safe status, where the module knows such a thing.

    Raises DeviceError; CommandRefused where it was not closed because it could not be released.
    """
    if value:
        try:
            await _release(equipment, part, channel, priority)
        except DeviceError as error:
            if priority is not Priority.STOP:  # which is tried whatever is known
                text = f"output {channel} of {part} was not closed: {error.what}"
                raise CommandRefused(equipment.name, text, error.hint) from error
    await equipment.order(part, "set_output", {"channel": float(channel), "value": value}, priority)


async def _release(equipment: Equipment, part: str, channel: int, priority: Priority) -> None:
    """Clear the safe status of an output.

    Invariant: clearing moves nothing. What the module had closed before its host was gone is told to be open first, and
    is seen to be open afterwards, so that the next order, and nothing else, closes it.
    """
    profile, safe = equipment.parts[part].profile, f"safe_{channel}"
    point = profile.points.get(safe)
    if point is None or "clear_safe" not in profile.commands:
        return
    readings = await equipment.parts[part].read(point.block, priority)
    if readings[safe].value is False:
        return
    _log.warning("safe_status_cleared", device=equipment.name, part=part, channel=channel)
    await equipment.order(part, "set_output", {"channel": float(channel), "value": 0.0}, priority)
    await equipment.order(part, "clear_safe", {"channel": float(channel)}, priority)
    await equipment.look(part, priority)
    output = f"do_{channel}"
    if equipment.seen(Source(part, output), profile.points[output].unit).value is not False:
        await equipment.order(part, "set_output", {"channel": float(channel), "value": 0.0}, Priority.STOP)
        text = f"{part}: output {channel} is not open after its safe status was cleared"
        raise NotApplied(equipment.name, text, "see how the module is set up on its web page", {})
