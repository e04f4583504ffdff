"""What the engine makes of how well devices are: may a batch start with them, what is told, what is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from devices.clock import Clock
from devices.diagnosis import Ne107
from tilctl.engine.hourly import Hourly
from tilctl.engine.state import format_time
from tilctl.guard.board import Watch
from tilctl.guard.device_watches import device_watches
from tilctl.guard.health import Health
from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.plant.unit import UnitPlant

EXCEPTION = "ne107"
STANDS_FOR = 30.0  # s that a class lasts before it is on record: one lost reply is none
AN_HOUR = 20  # changes of one device that are on record; what it is of at the end of the hour follows


def needed(plant: UnitPlant, equipment: Iterable[str]) -> list[str]:
    """Return the devices that a batch on a unit needs: its own, those of the recipe's equipment, its scales."""
    scales = {place.scale_device for place in plant.site.places.values() if place.scale_device}
    return list(dict.fromkeys([*plant.devices, *equipment, *sorted(scales)]))


def watches_over(health: Health, plant: UnitPlant, equipment: Iterable[str] = ()) -> list[Watch]:
    """Return the watches over the devices of a unit, and over those that the equipment of a recipe stands for."""
    return device_watches(health, needed(plant, equipment), lambda device: _used(plant, device))


def permissives(health: Health, plant: UnitPlant, devices: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return why no batch may start with some devices, and what is to be on its list of exceptions.

    Failure, function check and what is not known keep a batch from starting; the rest is a person's to weigh.
    """
    refused: dict[str, str] = {}
    accepted: list[str] = []
    for name in devices:
        verdict = health.looked_at(name).about(_used(plant, name))
        grave = [r for r in verdict.reasons if r.status in (Ne107.FAILURE, Ne107.FUNCTION_CHECK)]
        if grave:
            todo = "".join(f": {reason.todo}" for reason in grave[:1] if reason.todo)
            status = grave[0].status.value.replace("_", " ")
            refused[name] = f"{name} {'; '.join(reason.text for reason in grave)} ({status}){todo}"
        elif verdict.unknown:
            refused[name] = f"{name} {verdict.unknown[0]}: repeat the command in a moment"
        accepted += [f"{name} {r.text} ({r.status.value.replace('_', ' ')})" for r in verdict.reasons]
    return refused, accepted


def fields(health: Health, device: str) -> dict[str, Any]:
    """Return what is told of a device, as JSON-able values."""
    instrument, verdict = health.instrument(device), health.verdict(device)
    since, due = health.since(device), health.due(device)
    return {
        "device": device,
        "status": verdict.status.value,
        "letter": verdict.status.letter,
        "reasons": verdict.texts,
        "since": "" if since is None else format_time(since),
        "comm": instrument.status.state.value,
        "serial": instrument.serial,
        "profile": instrument.profile.id,
        "role": instrument.profile.role,
        "calibration_due": "" if due is None else due.isoformat(),
    }


def not_good(health: Health, plant: UnitPlant, equipment: Iterable[str]) -> list[dict[str, Any]]:
    """Return what is told of those devices of a unit that are not good, the worst first."""
    found: list[tuple[int, dict[str, Any]]] = []
    for name in needed(plant, equipment):
        verdict = health.verdict(name).about(_used(plant, name))
        if verdict.status is not Ne107.GOOD:
            mine = {"status": verdict.status.value, "letter": verdict.status.letter, "reasons": verdict.texts}
            found.append((-verdict.status.rank, fields(health, name) | mine))
    return [each for _, each in sorted(found, key=lambda pair: pair[0])]


class DeviceRecord:
    """Which class of each device is on the site's record, so that the record follows what is so."""

    def __init__(self, health: Health, clock: Clock) -> None:
        self._health = health
        self._clock = clock
        self._noted = dict.fromkeys(health, Ne107.GOOD.value)  # as long as nothing else is on record
        self._hourly = {name: Hourly() for name in health}
        self.open = dict.fromkeys(health)
        """Devices whose class may not be on record."""
        health.changed.append(self._reopened)

    def _reopened(self, device: str) -> None:
        self.open[device] = None

    def know(self, record: Record) -> None:
        """Take in what is on the site's record."""
        if isinstance(record.event, ev.DeviceStatus) and record.event.device in self._noted:
            self._noted[record.event.device] = record.event.status

    def note(self, append: Callable[[ev.DeviceStatus], object]) -> None:
        """Put on record what differs from it, has lasted, and is not too much for this hour."""
        for name in list(self.open):
            verdict = self._health.verdict(name)
            status = verdict.status
            if status is Ne107.UNKNOWN or self._health.lasts(name) < STANDS_FOR:
                continue
            if status.value != self._noted[name]:
                if self._hourly[name].more_than(AN_HOUR, self._clock.monotonic()):
                    continue
                append(ev.DeviceStatus(name, status.value, verdict.texts))
                self._noted[name] = status.value
            del self.open[name]


def _used(plant: UnitPlant, device: str) -> list[str]:
    """Return the points of a device that a unit uses: of a shared scale those under its own places."""
    points = plant.instruments[device].profile.points
    return [point for point in points if plant.sees(f"{device}.{point}")] or list(points)
