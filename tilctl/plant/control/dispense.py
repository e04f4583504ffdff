"""One bounded dispense from place to place: the device is told how much, and evidence says what came of it.

The pump counts and stops by itself, so that a dead controller cannot overdose.  `tilctl.plant.evidence` judges what
the instruments say of it.
"""

from __future__ import annotations

import asyncio

from devices.instrument import DeviceError
from tilctl.plant.evidence import WATCH_ML, WATCH_SHARE, Evidence, gather_evidence
from tilctl.plant.outputs import Cause, Protected
from tilctl.plant.unit import PlantError, UnitPlant, Way
from tilctl.plant.watchdogs import guarded, release, tripped

WATCH_S = 60.0  # s
SILENT_S = 30.0  # s without a reading of a running pump before it is given up
DRIP_S = 2.0  # s from the pump's stop until the scales are read


async def dispense(
    plant: UnitPlant,
    owner: str,
    way: Way,
    sequence: int,
    rate: float,
    volume: float,
    *,
    until_empty: bool,
    density: float,
    cause: tuple[str, int],
) -> None:
    """Open the valves, command the dispense once, and follow it until the pump has stopped by itself.

    `rate` in mL/min, `volume` in mL, `density` of the liquid in g/mL; `cause` is the step and the number of its
    intent's event.  Raises PlantError when mass does not follow the pump, when the pump falls silent, is stopped by
    its watchdog or does not end in time; DeviceError and OutputRefused pass through.  The caller stops the pump.
    """
    async with guarded(plant, way.pump):
        await _select_and_start(plant, owner, way, sequence, rate, volume, cause)
        await _follow(plant, way, rate, volume, density, until_empty=until_empty)


async def _select_and_start(
    plant: UnitPlant, owner: str, way: Way, sequence: int, rate: float, volume: float, cause: tuple[str, int]
) -> None:
    ports = {"suction": way.suction, "delivery": way.delivery}
    await plant.gate.act(owner, way.valves, "select", ports, cause=Cause(*cause, "attached"))
    dose = {"sequence": sequence, "rate": rate, "volume": volume}
    await plant.gate.act(owner, way.pump, "dispense", dose, cause=Cause(*cause, "one_shot"))


async def _follow(plant: UnitPlant, way: Way, rate: float, volume: float, density: float, *, until_empty: bool) -> None:
    deadline = plant.clock.monotonic() + volume / rate * 60.0 * 1.2 + 60.0
    watch = _MassWatch(plant, way, density)
    while True:
        try:
            async with asyncio.timeout_at(min(deadline, plant.clock.monotonic() + SILENT_S)):
                await plant.image.next_scan(way.pump)
        except TimeoutError:
            if plant.clock.monotonic() >= deadline:
                raise PlantError(
                    f"{way.pump} did not deliver {volume:.1f} mL in time", "look at the pump, its tubing and clamps"
                ) from None
            raise PlantError(
                f"{way.pump} has not answered for {SILENT_S:g} s", "look at the pump's power and network"
            ) from None
        running = plant.image.number(f"{way.pump}.running")
        if running is not None and not running:
            if tripped(plant, way.pump):
                raise PlantError(f"{way.pump} was stopped by its watchdog", "look at its network and at the controller")
            break
        dry = watch.dry()
        if dry and until_empty:
            break
        if dry:
            raise PlantError(
                f"{way.pump} turns but {'.'.join(way.source_scale)} does not fall as it counts",
                "look for an empty bag, an occlusion, a closed clamp or a swapped line",
            )


class _MassWatch:
    """Compares what the pump counted with what left the source, over a sliding minute."""

    def __init__(self, plant: UnitPlant, way: Way, density: float) -> None:
        self._plant = plant
        self._way = way
        self._density = density
        self._since: tuple[float, float, float] | None = None

    def dry(self) -> bool:
        """Whether mass did not follow the pump over the last minute."""
        counted = self._plant.image.number(f"{self._way.pump}.dispensed")
        mass = self._plant.image.number(".".join(self._way.source_scale))
        now = self._plant.clock.monotonic()
        if counted is None or mass is None:
            return False  # not known is not dry: staleness has its own alarm and its own time-out
        if self._since is None:
            self._since = (now, counted, mass)
            return False
        since, counted_then, mass_then = self._since
        if now - since < WATCH_S:
            return False
        pumped, left = counted - counted_then, (mass_then - mass) / self._density
        self._since = (now, counted, mass)
        return pumped - left > max(WATCH_ML, WATCH_SHARE * pumped)


async def end_dispense(plant: UnitPlant, way: Way) -> tuple[Evidence | None, list[Protected]]:
    """Stop the pump, close its valves, let it drip and read the evidence; None when an instrument is silent.

    What cannot be stopped is pinched off: the valves close whatever the pump says.  Returns with it what became of
    both.
    """
    stopped = await plant.gate.protect(way.pump, "stop")
    closed = await plant.gate.protect(way.valves, "close")
    await release(plant, way.pump)
    await plant.clock.sleep(DRIP_S)
    try:
        async with plant.stillness.over(way.rockers), asyncio.timeout(SILENT_S):
            return await gather_evidence(plant, way), [stopped, closed]
    except (DeviceError, TimeoutError):
        return None, [stopped, closed]
