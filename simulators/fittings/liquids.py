"""What moves and weighs liquid: drives with their relays, manifolds of relays, load cells."""

from __future__ import annotations

from functools import partial

from devices.calibration import Curve
from devices.equipment.spec import PumpSpec, ValvesSpec
from simulators.device import ModbusFault
from simulators.fittings.module import Modules
from simulators.fittings.workshop import Args, Place, Workshop
from simulators.instruments import BUSY, REFUSED, SCALE_NOISE, WASTE_NOISE, WASTE_PORT
from simulators.physics.noise import gauss, stream

ENDLESS_ML = 100_000.0  # mL: a drive that does not count runs until somebody stops it


def mass(place: Place, port: int, name: str) -> float:
    """Return what a load cell at a port shows (g)."""
    t = place.time()
    sigma = WASTE_NOISE if port == WASTE_PORT else SCALE_NOISE
    shown = place.fluidics.mass(port, t) + gauss(stream(place.seed, name), int(t), sigma)
    return max(0.0, shown)  # the sign is shown elsewhere


def pump(shop: Workshop, modules: Modules, name: str, spec: PumpSpec) -> None:
    """Let a drive turn its pump; one with an `enable` turns only while its relay is closed."""
    place, fluidics, unit = shop.place, shop.place.fluidics, shop.place.fluidics.pumps[name]
    draft = shop.drafts[spec.drive]
    profile = draft.profile
    curve = Curve(spec.curve)
    per_turn = profile.points.get("steps_per_turn")
    turn = 1.0
    if per_turn is not None and profile.sim is not None:
        turn = float(profile.sim.values.get("steps_per_turn", "1"))
    told = {"speed": 0.0, "steps": 0.0, "counts": 0.0}

    def keep(what: str, args: Args) -> None:
        told[what] = float(args["value"])

    def start(_args: Args) -> None:
        if spec.enable is not None and not modules.is_on(spec.enable.part, spec.enable.channel):
            return  # no power, no motion
        with place.change() as t:
            if told["speed"] <= 0.0:
                raise ModbusFault(REFUSED)
            counted = told["steps"] / turn * curve.per_turn(told["speed"])
            volume = counted if told["counts"] else ENDLESS_ML
            if not fluidics.start(name, unit.sequence % 65_535 + 1, curve.rate(told["speed"]), volume, t):
                raise ModbusFault(BUSY)

    def stop(*_args: Args) -> None:
        with place.change() as t:
            fluidics.stop(name, t)

    bit = profile.bits.get("running")
    if bit is None:
        draft.values["running"] = lambda: (place.time(), unit.run is not None)[1]
    else:
        draft.values[bit.point] = lambda: (place.time(), ["running"] if unit.run is not None else [])[1]
    draft.handlers |= {"set_speed": partial(keep, "speed"), "set_steps": partial(keep, "steps")}
    draft.handlers |= {"dispense_mode": partial(keep, "counts"), "start": start, "stop": stop}
    draft.off.append(stop)
    if spec.enable is not None:
        modules.of(spec.enable.part).watch(spec.enable.channel, lambda on: None if on else stop())


def valves(shop: Workshop, modules: Modules, name: str, spec: ValvesSpec) -> None:
    """Let relays move the clamps of a manifold."""
    fluidics = shop.place.fluidics
    unit = fluidics.pumps[name.replace("valves", "pump")]

    def moved(_on: bool) -> None:
        ports = [
            next((port for port, output in side.items() if modules.is_on(output.part, output.channel)), 0)
            for side in (spec.suction, spec.delivery)
        ]
        with shop.place.change():
            fluidics.select(unit.name, *ports)

    for side in (spec.suction, spec.delivery):
        for output in side.values():
            modules.of(output.part).watch(output.channel, moved)
