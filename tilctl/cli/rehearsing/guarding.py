"""The oracle for guards: what is too warm or too cold in truth is acted on in time, by recipe guards and interlocks.

It judges on what the chamber is, not on what was measured: so it finds the guard that is not asked, or not heard.
Conditions on the temperature and CO2 of the chamber are understood, others are let pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from devices.quantity import parse_as
from recipes.expr import Expression, Operand, compile
from simulators.faults.model import Fault
from simulators.faults.vocabulary import SETTINGS
from simulators.physics.thermal import Climate
from tilctl.cli.rehearsing.violations import Book
from tilctl.cli.rehearsing.warmth import CHAMBER
from tilctl.cli.rehearsing.written import Written
from tilctl.config.interlock import Interlock, only_limit
from tilctl.engine.machine import State
from tilctl.engine.state import BatchState
from tilctl.journal import events as ev

UNITS = {"temperature": "degC", "co2": "%"}
NOT_BLINDING = (
    "heater_fault",
    "heater_runaway",
    "local_change",
    "eeprom_worn",
)  # it is measured as it is
NEAR = 0.3  # K or % around a limit in which noise decides
SEES_AGAIN_S = 300.0  # s after a fault of the instrument until its readings are good again: the back-off of a probe
SCANS = 2  # until a condition is seen, and until its on-delay is seen to be over
COMMITS_S = 70.0  # s beside that


@dataclass
class _Watched:
    id: str
    expression: Expression
    for_s: float
    span: tuple[str, str] | None
    since: float | None = None


@dataclass
class GuardOracle:
    """Judges guards that hold or stop, and the interlock of the chamber.

    `now` is seconds of the world, `at` the plant's own (s); `in_control` says whether a controller has the batch.
    """

    climate: Climate
    book: Book
    written: Written
    now: Callable[[], float]
    at: Callable[[], float]
    in_control: Callable[[], bool]
    _quiet: float = 60.0  # s, period of the climate's scan
    _hot: float = math.inf  # degC at which the site cuts the heater off
    _watched: list[_Watched] | None = None
    _blind_until: float = 0.0
    _hot_since: float | None = None
    _seen: tuple[float, ...] = ()
    _known: dict[str, bool] = field(default_factory=dict[str, bool])
    _names: dict[str, str] = field(default_factory=dict[str, str])  # tag -> what it is of the chamber

    def knows(self, quiet: float, interlocks: Iterable[Interlock]) -> None:
        """Take note of what the site says: how often (s) the climate is read, and what cuts its heater off."""
        self._quiet = quiet
        cuts = [i for i in interlocks if any(output.device == CHAMBER for output in i.outputs)]
        limits = [only_limit(i.condition, i.reads, UNITS["temperature"]) for i in cuts]
        mine = [limit for limit in limits if limit is not None and limit.at == f"{CHAMBER}.temperature"]
        self._hot = min((limit.value for limit in mine if limit.operator in (">", ">=")), default=math.inf)

    def befalls(self, fault: Fault, devices: Sequence[str]) -> None:
        """Take note of a fault of some instruments; while one of the chamber's is at work, nobody can know."""
        blinds = fault.what not in NOT_BLINDING or fault.args.get("target") in SETTINGS
        if CHAMBER in devices and blinds:
            self._blind_until = max(self._blind_until, self.now() + fault.lasts_s + SEES_AGAIN_S)

    def recorded(self, state: BatchState, event: ev.Event) -> None:
        """Take note of a guard that acts."""
        del state
        if isinstance(event, ev.GuardActed):
            for watched in self._watched or ():
                if watched.id == event.alarm:
                    watched.since = None

    def look(self, state: BatchState) -> None:
        """Judge at a scan."""
        now, blind = self.now(), self.now() < self._blind_until
        may_take = SCANS * self._quiet + COMMITS_S
        self._interlock(now, may_take, blind=blind)
        free = blind or not self.in_control() or state.state is not State.RUNNING
        for watched in self._all(state):
            if free or not self._applies(state, watched) or not self._truly(watched.expression):
                watched.since = None
                continue
            watched.since = now if watched.since is None else watched.since
            if now - watched.since > watched.for_s + may_take:
                self.book.note(
                    "guards_act",
                    f"'{watched.expression.text}' has been true for {now - watched.since:.0f} s,"
                    f" and guard {watched.id} (for {watched.for_s:g} s) has not acted",
                )
                watched.since = None

    def _interlock(self, now: float, may_take: float, *, blind: bool) -> None:
        """In every state: the heater of a chamber that is too hot is off."""
        found = self.climate.temperature.at(self.at())
        if blind or found <= self._hot + NEAR or self.climate.heater_cut:
            self._hot_since = None
            return
        self._hot_since = now if self._hot_since is None else self._hot_since
        if now - self._hot_since > may_take:
            text = f"the chamber is at {found:.1f} degC, the site cuts its heater off at {self._hot:g} degC"
            self.book.note("interlocks_act", text)
            self._hot_since = None

    def _applies(self, state: BatchState, watched: _Watched) -> bool:
        return watched.span is None or (watched.span[0] in state.marks and watched.span[1] not in state.marks)

    def _truly(self, expression: Expression) -> bool:
        """Tell whether a condition is true of the chamber, noise or not."""
        at = self.at()
        found = tuple(round(lag.at(at), 2) for lag in (self.climate.temperature, self.climate.co2))
        if found != self._seen:  # the chamber is as it was at most looks, and asking is dear
            self._seen, self._known = found, {}
        if expression.text not in self._known:
            values = dict(zip(UNITS, found, strict=True))
            moments = [{tag: values[what] + by for tag, what in self._names.items()} for by in (-NEAR, 0.0, NEAR)]
            answers = [expression.truth(_Chamber(moment, self._names)) for moment in moments]
            self._known[expression.text] = all(answer is True for answer in answers)
        return self._known[expression.text]

    def _all(self, state: BatchState) -> Sequence[_Watched]:
        if self._watched is None:
            recipe = self.written.read(state)
            if recipe is None or state.created is None:
                return ()
            mine = [equipment for equipment, device in state.created.bindings.items() if device == CHAMBER]
            self._names = {f"{equipment}.{what}": what for equipment in mine for what in UNITS}
            self._watched = [
                _Watched(guard.id, compile(guard.when), parse_as(guard.for_, "s"), guard.span)
                for guard in recipe.guards
                if guard.then != "alarm" and compile(guard.when).names <= self._names.keys()
            ]
        return self._watched


@dataclass(frozen=True, slots=True)
class _Chamber:
    """A scope with nothing but the chamber in it."""

    values: dict[str, float]
    names: dict[str, str]

    def lookup(self, name: str) -> Operand | None:
        return Operand(name, self.values[name], UNITS[self.names[name]]) if name in self.values else None
