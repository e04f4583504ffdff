"""Seeded random schedules of faults: the same seed gives the same schedule, bit for bit.

How often what happens is data (`profiles.yaml` beside this file).  Each number is a function of seed, entry and index,
so that one more entry at the end of a profile changes none of the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from devices.document import Diagnostic, Document, DocumentError, Severity, parse, validate
from devices.quantity import QuantityError, parse_as
from devices.quantity import parse as quantity
from simulators.faults import vocabulary
from simulators.faults.model import WORKING, Fault, Seconds, Value
from simulators.faults.vocabulary import BUS, CHOICE, DEVICES, HARNESS, OF_POINT, POINT, Word
from simulators.physics.noise import stream, uniform

DAY = 86400.0
MOST = 2000  # faults in a schedule
INSTRUMENTS: Mapping[str, str] = {
    "incubator": "bioreactor",
    "pump_media": "pump",
    "pump_cells": "pump",
    "pump_waste": "pump",
    "valves_media": "valves",
    "valves_cells": "valves",
    "valves_waste": "valves",
    "scales": "scale",
    "freezer": "freezer",
}
"""Instruments of the demonstration suite, and their roles."""
BUSES = ("climate", "fluidics", "weighing", "freezing")
CHANNELS = 16
BY_SIZE = ("delay", "before", "rate", "factor", "left", "idle")  # drawn by their order of magnitude
WHOLE = ("code", "port", "both", "n", "bytes", "clients")


def _texts(value: Any) -> Any:
    return [value, value] if isinstance(value, str) else value


TEXTS = TypeAdapter(Annotated[list[str], BeforeValidator(_texts), Field(min_length=2, max_length=2)])


class EntryModel(BaseModel):
    """One kind of fault: where, how often, how long; what is not named here are ranges of its arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)

    where: Annotated[list[str], Field(min_length=1)]
    what: str
    per_day: Annotated[float, Field(gt=0.0, le=100.0)]
    lasts: Annotated[list[Seconds] | None, Field(alias="for", min_length=2, max_length=2)] = None
    cap: Annotated[int, Field(ge=1)] = 200


class ProfileModel(BaseModel):
    """One profile."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    aimed: Annotated[float, Field(ge=0.0, le=1.0)]
    after: Annotated[list[Seconds], Field(min_length=2, max_length=2)]
    entries: list[EntryModel]


class ProfilesModel(BaseModel):
    """The file of profiles."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profiles: dict[str, ProfileModel]


def profiles() -> tuple[str, ...]:
    """Return the names of the profiles, from none to cruel."""
    return tuple(_profiles())


def schedule(
    profile: str,
    seed: int,
    recipe_steps: Sequence[str],
    horizon_s: float,
    *,
    instruments: Mapping[str, str] = INSTRUMENTS,
    buses: Sequence[str] = BUSES,
) -> tuple[Fault, ...]:
    """Return the faults of a seed over `horizon_s` seconds, by their times; those that wait for a step come last.

    `recipe_steps` are the paths to aim at (those of transfers).  `instruments` maps names to roles.  At most 2,000.
    Raises ValueError for a profile that does not exist.
    """
    chosen = _profiles().get(profile)
    if chosen is None:
        raise ValueError(f"there is no profile of faults {profile!r}; there are {', '.join(_profiles())}")
    site, found = _Site(instruments, tuple(buses)), list[Fault]()
    for number, entry in enumerate(chosen.entries):
        key = stream(seed, f"faults {profile} {number} {entry.what}")
        found += _draw(entry, key, chosen, site, recipe_steps, horizon_s / DAY)
    found.sort(key=lambda fault: (fault.time_s is None, fault.time_s or 0.0, fault.step, fault.after_s))
    return tuple(found[:MOST])


@cache
def _profiles() -> Mapping[str, ProfileModel]:
    name = "profiles.yaml"
    return checked(parse((files("simulators.faults") / name).read_text("utf-8"), name)).profiles


def checked(document: Document) -> ProfilesModel:
    """Return a file of profiles; raises DocumentError for words, arguments and ranges that do not exist."""
    found = validate(document, ProfilesModel, "faults-invalid")
    findings: list[Diagnostic] = []
    for name, profile in found.profiles.items():
        for number, entry in enumerate(profile.entries):
            for problem in _problems(entry):
                path = ("profiles", name, "entries", number)
                findings.append(document.diagnostic(Severity.ERROR, "faults-invalid", path, problem))
    if findings:
        raise DocumentError(tuple(findings))
    return found


