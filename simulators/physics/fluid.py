"""Vessels, bags, pumps and valves: who holds what, and what moves where.

While pumps run, liquid moves in parcels on a fixed grid; between two moments of that grid every mass and every count is
a closed form of time, so a reading never changes anything.  A pump counts its own strokes and ends its dispense itself;
the liquid it moves is less by its slip, and nothing at all when its source is empty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from simulators.physics.contents import Contents, draw, pour

TICK = 30.0  # s, grid of the parcels while something flows
COUNT_ML = 0.01  # mL a count of the totaliser
SETTLING = 7200.0  # s, e-fold time in which suspended cells sink (engineering default, about 1 cm/h)
SETTLED_CARRY = 0.01  # concentration over a settled layer, of the mean one (engineering default)
DROP = 1e-6  # mL: less than this is nothing
NEVER = math.inf

# tare g, physical capacity mL, gas-permeable floor cm2 (engineering defaults)
CLASSES: dict[str, tuple[float, float, float]] = {
    "gas-permeable-10cm2": (60.0, 60.0, 10.0),
    "gas-permeable-100cm2": (120.0, 1250.0, 100.0),
    "gas-permeable-500cm2": (250.0, 6500.0, 500.0),
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

    def carry(self, t: float) -> float:
        """Return the concentration of cells at the outlet over the mean: bags are kneaded, vessels settle."""
        if self.kind == "bag":
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
        self.air = False
        self.occluded = False

    def total_counts(self, t: float) -> int:
        """Return the counts of the totaliser at `t`; it is the register that rolls over."""
        return self.counts + (self.run.counts(t) if self.run else 0)

    def dispensed_ml(self, t: float) -> float:
        """Return what the last dispense has counted (mL)."""
        if self.run:
            return self.run.counts(t) * COUNT_ML
        return self.log[-1].counted_ml if self.log else 0.0

    def end(self, t: float) -> None:
        """Close the run under way at `t`."""
        if self.run is None:
            return
        done = self.run.counts(t)
        self.run.counted_ml, self.run.ended = done * COUNT_ML, t
        self.counts += done
        self.run = None

    def status(self) -> list[str]:
        """Return the names of the status bits that are set."""
        return [name for name, on in (("occlusion", self.occluded), ("air_in_line", self.air)) if on]

    def power_cycle(self, t: float) -> None:
        """Lose power at `t` and come back: the run ends, the totaliser stays, the accepted sequence is forgotten."""
        self.end(t)
        self.sequence, self.boots = 0, self.boots + 1


class Fluidics:
    """The places with their containers, and the pumps between them.

    `advance` must not be asked to go beyond `next_event`; every change (start, stop, valve, hang, take) is made at a
    time to which it has been advanced.
    """

    def __init__(self, ports: Sequence[int], pumps: Mapping[str, Pump]) -> None:
        self.at: dict[int, Container | None] = dict.fromkeys(ports)
        self.pumps = dict(pumps)
        self.t = 0.0
        self.spilled = Contents()
        self._flows: list[tuple[Pump, Container, Container | None, float]] = []
        self._next = NEVER

    def next_event(self) -> float:
        """Return the time (s) of the next parcel, end of a dispense or dry source; infinity when nothing runs."""
        return self._next

    def advance(self, t: float) -> None:
        """Move liquid up to `t`, end what ends by then, and see what flows next."""
        span = t - self.t
        for pump, source, destination, rate in self._flows:
            want = min(rate * span, source.contents.volume)
            if source.contents.volume - want < DROP:
                want = source.contents.volume
            parcel = draw(source.contents, want, source.carry(self.t))
            if pump.run:
                pump.run.moved_ml += want
            self._arrive(parcel, destination, t)
        self.t = t
        for pump in self.pumps.values():
            if pump.run and pump.run.due <= t + 1e-9:
                pump.end(t)
        self.refresh()

    def _arrive(self, parcel: Contents, destination: Container | None, t: float) -> None:
        room = destination.capacity - destination.contents.volume if destination else 0.0
        if parcel.volume > room:
            pour(draw(parcel, parcel.volume - room, 1.0), self.spilled)
        if destination:
            pour(parcel, destination.contents)
            destination.disturbed = t

    def refresh(self) -> None:
        """Work out again what flows from now on; call after any change of pumps, valves or places."""
        self._flows = []
        drain: dict[int, float] = {}
        self._next = NEVER
        for pump in self.pumps.values():
            run = pump.run
            if run is None:
                continue
            if not (pump.suction and pump.delivery):
                pump.occluded = True
                pump.end(self.t)
                continue
            self._next = min(self._next, run.due)
            source, destination = self.at.get(pump.suction), self.at.get(pump.delivery)
            if source is None or source.contents.volume <= DROP:
                pump.air = True
            elif source is not destination:
                rate = run.rate / 60.0 * (1.0 - pump.slip)
                self._flows.append((pump, source, destination, rate))
                drain[id(source)] = drain.get(id(source), 0.0) + rate
        for _, source, _, _ in self._flows:
            self._next = min(self._next, self.t + source.contents.volume / drain[id(source)])
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
            for _, source, destination, rate in self._flows:
                flow = rate * span * source.contents.mass / source.contents.volume
                if source is container:
                    mass -= flow
                elif destination is container:
                    mass += flow
        return mass

    def moving(self, port: int) -> bool:
        """Tell whether liquid enters or leaves what is on a port."""
        container = self.at[port]
        return container is not None and any(container is s or container is d for _, s, d, _ in self._flows)

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
        """Set the clamps; a pump that runs against a closed one is occluded and stops."""
        self.pumps[name].suction, self.pumps[name].delivery = suction, delivery
        self.refresh()

    def volume(self) -> float:
        """Return all liquid in all places, and on the floor (mL)."""
        return self.spilled.volume + sum(c.contents.volume for c in self.at.values() if c)
