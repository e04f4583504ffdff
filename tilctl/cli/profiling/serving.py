"""`tilctl profile simulate`: one instrument as its profile says it, on a port or serial line of this machine."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from typing import Any

from devices.clock import SystemClock
from devices.mqtt.types import MqttProfile
from devices.profile import Profile
from simulators.mqtt_models import simulated as behind_broker
from simulators.parts import simulated
from simulators.rtu import RtuServer
from simulators.server import ModbusServer
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.logs import configure
from tilctl.cli.plain import one_line

UNITS = range(1, 248)  # of the protocol
OPTIONS = ("port", "host", "unit", "rtu", "serial", "pty", "url", "prefix", "baud", "format")
DEFAULTS = {"port": 0, "host": "127.0.0.1", "unit": 1, "baud": 9600, "format": "8N1"}
JOIN_WITHIN_S = 10.0


def serve(profile: Profile, args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; raises CommandFailed."""
    configure(json=True)
    if isinstance(profile, MqttProfile):
        _only(args, f"{profile.id} speaks MQTT", ("url", "prefix"))
        return _behind_a_broker(profile, args)
    _only(args, f"{profile.id} speaks Modbus", ("port", "host", "unit", "rtu", "serial", "pty", "baud", "format"))
    if args.serial:
        _only(args, "a serial port is named", ("unit", "serial", "baud", "format"))
    elif args.pty:
        _only(args, "a pseudo-terminal has neither port nor speed", ("unit", "pty"))
    else:
        _only(args, "it is served on a port", ("port", "host", "unit", "rtu"))
    for name, default in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    if args.unit not in UNITS:
        raise CommandFailed(Exit.BAD_INPUT, f"--unit: {args.unit} is no unit id: expected 1 to 247")
    if not 0 <= args.port <= 65535:
        raise CommandFailed(Exit.BAD_INPUT, f"--port: {args.port} is no port: expected 1 to 65535, or 0 for any")
    try:
        return asyncio.run(_serve(profile, args))
    except ValueError as error:  # a speed or format that a line has not
        raise CommandFailed(Exit.BAD_INPUT, one_line(error)) from error
    except OSError as error:
        where = one_line(args.serial or f"{args.host}:{args.port}")
        text = f"cannot listen on {where}: {error.strerror or error}; is something else there? Choose another"
        raise CommandFailed(Exit.UNAVAILABLE, text) from error


def _only(args: argparse.Namespace, why: str, options: tuple[str, ...]) -> None:
    """Refuse options that would do nothing; raises CommandFailed."""
    given = [name for name in OPTIONS if getattr(args, name) not in (None, False)]
    if idle := [f"--{name}" for name in given if name not in options]:
        raise CommandFailed(Exit.BAD_INPUT, f"{', '.join(idle)} would do nothing: {why}; leave it away")


def _behind_a_broker(profile: MqttProfile, args: argparse.Namespace) -> int:
    if not args.url:
        text = f"{profile.id} speaks MQTT and has no registers: name a broker, --url mqtt://127.0.0.1:1883"
        raise CommandFailed(Exit.BAD_INPUT, text)
    try:
        return asyncio.run(_join(profile, args.url, args.prefix or profile.prefix))
    except ValueError as error:
        raise CommandFailed(Exit.BAD_INPUT, one_line(error)) from error
    except TimeoutError as error:
        raise CommandFailed(Exit.UNAVAILABLE, f"{one_line(args.url)}: no broker within {JOIN_WITHIN_S:g} s") from error


async def _join(profile: MqttProfile, url: str, prefix: str) -> int:
    ending = _told_to_end()
    clock = SystemClock()
    simulator = behind_broker(profile, url, clock, prefix)
    try:
        async with asyncio.timeout(JOIN_WITHIN_S):
            await simulator.start()
        print(json.dumps({"ready": True, "profile": profile.id, "url": url, "prefix": prefix}), flush=True)
        await ending.wait()
    finally:
        await simulator.close()
        clock.close()
    return Exit.OK


def _told_to_end() -> asyncio.Event:
    ending = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, ending.set)
    return ending


async def _serve(profile: Profile, args: argparse.Namespace) -> int:
    ending = _told_to_end()
    clock = SystemClock()
    units = {args.unit: simulated(profile)}
    on_a_line = args.rtu or args.pty or args.serial
    server = RtuServer(units, clock) if on_a_line else ModbusServer(units, clock)
    try:
        where = await _listening(server, args)
        print(json.dumps({"ready": True, "profile": profile.id, **where, "unit": args.unit}), flush=True)
        await ending.wait()
    finally:
        await server.close()
        clock.close()
    return Exit.OK


async def _listening(server: ModbusServer, args: argparse.Namespace) -> dict[str, Any]:
    """Begin to serve, and return where."""
    if isinstance(server, RtuServer) and args.serial:
        await server.start_serial(args.serial, args.baud, args.format)
        return {"serial": args.serial}
    if isinstance(server, RtuServer) and args.pty:
        return {"serial": await server.start_pty()}
    return {"host": args.host, "port": await server.start(args.host, args.port)}
