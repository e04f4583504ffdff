"""A bench for instruments over MQTT: a real Mosquitto, its own clients as witnesses, simulated devices."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "process"))
from mosquitto import Mosquitto

from devices.clock import SystemClock
from devices.document import parse
from devices.instrument import DeviceState
from devices.mqtt.broker import MqttBroker
from devices.mqtt.driver import MqttInstrument
from devices.mqtt.profile import compile_mqtt
from devices.mqtt.types import MqttProfile
from simulators.mqtt import MqttSimulator
from simulators.mqtt_models import MODELS

SHELLY, TASMOTA, PIOREACTOR = "shelly-gen2-plug", "tasmota-plug", "pioreactor"
PLUG = "shellyplug-1"
BIO = "pioreactor/unit1/exp1"
QUICK = {"within_ms: 2000": "within_ms: 300", "within_ms: 3000": "within_ms: 600", "within_ms: 5000": "within_ms: 900"}


def profile(name: str, **changes: str) -> MqttProfile:
    """Return a profile of the product with short waits; `changes` are numbers of keys to be others everywhere."""
    text = (files("devices") / "profiles" / f"{name}.yaml").read_text("utf-8")
    for old, new in QUICK.items():
        text = text.replace(old, new)
    for key, number in changes.items():
        text, count = re.subn(rf"{key}: \d+", f"{key}: {number}", text)
        assert count, key
    return compile_mqtt(parse(text, f"{name}.yaml"))


async def until(holds: Callable[[], bool], within: float = 5.0) -> None:
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end, "it did not come to pass"
        await asyncio.sleep(0.01)


class Bench:
    """A broker, our connection to it, and what hangs on it."""

    def __init__(self, mosquitto: Mosquitto, clock: SystemClock, stack: contextlib.AsyncExitStack) -> None:
        self.mosquitto, self.clock, self.stack = mosquitto, clock, stack
        self.broker = MqttBroker("bench", mosquitto.url, clock, identifier="ctl")

    def instrument(self, name: str, known: MqttProfile, prefix: str) -> MqttInstrument:
        return MqttInstrument(name, known, self.broker, self.clock, prefix)

    async def simulate(self, known: MqttProfile, prefix: str, kind: type[MqttSimulator] | None = None) -> MqttSimulator:
        simulator = (kind or MODELS[known.sim.model])(known, self.mosquitto.url, self.clock, prefix)
        self.stack.push_async_callback(simulator.close)
        await simulator.start()
        return simulator

    async def open(self) -> None:
        self.stack.push_async_callback(self.broker.close)
        await self.broker.open()
        await until(lambda: self.broker.connected)

    async def shelly(self, known: MqttProfile | None = None, kind: type[MqttSimulator] | None = None):
        known = known or profile(SHELLY)
        plug = self.instrument("plug", known, PLUG)
        simulator = await self.simulate(known, PLUG, kind)
        await self.open()
        await until(lambda: plug.status.state is DeviceState.ONLINE)
        return plug, simulator

    def _where(self) -> tuple[str, ...]:
        return ("-V", "5", "-h", "127.0.0.1", "-p", str(self.mosquitto.port))

    async def publish(self, topic: str, payload: bytes | str, *words: str) -> None:
        data = payload.encode() if isinstance(payload, str) else payload
        how = words if "-l" in words else (*words, "-s" if data else "-n")
        program = await asyncio.create_subprocess_exec(
            "mosquitto_pub", *self._where(), "-q", "1", "-t", topic, *how, stdin=asyncio.subprocess.PIPE
        )
        await program.communicate(data)
        assert program.returncode == 0

    @contextlib.asynccontextmanager
    async def witness(self, *topics: str) -> AsyncIterator[list[tuple[bool, str, str]]]:
        """Give a list to which mosquitto_sub adds what is published from now on: (retained, topic, payload)."""
        seen: list[tuple[bool, str, str]] = []
        asked = [word for topic in (*topics, "bench/ready") for word in ("-t", topic)]
        program = await asyncio.create_subprocess_exec(
            *("mosquitto_sub", *self._where(), "-q", "1", "--retain-as-published", *asked, "-F", "%r %t %p"),
            stdout=asyncio.subprocess.PIPE,
        )

        async def read() -> None:
            while line := await program.stdout.readline():
                kept, topic, payload = line.decode().rstrip("\n").split(" ", 2)
                seen.append((kept == "1", topic, payload))

        reader = asyncio.create_task(read())
        end = time.monotonic() + 10
        while not any(topic == "bench/ready" for _, topic, _ in seen):
            assert time.monotonic() < end
            await self.publish("bench/ready", "x")
        seen.clear()
        try:
            yield seen
        finally:
            program.terminate()
            await program.wait()
            await reader

    async def hear(self, topic: str) -> str:
        """Return what mosquitto_sub gets first at a topic."""
        program = await asyncio.create_subprocess_exec(
            *("mosquitto_sub", *self._where(), "-q", "1", "-t", topic, "-C", "1", "-W", "5"),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await program.communicate()
        return out.decode().rstrip("\n")


def of(seen: list[tuple[bool, str, str]], topic: str) -> list[str]:
    return [payload for _, there, payload in seen if there == topic]


@contextlib.asynccontextmanager
async def bench_at(folder: Path) -> AsyncIterator[Bench]:
    """Give a bench, and put everything away afterwards."""
    with Mosquitto(folder) as mosquitto:
        clock = SystemClock()
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(clock.close)
            yield Bench(mosquitto, clock, stack)
