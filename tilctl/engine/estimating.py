"""The estimates of a batch, folded from its record, and what people are told of them.  They never act.

What an estimate is made of is on record: results, volumes, marks, and of probes a reading each six hours
(`ReadingNoted`), for trends are no record.  So a restart comes to the same estimate.  It is told for whole ten minutes
since its start: what is asked in between gets the same answer, however often it is asked.
Invariant: nothing in here raises into control: what breaks is a reason why nothing is known.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from devices.clock import Clock
from devices.quantity import Quantity, parse_as, show
from devices.reading import Quality
from recipes.estimates import Oxygen
from recipes.expr import ExprError, compile
from recipes.model import Recipe
from tilctl.engine.machine import FINAL
from tilctl.engine.scope import BatchScope
from tilctl.engine.state import format_time, parse_time
from tilctl.engine.waiting import seconds_until
from tilctl.estimation.course import Cells
from tilctl.estimation.estimates import Estimates, Follower, Sight
from tilctl.estimation.filter import UnavailableError, library
from tilctl.guard.board import Priority, Reactions
from tilctl.journal import events as ev
from tilctl.journal.chain import Record

if TYPE_CHECKING:
    from tilctl.engine.batch import Batch

EVERY = 600.0  # s between two estimates without new data (engineering default)
READ_EVERY = 6 * 3600.0  # s between two readings of a probe that are put on record (engineering default)
BELOW, NO_FORECAST, IMPLAUSIBLE, BROKEN = "below-floor-", "no-forecast-", "implausible-", "estimate-broken-"


async def prepare(recipe: Recipe, clock: Clock) -> None:
    """Import what estimates need beside the loop, where a recipe has any; what is missing they say themselves."""

    def load() -> None:
        try:
            library()
        except UnavailableError as error:
            structlog.get_logger("estimates").warning("estimates_unavailable", error=str(error))

    if recipe.estimates:
        await clock.offload(load)


class Estimating:
    """The estimates of one batch."""

    def __init__(self, batch: Batch) -> None:
        self.estimates = _begun(batch)
        self.faults = 0  # how often an event could not be taken in
        self._batch = batch
        self._seen: dict[str, tuple[tuple[float, int], Sight]] = {}
        self.read: dict[tuple[str, str], float] = {}  # estimate and kind of input -> when it was read last
        self._log = structlog.get_logger("estimates").bind(batch=batch.name)

    def apply(self, record: Record) -> None:
        """Take in a committed record, which the state has taken in before; never raises."""
        if not self._batch.recipe.estimates:
            return
        try:
            self._apply(record)
        except Exception:  # noqa: BLE001 - see above
            self.faults += 1
            self._log.exception("estimate_fault", kind=record.event.kind, seq=record.seq)

    def _apply(self, record: Record) -> None:
        found, state, t = self.estimates, self._batch.state, parse_time(record.t).timestamp()
        match record.event:
            case ev.Mounted() as event:
                found.mounted(event.container, event.volume_ml)
            case ev.Unmounted() as event:
                found.unmounted(t, event.container)
            case ev.Moved() as event:
                found.moved(t, event.from_container, event.to_container, event.volume_ml)
            case ev.IntentClosed() as event if event.delivered_ml and event.intent not in state.closed_twice:
                args = state.intents[event.intent].args
                if "from" in args:
                    found.moved(t, str(args["from"]), str(args["to"]), event.delivered_ml)
            case ev.LedgerCorrected() as event:
                found.corrected(event.container, event.change_ml)
            case ev.Marked() as event:
                found.mark(parse_time(event.t).timestamp(), event.mark, self.number)
            case ev.ValuesSet() as event if not state.overtaken(event.path):
                step = event.path.rpartition("/")[2]
                for name, value in event.values.items():
                    found.value(t, f"{step}.{name}", value)
            case ev.ReadingNoted() as event:
                self.read[event.estimate, event.input] = t
                found.reading(t, event.estimate, event.input, event.value, event.beside)
            case _:
                pass

    def number(self, text: str) -> float | None:
        """Return what an expression gives now, None where that is no number that is known."""
        try:
            value = compile(text).evaluate(BatchScope(self._batch, {}))
        except ExprError:
            return None
        return value.value if isinstance(value, Quantity) else None

    def left(self, text: str) -> float | None:
        """Return in how many seconds time alone makes a condition true: 0 where it is so, None where nobody knows."""
        scope, expression = BatchScope(self._batch, {}), compile(text)
        return 0.0 if expression.truth(scope) is True else seconds_until(expression, scope)

    def sight(self, name: str) -> Sight:
        """Return an estimate as it is now."""
        follower, now = self.estimates.all[name], self._batch.clock.now().timestamp()
        account = follower.account
        if account.began is None or account.ended is not None:
            return follower.look(now, self.number, self.left)
        latest = account.inputs[-1].t
        at = max(latest, account.began + (now - account.began) // EVERY * EVERY)
        key = at, len(account.inputs)
        known = self._seen.get(name)
        if known is None or known[0] != key:

            def ahead(text: str) -> float | None:
                left = self.left(text)
                return None if left is None else left + (now - at if left > 0.0 else 0.0)

            known = self._seen[name] = key, follower.look(at, self.number, ahead)
        return known[1]

    def value(self, name: str, value: str) -> float | None:
        """Return what an expression names of an estimate (cells), None where it is not known."""
        return self.sight(name).value(value) if name in self.estimates.all else None

    def rows(self) -> list[dict[str, Any]]:
        """Return what is shown of each estimate, as JSON-able values; cells rounded to three digits."""
        return [self._row(follower, self.sight(follower.name)) for follower in self.estimates]

    def _row(self, follower: Follower, sight: Sight) -> dict[str, Any]:
        used, refused = follower.course.used, follower.course.refused
        wanted = follower.declared.forecast
        return {
            "name": follower.name,
            "use": follower.declared.use,
            **_cells(sight.cells),
            "why": sight.why,
            "forecast": None if wanted is None else {
                "at": wanted.at, "t": _moment(sight.end_at), "floor": _digits(sight.floor), **_cells(sight.end),
                "short": sight.short, "why": sight.no_end,
            },
            "data": len(used),
            "last": _moment(used[-1][0]) if used else None,
            "not_used": [f"{each.name} {each.text}" for each in refused[-3:]],
        }  # fmt: skip


def _begun(batch: Batch) -> Estimates:
    """Return the estimates of a recipe; none where its amounts, which were checked, cannot be read."""
    try:
        return Estimates(batch.recipe.estimates)
    except Exception:  # noqa: BLE001 - Invariant: no record is unreadable for an estimate
        structlog.get_logger("estimates").exception("estimates_unreadable", batch=batch.name)
        return Estimates({})


class Estimator:
    """Raises the alarms of a batch's estimates, and puts on record what its probes read.  It never acts."""

    def __init__(self, batch: Batch, reactions: Reactions) -> None:
        self._batch = batch
        self._reactions = reactions
        self._estimating = batch.estimating
        self._looked = float("-inf")
        self._data: object = None
        if batch.recipe.estimates:
            batch.observers.append(lambda _record: self._seen())

    def _seen(self) -> None:
        accounts = [follower.account for follower in self._estimating.estimates]
        data = [(len(each.inputs), each.began, each.ended) for each in accounts], self._batch.state.state in FINAL
        if data != self._data:
            self._data = data
            self.look()

    @property
    def due(self) -> bool:
        """Whether ten minutes are over since it looked last."""
        return bool(self._batch.recipe.estimates) and self._batch.clock.monotonic() - self._looked >= EVERY

    def tick(self) -> None:
        """Look again, also where nothing comes any more."""
        self._read()
        self.look()

    def _read(self) -> None:
        now = self._batch.clock.now().timestamp()
        for follower in self._estimating.estimates:
            oxygen, capacitance = follower.declared.oxygen, follower.declared.capacitance
            for kind, tag in (("oxygen", oxygen.tag if oxygen else None), ("capacitance", capacitance)):
                if tag is None or not follower.account.runs:
                    continue
                last = self._estimating.read.get((follower.name, kind), float("-inf"))
                reading = self._batch.tag(tag)
                if now - last < READ_EVERY or reading is None or reading.quality is not Quality.GOOD:
                    continue
                beside = self._beside(oxygen) if kind == "oxygen" and oxygen is not None else {}
                if isinstance(reading.value, float) and beside is not None:
                    self._batch.note(ev.ReadingNoted(follower.name, kind, tag, reading.value, reading.unit, beside))

    def _beside(self, oxygen: Oxygen) -> dict[str, float] | None:
        """Return how fast oxygen is renewed now, and from which gas; None where that is not known."""
        names = {"renewal": oxygen.renewal} | ({} if oxygen.gas is None else {"gas": oxygen.gas})
        found = {name: self._estimating.number(text) for name, text in names.items()}
        return (
            {name: value for name, value in found.items() if value is not None} if None not in found.values() else None
        )

    def look(self) -> None:
        """Raise and clear what follows from the estimates as they are now."""
        self._looked = self._batch.clock.monotonic()
        over = self._batch.state.state in FINAL
        for follower in self._estimating.estimates:
            sight = self._estimating.sight(follower.name)
            runs = follower.account.runs and not over
            self._tell(BELOW, follower, "medium", sight.short if runs else False, _below(follower, sight))
            self._tell(NO_FORECAST, follower, "low", runs and self._due(follower, sight), _unknown(follower, sight))
            doubted = follower.course.doubted if runs else ""
            self._tell(IMPLAUSIBLE, follower, "medium", bool(doubted), f"{doubted}; it was not used: measure again")
            broken = bool(follower.broken) and not follower.unavailable
            self._tell(BROKEN, follower, "low", broken and runs, f"the estimate {follower.name}: {follower.broken}")

    def _tell(self, kind: str, follower: Follower, priority: Priority, holds: bool | None, text: str) -> None:
        """Raise or clear an alarm.  Invariant: what is not known ends none."""
        alarm = f"{kind}{follower.name}"
        if holds:
            self._reactions.raised(alarm, priority, text, {})
        elif holds is False and alarm in self._batch.state.alarms:
            self._reactions.cleared(alarm)

    def _due(self, follower: Follower, sight: Sight) -> bool:
        """Tell whether a forecast should be known by now and is not; a library that is missing is no alarm."""
        wanted = follower.declared.forecast
        if wanted is None or sight.end is not None or follower.broken:
            return False
        left = self._estimating.left(wanted.at)
        return left is not None and 0.0 < left <= parse_as(wanted.ahead, "s")


def _below(follower: Follower, sight: Sight) -> str:
    wanted = follower.declared.forecast
    if wanted is None or sight.end is None or sight.floor is None:
        return ""
    most, floor = show(_digits(sight.end.high) or 0.0, "cells"), show(sight.floor, "cells")
    text = f"{follower.name}: {show(_digits(sight.end.now) or 0.0, 'cells')}, at most {most} (95 %), are forecast"
    return f"{text} for when {wanted.at}; {floor} are wanted"


def _unknown(follower: Follower, sight: Sight) -> str:
    return f"{follower.name}: no forecast is known: {sight.why or sight.no_end}"


def _cells(cells: Cells | None) -> dict[str, float | None]:
    if cells is None:
        return {"now": None, "low": None, "high": None}
    return {"now": _digits(cells.now), "low": _digits(cells.low), "high": _digits(cells.high)}


def _digits(value: float | None) -> float | None:
    """Return a value to three digits: more are not known, and they may differ from machine to machine."""
    return None if value is None else float(f"{value:.3g}")


def _moment(t: float | None) -> str | None:
    return None if t is None else format_time(datetime.fromtimestamp(t, UTC))
