"""What a site file says of one unit of an instrument: settings that its power loses, values known at commissioning."""

from __future__ import annotations

from collections.abc import Mapping

from devices.frames import ArgumentError, encode_command
from devices.given import Given, Value
from devices.instrument import ArgValue
from devices.profile import Profile
from devices.profile_types import TEXT, Command, Point
from devices.quantity import QuantityError, parse_as
from devices.role import BOOL, SYMBOL
from tilctl.config.references import Findings, Where
from tilctl.config.schema import DeviceEntry


def given_of(
    devices: Mapping[str, DeviceEntry], profiles: Mapping[str, Profile], findings: Findings
) -> dict[str, Given]:
    """Return what is given, by device; names and values that its profile does not take are findings."""
    found: dict[str, Given] = {}
    for name, entry in devices.items():
        if name not in profiles or not (entry.settings or entry.expect):
            continue
        profile, here = profiles[name], ("devices", name)
        settings, expected = dict[str, ArgValue](), dict[str, Value]()
        for command, text in entry.settings.items():
            where: Where = (*here, "settings", command)
            names = dict.fromkeys(profile.on_connect)
            if findings.known(where, command, names, f"setting of a {profile.id}"):
                _setting(where, profile.commands[command], text, settings, findings)
        for point, text in entry.expect.items():
            where = (*here, "expect", point)
            if findings.known(where, point, profile.at_commissioning, f"point to expect of a {profile.id}"):
                _expected(where, profile.points[point], text, expected, findings)
        found[name] = Given(settings, expected)
    return found


def _setting(where: Where, command: Command, text: str, into: dict[str, ArgValue], findings: Findings) -> None:
    (slot,) = (slot for slot in command.fields if slot.arg)
    try:
        value = text if slot.symbols else parse_as(text, slot.unit) if slot.unit else float(text)
        encode_command(command, {str(slot.arg): value})
    except (QuantityError, ArgumentError, ValueError) as error:
        findings.add(
            where, "site-quantity", f"{text}: {error}", f"in {slot.unit}" if slot.unit and not slot.symbols else ""
        )
        return
    into[command.name] = value


def _expected(where: Where, point: Point, text: str, into: dict[str, Value], findings: Findings) -> None:
    try:
        if point.unit == BOOL:
            into[point.name] = {"true": True, "false": False}[text]
        elif point.unit == SYMBOL and text not in point.symbols.values():
            findings.add(
                where, "site-quantity", f"{point.name} is one of {', '.join(point.symbols.values())}, not {text}"
            )
        elif point.unit in (SYMBOL, TEXT):
            into[point.name] = text
        else:
            into[point.name] = parse_as(text, point.unit) if point.unit else float(text)
    except (QuantityError, KeyError, ValueError):
        unit = "true or false" if point.unit == BOOL else f"a number {point.unit}".rstrip()
        findings.add(where, "site-quantity", f"{point.name} is {unit}, not {text!r}")
