"""What ends a walk before its time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tilctl.journal.events import Event


class StepError(Exception):
    """A step cannot do what it should: the batch is held; `hint` tells a person what to do.

    `notes` go on the record together with the hold: what says that it was held for something, once, stands there
    only where the hold does.
    """

    def __init__(self, reason: str, hint: str, notes: Sequence[Event] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.notes = tuple(notes)
        self.path = ""  # of the step, once it is known

    @property
    def each(self) -> tuple[StepError, ...]:
        """Return what went wrong, one by one: this, or what several branches brought at once."""
        return (self,)


class InDoubt(StepError):
    """What an intent did is not known: a person decides."""

    def __init__(self, intent: int, reason: str) -> None:
        super().__init__(reason, "find out what went over, then restart the batch: you are asked for it")
        self.intent = intent


class Several(StepError):
    """More than one branch cannot do what it should."""

    def __init__(self, errors: Sequence[StepError]) -> None:
        super().__init__("; ".join(error.reason for error in errors), "; ".join(error.hint for error in errors))
        self._each = tuple(errors)

    @property
    def each(self) -> tuple[StepError, ...]:
        """Return them one by one."""
        return self._each


class SafePoint(Exception):
    """A pause was asked for, and this is a place to pause at."""


class ProcedureEnd(Exception):
    """The recipe ends the batch here."""

    def __init__(self, result: Literal["complete", "stopped", "aborted"], reason: str) -> None:
        super().__init__(reason)
        self.result: Literal["complete", "stopped", "aborted"] = result
        self.reason = reason
