"""Modbus RTU: frames without a number of their own, on a serial line or through a gateway that passes them on.

Nothing in a frame says to which request it is the reply. So a wire on which a reply failed to come, or did not fit, is
given up: it is opened anew, listened to until it has been silent for longer than any unit takes, and what came
meanwhile is thrown away. Only then is it asked again. The same is done at every opening, since nobody knows what a
process that died has asked. The bus counts each opening, so instruments are checked again before they are believed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from devices.clock import Clock
from devices.modbus.pdu import (
    Ask,
    BadReplyError,
    BusError,
    Deliver,
    NoReplyError,
    NotSentError,
    contradiction,
    decode,
    encode,
    nobody,
    reply_size,
)

LONGEST = 256
"""Bytes of the longest frame, by the standard."""
GAP_CHARS = 3.5
GAP_MIN_S = 0.00175
_NOISY = 10  # a line that is not silent within so many times the silence asked for is not used


class Stream(Protocol):
    """Bytes to and from the units of a line."""

    async def open(self, heard: Callable[[bytes], None], ended: Callable[[], None], timeout_s: float) -> None:
        """Open once; `ended` is called when the other side goes. Raises OSError or TimeoutError."""
        ...

    def write(self, data: bytes) -> None:
        """Send; raises OSError."""
        ...

    def close(self) -> None:
        """Close at once; nothing is heard after it."""
        ...


@dataclass(frozen=True, slots=True)
class Line:
    """The manners of a line.

    `char_s`: s for one character. `turnaround`: least silence (s) between frames, where the standard's 3.5 characters
    are too short. `local_echo`: the adapter hears what it sends. `settle_s`: the longest time (s) that any unit, or a
    gateway's queue, takes for a reply; None for the bus's time-out.
    """

    char_s: float
    turnaround: float = 0.0
    local_echo: bool = False
    settle_s: float | None = None

    @property
    def gap_s(self) -> float:
        """Silence (s) between the end of a frame and the next request."""
        return max(GAP_CHARS * self.char_s, GAP_MIN_S, self.turnaround)


class RtuLink:
    """One opening of a line; used by one task at a time, made anew after every failure. `lost`: the peer went."""

    def __init__(self, stream: Stream, line: Line, clock: Clock, on_lost: Callable[[], None]) -> None:
        """Prepare; `on_lost` is called when the line goes or speaks unasked."""
        self.connected = False
        self.lost = False
        self._stream = stream
        self._line = line
        self._clock = clock
        self._on_lost = on_lost
        self.free_at = 0.0
        """When the silence between frames is over (monotonic s); whoever asks has waited for it."""
        self._heard_at: float | None = None  # while the line settles: when it last spoke
        self._exchange: _Exchange | None = None

    async def connect(self, timeout_s: float) -> None:
        """Open the line, which is not to be used before it has settled; raises OSError or TimeoutError."""
        self._heard_at = self._clock.monotonic()
        await self._stream.open(self._heard, self._ended, timeout_s)
        if self.lost:
            raise OSError("the line went away as soon as it was opened")
        self.connected = True

    async def settle(self, timeout_s: float) -> None:
        """Wait until the line is silent; raises OSError."""
        settle = self._line.settle_s if self._line.settle_s is not None else timeout_s
        quiet = max(settle, self._line.gap_s) + LONGEST * self._line.char_s
        self._heard_at = began = self._clock.monotonic()
        while (until := self._heard_at + quiet) > self._clock.monotonic():
            if until > began + _NOISY * quiet:
                raise OSError("the line is never silent: noise, a wrong speed or format, or another master on it")
            await self._clock.sleep_until(until)
            if not self.connected:
                raise OSError("the line went away while it was listened to")
        self._heard_at = None

    def at_once(self, ask: Ask) -> list[int] | None:
        """Return None: every reply has to be awaited."""
        return None

    async def exchange(self, ask: Ask, timeout_s: float, deliver: Deliver = nobody) -> list[int]:
        """Send one request, at most once, and return the registers (coils as 0 and 1) of its checked reply.

        `timeout_s` bounds the unit; the frames' own time on the line comes on top. Raises NotSentError; NoReplyError
        or BadReplyError (then the line has been given up); ExceptionReplyError.
        """
        request = frame(ask)
        if not self.connected:
            raise NotSentError("not connected")
        exchange = self._exchange = _Exchange(ask, request, self._line.local_echo)
        try:
            async with asyncio.timeout(timeout_s + self._line.char_s * (len(request) + exchange.longest)):
                self._stream.write(request)
                pdu = await exchange.reply
            if exchange.surplus:  # it came before the reply was looked at: what is the reply, nobody knows
                raise BadReplyError(f"{exchange.surplus} bytes after the reply")
        except TimeoutError:
            self.drop()
            raise NoReplyError(f"no reply within {timeout_s:g} s{exchange.rest}") from None
        except OSError as error:
            self.drop()
            raise NoReplyError(f"the request may not have gone out whole: {error}") from error
        except (BusError, asyncio.CancelledError):
            self.drop()
            raise
        finally:
            self._exchange = None
        self.free_at = self._clock.monotonic() + self._line.gap_s
        return decode(ask, pdu)

    def drop(self) -> None:
        """Give the line up at once; what may still come on it is lost, on purpose."""
        self.connected = False
        self._stream.close()

    def _heard(self, data: bytes) -> None:
        if self._heard_at is not None:
            self._heard_at = self._clock.monotonic()
        elif self._exchange is not None:
            self._exchange.take(data)
        elif self.connected:  # unasked: a late reply, noise or another master
            self.drop()
            self._on_lost()

    def _ended(self) -> None:
        self.lost = True
        if self.connected:
            self.drop()
            if self._exchange is not None:
                self._exchange.fail(NoReplyError("the connection was lost while the reply was awaited"))
            self._on_lost()


class _Exchange:
    """What is heard after one request, until it is its reply or cannot be."""

    def __init__(self, ask: Ask, request: bytes, local_echo: bool) -> None:
        self.reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.longest = reply_size(ask, ask.fc) + 3  # unit and checksum
        self.surplus = 0
        self._ask = ask
        self._request = request
        self._echo = request if local_echo else b""
        self._data = b""

    @property
    def rest(self) -> str:
        """What came of a reply that is not whole, for a person."""
        return f" (only {len(self._data)} bytes of it)" if self._data else ""

    def fail(self, error: BusError) -> None:
        """End the exchange, unless it has its reply."""
        if not self.reply.done():
            self.reply.set_exception(error)

    def take(self, data: bytes) -> None:
        """Look at what is heard now together with what came before."""
        if self.reply.done():
            self.surplus += len(data)
            return
        self._data += data
        if self._echo:
            size = min(len(self._echo), len(self._data))
            if self._data[:size] != self._echo[:size]:
                self.fail(BadReplyError("the line does not give back what was sent (local_echo): somebody else speaks"))
                return
            self._data, self._echo = self._data[size:], self._echo[size:]
            if not self._data:
                return
        if fault := misfit(self._data, self._ask, self._request):
            self.fail(BadReplyError(fault))
        elif len(self._data) >= 2 and len(self._data) == reply_size(self._ask, self._data[1]) + 3:
            self.reply.set_result(self._data[1:-2])


def frame(ask: Ask) -> bytes:
    """Return a request as it goes over the line; raises ValueError for unit 0 (nobody answers) or above 247."""
    if not 1 <= ask.unit <= 255:
        raise ValueError(f"unit {ask.unit} is not one of 1 to 255; 0 speaks to all and nobody answers")
    body = bytes((ask.unit,)) + encode(ask)
    return body + crc16(body)


def misfit(data: bytes, ask: Ask, request: bytes) -> str:
    """Tell why received bytes cannot be the reply to `ask`, sent as `request`; "" when they are, or may become so."""
    if data[0] != ask.unit:
        return f"unit {data[0]} instead of {ask.unit}, or noise"
    if len(data) < 2:
        return ""
    fc = data[1]
    if fc not in (ask.fc, ask.fc | 0x80):
        return f"function code {fc} instead of {ask.fc}"
    size = reply_size(ask, fc) + 3
    if fc <= 4 and len(data) > 2 and data[2] != size - 5:
        if data[: len(request)] != request[: len(data)]:
            return f"byte count {data[2]} instead of {size - 5}: short or with more than was asked"
        return "" if len(data) < len(request) else "the request itself came back: set local_echo for this adapter"
    if len(data) < size:
        return ""
    if crc16(data[: size - 2]) != data[size - 2 : size]:
        return "the checksum (CRC) is wrong: noise, a wrong speed or format, or two units with one number"
    if len(data) > size:
        return f"{len(data) - size} bytes after the reply"
    return contradiction(ask, data[1:-2])


def _table() -> tuple[int, ...]:
    entries: list[int] = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
        entries.append(value)
    return tuple(entries)


_CRC = _table()


def crc16(data: bytes) -> bytes:
    """Return the checksum of a frame as its two bytes on the line, low byte first."""
    value = 0xFFFF
    for byte in data:
        value = value >> 8 ^ _CRC[(value ^ byte) & 0xFF]
    return value.to_bytes(2, "little")
