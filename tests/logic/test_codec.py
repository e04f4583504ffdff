"""Registers and values: every type and word order goes out and comes back, and what does not fit is refused."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codec import CodecError, RegType, WordOrder, decode, encode, words_of

INTEGERS = {
    RegType.UINT16: (0, 2**16 - 1),
    RegType.INT16: (-(2**15), 2**15 - 1),
    RegType.UINT32: (0, 2**32 - 1),
    RegType.INT32: (-(2**31), 2**31 - 1),
    RegType.UINT64: (0, 2**64 - 1),
    RegType.INT64: (-(2**63), 2**63 - 1),
    RegType.BITS16: (0, 2**16 - 1),
    RegType.BITS32: (0, 2**32 - 1),
}
orders = st.sampled_from(list(WordOrder))


@given(st.data(), st.sampled_from(list(INTEGERS)), orders)
def test_integers_go_out_and_come_back(data, kind, order):
    value = data.draw(st.integers(*INTEGERS[kind]))
    words = encode(kind, value, order)
    assert len(words) == words_of(kind)
    assert all(0 <= word <= 0xFFFF for word in words)
    assert decode(kind, words, order) == value


@given(st.floats(allow_nan=False, allow_infinity=False), orders)
def test_float64_is_exact(value, order):
    assert decode(RegType.FLOAT64, encode(RegType.FLOAT64, value, order), order) == value


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), orders)
def test_float32_is_exact_for_what_it_can_hold(value, order):
    assert decode(RegType.FLOAT32, encode(RegType.FLOAT32, value, order), order) == value


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=10), orders)
def test_text_goes_out_and_comes_back(text, order):
    words = encode(RegType.STRING, text, order, length=5)
    assert len(words) == 5
    assert decode(RegType.STRING, words, order) == text


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (WordOrder.ABCD, [0xAABB, 0xCCDD]),
        (WordOrder.CDAB, [0xCCDD, 0xAABB]),
        (WordOrder.BADC, [0xBBAA, 0xDDCC]),
        (WordOrder.DCBA, [0xDDCC, 0xBBAA]),
    ],
)
def test_word_orders_are_those_of_the_books(order, words):
    assert encode(RegType.UINT32, 0xAABBCCDD, order) == words


def test_float_on_the_wire_is_ieee_754():
    assert encode(RegType.FLOAT32, 37.0) == list(struct.unpack(">2H", struct.pack(">f", 37.0)))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (RegType.UINT16, 65536),
        (RegType.UINT16, -1),
        (RegType.INT16, 40000),
        (RegType.UINT32, 2**32),
        (RegType.UINT16, 1.5),
        (RegType.FLOAT32, 1e39),
        (RegType.FLOAT32, math.nan),
        (RegType.FLOAT64, math.inf),
        (RegType.UINT16, "7"),
    ],
)
def test_what_does_not_fit_is_refused(kind, value):
    with pytest.raises(CodecError):
        encode(kind, value)


def test_text_that_is_too_long_or_not_ascii_is_refused():
    with pytest.raises(CodecError, match="longer"):
        encode(RegType.STRING, "abc", length=1)
    with pytest.raises(CodecError, match="ASCII"):
        encode(RegType.STRING, "°C", length=4)
    with pytest.raises(CodecError, match="ASCII"):
        decode(RegType.STRING, [0xFFFE])


def test_a_wrong_number_of_registers_is_refused():
    with pytest.raises(CodecError, match="takes 2"):
        decode(RegType.FLOAT32, [1])


def test_any_register_that_is_not_zero_is_true():
    assert [decode(RegType.BOOL, [word]) for word in (0, 1, 0xFF00)] == [0, 1, 1]
