"""What a bus needs of a connection, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from devices.modbus.pdu import Ask, Deliver, nobody


class Wire(Protocol):
    """One connection to the units of a bus, as `Link` is over TCP; used by one task at a time."""

    @property
    def connected(self) -> bool:
        """Whether the connection stands, as far as this side knows."""
        ...

    @property
    def lost(self) -> bool:
        """Whether the peer has ended it."""
        ...

    @property
    def free_at(self) -> float:
        """From when on (monotonic s) a request may be sent; 0 where no silence is asked for."""
        ...

    async def connect(self, timeout_s: float) -> None:
        """Connect once; no unit is waited for longer than `timeout_s`. Raises OSError or TimeoutError."""
        ...

    async def settle(self, timeout_s: float) -> None:
        """Wait, after connecting, until nothing of the past can come any more; raises OSError."""
        ...

    def at_once(self, ask: Ask) -> list[int] | None:
        """Return the checked reply where none has to be awaited; None: nothing was sent, use `exchange`."""
        ...

    async def exchange(self, ask: Ask, timeout_s: float, deliver: Deliver = nobody) -> list[int]:
        """Send one request, at most once, and return its checked reply; raises what `Link.exchange` raises.

        A wire on which a reply has a number of its own may give it to `deliver` before it returns.
        """
        ...

    def drop(self) -> None:
        """End the connection at once."""
        ...


LinkMaker = Callable[[str, int, Callable[[], None]], Wire]
"""Makes a connection to a host and port (a serial port is a path and 0); the callback is called when the peer ends it.

`Link` is Modbus TCP; `serial.serial_links` and `gateway.rtu_tcp_links` return those of RTU.
"""
