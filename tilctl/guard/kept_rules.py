"""What the records say of interlocks and permissives: which are tripped, which are bypassed.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import merge
from types import MappingProxyType

from tilctl.journal import interlock_events as ev
from tilctl.journal.chain import Record
from tilctl.journal.lifecycle import BatchCreated


@dataclass(frozen=True, slots=True)
class Bypass:
    """Two persons' word that a rule is set aside until a moment; `renewed`: it was prolonged already."""

    by: str
    role: str
    second: str
    second_role: str
    reason: str
    until: datetime
    renewed: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """What stands of one rule: since when and why it is tripped (else None), and its bypass."""

    since: datetime | None = None
    text: str = ""
    bypass: Bypass | None = None


def kept_of(unit: str, site: Iterable[Record], batch: Iterable[Record] = ()) -> dict[str, Kept]:
    """Return what stands of each rule of a unit (or of `site`), from the site's record and its batches' together.

    A batch does not repeat what stood before it, so both are read.

    Invariant: each record in its own order, for the time of a site without a batch may be set back.  What the site's
    said when the batch began comes first, by the head that the batch has kept; from there on time orders the two.
    """
    known, mine = list(site), list(batch)
    heads = {record.event.site_head for record in mine if isinstance(record.event, BatchCreated)}
    begun = next((index + 1 for index, record in enumerate(known) if record.hash in heads), 0)
    found: dict[str, Kept] = {}
    for record in (*known[:begun], *merge(known[begun:], mine, key=_time)):
        event = record.event
        if isinstance(event, ev.InterlockEvent) and event.unit in ("", unit):
            found[event.interlock] = after(found.get(event.interlock, Kept()), event, _time(record))
    return {name: kept for name, kept in found.items() if kept != Kept()}


def after(kept: Kept, event: ev.InterlockEvent, t: datetime) -> Kept:
    """Return what stands of a rule after an event."""
    match event:
        case ev.InterlockTripped():
            return replace(kept, since=kept.since or t, text=event.text)
        case ev.InterlockReset():
            return replace(kept, since=None, text="")
        case ev.InterlockBypassed():
            until = datetime.fromisoformat(event.until).astimezone(UTC)
            bypass = Bypass(
                event.by, event.role, event.second, event.second_role, event.reason, until, event.renewed
            )  # fmt: skip
            return replace(kept, bypass=bypass)
        case ev.BypassEnded():
            return replace(kept, bypass=None)


def _time(record: Record) -> datetime:
    return datetime.fromisoformat(record.t).astimezone(UTC)


def events_of(
    unit: str, kept: Mapping[str, Kept], why: str, before: Mapping[str, Kept] = MappingProxyType({})
) -> list[ev.InterlockEvent]:
    """Return what has to be put on another record, which says `before`, so that it says the same."""
    told: list[ev.InterlockEvent] = []
    for name, old in before.items():
        now = kept.get(name, Kept())
        if old.since is not None and now.since is None:
            told.append(ev.InterlockReset(name, "", f"it was reset before ({why})", unit))
        if old.bypass is not None and now.bypass is None:
            told.append(ev.BypassEnded(name, "", f"it was ended before ({why})", unit))
    for name, each in kept.items():
        if each.since is not None:
            told.append(ev.InterlockTripped(name, f"{each.text} ({why})", {}, unit))
        if (bypass := each.bypass) is not None:
            until = bypass.until.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            told.append(
                ev.InterlockBypassed(
                    name, bypass.by, bypass.role, bypass.second, bypass.second_role, bypass.reason, until,
                    bypass.renewed, unit,
                )
            )  # fmt: skip
    return told
