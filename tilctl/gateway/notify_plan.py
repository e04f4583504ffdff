"""Who is told of which alarm, and when: grouped, repeated, to the next person.  Pure: shown what stands at a moment.

It keeps no queue: what has to be said follows from what stands and what was said before, so that a flood makes a longer
message and never more of them, and nothing that is over is announced late.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tilctl.guard.alarm import WAITING, AlarmState
from tilctl.guard.desk import RANK

GROUP_S = 60.0
"""s between two messages to one person; what comes meanwhile is in the next one (engineering default)."""
Kind = Literal["restarted", "escalated", "raised", "repeated", "over"]
Why = Literal["stands", "escalated", "raised", "repeated", "acknowledged", "over", "set_aside"]
Key = tuple[str, str]
ENDED: tuple[Why, ...] = ("acknowledged", "over", "set_aside")
_KINDS: tuple[tuple[Why, Kind], ...] = (
    ("stands", "restarted"), ("escalated", "escalated"), ("raised", "raised"), ("repeated", "repeated"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Standing:
    """One alarm that is not normal, as it is now; `batch` is that of its unit, "" for none."""

    unit: str
    alarm: str
    priority: str
    text: str
    since: str
    state: AlarmState
    aside: bool = False
    escalated: int = 0
    seq: int = 0
    help: Mapping[str, str] = field(default_factory=dict[str, str])
    batch: str = ""

    @property
    def key(self) -> Key:
        """Which alarm it is."""
        return self.unit, self.alarm

    @property
    def waiting(self) -> bool:
        """Whether a person has to say that he knows."""
        return self.state in WAITING and not self.aside


def standing(unit: str, row: Mapping[str, Any], batch: str = "") -> Standing:
    """Return an alarm as `ControllerPort.alarms` has it."""
    return Standing(
        unit, str(row["alarm"]), str(row["priority"]), str(row["text"]), str(row["since"]), AlarmState(row["state"]),
        bool(row.get("aside")), int(row.get("escalated", 0)), int(row.get("seq", 0)), row.get("help") or {}, batch,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who is told: of these priorities, from this escalation on, of one unit or (where that is "") of all."""

    name: str
    levels: frozenset[str]
    escalation: int = 0
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """What one recipient is told at once: the first-out alarm first, then by priority and age.

    `count`: how many wait for a person, by priority.
    """

    to: Recipient
    kind: Kind
    alarms: tuple[tuple[Why, Standing], ...]
    count: Mapping[str, int]


Said = tuple[Why, Standing]


@dataclass(frozen=True, slots=True)
class _Told:
    what: Standing
    at: float


class Plan:
    """What was said to one recipient, and what follows from that."""

    def __init__(self, to: Recipient, repeat_s: float) -> None:
        """Say everything again after `repeat_s` until somebody has acknowledged it."""
        self.to = to
        self._repeat_s = repeat_s
        self._told: dict[Key, _Told] = {}
        self._last: float | None = None  # when something was said
        self._began = False
        self._due: float | None = None

    @property
    def due(self) -> float | None:
        """When (monotonic, s) something has to be said even if nothing changes; None where nothing waits."""
        return self._due

    def look(self, now: float, alarms: Sequence[Standing]) -> Message | None:
        """Return what has to be said now, at a monotonic time in s; it counts as said."""
        all_ = _one_each(alarms)
        mine = [alarm for alarm in all_.values() if self._concerns(alarm)]
        said: list[Said] = [*self._new(mine), *self._ended(all_)]
        if not self._began:
            stands: Why = "stands"
            said = [(stands, alarm) for alarm in mine]
        # Invariant: compared as sums, as `due` is one: at that moment something is done, or it would be due for ever.
        if any(now >= told.at + self._repeat_s for told in self._told.values()):
            news = {alarm.key for _, alarm in said}  # all of it at once, so that later ones come together too
            said.extend(("repeated", a) for a in mine if a.waiting and a.key in self._told and a.key not in news)
        if said and self._last is not None and now < self._last + GROUP_S:
            self._due = self._last + GROUP_S
            return None
        self._began = True
        message = self._say(now, said, mine) if said else None
        repeated = {alarm.key for alarm in mine}  # one whose priority is his no more is told again only when it is over
        self._due = min((t.at + self._repeat_s for key, t in self._told.items() if key in repeated), default=None)
        return message

    def _concerns(self, alarm: Standing) -> bool:
        if alarm.priority not in self.to.levels or self.to.unit not in ("", alarm.unit) or alarm.aside:
            return False
        known = alarm.escalated >= self.to.escalation or alarm.key in self._told
        return known and alarm.state is not AlarmState.NORMAL

    def _new(self, mine: Sequence[Standing]) -> Iterator[Said]:
        for alarm in mine:
            told = self._told.get(alarm.key)
            if not alarm.waiting:
                continue
            if told is None or told.what.since != alarm.since:
                yield ("escalated" if alarm.escalated else "raised"), alarm
            elif alarm.escalated > told.what.escalated:
                yield "escalated", alarm

    def _ended(self, all_: Mapping[Key, Standing]) -> Iterator[Said]:
        for key, told in self._told.items():
            alarm = all_.get(key)
            if alarm is None:
                yield "over", told.what
            elif alarm.aside:
                yield "set_aside", alarm
            elif not alarm.waiting:
                yield "acknowledged", alarm

    def _say(self, now: float, said: Sequence[Said], mine: Sequence[Standing]) -> Message:
        for why, alarm in said:
            if why not in ENDED and alarm.waiting:
                self._told[alarm.key] = _Told(alarm, now)
            else:
                self._told.pop(alarm.key, None)
        self._last = now
        whys = {why for why, _ in said}
        kinds: list[Kind] = [kind for why, kind in _KINDS if why in whys]
        count = Counter(alarm.priority for alarm in mine if alarm.waiting)
        return Message(self.to, kinds[0] if kinds else "over", tuple(_ordered(said)), dict(count))


def _one_each(alarms: Sequence[Standing]) -> dict[Key, Standing]:
    """Return each alarm once: one may be over and unknown in the idle unit, and new in its batch."""
    return {alarm.key: alarm for alarm in sorted(alarms, key=lambda a: (a.waiting, a.since))}


def _ordered(said: Sequence[Said]) -> list[Said]:
    """Put what came first at the beginning, of those that are still there; then by priority and age."""

    def age(item: Said) -> tuple[bool, str, int]:
        return item[0] in ENDED, item[1].since, item[1].seq

    first = min(said, key=age)
    rest = [item for item in said if item is not first]
    return [first, *sorted(rest, key=lambda item: (item[0] in ENDED, -RANK.get(item[1].priority, -1), age(item)))]
