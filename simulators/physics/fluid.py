"""Vessels, bags, pumps and valves: who holds what, and what moves where.

While pumps run, liquid moves in parcels on a fixed grid; between two moments of that grid every mass and every count is
a closed form of time, so a reading never changes anything.  A pump counts its own strokes and ends its dispense itself;
the liquid it moves is less by its slip, and nothing at all when its source is empty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from simulators.physics.contents import Contents, draw, pour
from simulators.physics.vessels import GAS_PERMEABLE, ROCKING, Vessel

TICK = 30.0  # s, grid of the parcels while something flows
COUNT_ML = 0.01  # mL a count of the totaliser
SETTLING = 7200.0  # s, e-fold time in which suspended cells sink (engineering default, about 1 cm/h)
SETTLED_CARRY = 0.01  # concentration over a settled layer, of the mean one (engineering default)
DROP = 1e-6  # mL: less than this is nothing
BLOCKED_SEEN = 20.0  # s of pumping against a blocked line until the pump notices (engineering default)
SCALE_SEES = 3.0  # mL/min: a slower leak or drip does not make a scale unstable (engineering default)
FILTER_FLOATS = 50.0  # mL: a floating filter draws nothing from less (engineering default)
NEVER = math.inf

# tare g, physical capacity mL, gas-permeable floor cm2 (engineering defaults)
CLASSES: dict[str, tuple[float, float, float]] = {
    "gas-permeable-10cm2": (60.0, 60.0, 10.0),
    "gas-permeable-100cm2": (120.0, 1250.0, 100.0),
    "gas-permeable-500cm2": (250.0, 6500.0, 500.0),
    "flask-175cm2": (110.0, 550.0, 0.0),
    "culture-bag-3l": (60.0, 3000.0, 0.0),
    "rocking-2l": (150.0, 1500.0, 0.0),
    "stirred-2l": (1500.0, 2200.0, 0.0),
    "bag": (30.0, 8000.0, 200.0),
    "waste": (250.0, 60000.0, 200.0),
}


@dataclass(slots=True)
class Container:
    """A vessel or bag that hangs or stands somewhere; mass in g, volumes in mL."""

    name: str
    kind: str
    tare: float
    capacity: float
    area: float
    contents: Contents = field(default_factory=Contents)
    disturbed: float = 0.0  # s, when it was last mixed
    fragments: float = 0.0
    soaked: float = 0.0  # d, how long the fragments have been in medium
    vessel: Vessel = GAS_PERMEABLE
    rpm: float = 0.0  # how fast it is rocked or stirred
    aired: float = 0.0  # s, until when its oxygen was followed, where a rocker has it

    @property
    def rocking(self) -> bool:
        """Tell whether it is a bag that is rocked."""
        return self.vessel.kind == ROCKING.kind

    def carry(self, t: float) -> float:
        """Return the concentration of cells at the outlet over the mean: what is kneaded or rocked is mixed."""
        if self.kind == "bag" or self.rpm > 0.0:
            return 1.0
        return SETTLED_CARRY + (1.0 - SETTLED_CARRY) * math.exp(-max(0.0, t - self.disturbed) / SETTLING)


@dataclass(slots=True)
class Dispense:
    """What a pump was told and what it did, by its own count and in truth (mL, s); `ended` is None while it runs."""

    sequence: int
    commanded_ml: float
    rate: float
    started: float
    source: int
    destination: int
    counted_ml: float = 0.0
    moved_ml: float = 0.0
    ended: float | None = None

    def counts(self, t: float) -> int:
        """Return whole counts at `t`."""
        whole = round(self.commanded_ml / COUNT_ML)
        return min(whole, int(self.rate / 60.0 * max(0.0, t - self.started) / COUNT_ML + 1e-6))

    @property
    def due(self) -> float:
        """Return when the device will end it by its own count (s)."""
        return self.started + self.commanded_ml / self.rate * 60.0


class Pump:
    """A peristaltic pump with a valve manifold on each side."""

    def __init__(self, name: str, slip: float, counts: int = 0) -> None:
        self.name = name
        self.slip = slip
        self.suction = 0
        self.delivery = 0
        self.sequence = 0
        self.boots = 1
        self.counts = counts  # of the totaliser, without the run under way
        self.log: list[Dispense] = []
        self.run: Dispense | None = None
        self.last_counted_ml = 0.0
        self.air = False
        self.occluded = False
        self.watchdog = 0  # s it is armed with; 0: disarmed
        self.watchdog_due = NEVER
        self.tripped = False  # the watchdog has stopped it, and was not written since
        self.blocked: float | None = None  # a fault, since (s): it turns and counts, and nothing moves
        self.withheld = 0.0  # a fault, mL that do not come out of what it draws from: a film has closed the outlet
        self.stuck = False  # a fault: its clamps stay where they are
        self.drip = 0.0  # a fault, mL/min: what runs through while it stands and both clamps are open
        self.dripped_ml = 0.0

    def total_counts(self, t: float) -> int:
        """Return the counts of the totaliser at `t`; it is the register that rolls over."""
        return self.counts + (self.run.counts(t) if self.run else 0)

    def dispensed_ml(self, t: float) -> float:
        """Return what the last dispense has counted (mL)."""
        return self.run.counts(t) * COUNT_ML if self.run else self.last_counted_ml

    def end(self, t: float) -> None:
        """Close the run under way at `t`."""
        if self.run is None:
            return
        done = self.run.counts(t)
        self.run.counted_ml = self.last_counted_ml = done * COUNT_ML
        self.run.ended = t
        self.counts += done
        self.run = None

    def status(self) -> list[str]:
        """Return the names of the status bits that are set."""
        bits = (("occlusion", self.occluded), ("air_in_line", self.air), ("watchdog_tripped", self.tripped))
        return [name for name, on in bits if on]

    def guard(self, seconds: int, t: float) -> None:
        """Arm or feed the watchdog for `seconds` from `t` on; 0 disarms it."""
        self.watchdog, self.watchdog_due = seconds, t + seconds if seconds else NEVER
        self.tripped = False

    def trip(self, t: float) -> None:
        """Do what the watchdog does: stop, disarm it, and say so."""
        self.end(t)
        self.guard(0, t)
        self.tripped = True

    def watch(self, t: float) -> None:
        """Do what is due at `t`: stop when nobody fed the watchdog, notice a blocked line."""
        if self.watchdog_due <= t:
            self.trip(t)
        if self.notices() <= t:
            self.occluded = True

    def notices(self) -> float:
        """Return when it will notice that its line is blocked (s); infinity when there is nothing to notice."""
        if self.run is None or self.blocked is None or self.occluded:
            return NEVER
        return max(self.run.started, self.blocked) + BLOCKED_SEEN

    def power_cycle(self, t: float) -> None:
        """Lose power at `t` and come back: the run ends, the totaliser stays, the accepted sequence is forgotten."""
        self.end(t)
        self.guard(0, t)
        self.sequence, self.boots = 0, self.boots + 1
        self.air = self.occluded = False

    def renew(self) -> None:
        """Be another pump, as new: nothing counted, nothing accepted; the tubing and its faults stay."""
        self.counts, self.sequence, self.boots = 0, 0, 1
        self.last_counted_ml = 0.0


class Flow(NamedTuple):
    """Liquid on its way at `rate` mL/s: by a pump, or a leak (`pump` None) to the floor (`destination` None)."""

    pump: Pump | None
    source: Container
    destination: Container | None
    rate: float
    filtered: bool = False  # through a filter that keeps cells back

    @property
    def available(self) -> float:
        """Return how much may still flow (mL); a leak finds the last drop."""
        volume = self.source.contents.volume
        return max(0.0, volume - self.pump.withheld - FILTER_FLOATS * self.filtered) if self.pump else volume

    @property
    def seen(self) -> bool:
        """Tell whether a scale at either end comes to no rest by it."""
        return (self.pump is not None and self.pump.run is not None) or self.rate * 60.0 >= SCALE_SEES


class Fluidics:
    """The places with their containers, and the pumps between them.

    `advance` must not be asked to go beyond `next_event`; every change (start, stop, valve, hang, take) is made at a
    time to which it has been advanced.
    """

    def __init__(self, ports: Sequence[int], pumps: Mapping[str, Pump], waste: int = 0) -> None:
        """`waste` is the port to which what a filter lets through is drawn."""
        self.waste = waste
        self.at: dict[int, Container | None] = dict.fromkeys(ports)
        self.pumps = dict(pumps)
        self.t = 0.0
        self.spilled = Contents()
        self.leaks: dict[int, float] = {}  # faults: port -> mL/min that run to the floor from what is on it
        self._flows: list[Flow] = []
        self._next = NEVER

    def next_event(self) -> float:
        """Return the time (s) of the next parcel, end of a dispense or dry source; infinity when nothing runs."""
        return self._next

    def advance(self, t: float) -> None:
        """Move liquid up to `t`, end what ends by then, and see what flows next."""
        span = t - self.t
        for flow in self._flows:
            pump, source, destination, rate, filtered = flow
            available = flow.available
            want = min(rate * span, available)
            if available - want < DROP:
                want = available
            carry = source.vessel.filter_pass if filtered else source.carry(self.t)
            parcel = draw(source.contents, want, carry)
            if pump and pump.run:
                pump.run.moved_ml += want
            elif pump:
                pump.dripped_ml += want
            self._arrive(parcel, destination)
            if destination and flow.seen:
                destination.disturbed = t
        self.t = t
        for pump in self.pumps.values():
            if pump.run and pump.run.due <= t + 1e-9:
                pump.end(t)
            pump.watch(t)
        self.refresh()

    def _arrive(self, parcel: Contents, destination: Container | None) -> None:
        room = destination.capacity - destination.contents.volume if destination else 0.0
        if parcel.volume > room:
            pour(draw(parcel, parcel.volume - room, 1.0), self.spilled)
        if destination:
            pour(parcel, destination.contents)

    def refresh(self) -> None:
        """Work out again what flows from now on; call after any change of pumps, valves or places."""
        self._flows = []
        drain: dict[int, float] = {}
        self._next = NEVER
        for pump in self.pumps.values():
            self._next = min(self._next, pump.watchdog_due)
            run, open_ways = pump.run, pump.suction and pump.delivery
            if run is None and not (pump.drip and open_ways):
                continue
            if run is not None:
                if not open_ways:
                    pump.occluded = True
                    pump.end(self.t)
                    continue
                self._next = min(self._next, run.due, pump.notices())
            source, destination = self.at.get(pump.suction), self.at.get(pump.delivery)
            if source is None or source.contents.volume - pump.withheld <= DROP:
                pump.air = pump.air or run is not None
            elif source is not destination and pump.blocked is None:
                rate = run.rate / 60.0 * (1.0 - pump.slip) if run else pump.drip / 60.0
                filtered = source.vessel.filter_pass < 1.0 and pump.delivery == self.waste
                if rate > 0.0:  # a pump that slips altogether turns and moves nothing
                    flow = Flow(pump, source, destination, rate, filtered)
                    if flow.available > DROP:
                        self._flows.append(flow)
                    else:
                        pump.air = pump.air or run is not None
        for port, rate in self.leaks.items():
            container = self.at[port]
            if container is not None and rate > 0.0 and container.contents.volume > DROP:
                self._flows.append(Flow(None, container, None, rate / 60.0))
        for flow in self._flows:
            drain[id(flow.source)] = drain.get(id(flow.source), 0.0) + flow.rate
        for flow in self._flows:
            self._next = min(self._next, self.t + flow.available / drain[id(flow.source)])
        if self._flows:
            self._next = min(self._next, (math.floor(self.t / TICK + 1e-9) + 1.0) * TICK)

    def mass(self, port: int, t: float) -> float:
        """Return the gross mass (g) on a port at `t`; 0 when nothing is there."""
        container = self.at[port]
        if container is None:
            return 0.0
        mass = container.tare + container.contents.mass
        span = t - self.t
        if span > 0.0:
            for _, source, destination, rate, _ in self._flows:
                if source is container or destination is container:
                    moved = rate * span * source.contents.mass / source.contents.volume
                    mass += moved if destination is container else -moved
        return mass

    def moving(self, port: int) -> bool:
        """Tell whether liquid enters or leaves what is on a port."""
        container = self.at[port]
        return container is not None and any(
            flow.seen and (container is flow.source or container is flow.destination) for flow in self._flows
        )

    def start(self, name: str, sequence: int, rate: float, volume: float, t: float) -> bool:
        """Begin a dispense of `volume` mL at `rate` mL/min.

        Returns False and does nothing when the pump is running; a sequence already accepted is ignored (True).
        """
        pump = self.pumps[name]
        if sequence == pump.sequence:
            return True
        if pump.run is not None:
            return False
        pump.sequence, pump.air, pump.occluded = sequence, False, False
        pump.run = Dispense(sequence, volume, rate, t, pump.suction, pump.delivery)
        pump.log.append(pump.run)
        self.refresh()
        return True

    def stop(self, name: str, t: float) -> None:
        """End the dispense under way at `t`."""
        self.pumps[name].end(t)
        self.refresh()

    def select(self, name: str, suction: int, delivery: int) -> None:
        """Set the clamps, unless they are stuck; a pump that runs against a closed one is occluded and stops."""
        if not self.pumps[name].stuck:
            self.pumps[name].suction, self.pumps[name].delivery = suction, delivery
        self.refresh()

    def volume(self) -> float:
        """Return all liquid in all places, and on the floor (mL)."""
        return self.spilled.volume + sum(c.contents.volume for c in self.at.values() if c)
