"""The instruments of a suite: points and commands of the profiles, bound to the physics."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

from devices.profile import load_profile
from simulators.device import Handler, Life, ModbusFault, SimDevice, Value
from simulators.physics.fluid import COUNT_ML, Fluidics, Pump
from simulators.physics.freezing import Freezer, Row
from simulators.physics.noise import gauss, stream
from simulators.physics.thermal import FACTORY, Climate

BUSY = 6  # Modbus exception: the device is doing something else
REFUSED = 4
SCALE_NOISE, WASTE_NOISE = 0.3, 1.0  # g, after the transmitter's filter (the raw cell: 0.02 % of full scale)
TEMPERATURE_NOISE, GAS_NOISE, HUMIDITY_NOISE, PROBE_NOISE = 0.05, 0.05, 0.3, 0.05  # degC, %, %, degC (defaults)
UNSETTLED = 5.0  # s that a scale stays unstable after a container was touched
WASTE_PORT = 16
Args = Mapping[str, Any]


class Host(Protocol):
    """What an instrument needs of the plant around it."""

    seed: int

    def time(self) -> float:
        """Return the plant's time (s), with everything done that was due by then."""
        ...

    def change(self) -> AbstractContextManager[float]:
        """Bring the liquids to the present, give its time (s), and see what is due next when the block is left."""
        ...


def serial_number(name: str, unit: int = 0) -> int:
    """Return the serial number of an instrument, and of those that replace it (`unit` from 1)."""
    return 100_000 + zlib.crc32(f"{name} {unit}".encode()) % 900_000


def _noise(host: Host, name: str, sigma: float) -> Callable[[float], float]:
    """Return noise that is renewed each second of the plant's time."""
    key = stream(host.seed, name)
    return lambda t: gauss(key, int(t), sigma)


def incubator(host: Host, climate: Climate, name: str = "incubator") -> SimDevice:
    """Return the incubator: one chamber for all six positions."""
    profile = load_profile("sim-incubator")
    values, commands, life = chamber(host, climate, keeps=profile.after_power_loss["targets"] != "defaults")
    device = SimDevice(profile, values, commands, serial=serial_number(name))
    device.life = life
    return device


def chamber(
    host: Host, climate: Climate, *, keeps: bool
) -> tuple[dict[str, Callable[[], Value]], dict[str, Handler], Life]:
    """Return points, commands and power of what warms and gasses a chamber; `keeps`: its targets, without power."""
    booted = [0.0]  # s, when it was started last
    lags = {"temperature": climate.temperature, "co2": climate.co2, "humidity": climate.humidity}
    sigmas = {"temperature": TEMPERATURE_NOISE, "co2": GAS_NOISE, "humidity": HUMIDITY_NOISE}
    shaky = {name: _noise(host, f"incubator.{name}", sigma) for name, sigma in sigmas.items()}

    def seen(name: str) -> float:
        t = host.time()
        return max(0.0, lags[name].at(t) + shaky[name](t))

    def status() -> list[str]:
        t = host.time()
        door = t - climate.opened < UNSETTLED
        bits = (("heater_fault", climate.heater_fault), ("heater_cut", climate.heater_cut), ("door_open", door))
        return [name for name, on in bits if on]

    def set_temperature(args: Args) -> None:
        with host.change() as t:
            climate.set_temperature(t, float(args["value"]))

    def set_co2(args: Args) -> None:
        with host.change() as t:
            climate.set_co2(t, float(args["value"]))

    def cut_heater(_args: Args) -> None:
        with host.change() as t:
            climate.cut_heater(t)

    def power(*, on: bool) -> None:
        with host.change() as t:
            climate.powered = on
            climate.heater_cut = False
            if on:
                booted[0] = t
            if on and not keeps:
                climate.targets.update(FACTORY)
            climate.steer(t)

    def renew() -> None:
        with host.change() as t:
            climate.targets.update(FACTORY)
            climate.heater_fault = climate.heater_cut = False
            climate.steer(t)

    values: dict[str, Callable[[], Value]] = {
        "temperature": partial(seen, "temperature"),
        "co2": partial(seen, "co2"),
        "humidity": partial(seen, "humidity"),
        "status": status,
        "uptime": lambda: int(host.time() - booted[0]),
        "temperature_target": lambda: climate.targets["temperature"],
        "co2_target": lambda: climate.targets["co2"],
    }
    commands: dict[str, Handler] = {
        "set_temperature": set_temperature, "set_co2": set_co2, "cut_heater": cut_heater
    }  # fmt: skip
    return values, commands, Life(partial(power, on=False), partial(power, on=True), renew)


