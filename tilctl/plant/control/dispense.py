"""One bounded dispense from place to place: the device is told how much, and evidence says what came of it.

The pump counts and stops by itself, so that a dead controller cannot overdose.  Evidence is the pump's totaliser and
the mass on both sides, never time.  What the scales say is the truth, the totaliser is the watchdog.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from devices.instrument import DeviceError
from tilctl.plant.unit import PlantError, UnitPlant, Way

CLOSES_ML = 3.0  # mL; evidence closes within max(3 mL, 2 %): engineering default of the project
CLOSES_SHARE = 0.02
NOTHING_ML = 0.05  # mL on the totaliser, a few of its counts: the pump did not turn
WATCH_ML = 5.0  # mL; mass against totaliser while running: max(5 mL, 5 %) over 60 s (engineering default)
WATCH_SHARE = 0.05
WATCH_S = 60.0
SILENT_S = 30.0  # s without a reading of a running pump before it is given up
DRIP_S = 2.0  # s from the pump's stop until the scales are read
WEIGHINGS = 4  # readings of the scales that are averaged: a waste scale shows 1 g of noise, evidence closes within 3 mL
WEIGH_EVERY_S = 1.0  # s between them; scales convert about once a second
TOTAL_ROLLS_AT = 2**32 * 0.01  # mL; the totaliser's 32 bits of 0.01 mL


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the instruments say at one moment: totaliser mL, masses g, the pump's sequence and boot counters."""

    total_ml: float | None
    source_g: float | None
    destination_g: float | None
    sequence: int | None
    boots: int | None

    def as_data(self) -> dict[str, Any]:
        """Return it for the record."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Closure:
    """What became of a dispense; `closes` is False where the evidence disagrees or is missing."""

    delivered_ml: float | None
    counted_ml: float | None
    source_ml: float | None
    destination_ml: float | None
    closes: bool
    why: str


async def gather_evidence(plant: UnitPlant, way: Way) -> Evidence:
    """Weigh both sides, as the mean of some readings, and read the pump; takes 3 s, raises DeviceError."""
    number = plant.image.number
    scales = (".".join(way.source_scale), ".".join(way.destination_scale))
    masses: tuple[list[float], list[float]] = ([], [])
    for weighing in range(WEIGHINGS):
        if weighing:
            await plant.clock.sleep(WEIGH_EVERY_S)
        for device in dict.fromkeys((way.source_scale[0], way.destination_scale[0])):
            await plant.scanner.fresh(device)
        for scale, seen in zip(scales, masses, strict=True):
            mass = number(scale)
            if mass is not None:
                seen.append(mass)
    await plant.scanner.fresh(way.pump)
    sequence, boots = number(f"{way.pump}.sequence"), number(f"{way.pump}.boots")
    source, destination = (fmean(seen) if seen else None for seen in masses)
    return Evidence(
        number(f"{way.pump}.total"),
        source,
        destination,
        None if sequence is None else int(sequence),
        None if boots is None else int(boots),
    )


def close_evidence(before: Evidence, after: Evidence, density: float, *, may_run_dry: bool = False) -> Closure:
    """Judge two moments of evidence; `density` in g/mL is that of the liquid that flowed.  Pure.

    `may_run_dry`: the pump was told to run until the source is empty, so it may have counted more than it moved.
    """
    counted = None
    if before.total_ml is not None and after.total_ml is not None:
        counted = after.total_ml - before.total_ml
        if counted < 0 and before.boots == after.boots:
            counted += TOTAL_ROLLS_AT  # the totaliser rolled over; a smaller count after a reboot is no evidence
    if before.boots != after.boots or (counted is not None and counted < 0):
        counted = None
    left = _volume(before.source_g, after.source_g, -density)
    came = _volume(before.destination_g, after.destination_g, density)
    if left is None or came is None or counted is None:
        missing = [
            n for n, v in (("source mass", left), ("destination mass", came), ("totaliser", counted)) if v is None
        ]
        return Closure(None, counted, left, came, closes=False, why=f"no evidence from {' and '.join(missing)}")
    allowed = max(CLOSES_ML, CLOSES_SHARE * max(abs(left), abs(came)))
    if abs(left - came) > allowed:
        why = f"{left:.1f} mL left, {came:.1f} mL came: they differ by more than {allowed:.1f} mL"
        return Closure(None, counted, left, came, closes=False, why=why)
    moved = max(0.0, (left + came) / 2)
    if counted < NOTHING_ML and moved <= CLOSES_ML:
        moved = 0.0  # the pump did not turn: what the scales show is their noise
    apart = max(WATCH_ML, WATCH_SHARE * counted)
    if abs(counted - moved) > apart and not (may_run_dry and counted > moved):
        why = f"the pump counted {counted:.1f} mL, the scales say {moved:.1f} mL"
        return Closure(None, counted, left, came, closes=False, why=why)
    return Closure(moved, counted, left, came, closes=True, why="")


def _volume(before: float | None, after: float | None, density: float) -> float | None:
    return None if before is None or after is None else (after - before) / density


async def dispense(
    plant: UnitPlant,
    owner: str,
    way: Way,
    sequence: int,
    rate: float,
    volume: float,
    *,
    until_empty: bool,
) -> None:
    """Open the valves, command the dispense once, and follow it until the pump has stopped by itself.

    `rate` in mL/min, `volume` in mL.  Raises PlantError when mass does not follow the pump, when the pump falls
    silent or does not end in time; DeviceError and OutputRefused pass through.  The caller stops the pump.
    """
    await plant.gate.act(owner, way.valves, "select", {"suction": way.suction, "delivery": way.delivery})
    await plant.gate.act(owner, way.pump, "dispense", {"sequence": sequence, "rate": rate, "volume": volume})
    deadline = plant.clock.monotonic() + volume / rate * 60.0 * 1.2 + 60.0
    watch = _MassWatch(plant, way)
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

    def __init__(self, plant: UnitPlant, way: Way) -> None:
        self._plant = plant
        self._way = way
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
        pumped, left = counted - counted_then, (mass_then - mass) / 1.005
        self._since = (now, counted, mass)
        return pumped - left > max(WATCH_ML, WATCH_SHARE * pumped)


async def end_dispense(plant: UnitPlant, way: Way) -> Evidence | None:
    """Stop the pump, close its valves, let it drip and read the evidence; None when an instrument is silent."""
    await plant.gate.protect(way.pump, "stop")
    await plant.gate.protect(way.valves, "close")
    await plant.clock.sleep(DRIP_S)
    try:
        async with asyncio.timeout(SILENT_S):
            return await gather_evidence(plant, way)
    except (DeviceError, TimeoutError):
        return None
