"""`control`: a reading kept at a value by standing targets, one bounded move at a time."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from recipes.fields import Amount, Expr, Flag, Frozen, OnRestart, Span, Text
from recipes.verb import Verb

MOST_OUTPUTS = 8
LEAST_EVERY_S = 30.0
"""s; the least from one move to the next: what is moved has to be seen in the reading first (engineering default)."""


class Move(Frozen):
    """A tag that is moved within `range`, by one `step` at a time; more of it raises the reading."""

    set_: Text = Field(alias="set")
    range: Span
    step: Amount


class Control(Verb):
    """Keep a reading at a value: `control: {of: station.oxygen, at: 40 %, deadband: 5 %, every: 5 min, by: [...]}`.

    Below `at` by more than the deadband the first of `by` that is not at its top is raised by a step, above it by more
    the last that is not at its bottom is lowered: one move in `every` at most, by standing targets, from the bottom on
    where nothing else stands.  It stands until one of the same reading replaces it, `stop: true` ends it, or the unit
    is freed, also while the batch is held or stopped; while the reading is not known it moves nothing, and alarms.
    What it moves cannot be `set`.  It costs no time: the next step follows at once.
    """

    verb: Literal["control"]
    of: Text
    at: Expr | None = None
    deadband: Amount | None = None
    every: Amount | None = None
    by: Annotated[tuple[Move, ...], Field(max_length=MOST_OUTPUTS)] = ()
    stop: Flag = False
    on_restart: OnRestart = "resume"

    @model_validator(mode="after")
    def _begins_or_stops(self) -> Control:
        given = {"at": self.at, "deadband": self.deadband, "every": self.every, "by": self.by or None}
        if self.stop and any(each is not None for each in given.values()):
            more = ", ".join(name for name, each in given.items() if each is not None)
            raise ValueError(f"what is stopped has only `of`, and no {more}")
        missing = [name for name, each in given.items() if each is None]
        if not self.stop and missing:
            raise ValueError(f"control needs {', '.join(missing)}, or stop: true")
        return self
