"""The gateway beside a virtual clock: real MQTT, a simulated operator, and no virtual time lost to either."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from simulators.virtual import VirtualClock, run
from tilctl.cli.operator_runner import OperatorRunner
from tilctl.commands.door import Door
from tilctl.commands.envelope import rfc3339
from tilctl.engine.port import Command, Outcome, StoredAnswer
from tilctl.gateway.broker import EmbeddedBroker
from tilctl.gateway.mqtt import MqttGateway
from tilctl.gateway.outbox import Outbox
from tilctl.gateway.projector import Projector
from tilctl.gateway.topics import Topics

TOPICS = Topics("til/v1/test/virtual")
PROMPTS = 12
DAY = 86_400.0


@dataclass
class Asking:
    """A batch that asks a person every day; an answer takes effect when it says."""

    clock: VirtualClock
    started: asyncio.Event = field(default_factory=asyncio.Event)
    answers: asyncio.Queue[Command] = field(default_factory=asyncio.Queue[Command])
    asked: dict[str, Any] | None = None
    times: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def units(self) -> list[str]:
        return ["cell1"]

    def status(self, unit: str) -> dict[str, Any]:
        return {"state": "running", "state_version": len(self.times), "batch": "b1"}

    def imported(self, unit: str) -> dict[str, list[str]]:
        return {}

    def prompts(self, unit: str) -> list[dict[str, Any]]:
        return [self.asked] if self.asked else []

    def known_command(self, unit: str, command_id: str) -> StoredAnswer | None:
        return None

    async def execute(self, command: Command, accepted: Callable[[int, str], None]) -> Outcome:
        accepted(1, "digest")
        if command.verb == "start":
            self.started.set()
        else:
            self.answers.put_nowait(command)
        self.times.append((command.id, rfc3339(self.clock.now())))
        return Outcome("done")

    async def batch(self, projector: Projector) -> None:
        with self.clock.outside("start"):
            await self.started.wait()
        for number in range(PROMPTS):
            await self.clock.sleep(DAY)
            self.asked = {"id": f"p{number}", "batch": "b1", "unit": "cell1", "asked": rfc3339(self.clock.now())}
            projector.refresh("cell1")
            with self.clock.outside("prompt"):
                answer = await self.answers.get()
            self.asked = None
            projector.refresh("cell1")
            effective = datetime.fromisoformat(answer.effective)
            await self.clock.sleep((effective - self.clock.now()).total_seconds())
            self.times.append((answer.args["prompt"], rfc3339(self.clock.now())))


@dataclass
class Given:
    inputs: dict[str, str | float]
    delay_s: float


async def rehearse(clock: VirtualClock, url: str) -> list[tuple[str, str]]:
    controller = Asking(clock)
    door = Door(controller, clock, lambda: datetime.now(UTC), scheduled=True)
    outbox = Outbox()
    projector = Projector(controller, clock, outbox, TOPICS)
    gateway = MqttGateway(url, TOPICS, door, clock, outbox, identity={"boot": "b"})
    troubles: list[str] = []
    operator = OperatorRunner(url, TOPICS, lambda p: Given({}, 60.0 * int(p["id"][1:])), on_trouble=troubles.append)
    gateway.start()
    operator.start()
    starting = operator.request("cell1", "start", {"recipe": "shakedown"})
    await controller.batch(projector)
    assert starting.done()
    operator.close()
    projector.flush()
    gateway.close()
    await door.close()
    assert troubles == []
    first: dict[str, str] = {}  # on a busy machine a command may be sent again, in real time, with its id
    for name, at in controller.times:
        first.setdefault(name, at)
    return [*first.items()]


def test_twelve_days_of_prompts_take_the_same_virtual_time_in_every_run():
    with EmbeddedBroker() as broker:
        first, second = (run(lambda clock: rehearse(clock, broker.url), watchdog_s=60) for _ in range(2))
    assert first == second
    assert first[0] == ("operator-start-1", "2026-01-05T08:00:00.000Z")
    assert first[1:3] == [("operator-b1-p0", "2026-01-06T08:00:00.000Z"), ("p0", "2026-01-06T08:00:00.000Z")]
    assert first[-2:] == [("operator-b1-p11", "2026-01-17T08:55:00.000Z"), ("p11", "2026-01-17T09:06:00.000Z")]
