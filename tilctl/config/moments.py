"""Local time of a zone, and the moments that it means.

Moments are in UTC, so that a duration of 24 h is 24 h on a day of 23 or 25 hours too; only what people read is local.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from difflib import get_close_matches
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

FIRST_YEAR, LAST_YEAR = 2000, 2199  # of a plan: beyond them a year is a slip of the finger
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class BadTime(ValueError):
    """A zone, moment or time of day that cannot be used; its text says what was expected."""


def zone_of(name: str) -> tzinfo:
    """Return the time zone of an IANA name; raises BadTime."""
    if name in ("UTC", "Etc/UTC"):  # known even where the machine has no zone table
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: `Europe` is a folder
        known = get_close_matches(name[:80], sorted(available_timezones()), 3, 0.5)
        hint = f"; did you mean {' or '.join(known)}?" if known else ""
        raise BadTime(
            f"no time zone is called {name[:80]!r}: give an IANA name, such as Europe/Berlin{hint}"
        ) from error


def moments(local: datetime, zone: tzinfo) -> tuple[datetime, ...]:
    """Return when the clocks of a zone show a local time: never in a gap, twice in a fold, else once."""
    found = {local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return tuple(sorted(each for each in found if each.astimezone(zone).replace(tzinfo=None, fold=0) == local))


@lru_cache(maxsize=8192)
def first_moment(local: datetime, zone: tzinfo) -> datetime:
    """Return the first moment at which the clocks show a local time; in a gap that at which they are put forward."""
    found = moments(local, zone)
    return found[0] if found else _jump(local, zone)


@lru_cache(maxsize=8192)
def last_moment(local: datetime, zone: tzinfo) -> datetime:
    """Return the last moment at which the clocks show a local time; in a gap that at which they are put forward."""
    found = moments(local, zone)
    return found[-1] if found else _jump(local, zone)


def _jump(local: datetime, zone: tzinfo) -> datetime:
    """Return when the clocks are put forward over a local time, to the second."""
    before, after = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (1, 0))
    late = after.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        before, after = (before, middle) if middle.astimezone(zone).utcoffset() == late else (middle, after)
    return after


def parse_moment(text: str, zone: tzinfo) -> datetime:
    """Return the moment of a text, local in the zone unless it says how far it is from UTC; raises BadTime.

    A local time that clocks pass over, or show twice, is refused with what may be meant.
    """
    expected = "expected local time of the zone, such as 2026-03-02T08:00, or with +01:00 or Z behind it"
    try:
        given = datetime.fromisoformat(text if _MOMENT.fullmatch(text) else "")
    except ValueError as error:
        raise BadTime(f"{text[:80]!r} is no moment: {expected}") from error
    _check_year(given.date(), text)
    if given.tzinfo is not None:
        return given.astimezone(UTC)
    match moments(given, zone):
        case (moment,):
            return moment
        case ():
            jump = shown(first_moment(given, zone).astimezone(zone))
            raise BadTime(f"{text!r} is no time of {zone}: clocks are put forward over it, to {jump}: {expected}")
        case either:
            which = " or ".join(each.astimezone(zone).isoformat(timespec="minutes") for each in either)
            raise BadTime(f"{text!r} is twice on that day in {zone}, as clocks are put back: say which, {which}")


def parse_date(text: str) -> date:
    """Return a day of the calendar; raises BadTime."""
    try:
        given = date.fromisoformat(text if _DATE.fullmatch(text) else "")
    except ValueError as error:
        raise BadTime(f"{text[:80]!r} is no date: expected year, month and day, such as 2026-04-03") from error
    _check_year(given, text)
    return given


def shown(local: datetime) -> str:
    """Return a local time for people, with weekday and distance from UTC: `Mon 2026-03-02 08:00 +01:00`."""
    return f"{WEEKDAYS[local.weekday()].title()} {local.isoformat(' ', 'minutes')[:16]} {local.isoformat()[-6:]}"


def _check_year(day: date, text: str) -> None:
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise BadTime(f"{text!r} is out of range: expected a year from {FIRST_YEAR} to {LAST_YEAR}")
