"""What a site file may say of equipment: points that measure what they are taken for, rules that protect.

The bounds are engineering defaults: wide enough for every use that we know, narrow enough that what is beyond them is a
slip of the pen or takes the protection away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from devices.corrected import is_set
from devices.equipment.base import Source
from devices.equipment.probes import Disagreement
from devices.equipment.spec import (
    MEASURED,
    ClimateSpec,
    ContactFreezerSpec,
    ProgrammerFreezerSpec,
    Spec,
    origins_of,
    sources_of,
)
from devices.profile import Profile
from devices.quantity import CANONICAL, show
from devices.role import BOOL
from tilctl.config.references import Findings, Where

WITHIN_K = (0.1, 5.0)
"""K by which two probes may differ: less is their noise; by more, cells that should be at 37 degC are dead."""

LASTS_S = (10.0, 3600.0)
"""s for which two probes may differ: less is one bad scan; longer is work with a wrong one of the two."""

_DIGEST = re.compile(r"[0-9a-f]{16}")


def check_sources(where: Where, spec: Spec, profiles: Mapping[str, Profile], findings: Findings) -> None:
    """Report points of parts that do not exist, or do not measure what they are taken for."""
    for key, source in sources_of(spec).items():
        here: Where = (*where, key, "probe") if key == "second" else (*where, key)
        profile = profiles.get(source.part)
        if profile is None:
            continue
        points = {**profile.points, **profile.bits}
        if findings.known(here, source.point, points, f"point of {source.part}"):
            wrong = _taken_for(key, source, profile)
            if wrong:
                findings.add(here, "site-wrong-point", f"{source} {wrong}", _hint(key))
    _check_probes_differ(where, spec, findings)


def _taken_for(key: str, source: Source, profile: Profile) -> str:
    """Return why a point cannot be what `key` stands for; "" where it can."""
    wanted = MEASURED[key]
    unit = profile.points[source.point].unit if source.point in profile.points else BOOL
    if unit != wanted.unit:
        found = f"in {unit}" if unit in CANONICAL and unit else f"a {unit or 'number without a unit'}"
        return f"is {found}, expected {wanted.unit}"
    if is_set(profile, source.point):
        return "is set and not measured"
    if wanted.roles and profile.role not in wanted.roles:
        return f"is what a {profile.role} ({profile.id}) reads of itself, expected one of {', '.join(wanted.roles)}"
    return "" if wanted.word in source.point else f"is no {wanted.word} by its name"


def _hint(key: str) -> str:
    wanted = MEASURED[key]
    whose = f" of a {' or '.join(wanted.roles)}" if wanted.roles else ""
    return f"name a point in {wanted.unit} with `{wanted.word}` in its name{whose}, that no command sets"


def _check_probes_differ(where: Where, spec: Spec, findings: Findings) -> None:
    """Invariant: a probe is not confirmed by itself, nor is one gas mixed with itself."""
    match spec:
        case ClimateSpec():
            if spec.second is not None and spec.second[0].part == spec.programmer:
                text = f"{spec.programmer} heats by its own probe: it would always agree with itself"
                findings.add((*where, "second", "probe"), "site-same-probe", text, "name a point of another device")
            if spec.mixer.co2 == spec.mixer.carrier:
                text = f"{spec.mixer.co2} gives the CO2 and what carries it: nothing would be mixed"
                findings.add((*where, "gas", "carrier"), "site-same-gas", text, "name a second flow controller")
        case ContactFreezerSpec() | ProgrammerFreezerSpec():
            found = origins_of(spec)
            chamber, sample = (found.get(tag) for tag in ("chamber_temperature", "sample_temperature"))
            if sample is not None and sample == chamber:
                text = f"{sample} is the probe of the chamber: the sample lags behind it by minutes"
                hint = "name a probe in the sample" + ("" if "chamber" not in sources_of(spec) else ", or no chamber")
                findings.add((*where, "sample"), "site-same-probe", text, hint)
        case _:
            pass


def disagreement(where: Where, within: str, lasts: str, findings: Findings) -> Disagreement:
    """Return when two probes disagree; a rule that never or always holds is reported."""
    found = [
        _bounded((*where, key), text, unit, bounds, findings)
        for key, text, unit, bounds in (("within", within, "K", WITHIN_K), ("lasts", lasts, "s", LASTS_S))
    ]
    return Disagreement(*found)


def _bounded(where: Where, text: str, unit: str, bounds: tuple[float, float], findings: Findings) -> float:
    known = len(findings.list)
    value = findings.number(where, text, unit)
    if len(findings.list) == known and not bounds[0] <= value <= bounds[1]:
        low, high = (show(bound, unit) for bound in bounds)
        hint = "less is noise and takes good values away; more lets a wrong probe regulate the cells"
        findings.add(where, "site-out-of-bounds", f"{text} is not between {low} and {high}", hint)
    return value


def check_contacts(where: Where, spec: ContactFreezerSpec, profiles: Mapping[str, Profile], findings: Findings) -> None:
    """Report programmes that nobody can ask for, and contacts that a dead controller would leave closed."""
    contacts = spec.contacts
    for digest in contacts.starts:
        if not _DIGEST.fullmatch(digest):
            text = f"{digest!r} is no digest of a programme, expected 16 of 0-9 and a-f"
            hint = "a run that is refused names the digest of its programme; copy it from there"
            findings.add((*where, "programmes", digest), "site-digest", text, hint)
    profile = profiles.get(contacts.part)
    # Invariant: a start is a pulse, also where the controller dies within it.
    if profile is not None and profile.role == "digital_io" and profile.on_comm_loss != "stops":
        text = (
            f"{contacts.part} ({profile.id}) does not open its outputs by itself when its host is gone: a controller "
        )
        text += "that dies while it starts a run would leave the start contact closed"
        hint = "use a module with a host watchdog that opens its outputs (on_comm_loss: stops)"
        findings.add((*where, "io"), "site-start-latches", text, hint)
