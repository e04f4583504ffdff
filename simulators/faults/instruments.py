"""What a fault does to an instrument or to the liquid behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from devices.profile_types import Setting
from simulators.device import Bend, Left, SimDevice, StandIn, Value
from simulators.faults import signs
from simulators.faults.model import Fault
from simulators.faults.stacked import Stacked, Undo
from simulators.faults.vocabulary import SETTINGS
from simulators.instruments import serial_number
from simulators.physics.fluid import COUNT_ML, Pump
from simulators.physics.noise import gauss, stream
from simulators.plant import Plant

ROLL_OVER = 1 << 32  # counts


@dataclass(frozen=True, slots=True)
class Target:
    """An instrument, and the plant it belongs to."""

    name: str
    device: SimDevice
    plant: Plant
    stand_in: StandIn | None = None

    @property
    def devices(self) -> tuple[SimDevice, ...]:
        """Return what is really on the wire: the instrument, or the parts that stand in for it."""
        return (self.device,) if self.stand_in is None else self.stand_in.devices

    def point(self, name: str) -> tuple[SimDevice, str] | None:
        """Return where a point is read; None where no part has it."""
        return (self.device, name) if self.stand_in is None else self.stand_in.points.get(name)

    def power(self, *, on: bool) -> None:
        """Lose power, or start anew."""
        for device in self.devices:
            device.power(on=on)

    @property
    def pump(self) -> Pump:
        """Return the pump that it is, or whose valves it is."""
        return self.plant.pumps[self.name.replace("valves", "pump")]


class Deeds:
    """One method for each word; it returns how to undo it, None for what is done in a moment."""

    def __init__(self, stacked: Stacked) -> None:
        self._stacked = stacked
        self._replaced: dict[str, int] = {}

    def do(self, fault: Fault, target: Target) -> Undo | None:
        """Carry out a fault of an instrument; raises KeyError for a word that is none."""
        deeds: dict[str, Callable[[Fault, Target], Undo | None]] = {
            "not_applied": self._deaf,
            "stuck": self._stuck,
            "noise": self._noise,
            "offset": self._offset,
            "drift": self._drift,
            "motor_fault": self._motor,
            "nan": lambda f, at: self._bend(f, at, lambda _: None),
            "replaced": self._replace,
            "counter_reset": self._reset,
            "slip": lambda f, at: self._pump(at, "slip", f.number("share") / 100.0),
            "slow_drip": lambda f, at: self._pump(at, "drip", f.number("rate")),
            "occlusion": lambda _, at: self._pump(at, "blocked", at.plant.time()),
            "bag_empty": self._bag_empty,
            "leak": self._leak,
            "clamp_stuck": lambda _, at: self._pump(at, "stuck", value=True),
            "heater_fault": lambda _, at: self._climate(at, "heater_fault", value=True),
            "heater_runaway": lambda f, at: self._climate(at, "runaway", f.number("to")),
            "local_change": self._hand,
            "sensor_break": self._break_sensor,
            "eeprom_worn": self._wear_out,
            "watchdog_trip": self._trip,
            "profile_abort": self._abort,
        }
        return deeds[fault.what](fault, target)

    def applies(self, fault: Fault, target: Target) -> bool:
        """Tell whether the instrument has what the fault is about: point, memory that wears, setting, watchdog."""
        if "point" in fault.args and target.point(_point(fault)) is None:
            return False
        match fault.what:
            case "sensor_break":
                return bool(self._signs(fault, target))
            case "eeprom_worn":
                return any(signs.wears(device.profile) for device in target.devices)
            case "watchdog_trip":
                return any(signs.trips(device) for device in target.devices)
            case "motor_fault":
                return target.plant.rocker is not None
            case "local_change":
                return bool(self._switches(fault, target)) or self._set_point(fault, target) is not None
            case _:
                return True

    def near_rollover(self, target: Target, before_ml: float) -> bool:
        """Let the totaliser stand so near its roll-over; False, and nothing, while the pump runs."""
        with target.plant.change():
            if target.pump.run is not None:
                return False
            target.pump.counts = ROLL_OVER - round(before_ml / COUNT_ML)
        return True

    def _deaf(self, _fault: Fault, target: Target) -> Undo:
        return all_of([self._stacked.put(device, "deaf", value=True) for device in target.devices])

    def _wear_out(self, fault: Fault, target: Target) -> Undo:
        left = int(fault.number("left"))
        worn = [device for device in target.devices if signs.wears(device.profile)]
        return all_of([self._stacked.put(device, "worn", Left(left)) for device in worn])

    def _trip(self, _fault: Fault, target: Target) -> None:
        for device in target.devices:
            if (trip := signs.trips(device)) is not None:
                trip()

    def _signs(self, fault: Fault, target: Target) -> list[tuple[SimDevice, signs.Sign]]:
        place = target.point(_point(fault))
        if place is None:
            return []
        device, point = place
        key = stream(target.plant.seed, f"break of {target.name} {point}")
        profile = device.profile
        found = signs.broken(profile, profile.points[point], lambda: int(target.plant.time()), key)
        return [(device, sign) for sign in found]

    def _break_sensor(self, fault: Fault, target: Target) -> Undo:
        found = self._signs(fault, target)
        return all_of([self._stacked.bend(device, sign.point, sign.bend) for device, sign in found])

    def _bend(self, fault: Fault, target: Target, bend: Bend) -> Undo | None:
        place = target.point(_point(fault))
        return None if place is None else self._stacked.bend(*place, bend)

    def _stuck(self, fault: Fault, target: Target) -> Undo | None:
        place = target.point(_point(fault))
        if place is None:
            return None
        device, point = place
        seen = device.reads(point)
        return self._stacked.bend(device, point, lambda _: seen)

    def _noise(self, fault: Fault, target: Target) -> Undo | None:
        key = stream(target.plant.seed, f"noise of {target.name} {_point(fault)}")
        sigma = fault.number("sigma")
        return self._bend(fault, target, _added(lambda: gauss(key, int(target.plant.time()), sigma)))

    def _offset(self, fault: Fault, target: Target) -> Undo | None:
        by = fault.number("by")
        return self._bend(fault, target, _added(lambda: by))

    def _drift(self, fault: Fault, target: Target) -> Undo | None:
        by, over, began = fault.number("by"), fault.number("over"), target.plant.time()
        return self._bend(fault, target, _added(lambda: by * (target.plant.time() - began) / over))

    def _motor(self, _fault: Fault, target: Target) -> Undo | None:
        plant, rocker = target.plant, target.plant.rocker
        if rocker is None:
            return None
        with plant.change() as t:
            undo = self._stacked.put(rocker, "motor_fault", value=True)
            rocker.steer(t)

        def mend() -> None:
            undo()
            rocker.steer(plant.time())

        return _changing(plant, mend)

    def _replace(self, _fault: Fault, target: Target) -> None:
        unit = self._replaced[target.name] = self._replaced.get(target.name, 0) + 1
        target.devices[0].replace(serial_number(target.name, unit))

    def _reset(self, _fault: Fault, target: Target) -> None:
        with target.plant.change() as t:
            target.pump.counts = -target.pump.run.counts(t) if target.pump.run else 0

    def _pump(self, target: Target, name: str, value: float) -> Undo:
        with target.plant.change():
            undo = self._stacked.put(target.pump, name, value)
        return _changing(target.plant, undo)

    def _bag_empty(self, fault: Fault, target: Target) -> Undo | None:
        if target.device.profile.role == "pump":
            return self._pump(target, "withheld", fault.number("left"))
        share, port, plant = fault.number("share") / 100.0, int(fault.number("port")), target.plant
        once = fault.for_s is None

        def short(hung: int) -> float:
            if port not in (0, hung):
                return 0.0
            if once:
                plant.short_hung.remove(short)
            return share

        plant.short_hung.append(short)
        return None if once else lambda: plant.short_hung.remove(short)

    def _leak(self, fault: Fault, target: Target) -> Undo:
        port, rate, leaks = int(fault.number("port")), fault.number("rate"), target.plant.fluidics.leaks
        with target.plant.change():
            leaks[port] = leaks.get(port, 0.0) + rate

        def tight() -> None:
            leaks[port] -= rate
            if leaks[port] < 1e-9:
                del leaks[port]

        return _changing(target.plant, tight)

    def _climate(self, target: Target, name: str, value: float) -> Undo:
        plant = target.plant
        with plant.change() as t:
            undo = self._stacked.put(plant.climate, name, value)
            plant.climate.steer(t)

        def mend() -> None:
            undo()
            plant.climate.steer(plant.time())

        return _changing(plant, mend)

    def _hand(self, fault: Fault, target: Target) -> Undo | None:
        if found := self._switches(fault, target):
            return all_of([self._switch(device, what) for device, what in found])
        if (device := self._set_point(fault, target)) is not None:
            device.do(f"set_{fault.args['target']}", {"value": fault.number("value")})
        return None

    def _set_point(self, fault: Fault, target: Target) -> SimDevice | None:
        place = target.point(str(fault.args["target"]))
        return None if place is None or f"set_{fault.args['target']}" not in place[0].profile.commands else place[0]

    def _switches(self, fault: Fault, target: Target) -> list[tuple[SimDevice, signs.Sign | Setting]]:
        which = str(fault.args["target"])
        if which not in SETTINGS:
            return []
        found = [(device, signs.switched(device.profile, which)) for device in target.devices]
        return [(device, what) for device, what in found if what is not None]

    def _switch(self, device: SimDevice, what: signs.Sign | Setting) -> Undo:
        if isinstance(what, signs.Sign):
            return self._stacked.bend(device, what.point, what.bend)
        place = device, (what.fc, what.addr)
        return self._stacked.hold(
            place, lambda: device.set_by_hand(what, signs.another(what)), lambda: device.set_by_hand(what, None)
        )

    def _abort(self, _fault: Fault, target: Target) -> None:
        with target.plant.change() as t:
            target.plant.freezer.abort(t)


def _point(fault: Fault) -> str:
    return str(fault.args["point"])


def _added(more: Callable[[], float]) -> Bend:
    """Return a bend that adds something to a number."""

    def bend(value: Value) -> Value:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        return value + more()

    return bend


def all_of(undos: Sequence[Undo]) -> Undo:
    """Return what undoes several things."""

    def undo() -> None:
        for each in undos:
            each()

    return undo


def _changing(plant: Plant, undo: Undo) -> Undo:
    """Return `undo`, done as a change of the plant."""

    def done() -> None:
        with plant.change():
            undo()

    return done
