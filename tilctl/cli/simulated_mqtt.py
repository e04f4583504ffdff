"""A site's instruments over MQTT as simulators: behind the site's own broker, or behind one in memory."""

from __future__ import annotations

import asyncio

from devices.clock import Clock
from devices.mqtt.connection import Connection
from devices.mqtt.types import MqttProfile
from devices.mqtt.wire import Connect
from simulators.broker import MemoryBroker
from simulators.mqtt import MqttSimulator
from simulators.mqtt_models import simulated
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.config import Site


class BehindBrokers:
    """All of them; `connects` (bus -> maker of connections) is how a controller reaches brokers in memory."""

    def __init__(self, site: Site, clock: Clock, *, in_memory: bool) -> None:
        """Make them; raises CommandFailed for an instrument that has no simulator."""
        buses = [bus for bus in site.buses.values() if bus.kind == "mqtt"]
        self.brokers = {bus.name: MemoryBroker(clock) for bus in buses} if in_memory else {}
        self.connects: dict[str, Connect] = {bus: broker.connect for bus, broker in self.brokers.items()}
        self.instruments: dict[str, MqttSimulator] = {}
        for name, device in site.devices.items():
            profile = site.profiles[name]
            if isinstance(profile, MqttProfile):
                bus = site.buses[device.bus]
                connect = self.connects.get(bus.name, Connection)
                try:
                    self.instruments[name] = simulated(
                        profile, bus.url, clock, device.prefix, login=bus.login, connect=connect
                    )
                except ValueError as error:
                    raise CommandFailed(Exit.BAD_INPUT, f"no simulator for {name}: {error}") from error

    def begin(self) -> None:
        """Let them come to their brokers, whether these are there or not."""
        for instrument in self.instruments.values():
            instrument.begin()

    async def close(self) -> None:
        """Let them vanish, and the brokers in memory with them."""
        await asyncio.gather(*(instrument.close() for instrument in self.instruments.values()))
        for broker in self.brokers.values():
            await broker.close()
