"""Freezing profiles: the rows that a controlled-rate freezer runs by itself, and how its run is judged afterwards.

A row is one segment of the device's programme; `listen` is the probe that it goes by.  A ramp moves that probe at
`rate` towards `target`: the chamber by its set point, the sample by steering the chamber.  A hold that listens to the
chamber sets it to `target`; one that listens to the sample leaves the set point where it is.  A row ends when the
listened probe has reached `target`, or by time, or at the exotherm that the device detects; `timeout` ends it anyhow.

Nothing here is clinical advice: the library's profiles are illustrative engineering defaults.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from devices.quantity import parse_as
from recipes.fields import SOME, Amount, Frozen, Id, Span, Text

MAX_ROWS = 11
"""Rows of a profile; the device's table of 12 keeps one for the end."""

ProfileId = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9][A-Za-z0-9-]*$", max_length=40)]


class Row(Frozen):
    """One segment: a hold or a ramp, the probe it listens to, and what ends it."""

    id: Id
    kind: Literal["hold", "ramp"]
    listen: Literal["chamber", "sample"]
    rate: Amount = "0 K/min"
    target: Amount
    end: Literal["target", "time", "exotherm_or_time"]
    timeout: Amount
    source: Text

    def encoded(self) -> dict[str, float]:
        """Return the row as the device's table has it: rate in K/min, target in degC, timeout in s.

        Raises QuantityError for a value of another dimension.
        """
        return {
            "kind": {"hold": 1.0, "ramp": 2.0}[self.kind],
            "listen": {"chamber": 0.0, "sample": 1.0}[self.listen],
            "rate": parse_as(self.rate, "K/min"),
            "target": parse_as(self.target, "degC"),
            "end": {"target": 0.0, "time": 1.0, "exotherm_or_time": 2.0}[self.end],
            "timeout": parse_as(self.timeout, "s"),
        }


class Start(Frozen):
    """The sample lies in `band` for at least `hold` before the first ramp."""

    band: Span
    hold: Amount
    source: Text


class Rate(Frozen):
    """While the sample is in `between`, its one-minute slope is within `rate` for at least `share` of the readings."""

    between: Span
    rate: Span
    share: Amount
    source: Text


class Nucleation(Frozen):
    """An exotherm (`rise` within 60 s) or a plateau (2 min) begins while the sample lies in `between`."""

    between: Span
    rise: Amount
    lost_at: Amount
    source: Text


class Plateau(Frozen):
    """From nucleation until the sample is down at `until` it takes at most `longest`."""

    until: Amount
    longest: Amount
    source: Text


class MeanRate(Frozen):
    """The mean rate of the sample over `between` lies within `rate`."""

    between: Span
    rate: Span
    source: Text


class Final(Frozen):
    """At the end sample and chamber are at most at these temperatures."""

    sample: Amount | None = None
    chamber: Amount
    source: Text


class Tracking(Frozen):
    """The chamber stays this close to its set point, outside the plateau and the rows in `not_in`."""

    within: Amount
    source: Text


class Acceptance(Frozen):
    """The criteria by which a run is judged; a criterion that is left out is not judged."""

    start: Start | None = None
    before_nucleation: Rate | None = None
    nucleation: Nucleation | None = None
    plateau: Plateau | None = None
    after_nucleation: MeanRate | None = None
    final: Final
    tracking: Tracking | None = None


class FreezeProfile(Frozen):
    """A freezing profile with its provenance.  `lasts` is about how long a run takes; `needs_ln2` blocks the start."""

    id: ProfileId = Field(alias="profile")
    version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
    title: Text
    status: Literal["draft", "illustrative", "approved"]
    description: Text | None = None
    sources: dict[str, Text]
    lasts: Amount
    rows: Annotated[tuple[Row, ...], SOME, Field(max_length=MAX_ROWS)]
    acceptance: Acceptance


def program(profile: FreezeProfile) -> list[dict[str, float]]:
    """Return the device's table: every row, closed by an end row, so that nothing of an older programme follows."""
    end = {"kind": 0.0, "listen": 0.0, "rate": 0.0, "target": 0.0, "end": 0.0, "timeout": 0.0}
    return [*(row.encoded() for row in profile.rows), end]


def duration(profile: FreezeProfile) -> float:
    """Return about how long a run takes, in s."""
    return parse_as(profile.lasts, "s")


def longest(profile: FreezeProfile) -> float:
    """Return the longest a run can take, in s: the sum of the rows' time limits."""
    return sum(parse_as(row.timeout, "s") for row in profile.rows)
