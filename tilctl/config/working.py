"""Working time of a laboratory: hours of the day, days of the week, holidays; what of a span lies outside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Literal

from tilctl.config.moments import WEEKDAYS, BadTime, first_moment, last_moment

HOURS, DAYS = "08:00-17:00", "mon-fri"
Why = Literal["hours", "weekday", "holiday"]
AHEAD = timedelta(days=60)
"""How far working time is looked for: no window of a culture is longer (engineering default)."""
_DAY = timedelta(days=1)
_HOURS = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)", re.ASCII)
_MIDNIGHT = time()
_LAST_MINUTE = time(23, 59)


@dataclass(frozen=True, slots=True)
class Outside:
    """What of a span lies outside working time: seconds, and why; a moment outside has a reason and no seconds."""

    seconds: float = 0.0
    why: frozenset[Why] = frozenset()

    def __add__(self, other: Outside) -> Outside:
        """Return both together."""
        return Outside(self.seconds + other.seconds, self.why | other.why)


@dataclass(frozen=True, slots=True)
class Working:
    """Working time: from `begin` to `end` by the clocks of `zone`, on `weekdays` (Monday is 0) that are no holidays.

    An end of 23:59 means to the end of the day.
    """

    zone: tzinfo
    begin: time
    end: time
    weekdays: frozenset[int]
    holidays: frozenset[date] = frozenset()

    def span(self, day: date) -> tuple[datetime, datetime] | None:
        """Return from when to when a day is worked, None where it is not."""
        if self._off(day) is not None:
            return None
        if self.end == _LAST_MINUTE:
            end = first_moment(datetime.combine(day + _DAY, _MIDNIGHT), self.zone)
        else:
            end = last_moment(datetime.combine(day, self.end), self.zone)
        return first_moment(datetime.combine(day, self.begin), self.zone), end

    def spans(self, begin: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Yield the working spans that touch a span of time."""
        for day, _, _ in self._days(begin, end):
            span = self.span(day)
            if span is not None and span[0] < end and span[1] > begin:
                yield span

    def opens(self, moment: datetime) -> datetime:
        """Return the first moment of working time that is not before `moment`; that itself where there is none soon."""
        for begin, end in self.spans(moment, moment + AHEAD):
            if end > moment:
                return max(begin, moment)
        return moment

    def outside(self, begin: datetime, end: datetime) -> Outside:
        """Return what lies outside between two moments."""
        return sum((self._outside(day, since, to) for day, since, to in self._days(begin, end)), Outside())

    def midnights(self, begin: datetime, end: datetime) -> Iterator[datetime]:
        """Yield the beginnings of local days in a span of time, the first day left out."""
        for number, (_, since, _) in enumerate(self._days(begin, end)):
            if number:
                yield since

    def _outside(self, day: date, begin: datetime, end: datetime) -> Outside:
        """Return what lies outside of a span within one day."""
        span = self.span(day)
        if span is None:
            return Outside((end - begin).total_seconds(), frozenset({self._off(day) or "hours"}))
        within = max(timedelta(), min(end, span[1]) - max(begin, span[0]))
        missing = (end - begin - within).total_seconds()
        moment_outside = begin == end and not span[0] <= begin <= span[1]
        return Outside(missing, frozenset({"hours"}) if missing > 0.0 or moment_outside else frozenset())

    def _off(self, day: date) -> Why | None:
        if day in self.holidays:
            return "holiday"
        return None if day.weekday() in self.weekdays else "weekday"

    def _days(self, begin: datetime, end: datetime) -> Iterator[tuple[date, datetime, datetime]]:
        """Yield each local day that a span touches, with the part of the span on it."""
        day = begin.astimezone(self.zone).date()
        while True:
            midnight = first_moment(datetime.combine(day + _DAY, _MIDNIGHT), self.zone)
            if end <= midnight:
                yield day, begin, end
                return
            if begin < midnight:  # else clocks pass over this day
                yield day, begin, midnight
            day, begin = day + _DAY, midnight


def parse_hours(text: str) -> tuple[time, time]:
    """Return begin and end of the working day; raises BadTime."""
    expected = f"expected begin and end on one day, such as {HOURS}"
    found = _HOURS.fullmatch(text)
    if found is None:
        raise BadTime(f"{text[:80]!r} are no working hours: {expected}")
    if "24" in (found[1], found[3]):
        raise BadTime(f"{text[:80]!r}: 24:00 is no time of day: write 23:59, which means to the end of the day")
    try:
        begin, end = time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))
    except ValueError as error:
        raise BadTime(f"{text[:80]!r}: {error}: {expected}") from error
    if begin >= end:
        raise BadTime(f"{text[:80]!r} end before they begin, or with it: {expected}")
    return begin, end


def parse_weekdays(text: str) -> frozenset[int]:
    """Return the working days of a text, such as `mon-fri` or `mon,wed,sat-sun`; raises BadTime."""
    found: set[int] = set()
    for part in text.lower().split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        if first not in WEEKDAYS or (dash and last not in WEEKDAYS):
            raise BadTime(
                f"{text[:80]!r} are no weekdays: expected days such as {DAYS} or mon,wed,fri ({' '.join(WEEKDAYS)})"
            )
        begin = WEEKDAYS.index(first)
        length = (WEEKDAYS.index(last) - begin) % 7 if dash else 0
        found |= {(begin + i) % 7 for i in range(length + 1)}
    return frozenset(found)


def day_names(weekdays: frozenset[int]) -> str:
    """Return working days as they are written: `mon,tue,sat`."""
    return ",".join(WEEKDAYS[day] for day in sorted(weekdays))
