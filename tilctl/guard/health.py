"""How well each device is, kept current: judged on what each read brings, and all of them at each sign of life.

It stands in front of the process image, beside the engine: it needs no batch, no record, no broker.  It sees readings
as the driver says them; what is doubtful of a device is uncertain from then on for all who read the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cache

import structlog

from devices.calibration import Calibration, newest_of
from devices.clock import Clock
from devices.corrected import is_set
from devices.diagnosis import Sign
from devices.equipment.spec import ClimateSpec, PumpSpec, origins_of, parts_of, sources_of
from devices.instrument import DeviceState, DeviceStatus, Instrument
from devices.profile_types import TEXT, Profile
from devices.reading import Quality, Reading, made
from devices.role import BOOL, PARTS, ROLES, SYMBOL
from recipes.expr import compile
from tilctl.config import Site
from tilctl.guard.ne107 import Known, Verdict, Written, judge
from tilctl.plant.suite import Suite

_NOT_ASKED = Verdict(unknown=("was not asked yet",))
_UNASKED = DeviceStatus(DeviceState.OFFLINE, "not asked yet")
_NOT_MEASURED = (BOOL, SYMBOL, TEXT, "", "s")  # flags, counts and times are no signals of a sensor
_DISAGREE = "probes_disagree"  # of equipment with two probes
_USABLE = (Quality.GOOD, Quality.UNCERTAIN)


@dataclass(slots=True)
class _Device:
    """One device: what is looked at, what was seen last, and what is to be said of it."""

    name: str
    instrument: Instrument
    measures: frozenset[str]  # what somebody depends on: without a value of it the device has failed
    doubtable: frozenset[str]  # all that it measures
    signs: Mapping[str, tuple[Sign, ...]]  # by bit or point
    flags: tuple[str, ...]  # its watchdog, whether its probes disagree
    calibrations: Mapping[str, tuple[Calibration, frozenset[str] | None]]
    parts: tuple[str, ...]
    origins: Mapping[str, tuple[str, str]]  # point of equipment -> part and point that it is read from; "" is any
    watched: tuple[str, ...] = ()
    tried: bool = False
    status: DeviceStatus = _UNASKED
    serial: str = ""
    seen: dict[str, Reading] = field(default_factory=dict[str, Reading])
    of_parts: tuple[Verdict, ...] = ()
    written: tuple[Written, ...] = ()
    verdict: Verdict = _NOT_ASKED
    doubted: frozenset[str] = frozenset()
    since: datetime | None = None
    from_: float = 0.0  # the same, monotonic


class Health:
    """The class of every instrument, part and piece of equipment of a suite."""

    def __init__(self, suite: Suite, clock: Clock) -> None:
        """Stand in front of the image of a suite; by `clock` calibrations expire."""
        self.changed: list[Callable[[str], None]] = []
        """Told of a device whose reasons, communication or serial number changed; must not raise or block."""
        self._suite = suite
        self._clock = clock
        self._log = structlog.get_logger("health")
        site = suite.site
        used = _used(site)
        self._each: dict[str, _Device] = {}
        for name, device in suite.devices.items():  # parts first: equipment is judged by them
            self._each[name] = _instrument(site, name, device, used.get(name, set()))
        for name in site.equipment:
            self._each[name] = _equipment(site, name, suite.instruments[name])
        for each in self._each.values():
            each.watched = tuple(dict.fromkeys((*each.measures, *each.signs, *each.flags)))
        suite.image.before = self.taken

    def __iter__(self) -> Iterator[str]:
        """Yield the names of all devices, parts before what they are parts of."""
        return iter(self._each)

    def verdict(self, device: str) -> Verdict:
        """Return what was last found of a device."""
        return self._each[device].verdict

    def since(self, device: str) -> datetime | None:
        """Return since when a device is of its class; None before it was asked."""
        return self._each[device].since

    def lasts(self, device: str) -> float:
        """Return for how long (s) a device has been of its class."""
        return self._clock.monotonic() - self._each[device].from_

    def due(self, device: str) -> date | None:
        """Return when the first of a device's calibrations expires, None where it has none."""
        held = [calibration.expires for calibration, _ in self._each[device].calibrations.values()]
        return min((*held, *(due for part in self._each[device].parts if (due := self.due(part)))), default=None)

    def instrument(self, device: str) -> Instrument:
        """Return the device itself."""
        return self._each[device].instrument

    def looked_at(self, device: str) -> Verdict:
        """Judge a device now, with the age of what was read of it, and return what was found."""
        each = self._each[device]
        for part in each.parts:
            self._judge(self._each[part], aged=True)
        self._judge(each, aged=True)
        return each.verdict

    def tick(self) -> None:
        """Judge all devices anew: what was read grows old, calibrations expire."""
        for each in self._each.values():
            status = each.instrument.status
            checked = status.state is DeviceState.CHECKING and not status.text  # as it is each hour: no news so far
            self._judge(each, aged=True, status=each.status if checked and each.tried else None)

    def taken(self, device: str, readings: Mapping[str, Reading]) -> Mapping[str, Reading]:
        """Judge a device on what was read of it; return the readings, uncertain where they are to be doubted."""
        each = self._each.get(device)
        if each is None:
            return readings
        news = not each.tried or each.instrument.status != each.status
        each.tried = True
        seen = each.seen
        for name in each.watched:
            reading = readings.get(name)
            if reading is None:
                continue
            before, measured = seen.get(name), name in each.measures
            if not measured and reading.quality not in _USABLE:
                continue  # Invariant: unknown is not false: what it showed last stands until it shows something else
            seen[name] = reading
            if before is None or before.quality is not reading.quality:
                news = True
            elif not measured:
                news = news or before.value != reading.value
        if each.parts and not news:
            news = any(self._each[p].verdict is not v for p, v in zip(each.parts, each.of_parts, strict=True))
        if news:
            self._judge(each)
        return readings if not each.doubted else _doubted(readings, each.doubted)

    def _judge(self, each: _Device, *, aged: bool = False, status: DeviceStatus | None = None) -> None:
        each.status, serial = status or each.instrument.status, each.instrument.serial
        each.of_parts = tuple(self._each[part].verdict for part in each.parts)
        if aged:  # and not with each read: it changes slowly
            each.written = self._written(each)
        verdict = judge(self._known(each, aged=aged))
        told = verdict != each.verdict or serial != each.serial or each.since is None
        if each.since is None or verdict.status is not each.verdict.status:
            each.since, each.from_ = self._clock.now(), self._clock.monotonic()
        each.serial = serial
        if verdict != each.verdict:  # who holds the same one has nothing to judge anew
            each.verdict = verdict
        each.doubted = verdict.doubts(each.doubtable) | self._inherited(each)
        if told:
            self._log.info("device_status", device=each.name, status=verdict.status.value, reasons=verdict.texts)
            for callback in self.changed:
                callback(each.name)

    def _known(self, each: _Device, *, aged: bool) -> Known:
        seen = each.seen
        qualities: dict[str, Quality | None] = {}
        for point in sorted(each.measures):
            reading = seen.get(point)
            qualities[point] = None if reading is None else reading.quality
            if aged and reading is not None:
                kept = self._suite.image.get(f"{each.name}.{point}")
                if kept is not None and kept.quality is Quality.STALE and reading.quality in _USABLE:
                    qualities[point] = Quality.STALE
        dog = each.instrument.profile.watchdog
        return Known(
            status=each.status,
            today=self._clock.now().date(),
            tried=each.tried,
            qualities=qualities,
            signs={sign: _stands(sign, seen.get(name)) for name, signs in each.signs.items() for sign in signs},
            calibrations=each.calibrations,
            written=each.written,
            tripped=dog is not None and _true(seen.get(dog.tripped)),
            disagree=_true(seen.get(_DISAGREE)),
            alarmed=_alarmed(each.instrument.profile),
            parts=dict(zip(each.parts, each.of_parts, strict=True)),
        )

    def _written(self, each: _Device) -> tuple[Written, ...]:
        return tuple(
            Written(name, *self._suite.wear.counts(each.name, name), command.storage.per_day, command.storage.life)
            for name, command in each.instrument.profile.commands.items()
            if command.storage is not None
        )

    def _inherited(self, each: _Device) -> frozenset[str]:
        """Return the points of equipment that are read from what is doubtful of its parts."""
        return frozenset(
            tag
            for tag, (part, point) in each.origins.items()
            if (doubted := self._each[part].doubted) and (not point or point in doubted)
        )


