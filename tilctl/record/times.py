"""Where the time of each step went: running, paused, held, in an outage.  Told from the record alone.

Biological time is the total: cells do not stop.  Active time is what ran.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tilctl.journal import events as ev
from tilctl.journal.chain import Record

Span = tuple[datetime, datetime, str]
_KINDS = {"running": "running", "pausing": "running", "paused": "paused"}  # every other state is a hold


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Seconds of one step (or operation) from its first start to its end, or to that of the batch or the record."""

    running: float = 0.0
    paused: float = 0.0
    held: float = 0.0
    outage: float = 0.0
    ended: bool = False  # a record that goes on knows more of it later

    @property
    def total(self) -> float:
        """Seconds altogether: biological time."""
        return self.running + self.paused + self.held + self.outage


def step_times(records: Sequence[Record]) -> dict[str, StepTimes]:
    """Return the times of every step that was walked, by path, in order of their starts."""
    if not records:
        return {}
    last = _moment(records[-1].t)
    began: dict[str, datetime] = {}
    ended: dict[str, datetime] = {}
    over: datetime | None = None
    for record in records:
        match record.event:
            case ev.StepStarted(path=path):
                began.setdefault(path, _moment(record.t))
            case ev.StepCompleted(path=path):
                ended.setdefault(path, _moment(record.t))
            case ev.BatchEnded():  # no step goes on after that, also one that was never completed
                over = over or _moment(record.t)
            case _:
                pass
    spans = _spans(records, last)
    return {path: _times(spans, start, ended.get(path, over), last) for path, start in began.items()}


def _spans(records: Iterable[Record], last: datetime) -> list[Span]:
    """Return what the batch was in, without gaps: an outage is cut out of the state that it fell into."""
    spans: list[Span] = []
    state: str | None = None
    since = last
    for record in records:
        t = _moment(record.t)
        match record.event:
            case ev.StateChanged(path="") as event:
                if state is not None:
                    spans.append((since, t, state))
                state, since = _KINDS.get(event.to_state, "held"), t
            case ev.Outage() as event:
                begin, end = max(since, _moment(event.from_t)), _moment(event.to_t)
                if state is not None and end > begin:
                    spans += [(since, begin, state), (begin, end, "outage")]
                    since = end
            case _:
                pass
    if state is not None:
        spans.append((since, last, state))
    return spans


def _times(spans: Iterable[Span], start: datetime, ended: datetime | None, last: datetime) -> StepTimes:
    end = ended or last
    found = {"running": 0.0, "paused": 0.0, "held": 0.0, "outage": 0.0}
    for begin, until, kind in spans:
        seconds = (min(until, end) - max(begin, start)).total_seconds()
        if seconds > 0:
            found[kind] += seconds
    return StepTimes(**{kind: round(seconds, 3) for kind, seconds in found.items()}, ended=ended is not None)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
