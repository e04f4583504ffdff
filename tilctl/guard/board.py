"""The guard of one batch: recipe guards, biological clocks and silent instruments, judged at every scan.

It stands beside the engine: it is evaluated in every state, also while Held, and knows of the engine only the
callbacks that it was given.  Unknown is not false: an INVALID condition neither fires nor clears; it alarms.  A watch
that breaks (a fault of the program) holds its batch and alarms, and stops none of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import structlog

from devices.clock import Clock

Priority = Literal["critical", "high", "medium", "low"]
Action = Literal["alarm", "hold", "stop"]
INVALID_AFTER = 30.0  # s that a condition may be unknown before that is an alarm of its own


class Condition(Protocol):
    """A condition as the guard sees it."""

    def __call__(self) -> bool | None:
        """Return whether it holds; None when that is not known."""
        ...


@dataclass
class Watch:
    """One condition with its on-delay `for_s` (s), priority and action; `operands` tell what it saw."""

    id: str
    text: str
    priority: Priority
    then: Action
    for_s: float
    condition: Condition
    operands: Callable[[], dict[str, Any]]
    applies: Callable[[], bool] = field(default=lambda: True)
    true_since: float | None = None
    invalid_since: float | None = None
    active: bool = False
    acted: bool = False
    invalid: bool = False
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Reactions:
    """What the guard may cause; each returns at once and never raises."""

    raised: Callable[[str, Priority, str, dict[str, Any]], None]
    cleared: Callable[[str], None]
    acted: Callable[[str, Action, str], None]


class GuardBoard:
    """All watches of a batch."""

    def __init__(self, clock: Clock, watches: Iterable[Watch], reactions: Reactions, active: Iterable[str]) -> None:
        self._clock = clock
        self._watches = list(watches)
        self._reactions = reactions
        self.faults = 0  # how often a watch broke
        self._log = structlog.get_logger("guard")
        standing = set(active)
        for watch in self._watches:
            # Invariant: after a restart what was active is not announced again, but it acts again while it is true.
            watch.active = watch.id in standing
            watch.invalid = _invalid(watch.id) in standing
            watch.broken = _broken(watch.id) in standing

    def scan(self) -> None:
        """Judge every watch on the readings of now."""
        for watch in self._watches:
            try:
                self._judge(watch)
            except Exception as error:  # noqa: BLE001 - Invariant: one watch that breaks stops none of the others
                self._break(watch, error)
                continue
            if watch.broken:
                watch.broken = False
                self._reactions.cleared(_broken(watch.id))

    def rearm(self) -> None:
        """Let what holds or stops act anew if its condition is still true: a person has restarted the batch."""
        for watch in self._watches:
            watch.acted = False
            watch.true_since = None

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
            watch.true_since = watch.invalid_since = None
            self._clear(watch)
            self._valid(watch)
            return
        holds = watch.condition()
        now = self._clock.monotonic()
        if holds is None:
            watch.invalid_since = now if watch.invalid_since is None else watch.invalid_since
            if not watch.invalid and now - watch.invalid_since >= INVALID_AFTER:
                watch.invalid = True
                text = f"{watch.id} cannot be judged: {watch.text}"
                self._reactions.raised(_invalid(watch.id), "medium", text, watch.operands())
            return
        watch.invalid_since = None
        self._valid(watch)
        if not holds:
            watch.true_since = None
            self._clear(watch)
            return
        watch.true_since = now if watch.true_since is None else watch.true_since
        if now - watch.true_since < watch.for_s:
            return
        # Actuate first, report second.
        if not watch.acted and watch.then != "alarm":
            self._reactions.acted(watch.id, watch.then, watch.text)
        watch.acted = True
        if not watch.active:
            watch.active = True
            self._reactions.raised(watch.id, watch.priority, watch.text, watch.operands())

    def _clear(self, watch: Watch) -> None:
        watch.acted = False
        if watch.active:
            watch.active = False
            self._reactions.cleared(watch.id)

    def _valid(self, watch: Watch) -> None:
        if watch.invalid:
            watch.invalid = False
            self._reactions.cleared(_invalid(watch.id))


def _invalid(watch: str) -> str:
    return f"{watch}-invalid"


def _broken(watch: str) -> str:
    return f"internal-error-{watch}"
