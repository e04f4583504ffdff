"""Reading a site file: `load_site` is the only way in.

Whatever is wrong is reported together, each finding with file:line:column and a hint, before anything is opened
or moved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from devices.document import DocumentError, load, validate
from devices.profile import Profile, load_profile
from tilctl.config.references import Findings, References, Where
from tilctl.config.schema import SiteFile
from tilctl.config.site import Bus, Device, Scan, Site

_ADDRESSES = ("port", "host", "url", "data")


def load_site(path: Path, overrides: Mapping[str, str] | None = None) -> Site:
    """Read and check a site file; `overrides` sets single entries first (`{"mqtt.url": "mqtt://..."}`).

    A relative `data` is meant from the folder of the file. Raises DocumentError with every finding.
    """
    document = load(path)
    findings = Findings(document)
    for dotted, text in (overrides or {}).items():
        _override(document.data, dotted, text, findings)
    if findings.list:
        raise DocumentError(tuple(findings.list))
    model = validate(document, SiteFile, "site")
    site = _compile(model, path, _sha256(document.text, overrides or {}), findings)
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


def _sha256(text: str, overrides: Mapping[str, str]) -> str:
    """Hash what the site is: where it is reached (ports, hosts, the broker, the data folder) is not part of that."""
    kept = {key: value for key, value in overrides.items() if key.rpartition(".")[2] not in _ADDRESSES}
    changes = "".join(f"\n{key}={value}" for key, value in sorted(kept.items()))
    return hashlib.sha256((text + changes).encode()).hexdigest()


def _compile(model: SiteFile, path: Path, sha256: str, findings: Findings) -> Site:
    _check_time_zone(model.time_zone, findings)
    check_mqtt_url(model.mqtt.url, findings)
    scan = Scan(
        *(
            findings.number(("scan", name), getattr(model.scan, name), "s", positive=True)
            for name in ("active", "quiet", "idle", "trend")
        ),
    )
    buses = {
        name: Bus(
            name, b.kind, b.host, b.port, findings.number(("buses", name, "timeout"), b.timeout, "s", positive=True)
        )
        for name, b in model.buses.items()
    }
    devices = {name: Device(name, d.profile, d.bus, d.unit) for name, d in model.devices.items()}
    profiles = _load_profiles(model, findings)
    check = References(devices, profiles, findings)
    units = {name: check.unit(name, unit) for name, unit in model.units.items()}
    shared = {name: check.role(("shared", name), name, role) for name, role in model.shared.items()}
    check.one_owner_each()
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
    )


def _check_time_zone(name: str, findings: Findings) -> None:
    if name in ("UTC", "Etc/UTC"):  # known even where the machine has no zone table
        return
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        findings.add(
            ("time_zone",), "site-time-zone", f"no time zone is called {name!r}", "an IANA name, such as Europe/Berlin"
        )


def check_mqtt_url(url: str, findings: Findings) -> None:
    """Report a broker address that cannot be used; a password is refused, for site files are copied and printed."""
    where: Where = ("mqtt", "url")
    parts = urlsplit(url)
    try:
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        port_ok = False
    if parts.scheme != "mqtt" or not parts.hostname or not port_ok or parts.path not in ("", "/"):
        findings.add(where, "site-mqtt-url", f"{url!r} is not a broker address", "mqtt://host:1883")
    elif parts.username or parts.password:
        findings.add(where, "site-mqtt-url", "a name or password does not belong in the site file", "mqtt://host:1883")


def _load_profiles(model: SiteFile, findings: Findings) -> dict[str, Profile]:
    """Return the profile of each device that has a usable one, and report the others and double addresses."""
    profiles: dict[str, Profile] = {}
    addresses: dict[tuple[str, int], str] = {}
    for name, device in model.devices.items():
        findings.known(("devices", name, "bus"), device.bus, model.buses, "bus")
        other = addresses.setdefault((device.bus, device.unit), name)
        if other != name:
            findings.add(
                ("devices", name, "unit"),
                "site-same-address",
                f"{other} has unit {device.unit} on {device.bus} already",
            )
        try:
            profiles[name] = load_profile(device.profile)
        except DocumentError as error:
            findings.add(
                ("devices", name, "profile"), "site-profile", f"profile {device.profile!r} cannot be used: {error}"
            )
    return profiles
