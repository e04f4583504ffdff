"""Whether a person may have the instruments now: no controller runs, no batch has them, or manual mode is granted.

Manual mode is for an instrument whose batch is on its record while the controller does not run.  Beside a running
controller there is none: two masters would command one instrument, and its record has one writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
from collections.abc import Collection, Generator
from dataclasses import dataclass
from pathlib import Path

from devices.clock import SystemClock
from devices.equipment.spec import parts_of
from tilctl import __version__
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.plain import one_line
from tilctl.config import Site, UnitSite
from tilctl.engine.steady import SteadyClock
from tilctl.journal.events import BatchClosed, BatchCreated, Noted, SiteOpened
from tilctl.journal.site import SiteJournal
from tilctl.journal.store import JournalError
from tilctl.journal.verify import read

LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asked for: `what` in words; `manual` with its `reason` where manual mode is wanted."""

    what: str
    manual: bool = False
    reason: str = ""


@contextlib.contextmanager
def granted(site: Site, devices: Collection[str], wish: Wish) -> Generator[None]:
    """Have the instruments for as long as the block lasts: no controller can start meanwhile.

    Raises CommandFailed while a controller runs, and for instruments of a batch unless manual mode is granted; that is
    on the site's record, as an exception, before the block begins.
    """
    from tilctl.cli.run import Taken, only_one  # noqa: PLC0415 - the service and all that hangs on it

    if wish.manual and not wish.reason:
        raise CommandFailed(Exit.BAD_INPUT, "--manual-mode needs --reason: it goes on the site's record")
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(only_one(site, f"tilctl device, {wish.what}, by {person()}"))
        except Taken as taken:
            if not taken.by_controller:
                raise
            hint = "It reads the instruments: tilctl batch status, MQTT, /metrics; end it to have them yourself"
            raise CommandFailed(taken.code, f"{taken}. {hint}") from taken
        taken = in_use(site, devices)
        if taken and not wish.manual:
            which = "; ".join(f"{device}: {why}" for device, why in taken.items())
            hint = "end and reset the batch, or have it in spite of it: --manual-mode --reason TEXT"
            raise CommandFailed(Exit.NOT_WELL, one_line(f"in use by a batch: {which} ({hint})"))
        if wish.manual:
            whose = "; ".join(f"{device} {why}" for device, why in taken.items()) or "no batch has them"
            note(site, f"manual mode, {wish.what}, by {person()}: {wish.reason} [{whose}]", exception=True)
        yield


def in_use(site: Site, devices: Collection[str]) -> dict[str, str]:
    """Return which of the instruments a batch has, with what is known of that batch.

    Invariant: unknown is not free: a record that cannot be read may be of a batch that has any of them.
    """
    taken: dict[str, str] = {}
    for path in sorted((site.data / "batches").glob("*.db")):
        has, why = _owned(site, path)
        taken.update({device: why for device in devices if has is None or device in has})
    return taken


def _owned(site: Site, path: Path) -> tuple[Collection[str] | None, str]:
    """Return the instruments of the batch of a record, None where any may be; and what to say of it."""
    records, verdict = read(path)
    created = records[0].event if records else None
    if not isinstance(created, BatchCreated):
        return None, f"{path.name} cannot be read ({verdict.reason or 'it is no batch'}): nobody knows what it has"
    if verdict.ok and any(isinstance(record.event, BatchClosed) for record in records):
        return (), ""
    unit = site.units.get(created.unit)
    if unit is None:
        return None, f"batch {created.batch} is of {created.unit}, which this site file does not have"
    owned = used_by(unit) | set(created.bindings.values())
    parts = {part for name in owned if name in site.equipment for part in parts_of(site.equipment[name])}
    return owned | parts, f"batch {created.batch} on {created.unit}"


def used_by(unit: UnitSite) -> set[str]:
    """Return the instruments and the equipment that a unit owns."""
    used = {role.device for role in unit.roles.values()}
    used |= {place.scale_device for place in unit.places.values() if place.scale_device}
    return used | {device for line in unit.lines for device in (line.pump, line.valves)}


def note(site: Site, text: str, *, exception: bool = False) -> None:
    """Put a note on the site's record, on disk when this returns; only while the site is `granted`.

    Raises CommandFailed where that is not possible.
    """
    try:
        asyncio.run(_note(site, Noted("", text, exception)))
    except (JournalError, OSError) as error:
        raise CommandFailed(Exit.RECORD, f"it cannot be put on the site's record: {one_line(error)}") from error


def unnoted(site: Site, outcome: str, *, exception: bool = False) -> str:
    """Put on the record what came of something; return "", or why it is not there.

    Invariant: what was done is told to the person, also where the record does not take it.
    """
    try:
        note(site, outcome, exception=exception)
    except CommandFailed as failed:
        return f"{failed}. Keep this text: it is the only record of what was done"
    return ""


async def _note(site: Site, event: Noted) -> None:
    path = site.data / "site.db"
    clock = SystemClock()
    record_time = SteadyClock(clock)
    try:
        if path.exists():
            journal = await SiteJournal.open(path, record_time)
            record_time.bridge(journal.records(), journal.last_beat(), needed=True)  # no jump in the record's time
        else:
            first = SiteOpened(site.name, site.node, __version__)
            journal = await SiteJournal.create(path, record_time, first)
        try:
            opened = journal.records()[0].event
            if not isinstance(opened, SiteOpened) or (opened.site, opened.node) != (site.name, site.node):
                raise JournalError(f"{path} is not the record of site {site.name}, node {site.node}")
            await journal.record(event)
        finally:
            await journal.close()
    finally:
        clock.close()


def person() -> str:
    """Return who is logged in, as far as the system knows."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name
        return "somebody"


def reason_of(text: str | None) -> str:
    """Return a reason as it goes on the record; raises CommandFailed for one that says nothing or too much."""
    if text is None:
        return ""
    reason = one_line(text).strip()
    if not reason or len(reason) > LONGEST_REASON:
        raise CommandFailed(Exit.BAD_INPUT, f"--reason: expected 1 to {LONGEST_REASON} characters")
    return reason