def _used(site: Site) -> dict[str, set[str]]:
    """Return the points of instruments that the site itself names: scales of places, sources of equipment."""
    found: dict[str, set[str]] = {}
    for unit in site.units.values():
        for place in unit.places.values():
            if place.scale_device:
                found.setdefault(place.scale_device, set()).add(place.scale_point)
    for spec in site.equipment.values():
        for source in sources_of(spec).values():
            found.setdefault(source.part, set()).add(source.point)
    return found


def _instrument(site: Site, name: str, instrument: Instrument, used: set[str]) -> _Device:
    profile, corrections = instrument.profile, site.devices[name].corrections
    role = ROLES.get(profile.role) or PARTS.get(profile.role)
    # A scale has more load cells than hang under the places of a site: of those without a place nobody wants a value.
    wanted = used if profile.role == "scale" or role is None else {*used, *role.points, *role.some} - {*role.vacant}
    measured = {point for point in profile.points if _measured(profile, point)}
    alive = {point.name for point in profile.points.values() if point.alive and _scanned(profile, point.name)}
    signs: dict[str, tuple[Sign, ...]] = {}
    for sign in profile.ne107:
        signs[sign.name] = (*signs.get(sign.name, ()), sign)
    dog = profile.watchdog
    held: dict[str, tuple[Calibration, frozenset[str] | None]] = {}
    for calibration in dict.fromkeys(corrections.values()):
        points = frozenset(point for point, by in corrections.items() if by == calibration)
        held[calibration] = (newest_of(site.calibrations[calibration]), points)
    return _Device(
        name=name,
        instrument=instrument,
        measures=frozenset(measured & {*wanted, *corrections}) | alive,
        doubtable=frozenset(measured),
        signs=signs,
        flags=(dog.tripped,) if dog is not None and _scanned(profile, dog.tripped) else (),
        calibrations=held,
        parts=(),
        origins={},
    )


