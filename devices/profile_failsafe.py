"""The failsafe section of a profile: checked against its points and commands, and compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from devices import profile_model as model
from devices.profile_types import Bit, Command, Point, Silence, Watchdog
from devices.role import BOOL

Find = Callable[[tuple[str | int, ...], str, str], None]
FEEDS_AT_LEAST = 2.0  # feeds within the time-out: one may get lost


class Known(Protocol):
    """What the section may refer to."""

    @property
    def points(self) -> Mapping[str, Point]:
        """Return the points of the instrument."""
        ...

    @property
    def bits(self) -> Mapping[str, Bit]:
        """Return the named bits of the instrument."""
        ...


def safe_command_of(source: model.FailsafeModel, commands: Mapping[str, Command], find: Find) -> str | None:
    """Return the command that makes the instrument safe; what is wrong with it goes to `find`."""
    safe, path = source.safe_command, ("failsafe", "safe_command")
    if safe is not None and safe not in commands:
        find(path, f"there is no command {safe}", "name one of `commands`")
    elif safe is not None and (commands[safe].rows or any(slot.arg for slot in commands[safe].fields)):
        find(path, f"{safe} takes arguments; a safe command must not need any", "")
    return safe


def watchdog_of(
    source: model.FailsafeModel, commands: Mapping[str, Command], known: Known, find: Find
) -> Watchdog | None:
    """Return the instrument's watchdog, None where it has none; what is wrong with it goes to `find`."""
    given, path = source.watchdog, ("failsafe", "watchdog")
    if given is None:
        return None
    if given.period * FEEDS_AT_LEAST > given.timeout:
        hint = f"a period of at most {given.timeout / FEEDS_AT_LEAST:g} s"
        find((*path, "period"), "one lost feed would trip the watchdog", hint)
    if (armed := known.points.get(given.armed)) is None or armed.unit != "s":
        find((*path, "armed"), f"{given.armed} is no point in s", "name the point that reads what it is armed with")
    point = known.points.get(given.tripped)
    if given.tripped not in known.bits and (point is None or point.unit != BOOL):
        find((*path, "tripped"), f"{given.tripped} is neither a bit nor a bool point", "name what reads true after it")
    command = commands.get(given.command)
    args = [slot for slot in command.fields if slot.arg] if command else []
    if command is None or command.rows or len(args) != 1 or args[0].unit != "s" or not command.idempotent:
        find((*path, "command"), f"{given.command} is no idempotent command with one argument in s", "0 disarms it")
        return None
    slot = args[0]
    if (slot.min or 0.0) > 0.0 or given.timeout > (slot.max or 0.0):
        hint = f"{given.command} must take 0 and at least {given.timeout:g} s"
        find((*path, "timeout"), f"{given.command} cannot disarm, or cannot be armed with {given.timeout:g} s", hint)
    return Watchdog(command.name, str(slot.arg), given.timeout, given.period, given.action, given.armed, given.tripped)


def silence_of(source: model.FailsafeModel, known: Known, find: Find) -> Silence | None:
    """Return what shows that the instrument has noticed a silence, None where nothing is told; findings to `find`."""
    given, path = source.silence, ("failsafe", "silence")
    if given is None:
        return None
    if source.on_comm_loss != "stops":
        find(path, "it does not stop when nobody talks to it", "give on_comm_loss: stops, or leave this out")
    if not given.safe:
        find((*path, "safe"), "nothing shows that it has noticed", "name bool points or bits that read true then")
    for key, names in (("safe", given.safe), ("opened", given.opened)):
        for i, name in enumerate(names):
            point = known.points.get(name)
            if name not in known.bits and (point is None or point.unit != BOOL):
                find((*path, key, i), f"{name} is neither a bit nor a bool point", "")
    return Silence(given.within, tuple(given.safe), tuple(given.opened))


def check_configured(source: model.ProfileModel, find: Find) -> None:
    """Report what is told to be as the unit was set up, where no setting is read that would show it."""
    path = ("failsafe", "after_power_loss")
    if "configured" in source.failsafe.after_power_loss.values() and not source.at_commissioning:
        text = "`configured` is what a setting of the unit decides"
        find(path, text, "name the point that reads it in `at_commissioning`")
