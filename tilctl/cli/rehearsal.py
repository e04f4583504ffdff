"""A whole batch of the real product on simulated instruments: one process, virtual time, real Modbus, real MQTT."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from simulators.bench import Bench
from simulators.operator import Operator
from simulators.plant import Plant
from simulators.remote import threaded
from simulators.virtual import VirtualClock
from tilctl.cli.operator_runner import OperatorRunner
from tilctl.cli.service import Service
from tilctl.cli.simulated import listening, plant_of, servers_of
from tilctl.cli.simulated_mqtt import BehindBrokers
from tilctl.config import Site, load_site
from tilctl.engine.machine import FINAL, State
from tilctl.engine.runner import Runner

UNIT = "cell1"
SITE = Path(str(files("tilctl.cli") / "demo-site.yaml"))
ENDS = (*FINAL, State.HELD)


@dataclass
class Rehearsal:
    """What a rehearsal left behind, for the summary; `wall_s` is real time from the start command to the end."""

    recipe: str
    seed: int
    service: Service
    plant: Plant
    runner: Runner
    wall_s: float
    prompts_answered: int
    trouble: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Order:
    """What is to be rehearsed; `parameters` as text with units, `mqtt_url` of a broker that is running."""

    recipe: str
    seed: int
    out: Path
    mqtt_url: str
    parameters: dict[str, str] = field(default_factory=dict[str, str])
    folders: tuple[Path, ...] = ()
    site: Path = SITE


class RehearsalFailed(Exception):
    """The rehearsal could not be carried through; the text says why."""


async def rehearse(
    order: Order, clock: VirtualClock, watch: Callable[[Service, Plant], None], finish: Callable[[Rehearsal], None]
) -> None:
    """Build the suite, let the operator start the recipe by MQTT, and run it to its end.

    `watch` is called once everything stands, `finish` while it still stands.  Raises RehearsalFailed.
    """
    site = load_site(order.site)
    plant = plant_of(site, clock, order.seed, order.folders)
    servers = servers_of(site, plant.devices, clock)
    behind = BehindBrokers(site, clock, in_memory=True)
    places = await listening(site, servers)
    trouble: list[str] = []
    ended = asyncio.Event()

    def in_trouble(text: str) -> None:  # called in the operator's thread; no record may ever come again
        trouble.append(text)
        clock.enter(ended.set)

    try:
        behind.begin()
        service = Service(_site(order, places), clock, f"boot-{order.seed}", order.folders, behind.connects)
        await service.open()
        operator = OperatorRunner(
            order.mqtt_url, service.topics, _policy(clock, plant, order.seed), on_trouble=in_trouble
        )
        try:
            operator.start()
            watch(service, plant)
            began = time.monotonic()
            runner = await _run(order, clock, service, operator, trouble, ended)
            wall = time.monotonic() - began
            finish(Rehearsal(order.recipe, order.seed, service, plant, runner, wall, operator.answered, trouble))
        finally:
            await _beside(clock, operator.close)
            await service.close()
    finally:
        await behind.close()
        await servers.close()


async def _beside(clock: VirtualClock, work: Callable[[], None]) -> None:
    """Do blocking work in a thread while the loop turns and time stands: it may be waiting for the bench."""
    with ThreadPoolExecutor(1, "beside") as pool, clock.outside("a thread ends"):
        await asyncio.get_running_loop().run_in_executor(pool, work)


def _site(order: Order, places: dict[str, str]) -> Site:
    overrides = {"mqtt.url": order.mqtt_url, "http.port": "0", "data": str(order.out.resolve() / "data")}
    return load_site(order.site, places | overrides)


def _policy(clock: VirtualClock, plant: Plant, seed: int) -> Callable[[dict[str, Any]], Any]:
    """Return the operator's policy; what it does at the bench is done on the plant's loop, at a quiet point."""
    return Operator(seed, threaded(Bench(plant), clock)).answer


async def _run(
    order: Order,
    clock: VirtualClock,
    service: Service,
    operator: OperatorRunner,
    trouble: list[str],
    ended: asyncio.Event,
) -> Runner:
    """Start by MQTT and wait for the end; a held batch, or an operator in trouble, ends the rehearsal."""
    args = {"recipe": order.recipe, "parameters": order.parameters}
    answer = operator.request(UNIT, "start", args)
    refused: list[dict[str, Any]] = []

    def answered(done: Future[dict[str, Any]]) -> None:
        if done.cancelled():  # the operator was closed
            return
        reply = {"status": "failed", "text": repr(done.exception())} if done.exception() else done.result()
        if reply["status"] != "done":
            refused.append(reply)
            clock.enter(ended.set)

    answer.add_done_callback(answered)

    def look() -> None:
        runner = service.controller.runner(UNIT)
        if trouble or (runner is not None and runner.state in ENDS):
            ended.set()

    service.controller.on_record.append(lambda _unit, _record: look())
    await ended.wait()  # an idle suite stands still: virtual time goes on when the start command has come
    runner = service.controller.runner(UNIT)
    if refused or runner is None:
        reply = refused[0] if refused else {}
        raise RehearsalFailed(f"start was {reply.get('status')}: {reply.get('code', '')} {reply.get('text', '')}")
    if trouble:
        raise RehearsalFailed("; ".join(trouble))
    return runner
