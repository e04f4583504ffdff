"""One interlock or permissive as it is now: what was judged of it, since when, and whether it is bypassed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from devices.reading import Quality
from tilctl.config.interlock import Interlock, Permissive
from tilctl.guard.conditions import TagCondition
from tilctl.guard.kept_rules import Bypass, Kept

NEVER = float("-inf")
LONGEST_BYPASS_S = 8 * 3600.0
"""Of one bypass: a shift (engineering default)."""


class Phase(StrEnum):
    """Where an interlock stands."""

    NORMAL = "normal"
    TRIPPED = "tripped"  # its condition holds, or is not known to be over
    LATCHED = "latched"  # that is over, and it waits for its reset


@dataclass
class Judged:
    """What interlocks and permissives share."""

    unit: str
    condition: TagCondition
    bypass: Bypass | None = None
    until: tuple[Bypass, float] | None = None  # the bypass, and when it ends (monotonic s): the time may be set back
    unknown_since: float | None = None  # monotonic s
    unknown_told: bool = False
    broken: bool = False
    mend: bool = False  # that it does not work is an alarm from before a start, which ends as soon as it works

    def bypassed(self, now: datetime) -> bool:
        """Return whether it is set aside at a moment of the record's time."""
        return self.bypass is not None and now < self.bypass.until


@dataclass
class JudgedInterlock(Judged):
    """An interlock; `failing` are instruments that did not take what it does to them, with why."""

    rule: Interlock = field(kw_only=True)
    phase: Phase = Phase.NORMAL
    since: datetime | None = None
    text: str = ""
    true_since: float | None = None  # monotonic s
    false_since: float | None = None
    failing: dict[str, str] = field(default_factory=dict[str, str])
    owed: set[str] = field(default_factory=set[str])
    """Instruments that are to be off until its reset, and may not be: what was done to them is done again."""
    again: float = NEVER  # monotonic s, from when on that is done next where its condition does not hold

    def take(self, kept: Kept) -> None:
        """Take over what a record says.  Invariant: what was tripped is so until a good reading says it is over."""
        self.bypass = kept.bypass
        if kept.since is not None:
            self.phase, self.since, self.text = Phase.TRIPPED, kept.since, kept.text
            self.owe()

    def owe(self) -> None:
        """Do not take it for granted any more that its outputs are off."""
        self.owed.update(output.device for output in self.rule.outputs)

    def kept(self) -> Kept:
        """Return what a record has to say of it."""
        return Kept(None if self.phase is Phase.NORMAL else self.since, self.text, self.bypass)

    def over(self) -> bool:
        """Return whether its condition is known not to hold, with its deadband."""
        return self.condition.goes_on() is False

    def why_not(self) -> str:
        """Return why a command that would undo it is refused."""
        since = "" if self.since is None else f" since {moment(self.since)}"
        how = {
            "auto": "it is reset by itself when that is over",
            "restart": "a restart of the batch resets it when that is over",
            "manual": f"reset it when that is over: tilctl interlock reset {self.rule.name}",
        }[self.rule.reset]
        return f"interlock {self.rule.name} is {self.phase.value}{since}: {self.condition.told()}; {how}"

    def row(self, now: datetime) -> dict[str, Any]:
        """Return it for people and for machines, as JSON has it."""
        outputs = [f"{each.device}: {each.command}" for each in self.rule.outputs]
        more = {"outputs": outputs, "reset": self.rule.reset, "latched": self.phase is Phase.LATCHED}
        since = None if self.since is None else moment(self.since)
        return _row(self, self.rule, now) | more | {"kind": "interlock", "state": self.phase.value, "since": since}


@dataclass
class JudgedPermissive(Judged):
    """A permissive."""

    rule: Permissive = field(kw_only=True)
    permits: bool | None = None  # as it was found last

    def take(self, kept: Kept) -> None:
        """Take over what a record says."""
        self.bypass = kept.bypass

    def kept(self) -> Kept:
        """Return what a record has to say of it."""
        return Kept(bypass=self.bypass)

    def why_not(self) -> str:
        """Return why a command that it forbids is refused."""
        text = f" ({self.rule.text})" if self.rule.text else ""
        act = f"; {self.rule.help['action']}" if "action" in self.rule.help else ""
        needs = f"it needs {self.rule.condition}"
        return f"permissive {self.rule.name} does not permit it{text}: {needs}, and {self.condition.told()}{act}"

    def row(self, now: datetime) -> dict[str, Any]:
        """Return it for people and for machines, as JSON has it."""
        permits = self.condition.holds() is True or self.bypassed(now)
        more = {"kind": "permissive", "state": "permits" if permits else "forbids", "since": None, "latched": False}
        return _row(self, self.rule, now) | more | {"outputs": [".".join(each) for each in self.rule.forbids]}


Either = JudgedInterlock | JudgedPermissive


def broken_row(judged: Either, error: Exception) -> dict[str, Any]:
    """Return what is shown of one that does not work."""
    kind, rule = "interlock" if isinstance(judged, JudgedInterlock) else "permissive", judged.rule
    return {
        "unit": judged.unit, "name": rule.name, "kind": kind, "state": "broken", "condition": rule.condition,
        "operands": [], "outputs": [], "unknown": True, "latched": False, "since": None, "bypass": None, "help": {},
        "priority": rule.priority, "text": f"it does not work: {error!r:.200}", "may_bypass": False,
    }  # fmt: skip


def moment(t: datetime) -> str:
    """Return a moment as the record writes it."""
    return t.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _row(judged: Judged, rule: Interlock | Permissive, now: datetime) -> dict[str, Any]:
    limits = judged.condition.limits()
    operands = [
        {
            "name": each.name, "value": each.value if each.quality is not Quality.BAD else None, "unit": each.unit,
            "quality": each.quality.value, "age_s": None if each.age is None else round(each.age),
            "limit": limits.get(each.name, ""),
        }
        for each in judged.condition.seen()
    ]  # fmt: skip
    bypass = judged.bypass if judged.bypassed(now) else None
    return {
        "unit": judged.unit, "name": rule.name, "condition": rule.condition, "operands": operands,
        "t": moment(now), "unknown": judged.condition.holds() is None, "priority": rule.priority, "text": rule.text,
        "help": dict(rule.help), "may_bypass": rule.may_bypass,
        "bypass": None if bypass is None else {
            "by": bypass.by, "role": bypass.role, "second": bypass.second, "second_role": bypass.second_role,
            "reason": bypass.reason, "until": moment(bypass.until),
        },
    }  # fmt: skip
