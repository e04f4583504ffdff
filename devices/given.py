"""What only a site knows of its one unit: settings that its power loses, and what it was set to at commissioning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from devices.frames import wanted
from devices.instrument import Args, ArgValue
from devices.profile_types import Check, Profile

Value = float | bool | str
Wanted = list[tuple[Check, tuple[Value, ...]]]
"""Checks, each with the values that satisfy it."""


_NOTHING_SEEN: Mapping[str, Value | None] = {}


@dataclass(frozen=True, slots=True)
class Given:
    """`settings`: command of `on_connect` -> the value of its one argument; `expected`: point -> what it must read."""

    settings: Mapping[str, ArgValue] = field(default_factory=dict[str, ArgValue])
    expected: Mapping[str, Value] = field(default_factory=dict[str, Value])

    def args(self, profile: Profile, name: str) -> Args:
        """Return the arguments of one of the settings."""
        (arg,) = profile.commands[name].args
        return {arg: self.settings[name]}

    def checks(self, profile: Profile) -> dict[str, Wanted]:
        """Return what the blocks of the settings' read-backs must show, by block."""
        found: dict[str, Wanted] = {}
        for name in self.settings:
            command = profile.commands[name]
            for check in command.verify.checks:
                point = profile.bits[check.point].point if check.point in profile.bits else check.point
                satisfies = wanted(command, check, self.args(profile, name))
                found.setdefault(profile.points[point].block, []).append((check, satisfies))
        return found

    def missing(self, profile: Profile, seen: Mapping[str, Value | None] = _NOTHING_SEEN) -> list[str]:
        """Return what the profile wants from the site and has not got, each as a sentence for people.

        `seen` is what the instrument reads now, by point.
        """
        power_up = [name for name in profile.on_connect if name not in self.settings]
        told = [
            f"{name} is not given: it runs on what it has at power-up (`settings` of the device)" for name in power_up
        ]
        return told + [
            f"{name} is not expected to be anything: {why} ({_reads(seen.get(name))}`expect` of the device)"
            for name, why in profile.at_commissioning.items()
            if name not in self.expected
        ]


def _reads(value: Value | None) -> str:
    if value is None:
        return ""
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return f"it reads {shown} now; once that is found to be right, give it as "


NOTHING = Given()


def same(expected: Value, found: Value | None) -> bool:
    """Tell whether what was read is what is expected; numbers as a float32 holds them."""
    if isinstance(expected, str) or isinstance(found, str) or found is None:
        return expected == found
    return math.isclose(expected, found, rel_tol=1e-6, abs_tol=1e-9)
