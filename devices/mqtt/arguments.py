"""Arguments of a command over MQTT: checked against the limits of the profile, and as they stand in its message."""

from __future__ import annotations

import math
from collections.abc import Mapping

from devices.instrument import Args, ArgValue
from devices.mqtt.payload import written
from devices.mqtt.types import Action
from devices.profile_types import Check, Command, Slot
from devices.role import BOOL


class ArgumentError(ValueError):
    """An argument that may not be sent: missing, unknown, or outside its limits."""


def checked(command: Command, action: Action, args: Args) -> dict[str, ArgValue]:
    """Return the arguments that are to be sent; raises ArgumentError.

    Invariant: nothing outside the limits is ever sent, and a value that is left out is held against them all the same.
    """
    if unknown := sorted(set(args) - set(command.args)):
        raise ArgumentError(f"{command.name} has no argument {', '.join(unknown)}")
    values = {str(slot.arg): _value(command.name, slot, args) for slot in command.fields}
    sent: dict[str, ArgValue] = {}
    for arg, value in values.items():
        only = action.args[arg].only
        if only is None or values[only[0]] == only[1]:
            sent[arg] = value
    return sent


def _value(where: str, slot: Slot, args: Args) -> ArgValue:
    value = args.get(str(slot.arg))
    if value is None or not isinstance(value, str | float | int):
        raise ArgumentError(f"{where}: {slot.arg} is missing")
    if slot.symbols:
        if value not in slot.symbols.values():
            raise ArgumentError(f"{where}: {slot.arg} is one of {', '.join(slot.symbols.values())}, got {value!r}")
        return value
    if isinstance(value, str) or not math.isfinite(value):
        raise ArgumentError(f"{where}: {slot.arg} must be a finite number of {slot.unit or 'no unit'}, got {value!r}")
    if slot.unit == BOOL:
        if value not in (0, 1):
            raise ArgumentError(f"{where}: {slot.arg} is true or false, got {value!r}")
        return bool(value)
    if (slot.min is not None and value < slot.min) or (slot.max is not None and value > slot.max):
        limits = f"{slot.min:g} to {slot.max:g} {slot.unit}".rstrip()
        raise ArgumentError(f"{where}: {slot.arg} {value:g} {slot.unit} is outside {limits}")
    return float(value)


def places(action: Action, sent: Mapping[str, ArgValue]) -> dict[str, bool | int | float | str]:
    """Return what stands in the message for the arguments."""
    return {arg: written(action.args[arg].form, value) for arg, value in sent.items()}


def wanted(command: Command, sent: Mapping[str, ArgValue]) -> list[tuple[Check, tuple[float | bool | str, ...]]]:
    """Return the values that satisfy the checks of a command; what was not sent is not looked for."""
    return [
        (check, check.among if check.arg is None else (sent[check.arg],))
        for check in command.verify.checks
        if check.arg is None or check.arg in sent
    ]
