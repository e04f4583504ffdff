"""Equipment and calibrations of a site file: their parts known, of the right kind, with one owner each."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import date
from typing import cast

from devices.calibration import Calibration, Curve, implausible, newest_of
from devices.clock import Clock
from devices.corrected import is_set
from devices.equipment.base import Parts, Source
from devices.equipment.climate import Mixer
from devices.equipment.contact_freezer import Contacts
from devices.equipment.freezer import Probes
from devices.equipment.pump import Enable
from devices.equipment.spec import (
    ClimateSpec,
    ContactFreezerSpec,
    ProgrammerFreezerSpec,
    PumpSpec,
    Spec,
    ValvesSpec,
    build,
    contacts_of,
    parts_of,
    planned,
)
from devices.equipment.valves import Output
from devices.kept import Kept
from devices.profile import Profile
from devices.quantity import CANONICAL, QuantityError, parse_as
from tilctl.config.plausible import check_contacts, check_sources, disagreement
from tilctl.config.references import Findings, Where
from tilctl.config.schema import (
    CalibrationEntry,
    ClimateEntry,
    ContactFreezerEntry,
    DeviceEntry,
    EquipmentEntry,
    ProgrammerFreezerEntry,
    PumpEntry,
    ValvesEntry,
)

_CODE = "site-equipment"


def calibrations_of(
    entries: Mapping[str, Sequence[CalibrationEntry]], findings: Findings
) -> dict[str, tuple[Calibration, ...]]:
    """Return the calibrations by name, each with its history; what is wrong with them is reported."""
    found: dict[str, tuple[Calibration, ...]] = {}
    for name, history in entries.items():
        made: list[Calibration] = []
        for i, entry in enumerate(history):
            where: Where = ("calibrations", name, i)
            days = [
                _day(text, (*where, key), findings) for key, text in (("made", entry.made), ("expires", entry.expires))
            ]
            pairs = [_pair(pair, (*where, "points", j), findings) for j, pair in enumerate(entry.points)]
            points = tuple((first[0], second[0]) for first, second in pairs)
            units = dict.fromkeys((first[1], second[1]) for first, second in pairs)
            if len(units) > 1:
                findings.add((*where, "points"), "site-calibration", "its pairs are not in the same units")
            if days[1] < days[0]:
                findings.add((*where, "expires"), "site-calibration", "it expires before it was made")
            made.append(Calibration(entry.what, points, days[0], entry.by, days[1], next(iter(units))))
        found[name] = tuple(made)
    return found


def _day(text: str, where: Where, findings: Findings) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        findings.add(where, "site-calibration", f"{text!r} is no date", "write 2026-01-31")
        return date(1970, 1, 1)


def _pair(pair: Sequence[str], where: Where, findings: Findings) -> list[tuple[float, str]]:
    values: list[tuple[float, str]] = []
    for text in pair:
        for unit in ("rpm", "mL/min", "degC", "g", "pH", "%"):
            with contextlib.suppress(QuantityError):
                values.append((parse_as(text, unit), unit))
                break
        else:
            findings.add(where, "site-calibration", f"{text!r} is no quantity of a calibration", "such as 10 rpm")
            values.append((1.0, ""))
    return values


def corrections_of(
    devices: Mapping[str, DeviceEntry],
    profiles: Mapping[str, Profile],
    calibrations: Mapping[str, tuple[Calibration, ...]],
    findings: Findings,
) -> dict[str, dict[str, str]]:
    """Return device -> point -> calibration; what is wrong with them is reported."""
    found: dict[str, dict[str, str]] = {}
    for device, entry in devices.items():
        for point, name in entry.corrections.items():
            where: Where = ("devices", device, "corrections", point)
            numeric = (
                {p.name: p for p in profiles[device].points.values() if p.unit in CANONICAL}
                if device in profiles
                else {}
            )
            known = findings.known(where, point, numeric, f"number of {device}")
            if not (findings.known(where, name, calibrations, "calibration") and known):
                continue
            newest = newest_of(calibrations[name])
            unit = numeric[point].unit
            _of_unit(name, newest, (unit, unit), where, findings)
            if is_set(profiles[device], point):
                # Invariant: what a command is proven by is read as it was written.
                text = f"{point} of {device} is set and not measured: a correction would show another value"
                findings.add(where, "site-calibration", text, "correct a point that the instrument measures")
            elif newest.units == (unit, unit) and (wrong := implausible(newest.points, unit, point)) is not None:
                at: Where = ("calibrations", name, calibrations[name].index(newest), "points", wrong[0])
                hint = f"calibrate {device} anew; an instrument that is further off is repaired, not corrected"
                findings.add(at, "site-calibration", f"{name} for {device}.{point}: {wrong[1]}", hint)
            found.setdefault(device, {})[point] = name
    return found


def _of_unit(name: str, newest: Calibration, units: tuple[str, str], where: Where, findings: Findings) -> None:
    """Report a calibration in other units than what it is used for."""
    if newest.units != units:
        text = f"{name} is in {' and '.join(newest.units)}, expected {' and '.join(units)}"
        findings.add(where, "site-calibration", text, "another calibration was meant, or another point")


class EquipmentCheck:
    """All equipment of a site: `specs` by name, `profiles` as recipes see it, `parts` (device -> whose part it is)."""

    def __init__(
        self,
        entries: Mapping[str, EquipmentEntry],
        profiles: Mapping[str, Profile],
        calibrations: Mapping[str, tuple[Calibration, ...]],
        findings: Findings,
    ) -> None:
        self._profiles = profiles
        self._calibrations = calibrations
        self._findings = findings
        self.specs: dict[str, Spec] = {}
        self.profiles: dict[str, Profile] = {}
        self.parts: dict[str, str] = {}
        self._contacts: dict[tuple[str, str], str] = {}
        for name, entry in entries.items():
            where: Where = ("equipment", name)
            if name in profiles:
                findings.add(where, _CODE, f"{name} is the name of a device already")
            known_before = len(findings.list)
            spec = self.specs[name] = self._spec(where, entry)
            self._own(where, name, spec)
            if len(findings.list) == known_before:
                self._build(where, name, spec)

    def _build(self, where: Where, name: str, spec: Spec) -> None:
        """Put it together on paper: what the equipment itself refuses is a finding."""
        try:
            nobody = cast("Clock", None)  # on paper nothing waits and nothing is kept
            self.profiles[name] = build(name, spec, Parts(planned(self._profiles), nobody), Kept(nobody)).profile
        except ValueError as error:
            self._findings.add(where, _CODE, str(error))

    def _own(self, where: Where, name: str, spec: Spec) -> None:
        """Invariant: a part belongs to one piece of equipment; what must not fail is not behind a broker."""
        for part, role in parts_of(spec).items():
            if not self._findings.known(where, part, self._profiles, "device"):
                continue
            profile = self._profiles[part]
            if role and profile.role != role:
                text = f"{part} is a {profile.role} (profile {profile.id}), and a {role} is needed"
                self._findings.add(where, "site-wrong-role", text)
            if role and "mqtt" in profile.kinds:
                text = f"{part} is reached over MQTT: it must not be the only barrier against heat or overdose"
                self._findings.add(where, "site-mqtt-barrier", text, "use an instrument on a wire of its own")
            owner = self.parts.setdefault(part, name)
            # An I/O module serves several: each of them has outputs of its own.
            if owner != name and (not role or role != "digital_io"):
                self._findings.add(where, "site-two-owners", f"{part} is a part of {owner} already", "one owner each")
        for contact in contacts_of(spec):
            part, point = contact
            if part in self._profiles:
                self._findings.known(where, point, self._profiles[part].points, f"contact of {part}")
            user = self._contacts.setdefault(contact, name)
            if user != name or contacts_of(spec).count(contact) > 1:
                # Invariant: one relay moves one thing.
                text = f"{part}.{point} is used by {user} already"
                self._findings.add(where, "site-two-owners", text, "one contact for each purpose")
                break
        check_sources(where, spec, self._profiles, self._findings)
        if isinstance(spec, ContactFreezerSpec):
            check_contacts(where, spec, self._profiles, self._findings)

    def _spec(self, where: Where, entry: EquipmentEntry) -> Spec:
        number = self._findings.number
        match entry:
            case ClimateEntry():
                total = number((*where, "gas", "total"), entry.gas.total, "mL/min", positive=True)
                second = None
                if entry.second is not None:
                    there: Where = (*where, "second")
                    rule = disagreement(there, entry.second.within, entry.second.lasts, self._findings)
                    second = (self._source((*there, "probe"), entry.second.probe), rule)
                co2 = self._source((*where, "co2"), entry.co2)
                mixer = Mixer(entry.gas.co2, entry.gas.carrier, total)
                return ClimateSpec(
                    entry.programmer, co2, mixer, second, self._maybe((*where, "humidity"), entry.humidity)
                )
            case PumpEntry():
                enable = None if entry.enable is None else Enable(entry.enable.io, entry.enable.channel)
                return PumpSpec(entry.drive, self._curve((*where, "tubing"), entry.tubing), enable, entry.tubing)
            case ValvesEntry():
                sides = [
                    {port: self._output((*where, side, str(port)), text) for port, text in outputs.items()}
                    for side, outputs in (("suction", entry.suction), ("delivery", entry.delivery))
                ]
                return ValvesSpec(*sides)
            case ProgrammerFreezerEntry():
                sample, ln2 = (self._maybe((*where, key), getattr(entry, key)) for key in ("sample", "ln2"))
                return ProgrammerFreezerSpec(entry.programmer, sample, ln2)
            case ContactFreezerEntry():
                chamber, sample, ln2 = (
                    self._maybe((*where, key), getattr(entry, key)) for key in ("chamber", "sample", "ln2")
                )
                contacts = Contacts(entry.io, entry.programmes, entry.running, entry.alarm, entry.hold)
                return ContactFreezerSpec(contacts, Probes(chamber, sample, ln2))

    def _curve(self, where: Where, name: str) -> tuple[tuple[float, float], ...]:
        """Return the newest curve of a tubing set."""
        if not self._findings.known(where, name, self._calibrations, "calibration"):
            return ((1.0, 1.0),)
        newest = newest_of(self._calibrations[name])
        _of_unit(name, newest, ("rpm", "mL/min"), where, self._findings)
        try:
            Curve(newest.points)
        except ValueError as error:
            hint = "measure the tubing set again, at rising speeds"
            self._findings.add(where, "site-calibration", f"{name}: {error}", hint)
            return ((1.0, 1.0),)
        return newest.points

    def _maybe(self, where: Where, text: str | None) -> Source | None:
        return None if text is None else self._source(where, text)

    def _source(self, where: Where, text: str) -> Source:
        part, _, point = text.partition(".")
        if not part or not point:
            self._findings.add(where, _CODE, f"{text!r} is no point of a device", "write device.point")
        return Source(part, point)

    def _output(self, where: Where, text: str) -> Output:
        part, _, channel = text.partition(".")
        if not part or not channel.isdigit():
            self._findings.add(
                where, _CODE, f"{text!r} is no output of a module", "write module.channel, such as io1.0"
            )
            return Output(part, 0)
        return Output(part, int(channel))
