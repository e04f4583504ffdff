"""What the instruments say of a dispense, and what two looks at them prove.

Evidence is the pump's totaliser and the mass on both sides, never time.  What the scales say is the truth, the
totaliser is the watchdog.  A totaliser that rolled over goes on counting; one that was reset, or is that of another
pump, is lost, and then the scales alone may close a dose, but only of a pump that stands still.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from tilctl.plant.unit import UnitPlant, Way

CLOSES_ML = 3.0  # mL; evidence closes within max(3 mL, 2 %): engineering default of the project
CLOSES_SHARE = 0.02
NOTHING_ML = 0.05  # mL on the totaliser, a few of its counts: the pump did not turn
WATCH_ML = 5.0  # mL; mass against totaliser: max(5 mL, 5 %) (engineering default)
WATCH_SHARE = 0.05
TURNED_SHARE = 0.1  # mass against speed and time, which is known from scan to scan only (engineering default)
WEIGHINGS = 4  # readings of the scales that are averaged: a waste scale shows 1 g of noise, evidence closes within 3 mL
WEIGH_EVERY_S = 1.0  # s between them; scales convert about once a second
STEADY_G = 2.0  # g that the halves of a weighing may differ by: more is no noise, liquid still flows
WEIGH_AGAIN = 4  # times, while it does
TOTAL_ROLLS_AT = 2**32 * 0.01  # mL; the totaliser's 32 bits of 0.01 mL
UNPROVABLE_ML = 5.0  # mL; ten times what a scale resolves: less cannot be told from nothing by its mass (engineering)
LEAST_BY_MASS_ML = 2.0  # mL; what two scales with 0.3 g of noise tell from nothing, where nothing counts (engineering)
MOST_ML = 10_000.0  # mL; the most that a pump takes in one command


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the instruments say at one moment: totaliser mL, masses g, the pump's sequence and boot counters.

    `serial` is the pump's ("" where it was not kept), `running` whether it turns, `flowing` whether the scales had not
    come to rest, `counter` whether the pump has a totaliser at all.  Of one that has none, `turned_ml` is what speed
    and time make of its last run: an estimate, and known to the controller that began the run only.
    """

    total_ml: float | None
    source_g: float | None
    destination_g: float | None
    sequence: int | None
    boots: int | None
    serial: str = ""
    running: bool | None = None
    flowing: bool = False
    counter: bool = True
    turned_ml: float | None = None

    def as_data(self) -> dict[str, Any]:
        """Return it for the record."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Closure:
    """What became of a dispense; `closes` is False where the evidence disagrees or is missing.

    `exception` says what the review has to know where it closes, but by the scales alone.  `line_ml` is what the line
    kept of it, below 0 what it gave back: that left the source and is not delivered.
    """

    delivered_ml: float | None
    counted_ml: float | None
    source_ml: float | None
    destination_ml: float | None
    closes: bool
    why: str
    exception: str = ""
    line_ml: float = 0.0


async def gather_evidence(plant: UnitPlant, way: Way) -> Evidence:
    """Weigh both sides, as the mean of some readings, and read the pump; what is rocked stands still meanwhile.

    Takes 3 s, up to 20 s while liquid flows, and a minute where something has to come to rest; raises DeviceError.
    """
    async with plant.stillness.over(way.rockers):
        return await _gathered(plant, way)


async def _gathered(plant: UnitPlant, way: Way) -> Evidence:
    source, destination, flowing = await _weighed(plant, way)
    for _ in range(WEIGH_AGAIN):
        if not flowing:
            break
        source, destination, flowing = await _weighed(plant, way)
    await plant.scanner.fresh(way.pump)
    number = plant.image.number
    sequence, boots, running = (number(f"{way.pump}.{point}") for point in ("sequence", "boots", "running"))
    return Evidence(
        number(f"{way.pump}.total"),
        source,
        destination,
        None if sequence is None else int(sequence),
        None if boots is None else int(boots),
        plant.instruments[way.pump].serial,
        None if running is None else bool(running),
        flowing,
        counter := plant.instruments[way.pump].profile.counter,
        None if counter else number(f"{way.pump}.dispensed"),
    )


async def _weighed(plant: UnitPlant, way: Way) -> tuple[float | None, float | None, bool]:
    """Return the mean mass (g) of both sides over some readings, and whether one of them had not come to rest."""
    scales = (".".join(way.source_scale), ".".join(way.destination_scale))
    masses: tuple[list[float], list[float]] = ([], [])
    for weighing in range(WEIGHINGS):
        if weighing:
            await plant.clock.sleep(WEIGH_EVERY_S)
        for device in dict.fromkeys((way.source_scale[0], way.destination_scale[0])):
            await plant.scanner.fresh(device)
        for scale, seen in zip(scales, masses, strict=True):
            mass = plant.image.number(scale)
            if mass is not None:
                seen.append(mass)
    source, destination = (fmean(seen) if seen else None for seen in masses)
    half = WEIGHINGS // 2
    flowing = any(len(seen) == WEIGHINGS and abs(fmean(seen[half:]) - fmean(seen[:half])) > STEADY_G for seen in masses)
    return source, destination, flowing


def close_evidence(
    before: Evidence,
    after: Evidence,
    density: float,
    *,
    may_run_dry: bool = False,
    ordered: float = MOST_ML,
    line: tuple[float, float] = (0.0, 0.0),
) -> Closure:
    """Judge two moments of evidence; `density` in g/mL is that of the liquid that flowed, `ordered` in mL.  Pure.

    `may_run_dry`: the pump was told to run until the source is empty, so it may have counted more than it moved.
    `line` is what the line may give back at most, and what it may keep (mL).
    """
    counted, lost = _counted(before, after, ordered)
    left = _volume(before.source_g, after.source_g, -density)
    came = _volume(before.destination_g, after.destination_g, density)

    def open_(why: str) -> Closure:
        return Closure(None, counted, left, came, closes=False, why=why)

    if after.running:
        return open_("the pump could not be stopped: it still turns")
    if after.flowing:
        return open_("the scales do not come to rest: liquid still flows")
    missing = [name for name, mass in (("source mass", left), ("destination mass", came)) if mass is None]
    if counted is None and (missing or after.running is None):
        missing.append(f"totaliser{lost and f' ({lost})'}")
    if left is None or came is None or missing:
        return open_(f"no evidence from {' and '.join(missing)}")
    allowed = max(CLOSES_ML, CLOSES_SHARE * max(abs(left), abs(came)))
    kept = min(max(left - came, -line[0]), line[1])
    if abs(left - came - kept) > allowed:
        return open_(f"{left:.1f} mL left, {came:.1f} mL came: they differ by more than {allowed:.1f} mL")
    moved = max(0.0, (left + came + kept) / 2)  # by the pump: out of the source
    if not after.counter and (why := _unproven(before, after, moved, ordered, may_run_dry=may_run_dry)):
        return open_(why)
    if counted is None:
        # Invariant: without a count the scales close a dose only where they can tell it from nothing.
        if ordered < UNPROVABLE_ML and after.counter:
            return open_(f"the totaliser is lost ({lost}), and {ordered:g} mL are too little for the scales alone")
        text = f"closed by mass alone, {moved:.1f} mL: {lost}"
        # A pump that never counts is no surprise: the site's equipment says so, and each of its doses.
        exception = text if after.counter else ""
        return Closure(moved - kept, None, left, came, closes=True, why="", exception=exception, line_ml=kept)
    if counted < NOTHING_ML and moved <= CLOSES_ML:
        moved = kept = 0.0  # the pump did not turn: what the scales show is their noise
    apart = max(WATCH_ML, WATCH_SHARE * counted)
    # Invariant: a source that ran dry gave something first; scales that show nothing at all may only stand still.
    if abs(counted - moved) > apart and not (may_run_dry and counted > moved > CLOSES_ML):
        return open_(f"the pump counted {counted:.1f} mL, the scales say {moved:.1f} mL")
    return Closure(moved - kept, counted, left, came, closes=True, why="", line_ml=kept)


def _unproven(before: Evidence, after: Evidence, moved: float, ordered: float, *, may_run_dry: bool) -> str:
    """Return why the scales alone do not prove a dose of a pump without a totaliser, "" where they do.

    Invariant: scales that stand still look like a dose that did not happen.  So what they say is held against how long
    the pump turned; where nobody saw that, they prove a whole dose only.
    """
    known = before.sequence is not None and after.sequence is not None
    turned = 0.0 if known and before.sequence == after.sequence and after.turned_ml is not None else after.turned_ml
    if turned is None:
        least = ordered - max(CLOSES_ML, CLOSES_SHARE * ordered)
        return "" if moved >= least else f"the scales say {moved:.1f} mL, and nobody knows how long the pump turned"
    apart = max(WATCH_ML, TURNED_SHARE * turned)
    if abs(turned - moved) > apart and not (may_run_dry and turned > moved > CLOSES_ML):
        return f"the pump turned for {turned:.1f} mL, the scales say {moved:.1f} mL"
    return ""


def untouched(before: Evidence, after: Evidence) -> bool:
    """Whether the pump proves that it never took a command in between: same pump, boot, sequence and count.  Pure."""
    known = None not in (before.total_ml, before.sequence, before.boots) and after.running is False
    return known and all(
        getattr(before, name) == getattr(after, name) for name in ("total_ml", "sequence", "boots", "serial")
    )


def _counted(before: Evidence, after: Evidence, ordered: float) -> tuple[float | None, str]:
    """Return what the pump counted in mL, or None and why its totaliser proves nothing."""
    if not before.counter and not after.counter:
        return None, "the pump has no totaliser"
    if before.total_ml is None or after.total_ml is None:
        return None, ""
    if before.serial and after.serial and before.serial != after.serial:
        return None, f"the pump was replaced: serial number {before.serial}, now {after.serial}"
    if before.boots != after.boots:
        return None, f"the pump was restarted: boot {before.boots}, now {after.boots}"
    counted = after.total_ml - before.total_ml
    if counted >= 0:
        return counted, ""
    counted += TOTAL_ROLLS_AT
    if counted > 1.1 * ordered + WATCH_ML:  # more than was ordered: it did not roll over, it began anew
        return None, f"the totaliser was reset: {before.total_ml:.2f} mL, now {after.total_ml:.2f} mL"
    return counted, ""


def _volume(before: float | None, after: float | None, density: float) -> float | None:
    return None if before is None or after is None else (after - before) / density
