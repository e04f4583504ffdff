"""The output gate: the one way to a device.  Limits, ownership and permits are checked here, and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from devices.instrument import DeviceError, Instrument, Priority
from devices.reading import Reading

PROTECT_WITHIN = 5.0  # s; a device that does not answer in this time does not keep the others waiting

Permit = Callable[[str, str, Mapping[str, Any]], str]


class OutputRefused(Exception):
    """An output that the gate did not let through; says which, and why."""

    def __init__(self, device: str, command: str, reason: str) -> None:
        super().__init__(f"{device}.{command} refused: {reason}")
        self.device = device
        self.command = command
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Protected:
    """What became of one protective write: `error` is empty when the device read back as wanted."""

    device: str
    command: str
    error: str


class OutputGate:
    """Every write to every device passes here."""

    def __init__(
        self, instruments: Mapping[str, Instrument], seen: Callable[[str, Mapping[str, Reading]], None]
    ) -> None:
        """Guard these instruments; `seen` takes what a device reads back after a command."""
        self._instruments = instruments
        self._seen = seen
        self._owners: dict[str, str] = {}
        self._permits: list[Permit] = []
        self._log = structlog.get_logger("outputs")

    def permit(self, permit: Permit) -> None:
        """Ask `permit(device, command, args)` before each unprotective write; a text refuses it, "" lets it pass."""
        self._permits.append(permit)

    def claim(self, owner: str, devices: tuple[str, ...]) -> None:
        """Give devices to one owner; raises OutputRefused when another has one of them."""
        for device in devices:
            held = self._owners.get(device)
            if held is not None and held != owner:
                raise OutputRefused(device, "claim", f"it belongs to batch {held}")
        for device in devices:
            self._owners[device] = owner

    def release(self, owner: str) -> None:
        """Take back everything that an owner has."""
        for device in [name for name, held in self._owners.items() if held == owner]:
            del self._owners[device]

    def release_device(self, owner: str, device: str) -> None:
        """Take back one device, if it is that owner's."""
        if self._owners.get(device) == owner:
            del self._owners[device]

    def owner(self, device: str) -> str | None:
        """Return who owns a device."""
        return self._owners.get(device)

    async def act(
        self, owner: str, device: str, command: str, args: Mapping[str, Any] | None = None
    ) -> dict[str, Reading]:
        """Command a device once and return what was read back.

        Raises OutputRefused before anything is sent, or a DeviceError (of which OutcomeUnknown says that nobody
        knows whether the device acted).
        """
        given = args or {}
        held = self._owners.get(device)
        # Invariant: one owner for each device; nobody else's batch moves it.
        if held != owner:
            raise OutputRefused(device, command, f"it belongs to {held or 'nobody'}, not to {owner}")
        for permit in self._permits:
            reason = permit(device, command, given)
            if reason:
                raise OutputRefused(device, command, reason)
        readings = await self._instruments[device].command(command, given, Priority.COMMAND)
        self._seen(device, readings)
        return readings

    async def protect(self, device: str, command: str, args: Mapping[str, Any] | None = None) -> Protected:
        """Write a protective output (stop, close), at once, whoever owns the device; never raises, always bounded."""
        try:
            async with asyncio.timeout(PROTECT_WITHIN):
                await self._instruments[device].command(command, args or {}, Priority.STOP)
        except TimeoutError:
            error = f"no answer within {PROTECT_WITHIN:g} s"
        except DeviceError as failure:
            error = str(failure)
        except Exception as failure:  # noqa: BLE001 - Invariant: what breaks here keeps no other device from being made safe
            error = f"internal error: {failure!r}"
        else:
            return Protected(device, command, "")
        self._log.error("protective_write_failed", device=device, command=command, error=error)
        return Protected(device, command, error)
