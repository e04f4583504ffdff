"""Where a site's instruments are: buses that are one wire each and fail in time, units and topics that can be asked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from devices.quantity import show
from tilctl.config.references import Findings, Where
from tilctl.config.schema import BusEntry, DeviceEntry, MqttBusEntry, SerialBusEntry, TcpBusEntry

LONGEST_TIMEOUT_S = 4.0
"""s for one request: a stop to a neighbour waits behind the request that is on the wire, and is given up after 5 s
(`tilctl.plant.outputs`).  The longest reply at 1200 baud takes 2.4 s (engineering default)."""

LONGEST_TURNAROUND_S = 1.0
"""s of silence after a reply: each stop waits for it too; lines need milliseconds (engineering default)."""

FIRST_UNIT, LAST_UNIT = 1, 247
"""Unit ids of Modbus that one instrument can have: 0 speaks to all and nobody answers, 248 and above are reserved."""

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})
_PREFIX = re.compile(r"[^\s\x00-\x1f\x7f+#{}$/][^\x00-\x1f\x7f+#{}]*(?<!/)")


def check_timing(where: Where, timeout: float, turnaround: float, findings: Findings) -> None:
    """Report a bus on which a stop would come too late (s)."""
    if timeout > LONGEST_TIMEOUT_S:
        text = f"a timeout of {show(timeout, 's')} is more than {show(LONGEST_TIMEOUT_S, 's')}: a stop of another "
        text += "instrument waits that long behind one that hangs"
        findings.add((*where, "timeout"), "site-slow-bus", text, "write 1 s, or twice what its slowest reply takes")
    if not 0 <= turnaround <= LONGEST_TURNAROUND_S:
        text = f"a turnaround of {show(turnaround, 's')} is not between 0 s and {show(LONGEST_TURNAROUND_S, 's')}"
        findings.add((*where, "turnaround"), "site-slow-bus", f"{text}: each stop waits for it", "write 5 ms or less")


def check_wires(buses: Mapping[str, BusEntry], findings: Findings) -> None:
    """Invariant: a wire has one bus, whose one queue lets nobody talk into a request."""
    taken: dict[tuple[str, int], str] = {}
    for name, bus in buses.items():
        match bus:
            case MqttBusEntry():
                continue
            case SerialBusEntry():
                address, key, shown = (os.path.realpath(bus.path), 0), "path", bus.path
            case TcpBusEntry():
                host = bus.host.casefold().rstrip(".")
                address, key = ("localhost" if host in _LOCAL else host, bus.port), "port"
                shown = f"{bus.host}:{bus.port}"
        other = taken.setdefault(address, name)
        if other != name:
            hint = f"put its instruments on {other}; a wire has one speed, one format and one queue"
            findings.add(("buses", name, key), "site-same-wire", f"{other} is at {shown} already", hint)


def check_address(where: Where, device: DeviceEntry, findings: Findings) -> None:
    """Report a unit that nobody answers for, and a prefix that is not the beginning of topics of one instrument."""
    if device.unit is not None and not FIRST_UNIT <= device.unit <= LAST_UNIT:
        text = f"unit {device.unit} is not between {FIRST_UNIT} and {LAST_UNIT}"
        text += ": 0 speaks to all and nobody answers" if device.unit == 0 else ": it is reserved"
        hint = "give the instrument a unit id of its own; one alone behind a Modbus TCP port answers to 1 as a rule"
        findings.add((*where, "unit"), "site-address", text, hint)
    if device.prefix is not None and not _PREFIX.fullmatch(device.prefix):
        text = f"{device.prefix!r} is not the beginning of the topics of one instrument"
        hint = "no + # { } or control character, no space, $ or / at its beginning, no / at its end: lab/plug-1"
        findings.add((*where, "prefix"), "site-address", text, hint)


def check_host(host: str, where: Where, findings: Findings) -> None:
    """Report a host that no network knows how to ask for."""
    try:
        known = bool(host.strip()) and bool(host.encode("idna"))
    except UnicodeError:
        known = False
    if not known:
        findings.add(where, "site-bus-host", f"{host!r} is no name or address of a host", "such as 192.168.10.5")