def pump(host: Host, fluidics: Fluidics, unit: Pump) -> SimDevice:
    """Return a pump that bounds each dispense by its own count."""

    def dispense(args: Args) -> None:
        with host.change() as t:
            if not fluidics.start(unit.name, int(args["sequence"]), float(args["rate"]), float(args["volume"]), t):
                raise ModbusFault(BUSY)

    def stop(_args: Args) -> None:
        with host.change() as t:
            fluidics.stop(unit.name, t)

    def set_watchdog(args: Args) -> None:
        with host.change() as t:
            unit.guard(int(args["seconds"]), t)

    def at(read: Callable[[float], Value]) -> Callable[[], Value]:
        return lambda: read(host.time())

    def off() -> None:
        with host.change() as t:
            unit.end(t)
            unit.guard(0, t)

    def on() -> None:
        with host.change() as t:
            unit.power_cycle(t)

    def renew() -> None:
        with host.change():
            unit.renew()

    def trip() -> None:
        with host.change() as t:
            unit.trip(t)

    device = SimDevice(
        load_profile("sim-pump"),
        {
            "running": at(lambda _: unit.run is not None),
            "status": at(lambda _: unit.status()),
            "rate": at(lambda _: unit.run.rate if unit.run else 0.0),
            "total": at(lambda t: unit.total_counts(t) * COUNT_ML),
            "dispensed": at(unit.dispensed_ml),
            "sequence": at(lambda _: unit.sequence),
            "boots": at(lambda _: unit.boots),
            "watchdog": at(lambda _: unit.watchdog),
        },
        {"dispense": dispense, "stop": stop, "set_watchdog": set_watchdog},
        serial=serial_number(unit.name),
    )
    device.life = Life(off, on, renew, trip)
    return device


def valves(host: Host, fluidics: Fluidics, unit: Pump, name: str = "valves") -> SimDevice:
    """Return the manifold of a pump; without power its springs close it."""

    def select(args: Args) -> None:
        with host.change():
            fluidics.select(unit.name, int(args["suction"]), int(args["delivery"]))

    def close(_args: Args) -> None:
        with host.change():
            fluidics.select(unit.name, 0, 0)

    device = SimDevice(
        load_profile("sim-valves"),
        {"suction": lambda: unit.suction, "delivery": lambda: unit.delivery},
        {"select": select, "close": close},
        serial=serial_number(name),
    )
    device.life = Life(off=partial(close, {}))
    return device


def scales(
    host: Host, fluidics: Fluidics, name: str = "scales", ripple: Callable[[int, float], float] = lambda _port, _t: 0.0
) -> SimDevice:
    """Return the transmitter of all load cells; it converts once a second.

    `ripple` says what rocking leaves in the mass on a port (g, 1 sigma) at a time (s).
    """
    booted = [0.0]  # s, when it was started last
    ports = sorted(fluidics.at)
    keys = {port: stream(host.seed, f"scales.{port}") for port in ports}

    def mass(port: int) -> float:
        t = host.time()
        noise = WASTE_NOISE if port == WASTE_PORT else SCALE_NOISE
        if rocks := ripple(port, t):
            noise = math.hypot(noise, rocks)
        return fluidics.mass(port, t) + gauss(keys[port], int(t), noise)

    def unstable() -> int:
        t = host.time()
        held = [(port, fluidics.at[port]) for port in ports]
        return sum(
            1 << (port - 1)
            for port, container in held
            if container is not None and (fluidics.moving(port) or t - container.disturbed < UNSETTLED)
        )

    values: dict[str, Callable[[], Value]] = {f"mass_{port}": partial(mass, port) for port in ports}
    values |= {"unstable": unstable, "seq": lambda: int(host.time() - booted[0])}

    def on() -> None:
        booted[0] = host.time()

    device = SimDevice(load_profile("sim-scales"), values, {}, serial=serial_number(name))
    device.life = Life(on=on)
    return device


def freezer(host: Host, unit: Freezer) -> SimDevice:
    """Return the controlled-rate freezer with its programmer."""
    chamber_noise = _noise(host, "freezer.chamber", PROBE_NOISE)
    sample_noise = _noise(host, "freezer.sample", PROBE_NOISE)

    def chamber() -> float:
        t = host.time()
        return unit.chamber + chamber_noise(t)

    def sample() -> float | None:
        t = host.time()
        return None if unit.sample is None else unit.sample + sample_noise(t)

    def at(read: Callable[[float], Value]) -> Callable[[], Value]:
        return lambda: read(host.time())

    def load_program(args: Args) -> None:
        with host.change():
            if unit.running:
                raise ModbusFault(BUSY)
            unit.rows = [
                Row(
                    str(row["kind"]),
                    str(row["listen"]),
                    float(row["rate"]),
                    float(row["target"]),
                    str(row["end"]),
                    float(row["timeout"]),
                )
                for row in args["rows"]
            ]

    def start(args: Args) -> None:
        with host.change() as t:
            if not unit.start(int(args["sequence"]), t):
                raise ModbusFault(REFUSED)

    def abort(_args: Args) -> None:
        with host.change() as t:
            unit.abort(t)

    def power(*, on: bool) -> None:
        with host.change() as t:
            unit.power(t, on=on)

    def renew() -> None:
        with host.change():
            unit.renew()

    commands: dict[str, Handler] = {"load_program": load_program, "start": start, "abort": abort}
    device = SimDevice(
        load_profile("sim-freezer"),
        {
            "chamber_temperature": chamber,
            "sample_temperature": sample,
            "setpoint": at(lambda _: unit.setpoint),
            "program_state": at(lambda _: unit.state),
            "segment": at(lambda _: unit.segment),
            "elapsed": at(lambda t: int(unit.elapsed(t))),
            "ln2_level": at(lambda _: unit.ln2),
            "ready": at(lambda _: unit.ready),
            "sequence": at(lambda _: unit.sequence),
            "nucleated": at(lambda _: unit.nucleated),
            "sample_present": at(lambda _: bool(unit.bags)),
        },
        commands,
        serial=serial_number("freezer"),
    )
    device.life = Life(partial(power, on=False), partial(power, on=True), renew)
    return device
