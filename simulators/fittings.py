"""The parts of a site's equipment as simulated instruments: each profile's registers, with the suite's physics behind.

What plays which part is read from the same description from which the controller builds its equipment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from devices.calibration import Curve
from devices.equipment.base import Source
from devices.equipment.spec import (
    ClimateSpec,
    ContactFreezerSpec,
    ProgrammerFreezerSpec,
    PumpSpec,
    Spec,
    ValvesSpec,
    parts_of,
)
from devices.profile_types import Profile
from simulators.device import Getter, Handler, Life, ModbusFault, SimDevice, StandIn, Value
from simulators.instruments import (
    BUSY,
    GAS_NOISE,
    HUMIDITY_NOISE,
    PROBE_NOISE,
    REFUSED,
    SCALE_NOISE,
    TEMPERATURE_NOISE,
    WASTE_NOISE,
    WASTE_PORT,
    Host,
    serial_number,
)
from simulators.parts import simulated
from simulators.physics.fluid import Fluidics
from simulators.physics.freezing import IDLE_CHAMBER, Freezer, Row
from simulators.physics.noise import gauss, stream
from simulators.physics.thermal import Climate

FLOW_NOISE = 0.5  # mL/min (engineering default)
HOST_LOST_S = 10.0  # s without a request until an I/O module with a host watchdog opens its outputs [P]
ENDLESS_ML = 100_000.0  # mL: a drive that does not count runs until somebody stops it
Args = Mapping[str, Any]


class Place(Host, Protocol):
    """What the parts need of the plant."""

    climate: Climate
    fluidics: Fluidics
    freezer: Freezer

    def announce(self, t: float, action: Callable[[], None]) -> None:
        """Have `action` done at plant time `t` (s)."""


@dataclass
class _Draft:
    """An instrument in the making: what physics reads and does, and what power does to it."""

    values: dict[str, Getter] = field(default_factory=dict[str, Getter])
    handlers: dict[str, Handler] = field(default_factory=dict[str, Handler])
    off: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    on: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])


class Fittings:
    """Builds the instruments of a site's equipment for one plant.

    `balances` says at which port a load cell hangs; `stored` are the programmes, by digest, in a freezer that is run by
    its contacts.
    """

    def __init__(
        self,
        place: Place,
        profiles: Mapping[str, Profile],
        equipment: Mapping[str, Spec],
        balances: Mapping[str, int],
        stored: Mapping[str, Sequence[Row]] | None = None,
    ) -> None:
        self._place = place
        self._profiles = profiles
        self._equipment = equipment
        self._stored = {digest: list(rows) for digest, rows in (stored or {}).items()}
        self._drafts = {name: _Draft() for name in profiles}
        self._modules: dict[str, _Module] = {}
        for name, spec in equipment.items():
            self._fit(name, spec)
        for name, port in balances.items():
            self._drafts[name].values["gross"] = partial(self._mass, port, f"scales.{port}")

    def devices(self) -> dict[str, SimDevice]:
        """Return the instruments by name."""
        found: dict[str, SimDevice] = {}
        for name, draft in self._drafts.items():
            profile = self._profiles[name]
            device = simulated(profile, draft.values, draft.handlers, serial=serial_number(name))
            registers = device.life

            def off(draft: _Draft = draft, registers: Life = registers) -> None:
                registers.off()
                for act in draft.off:
                    act()

            def on(draft: _Draft = draft) -> None:
                for act in draft.on:
                    act()

            device.life = Life(off, on, registers.new)
            found[name] = device
        for name, module in self._modules.items():
            if self._profiles[name].on_comm_loss == "stops":
                found[name].asked.append(module.asked)
        return found

    def stand_ins(self, devices: Mapping[str, SimDevice], balances: Mapping[str, int]) -> dict[str, StandIn]:
        """Return which parts stand in for which instrument of the suite; `devices` are those of `devices()`."""
        found: dict[str, StandIn] = {}
        for name, spec in self._equipment.items():
            points: dict[str, tuple[SimDevice, str]] = {}
            if isinstance(spec, ClimateSpec):
                points = {
                    "temperature": (devices[spec.programmer], "temperature"),
                    "temperature_target": (devices[spec.programmer], "setpoint"),
                    "co2": (devices[spec.co2.part], spec.co2.point),
                }
            elif isinstance(spec, PumpSpec) and "running" in self._profiles[spec.drive].points:
                points = {"running": (devices[spec.drive], "running")}
            parts = [part for part in parts_of(spec) if part not in self._modules or not isinstance(spec, PumpSpec)]
            found[name] = StandIn(tuple(devices[part] for part in parts), points)
        if balances:
            cells = {f"mass_{port}": (devices[name], "gross") for name, port in balances.items()}
            found["scales"] = StandIn(tuple(devices[name] for name in balances), cells)
        return found

    def _fit(self, name: str, spec: Spec) -> None:
        match spec:
            case ClimateSpec():
                self._climate(spec)
            case PumpSpec():
                self._pump(name, spec)
            case ValvesSpec():
                self._valves(name, spec)
            case ProgrammerFreezerSpec():
                self._programmer(spec)
            case ContactFreezerSpec():
                self._contacts(spec)

    def _noise(self, name: str, sigma: float) -> Callable[[], float]:
        key = stream(self._place.seed, name)
        return lambda: gauss(key, int(self._place.time()), sigma)

    def _reads(self, source: Source | None, get: Callable[[], float | None], sigma: float) -> None:
        """Let a point of a part read a physical value, with noise."""
        if source is None:
            return
        noise = self._noise(str(source), sigma)

        def read() -> Value:
            value = get()
            return None if value is None else value + noise()

        self._drafts[source.part].values[source.point] = read

    # --- climate --------------------------------------------------------------------------------------------------

    def _climate(self, spec: ClimateSpec) -> None:
        place, climate = self._place, self._place.climate
        temperature = Source(spec.programmer, "temperature")
        for source in (temperature, None if spec.second is None else spec.second[0]):
            self._reads(source, lambda: climate.temperature.at(place.time()), TEMPERATURE_NOISE)
        self._reads(spec.co2, lambda: climate.co2.at(place.time()), GAS_NOISE)
        self._reads(spec.humidity, lambda: climate.humidity.at(place.time()), HUMIDITY_NOISE)
        draft, profile = self._drafts[spec.programmer], self._profiles[spec.programmer]
        draft.values["setpoint"] = draft.values["setpoint_now"] = lambda: climate.targets["temperature"]
        draft.values["standby"] = lambda: climate.heater_cut

        def set_temperature(args: Args) -> None:
            with place.change() as t:
                climate.set_temperature(t, float(args["value"]))

        def cut(_args: Args) -> None:
            with place.change() as t:
                climate.cut_heater(t)

        def power(*, on: bool) -> None:
            with place.change() as t:
                climate.powered = on
                climate.heater_cut = False
                climate.steer(t)

        draft.handlers["set_temperature"] = set_temperature
        if profile.safe_command is not None:
            draft.handlers[profile.safe_command] = cut
        draft.off.append(partial(power, on=False))
        draft.on.append(partial(power, on=True))
        self._mixer(spec)

    def _mixer(self, spec: ClimateSpec) -> None:
        place, climate = self._place, self._place.climate
        flows = {spec.mixer.co2: 0.0, spec.mixer.carrier: 0.0}

        def flow(part: str, value: float) -> None:
            flows[part] = value
            total = sum(flows.values())
            with place.change() as t:
                climate.set_co2(t, 100.0 * flows[spec.mixer.co2] / total if total > 0.0 else 0.0)

        def set_flow(part: str, args: Args) -> None:
            flow(part, float(args["value"]))

        for part in flows:
            draft, noise = self._drafts[part], self._noise(f"{part}.flow", FLOW_NOISE)
            draft.values["setpoint"] = partial(flows.__getitem__, part)
            draft.values["flow"] = partial(_shaky, partial(flows.__getitem__, part), noise)
            draft.handlers["set_flow"] = partial(set_flow, part)
            draft.off.append(partial(flow, part, 0.0))

    # --- liquids --------------------------------------------------------------------------------------------------

    def _mass(self, port: int, name: str) -> float:
        t = self._place.time()
        sigma = WASTE_NOISE if port == WASTE_PORT else SCALE_NOISE
        mass = self._place.fluidics.mass(port, t) + gauss(stream(self._place.seed, name), int(t), sigma)
        return max(0.0, mass)  # the sign is shown elsewhere

    def _pump(self, name: str, spec: PumpSpec) -> None:
        place, fluidics, unit = self._place, self._place.fluidics, self._place.fluidics.pumps[name]
        draft, profile = self._drafts[spec.drive], self._profiles[spec.drive]
        curve = Curve(spec.curve)
        per_turn = profile.points.get("steps_per_turn")
        turn = 1.0
        if per_turn is not None and profile.sim is not None:
            turn = float(profile.sim.values.get("steps_per_turn", "1"))
        told = {"speed": 0.0, "steps": 0.0, "counts": 0.0}

        def keep(what: str, args: Args) -> None:
            told[what] = float(args["value"])

        def start(_args: Args) -> None:
            if spec.enable is not None and not self._module(spec.enable.part).outputs.get(spec.enable.channel, False):
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
            module = self._module(spec.enable.part)
            module.watch(spec.enable.channel, lambda on: None if on else stop())

    def _valves(self, name: str, spec: ValvesSpec) -> None:
        fluidics = self._place.fluidics
        unit = fluidics.pumps[name.replace("valves", "pump")]

        def moved(_on: bool) -> None:
            ports = [
                next((p for p, o in side.items() if self._module(o.part).outputs.get(o.channel, False)), 0)
                for side in (spec.suction, spec.delivery)
            ]
            with self._place.change():
                fluidics.select(unit.name, *ports)

        for side in (spec.suction, spec.delivery):
            for output in side.values():
                self._module(output.part).watch(output.channel, moved)

    def _module(self, part: str) -> _Module:
        """Return an I/O module, made when it is first asked for."""
        module = self._modules.get(part)
        if module is None:
            module = self._modules[part] = _Module(self._place)
            draft = self._drafts[part]
            draft.handlers["set_output"] = module.set_output
            for point in self._profiles[part].points:
                kind, _, number = point.partition("_")
                if number.isdigit() and kind == "do":
                    draft.values[point] = partial(module.outputs.get, int(number), False)
                elif number.isdigit() and kind == "di":
                    draft.values[point] = partial(module.input, int(number))
            draft.off.append(module.open_all)
        return module

    # --- freezers -------------------------------------------------------------------------------------------------

    def _programmer(self, spec: ProgrammerFreezerSpec) -> None:
        place, freezer, draft = self._place, self._place.freezer, self._drafts[spec.programmer]
        programs: dict[int, dict[int, Row]] = {}
        chosen = {"program": 1.0}

        def segment(make: Callable[[Args], Row], args: Args) -> None:
            programs.setdefault(int(args.get("program", 1)), {})[int(args["segment"])] = make(args)

        def ramp(args: Args) -> Row:
            return Row("ramp", "chamber", float(args["rate"]), float(args["target"]), "target", 0.0)

        def dwell(args: Args) -> Row:
            return Row("hold", "", 0.0, 0.0, "time", float(args["time"]))

        def end(_args: Args) -> Row:
            return Row("end", "", 0.0, 0.0, "", 0.0)

        def choose(args: Args) -> None:
            chosen["program"] = float(args["program"])

        def run(args: Args) -> None:
            if "program" in args:
                choose(args)
            with place.change() as t:
                rows = _course(programs.get(int(chosen["program"]), {}), freezer.chamber)
                if freezer.running:
                    raise ModbusFault(BUSY)
                freezer.rows = rows
                if not rows or not freezer.start(freezer.sequence % 65_535 + 1, t):
                    raise ModbusFault(REFUSED)

        def hold(_args: Args) -> None:
            with place.change() as t:
                freezer.abort(t)

        def reset(_args: Args) -> None:
            with place.change() as t:
                freezer.abort(t)
                freezer.state = "idle"

        def set_temperature(args: Args) -> None:
            with place.change():
                if not freezer.running:
                    freezer.setpoint = float(args["value"])

        names = {"idle": "reset", "running": "run", "complete": "complete", "aborted": "hold"}
        shown = self._profiles[spec.programmer].points["program_mode"].symbols.values()
        self._reads(Source(spec.programmer, "temperature"), lambda: (place.time(), freezer.chamber)[1], PROBE_NOISE)
        self._reads(spec.sample, self._in_the_bag, PROBE_NOISE)
        self._reads(spec.ln2, lambda: (place.time(), freezer.ln2)[1], 0.0)
        draft.values["setpoint_now"] = lambda: (place.time(), freezer.setpoint)[1]
        draft.values["setpoint"] = lambda: IDLE_CHAMBER
        draft.values["program"] = lambda: chosen["program"]
        draft.values["segment"] = lambda: (place.time(), freezer.segment)[1]

        def mode() -> str:
            place.time()
            name = names.get(freezer.state, "reset")
            return name if name in shown else "reset"

        draft.values["program_mode"] = mode
        draft.handlers |= {
            "ramp_segment": partial(segment, ramp),
            "dwell_segment": partial(segment, dwell),
            "end_segment": partial(segment, end),
            "select_program": choose,
            "program_run": run,
            "program_hold": hold,
            "program_reset": reset,
            "set_temperature": set_temperature,
        }
        self._power(draft, keep=programs.copy)

    def _contacts(self, spec: ContactFreezerSpec) -> None:
        place, freezer, contacts = self._place, self._place.freezer, spec.contacts
        module = self._module(contacts.part)

        def start(digest: str, on: bool) -> None:
            with place.change() as t:
                held = contacts.hold is not None and module.outputs.get(contacts.hold, False)
                if on and not held and not freezer.running and digest in self._stored:
                    freezer.rows = self._stored[digest]
                    freezer.start(freezer.sequence % 65_535 + 1, t)

        def hold(on: bool) -> None:
            with place.change() as t:
                if on:
                    freezer.abort(t)

        for digest, channel in contacts.starts.items():
            module.watch(channel, partial(start, digest))
        if contacts.hold is not None:
            module.watch(contacts.hold, hold)
        module.inputs[contacts.running] = lambda: freezer.running
        module.inputs[contacts.alarm] = lambda: not freezer.powered
        self._reads(spec.probes.chamber, lambda: (place.time(), freezer.chamber)[1], PROBE_NOISE)
        self._reads(spec.probes.sample, self._in_the_bag, PROBE_NOISE)
        self._reads(spec.probes.ln2, lambda: (place.time(), freezer.ln2)[1], 0.0)

    def _in_the_bag(self) -> float:
        """Return what the sample probe sees: the first bag, or the chamber where there is none."""
        self._place.time()
        sample = self._place.freezer.sample
        return self._place.freezer.chamber if sample is None else sample

    def _power(self, draft: _Draft, keep: Callable[[], object]) -> None:
        """Let the freezer's power go and come with that of its controller; its programmes stay."""
        place, freezer = self._place, self._place.freezer

        def power(*, on: bool) -> None:
            keep()
            with place.change() as t:
                freezer.power(t, on=on)

        draft.off.append(partial(power, on=False))
        draft.on.append(partial(power, on=True))


