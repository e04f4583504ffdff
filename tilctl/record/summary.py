"""What a batch came to, told from its record alone: doses, alarms, exceptions, prompts, laboratory results.

Pure: it reads records and nothing else, so it says the same of a running batch and of a file that someone brings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast

from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.record.words import changed, corrected

DAY_S = 86400.0
CELLS, VIABILITY = "tvc", "viability"  # the names under which recipes keep laboratory counts


@dataclass(frozen=True, slots=True)
class Dose:
    """One dispense: commanded, by the ledger's evidence delivered, by the pump's own counter counted (mL).

    None where it is not known yet, or where nothing could prove it; `outcome` is "" while it is open.
    """

    path: str
    device: str
    sequence: int
    source: str
    destination: str
    commanded_ml: float
    delivered_ml: float | None = None
    counted_ml: float | None = None
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class AlarmEntry:
    """An alarm that was raised; `cleared` is None while it is active."""

    alarm: str
    priority: str
    text: str
    path: str
    raised: str
    cleared: str | None = None


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that the review must look at; `code` says of which kind."""

    t: str
    code: str
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Count:
    """A laboratory count: viable cells, and viability in %; None where that was not determined."""

    t: str
    path: str
    cells: float | None
    viability: float | None


@dataclass(frozen=True, slots=True)
class FreezeRun:
    """A freezing run: rows (s, chamber, sample, set point in degC), and the findings of its acceptance."""

    path: str
    profile: str
    ended_as: str
    series: tuple[tuple[float, float | None, float | None, float | None], ...]
    findings: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class LotEntry:
    """How the lot of a release stands: `outcome` by whom and since when, and the results that are awaited."""

    path: str
    outcome: str
    t: str
    by: str
    text: str
    pending: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """The whole batch; `days` from its creation to the last event, `marks` in order, times RFC 3339."""

    batch: str = ""
    unit: str = ""
    recipe: str = ""
    recipe_version: str = ""
    state: str = "idle"
    reason: str = ""
    started: str = ""
    ended: str = ""
    days: float = 0.0
    prompts_asked: int = 0
    prompts_answered: int = 0
    viable_cells: float | None = None
    viability: float | None = None
    doses: tuple[Dose, ...] = ()
    alarms: tuple[AlarmEntry, ...] = ()
    exceptions: tuple[Remark, ...] = ()
    counts: tuple[Count, ...] = ()
    freezing: tuple[FreezeRun, ...] = ()
    marks: Mapping[str, str] = field(default_factory=dict[str, str])
    releases: tuple[LotEntry, ...] = ()


def summarize(records: Sequence[Record]) -> Summary:
    """Return the summary of a batch's records, from the first on; empty without any."""
    reader = _Reader()
    for record in records:
        reader.take(record)
    return reader.summary()


