"""What the controller connects to: the buses and the brokers of a site."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import aiomqtt

from devices.clock import Clock
from devices.mqtt.login import Login, encrypted
from tilctl.cli.examining.finding import Finding
from tilctl.config import Bus
from tilctl.gateway.connection import Connection

LONGEST_BATCH = timedelta(days=42)
"""35 days of expansion, and a week for what is delivered afterwards."""


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


async def broker(check: str, url: str, login: Login, clock: Clock) -> list[Finding]:
    """Log in to a broker as the controller does, under another client's name, and leave again."""
    began = clock.monotonic()
    try:
        async with Connection(url, f"tilctl-doctor-{os.getpid()}", login=login) as connection:
            took = clock.monotonic() - began
            certificate = connection.certificate
    except (aiomqtt.MqttError, OSError) as error:
        todo = "is the broker running and is this its address? Its log says why it refuses (access list, protocol 5)"
        return [Finding("fail", check, f"{url}: {_why(error)}", todo)]
    way = Finding("ok", check, f"{url} takes us in, with MQTT 5 ({1000 * took:.1f} ms)")
    return [way, security(url, login, certificate, clock.now())]


def security(url: str, login: Login, certificate: Mapping[str, Any], now: datetime) -> Finding:
    """Judge how far a broker that took us in can be trusted to be the right one, and nobody to be listening."""
    if encrypted(url):
        ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
        text = f"{url}: the broker's certificate is good until {ends:%Y-%m-%d}"
        if ends - now < LONGEST_BATCH:
            todo = "renew it: a batch that begins now would lose its broker before its end"
            return Finding("warn", "certificates", text, todo)
        return Finding("ok", "certificates", text)
    if _on_this_machine(urlsplit(url).hostname or ""):
        return Finding("ok", "certificates", f"{url} is on this machine: none is needed")
    proves = "a password crosses it in the clear" if login.password_file else "nobody is authenticated"
    todo = "use mqtts:// with a CA (`tls: {ca: FILE}`), or run the broker on this machine"
    return Finding("warn", "certificates", f"{url} is another machine, the way to it is not encrypted: {proves}", todo)


def _on_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _why(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else str(error) or type(error).__name__
