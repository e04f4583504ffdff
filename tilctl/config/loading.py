"""Reading a site file: `load_site` is the only way in.

Whatever is wrong is reported together, each finding with file:line:column and a hint, before anything is opened
or moved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from devices.alarm import AlarmFields
from devices.document import DocumentError, load, validate
from devices.given import NOTHING
from devices.mqtt.login import PORTS
from devices.profile import Profile, load_profile
from tilctl.config.alarms import alarms_of, check_ids, check_profile_alarms
from tilctl.config.equipment import EquipmentCheck, calibrations_of, corrections_of
from tilctl.config.given import given_of
from tilctl.config.logins import Logins
from tilctl.config.notify import notify_of
from tilctl.config.references import Findings, References, Where
from tilctl.config.rules import RuleCheck
from tilctl.config.schema import MqttBusEntry, SerialBusEntry, SiteFile, TcpBusEntry
from tilctl.config.site import Bus, Device, RoleBinding, Scan, Site, SiteAlarm, UnitSite
from tilctl.config.staffing import working_of
from tilctl.config.tags import TagNames
from tilctl.config.wiring import check_address, check_host, check_timing, check_wires

_ADDRESSES = ("port", "host", "url", "data")
_OF_THAT_BROKER = ("user", "password_file", "tls", "stations")


def load_site(path: Path, overrides: Mapping[str, str] | None = None, *, logins: bool = False) -> Site:
    """Read and check a site file; `overrides` sets single entries first (`{"mqtt.url": "mqtt://..."}`).

    A relative path is meant from the folder of the file. An override of a broker's `url` drops who we are at the one in
    the file. `logins`: look at the files of passwords and certificates too, as whoever connects has to. Raises
    DocumentError with every finding.
    """
    document = load(path)
    findings = Findings(document)
    for dotted, text in (overrides or {}).items():
        _override(document.data, dotted, text, findings)
    if findings.list:
        raise DocumentError(tuple(findings.list))
    model = validate(document, SiteFile, "site")
    site = _compile(model, path, _sha256(document.text, overrides or {}), findings, check_logins=logins)
    if findings.list:
        raise DocumentError(tuple(findings.list))
    return site


def _override(data: dict[str, Any], dotted: str, text: str, findings: Findings) -> None:
    *parents, last = dotted.split(".")
    node: dict[str, Any] = data
    for key in parents:
        below = node.setdefault(key, {})
        if not isinstance(below, dict):
            findings.add((), "site-override", f"override {dotted}={text}: {key} has no entries", "give a dotted path")
            return
        node = cast("dict[str, Any]", below)
    node[last] = text
    if last == "url":
        for key in _OF_THAT_BROKER:
            node.pop(key, None)


def _sha256(text: str, overrides: Mapping[str, str]) -> str:
    """Hash what the site is: where it is reached (ports, hosts, the broker, the data folder) is not part of that."""
    kept = {key: value for key, value in overrides.items() if key.rpartition(".")[2] not in _ADDRESSES}
    changes = "".join(f"\n{key}={value}" for key, value in sorted(kept.items()))
    return hashlib.sha256((text + changes).encode()).hexdigest()


def _compile(model: SiteFile, path: Path, sha256: str, findings: Findings, *, check_logins: bool) -> Site:
    _check_time_zone(model.time_zone, findings)
    check_mqtt_url(model.mqtt.url, findings)
    scan = Scan(
        *(
            findings.number(("scan", name), getattr(model.scan, name), "s", positive=True)
            for name in ("active", "quiet", "idle", "trend")
        ),
    )
    logins = Logins(path.resolve().parent, findings, files=check_logins)
    buses = {name: _bus(name, entry, findings, logins) for name, entry in model.buses.items()}
    check_wires(model.buses, findings)
    folders = [path.resolve().parent / model.profiles] if model.profiles else []
    profiles = _load_profiles(model, folders, findings)
    calibrations = calibrations_of(model.calibrations, findings)
    corrections = corrections_of(model.devices, profiles, calibrations, findings)
    given = given_of(model.devices, profiles, findings)
    devices = {
        name: Device(
            name, d.profile, d.bus, d.unit or 0, d.prefix or "", corrections.get(name, {}), given.get(name, NOTHING)
        )
        for name, d in model.devices.items()
    }
    equipment = EquipmentCheck(model.equipment, profiles, calibrations, findings)
    everything, described = {**devices, **equipment.specs}, {**profiles, **equipment.profiles}
    check = References(everything, described, findings, equipment.parts)
    units = {name: check.unit(name, unit) for name, unit in model.units.items()}
    shared = {name: check.role(("shared", name), name, role) for name, role in model.shared.items()}
    check.one_owner_each()
    for name, unit in units.items():
        declared = model.units[name].alarms
        alarms = _alarms(("units", name), declared, described, unit, shared, findings)
        check_ids(name, declared, model.alarms, findings)
        units[name] = replace(unit, alarms=alarms)
    nowhere = UnitSite("", {}, {}, (), {})
    alarms = _alarms((), model.alarms, described, nowhere, shared, findings)
    check_profile_alarms(profiles, findings)
    rules = RuleCheck(everything, described, findings)
    working = working_of(model.working, model.time_zone, findings)
    units = {
        name: replace(rules.unit(unit, model.units[name], shared), working=working) for name, unit in units.items()
    }
    return Site(
        name=model.site,
        node=model.node,
        data=path.resolve().parent / model.data,
        time_zone=model.time_zone,
        mqtt_url=model.mqtt.url,
        http_host=model.http.host,
        http_port=model.http.port,
        scheduled_commands=model.commands.scheduled == "accept",
        scan=scan,
        buses=buses,
        devices=devices,
        units=units,
        shared=shared,
        sha256=sha256,
        profiles=profiles,
        equipment=equipment.specs,
        equipment_profiles=equipment.profiles,
        calibrations=calibrations,
        mqtt_login=logins.controller(model.mqtt),
        stations=logins.stations(model.mqtt),
        alarms=alarms,
        rules=rules.site(model, units.values(), shared),
        notify=notify_of(model.notify, path.resolve().parent, findings, files=check_logins),
    )


def _alarms(
    where: Where,
    declared: Mapping[str, AlarmFields],
    profiles: Mapping[str, Profile],
    unit: UnitSite,
    shared: Mapping[str, RoleBinding],
    findings: Findings,
) -> dict[str, SiteAlarm]:
    names = TagNames(profiles, {**shared, **unit.roles}, unit.places)
    return alarms_of((*where, "alarms"), declared, names, findings)


def _bus(name: str, entry: TcpBusEntry | SerialBusEntry | MqttBusEntry, findings: Findings, logins: Logins) -> Bus:
    where: Where = ("buses", name)
    if isinstance(entry, MqttBusEntry):
        check_mqtt_url(entry.url, findings, (*where, "url"))
        return Bus(name, entry.kind, url=entry.url, login=logins.instruments(where, entry))
    if isinstance(entry, TcpBusEntry):
        check_host(entry.host, (*where, "host"), findings)
    timeout = findings.number((*where, "timeout"), entry.timeout, "s", positive=True)
    turnaround = findings.number((*where, "turnaround"), entry.turnaround, "s")
    check_timing(where, timeout, turnaround, findings)
    host, port, path = (entry.host, entry.port, "") if isinstance(entry, TcpBusEntry) else ("", 0, entry.path)
    echo = entry.local_echo == "yes"
    return Bus(name, entry.kind, host, port, timeout, turnaround, path, entry.baud, entry.format, echo)


def _check_time_zone(name: str, findings: Findings) -> None:
    if name in ("UTC", "Etc/UTC"):  # known even where the machine has no zone table
        return
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: `Europe` is a folder
        findings.add(
            ("time_zone",), "site-time-zone", f"no time zone is called {name!r}", "an IANA name, such as Europe/Berlin"
        )


def check_mqtt_url(url: str, findings: Findings, where: Where = ("mqtt", "url")) -> None:
    """Report a broker address that cannot be used; a password is refused, for site files are copied and printed."""
    parts = urlsplit(url)
    hint = "mqtt://host:1883, or mqtts://host:8883 with TLS"
    try:
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        port_ok = False
    if parts.scheme not in PORTS or not parts.hostname or not port_ok or parts.path not in ("", "/"):
        findings.add(where, "site-mqtt-url", f"{url!r} is not a broker address", hint)
    elif parts.username or parts.password:
        text = "a name or password does not belong into the address"
        findings.add(where, "site-mqtt-url", text, f"{hint}; with `user` and `password_file` beside it")


def _load_profiles(model: SiteFile, folders: Sequence[Path], findings: Findings) -> dict[str, Profile]:
    """Return the profile of each device that has a usable one, and report the others and double addresses."""
    profiles: dict[str, Profile] = {}
    addresses: dict[tuple[str, str], str] = {}
    for name, device in model.devices.items():
        where: Where = ("devices", name)
        bus = model.buses.get(device.bus)
        findings.known((*where, "bus"), device.bus, model.buses, "bus")
        over_mqtt = bus is not None and bus.kind == "mqtt"
        if bus is not None and (device.prefix is None) is over_mqtt:
            key, other = ("prefix", "unit") if over_mqtt else ("unit", "prefix")
            findings.add(where, "site-address", f"{name} is on {device.bus}: it needs `{key}`", f"and no `{other}`")
        check_address(where, device, findings)
        address = device.prefix if over_mqtt else f"unit {device.unit}"
        other = addresses.setdefault((device.bus, str(address)), name)
        if other != name:
            findings.add(
                (*where, "prefix" if over_mqtt else "unit"), "site-same-address",
                f"{other} has {address} on {device.bus} already",
            )  # fmt: skip
        try:
            profile = profiles[name] = load_profile(device.profile, folders)
        except DocumentError as error:
            findings.add((*where, "profile"), "site-profile", f"profile {device.profile!r} cannot be used: {error}")
            continue
        if bus is not None and not _carries(bus.kind, profile.kinds):
            kinds = ", ".join(profile.kinds)
            findings.add((*where, "bus"), "site-wrong-bus", f"{profile.id} speaks {kinds}, {device.bus} is {bus.kind}")
    return profiles


def _carries(kind: str, speaks: Sequence[str]) -> bool:
    """Tell whether an instrument can be behind a bus; a gateway may put one that speaks RTU behind Modbus TCP."""
    if kind == "mqtt":
        return "mqtt" in speaks
    return ("rtu" in speaks or "tcp" in speaks) if kind == "modbus-tcp" else "rtu" in speaks
