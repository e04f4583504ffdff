"""Two cells with one freezer on one controller: `suite.do(..., unit="cell2")`, `suite.of("cell2")` is its batch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from story import HERE, Hands, Story

from devices.instrument import Args, DeviceStatus, Instrument, Priority
from devices.reading import Reading
from simulators.bench import Bench
from simulators.facility import Facility
from simulators.suite import Suite as Servers
from simulators.suite import layout, wire
from simulators.virtual import VirtualClock
from tilctl.config import load_site
from tilctl.engine.port import Outcome
from tilctl.engine.runner import Runner
from tilctl.engine.state import BatchState, fold
from tilctl.journal.chain import Record
from tilctl.journal.verify import read
from tilctl.plant.sharing import Sharing
from tilctl.plant.suite import Suite as PlantSuite

CELLS = ("cell1", "cell2")
Mood = Callable[[str], Awaitable[Any]]


class Wayward:
    """An instrument whose driver does what `mood` says instead of reading; without one it is as good as its own."""

    def __init__(self, inner: Instrument) -> None:
        self.name = inner.name
        self.profile = inner.profile
        self.mood: Mood | None = None
        self.asked = 0
        self._inner = inner

    @property
    def status(self) -> DeviceStatus:
        return self._inner.status

    @property
    def serial(self) -> str:
        return self._inner.serial

    async def read(self, block: str, priority: Priority = Priority.DATA) -> dict[str, Reading]:
        self.asked += 1
        return await (self._inner.read(block, priority) if self.mood is None else self.mood(block))

    async def read_all(self, priority: Priority = Priority.DATA) -> dict[str, Reading]:
        return await self._inner.read_all(priority)

    async def command(self, name: str, args: Args, priority: Priority = Priority.COMMAND) -> dict[str, Reading]:
        return await self._inner.command(name, args, priority)


class TwoCells(Story):
    """A story with a second cell, over TCP; what is said of one batch without a unit is of cell1."""

    sockets = True

    def __init__(self, folder: Path, haste: float = 0.05) -> None:
        super().__init__(folder, haste)
        self.facility = Facility(VirtualClock(self.loop), 3, CELLS)
        self.plant = self.facility.plants["cell1"]
        self.bench = self.facility.benches["cell1"]
        self.servers = Servers(wire(self.facility.devices, layout(2)), self.plant.clock)
        self.second = Hands(self, haste, "cell2", seed=4)
        self.wayward: dict[str, Wayward] = {}  # instruments with a driver that may go wrong, by device
        self.to_fit: tuple[str, ...] = ()

    async def open(self) -> None:
        await self.listen()
        overrides = {f"buses.{bus}.port": str(port) for bus, port in self._ports.items()}
        overrides |= {"http.port": "0", "data": str(self.folder / "data"), **self.site_overrides}
        self._site = load_site(HERE / "two-cells.yaml", overrides)
        await self.boot()

    async def boot(self, *, wait: bool = True) -> None:
        await super().boot(wait=wait)
        if self.alive:
            self.second.look()

    async def bury(self) -> None:
        await super().bury()
        self.second.forget_open()

    def fit(self, plant_suite: PlantSuite) -> None:
        for device in self.to_fit:
            made = self.wayward[device] = Wayward(plant_suite.instruments[device])
            plant_suite.instruments[device] = made
            plant_suite.scanner.add(made, quiet=made.profile.role == "bioreactor")

    def bench_of(self, unit: str) -> Bench:
        return self.facility.benches[unit]

    def _recorded(self, unit: str, record: Record) -> None:
        super()._recorded(unit, record)
        if unit == "cell2" and self.alive and record.event.kind == "prompt_opened":
            self.second.look()

    def fail(self, device: str, how: str, value: Any = True) -> None:
        setattr(self.servers.faults(self.facility.devices[device]), how, value)

    # --- by unit --------------------------------------------------------------------------------------------------

    async def begin(self, unit: str, recipe: str, **parameters: str) -> Outcome:
        return await self.do("start", {"recipe": recipe, "parameters": parameters}, unit=unit)

    def runner_of(self, unit: str) -> Runner:
        runner = self.controller.runner(unit)
        assert runner is not None, f"{unit} is idle"
        return runner

    def of(self, unit: str) -> BatchState:
        return self.runner_of(unit).batch.state

    def name(self, unit: str) -> str:
        return self.runner_of(unit).batch.name

    def waits(self, unit: str) -> list[str]:
        return [wait["text"] for wait in self.controller.status(unit)["waits"]]

    def phases(self, unit: str, path: str = "cold") -> list[str]:
        node = self.of(unit).node(path)
        return [] if node is None else list(node.phases)

    @property
    def sharing(self) -> Sharing:
        return self.plant_suite.sharing

    async def until_at(self, unit: str, path: str, status: str = "acting", within: float = 6 * 3600.0) -> None:
        def there() -> bool:
            runner = self.controller.runner(unit) if self.alive else None
            node = None if runner is None else runner.batch.state.node(path)
            return node is not None and node.status == status

        await self.when(there, f"{path} of {unit} is {status}", within)

    async def until_in(self, unit: str, *states: str, within: float = 6 * 3600.0) -> None:
        def there() -> bool:
            return self.alive and self.controller.runner(unit) is not None and self.of(unit).state in states

        await self.when(there, f"{unit} is {' or '.join(states)}", within)

    async def until_phase(self, unit: str, phase: str, path: str = "cold") -> None:
        await self.when(lambda: self.alive and phase in self.phases(unit, path), f"{path} of {unit} is {phase}")

    def check(self) -> None:
        super().check()
        for unit in CELLS:
            runner = self.controller.runner(unit)
            if runner is not None:
                records, verdict = read(runner.batch.journal.path)
                assert verdict.ok, verdict
                assert fold(records).nodes == runner.batch.state.nodes, f"the fold of {unit} differs"
        holders = [u for u in CELLS if self.controller.runner(u) and "granted" in self.phases(u)]
        having = [u for u in holders if self.of(u).nodes["cold"].status != "complete" and not self.of(u).result]
        assert len(having) <= 1, f"the freezer belongs to {having}"

    def records_of(self, unit: str) -> list[Record]:
        return read(self.runner_of(unit).batch.journal.path)[0]
