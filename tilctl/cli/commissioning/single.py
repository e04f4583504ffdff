"""`tilctl device read` and `write`: one point, or one command of the profile with its limits and its read-back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from devices.codec import RegType
from devices.frames import ArgumentError, command_address, encode_command
from devices.instrument import ArgValue
from devices.profile_types import Check, Command, Profile, Slot
from devices.quantity import QuantityError, parse_as
from devices.reading import Reading
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.plain import one_line

SHORTEST_PAUSE_S = 0.05
ONE_COIL = 5  # the function code


def blocks_of(profile: Profile, point: str) -> list[str]:
    """Return the blocks to read for a point or a named bit: first those that decide how far it is to be trusted.

    Raises CommandFailed.
    """
    owner = profile.bits[point].point if point in profile.bits else point
    if owner not in profile.points:
        known = ", ".join([*profile.points, *profile.bits])
        raise CommandFailed(Exit.BAD_INPUT, f"{profile.id} has no point {one_line(point)!r}; it has {known}")
    deciding = [rule.other for rule in profile.elsewhere if rule.point == owner]
    points = [profile.bits[name].point if name in profile.bits else name for name in deciding] + [owner]
    return list(dict.fromkeys(profile.points[name].block for name in points))


def command_of(profile: Profile, name: str) -> Command:
    """Return a command of a profile; raises CommandFailed for one that it has not, and for one that takes a table."""
    command = profile.commands.get(name)
    if command is None:
        known = ", ".join(profile.commands) or "none"
        text = f"{profile.id} has no command {one_line(name)!r}; it has {known}. Registers are written by commands only"
        raise CommandFailed(Exit.BAD_INPUT, text)
    if command.rows is not None:
        text = f"{name} takes a table ({command.rows.arg}); tables are written by recipes, not by hand"
        raise CommandFailed(Exit.BAD_INPUT, text)
    return command


def arguments_of(command: Command, given: Mapping[str, str]) -> dict[str, ArgValue]:
    """Return the arguments as the driver takes them: `37`, `37 degC`, a symbol, true or false; raises CommandFailed."""
    if unknown := sorted(set(given) - set(command.args)):
        text = f"{command.name} has no argument {', '.join(map(one_line, unknown))}; its arguments: {_wanted(command)}"
        raise CommandFailed(Exit.BAD_INPUT, text)
    if missing := [name for name in command.args if name not in given]:
        raise CommandFailed(Exit.BAD_INPUT, f"{command.name} needs {', '.join(missing)}: {_wanted(command)}")
    indexed = {index.arg for index in command.index}
    slots = {slot.arg: slot for slot in command.fields if slot.arg}
    return {
        name: _number(name, text, "") if name in indexed else _value(slots[name], text) for name, text in given.items()
    }


def planned(name: str, profile: Profile, command: Command, args: Mapping[str, ArgValue], where: str) -> list[str]:
    """Return what would be sent and what must be read back, in words; raises CommandFailed for a bad argument."""
    told = [f"{name} ({profile.id}, evidence {profile.evidence}, {where}): {in_words(command, args)}"]
    told += ["  sends     one message"] if "mqtt" in profile.kinds else _frame(command, args)
    verify = command.verify
    proof = f"block {verify.echo} echoes it" if verify.echo else ", ".join(map(_expected, verify.checks))
    proof = f"nothing: {verify.reason}" if verify.reason else f"{proof}, within {verify.within_ms / 1000:g} s"
    told.append(f"  proven by {proof}")
    told += [f"  only if   {_expected(check)}" for check in command.requires]
    if not command.idempotent:
        told.append("  repeated  it does it again")
    if command.storage is not None:
        told.append(f"  wears     memory with a budget of {command.storage.per_day} writes a day")
    return told


def in_words(command: Command, args: Mapping[str, ArgValue]) -> str:
    """Return a command with its arguments, for a person and for the record."""
    return ", ".join([command.name, *(f"{arg} = {_shown(command, arg, value)}" for arg, value in args.items())])


def _frame(command: Command, args: Mapping[str, ArgValue]) -> list[str]:
    kept = {slot.keep: 0 for slot in command.fields if slot.keep}
    try:
        addr, words = command_address(command, args), encode_command(command, args, kept)
    except ArgumentError as error:
        raise CommandFailed(Exit.BAD_INPUT, f"{one_line(error)}; nothing was sent") from error
    sent = [0xFF00 if word else 0 for word in words] if command.fc == ONE_COIL else words  # as they are on the wire
    raw = " ".join(f"0x{word:04X}" for word in sent)
    told = [f"  sends     function code {command.fc}, address {addr} (0x{addr:04X}): {raw}"]
    return [*told, f"            with bits of {', '.join(kept)} as they then read"] if kept else told


def seconds_of(text: str, option: str) -> float:
    """Return a time (s) from an option, `1 s` or `1s`; raises CommandFailed."""
    try:
        seconds = parse_as(re.sub(r"^([0-9.]+)([a-z]+)$", r"\1 \2", text), "s")
    except QuantityError as error:
        raise CommandFailed(Exit.BAD_INPUT, f"{option}: {one_line(error)}") from error
    if not (math.isfinite(seconds) and SHORTEST_PAUSE_S <= seconds <= 3600):
        raise CommandFailed(Exit.BAD_INPUT, f"{option}: {one_line(text)} is not between {SHORTEST_PAUSE_S:g} s and 1 h")
    return seconds


def reading_in_words(name: str, reading: Reading) -> str:
    """Return a reading as one line."""
    value = reading.value
    text = str(value).lower() if isinstance(value, bool) else f"{value:.6g}" if isinstance(value, float) else str(value)
    unit = "" if reading.unit in ("bool", "symbol", "text") else reading.unit
    return one_line(f"{name} = {'no value' if value is None else f'{text} {unit}'.rstrip()} ({reading.quality})")


def _value(slot: Slot, text: str) -> ArgValue:
    if slot.symbols:
        if text not in slot.symbols.values():
            wanted = ", ".join(slot.symbols.values())
            raise CommandFailed(Exit.BAD_INPUT, f"{slot.arg}: {one_line(text)!r} is none of {wanted}")
        return text
    if slot.type is RegType.BOOL:
        if text not in ("true", "false"):
            raise CommandFailed(Exit.BAD_INPUT, f"{slot.arg}: {one_line(text)!r} is neither true nor false")
        return float(text == "true")
    if slot.type is RegType.STRING:
        return text
    return _number(str(slot.arg), text, slot.unit)


def _number(name: str, text: str, unit: str) -> float:
    """Return a number: bare, in the canonical unit, or with a unit of its own."""
    try:
        number = float(text)
    except ValueError:
        try:
            number = parse_as(text, unit)
        except QuantityError as error:
            raise CommandFailed(Exit.BAD_INPUT, f"{name}: {one_line(error)}") from error
    if not math.isfinite(number):
        raise CommandFailed(Exit.BAD_INPUT, f"{name}: {one_line(text)!r} is not a finite number")
    return number


def _wanted(command: Command) -> str:
    told = [f"{index.arg}={index.first}..{index.last}" for index in command.index]
    for slot in {slot.arg: slot for slot in command.fields if slot.arg}.values():
        choice = "|".join(slot.symbols.values()) or ("true|false" if slot.type is RegType.BOOL else "")
        limits = "" if slot.min is None or slot.max is None else f"{slot.min:g}..{slot.max:g} {slot.unit}".rstrip()
        told.append(f"{slot.arg}={choice or limits or 'TEXT'}")
    return ", ".join(told) or "none"


def _shown(command: Command, name: str, value: ArgValue) -> str:
    units = {slot.arg: slot.unit for slot in command.fields}
    return one_line(f"{value:g} {units.get(name, '')}".rstrip() if isinstance(value, float) else value)


def _expected(check: Check) -> str:
    among = " or ".join(str(value).lower() if isinstance(value, bool) else f"{value}" for value in check.among)
    return f"{check.point} = {check.arg or among}" + (f" +-{check.tolerance:g}" if check.tolerance else "")
