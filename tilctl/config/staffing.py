"""Working time as a site file declares it, checked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import time
from functools import partial
from typing import TypeVar

from tilctl.config.moments import BadTime, parse_date, zone_of
from tilctl.config.references import Findings, Where
from tilctl.config.schema import WorkingEntry
from tilctl.config.working import Working, parse_hours, parse_weekdays

T = TypeVar("T")


def working_of(entry: WorkingEntry | None, zone: str, findings: Findings) -> Working | None:
    """Return when people are there, None where the site does not say; report what is none."""
    if entry is None:
        return None
    hours = _read(("working", "hours"), findings, partial(parse_hours, entry.hours))
    days = _read(("working", "days"), findings, partial(parse_weekdays, entry.days))
    free = [
        _read(("working", "holidays", n), findings, partial(parse_date, day)) for n, day in enumerate(entry.holidays)
    ]
    begin, end = hours or (time(), time(23, 59))
    try:
        return Working(
            zone_of(zone), begin, end, days or frozenset(), frozenset(day for day in free if day is not None)
        )
    except BadTime:
        return None  # reported where the zone stands


def _read(where: Where, findings: Findings, parse: Callable[[], T]) -> T | None:
    try:
        return parse()
    except BadTime as error:
        findings.add(where, "site-working", str(error), "hours: 08:00-17:00, days: mon-fri, holidays: [2026-12-25]")
        return None
