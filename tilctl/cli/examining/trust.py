"""How far the parts of a site may be trusted: evidence of profiles, calibrations."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from devices.calibration import newest_of
from devices.diagnosis import Ne107
from devices.profile import Profile
from tilctl.cli.examining.finding import Finding
from tilctl.cli.profiling.sheet import EVIDENCE
from tilctl.config import Site
from tilctl.guard.ne107 import of_calibration

LEVELS = tuple(EVIDENCE)  # lowest first
TRIED, KNOWN = "bench", "manual+driver"


def profiles(site: Site, *, gmp: bool) -> Iterator[Finding]:
    """Judge each profile that an instrument of the site has."""
    used: dict[str, tuple[Profile, list[str]]] = {}
    for name, profile in site.profiles.items():
        used.setdefault(profile.sha256, (profile, []))[1].append(name)
    for profile, names in used.values():
        yield _judged(profile, names, gmp=gmp)


def _judged(profile: Profile, names: list[str], *, gmp: bool) -> Finding:
    check = f"profile {profile.id}"
    level = LEVELS.index(profile.evidence) if profile.evidence in LEVELS else -1
    text = f"evidence {profile.evidence}: {EVIDENCE.get(profile.evidence, 'not known')} ({', '.join(names)})"
    todo = "tilctl device check, then work through its open checks on the bench (devices/PROFILES.md)"
    if profile.evidence == LEVELS[0]:
        todo = "good for rehearsals only: an instrument needs a profile of its own"
    if profile.open_checks:
        text += f"; open: {'; '.join(profile.open_checks)}"
    if level < LEVELS.index(TRIED) and gmp:
        return Finding("fail", check, text, todo)
    if level < LEVELS.index(KNOWN) or profile.open_checks:
        return Finding("warn", check, text, todo)
    return Finding("ok", check, text)


def given(site: Site) -> Iterator[Finding]:
    """Judge what each instrument wants from the site file: settings that its power loses, values it was set to."""
    for name, profile in site.profiles.items():
        check, todo = (
            f"device {name}",
            "give it in the site file (devices/PROFILES.md), or know that nobody looks at it",
        )
        missing = site.devices[name].given.missing(profile)
        for text in missing:
            yield Finding("warn", check, text, todo)
        if not missing and (profile.on_connect or profile.at_commissioning):
            yield Finding("ok", check, f"the site gives all that a {profile.id} wants from it")


def calibrations(site: Site, today: date) -> Iterator[Finding]:
    """Judge the newest calibration of each thing that has some, as the controller does."""
    for name, history in site.calibrations.items():
        check, newest = f"calibration {name}", newest_of(history)
        by = f"of {newest.made} by {newest.by}"
        said = of_calibration(name, newest, today)
        if said is None:
            yield Finding("ok", check, f"{by}, until {newest.expires}")
        else:
            status, text, todo = said
            grave = status is Ne107.OUT_OF_SPECIFICATION
            yield Finding("fail" if grave else "warn", check, f"{by}: {text.removeprefix(f'{check} ')}", todo)
