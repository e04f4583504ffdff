"""The hands at the bench: what people do to the plant.

Plain methods with JSON-able arguments and results.  `at` says when: seconds of the plant's clock or an RFC 3339 moment;
in the future, the action waits in the plant for its moment, and the call returns `{"scheduled": seconds}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from simulators import sight
from simulators.physics.contents import Contents, draw, mixed
from simulators.physics.culture import dissociate
from simulators.physics.fluid import CLASSES, Container
from simulators.physics.freezing import FULL
from simulators.physics.freezing import bag as freezing_bag
from simulators.physics.measurement import COUNTER_CV, count, judge, offline
from simulators.physics.noise import between, gauss, stream, uniform
from simulators.physics.vessels import GAS_PERMEABLE
from simulators.plant import STATION, WASTE, Plant
from simulators.sight import BenchError, Place

RECOVERY = (0.84, 0.95)  # of a closed washer (general knowledge, unverified)
NUCLEATION = (-9.0, 2.5, -20.0, -5.0)  # degC: mean, sigma, lowest, highest (general knowledge, unverified)
SHELF = 200  # containers kept aside
REMEMBERED = 10_000  # results of calls with a key
When = float | str | None


class Bench:
    """What a person can do in the suite: hang, take, resuspend, sample, wash, freeze, look."""

    def __init__(self, plant: Plant, cell: str = "") -> None:
        """Stand at a plant; the bench of a facility knows the name of its `cell`."""
        self.plant = plant
        self.cell = cell
        self.problems: list[str] = []
        self._counts: dict[str, int] = {}  # by container: how often its cells were counted
        self._done: dict[str, Any] = {}
        self._actions: dict[str, Callable[..., Any]] = {
            "hang": self.hang,
            "take": self.take,
            "resuspend": self.resuspend,
            "sample": self.sample,
            "load_fragments": self.load_fragments,
            "digest": self.digest,
            "wash": self.wash,
            "load_freezer": self.load_freezer,
            "unload_freezer": self.unload_freezer,
            "rest_freezer": self.rest_freezer,
            "find": partial(sight.find, plant),
            "standing": partial(sight.standing, plant),
            "moved": partial(sight.moved, plant),
            "time": partial(sight.time, plant),
            "truth": self.truth,
        }

    def call(self, name: str, args: Mapping[str, Any]) -> Any:
        """Do the named action; raises BenchError for an unknown name, wrong arguments, or what cannot be done.

        With a `key` among the arguments a repeated call does nothing and returns what the first one did.  A `cell`
        among them must be this bench's, where it has one.
        """
        action = self._actions.get(name)
        if action is None:
            raise BenchError(f"the bench has no action {name!r}; it has {', '.join(self._actions)}")
        given = dict(args)
        if self.cell and given.get("cell", self.cell) != self.cell:
            raise BenchError(f"this is the bench of {self.cell}, not of {given['cell']}")
        given.pop("cell", None)
        key = given.pop("key", None)
        if key is not None and key in self._done:
            return self._done[key]
        try:
            result = action(**given)
        except TypeError as error:
            raise BenchError(f"{name}: {error}") from error
        if key is not None:
            self._done[str(key)] = result
            if len(self._done) > REMEMBERED:
                self._done.pop(next(iter(self._done)))
        return result

    # hands -------------------------------------------------------------------------------------------------------

    def hang(
        self,
        port: int,
        kind: str = "bag",
        vessel_class: str = "",
        volume_ml: float = 0.0,
        content: Mapping[str, Any] | None = None,
        name: str = "",
        limit_ml: float | None = None,
        at: When = None,
    ) -> dict[str, Any]:
        """Put a container on a port; it overflows a tenth above `limit_ml`, or at the capacity of its class.

        `content` is `{"liquid": NAME, ...}` with properties as in `physics.contents.mixed` and `fragments`, or
        `{"shelf": NAME}` for what was taken or washed before.  What hung there before is taken off and noted in
        `problems`.
        """
        if port not in self.plant.fluidics.at:
            raise BenchError(f"there is no port {port}; ports are 1 to {WASTE}")
        given = dict(content or {"liquid": "empty"})

        def act() -> dict[str, Any]:
            with self.plant.change() as t:
                if self.plant.fluidics.at[port] is not None:
                    self.problems.append(f"port {port} was still taken when {name or kind} was hung there")
                    self._take(port)
                if "shelf" in given:
                    new = self._from_shelf(str(given["shelf"]), name)
                else:
                    new = self._fresh(kind, vessel_class, volume_ml, given, port)
                    new.name = name or f"{kind}@{port}"
                if limit_ml is not None:
                    new.capacity = 1.1 * limit_ml
                new.disturbed = new.aired = t
                self.plant.fluidics.at[port] = new
                self._touch(port, t)
            return {"name": new.name, "volume_ml": new.contents.volume, "tare_g": new.tare}

        return self._do(at, act)

    def take(self, port: Place, at: When = None) -> dict[str, Any]:
        """Take a container off its port (number or name) and put it on the shelf."""

        def act() -> dict[str, Any]:
            where = self._port(port)
            with self.plant.change() as t:
                taken = self._take(where)
                self._touch(where, t)
            return {"name": taken.name, "volume_ml": taken.contents.volume}

        return self._do(at, act)

    def resuspend(self, port: Place | Sequence[Place], at: When = None) -> dict[str, Any]:
        """Swirl one container or several until the cells are off the floor."""
        places: list[Place] = [port] if isinstance(port, int | str) else list(port)

        def act() -> dict[str, Any]:
            with self.plant.change() as t:
                for each in places:
                    where = self._port(each)
                    container = self.plant.fluidics.at[where]
                    if container is not None:
                        container.disturbed = t
                    self._touch(where, t)
            return {"resuspended": len(places)}

        return self._do(at, act)

    def sample(self, port: Place, volume_ml: float = 2.0, *, mix: bool = True) -> dict[str, Any]:
        """Mix, draw a sample now, and count it: cells of the whole container as the counter sees them, and in truth.

        Without `mix` it is drawn from above the cells, which stay where they are.

        `tvc` (cells) and `viability` (%) are the patient's own cells, feeders gated out; `viability_total` (%) is
        without the gate; `glucose` and `lactate` (mmol/L) are the laboratory's; `true_...` are all without noise.
        """
        where = self._port(port)
        with self.plant.change() as t:
            container = self.plant.fluidics.at[where]
            if container is None:
                raise BenchError(f"nothing hangs on port {where}")
            c = container.contents
            before = c.copy()
            container.disturbed = t if mix else container.disturbed
            taken = min(volume_ml, c.volume)
            draw(c, taken, container.carry(t))
            self.plant.aside.removed_ml += taken
            self._touch(where, t)
        # Its noise goes by its own number, so that a sample more or less of others, or of medium, shifts no count.
        number = self._counts[container.name] = self._counts.get(container.name, 0) + mix
        key = stream(self.plant.seed, f"counter {container.name} {number}")
        own, total = 100.0 * (before.viability or 0.0), 100.0 * (before.total_viability or 0.0)
        return {
            "container": container.name,
            "volume_ml": before.volume,
            "drawn_ml": taken,
            "tvc": count(before.viable, before.concentration("viable"), key),
            "viability": judge(own, key, 1),
            "viability_total": judge(total, key, 2),
            "true_tvc": before.viable,
            "true_viability": own,
            **{
                name: offline(self.plant.seed, f"{name} {container.name}").shows(before.concentration(name), t)
                for name in ("glucose", "lactate")
            },
            **{f"true_{name}": before.concentration(name) for name in ("glucose", "lactate")},
        }

    def load_fragments(self, ports: Sequence[Place], count: int, at: When = None) -> dict[str, Any]:
        """Share `count` fragments of tumour among containers."""
        places = list(ports)

        def act() -> dict[str, Any]:
            with self.plant.change():
                for i, each in enumerate(places):
                    container = self.plant.fluidics.at[self._port(each)]
                    if container is not None:
                        container.fragments += count // len(places) + (1 if i < count % len(places) else 0)
            return {"fragments": count}

        return self._do(at, act)

    def digest(self, at: When = None) -> dict[str, Any]:
        """Let enzymes have done their work: all tissue on ports is single cells at once, however long it took."""

        def act() -> dict[str, Any]:
            pieces = 0.0
            with self.plant.change():
                for container in self.plant.fluidics.at.values():
                    if container is not None and container.contents.volume > 0.0:
                        dissociate(container.contents, container.fragments, self.plant.donor)
                        pieces, container.fragments = pieces + container.fragments, 0.0
            return {"digested": pieces}

        return self._do(at, act)

    def wash(self, source: Place, volume_ml: float, name: str = "washed") -> dict[str, Any]:
        """Wash a container's cells in a closed washer to `volume_ml`, now; the bag stands on the shelf as `name`.

        Recovery of viable cells 84 to 95 %, of dead ones less, of solutes none.
        """
        key = stream(self.plant.seed, f"wash {name}")
        with self.plant.change() as t:
            container = self._anywhere(source)
            before = container.contents
            recovery = uniform(key, 0, *RECOVERY)
            after = mixed(volume_ml * gauss(key, 1, 0.004, 1.0), "washed", {})
            after.viable, after.dead, after.age = before.viable * recovery, 0.8 * before.dead * recovery, before.age
            self.plant.aside.removed_ml += before.volume
            self.plant.aside.brought_ml += after.volume
            container.contents = Contents(temperature=before.temperature)
            container.disturbed = t
            tare, capacity, area = CLASSES["bag"]
            self._put_aside(Container(name, "bag", tare, capacity, area, after), name)
        key = stream(self.plant.seed, f"counter {name}")
        return {
            "volume_ml": after.volume,
            "tvc": after.viable * gauss(key, 0, COUNTER_CV / 2.0, 1.0),
            "viability": 100.0 * (after.viability or 0.0),
            "recovery": recovery,
        }

    def load_freezer(self, ports: Sequence[Place], at: When = None) -> dict[str, Any]:
        """Move bags (ports, names, or a family such as `product`) into the freezer; the probe is on the first."""

        def act() -> dict[str, Any]:
            places = [where for each in ports for where in self._family(each)]
            with self.plant.change() as t:
                taken: list[Container] = []
                for where in places:
                    container = self.plant.fluidics.at[where]
                    if container is not None:
                        self.plant.fluidics.at[where] = None
                        taken.append(container)
                key = stream(self.plant.seed, "nucleation")
                self.plant.aside.in_freezer += taken
                self.plant.freezer.load(
                    [
                        freezing_bag(
                            c.contents.volume,
                            c.contents.temperature,
                            c.contents.concentration("dmso"),
                            between(key, i, *NUCLEATION),
                            self.cell,
                        )
                        for i, c in enumerate(self.plant.aside.in_freezer)
                    ],
                    t,
                )
            return {"loaded": len(taken)}

        return self._do(at, act)

    def unload_freezer(self, at: When = None) -> dict[str, Any]:
        """Take all bags out of the freezer, to storage (the shelf), and fill up its LN2."""

        def act() -> dict[str, Any]:
            with self.plant.change() as t:
                bags = self.plant.freezer.unload(t, self.cell)
                self.plant.freezer.ln2 = FULL
                taken, self.plant.aside.in_freezer = self.plant.aside.in_freezer, []
                for container, frozen in zip(taken, bags, strict=True):
                    container.contents.temperature = frozen.temperature
                    self._put_aside(container, container.name)
            return {"unloaded": [c.name for c in taken]}

        return self._do(at, act)

    def rest_freezer(self, at: When = None) -> dict[str, Any]:
        """Bring the chamber back to the temperature at which a run begins, with the bags in it."""

        def act() -> dict[str, Any]:
            with self.plant.change() as t:
                self.plant.freezer.rest(t)
            return {}

        return self._do(at, act)

    def truth(self) -> dict[str, Any]:
        """Return all that the plant knows of itself, for oracles (mL, cells, s, degC), and `problems`."""
        return {**sight.truth(self.plant), "problems": list(self.problems)}

    # how ---------------------------------------------------------------------------------------------------------

    def _do(self, at: When, act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        when = self._when(at)
        if when is None or when <= self.plant.time():
            return act()

        def later() -> None:
            try:
                act()
            except BenchError as error:  # nobody is there to hear it: kept for the oracle
                self.problems.append(str(error))

        self.plant.announce(when, later)
        return {"scheduled": when + self.plant.origin}

    def _when(self, at: When) -> float | None:
        if at is None:
            return None
        if isinstance(at, str):
            at = (datetime.fromisoformat(at) - self.plant.clock.utc(0.0)).total_seconds()
        return at - self.plant.origin

    def _touch(self, port: int, t: float) -> None:
        if port in STATION:
            self.plant.climate.door(t)

    def _port(self, place: Place) -> int:
        return sight.port_of(self.plant, place)

    def _family(self, place: Place) -> list[int]:
        if isinstance(place, str):
            held = [(port, c.name) for port, c in self.plant.fluidics.at.items() if c is not None]
            members = [port for port, name in held if name.partition("[")[0] == place]
            if members:
                return members
        return [self._port(place)]

    def _anywhere(self, place: Place) -> Container:
        if isinstance(place, str) and place in self.plant.aside.shelf:
            return self.plant.aside.shelf[place]
        container = self.plant.fluidics.at[self._port(place)]
        if container is None:
            raise BenchError(f"nothing hangs on port {place}")
        return container

    def _take(self, port: int) -> Container:
        container = self.plant.fluidics.at[port]
        if container is None:
            raise BenchError(f"nothing hangs on port {port}")
        self.plant.fluidics.at[port] = None
        self._put_aside(container, container.name)
        return container

    def _put_aside(self, container: Container, name: str) -> None:
        shelf = self.plant.aside.shelf
        if name in shelf:
            self.plant.aside.removed_ml += shelf.pop(name).contents.volume
        while len(shelf) >= SHELF:
            oldest = next(iter(shelf))
            self.plant.aside.removed_ml += shelf.pop(oldest).contents.volume
        shelf[name] = container

    def _from_shelf(self, name: str, new_name: str) -> Container:
        if name not in self.plant.aside.shelf:
            raise BenchError(
                f"{name!r} is not on the shelf; there are {', '.join(self.plant.aside.shelf) or 'no containers'}"
            )
        container = self.plant.aside.shelf.pop(name)
        container.name = new_name or name
        return container

    def _fresh(self, kind: str, vessel_class: str, volume: float, given: dict[str, Any], port: int) -> Container:
        default = "waste" if port == WASTE else ("bag" if kind == "bag" else "gas-permeable-100cm2")
        known = vessel_class if kind == "vessel" and vessel_class in CLASSES else default
        tare, capacity, area = CLASSES[known]
        if volume > 0.0:
            for short in list(self.plant.short_hung):
                volume *= 1.0 - short(port)
        fragments = float(given.pop("fragments", 0.0))
        try:
            contents = mixed(volume, str(given.pop("liquid", "empty")), {k: float(v) for k, v in given.items()})
        except ValueError as error:
            raise BenchError(str(error)) from error
        self.plant.aside.brought_ml += volume
        vessel = self.plant.vessels.get(known, GAS_PERMEABLE)
        return Container("", kind, tare, capacity, area, contents, fragments=fragments, vessel=vessel, rpm=vessel.rpm)
