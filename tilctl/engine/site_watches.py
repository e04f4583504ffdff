"""The alarms of a site and of its instruments' profiles, as the guard judges them, with and without a batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from devices.equipment.spec import parts_of
from devices.quantity import parse_as
from tilctl.config import Site
from tilctl.config.alarms import of_profile
from tilctl.config.site import SiteAlarm, UnitSite
from tilctl.guard.board import Watch
from tilctl.guard.catalog import details_of
from tilctl.guard.conditions import TagCondition
from tilctl.plant.image import ProcessImage


def of_unit(site: Site, unit: UnitSite, devices: Iterable[str], image: ProcessImage) -> list[Watch]:
    """Return what is watched of one unit: its own alarms, and those of its instruments' profiles."""
    return _watches([*unit.alarms.values(), *_brought(site, devices)], _owners(site), image)


def of_site(site: Site, image: ProcessImage) -> list[Watch]:
    """Return what is watched of the site: its own alarms, and those of the equipment that units share."""
    shared = [binding.device for binding in site.shared.values()]
    return _watches([*site.alarms.values(), *_brought(site, shared)], _owners(site), image)


def _brought(site: Site, devices: Iterable[str]) -> Iterator[SiteAlarm]:
    owners = _owners(site)
    mine = set(devices)
    for device, profile in site.profiles.items():
        if owners.get(device, device) in mine:
            yield from of_profile(device, profile).values()


def _owners(site: Site) -> dict[str, str]:
    """Return whose part a device is, where it is one: it is read when its equipment is."""
    return {part: name for name, spec in site.equipment.items() for part in parts_of(spec)}


def _watches(alarms: Iterable[SiteAlarm], owners: Mapping[str, str], image: ProcessImage) -> list[Watch]:
    return [watch(alarm, owners, image) for alarm in alarms]


def watch(alarm: SiteAlarm, owners: Mapping[str, str], image: ProcessImage) -> Watch:
    """Return one alarm as the guard judges it; `owners` has whose part a device is."""
    declared = alarm.declared
    condition = TagCondition(image, declared.when, alarm.reads, declared.deadband or "")
    unless = None if declared.unless is None else TagCondition(image, declared.unless, alarm.unless_reads)
    devices = set(condition.devices)
    if unless is not None:
        devices |= unless.devices
    return Watch(
        id=alarm.name,
        text=declared.text or f"{declared.when} for {declared.for_}",
        priority=declared.priority,
        then=declared.then,
        for_s=parse_as(declared.for_, "s"),
        condition=condition.holds,
        operands=condition.operands,
        goes_on=condition.goes_on,
        off_delay=parse_as(declared.off_delay, "s"),
        unless=None if unless is None else unless.holds,
        devices=frozenset(owners.get(device, device) for device in devices),
        details=details_of(declared),
    )
