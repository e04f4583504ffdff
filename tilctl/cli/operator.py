"""`tilctl operator`: the simulated operator in a process of its own, at real pace.

It answers the prompts of a site over MQTT and does at the bench of `tilctl simulate` what a person would do. It keeps
nothing: started again it gives the same answers, for they follow from the seed.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import signal
from typing import Any

import structlog

from simulators.facility import at_cell
from simulators.habits import Staff
from simulators.operator import Answer, Operator
from simulators.remote import BenchClient
from tilctl.cli import station
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.logs import configure
from tilctl.cli.operator_runner import OperatorRunner


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tilctl operator`."""
    parser.add_argument(
        "--bench",
        type=_host_port,
        required=True,
        metavar="HOST:PORT",
        help="the bench of the simulated suite, as `tilctl simulate` prints it when it is ready",
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="what the operator finds and how long it takes (default: 1)"
    )
    parser.add_argument(
        "--haste",
        type=_haste,
        default=1.0,
        metavar="X",
        help="all delays times X: 0.01 makes an hour 36 s (default: 1)",
    )
    parser.add_argument("--console", action="store_true", help="log for a person instead of JSON lines")
    station.arguments(parser, "operator")


def run(args: argparse.Namespace) -> int:
    """Answer until SIGTERM or SIGINT; raises CommandFailed, also when the bench goes away."""
    target = station.target_of(args)
    try:
        bench = BenchClient(*args.bench)
    except OSError as error:
        text = (
            f"no bench at {args.bench[0]}:{args.bench[1]}: {error}; `tilctl simulate` prints its port when it is ready"
        )
        raise CommandFailed(Exit.UNAVAILABLE, text) from error
    configure(json=not args.console)
    try:
        why = asyncio.run(_work(args, target, bench))
    finally:
        bench.close()
    if why not in ("SIGINT", "SIGTERM"):
        raise CommandFailed(Exit.UNAVAILABLE, why)
    return Exit.INTERRUPTED if why == "SIGINT" else Exit.OK


async def _work(args: argparse.Namespace, target: station.Target, bench: BenchClient) -> str:
    """Answer until there is an end to it; return why: the name of a signal, or what happened to the bench."""
    log = structlog.get_logger("operator")
    loop = asyncio.get_running_loop()
    where = "{}:{}".format(*args.bench)
    ends: asyncio.Queue[str] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ends.put_nowait, number.name)
    staff = Staff(lambda unit: Operator(args.seed, at_cell(bench.call, unit), args.haste).answer)

    def answer(prompt: dict[str, Any]) -> Answer:
        try:
            found: Answer = staff.answer(prompt)
        except OSError as error:
            loop.call_soon_threadsafe(ends.put_nowait, f"the bench at {where} is gone: {error}")
            raise
        log.info("prompt", id=prompt["id"], path=prompt.get("path"), does=found.text, answers_in_s=found.delay_s)
        return found

    runner = OperatorRunner(
        target.url,
        target.topics,
        answer,
        name=target.client,
        login=target.login,
        scheduled=False,
        on_trouble=lambda text: log.warning("trouble", text=text),
    )
    runner.start()
    try:
        log.info("ready", broker=target.url, topics=target.topics.prefix, bench=where)
        why = await ends.get()
    finally:
        await asyncio.to_thread(runner.close)
    log.info("ended", why=why, answered=runner.answered)
    return why


def _host_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not 0 < int(port) < 65536:
        raise ValueError(text)
    return host.strip("[]"), int(port)


def _haste(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and 0 <= value <= 100):
        raise ValueError(text)
    return value
