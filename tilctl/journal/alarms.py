"""What the record says of alarms.

`unit` is "" on the record of a batch, whose unit it is; on that of the site it names the unit, or `site`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]
Priority = Literal["critical", "high", "medium", "low"]
Aside = Literal["shelved", "suppressed", "out_of_service"]
"""How an alarm may be set aside, each by itself: by a person for a time, by design, by maintenance."""
FIRST_OUT = "first-out"
"""Who sets the followers of a group aside."""


def _json() -> Json:
    return {}


def _texts() -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class AlarmRaised:
    """An alarm became active; `values` are the operands that made it so.

    `latching`: it stays when its condition is over, until it is reset.  `group`: only the first of a group is
    announced.  `help` has cause, consequence, action and time allowed, where they are known.
    """

    alarm: str
    priority: Priority
    text: str
    path: str = ""
    values: Json = field(default_factory=_json)
    unit: str = ""
    latching: bool = False
    group: str = ""
    help: dict[str, str] = field(default_factory=_texts)
    kind: Literal["alarm_raised"] = "alarm_raised"


@dataclass(frozen=True, slots=True)
class AlarmCleared:
    """The cause of an alarm is gone."""

    alarm: str
    unit: str = ""
    kind: Literal["alarm_cleared"] = "alarm_cleared"


@dataclass(frozen=True, slots=True)
class AlarmAcknowledged:
    """A person has said that he knows."""

    alarm: str
    by: str
    unit: str = ""
    kind: Literal["alarm_acknowledged"] = "alarm_acknowledged"


@dataclass(frozen=True, slots=True)
class AlarmReset:
    """A person has let go of a latched alarm whose condition is over."""

    alarm: str
    by: str
    unit: str = ""
    kind: Literal["alarm_reset"] = "alarm_reset"


@dataclass(frozen=True, slots=True)
class AlarmAgain:
    """An alarm that was acknowledged is still there: it is announced anew, or to the next person."""

    alarm: str
    why: Literal["re_alarm", "escalated"]
    unit: str = ""
    kind: Literal["alarm_again"] = "alarm_again"


@dataclass(frozen=True, slots=True)
class AlarmSetAside:
    """An alarm is not announced for a while; it goes on underneath.

    `until` is a moment, None where only its own end ends it; `once`: also when its condition is over.
    """

    alarm: str
    how: Aside
    by: str
    reason: str
    until: str | None = None
    once: bool = False
    work_order: str = ""
    unit: str = ""
    kind: Literal["alarm_set_aside"] = "alarm_set_aside"


@dataclass(frozen=True, slots=True)
class AlarmSetBack:
    """An alarm is announced again where it is active: a person, the time or the design has ended that."""

    alarm: str
    how: Aside
    by: str
    reason: str = ""
    unit: str = ""
    kind: Literal["alarm_set_back"] = "alarm_set_back"


AlarmEvent = AlarmRaised | AlarmCleared | AlarmAcknowledged | AlarmReset | AlarmAgain | AlarmSetAside | AlarmSetBack
