"""What every step of the recipe language has."""

from __future__ import annotations

from recipes.fields import Amount, Expr, Frozen, Id, OnRestart, Text


class Verb(Frozen):
    """What every step has.

    `when`: the step is passed over while this is false.  `exception_when`: judged after the step; true puts an
    exception on the record for review.  `on_restart`: how the step goes on after the controller was down.
    `max_outage`: the longest outage after which it may go on without a person; absent: the step sets no limit.
    `max_hold`: the longest that it may stand held; beyond that is an alarm.
    `on_failure`: the exception of the recipe whose steps a person may have walked instead, when it has failed.
    """

    id: Id
    source: Text | None = None
    when: Expr | None = None
    exception_when: Expr | None = None
    on_restart: OnRestart = "redo"
    max_outage: Amount | None = None
    max_hold: Amount | None = None
    on_failure: Id | None = None
