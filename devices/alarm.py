"""What an alarm is declared as, with the same words in a site file, a profile and a recipe's guards.

Only texts: conditions are read where the language of expressions is known (`recipes.expr`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Priority = Literal["critical", "high", "medium", "low"]
Then = Literal["alarm", "hold", "stop"]
Words = Annotated[str, Field(min_length=1, max_length=2000)]
Amount = Annotated[str, Field(min_length=1, max_length=80)]
AlarmId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]

BOUNDS = {"for": (0.0, 86400.0), "off_delay": (0.0, 86400.0), "re_alarm": (60.0, 604800.0)}
"""s that each amount of time may be (engineering default): less never ends, or never lets an alarm be known; more never
comes in a batch."""


class AlarmFields(BaseModel):
    """An alarm: when it is raised, how it behaves, and what a person is told.

    It is raised when `when` has held for `for`, and is over when that has not held for `off_delay`, with `deadband`
    taken off its comparisons.  `latch`: it stays until it is acknowledged and reset.  `re_alarm`: announced anew when
    it was acknowledged and still holds after that time.  Of a `group` only the first to come is announced.  `unless`:
    suppressed by design while that holds.  `cause`, `consequence`, `action` and `allowed` (the time to act) are for
    the person; `source` says where its numbers come from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    when: Words
    for_: Amount = Field(default="0 s", alias="for")
    off_delay: Amount = "0 s"
    deadband: Amount | None = None
    latch: Literal["yes", "no"] = "no"
    re_alarm: Amount | None = None
    group: AlarmId | None = None
    unless: Words | None = None
    priority: Priority
    then: Then = "alarm"
    text: Words | None = None
    cause: Words | None = None
    consequence: Words | None = None
    action: Words | None = None
    allowed: Amount | None = None
    source: Words | None = None

    @property
    def help(self) -> dict[str, str]:
        """Return what a person is told beside the text: cause, consequence, action, time allowed."""
        given = {
            "cause": self.cause, "consequence": self.consequence, "action": self.action, "allowed": self.allowed,
        }  # fmt: skip
        return {key: text for key, text in given.items() if text}

    @property
    def times(self) -> list[tuple[str, str]]:
        """Return the amounts of time by their keys, to be checked."""
        given = (("for", self.for_), ("off_delay", self.off_delay), ("re_alarm", self.re_alarm))
        return [(key, text) for key, text in given if text is not None]


def out_of_bounds(key: str, seconds: float) -> str:
    """Return which amount of time was expected of a key, "" where it is one."""
    least, most = BOUNDS[key]
    if least <= seconds <= most:
        return ""
    return f"{key} is from {least:g} s to {most / 3600:g} h"