class _Module:
    """An I/O module: outputs, what they move, inputs; a host watchdog that opens all outputs."""

    def __init__(self, place: Place) -> None:
        self.outputs: dict[int, bool] = {}
        self.inputs: dict[int, Callable[[], bool]] = {}
        self._place = place
        self._watchers: dict[int, list[Callable[[bool], None]]] = {}
        self._heard = 0.0
        self._guarding = False

    def watch(self, channel: int, moved: Callable[[bool], None]) -> None:
        """Tell `moved` of each change of an output."""
        self._watchers.setdefault(channel, []).append(moved)

    def input(self, channel: int) -> bool:
        """Return what an input sees."""
        self._place.time()
        read = self.inputs.get(channel)
        return read is not None and read()

    def set_output(self, args: Args) -> None:
        """Switch an output."""
        self._switch(int(args["channel"]), bool(args["value"]))

    def open_all(self) -> None:
        """Open every output, as without power."""
        for channel in [channel for channel, on in self.outputs.items() if on]:
            self._switch(channel, on=False)

    def asked(self) -> None:
        """Take note of a request: the host lives."""
        self._heard = self._place.time()
        if any(self.outputs.values()) and not self._guarding:
            self._guarding = True
            self._place.announce(self._heard + HOST_LOST_S, self._look)

    def _look(self) -> None:
        due = self._heard + HOST_LOST_S
        if any(self.outputs.values()) and self._place.time() < due:
            self._place.announce(due, self._look)
            return
        self._guarding = False
        self.open_all()

    def _switch(self, channel: int, on: bool) -> None:
        if self.outputs.get(channel, False) is on:
            return
        self.outputs[channel] = on
        for moved in self._watchers.get(channel, ()):
            moved(on)


def _course(segments: Mapping[int, Row], chamber: float) -> list[Row]:
    """Return the rows of a programme, up to its end; a ramp goes from where the one before it ended."""
    rows: list[Row] = []
    at = chamber
    for number in sorted(segments):
        row = segments[number]
        if row.kind == "end":
            break
        if row.kind == "ramp":
            rate = abs(row.rate) if row.target > at else -abs(row.rate)
            at = row.target
            rows.append(Row("ramp", "chamber", rate, row.target, "target", 0.0))
        else:
            rows.append(Row("hold", "chamber", 0.0, at, "time", row.timeout))
    return rows


def _shaky(get: Callable[[], float], noise: Callable[[], float]) -> float:
    value = get()
    return max(0.0, value + noise()) if value > 0.0 else 0.0
