"""The instrument of a rocked bag: a warm tray with a motor, a gas mixer, and optical probes in the bag."""

from __future__ import annotations

from collections.abc import Callable

from devices.profile import load_profile
from simulators.device import Life, SimDevice, Value
from simulators.instruments import Args, Host, chamber, serial_number
from simulators.physics.contents import AIR
from simulators.physics.culture import acidity
from simulators.physics.fluid import Container
from simulators.physics.noise import gauss, stream, uniform
from simulators.physics.rocker import Rocker
from simulators.physics.thermal import Climate

# All general knowledge, unverified, or engineering defaults.
OXYGEN_NOISE = 0.02  # share of the reading, 1 sigma
OXYGEN_FLOOR = 0.1  # % of air saturation, 1 sigma, where there is none
OXYGEN_DRIFT = 0.01  # share of the reading in a week, at most, either way
OXYGEN_LAG = 30.0  # s
PH_NOISE = 0.03  # pH, 1 sigma
PH_DRIFT = 0.05  # pH in a week, at most, either way: the dye bleaches
SPEED_NOISE = 0.05  # rpm, 1 sigma, while it moves
GAS_NOISE = 0.1  # % oxygen, 1 sigma
WEEK = 7 * 86_400.0  # s


def rocker(host: Host, climate: Climate, unit: Rocker, bag: Callable[[], Container | None], name: str) -> SimDevice:
    """Return the instrument; `bag` tells in which container its probes are, None where they are in none."""
    profile = load_profile("sim-rocker")
    values, commands, life = chamber(host, climate, keeps=True)
    del values["humidity"]
    warm = values["status"]
    keys = {what: stream(host.seed, f"{name}.{what}") for what in ("oxygen", "ph", "rocking", "gas_oxygen")}
    drifts = {what: uniform(stream(host.seed, f"{name}.{what} drift"), 0, -1.0, 1.0) for what in ("oxygen", "ph")}

    def oxygen() -> Value:
        t, seen = host.time(), bag()
        if seen is None:
            return None
        held, rate = unit.oxygen(seen.contents, seen.vessel, seen.aired, t)
        # A first-order lag of what changes slowly against it: it shows what was, by its own time constant.
        level = max(0.0, held - rate * OXYGEN_LAG) / (seen.contents.volume * 1e-3) / AIR * 100.0
        drift = OXYGEN_DRIFT * drifts["oxygen"] * t / WEEK
        sigma = max(OXYGEN_FLOOR, OXYGEN_NOISE * level)
        return max(0.0, level * (1.0 + drift) + gauss(keys["oxygen"], int(t), sigma))

    def ph() -> Value:
        t, seen = host.time(), bag()
        if seen is None:
            return None
        true = acidity(seen.contents.concentration("lactate"), climate.co2.at(t))
        return true + PH_DRIFT * drifts["ph"] * t / WEEK + gauss(keys["ph"], int(t), PH_NOISE)

    def speed() -> Value:
        t = host.time()
        rpm = unit.rpm(t)
        return max(0.0, rpm + gauss(keys["rocking"], int(t), SPEED_NOISE)) if rpm > 0.0 else 0.0

    def gas() -> Value:
        t = host.time()
        return max(0.0, unit.gas.at(t) + gauss(keys["gas_oxygen"], int(t), GAS_NOISE))

    def status() -> list[str]:
        said = warm()
        bits = list(said) if isinstance(said, list) else []
        return [*bits, "motor_fault"] if unit.motor_fault else bits

    def set_rocking(args: Args) -> None:
        with host.change() as t:
            unit.set_rocking(t, float(args["value"]))

    def set_gas(args: Args) -> None:
        with host.change() as t:
            unit.set_gas(t, float(args["value"]))

    def pause(args: Args) -> None:
        with host.change() as t:
            unit.pause(t, float(args["seconds"]))

    def off() -> None:
        life.off()
        with host.change() as t:
            unit.power(t, on=False)

    def on() -> None:
        life.on()
        with host.change() as t:
            unit.power(t, on=True)

    def new() -> None:
        life.new()
        with host.change() as t:
            unit.renew(t)

    device = SimDevice(
        profile,
        values
        | {
            "oxygen": oxygen, "ph": ph, "rocking": speed, "gas_oxygen": gas, "status": status,
            "pause_left": lambda: int(unit.pause_left(host.time()) + 0.999),
            "rocking_target": lambda: unit.targets["rocking"],
            "gas_oxygen_target": lambda: unit.targets["gas_oxygen"],
        },
        commands | {"set_rocking": set_rocking, "set_gas_oxygen": set_gas, "pause_rocking": pause},
        serial=serial_number(name),
    )  # fmt: skip
    device.life = Life(off, on, new)
    return device
