"""What the conditions of a release come to: pending is only what a result that may be pending decides."""

from __future__ import annotations

import pytest

from recipes.expr import Operand
from recipes.release import Condition
from recipes.releasing import Verdict, outcome_of, outstanding, verdict


class Scope:
    def __init__(self, **values: float | str | None) -> None:
        self._values = {name.replace("_", ".", 1): value for name, value in values.items()}

    def lookup(self, name: str) -> Operand | None:
        return Operand(name, self._values[name]) if name in self._values else None


BOTH = Condition(when="c.a == good and c.b == good", pending=("c.a", "c.b"))
ONE = Condition(when="c.n > 5 and c.a == good", pending=("c.a",))


@pytest.mark.parametrize(
    ("condition", "values", "expected"),
    [
        (BOTH, {"c_a": "good", "c_b": "good"}, "met"),
        (BOTH, {"c_a": "good", "c_b": None}, "pending"),
        (BOTH, {"c_a": "good", "c_b": "pending"}, "pending"),
        (BOTH, {"c_a": "good"}, "pending"),
        (BOTH, {"c_a": "bad", "c_b": None}, "not met"),
        (BOTH, {"c_a": "pending", "c_b": "bad"}, "not met"),
        (ONE, {"c_n": 6.0, "c_a": None}, "pending"),
        (ONE, {"c_n": 4.0, "c_a": None}, "not met"),
        (ONE, {"c_n": None, "c_a": None}, "unknown"),
        (ONE, {"c_n": None, "c_a": "good"}, "unknown"),
        (Condition(when="c.a == good"), {"c_a": None}, "unknown"),
        (Condition(when="c.a == good"), {"c_a": "pending"}, "not met"),
    ],
)
def test_a_condition(condition: Condition, values: dict[str, float | str | None], expected: Verdict) -> None:
    assert verdict(condition, Scope(**values)) == expected


def test_what_they_come_to_together() -> None:
    assert outcome_of(["met", "met"]) == "released"
    assert outcome_of(["met", "pending"]) == "conditional"
    assert outcome_of(["pending", "not met"]) == "rejected"


def test_only_what_decides_is_awaited() -> None:
    scope = Scope(c_a=None, c_b="pending")
    assert outstanding({"both": BOTH, "one": ONE}, {"both": "pending", "one": "not met"}, scope) == ["c.a", "c.b"]
    assert outstanding({"both": BOTH}, {"both": "pending"}, Scope(c_a="good", c_b=None)) == ["c.b"]
