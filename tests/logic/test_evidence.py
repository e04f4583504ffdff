"""Closing an intent: what two looks at pump and scales prove, and what they do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pytest import approx

from tilctl.plant.evidence import (
    CLOSES_ML,
    CLOSES_SHARE,
    TOTAL_ROLLS_AT,
    UNPROVABLE_ML,
    WATCH_ML,
    WATCH_SHARE,
    Closure,
    Evidence,
    close_evidence,
    untouched,
)

DENSITY = 1.005
BEFORE = Evidence(1000.0, 2030.0, 120.0, 7, 1)
VOLUMES = st.floats(0.0, 6000.0)
NOISE = st.floats(-1.2, 1.2)  # g, of a mean of four readings
DENSITIES = st.floats(0.9, 1.2)


def after(moved: float, counted: float, density: float = DENSITY, noise: tuple[float, float] = (0.0, 0.0)) -> Evidence:
    """What the instruments show after `moved` mL of a liquid, of which the pump counted `counted` mL."""
    return Evidence(1000.0 + counted, 2030.0 - moved * density + noise[0], 120.0 + moved * density + noise[1], 8, 1)


@given(VOLUMES, st.floats(0.98, 1.0), st.tuples(NOISE, NOISE), DENSITIES)
def test_an_honest_dose_closes_to_what_went_over(
    counted: float, slip: float, noise: tuple[float, float], density: float
) -> None:
    moved = counted * slip
    found = close_evidence(BEFORE, after(moved, counted, density, noise), density)
    assert found.closes, found.why
    assert found.delivered_ml is not None
    assert found.delivered_ml == approx(moved, abs=1.2 / 0.9)
    assert found.delivered_ml >= 0.0
    assert found.counted_ml == approx(counted, abs=1e-6)


@given(VOLUMES, VOLUMES)
def test_what_left_and_what_came_must_agree(left: float, came: float) -> None:
    seen = replace(after(left, left), destination_g=120.0 + came * DENSITY)
    found = close_evidence(BEFORE, seen, DENSITY)
    allowed = max(CLOSES_ML, CLOSES_SHARE * max(left, came))
    assume(abs(abs(left - came) - allowed) > 1e-6)
    if abs(left - came) > allowed:
        assert not found.closes
        assert found.delivered_ml is None
        assert "differ by more than" in found.why
    elif abs(left - (left + came) / 2) < max(WATCH_ML, WATCH_SHARE * left):
        assert found.closes, found.why


@given(st.floats(10.0, 6000.0), st.floats(0.0, 6000.0))
def test_a_pump_that_counted_something_else_closes_nothing_but_a_dry_end(moved: float, counted: float) -> None:
    apart = max(WATCH_ML, WATCH_SHARE * counted)
    assume(abs(abs(counted - moved) - apart) > 1e-6)
    found = close_evidence(BEFORE, after(moved, counted), DENSITY)
    assert found.closes == (abs(counted - moved) < apart)
    dry = close_evidence(BEFORE, after(moved, counted), DENSITY, may_run_dry=True)
    assert dry.closes == (counted > moved or abs(counted - moved) < apart)
    if dry.closes:
        assert dry.delivered_ml == approx(moved, abs=1e-6), "what the scales say is the truth"


@given(st.floats(20.0, 6000.0), st.booleans())
def test_a_source_that_gave_nothing_has_not_run_dry(ordered: float, counts: bool) -> None:
    """Scales that stand still show nothing; a pump that turned for it all the same goes to a person."""
    begun, ended = (BEFORE, after(0.0, ordered)) if counts else (uncounted(BEFORE), uncounted(after(0.0, 0.0), ordered))
    found = close_evidence(begun, ended, DENSITY, may_run_dry=True, ordered=ordered)
    assert not found.closes
    assert "the scales say 0.0 mL" in found.why


def uncounted(evidence: Evidence, turned: float | None = None) -> Evidence:
    """Return it as of a pump without a totaliser, that turned for so many mL."""
    number = None if evidence.sequence is None else evidence.sequence + (turned is not None)
    idle = replace(evidence, counter=False, total_ml=None, boots=None, running=False)
    return replace(idle, sequence=number, turned_ml=turned)


@given(st.floats(0.0, 4000.0), st.floats(0.0, 1.0))
def test_a_totaliser_that_rolls_over_goes_on_counting(counted: float, share: float) -> None:
    start = TOTAL_ROLLS_AT - counted * share
    before = replace(BEFORE, total_ml=start)
    end = (start + counted) % TOTAL_ROLLS_AT
    found = close_evidence(before, replace(after(counted, 0.0), total_ml=end), DENSITY)
    assert found.counted_ml == approx(counted, abs=1e-3) or (
        counted == approx(TOTAL_ROLLS_AT) and found.counted_ml == approx(0.0)
    )
    assert found.closes, found.why


LOST = [
    ({"boots": 2}, "the pump was restarted: boot 1, now 2"),
    ({"serial": "B7"}, "the pump was replaced: serial number A1, now B7"),
    ({"total_ml": 0.0}, "the totaliser was reset"),
]


@pytest.mark.parametrize(("change", "why"), LOST)
@given(st.floats(0.0, 1000.0), st.floats(5.0, 1000.0))
def test_a_lost_count_closes_by_mass_alone_where_the_pump_stands_still(
    change: dict[str, Any], why: str, moved: float, ordered: float
) -> None:
    before = replace(BEFORE, serial="A1")
    seen = replace(after(moved, moved), serial="A1", running=False) if "serial" not in change else after(moved, moved)
    seen = replace(seen, running=False, **change)
    found = close_evidence(before, seen, DENSITY, ordered=ordered)
    assert found.closes, found.why
    assert found.counted_ml is None
    assert found.delivered_ml == approx(moved, abs=1e-6)
    assert why in found.exception
    assert "by mass alone" in found.exception


@pytest.mark.parametrize(("change", "why"), LOST)
@pytest.mark.parametrize(
    ("also", "words"),
    [
        ({"running": None}, "totaliser"),  # whether it turns is not known
        ({"running": True}, "still turns"),
        ({"flowing": True}, "still flows"),
        ({"source_g": None}, "source mass"),
        ({"destination_g": None}, "destination mass"),
        ({"destination_g": 120.0}, "differ by more than"),
    ],
)
def test_a_lost_count_and_anything_else_is_in_doubt(
    change: dict[str, Any], why: str, also: dict[str, Any], words: str
) -> None:
    seen = replace(after(50.0, 50.0), **{"running": False, "serial": "A1"} | change | also)
    found = close_evidence(replace(BEFORE, serial="A1"), seen, DENSITY, ordered=50.0)
    assert (found.closes, found.delivered_ml) == (False, None)
    assert words in found.why


def test_a_lost_count_of_a_small_dose_is_in_doubt() -> None:
    seen = replace(after(4.0, 4.0), boots=2, running=False)
    found = close_evidence(BEFORE, seen, DENSITY, ordered=4.9)
    assert not found.closes
    assert "too little for the scales" in found.why
    assert close_evidence(BEFORE, seen, DENSITY, ordered=UNPROVABLE_ML).closes


@pytest.mark.parametrize("also", [{"running": True}, {"flowing": True}])
def test_while_it_turns_or_flows_nothing_closes(also: dict[str, Any]) -> None:
    assert close_evidence(BEFORE, after(50.0, 50.0), DENSITY).closes
    assert not close_evidence(BEFORE, replace(after(50.0, 50.0), **also), DENSITY).closes


def test_a_pump_that_was_not_touched_proves_it() -> None:
    still = replace(BEFORE, running=False, source_g=0.0)
    assert untouched(BEFORE, still)
    for change in (
        {"running": None},
        {"running": True},
        {"boots": 2},
        {"serial": "B"},
        {"sequence": 8},
        {"total_ml": 1},
    ):
        assert not untouched(BEFORE, replace(still, **change))
    assert not untouched(replace(BEFORE, sequence=None), replace(still, sequence=None)), "unknown is not the same"


def test_evidence_of_an_older_record_is_read() -> None:
    old = {"total_ml": 1000.0, "source_g": 2030.0, "destination_g": 120.0, "sequence": 7, "boots": 1}
    assert Evidence(**old) == BEFORE


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ({"total_ml": None}, "totaliser"),
        ({"source_g": None}, "source mass"),
        ({"destination_g": None}, "destination mass"),
        ({"source_g": None, "total_ml": None}, "source mass and totaliser"),
    ],
)
@pytest.mark.parametrize("side", ["before", "after"])
def test_what_is_not_known_closes_nothing(missing: dict[str, None], words: str, side: str) -> None:
    before, seen = BEFORE, after(50.0, 50.0)
    if side == "before":
        before = replace(before, **missing)
    else:
        seen = replace(seen, **missing)
    found: Closure = close_evidence(before, seen, DENSITY)
    assert (found.closes, found.delivered_ml) == (False, None)
    assert words in found.why


def test_nothing_moved_is_nothing_and_never_less() -> None:
    found = close_evidence(BEFORE, after(0.0, 0.0, noise=(1.0, -1.0)), DENSITY)
    assert found.closes
    assert found.delivered_ml == 0.0


def test_evidence_goes_on_record_and_comes_back() -> None:
    assert Evidence(**BEFORE.as_data()) == BEFORE


@given(st.floats(0.0, 6.0), st.floats(20.0, 1000.0), st.tuples(NOISE, NOISE))
def test_what_a_line_keeps_is_neither_lost_nor_delivered(kept: float, came: float, noise: tuple[float, float]) -> None:
    """Source and destination differ by what stayed in between; beyond what the line holds it is missing."""
    left = came + kept
    seen = replace(after(left, left, noise=noise), destination_g=120.0 + came * DENSITY + noise[1])
    found = close_evidence(BEFORE, seen, DENSITY, line=(0.0, 6.0))
    assert found.closes, found.why
    assert found.delivered_ml == approx(came, abs=1.3)
    assert found.delivered_ml is not None
    assert found.delivered_ml + found.line_ml == approx(left, abs=1.3)
    assert 0.0 <= found.line_ml <= 6.0
    missing = close_evidence(BEFORE, replace(seen, destination_g=80.0 + came * DENSITY), DENSITY, line=(0.0, 6.0))
    assert not missing.closes
    assert close_evidence(BEFORE, seen, DENSITY).line_ml == 0.0
