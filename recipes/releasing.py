"""The conditions of a release judged: the same for the engine, for results that come late, and for dry runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from recipes.expr import INVALID, Operand, Scope, compile, explain
from recipes.release import PENDING, Condition, Outcome

Verdict = Literal["met", "pending", "not met", "unknown"]


class _NotYet:
    """A scope in which a result that was answered `pending` is not there."""

    def __init__(self, scope: Scope, names: Iterable[str]) -> None:
        self._scope = scope
        self._names = frozenset(names)

    def lookup(self, name: str) -> Operand | None:
        found = self._scope.lookup(name)
        if name in self._names and (found is None or found.value == PENDING):
            return Operand(name, None)
        return found


def verdict(condition: Condition, scope: Scope) -> Verdict:
    """Judge one condition; raises ExprError where it makes no sense.

    Invariant: pending is only what nothing but results that may be pending keeps from being known; a condition that
    is false whatever they bring is not met already.
    """
    view = _NotYet(scope, condition.pending)
    expression = compile(condition.when)
    found = expression.truth(view)
    if found is not INVALID:
        return "met" if found else "not met"
    missing = {operand.name for operand in explain(expression, view) if operand.value is None}
    return "pending" if missing and missing <= set(condition.pending) else "unknown"


def outstanding(conditions: Mapping[str, Condition], verdicts: Mapping[str, str], scope: Scope) -> list[str]:
    """Return the results for which pending conditions wait, each once."""
    found: list[str] = []
    for name, condition in conditions.items():
        if verdicts.get(name) == "pending":
            view = _NotYet(scope, condition.pending)
            found += [n for n in condition.pending if (o := view.lookup(n)) is None or o.value is None]
    return list(dict.fromkeys(found))


def outcome_of(verdicts: Iterable[Verdict]) -> Outcome:
    """Return what the conditions come to, none of which is unknown."""
    all_of_them = set(verdicts)
    if "not met" in all_of_them:
        return "rejected"
    return "conditional" if "pending" in all_of_them else "released"
