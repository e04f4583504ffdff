"""A broker without sockets does what a real one does: retained topics, wills, one session for each name; its faults."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from importlib.resources import files
from typing import Any

import aiomqtt
import pytest

from devices.document import parse
from devices.instrument import DeviceOffline, DeviceState, OutcomeUnknown
from devices.mqtt.broker import MqttBroker
from devices.mqtt.driver import MqttInstrument
from devices.mqtt.profile import compile_mqtt
from devices.mqtt.types import MqttProfile
from devices.reading import Quality
from simulators.broker import MemoryBroker, MemoryConnection
from simulators.mqtt_models import SimulatedShelly
from simulators.virtual import VirtualClock, run

URL = "mqtt://nobody.asks"


def plug() -> MqttProfile:
    name = "shelly-gen2-plug.yaml"
    return compile_mqtt(parse((files("devices") / "profiles" / name).read_text("utf-8"), name))


def virtually(work: Callable[[VirtualClock, MemoryBroker], Coroutine[Any, Any, None]]) -> None:
    async def main(clock: VirtualClock) -> None:
        broker = MemoryBroker(clock)
        await work(clock, broker)
        await broker.close()

    run(main, watchdog_s=20.0)


def taken(connection: MemoryConnection) -> list[tuple[str, bytes, bool]]:
    """Return what has come and was not read."""
    found = []
    while not connection._queue.empty():
        message = connection._queue.get_nowait()
        assert isinstance(message, aiomqtt.Message), message
        found.append((message.topic.value, message.payload, message.retain))
    return found


def test_what_is_retained_is_told_to_who_comes_later_and_what_is_not_is_not():
    async def work(clock: VirtualClock, broker: MemoryBroker) -> None:
        async with broker.connect(URL, "one") as one, broker.connect(URL, "two") as two:
            await one.listen(["a/+", "b/#"])
            await two.send("a/kept", b"1", retain=True)
            await two.send("b/c/gone", b"2")
            assert taken(one) == [("a/kept", b"1", False), ("b/c/gone", b"2", False)]
            async with broker.connect(URL, "three") as three:
                await three.listen(["#"])
                assert taken(three) == [("a/kept", b"1", True)]
                await two.send("a/kept", b"", retain=True)
                assert taken(three) == [("a/kept", b"", False)]
            async with broker.connect(URL, "four") as four:
                await four.listen(["#"])
                assert taken(four) == []

    virtually(work)


def test_a_will_is_published_when_a_client_is_cut_and_not_when_it_leaves():
    async def work(clock: VirtualClock, broker: MemoryBroker) -> None:
        will = aiomqtt.Will("here", "no", qos=1, retain=True)
        async with broker.connect(URL, "witness") as witness:
            await witness.listen(["here"])
            async with broker.connect(URL, "device", will):
                pass
            assert taken(witness) == []
            async with broker.connect(URL, "device", will) as device:
                device.cut()
                with pytest.raises(aiomqtt.MqttCodeError):
                    await device.send("here", b"yes")
            assert taken(witness) == [("here", b"no", False)]
            assert broker.kept == {"here": b"no"}

    virtually(work)


def test_the_elder_of_two_with_one_name_is_cut_off():
    async def work(clock: VirtualClock, broker: MemoryBroker) -> None:
        elder, younger = broker.connect(URL, "one"), broker.connect(URL, "one")
        async with elder, younger:
            await younger.listen(["a"])
            with pytest.raises(aiomqtt.MqttError, match="taken the session over"):
                await anext(elder.messages)
            await younger.send("a", b"1")
            assert taken(younger) == [("a", b"1", False)]

    virtually(work)


def test_what_finds_no_room_is_dropped_and_counted():
    async def work(clock: VirtualClock, broker: MemoryBroker) -> None:
        async with broker.connect(URL, "one", room=2) as one:
            await one.listen(["a"])
            for number in range(5):
                await one.send("a", b"%d" % number)
            assert (len(taken(one)), one.dropped) == (2, 3)

    virtually(work)


async def online(clock: VirtualClock, instrument: MqttInstrument, *, so: bool = True) -> None:
    async with asyncio.timeout(60.0):
        while (instrument.status.state is DeviceState.ONLINE) is not so:
            await clock.sleep(0.1)


def test_an_instrument_among_the_faults_of_its_broker():
    async def work(clock: VirtualClock, memory: MemoryBroker) -> None:
        broker = MqttBroker("plugs", URL, clock, identifier="ctl", connect=memory.connect)
        instrument = MqttInstrument("plug", plug(), broker, clock, "a-plug")
        simulator = SimulatedShelly(plug(), URL, clock, "a-plug", connect=memory.connect)
        await simulator.start()
        await broker.open()
        await online(clock, instrument)
        await instrument.command("set", {"value": True, "seconds": 60})
        assert simulator.on
        assert (await instrument.read("status"))["on"].quality is Quality.GOOD
        memory.duplicates = True
        before = simulator.commands
        await instrument.command("off", {})
        assert (simulator.on, simulator.commands) == (False, before + 2), (
            "an instrument hears it twice; twice off is off"
        )
        memory.duplicates = False
        memory.delay_s = 30.0
        with pytest.raises(OutcomeUnknown):
            await instrument.command("set", {"value": True, "seconds": 60})
        memory.delay_s = 0.0
        memory.stopped = True
        await online(clock, instrument, so=False)
        with pytest.raises(DeviceOffline):
            await instrument.read("status")
        memory.stopped = False
        await online(clock, instrument)
        await broker.close()
        await simulator.close()

    virtually(work)
