"""One simulated suite: an incubator with six weighed positions, three pumps, sixteen scales, a freezer.

The plant has events, at times that its own state decides (grid steps, parcels, ends of dispenses, announced actions of
people).  Whoever asks for the time first has everything done that was due by then, in the order of time; reading
changes nothing else.  So the plant is the same to the last bit whoever looks when, at virtual and at real pace.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from simulators import instruments, rocker
from simulators.device import SimDevice, StandIn
from simulators.physics.contents import ROOM
from simulators.physics.culture import DAY, Surroundings, grow, leaving, stimulate
from simulators.physics.donors import Donor, donor
from simulators.physics.fluid import Container, Fluidics, Pump
from simulators.physics.freezing import Freezer
from simulators.physics.kinetics import DEFAULTS, Kinetics
from simulators.physics.noise import stream, uniform
from simulators.physics.rocker import Rocker
from simulators.physics.thermal import Climate, relax
from simulators.physics.vessels import OF_CLASS, Vessel
from simulators.timeline import Timeline, Times
from simulators.trace import Trace

STATION = range(1, 7)  # ports of the warm positions
HOOKS = range(7, 16)
WASTE = 16
PORTS = range(1, 17)
PUMPS = ("pump_media", "pump_cells", "pump_waste")
SLIP = (0.005, 0.02)  # share by which a pump moves less than it counts
GRID = 600.0  # s, step of culture and vessel temperature
TRACE_EVERY = 6  # grid steps
WARM_ENOUGH = 0.02  # K: nearer than this to its surroundings a vessel without cells is left alone
MOST_ACTIONS = 10_000


@dataclass(slots=True)
class Aside:
    """What is not on a port: what is on the shelf and in the freezer; liquid ever brought in, and gone for good (mL).

    Gone are samples, wash waste and what was thrown away.
    """

    shelf: dict[str, Container] = field(default_factory=dict[str, Container])
    in_freezer: list[Container] = field(default_factory=list[Container])
    brought_ml: float = 0.0
    removed_ml: float = 0.0


class Room:
    """What several suites share: their time, and one freezer."""

    def __init__(self, clock: Times) -> None:
        self.timeline = Timeline(clock)
        self.freezer = Freezer()
        self.device: SimDevice | None = None
        self.timeline.join(self.freezer)


class Plant:
    """The physics of a suite and its instruments; `devices` are what a controller can reach.

    Truth for oracles: `pumps[...].log`, `place(port)`, `volume_total()` (equals `aside.brought_ml`), `trace`.
    Times inside are seconds since the timeline was made, by `clock`.
    """

    def __init__(
        self,
        clock: Times,
        seed: int = 1,
        who: Donor | None = None,
        *,
        kinetics: Kinetics = DEFAULTS,
        vessels: Mapping[str, Vessel] = OF_CLASS,
        suffix: str = "",
        room: Room | None = None,
    ) -> None:
        """Build the suite; the donor is drawn from `seed` unless given, and expands.

        `kinetics`, and `vessels` by class of containers, are what the culture model assumes, for studies to change;
        `suffix` ends the names of its instruments; `room` is shared with other suites, else it has its own.
        """
        self.clock = clock
        self.seed = seed
        self.suffix = suffix
        self.donor = who or donor(seed)
        self.kinetics = kinetics
        self.vessels = vessels
        self.climate = Climate()
        slips = stream(seed, "pump slip")
        pumps = {f"{name}{suffix}": Pump(f"{name}{suffix}", uniform(slips, i, *SLIP)) for i, name in enumerate(PUMPS)}
        self.fluidics = Fluidics(PORTS, pumps, WASTE)
        self.rocker: Rocker | None = None  # what is rocked moves at its nominal speed where there is none
        self.room = room or Room(clock)
        self.freezer = self.room.freezer
        self.aside = Aside()
        self.trace = Trace()
        self.origin = self.room.timeline.origin
        self.time = self.room.timeline.time
        self.short_hung: list[Callable[[int], float]] = []  # faults: share by which what is hung on a port is short
        self._due = math.inf
        self._grid = math.inf  # next grid step, while anything lives
        self._actions: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self.room.timeline.join(self)
        self.devices: Mapping[str, SimDevice] = self._instruments()
        self.stand_ins: Mapping[str, StandIn] = {}  # instruments of the suite that a site builds of parts instead

    @property
    def pumps(self) -> Mapping[str, Pump]:
        """Return the pumps by name, each with the log of what it did."""
        return self.fluidics.pumps

    def _instruments(self) -> dict[str, SimDevice]:
        made = {
            f"incubator{self.suffix}": instruments.incubator(self, self.climate, f"incubator{self.suffix}"),
            f"scales{self.suffix}": instruments.scales(self, self.fluidics, f"scales{self.suffix}", self.ripple),
            "freezer": self.room.device or instruments.freezer(self, self.freezer),
        }
        self.room.device = made["freezer"]
        for name, unit in self.pumps.items():
            valves = name.replace("pump", "valves")
            made[name] = instruments.pump(self, self.fluidics, unit)
            made[valves] = instruments.valves(self, self.fluidics, unit, valves)
        return made

    def put_up_rocker(self) -> None:
        """Have a rocker in place of the incubator: it rocks the bags of that kind in the warm positions."""
        self.rocker = Rocker()
        name = f"incubator{self.suffix}"
        device = rocker.rocker(self, self.climate, self.rocker, self.on_rocker, name)
        self.devices = {**self.devices, name: device}

    def rocked(self, port: int) -> bool:
        """Tell whether what is on a port is on the rocker."""
        container = self.fluidics.at.get(port)
        return self.rocker is not None and port in STATION and container is not None and container.rocking

    def on_rocker(self) -> Container | None:
        """Return the first bag on the rocker that holds anything: that is where its probes are."""
        found = (self.fluidics.at[port] for port in STATION if self.rocked(port))
        return next((each for each in found if each is not None and each.contents.volume > 0.0), None)

    def ripple(self, port: int, t: float) -> float:
        """Return what rocking leaves in the mass on a port (g, 1 sigma)."""
        container = self.fluidics.at[port]
        if self.rocker is None or container is None or not self.rocked(port):
            return 0.0
        return self.rocker.ripple(t) * container.contents.mass

    def _air(self, t: float) -> None:
        """Follow the oxygen of what is rocked up to `t`, and whether it is still mixed."""
        if self.rocker is None:
            return
        for port in STATION:
            container = self.fluidics.at[port]
            if container is None or not self.rocked(port):
                continue
            if t > container.aired:
                c = container.contents
                c.oxygen = self.rocker.oxygen(c, container.vessel, container.aired, t, self.kinetics)[0]
                container.aired = t
            turned, container.rpm = container.rpm, self.rocker.rpm(t)
            if turned > 0.0 and container.rpm == 0.0:
                container.disturbed = t  # from now on it settles

    @contextmanager
    def change(self) -> Generator[float]:
        """Bring the liquids to the present, give its time (s), and see what is due next when the block is left."""
        t = max(self.time(), self.fluidics.t)
        self._air(t)
        self.fluidics.advance(t)
        try:
            yield t
        finally:
            self.fluidics.refresh()
            self._reschedule(t)
            self.room.timeline.look()

    def announce(self, t: float, action: Callable[[], None]) -> None:
        """Have `action` done at plant time `t` (s), or at once when that is not later than now.

        Raises RuntimeError when 10,000 actions are waiting.
        """
        if t <= self.time():
            action()
            return
        if len(self._actions) >= MOST_ACTIONS:
            raise RuntimeError(f"{MOST_ACTIONS} announced actions are waiting: nobody is looking at the plant's time")
        heapq.heappush(self._actions, (t, next(self._number), action))
        self._due = min(self._due, t)
        self.room.timeline.look()

    def place(self, port: int) -> Container | None:
        """Return what is on a port; its contents are those of the last parcel while liquid moves (at most 30 s ago)."""
        self.time()
        return self.fluidics.at[port]

    def volume_total(self) -> float:
        """Return all liquid (mL): in places, on the floor, on the shelf, in the freezer, sampled and discarded."""
        aside = [*self.aside.shelf.values(), *self.aside.in_freezer]
        return self.fluidics.volume() + sum(c.contents.volume for c in aside) + self.aside.removed_ml

    def next_event(self) -> float:
        """Return when something is due (s): parcels, ends of dispenses, grid steps, announced actions."""
        return self._due

    def advance(self, t: float) -> None:
        """Do what is due at `t`."""
        if t >= min(self.fluidics.next_event(), self._grid) or (self._actions and self._actions[0][0] <= t):
            self._air(t)
            self.fluidics.advance(t)
        if t >= self._grid:
            self._grow(t)
        while self._actions and self._actions[0][0] <= t:
            heapq.heappop(self._actions)[2]()
        self._reschedule(t)

    def _reschedule(self, t: float) -> None:
        self._grid = (math.floor(t / GRID + 1e-9) + 1.0) * GRID if self._living() else math.inf
        self._due = min(self.fluidics.next_event(), self._grid)
        if self._actions:
            self._due = min(self._due, self._actions[0][0])

    def _around(self, port: int, t: float) -> float:
        return self.climate.temperature.at(t) if port in STATION else ROOM

    def _goal(self, port: int) -> float:
        return self.climate.temperature.goal if port in STATION else ROOM

    def _living(self) -> bool:
        """Tell whether anything is there that changes: cells, tissue, or liquid that is still warming or cooling."""
        for port, container in self.fluidics.at.items():
            if container is None or port == WASTE:
                continue
            c = container.contents
            if c.volume > 0.0 and (
                c.alive or container.fragments > 0.0 or abs(c.temperature - self._goal(port)) > WARM_ENOUGH
            ):
                return True
        return False

    def _grow(self, t: float) -> None:
        """Do one grid step that ends at `t`."""
        days = GRID / DAY
        co2 = self.climate.co2.at(t - 0.5 * GRID)
        for port, container in self.fluidics.at.items():
            if container is None or port == WASTE or container.contents.volume <= 0.0:
                continue
            c = container.contents
            c.temperature = relax(c.temperature, self._around(port, t - 0.5 * GRID), c.volume, GRID)
            emigrants = 0.0
            if container.fragments > 0.0:
                emigrants = leaving(container.soaked, container.fragments * self.donor.emigration)
                container.soaked += days
            if c.alive or emigrants > 0.0:
                stimulate(c, self.donor.lag, self.kinetics.lag_again)
                warm = port in STATION
                around = Surroundings(
                    container.area,
                    round(c.temperature, 2),
                    co2 if warm else 5.0,
                    emigrants,
                    container.vessel,
                    container.rpm,
                    aired=self.rocked(port),
                )
                grow(c, self.donor, around, days, self.kinetics)
        if round(t / GRID) % TRACE_EVERY == 0:
            self.trace.record(t, ((port, c) for port, c in self.fluidics.at.items() if c is not None and port != WASTE))
