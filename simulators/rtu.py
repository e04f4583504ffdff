"""Simulated instruments on a Modbus RTU line: raw frames on a serial port or pty, or over TCP, with faults on demand.

The instruments and the faults are those of `simulators.server`. What differs is the line: there is no transaction
number, nobody answers for a unit that is not there, and a frame with a wrong checksum was never heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import termios
import tty
from collections.abc import Callable, Mapping
from typing import Protocol

from devices.clock import Clock
from devices.modbus.rtu import crc16
from devices.modbus.serial import SerialStream
from simulators.device import SimDevice
from simulators.listening import Door
from simulators.peer import Peer
from simulators.server import ModbusServer

SILENCE_S = 0.05
"""A pause that ends a frame whose length its function code does not tell, or the rest of a broken one. Longer than the
3.5 characters of the standard, since a pty or a USB adapter makes pauses of its own."""
LONGEST = 256


class RtuServer(ModbusServer):
    """Serve `units` (unit id -> instrument) on one line; `faults[unit]` makes a unit misbehave.

    Over TCP it is a gateway that passes bytes on: every client hears what any unit says, also what another asked for.
    On a serial port `half_open` and `refuses` both mean that nothing gets through, and `cut` has no meaning.
    """

    def __init__(self, units: Mapping[int, SimDevice], clock: Clock) -> None:
        super().__init__(units, clock)
        self.noise = 0
        """Frames with a wrong checksum, or broken off."""
        self._ports: list[_Port] = []
        self._line: _Behind | None = None
        self._door = Door(lambda: Gateway(self, clock))

    def gateway(self) -> Gateway:
        """Return the gateway's end of a new connection, for a client in this process."""
        return Gateway(self, self._clock)

    def say(self, frame: bytes, delay: float, byte_gap: float) -> None:
        """Send a reply to every client of the gateway who is there when it comes."""
        if self._line is None:
            self._line = _Behind(self, self._clock)
        self._line.answer(frame, delay, byte_gap)

    async def start_serial(self, path: str, baud: int = 9600, format: str = "8N1") -> None:  # noqa: A002
        """Serve on a serial port; raises OSError when it cannot be opened, ValueError for a speed or format."""
        await self._serve(SerialStream(path, baud, format))

    async def start_pty(self) -> str:
        """Serve on a pseudo-terminal, for a program on this machine; return the path of its other end."""
        pty = _Pty()
        await self._serve(pty)
        return pty.path

    async def close(self) -> None:
        """Leave every line, and forget the replies that are still due."""
        late = [task for port in self._ports for task in port.late]
        for port in self._ports:
            port.close()
        self._ports.clear()
        if self._line is not None:
            late += self._line.late
            self._line.cut()
        await asyncio.gather(*late, return_exceptions=True)
        await super().close()

    async def _serve(self, stream: _Stream) -> None:
        port = _Port(self, self._clock, stream)
        await stream.open(port.heard, port.close, 0.0)
        self._ports.append(port)
        port.join(port.say, _nothing)

    def respond_rtu(self, frame: bytes) -> tuple[bytes, float, float] | None:
        """Carry out one request; return its reply, as it leaves, its delay and the gap between bytes (s), or None."""
        unit = frame[0]
        faults = self.faults.get(unit)
        if faults is None:
            self.absent += 1
            return None
        answer = self.answer(unit, frame[1:-2])
        if answer is None:
            return None
        reply, delay = answer
        body = bytes((unit % 247 + 1 if faults.wrong_unit else unit,)) + reply
        check = crc16(body)
        if faults.bad_crc:
            check = bytes(byte ^ 0xFF for byte in check)
        return faults.spoiled(frame, body + check), delay, faults.byte_gap_s


