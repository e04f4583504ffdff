"""Checks of the names in a site file: every device known, of the right kind, with one owner; every output made safe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from devices.document import Diagnostic, Document, Severity
from devices.equipment.spec import Spec
from devices.profile import Profile
from devices.quantity import QuantityError, parse_as
from devices.role import PAUSE, PAUSED, ROLES
from tilctl.config.schema import LineEntry, PlaceEntry, RoleEntry, UnitEntry
from tilctl.config.site import Device, Line, Place, RoleBinding, Safe, UnitSite

Where = tuple[str | int, ...]
MOST_IN_A_LINE_ML = 100.0
"""mL; three metres of tubing of 6.35 mm bore (engineering default): more is a slip of the pen, or a vessel."""

_ALSO = {"scale": "balance"}  # a single load cell may stand where a scale of several is asked for


class Findings:
    """What is wrong with one document, collected."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.list: list[Diagnostic] = []

    def add(self, where: Where, code: str, message: str, hint: str = "") -> None:
        """Report a finding at a place of the document."""
        line, column = self._document.at(where)
        self.list.append(Diagnostic(Severity.ERROR, code, message, self._document.name, line, column, hint))

    def number(self, where: Where, text: str, unit: str, *, positive: bool = False) -> float:
        """Return a quantity in canonical units; what cannot be read is reported and stands as 1."""
        try:
            value = parse_as(text, unit)
        except QuantityError as error:
            self.add(where, "site-quantity", str(error))
            return 1.0
        if positive and not value > 0:
            self.add(where, "site-quantity", f"{text} is not more than zero")
        return value

    def known(self, where: Where, name: str, names: Mapping[str, Any], what: str) -> bool:
        """Return whether a name is known, and report it if not."""
        if name not in names:
            self.add(
                where, "site-unknown-name", f"no {what} is called {name!r}", f"known: {', '.join(names) or 'none'}"
            )
        return name in names


