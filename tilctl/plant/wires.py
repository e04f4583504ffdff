"""What carries the instruments of a site: Modbus buses of every kind, and brokers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from devices.calibration import newest_of
from devices.clock import Clock
from devices.corrected import Corrected
from devices.instrument import Instrument
from devices.modbus.bus import ModbusBus
from devices.modbus.driver import ModbusDevice
from devices.modbus.link import Link
from devices.modbus.wire import LinkMaker
from devices.mqtt.types import MqttProfile
from devices.wear import WriteLedger
from tilctl.config import Bus, Site

if TYPE_CHECKING:
    from devices.mqtt.broker import MqttBroker
    from devices.mqtt.wire import Connect

_AS_THE_SITE_SAYS: Mapping[str, Connect] = {}


class Wires:
    """All buses and brokers of a site, and the instruments that they carry; opened and closed as one."""

    def __init__(
        self,
        site: Site,
        clock: Clock,
        wear: WriteLedger,
        links: Mapping[str, LinkMaker],
        brokers: Mapping[str, Connect] = _AS_THE_SITE_SAYS,
    ) -> None:
        """Describe them; `links` and `brokers` (bus -> maker) stand in for what the site file says."""
        pauses: dict[str, float] = {}
        for name, device in site.devices.items():
            pause = site.profiles[name].pause_after_connect_s
            pauses[device.bus] = max(pause, pauses.get(device.bus, 0.0))
        self.buses = {
            name: modbus_bus(bus, clock, links.get(name), 0.0 if name in links else pauses.get(name, 0.0))
            for name, bus in site.buses.items()
            if bus.kind != "mqtt"
        }
        self.brokers: dict[str, MqttBroker] = {}
        if any(bus.kind == "mqtt" for bus in site.buses.values()):
            self._brokers(site, clock, brokers)
        self.devices: dict[str, Instrument] = {}
        pairs = {name: newest_of(history).points for name, history in site.calibrations.items()}
        for name, device in site.devices.items():
            profile = site.profiles[name]
            if isinstance(profile, MqttProfile):
                self.devices[name] = self._over_mqtt(name, profile, self.brokers[device.bus], device.prefix, clock)
                continue
            bus = self.buses[device.bus]
            if device.bus not in links:  # a rehearsal in memory has no wire that would need it
                bus.pace(device.unit, profile.gap_s)
            self.devices[name] = ModbusDevice(name, profile, bus, device.unit, clock, wear, device.given)
        for name, device in site.devices.items():
            if device.corrections:
                points = {point: pairs[calibration] for point, calibration in device.corrections.items()}
                self.devices[name] = Corrected(self.devices[name], points)

    def _brokers(self, site: Site, clock: Clock, brokers: Mapping[str, Connect]) -> None:
        # a site without MQTT instruments does not pay for it
        from devices.mqtt.broker import MqttBroker  # noqa: PLC0415
        from devices.mqtt.connection import Connection  # noqa: PLC0415

        for name, bus in site.buses.items():
            if bus.kind == "mqtt":
                self.brokers[name] = MqttBroker(
                    name,
                    bus.url,
                    clock,
                    identifier=f"{site.name}-{site.node}-{name}",
                    login=bus.login,
                    connect=brokers.get(name, Connection),
                )

    def _over_mqtt(self, name: str, profile: MqttProfile, broker: MqttBroker, prefix: str, clock: Clock) -> Instrument:
        from devices.mqtt.driver import MqttInstrument  # noqa: PLC0415

        return MqttInstrument(name, profile, broker, clock, prefix)

    async def open(self) -> None:
        """Connect to all of them; what is absent is no error here, it shows as offline."""
        for bus in self.buses.values():
            await bus.open()
        for broker in self.brokers.values():
            await broker.open()

    async def close(self) -> None:
        """Leave all of them."""
        for bus in self.buses.values():
            await bus.close()
        for broker in self.brokers.values():
            await broker.close()


def modbus_bus(bus: Bus, clock: Clock, link: LinkMaker | None = None, pause: float = 0.0) -> ModbusBus:
    """Return a Modbus bus as the site file describes it, or over the connections that `link` makes."""
    return ModbusBus(
        bus.name,
        bus.path if bus.kind == "modbus-rtu" else bus.host,
        bus.port,
        clock,
        timeout=bus.timeout,
        link=maker_of(bus, clock) if link is None else link,
        pause_after_connect=pause,
        in_memory=link is not None,
    )


def maker_of(bus: Bus, clock: Clock) -> LinkMaker:
    """Return what makes the connections of a Modbus bus.  RTU is loaded by a site only that has it."""
    baud, form, pause, echo = bus.baud, bus.format, bus.turnaround, bus.local_echo
    if bus.kind == "modbus-rtu":
        from devices.modbus.serial import serial_links  # noqa: PLC0415

        return serial_links(clock, baud=baud, format=form, turnaround=pause, local_echo=echo)
    if bus.kind == "modbus-rtu-tcp":
        from devices.modbus.gateway import rtu_tcp_links  # noqa: PLC0415

        return rtu_tcp_links(clock, baud=baud, format=form, turnaround=pause, local_echo=echo)
    return Link
