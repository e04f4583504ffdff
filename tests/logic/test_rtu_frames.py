"""RTU frames: what is the reply to a request, what may become it, and what cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.clock import SystemClock
from devices.modbus.pdu import Ask, BadReplyError, NoReplyError
from devices.modbus.rtu import Line, RtuLink, crc16, frame, misfit

READ = Ask(7, 3, 0x0200, 2)
ASKS = {
    "registers": (READ, "07030411112222"),
    "input registers": (Ask(7, 4, 1, 1), "0704021111"),
    "coils": (Ask(7, 1, 0, 9), "070102ff01"),
    "inputs": (Ask(7, 2, 0, 8), "070201ff"),
    "coil": (Ask(7, 5, 3, 1, (1,)), "07050003ff00"),
    "register": (Ask(7, 6, 3, 1, (0x1234,)), "070600031234"),
    "write coils": (Ask(7, 15, 3, 3, (1, 0, 1)), "070f00030003"),
    "write registers": (Ask(7, 16, 3, 2, (1, 2)), "071000030002"),
}


def whole(text: str) -> bytes:
    body = bytes.fromhex(text)
    return body + crc16(body)


@pytest.mark.parametrize("name", ASKS)
def test_a_right_reply_is_taken_whole_and_at_no_byte_before_found_wrong(name: str):
    ask, reply = ASKS[name]
    data = whole(reply)
    assert [misfit(data[:size], ask, frame(ask)) for size in range(1, len(data) + 1)] == [""] * len(data)
    assert misfit(whole(f"07{ask.fc | 0x80:02x}02"), ask, frame(ask)) == ""


@pytest.mark.parametrize("name", ASKS)
def test_no_bit_of_a_reply_may_change(name: str):
    ask, reply = ASKS[name]
    data = whole(reply)
    for bit in range(8 * len(data)):
        bent = bytearray(data)
        bent[bit // 8] ^= 1 << bit % 8
        fault = misfit(bytes(bent), ask, frame(ask))
        waits = bent[1] == ask.fc | 0x80  # an exception is shorter: then its checksum is looked at
        assert fault or (waits and len(data) < 5), bit


WRONG = {
    "another address": (ASKS["register"][0], "070600041234", "names address 4 instead of 3"),
    "another value": (ASKS["register"][0], "070600031235", "confirms the value 4661 instead of 4660"),
    "coil not set": (ASKS["coil"][0], "070500030000", "confirms the value 0 instead of 65280"),
    "fewer": (ASKS["write registers"][0], "071000030001", "confirms 1 values instead of 2"),
    "another unit": (READ, "08030411112222", "unit 8 instead of 7"),
    "another function": (READ, "07040411112222", "function code 4 instead of 3"),
    "short": (READ, "0703021111", "byte count 2 instead of 4"),
    "long": (READ, "070306111122223333", "byte count 6 instead of 4"),
    "the request": (READ, "070302000002", "set local_echo"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_sound_frame_that_is_not_the_reply(name: str):
    ask, reply, text = WRONG[name]
    assert text in misfit(whole(reply), ask, frame(ask))


def test_bytes_after_a_reply_are_told_of():
    assert misfit(whole(ASKS["registers"][1]) + b"\0\0", READ, frame(READ)) == "2 bytes after the reply"


@given(st.binary(min_size=1, max_size=300))
def test_noise_is_no_reply(data: bytes):
    if data != whole(ASKS["registers"][1])[: len(data)] and len(data) >= 9:
        assert misfit(data, READ, frame(READ))


@pytest.mark.parametrize("ask", [Ask(0, 3, 0, 1), Ask(256, 3, 0, 1), Ask(1, 7, 0, 1), Ask(1, 23, 0, 1)])
def test_what_is_no_request_of_ours_is_never_built(ask: Ask):
    with pytest.raises(ValueError, match="is not one of"):
        frame(ask)


class Pieces:
    """A line that answers each request with these pieces, without a pause between them."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.closed = False

    async def open(self, heard: Callable[[bytes], None], ended: Callable[[], None], timeout_s: float) -> None:
        self.heard, self.ended = heard, ended

    def write(self, data: bytes) -> None:
        for piece in self.pieces:
            self.heard(piece)

    def close(self) -> None:
        self.closed = True


async def test_a_piece_after_the_reply_is_noticed_however_soon_it_comes():
    data, clock = whole(ASKS["registers"][1]), SystemClock()
    for pieces in ((data,), (data[:1], data[1:4], data[4:])):
        link = RtuLink(Pieces(*pieces), Line(0.0001, settle_s=0.0), clock, list)
        await link.connect(1.0)
        await link.settle(1.0)
        assert await link.exchange(READ, 1.0) == [0x1111, 0x2222]
        assert link.connected
    for pieces in ((data, b"\0"), (data + b"\0",), (data, data)):
        stream = Pieces(*pieces)
        link = RtuLink(stream, Line(0.0001, settle_s=0.0), clock, list)
        await link.connect(1.0)
        await link.settle(1.0)
        with pytest.raises(BadReplyError, match="bytes after the reply"):
            await link.exchange(READ, 1.0)
        assert stream.closed
        assert not link.connected
    clock.close()


async def test_a_line_that_goes_while_a_reply_is_awaited_ends_the_wait():
    clock, stream, lost = SystemClock(), Pieces(), list[bool]()
    link = RtuLink(stream, Line(0.0001, settle_s=0.0), clock, lambda: lost.append(True))
    await link.connect(1.0)
    await link.settle(1.0)
    asyncio.get_running_loop().call_later(0.02, stream.ended)
    with pytest.raises(NoReplyError, match="the connection was lost"):
        await link.exchange(READ, 60.0)
    assert (lost, link.lost, link.connected, stream.closed) == ([True], True, False, True)
    clock.close()