def _problems(entry: EntryModel) -> Iterator[str]:
    for kind in entry.where:
        word = vocabulary.find(kind, entry.what)
        if word is None:
            yield f"{entry.what} means nothing at {kind}"
            continue
        given = dict(entry.model_extra or {})
        if (entry.lasts is None) != (word.lasts == "moment") and not (word.lasts == "either" and entry.lasts is None):
            yield f"{entry.what} at {kind}: it is for {word.lasts}"
        for name in given.keys() ^ word.args.keys():
            if name in given or word.args[name].default is None:
                yield f"{entry.what} at {kind}: argument {name}"
        for name in given.keys() & word.args.keys():
            try:
                _range(word, name, given[name])
            except (QuantityError, ValueError) as error:
                yield f"{entry.what}: {name}: {error}"


def _range(word: Word, name: str, given: Any) -> tuple[Value, Value, str]:
    """Return the least and most of an argument and its unit; raises QuantityError or ValueError."""
    arg = word.args[name]
    low, high = TEXTS.validate_python(given)
    if arg.unit in (POINT, CHOICE):
        return low, high, ""
    if arg.unit == OF_POINT or "|" in arg.unit:
        ends = [quantity(low), quantity(high)]
        least, most, unit = ends[0].value, ends[1].value, ends[0].unit
    else:
        least, most, unit = parse_as(low, arg.unit), parse_as(high, arg.unit), arg.unit
    if not arg.low <= least <= most <= arg.high:
        raise ValueError(f"{low} to {high} is not inside {arg.low:g} to {arg.high:g} {arg.unit}")
    return least, most, unit


class _Site:
    """Where faults may strike."""

    def __init__(self, instruments: Mapping[str, str], buses: tuple[str, ...]) -> None:
        self.instruments = instruments
        self.buses = buses

    def places(self, kinds: Sequence[str]) -> list[str]:
        """Return every place of some kinds, in the order of the site."""
        found: list[str] = []
        for kind in kinds:
            if kind == BUS:
                found += [f"bus:{bus}" for bus in self.buses]
            elif kind in (DEVICES, *HARNESS):
                found.append(kind)
            else:
                found += [name for name, role in self.instruments.items() if role == kind]
        return found

    def kind(self, place: str) -> str:
        """Return the kind of a place."""
        return BUS if place.startswith("bus:") else self.instruments.get(place, place)


def _draw(
    entry: EntryModel, key: int, profile: ProfileModel, site: _Site, steps: Sequence[str], days: float
) -> Iterator[Fault]:
    """Yield the faults of one entry; each takes its own run of numbers from the stream `key`."""
    places = site.places(entry.where)
    if not places:
        return
    time_d = 0.0
    for index in range(entry.cap):
        first = 16 * index  # more numbers than one fault takes
        time_d += -math.log(1.0 - uniform(key, first)) / entry.per_day
        if time_d >= days:
            return
        place = places[int(uniform(key, first + 1, 0.0, len(places)))]
        kind = site.kind(place)
        word = vocabulary.find(kind, entry.what)
        if word is None:  # checked when the file was read
            continue
        aimed = bool(steps) and uniform(key, first + 2) < profile.aimed
        if aimed and kind in ("pump", "valves"):
            place = f"{WORKING}{kind}"
        args: dict[str, Value] = {}
        units: dict[str, str] = {}
        for number, name in enumerate(word.args):
            if name in (given := dict(entry.model_extra or {})):
                low, high, units[name] = _range(word, name, given[name])
                args[name] = _value(name, low, high, kind, uniform(key, first + 6 + number))
        yield Fault(
            where=place,
            what=entry.what,
            time_s=None if aimed else round(time_d * DAY, 1),
            step=steps[int(uniform(key, first + 3, 0.0, len(steps)))] if aimed else "",
            after_s=round(uniform(key, first + 4, *profile.after), 1) if aimed else 0.0,
            for_s=_lasts(entry, uniform(key, first + 5)),
            args=args,
            units=units,
            place=("schedule", 1, 1),
        )


def _lasts(entry: EntryModel, share: float) -> float | None:
    if entry.lasts is None:
        return None
    low, high = entry.lasts
    return round(_by_size(low, high, share), 1)


def _value(name: str, low: Value, high: Value, kind: str, share: float) -> Value:
    if isinstance(low, str) or isinstance(high, str):
        channel = kind == "scale" and low == "mass"
        return f"mass_{1 + int(share * CHANNELS)}" if channel else low
    if name in WHOLE:
        return float(int(low + share * (high - low + 1.0)))
    value = _by_size(low, high, share) if name in BY_SIZE else low + share * (high - low)
    return float(f"{value:.4g}")


def _by_size(low: float, high: float, share: float) -> float:
    """Return a number between two, each order of magnitude as likely as the other."""
    return low if low <= 0.0 or high <= low else low * (high / low) ** share
