"""Conditions that are watched: recipe guards, alarms of the site and of profiles, silent instruments; on each scan.

It stands beside the engine: it is evaluated in every state, with and without a batch, and knows of the engine only the
callbacks that it was given.  Unknown is not false: an INVALID condition neither fires nor clears; it alarms.  A watch
that breaks (a fault of the program) holds its batch and alarms, and stops none of the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import structlog

from devices.clock import Clock
from tilctl.guard.catalog import Details

Priority = Literal["critical", "high", "medium", "low"]
Action = Literal["alarm", "hold", "stop"]
_NOTHING: frozenset[str] = frozenset()
INVALID_AFTER = 30.0  # s that a condition may be unknown before that is an alarm of its own
CHATTERS = 10  # how often one is raised within CHATTERS_IN until it has to be over for longer (engineering defaults)
CHATTERS_IN, STEADY_FOR = 3600.0, 600.0  # s; s that one which chatters has to be over


class Condition(Protocol):
    """A condition as the guard sees it."""

    def __call__(self) -> bool | None:
        """Return whether it holds; None when that is not known."""
        ...


@dataclass
class Watch:
    """One condition with its on-delay `for_s` (s), priority and action; `operands` tell what it saw.

    `goes_on` is the condition with its deadband, asked while the alarm is active; `off_delay` (s) is for how long that
    must not hold before the alarm is over.  `unless`: suppressed by design while it holds.  `devices` are those whose
    reading may change it, None where time alone may.
    """

    id: str
    text: str
    priority: Priority
    then: Action
    for_s: float
    condition: Condition
    operands: Callable[[], dict[str, Any]]
    applies: Callable[[], bool] = field(default=lambda: True)
    goes_on: Condition | None = None
    off_delay: float = 0.0
    unless: Condition | None = None
    devices: frozenset[str] | None = None
    details: Details = field(default_factory=Details)
    true_since: float | None = None
    false_since: float | None = None
    invalid_since: float | None = None
    active: bool = False
    acted: bool = False
    invalid: bool = False
    broken: bool = False
    suppressed: bool = False
    chatters: bool = False  # until it is over
    came: deque[float] = field(default_factory=lambda: deque[float](maxlen=CHATTERS))  # when it was raised lately


def _by_design(_alarm: str, _suppressed: bool) -> None:
    """Take no notice."""


@dataclass(frozen=True, slots=True)
class Reactions:
    """What the guard may cause; each returns at once and never raises."""

    raised: Callable[[str, Priority, str, dict[str, Any]], None]
    cleared: Callable[[str], None]
    acted: Callable[[str, Action, str], None]
    by_design: Callable[[str, bool], None] = _by_design  # whether an alarm is suppressed by design from now on


class GuardBoard:
    """All watches of a batch, or of a unit."""

    def __init__(
        self,
        clock: Clock,
        watches: Iterable[Watch],
        reactions: Reactions,
        active: Container[str],
        suppressed: Container[str] = (),
    ) -> None:
        """Watch; `active` and `suppressed` are the alarms that are so by the record."""
        self._clock = clock
        self._watches = list(watches)
        self._pending: dict[str, Watch] = {}  # those that are true, by id
        self._of: dict[str, list[Watch]] = {}  # device -> what its readings may change
        self._reactions = reactions
        self.faults = 0  # how often a watch broke
        self._log = structlog.get_logger("guard")
        for watch in self._watches:
            # Invariant: after a restart what was active is not announced again, but it acts again while it is true.
            watch.active = watch.id in active
            watch.invalid = _invalid(watch.id) in active
            watch.broken = _broken(watch.id) in active
            watch.suppressed = watch.id in suppressed

    def scan(self, device: str | None = None) -> None:
        """Judge every watch that a reading of this device may change, all of them where none is named."""
        for watch in self._watches if device is None else self._changed_by(device):
            try:
                self._judge(watch)
            except Exception as error:  # noqa: BLE001 - Invariant: one watch that breaks stops none of the others
                self._break(watch, error)
                continue
            if watch.true_since is None:
                self._pending.pop(watch.id, None)
            else:
                self._pending[watch.id] = watch
            if watch.broken:
                watch.broken = False
                self._reactions.cleared(_broken(watch.id))

    def _changed_by(self, device: str) -> list[Watch]:
        found = self._of.get(device)
        if found is None:
            mine = [watch for watch in self._watches if watch.devices is None or device in watch.devices]
            found = self._of[device] = mine
        return found

    def rearm(self) -> None:
        """Let what holds or stops act anew if its condition is still true: a person has restarted the batch."""
        self._pending.clear()
        for watch in self._watches:
            watch.acted = False
            watch.true_since = None

    def pending(self) -> frozenset[str]:
        """Return the devices that something waits for: a condition is true, and its on-delay not over."""
        if not self._pending:
            return _NOTHING
        return frozenset(d for watch in self._pending.values() if not watch.active for d in watch.devices or ())

    def retold(self, active: Container[str]) -> None:
        """Note on another record what is active and not on it: the unit has a batch now, or has one no more."""
        for alarm, priority, text, values in self.standing():
            if alarm not in active:
                self._reactions.raised(alarm, priority, text, values)
        for watch in self._watches:
            watch.active = watch.active or watch.id in active
            watch.acted = False

    def standing(self) -> list[tuple[str, Priority, str, dict[str, Any]]]:
        """Return the alarms that are active: id, priority, text, what is seen."""
        found: list[tuple[str, Priority, str, dict[str, Any]]] = []
        for watch in self._watches:
            if watch.active:
                found.append((watch.id, watch.priority, watch.text, self._seen(watch)))
            if watch.invalid:
                found.append((_invalid(watch.id), "medium", _unjudged(watch), self._seen(watch)))
            if watch.broken:
                found.append((_broken(watch.id), "critical", _works_not(watch), {}))
        return found

    def _seen(self, watch: Watch) -> dict[str, Any]:
        try:
            return watch.operands()
        except Exception:  # noqa: BLE001 - what cannot be told keeps no alarm from being raised
            self.faults += 1
            return {}

    def _break(self, watch: Watch, error: Exception) -> None:
        """Hold, once: what protects no more is for a person, who may go on without it (the alarm stays)."""
        self.faults += 1
        if watch.broken:
            return
        watch.broken = True
        self._log.error("watch_failed", watch=watch.id, error=repr(error), exc_info=error)
        text = f"guard {watch.id} does not work: {error!r:.200}"
        self._reactions.acted(_broken(watch.id), "hold", text)
        self._reactions.raised(_broken(watch.id), "critical", text, {})

    def _judge(self, watch: Watch) -> None:
        if not watch.applies():
            watch.true_since = watch.false_since = watch.invalid_since = None
            self._clear(watch)
            self._valid(watch)
            return
        if watch.active:
            self._design(watch)
        holds = watch.goes_on() if watch.active and watch.goes_on is not None else watch.condition()
        now = self._clock.monotonic()
        if holds is None:
            self._unknown(watch, now)
            return
        watch.invalid_since = None
        self._valid(watch)
        if not holds:
            self._over(watch, now)
            return
        watch.false_since = None
        watch.true_since = now if watch.true_since is None else watch.true_since
        if now - watch.true_since < watch.for_s:
            return
        # Actuate first, report second.
        if not watch.acted and watch.then != "alarm":
            self._reactions.acted(watch.id, watch.then, watch.text)
        watch.acted = True
        if not watch.active:
            self._design(watch)  # first: what is suppressed when it comes is never announced
            watch.active = True
            watch.came.append(now)
            watch.chatters = len(watch.came) == CHATTERS and now - watch.came[0] < CHATTERS_IN
            self._reactions.raised(watch.id, watch.priority, watch.text, self._seen(watch))

    def _unknown(self, watch: Watch, now: float) -> None:
        watch.false_since = None  # Invariant: what is not known does not end an alarm
        watch.invalid_since = now if watch.invalid_since is None else watch.invalid_since
        if not watch.invalid and now - watch.invalid_since >= INVALID_AFTER:
            watch.invalid = True
            self._reactions.raised(_invalid(watch.id), "medium", _unjudged(watch), self._seen(watch))

    def _over(self, watch: Watch, now: float) -> None:
        watch.true_since = None
        if not watch.active:
            self._clear(watch)
            return
        watch.false_since = now if watch.false_since is None else watch.false_since
        # Invariant: what chatters stays an alarm until it is steady, or it would fill the record.
        if now - watch.false_since >= (max(watch.off_delay, STEADY_FOR) if watch.chatters else watch.off_delay):
            self._clear(watch)

    def _design(self, watch: Watch) -> None:
        """Suppress by design, or no longer, an alarm that is active or is about to be raised.

        Where `unless` is not known it stays as it is; one that is normal has nothing to be suppressed.
        """
        wanted = None if watch.unless is None else watch.unless()
        if wanted is not None and wanted is not watch.suppressed:
            watch.suppressed = wanted
            self._reactions.by_design(watch.id, wanted)

    def _clear(self, watch: Watch) -> None:
        watch.acted = False
        watch.false_since = None
        if watch.active:
            watch.active = False
            self._reactions.cleared(watch.id)
            if watch.suppressed:
                watch.suppressed = False
                self._reactions.by_design(watch.id, False)

    def _valid(self, watch: Watch) -> None:
        if watch.invalid:
            watch.invalid = False
            self._reactions.cleared(_invalid(watch.id))


def _unjudged(watch: Watch) -> str:
    return f"{watch.id} cannot be judged: {watch.text}"


def _works_not(watch: Watch) -> str:
    return f"guard {watch.id} does not work"


def _invalid(watch: str) -> str:
    return f"{watch}-invalid"


def _broken(watch: str) -> str:
    return f"internal-error-{watch}"
