"""A cascade moves one output by one step, in its order, within its range, and only for what asks for it."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from tilctl.plant.control.cascade import Cascade, Move, Output, begins, exhausted, next_move

OXYGEN = Cascade(
    "station.oxygen", "%", 40.0, 5.0, 300.0,
    (Output("station.rocking", "rpm", 6.0, 15.0, 1.0), Output("station.gas_oxygen", "%", 21.0, 40.0, 2.0)),
)  # fmt: skip
ROCKING, GAS = OXYGEN.tags


def test_it_begins_at_the_bottom_or_where_it_may_be() -> None:
    assert begins(OXYGEN, {}) == [Move(ROCKING, 6.0, "rpm"), Move(GAS, 21.0, "%")]
    assert begins(OXYGEN, {ROCKING: 10.0, GAS: 50.0}) == [Move(GAS, 40.0, "%")]
    assert next_move(OXYGEN, 0.0, {ROCKING: 10.0}) is None, "what does not stand is not moved"


def test_up_in_order_and_down_in_the_other() -> None:
    assert next_move(OXYGEN, 34.9, {ROCKING: 10.0, GAS: 21.0}) == Move(ROCKING, 11.0, "rpm")
    assert next_move(OXYGEN, 34.9, {ROCKING: 14.5, GAS: 21.0}) == Move(ROCKING, 15.0, "rpm")
    assert next_move(OXYGEN, 34.9, {ROCKING: 15.0, GAS: 39.0}) == Move(GAS, 40.0, "%")
    assert next_move(OXYGEN, 34.9, {ROCKING: 15.0, GAS: 40.0}) is None
    assert next_move(OXYGEN, 45.1, {ROCKING: 15.0, GAS: 40.0}) == Move(GAS, 38.0, "%")
    assert next_move(OXYGEN, 45.1, {ROCKING: 15.0, GAS: 21.0}) == Move(ROCKING, 14.0, "rpm")
    assert next_move(OXYGEN, 99.0, {ROCKING: 6.0, GAS: 21.0}) is None
    assert all(next_move(OXYGEN, seen, {ROCKING: 10.0, GAS: 21.0}) is None for seen in (35.0, 40.0, 45.0))


def test_it_is_exhausted_only_at_every_top_and_too_low() -> None:
    tops = {ROCKING: 15.0, GAS: 40.0}
    assert exhausted(OXYGEN, 34.0, tops)
    assert not exhausted(OXYGEN, 36.0, tops)
    assert not exhausted(OXYGEN, 34.0, tops | {ROCKING: 14.0})


@given(st.lists(st.floats(0.0, 200.0), max_size=80))
def test_no_target_ever_leaves_its_range_whatever_is_read(readings: list[float]) -> None:
    targets = {move.tag: move.value for move in begins(OXYGEN, {})}
    for reading in readings:
        move = next_move(OXYGEN, reading, targets)
        if move is None:
            continue
        output = next(each for each in OXYGEN.outputs if each.tag == move.tag)
        assert output.low <= move.value <= output.high
        assert abs(move.value - targets[move.tag]) <= output.step
        assert (move.value > targets[move.tag]) is (reading < OXYGEN.at)
        targets[move.tag] = move.value


def test_it_comes_back_from_the_record_as_it_was() -> None:
    assert Cascade.from_data(json.loads(json.dumps(OXYGEN.as_data()))) == OXYGEN