class References:
    """Checks the names that units use, and counts who uses what."""

    def __init__(
        self,
        devices: Mapping[str, Device | Spec],
        profiles: Mapping[str, Profile],
        findings: Findings,
        parts: Mapping[str, str] | None = None,
    ) -> None:
        """Check against devices and equipment by name; `parts` are devices that belong to equipment (its name)."""
        self._devices = devices
        self._profiles = profiles
        self._findings = findings
        self._parts = parts or {}
        self._uses: Counter[str] = Counter()
        self._first_use: dict[str, Where] = {}

    def role(self, where: Where, name: str, role: RoleEntry) -> RoleBinding:
        """Check one binding of a role to a device."""
        self._findings.known((*where, "role"), role.role, ROLES, "role")
        self._device((*where, "device"), role.device, role.role)
        self._use(where, role.device)
        return RoleBinding(name, role.role, role.device)

    def unit(self, name: str, unit: UnitEntry) -> UnitSite:
        """Check one unit and return it in its frozen form."""
        where: Where = ("units", name)
        roles = {key: self.role((*where, "roles", key), key, role) for key, role in unit.roles.items()}
        places = {key: self._place((*where, "places", key), key, place, roles) for key, place in unit.places.items()}
        self._ports_differ((*where, "places"), places)
        lines = tuple(self._line((*where, "lines", index), line) for index, line in enumerate(unit.lines))
        self._weighed((*where, "places"), places, lines)
        safe = self._culture_safe((*where, "culture_safe"), unit, roles)
        return UnitSite(name, roles, places, lines, safe)

    def one_owner_each(self) -> None:
        """Invariant: no device and no load cell serves two owners."""
        for name, count in self._uses.items():
            if count > 1:
                self._findings.add(
                    self._first_use[name], "site-two-owners", f"{name} is bound {count} times", "one owner each"
                )

    def _use(self, where: Where, name: str) -> None:
        self._uses[name] += 1
        self._first_use.setdefault(name, where)

    def _device(self, where: Where, name: str, role: str) -> Profile | None:
        if not self._findings.known(where, name, self._devices, "device") or name not in self._profiles:
            return None
        profile = self._profiles[name]
        if name in self._parts:
            owner = self._parts[name]
            self._findings.add(where, "site-is-a-part", f"{name} is a part of {owner}", f"bind {owner} instead")
        if profile.role not in (role, _ALSO.get(role)):
            message = f"{name} is a {profile.role} (profile {profile.id}), and a {role} is needed"
            self._findings.add(where, "site-wrong-role", message)
        return profile

    def _place(self, where: Where, name: str, place: PlaceEntry, roles: Mapping[str, RoleBinding]) -> Place:
        device, _, point = place.scale.partition(".")
        if place.scale:
            profile = self._device((*where, "scale"), device, "scale")
            if profile is not None and profile.role in ("scale", "balance"):
                masses = {name: point for name, point in profile.points.items() if point.unit == "g"}
                self._findings.known((*where, "scale"), point, masses, f"point of {device}")
            self._use(where, place.scale)
        return Place(name, place.at, place.port, device, point, self._rocker(where, name, place, roles))

    def _rocker(self, where: Where, name: str, place: PlaceEntry, roles: Mapping[str, RoleBinding]) -> str:
        """Return the instrument that rocks a place, "" where none does.

        Invariant: what is weighed on it can be made to stand still by it, and it goes on by itself.
        """
        here = (*where, "rocked_by")
        if not place.rocked_by or not self._findings.known(here, place.rocked_by, roles, "role of this unit"):
            return ""
        device = roles[place.rocked_by].device
        profile = self._profiles.get(device)
        lacks = [] if profile is None else [each for each in (PAUSE, "set_rocking") if each not in profile.commands]
        if profile is not None and (lacks or PAUSED not in profile.points):
            text = f"{device} (profile {profile.id}) cannot stand still for {name} to be weighed"
            hint = f"it needs the commands {PAUSE} and set_rocking and the point {PAUSED}; or leave rocked_by out"
            self._findings.add(here, "site-rocker", text, hint)
        return device

    def _weighed(self, where: Where, places: Mapping[str, Place], lines: tuple[Line, ...]) -> None:
        """Invariant: a place that liquid reaches is weighed: no mass, no evidence, and the dose would never begin."""
        for place in places.values():
            line = next((line for line in lines if place.at in (*line.source, *line.destination)), None)
            if line is not None and not place.scale_device:
                text = f"{place.name} has no scale, and the line {line.id} serves its class ({place.at}): no dose "
                text += "from or to it could be proven"
                hint = "give it `scale: device.point`, or take the place out"
                self._findings.add((*where, place.name), "site-no-scale", text, hint)

    def _ports_differ(self, where: Where, places: Mapping[str, Place]) -> None:
        taken: dict[int, str] = {}
        for place in places.values():
            other = taken.setdefault(place.port, place.name)
            if other != place.name:
                self._findings.add(
                    (*where, place.name, "port"), "site-same-port", f"{other} is at port {place.port} already"
                )

    def _line(self, where: Where, line: LineEntry) -> Line:
        self._device((*where, "pump"), line.pump, "pump")
        self._device((*where, "valves"), line.valves, "valves")
        dead, prime = self._swallowed((*where, "dead"), line.dead), self._swallowed((*where, "prime"), line.prime)
        return Line(line.id, tuple(line.source), tuple(line.destination), line.pump, line.valves, dead, prime)

    def _swallowed(self, where: Where, text: str) -> float:
        volume = self._findings.number(where, text, "mL")
        if not 0.0 <= volume <= MOST_IN_A_LINE_ML:
            most = f"expected 0 mL to {MOST_IN_A_LINE_ML:g} mL"
            self._findings.add(where, "site-line-volume", f"a line does not hold {text}: {most}", "measure it")
        return volume

    def _commands(self, device: str) -> Collection[str]:
        return self._profiles[device].commands if device in self._profiles else ()

    def _culture_safe(self, where: Where, unit: UnitEntry, roles: Mapping[str, RoleBinding]) -> dict[str, Safe]:
        """Invariant: every output of a unit has a declared safe state, or the site does not load."""
        settable = {
            f"{name}.{tag}": tag_unit
            for name, binding in roles.items()
            if binding.role in ROLES
            for tag, tag_unit in ROLES[binding.role].settable_by(self._commands(binding.device)).items()
        }
        whole = {"pumps": ("stop",), "valves": ("closed", "keep")} if unit.lines else {}
        for output in (*settable, *whole):
            if output not in unit.culture_safe:
                hint = "keep, or a value with its unit" if output in settable else " or ".join(whole[output])
                self._findings.add(where, "site-no-safe-state", f"{output} has no safe state", hint)
        safe: dict[str, Safe] = {}
        for output, text in unit.culture_safe.items():
            if output in settable:
                keep = text == "keep"
                value = None if keep else self._findings.number((*where, output), text, settable[output])
                safe[output] = Safe("keep" if keep else "value", value)
            elif output in whole and text in whole[output]:
                safe[output] = Safe("stop" if text == "stop" else "closed" if text == "closed" else "keep")
            elif output in whole:
                self._findings.add(
                    (*where, output), "site-no-safe-state", f"{output} cannot be {text!r}", " or ".join(whole[output])
                )
            else:
                self._findings.known((*where, output), output, {**settable, **whole}, "output")
        return safe
