"""Telling the service manager how we are: the datagrams of sd_notify(3), without a library.

Outside of a service manager every call does nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notify:
    """The socket that `NOTIFY_SOCKET` names; `watchdog_s` is the time in which it wants to hear of us, or None."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s: float | None = None
        usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        if usec.isdecimal() and int(usec) > 0 and pid in ("", str(os.getpid())):
            self.watchdog_s = int(usec) / 1e6

    def send(self, *lines: str) -> bool:
        """Send assignments such as `READY=1`; returns whether they went out.  Never raises, never waits."""
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.connect(self._address)
                sender.send("\n".join(line.replace("\n", " ") for line in lines).encode())
        except OSError:
            return False
        return True