def _equipment(site: Site, name: str, instrument: Instrument) -> _Device:
    """Return equipment: it measures by its parts, which are judged themselves."""
    spec, points = site.equipment[name], instrument.profile.points
    measured = frozenset(point for point, of in points.items() if of.unit not in _NOT_MEASURED)
    origins = {tag: (source.part, source.point) for tag, source in origins_of(spec).items()}
    held: dict[str, tuple[Calibration, frozenset[str] | None]] = {}
    if isinstance(spec, ClimateSpec) and spec.second is not None:
        origins["second_temperature"] = (spec.second[0].part, spec.second[0].point)
    if isinstance(spec, PumpSpec):
        origins |= dict.fromkeys(measured, (spec.drive, ""))
        if spec.tubing:
            held[spec.tubing] = (newest_of(site.calibrations[spec.tubing]), None)
    return _Device(
        name=name,
        instrument=instrument,
        measures=frozenset(),
        doubtable=measured,
        signs={},
        flags=(_DISAGREE,) if _DISAGREE in points else (),
        calibrations=held,
        parts=tuple(parts_of(spec)),
        origins=origins,
    )


def _measured(profile: Profile, point: str) -> bool:
    """Tell whether a point is a signal of a sensor: no flag, no count, and not what the instrument was told."""
    return profile.points[point].unit not in _NOT_MEASURED and _scanned(profile, point) and not is_set(profile, point)


def _scanned(profile: Profile, name: str) -> bool:
    """Tell whether a bit or a point is read without being asked for by name."""
    point = profile.bits[name].point if name in profile.bits else name
    return profile.blocks[profile.points[point].block].scan != "demand"


@cache
def _named(when: str) -> frozenset[str]:
    return frozenset(compile(when).names)


def _alarmed(profile: Profile) -> frozenset[str]:
    """Return the points and bits on which the profile has alarms of its own."""
    return frozenset(name for alarm in profile.alarms.values() for name in _named(alarm.when))


def _stands(sign: Sign, reading: Reading | None) -> bool | None:
    return None if reading is None else sign.stands(reading.value)


def _true(reading: Reading | None) -> bool:
    return reading is not None and reading.value is True


def _doubted(readings: Mapping[str, Reading], points: frozenset[str]) -> Mapping[str, Reading]:
    good = [point for point in points & readings.keys() if readings[point].quality is Quality.GOOD]
    if not good:
        return readings
    found = dict(readings)
    for point in good:
        reading = readings[point]
        found[point] = made(reading.value, reading.unit, Quality.UNCERTAIN, reading.at)
    return found
