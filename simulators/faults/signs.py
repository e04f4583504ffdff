"""What an instrument's own profile says of its broken sensor, of the settings that it must have, and of its watchdog.

Nothing here knows a register: what a profile does not say, an instrument does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from devices.codec import FLOATS, RegType
from devices.profile_types import Point, Profile, Setting
from devices.reading import Quality
from simulators.device import Bend, SimDevice, Value
from simulators.physics.noise import uniform

Raws = Sequence[int]


@dataclass(frozen=True, slots=True)
class Sign:
    """A point that reads what `bend` makes of it when something is so."""

    point: str
    bend: Bend


def broken(profile: Profile, point: Point, moment: Callable[[], int], key: int) -> list[Sign]:
    """Return how the instrument shows that the sensor of a point is broken; nothing where its profile has no way.

    It sets the status that makes the point bad, that of the sensor where there are several, and the value means nothing
    (any number of its range, another one at each `moment`, drawn from `key`); else it reads as no value.
    """
    said = [sign for sign in _bad(profile, point) if not sign.name.endswith("unit")]
    found = sorted(said, key=lambda sign: "sensor" not in sign.name)
    if found:
        return [Sign(found[0].point, found[0].bend), Sign(point.name, _garbage(point, moment, key))]
    if point.nan or point.type in FLOATS:
        return [Sign(point.name, lambda _: None)]
    return []


def switched(profile: Profile, which: str) -> Setting | Sign | None:
    """Return the `unit` or `mode` that the profile asserts, as it is after a hand has switched it to another one.

    The unit is the asserted register whose reason speaks of one, else the point of a unit that makes values bad; the
    mode is another asserted register.
    """
    for setting in profile.asserts:
        if not setting.among or ("unit" in setting.why.replace("units", "unit").split()) != (which == "unit"):
            continue
        point = next((p for p in profile.points.values() if _stands_at(profile, p, setting)), None)
        if point is None:
            return setting
        bend = _reading_other(point, [int(raw) for raw in setting.among])
        if bend is not None:
            return Sign(point.name, bend)
    if which == "unit":
        for point in profile.points.values():
            for sign in _bad(profile, point):
                if sign.name.endswith("unit"):
                    return Sign(sign.point, sign.bend)
    return None


def another(setting: Setting) -> float:
    """Return a value that an asserted register must not have."""
    return float(next(raw for raw in range(len(setting.among) + 1) if raw not in setting.among))


def trips(device: SimDevice) -> Callable[[], None] | None:
    """Return what the instrument's own watchdog does; None where it has none.

    An instrument that stops when it is not asked any more does then what it does without power.
    """
    return device.life.trip or (device.life.off if device.profile.on_comm_loss == "stops" else None)


def wears(profile: Profile) -> bool:
    """Tell whether a command of the instrument is written to memory that wears."""
    return any(command.storage is not None for command in profile.commands.values())


@dataclass(frozen=True, slots=True)
class _Found(Sign):
    name: str = ""  # of the point or bit


def _bad(profile: Profile, point: Point) -> Iterator[_Found]:
    """Yield each status that makes a point bad: in its own block, and in others."""
    for rule in point.bad_when:
        other = profile.points[rule.point]
        if rule.mask:
            yield _Found(other.name, _with_bit(other.bits, rule.mask), other.bits[rule.mask.bit_length() - 1])
        elif rule.inside:
            yield _Found(other.name, _always(_shown(other, min(rule.values))), other.name)
        elif (bend := _reading_other(other, sorted(rule.values))) is not None:
            yield _Found(other.name, bend, other.name)
    for rule in profile.elsewhere:
        if rule.point != point.name or rule.quality is not Quality.BAD:
            continue
        if (bit := profile.bits.get(rule.other)) is not None:
            yield _Found(bit.point, _with_bit(profile.points[bit.point].bits, 1 << bit.index), bit.name)
            continue
        other = profile.points[rule.other]
        if rule.inside:
            yield _Found(other.name, _always(min(rule.values, key=str)), other.name)
        else:
            told = [raw for raw in _candidates(other, len(rule.values) + 1) if _shown(other, raw) not in rule.values]
            if told:
                yield _Found(other.name, _always(_shown(other, told[0])), other.name)


def _stands_at(profile: Profile, point: Point, setting: Setting) -> bool:
    return (profile.blocks[point.block].fc, point.addr) == (setting.fc, setting.addr)


def _candidates(point: Point, count: int) -> Raws:
    if point.symbols:
        return list(point.symbols)
    return (0, 1) if point.type is RegType.BOOL else range(count)


def _reading_other(point: Point, raws: Raws) -> Bend | None:
    """Return a bend to a value that is none of `raws`; None where the point can read no other."""
    others = [raw for raw in _candidates(point, len(raws) + 1) if raw not in raws]
    return _always(_shown(point, others[0])) if others else None


def _shown(point: Point, raw: int) -> float | bool | str:
    if point.symbols:
        return point.symbols[raw]
    return raw != 0 if point.type is RegType.BOOL else raw * point.scale + point.offset


def _always(value: Value) -> Bend:
    return lambda _: value


def _with_bit(bits: Mapping[int, str], mask: int) -> Bend:
    name = bits[mask.bit_length() - 1]

    def bend(value: Value) -> Value:
        if isinstance(value, int):
            return int(value) | mask
        return value if value is None or isinstance(value, float | str) else [*value, name]

    return bend


def _garbage(point: Point, moment: Callable[[], int], key: int) -> Bend:
    """Return a bend of a number to any other: in the range of the point, else between 0 and what it was."""

    def bend(value: Value) -> Value:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        low, high = point.range or (0.0, float(value))
        return uniform(key, moment(), low, high)

    return bend