def seconds_between(earlier: str, later: str) -> float:
    """Return the seconds from one RFC 3339 moment to another."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


class _Reader:
    """Gathers what the events say, in their order."""

    def __init__(self) -> None:
        self._about: Summary = Summary()
        self._doses: dict[int, Dose] = {}
        self._alarms: list[AlarmEntry] = []
        self._remarks: list[Remark] = []
        self._counts: list[Count] = []
        self._freezing: list[FreezeRun] = []
        self._marks: dict[str, str] = {}
        self._lots: dict[str, LotEntry] = {}

    def take(self, record: Record) -> None:
        """Read one event."""
        event, t, about = record.event, record.t, self._about
        about = replace(about, ended=t, started=about.started or t)
        self._about = about
        match event:
            case ev.BatchCreated():
                self._about = replace(
                    about, batch=event.batch, unit=event.unit, recipe=event.recipe, recipe_version=event.recipe_version
                )
            case ev.StateChanged(path=""):
                # A state's reason is that of the way into it: what was once held and goes on has none.
                self._about = replace(about, state=event.to_state, reason=event.reason or about.reason)
                if event.to_state == "running":
                    self._about = replace(self._about, reason="")
            case ev.BatchEnded():
                self._about = replace(about, reason=event.reason)
            case ev.PromptOpened():
                self._about = replace(about, prompts_asked=about.prompts_asked + 1)
            case ev.PromptAnswered():
                self._about = replace(about, prompts_answered=about.prompts_answered + 1)
            case ev.IntentOpened() | ev.IntentClosed():
                self._dose(event)
            case ev.ValuesSet():
                self._count(event, t)
            case ev.Marked():
                self._marks[event.mark] = event.t
            case ev.LotDecided():
                pending = tuple(event.pending)
                self._lots[event.path] = LotEntry(event.path, event.outcome, t, event.by, event.text, pending)
            case ev.FreezeReported():
                self._freezing.append(_freeze_run(event))
            case ev.AlarmRaised() | ev.AlarmCleared():
                self._alarm(event, t)
            case _:
                self._remark(event, t)

    def _dose(self, event: ev.IntentOpened | ev.IntentClosed) -> None:
        if isinstance(event, ev.IntentOpened):
            args = event.args
            if event.action == "dispense":
                self._doses[event.intent] = Dose(
                    event.path,
                    event.device,
                    int(args["sequence"]),
                    str(args["from"]),
                    str(args["to"]),
                    float(args["volume"]),
                )
        elif event.intent in self._doses:  # closed again by a person, it is as that person says
            self._doses[event.intent] = replace(
                self._doses[event.intent],
                delivered_ml=event.delivered_ml,
                counted_ml=event.counted_ml,
                outcome=event.outcome,
            )

    def _count(self, event: ev.ValuesSet, t: str) -> None:
        cells, viability = _number(event.values.get(CELLS)), _number(event.values.get(VIABILITY))
        if cells is not None or viability is not None:
            self._counts.append(Count(t, event.path, cells, viability))

    def _alarm(self, event: ev.AlarmRaised | ev.AlarmCleared, t: str) -> None:
        if isinstance(event, ev.AlarmRaised):
            self._alarms.append(AlarmEntry(event.alarm, event.priority, event.text, event.path, t))
            return
        for i, entry in enumerate(self._alarms):
            if entry.alarm == event.alarm and entry.cleared is None:
                self._alarms[i] = replace(entry, cleared=t)

    def _remark(self, event: ev.Event, t: str) -> None:
        match event:
            case ev.ExceptionRaised():
                self._remarks.append(Remark(t, event.code, event.path, event.text))
            case ev.LedgerCorrected():
                self._remarks.append(Remark(t, "corrected", "", corrected(event)))
            case ev.ParameterAdjusted():
                self._remarks.append(Remark(t, "adjusted", "", changed(event)))
            case ev.ModeChanged():
                self._remarks.append(Remark(t, "mode", "", changed(event)))
            case ev.Noted(exception=True):
                self._remarks.append(Remark(t, "noted", event.path, event.text))
            case ev.StepFailed():
                self._remarks.append(Remark(t, "failed", event.path, f"{event.reason} ({event.hint})"))
            case ev.StepInDoubt():
                self._remarks.append(Remark(t, "in_doubt", event.path, event.reason))
            case ev.Outage():
                text = f"the controller was away for {event.seconds:.0f} s"
                self._remarks.append(Remark(t, "outage", "", text))
            case _:
                pass

    def summary(self) -> Summary:
        """Return what was gathered."""
        about = self._about
        cells = [count.cells for count in self._counts if count.cells is not None]
        viability = [count.viability for count in self._counts if count.viability is not None]
        return replace(
            about,
            days=seconds_between(about.started, about.ended) / DAY_S if about.started else 0.0,
            viable_cells=cells[-1] if cells else None,
            viability=viability[-1] if viability else None,
            doses=tuple(self._doses.values()),
            alarms=tuple(self._alarms),
            exceptions=tuple(self._remarks),
            counts=tuple(self._counts),
            freezing=tuple(self._freezing),
            marks=dict(self._marks),
            releases=tuple(self._lots.values()),
        )


def _number(value: ev.Scalar) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _freeze_run(event: ev.FreezeReported) -> FreezeRun:
    data = event.data
    rows = cast("list[list[Any]]", data.get("series", []))
    return FreezeRun(
        event.path,
        str(data.get("profile", "")),
        str(data.get("ended_as", "")),
        tuple(_row(row) for row in rows),
        tuple(cast("list[Mapping[str, Any]]", data.get("findings", []))),
    )


def _row(row: Sequence[Any]) -> tuple[float, float | None, float | None, float | None]:
    chamber, sample, *rest = row[1:]
    return float(row[0]), _number(chamber), _number(sample), _number(rest[0]) if rest else None
