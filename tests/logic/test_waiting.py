"""When time alone will make a condition true: found by halving, to the resolution of the record."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from devices.reading import Quality
from recipes.expr import Operand, compile
from tilctl.engine.waiting import _Later, seconds_until

DAY = 86400.0


class Scope:
    """Marks and tags as they are now."""

    def __init__(self, **known: float | None) -> None:
        self.values: dict[str, tuple[float | None, str]] = {
            name.replace("since_", "since(") + (")" if name.startswith("since_") else ""): (value, "s")
            for name, value in known.items()
        }

    def tag(self, name: str, value: float | None, unit: str) -> Scope:
        self.values[name] = (value, unit)
        return self

    def lookup(self, name: str) -> Operand | None:
        if name not in self.values:
            return None
        value, unit = self.values[name]
        return Operand(name, value, unit, Quality.GOOD if value is not None else Quality.BAD)


def until(text: str, scope: Scope) -> float | None:
    return seconds_until(compile(text), scope)


@given(st.floats(0.0, 40 * DAY), st.floats(0.0, 80 * DAY))
def test_a_time_since_a_mark(elapsed: float, wanted: float) -> None:
    found = until(f"since(seeded) >= {wanted!r} s", Scope(since_seeded=elapsed))
    assert found is not None
    assert found == approx(max(0.0, wanted - elapsed), abs=0.001)
    assert found + elapsed >= wanted, "never a moment too early"


@given(st.integers(1, 30), st.floats(0.0, 10.0))
def test_a_day_of_the_culture(day: int, now: float) -> None:
    found = until(f"day >= {day} d", Scope(day=now * DAY))
    assert found is not None
    assert found == approx(max(0.0, (day - now) * DAY), abs=0.001)


@given(st.floats(0.0, 5 * DAY), st.floats(0.0, 5 * DAY))
def test_the_later_or_the_earlier_of_two(first: float, second: float) -> None:
    scope = Scope(since_a=0.0, since_b=0.0)
    both = until(f"since(a) >= {first!r} s and since(b) >= {second!r} s", scope)
    either = until(f"since(a) >= {first!r} s or since(b) >= {second!r} s", scope)
    assert both == approx(max(first, second), abs=0.001)
    assert either == approx(min(first, second), abs=0.001)


def test_what_time_alone_does_not_bring() -> None:
    warm = Scope(since_a=0.0).tag("station.temperature", 20.0, "degC")
    assert until("station.temperature > 36 degC", warm) is None, "no time in it"
    assert until("since(a) >= 1 h and station.temperature > 36 degC", warm) is None, "time is not enough"
    assert until("since(a) >= 1 h or station.temperature > 36 degC", warm) == approx(3600.0, abs=0.001)
    assert until("since(b) >= 1 h", Scope(since_b=None)) is None, "the mark is not set: unknown is not false"
    assert until("since(a) >= 91 d", Scope(since_a=0.0)) is None, "beyond any culture"
    assert until("since(a) >= 1 h and since(a) <= 2 h", Scope(since_a=0.0)) is None


def test_a_condition_that_holds_already() -> None:
    assert until("day >= 1 d", Scope(day=2 * DAY)) == approx(0.0, abs=0.001)


@pytest.mark.parametrize("name", ["day", "since(a)"])
def test_later_moves_what_counts_time_and_nothing_else(name: str) -> None:
    scope = Scope(since_a=10.0, day=10.0).tag("station.temperature", 20.0, "degC")
    later = _Later(scope, 5.0)
    timed, tag = later.lookup(name), later.lookup("station.temperature")
    assert timed is not None
    assert timed.value == 15.0
    assert tag is not None
    assert tag.value == 20.0
    assert later.lookup("since(b)") is None
