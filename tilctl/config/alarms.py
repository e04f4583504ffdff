"""Alarms of a site file and of the profiles of its instruments: checked, with the points that they read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from devices.alarm import AlarmFields, out_of_bounds
from devices.profile import Profile
from devices.quantity import Dim, QuantityError, parse, parse_as
from recipes.expr import compile
from recipes.hysteresis import fits
from recipes.kinds import Type
from recipes.syntax import ExprError
from tilctl.config.references import Findings, Where
from tilctl.config.site import SiteAlarm
from tilctl.config.tags import TagNames

TAKEN = ("site", "device", "interlock", "overdue", "invariant")
"""What ids of other alarms begin with; those of an instrument's profile begin with its name."""


def alarms_of(
    where: Where, declared: Mapping[str, AlarmFields], names: TagNames, findings: Findings
) -> dict[str, SiteAlarm]:
    """Return alarms by their ids; what is wrong with one is reported at its place."""
    found: dict[str, SiteAlarm] = {}
    for name, entry in declared.items():
        here: Where = (*where, name)
        for key, text in entry.times:
            check_time((*here, key), key, text, findings)
        reads = condition(entry.when, (*here, "when"), names, findings)
        unless = condition(entry.unless, (*here, "unless"), names, findings) if entry.unless else {}
        for key, found_there in (("when", reads), ("unless", unless if entry.unless else None)):
            if found_there == {}:
                text = "the condition reads nothing: it is always the same"
                findings.add((*here, key), "site-condition", text, "compare what is measured")
        if reads is not None and entry.deadband is not None:
            _deadband(entry.when, entry.deadband, (*here, "deadband"), names, findings)
        # No id of a recipe has a hyphen: an alarm of the site never stands for a guard of the same name.
        found[name] = SiteAlarm(f"site-{name}", entry, reads or {}, unless or {})
    return found


def check_time(where: Where, key: str, text: str, findings: Findings) -> float:
    """Return an amount of time of an alarm or interlock in s; one that cannot be, or makes no sense, is reported."""
    try:
        seconds = parse_as(text, "s")
    except QuantityError as error:
        findings.add(where, "site-quantity", str(error))
        return 0.0
    if wrong := out_of_bounds(key, seconds):
        findings.add(where, "site-quantity", f"{text}: {wrong}")
    return seconds


def check_ids(unit: str, alarms: Iterable[str], others: Iterable[str], findings: Findings) -> None:
    """Report alarms of a unit that are called as one of the site: the batch that has the equipment has both."""
    for name in sorted({*alarms} & {*others}):
        text = f"the site has an alarm called {name!r} too: on the record of a batch they would be one"
        findings.add(("units", unit, "alarms", name), "site-alarm-duplicate", text, "give one of them another name")


def of_profile(device: str, profile: Profile) -> dict[str, SiteAlarm]:
    """Return the alarms that an instrument brings, which were checked; their ids begin with its name."""
    found: dict[str, SiteAlarm] = {}
    for name, entry in profile.alarms.items():
        reads = {each: f"{device}.{each}" for each in compile(entry.when).names}
        unless = {each: f"{device}.{each}" for each in compile(entry.unless).names} if entry.unless else {}
        found[f"{device}-{name}"] = SiteAlarm(f"{device}-{name}", entry, reads, unless)
    return found


class OwnPoints:
    """The names that the alarms of a profile may use: its own points and bits; a `TypeScope`."""

    def __init__(self, profile: Profile) -> None:
        self._names = TagNames({"own": profile}, {}, {})

    def type_of(self, name: str) -> Type | None:
        """Return the type of a point, None where there is no such point."""
        return self._names.type_of(f"own.{name}")


def wrong_with(profile: Profile) -> list[tuple[str, str, str]]:
    """Return what is wrong with the alarms of a profile: alarm, what, hint."""
    found: list[tuple[str, str, str]] = []
    own = OwnPoints(profile)
    for name, entry in profile.alarms.items():
        try:
            kinds = [compile(text).check(own) for text in (entry.when, entry.unless) if text is not None]
            wrong = [kind for kind in kinds if kind.kind != "bool"]
            found += [
                (name, f"a condition is wanted, this gives {kind}", "compare with < <= > >= ==") for kind in wrong
            ]
            for key, amount in entry.times:
                if wrong := out_of_bounds(key, parse_as(amount, "s")):
                    found.append((name, f"{amount}: {wrong}", ""))
            if entry.deadband and not fits(compile(entry.when), own, Dim.of(parse(entry.deadband).unit)):
                found.append((name, f"no comparison is of the unit of {entry.deadband}", "0.2 K for a temperature"))
            if entry.deadband and not parse(entry.deadband).value > 0:
                found.append((name, f"a deadband of {entry.deadband}", "a difference above 0, such as 0.2 K"))
        except ExprError as error:
            found.append((name, f"{error.message} (column {error.column})", error.hint))
        except QuantityError as error:
            found.append((name, error.message, error.hint))
    return found


def check_profile_alarms(profiles: Mapping[str, Profile], findings: Findings) -> None:
    """Report alarms of instruments' profiles that cannot be judged."""
    for device, profile in profiles.items():
        if device in TAKEN and profile.alarms:
            text = f"the alarms of {device!r} would be called as those of the program"
            findings.add(("devices", device), "site-name", text, f"another name than {', '.join(TAKEN)}")
        for alarm, what, hint in wrong_with(profile):
            text = f"alarm {alarm} of profile {profile.id}: {what}"
            findings.add(("devices", device, "profile"), "site-profile-alarm", text, hint)


def condition(text: str, where: Where, names: TagNames, findings: Findings) -> dict[str, str] | None:
    """Return where the names of a condition are read, None where it cannot be; that is reported."""
    try:
        expression = compile(text)
        reads = names.reads(expression.names)
        kind = expression.check(names)
    except ExprError as error:
        findings.add(
            where, f"site-{error.code}", f"{error.message} (column {error.column} of the condition)", error.hint
        )
        return None
    if kind.kind != "bool":
        findings.add(where, "site-condition", f"a condition is wanted, this gives {kind}", "compare with < <= > >= ==")
        return None
    return reads


def _deadband(when: str, deadband: str, where: Where, names: TagNames, findings: Findings) -> None:
    try:
        if not parse(deadband).value > 0:
            hint = "a difference above 0, such as 0.2 K for a temperature"
            findings.add(where, "site-deadband", f"a deadband of {deadband} keeps nothing from chattering", hint)
        if not fits(compile(when), names, Dim.of(parse(deadband).unit)):
            hint = "a difference in the unit of what is compared: 0.2 K for a temperature"
            findings.add(where, "site-deadband", f"no comparison of the condition is of the unit of {deadband}", hint)
    except QuantityError as error:
        findings.add(where, "site-quantity", str(error))
