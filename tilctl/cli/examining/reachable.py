"""What the controller connects to: the buses and the brokers of a site."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import aiomqtt

from devices.clock import Clock
from tilctl.cli.examining.finding import Finding
from tilctl.config import Bus, Site
from tilctl.gateway.connection import Connection
from tilctl.gateway.mqtt import USER


async def tcp(bus: Bus, clock: Clock, *, runs: bool) -> Finding:
    """Connect to the port of a bus, and leave again; nothing is asked.

    Not beside a running controller: some instruments serve one connection, and end the elder.
    """
    check = f"bus {bus.name}"
    if runs:
        text = f"{bus.address} was not tried beside a running controller: the instrument may serve one client only"
        return Finding("warn", check, text, "its state is in /metrics and on MQTT; or end the controller and ask again")
    began = clock.monotonic()
    try:
        async with asyncio.timeout(bus.timeout):
            _, writer = await asyncio.open_connection(bus.host, bus.port)
    except (OSError, TimeoutError) as error:
        why = f"no answer within {bus.timeout:g} s" if isinstance(error, TimeoutError) else _why(error)
        todo = "check power, cable, address and port; is the gateway's Modbus TCP server on?"
        return Finding("fail", check, f"{bus.address} takes no connection: {why}", todo)
    took = clock.monotonic() - began
    writer.close()
    await writer.wait_closed()
    return Finding("ok", check, f"{bus.address} takes connections ({1000 * took:.1f} ms)")


async def broker(check: str, url: str, clock: Clock) -> Finding:
    """Log in to a broker as the controller does, under another client's name, and leave again."""
    began = clock.monotonic()
    try:
        async with Connection(url, f"tilctl-doctor-{os.getpid()}", user=USER):
            took = clock.monotonic() - began
    except (aiomqtt.MqttError, OSError) as error:
        todo = "is the broker running and is this its address? Its log says why it refuses (access list, protocol 5)"
        return Finding("fail", check, f"{url}: {_why(error)}", todo)
    return Finding("ok", check, f"{url} takes us in, with MQTT 5 ({1000 * took:.1f} ms)")


def transport_security(site: Site) -> Iterator[Finding]:
    """Look at how the way to each broker is secured: it is not, so a broker belongs on this machine."""
    urls = dict.fromkeys([site.mqtt_url, *(bus.url for bus in site.buses.values() if bus.kind == "mqtt")])
    for url in urls:
        host = urlsplit(url).hostname or ""
        if _on_this_machine(host):
            yield Finding("ok", "certificates", f"{url} is on this machine: none is needed")
        else:
            text = f"{url} is another machine, and the way to it is neither encrypted nor authenticated"
            todo = "run the broker on this machine and let it bridge by TLS, or keep that network to itself"
            yield Finding("warn", "certificates", text, todo)


def _on_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _why(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else str(error) or type(error).__name__
