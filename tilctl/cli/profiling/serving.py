"""`tilctl profile simulate`: one instrument as its profile says it, on a port or serial line of this machine."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from typing import Any

from devices.clock import SystemClock
from devices.profile import Profile
from simulators.parts import simulated
from simulators.rtu import RtuServer
from simulators.server import ModbusServer
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.logs import configure
from tilctl.cli.plain import one_line

UNITS = range(1, 248)  # of the protocol


def serve(profile: Profile, args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; raises CommandFailed."""
    configure(json=True)
    if "mqtt" in profile.kinds:
        text = f"{profile.id} speaks MQTT and has no registers to serve: tilctl simulate plays it for a site"
        raise CommandFailed(Exit.BAD_INPUT, text)
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


async def _serve(profile: Profile, args: argparse.Namespace) -> int:
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, ending.set)
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
