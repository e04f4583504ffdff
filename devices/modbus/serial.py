"""Modbus RTU on a serial port (POSIX): opened for this process alone, 8 data bits, no flow control."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
from collections.abc import Callable

from devices.clock import Clock
from devices.modbus.rtu import Line, RtuLink
from devices.modbus.wire import LinkMaker

_READ_SIZE = 4096
_FORMAT = re.compile(r"8([NEO])([12])")
BAUDS = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400)  # those that every POSIX system has


def serial_links(
    clock: Clock,
    *,
    baud: int = 9600,
    format: str = "8N1",  # noqa: A002  the field's word, and the site file's
    turnaround: float = 0.0,
    local_echo: bool = False,
    settle_s: float | None = None,
) -> LinkMaker:
    """Return the maker of RTU connections to a serial port, for `ModbusBus(name, "/dev/ttyUSB0", 0, ..., link=...)`.

    `format` is data bits, parity (N, E or O) and stop bits; see `devices.modbus.rtu.Line` for the rest. Raises
    ValueError for a speed or format that RTU has not.
    """
    line = Line(char_seconds(baud, format), turnaround, local_echo, settle_s)
    return lambda path, _port, on_lost: RtuLink(SerialStream(path, baud, format), line, clock, on_lost)


def char_seconds(baud: int, form: str) -> float:
    """Return the time (s) of one character on a line; raises ValueError."""
    match = _FORMAT.fullmatch(form)
    if match is None:
        raise ValueError(f"serial format {form!r}: RTU has 8 data bits, N, E or O, and 1 or 2 stop bits, such as 8N1")
    if baud not in BAUDS:
        raise ValueError(f"{baud} baud: expected one of {', '.join(map(str, BAUDS))}")
    return (1 + 8 + (match[1] != "N") + int(match[2])) / baud


class SerialStream:
    """The bytes of a serial port (`devices.modbus.rtu.Stream`)."""

    def __init__(self, path: str, baud: int, form: str) -> None:
        """Describe the port; nothing is opened yet. Raises ValueError."""
        char_seconds(baud, form)
        self._path, self._baud, self._form = path, baud, form
        self._file: int | None = None
        self._heard: Callable[[bytes], None] | None = None
        self._ended: Callable[[], None] | None = None

    async def open(self, heard: Callable[[bytes], None], ended: Callable[[], None], timeout_s: float) -> None:
        """Open and set up the port; raises OSError that says what is wrong with it."""
        try:
            self._file = _open(self._path, self._baud, self._form)
        except FileNotFoundError:
            raise OSError("there is no such port; is the adapter plugged in, and its name right?") from None
        except PermissionError:
            raise OSError("no permission; the user must belong to the group of the port (often dialout)") from None
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EWOULDBLOCK):
                raise OSError("the port is in use, by another program or another bus") from None
            raise
        self._heard, self._ended = heard, ended
        asyncio.get_running_loop().add_reader(self._file, self._read)

    def write(self, data: bytes) -> None:
        """Send all of it; raises OSError."""
        if self._file is None:
            raise OSError("the port is closed")
        sent = os.write(self._file, data)
        if sent != len(data):
            raise OSError(f"the port took {sent} of {len(data)} bytes")

    def close(self) -> None:
        """Close at once; what was not sent yet is thrown away."""
        self._heard = self._ended = None
        file, self._file = self._file, None
        if file is not None:
            asyncio.get_running_loop().remove_reader(file)
            _close(file)

    def _read(self) -> None:
        if self._file is None:
            return
        try:
            data = os.read(self._file, _READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # an adapter that was pulled out
        if data:
            if self._heard is not None:
                self._heard(data)
            return
        ended = self._ended
        self.close()
        if ended is not None:
            ended()


def _open(path: str, baud: int, form: str) -> int:
    """Open a port for this process alone and set it up; raises OSError."""
    try:
        import fcntl  # noqa: PLC0415  not on every system
        import termios  # noqa: PLC0415
    except ImportError as error:
        raise OSError("serial ports need a POSIX system; use a TCP gateway") from error
    file = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # Invariant: one process speaks on a line; two masters would take each other's replies.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.ioctl(file, termios.TIOCEXCL)
        speed: int = getattr(termios, f"B{baud}")
        flags = termios.CS8 | termios.CREAD | termios.CLOCAL  # without HUPCL: closing does not pull the modem lines
        flags |= {"N": 0, "E": termios.PARENB, "O": termios.PARENB | termios.PARODD}[form[1]]
        flags |= termios.CSTOPB if form[2] == "2" else 0
        control = termios.tcgetattr(file)[6]
        control[termios.VMIN], control[termios.VTIME] = 1, 0
        checks = 0 if form[1] == "N" else termios.INPCK
        termios.tcsetattr(file, termios.TCSANOW, [checks, 0, flags, 0, speed, speed, control])
        termios.tcflush(file, termios.TCIOFLUSH)
    except termios.error as error:
        os.close(file)
        raise OSError(f"it is no serial port ({error.args[-1]})") from error
    except OSError as error:
        os.close(file)
        if error.errno == errno.ENOTTY:
            raise OSError("it is no serial port") from error
        raise
    return file


def _close(file: int) -> None:
    import fcntl  # noqa: PLC0415
    import termios  # noqa: PLC0415

    with contextlib.suppress(OSError, termios.error):  # it may have been pulled out
        termios.tcflush(file, termios.TCIOFLUSH)
    with contextlib.suppress(OSError):
        fcntl.ioctl(file, termios.TIOCNXCL)
    os.close(file)