class _Framing(Peer):
    """Finds requests in what is heard."""

    def __init__(self, server: RtuServer, clock: Clock) -> None:
        super().__init__(server, clock)
        self._server = server
        self._buffer = b""
        self._silence: asyncio.TimerHandle | None = None

    def heard(self, data: bytes) -> None:
        """Answer every whole request with a right checksum; of anything else nothing is heard until a silence."""
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        if not self.listens():
            return
        self._buffer += data
        while self.joined and (size := _size(self._buffer)) and len(self._buffer) >= size:
            frame = self._buffer[:size]
            if not _sound(frame):
                break
            self._buffer = self._buffer[size:]
            self._carry_out(frame)
        if self._buffer:
            self._silence = asyncio.get_running_loop().call_later(SILENCE_S, self._silent)

    def leave(self) -> None:
        """Be gone."""
        if self._silence is not None:
            self._silence.cancel()
        super().leave()

    def _silent(self) -> None:
        frame, self._buffer, self._silence = self._buffer, b"", None
        if 4 <= len(frame) <= LONGEST and _sound(frame):
            self._carry_out(frame)
        else:
            self._server.noise += 1

    def _carry_out(self, frame: bytes) -> None:
        answer = self._server.respond_rtu(frame)
        if answer is not None:
            self.answer(*answer)


class _Behind(Peer):
    """The serial line behind a gateway: what is said there goes to all its clients."""

    def __init__(self, server: RtuServer, clock: Clock) -> None:
        super().__init__(server, clock)
        self._server = server
        self._write = self._to_all

    def _to_all(self, data: bytes) -> None:
        for peer in list(self._server.connections):
            if isinstance(peer, Gateway):
                peer.pass_on(data)


class Gateway(_Framing, asyncio.Protocol):
    """One client of a gateway that passes RTU frames on."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the gateway's clients."""
        if isinstance(transport, asyncio.Transport):
            self.join(transport.write, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave."""
        self.leave()

    def pause_writing(self) -> None:
        """Cut a client that does not read what comes from the line."""
        self.cut()

    def data_received(self, data: bytes) -> None:
        """Put on the line what a client sends."""
        self.heard(data)

    def answer(self, frame: bytes, delay: float, byte_gap: float) -> None:
        """Let the line carry a reply, which all clients hear."""
        self._server.say(frame, delay, byte_gap)

    def pass_on(self, data: bytes) -> None:
        """Send what comes from the line."""
        self._send(data)


class _Port(_Framing):
    """The units' end of a serial line."""

    def __init__(self, server: RtuServer, clock: Clock, stream: _Stream) -> None:
        super().__init__(server, clock)
        self._stream = stream

    def listens(self) -> bool:
        """Tell whether what is heard now is looked at; a serial line that was dead may live again."""
        self._buffer = b"" if self._server.half_open or self._server.refuses else self._buffer
        return not (self._server.half_open or self._server.refuses)

    def cut(self) -> None:
        """Forget what is still due: nobody hangs up on a serial line."""
        for task in self.late:
            task.cancel()

    def say(self, data: bytes) -> None:
        """Send; nobody is told that a line is gone or full."""
        with contextlib.suppress(OSError):
            self._stream.write(data)

    def close(self) -> None:
        """Leave the line."""
        self._stream.close()
        self.leave()


class _Stream(Protocol):
    async def open(self, heard: Callable[[bytes], None], ended: Callable[[], None], timeout_s: float) -> None: ...

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class _Pty:
    """The instruments' end of a pseudo-terminal; the other end stays open here too, so that clients come and go."""

    def __init__(self) -> None:
        self._file, self._other = os.openpty()
        tty.setraw(self._other, termios.TCSANOW)
        os.set_blocking(self._file, False)
        self.path = os.ttyname(self._other)
        self._heard: Callable[[bytes], None] | None = None

    async def open(self, heard: Callable[[bytes], None], ended: Callable[[], None], timeout_s: float) -> None:
        self._heard = heard
        asyncio.get_running_loop().add_reader(self._file, self._read)

    def write(self, data: bytes) -> None:
        os.write(self._file, data)

    def close(self) -> None:
        if self._heard is not None:
            self._heard = None
            asyncio.get_running_loop().remove_reader(self._file)
            os.close(self._file)
            os.close(self._other)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._file, 4096)
            if self._heard is not None:
                self._heard(data)


def _size(data: bytes) -> int:
    """Return the size (bytes) of the request that begins like this, or 0 while that is not known."""
    if len(data) < 2:
        return 0
    if data[1] in (1, 2, 3, 4, 5, 6):
        return 8
    if data[1] in (15, 16):
        return 9 + data[6] if len(data) > 6 else 0
    return 0


def _sound(frame: bytes) -> bool:
    return crc16(frame[:-2]) == frame[-2:]


def _nothing() -> None:
    """Do nothing."""
