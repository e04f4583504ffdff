"""`release`: what becomes of a lot, by a check list of named conditions, some of whose results may still be pending."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recipes.fields import SOME, Amount, Expr, Frozen, Id, NamesIfAny, Text
from recipes.verb import Verb

PENDING = "pending"
"""The choice of a laboratory result that says that there is none yet."""
MOST_CONDITIONS = 40
"""Of one check list (engineering default): what one person can look through and sign."""
Outcome = Literal["released", "conditional", "rejected", "reopened"]
OUTCOMES: tuple[Outcome, ...] = ("released", "conditional", "rejected", "reopened")


class Condition(Frozen):
    """One line of the check list: `when` must be true; `pending` names the results for which it need not wait."""

    when: Expr
    label: Text | None = None
    pending: NamesIfAny = ()
    source: Text | None = None


class Release(Verb):
    """Decide what becomes of a lot: `release: {id: lot, conditions: {sterile: {when: ..., pending: count.sterility}}}`.

    One condition that is false rejects it; with all of them true it is released; where one waits for a result that
    it names under `pending` (not there yet, or answered `pending`) it is released conditionally.  `sign` are the roles
    that sign this; they may reject what the conditions release, and never release what these reject.  The batch goes
    on and may end meanwhile.  A result that comes later and agrees completes a conditional release when it was the
    last; one that contradicts re-opens it, with a critical alarm, and the rejection is to be signed.  `ID.outcome` is
    how it stands; unsigned after `due` the batch is held.
    """

    verb: Literal["release"]
    conditions: Annotated[dict[Id, Condition], SOME, Field(max_length=MOST_CONDITIONS)]
    sign: Annotated[tuple[Id, ...], SOME] = ("quality",)
    text: Text | None = None
    due: Amount | None = None
