"""How well soft sensors estimate: `python -m tests.benchmarks.softsensor [DONORS]`, on simulated donors and meters.

Each donor is a dry run of a library recipe.  Each six hours of the culture the estimate is held against the true cells;
the forecast is the last one that was made at least 2.5 d before the harvest.  Beside it stands what people do without:
the last two counts, extrapolated.  Simulated: the priors stand on the same unverified figures as the simulator, so that
the arms with other kinetics say more than those without.  Nothing here says how well it estimates real cells.
"""

from __future__ import annotations

import bisect
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from devices.quantity import parse_as
from recipes.catalog import load
from recipes.model import Recipe
from simulators.physics.donors import population_donor
from simulators.physics.measurement import capacitance
from simulators.physics.noise import gauss, stream, uniform
from simulators.physics.parameters import Setting
from simulators.rocker import OXYGEN_DRIFT, OXYGEN_NOISE, WEEK
from tilctl.cli.dryrun.run import Run
from tilctl.cli.dryrun.walk import Walk
from tilctl.estimation.course import Cells
from tilctl.estimation.estimates import Follower, Sight

DAY = 86_400.0
LOOK = 6 * 3600.0
AHEAD = 2.5 * DAY
FIRST = 9000  # the first seed: others were looked at while this was made
NAME = "cells"


@dataclass(frozen=True)
class Arm:
    """A recipe with its parameters, and what differs from the simulators' defaults."""

    title: str
    recipe: str
    parameters: dict[str, str] = field(default_factory=dict)
    kinetics: dict[str, float] = field(default_factory=dict)
    probe: bool = False


RULE = {"feeding": "rule"}
ARMS = (
    Arm("til-22d: a count on its day 16", "til-22d"),
    Arm("nci-rep-grex by calendar: a count on day 7", "nci-rep-grex"),
    Arm("nci-rep-grex by rule: and daily glucose", "nci-rep-grex", RULE),
    Arm("the same, a floor of 4e9 cells", "nci-rep-grex", {**RULE, "harvest_floor": "4e9 cells"}),
    Arm("the same, and a capacitance probe", "nci-rep-grex", RULE, probe=True),
    Arm("by rule, cells use 0.8 pmol glucose", "nci-rep-grex", RULE, {"use_glucose": 0.8}),
    Arm("by rule, cells use 4 pmol, half of it at rest", "nci-rep-grex", RULE, {"use_glucose": 4.0, "resting": 0.5}),
    Arm("by rule, activation fades by 0.1 a day", "nci-rep-grex", RULE, {"decay": 0.1}),
    Arm("til-feeder-free: daily glucose and counts", "til-feeder-free"),
    Arm("til-rocking: the same, and an oxygen probe", "til-rocking"),
)


@dataclass
class Lot:
    """One donor: seen and true cells each six hours; at the end; and what was said of that in time."""

    seen: list[tuple[Cells, float]] = field(default_factory=list)
    naive: list[tuple[float, float]] = field(default_factory=list)
    final: float | None = None
    forecast: Cells | None = None
    guessed: float | None = None
    floor: float = 0.0
    known: bool = False
    warned: bool = False


class Watched(Run):
    """A dry run whose estimate is looked at each six hours."""

    def __init__(self, recipe: Recipe, seed: int, parameters: dict[str, str], setting: Setting, *, probe: bool) -> None:
        super().__init__(recipe, seed, parameters, setting)
        self.looks: list[tuple[float, Sight]] = []
        self._seed = seed
        self._probe = probe

    def _move_to(self, t: float) -> None:
        while self._next < t:
            super()._move_to(self._next)
            follower = self.known.estimates.all[NAME]
            if follower.account.runs:
                self._read(follower)
            self.looks.append((self._next, self.known.sight(NAME)))
        super()._move_to(t)

    @property
    def _next(self) -> float:
        return (math.floor(self.clock.monotonic() / LOOK) + 1) * LOOK

    def _read(self, follower: Follower) -> None:
        """Tell the estimate what a probe shows, as the engine does each six hours."""
        now, oxygen = self.clock.monotonic(), follower.declared.oxygen
        if oxygen is not None and (held := self.known.number(oxygen.tag)) is not None:
            key = stream(self._seed, "oxygen probe")
            drift = OXYGEN_DRIFT * uniform(key, 0, -1.0, 1.0) * now / WEEK
            beside = {"renewal": self.known.number(oxygen.renewal), "gas": self.known.number(oxygen.gas or "")}
            known = {name: value for name, value in beside.items() if value is not None}
            shown = held * (1.0 + drift + gauss(key, int(now), OXYGEN_NOISE))
            self.known.estimates.reading(now, NAME, "oxygen", shown, known)
        if self._probe:
            self._see(now)

    def _see(self, now: float) -> None:
        vessels = [c for c in map(self.plant.place, range(1, 7)) if c is not None and c.contents.viable > 0.0]
        volume = sum(c.contents.volume for c in vessels)
        if volume > 0.0:
            live = sum(c.contents.viable + c.contents.feeders for c in vessels) / volume
            probe = capacitance(self._seed, "probe", self.known.marks.get("day0", 0.0))
            self.known.estimates.reading(now, NAME, "capacitance", probe.shows(live, now), {})


def lot(arm: Arm, seed: int) -> Lot:
    """Walk a recipe for one donor."""
    recipe = load(arm.recipe)
    if arm.probe:  # no recipe of the library has one
        declared = recipe.estimates[NAME].model_copy(update={"capacitance": "station.live_density"})
        recipe = recipe.model_copy(update={"estimates": {NAME: declared}})
    setting = Setting(population_donor(seed))
    for name, value in arm.kinetics.items():
        setting = setting.given(f"kinetics.{name}", value)
    walk = Watched(recipe, seed, arm.parameters, setting, probe=arm.probe)
    course = Walk(walk).run()
    declared = recipe.estimates[NAME]
    truth: dict[float, float] = {}
    for row in walk.plant.trace.rows:
        if row.name.partition("[")[0] in declared.of:
            truth[row.t] = truth.get(row.t, 0.0) + row.viable
    times = sorted(truth)
    found = Lot(floor=parse_as(walk.known.parameters["harvest_floor"], "cells"))
    began, end = course.marks.get(declared.from_), course.operations.get("harvest")
    if began is None or not times:
        return found

    def true(t: float) -> float:
        return truth[times[max(0, bisect.bisect_right(times, t) - 1)]]

    start = walk.known.number(declared.start or "")
    counts = [(began, start or 1.0)]
    counts += [(c.t, c.seen) for c in course.counts if f"{c.path.rpartition('/')[2]}.tvc" in declared.counts]

    def extrapolated(made: float, t: float) -> float | None:
        """Return what the last two counts before one moment come to at another."""
        (before, fewer), (last, more) = [each for each in counts if each[0] <= made][-2:]
        return more * (more / fewer) ** ((t - last) / (last - before)) if last > before else None

    for t, sight in walk.looks:
        if began <= t and (end is None or t < end):
            if sight.cells is not None:
                found.seen.append((sight.cells, true(t)))
            if len([c for c in counts if c[0] <= t]) > 1 and (guess := extrapolated(t, t)) is not None:
                found.naive.append((guess, true(t)))
    if end is None:
        return found
    found.final = true(end)
    for t, sight in walk.looks:
        if sight.end is not None and sight.end_at is not None and sight.end_at - t >= AHEAD:
            found.warned = found.warned or bool(sight.short)
            if abs(sight.end_at - end) < DAY:  # a recipe may harvest before, when there are enough
                found.forecast = sight.end
    found.known = any(sight.end is not None for _, sight in walk.looks)
    if len([c for c in counts if c[0] <= end - AHEAD]) > 1:
        found.guessed = extrapolated(end - AHEAD, end)
    return found


@dataclass(frozen=True)
class Figures:
    """What an arm came to; errors are relative: |seen / true - 1|."""

    donors: int
    coverage: float
    error: float
    error_naive: float
    ahead_coverage: float
    ahead: float
    ahead_naive: float
    slow: int
    slow_warned: int
    slow_naive: int
    fast: int
    fast_warned: int
    fast_naive: int


def figures(lots: Sequence[Lot]) -> Figures:
    """Sum up the donors of one arm; medians over moments, and over donors."""
    seen = [each for lot in lots for each in lot.seen]
    naive = [each for lot in lots for each in lot.naive]
    ended = [lot for lot in lots if lot.final is not None and lot.known]
    slow = [lot for lot in ended if (lot.final or 0.0) < lot.floor]
    fast = [lot for lot in ended if (lot.final or 0.0) >= lot.floor]

    def off(pairs: Sequence[tuple[float, float]]) -> float:
        return statistics.median(abs(a / b - 1.0) for a, b in pairs if b > 0.0) if pairs else math.nan

    def share(pairs: Sequence[tuple[Cells, float]]) -> float:
        return sum(c.low <= true <= c.high for c, true in pairs) / len(pairs) if pairs else math.nan

    def counted(among: Sequence[Lot], says: Callable[[Lot], bool]) -> int:
        return sum(map(says, among))

    def below(lot: Lot) -> bool:
        return lot.guessed is not None and lot.guessed < lot.floor

    ahead = [(lot.forecast, lot.final or 0.0) for lot in ended if lot.forecast is not None]
    guesses = [(lot.guessed, lot.final or 0.0) for lot in ended if lot.guessed and lot.forecast]
    return Figures(
        len(lots), share(seen), off([(c.now, true) for c, true in seen]), off(naive),
        share(ahead), off([(c.now, true) for c, true in ahead]), off(guesses),
        len(slow), counted(slow, lambda each: each.warned), counted(slow, below),
        len(fast), counted(fast, lambda each: each.warned), counted(fast, below),
    )  # fmt: skip


def measure(arm: Arm, donors: int, jobs: int = 2) -> Figures:
    """Return the figures of an arm over so many donors."""
    seeds = range(FIRST, FIRST + donors)
    if jobs == 1:
        return figures([lot(arm, seed) for seed in seeds])
    with ProcessPoolExecutor(jobs) as pool:
        return figures(list(pool.map(partial(lot, arm), seeds, chunksize=10)))


def main() -> None:
    """Print a line for each arm."""
    donors = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print(f"{donors} donors each; error: median |seen/true - 1|; in (): the last two counts, extrapolated\n")
    print(f"{'':46s} {'now':>18s} {'2.5 d ahead':>22s}   warned in time, of slow | of others")
    for arm in ARMS:
        f = measure(arm, donors)
        now = f"{f.coverage:4.0%} {f.error:4.0%} ({f.error_naive:4.0%})"
        ahead = f"{f.ahead_coverage:4.0%} {f.ahead:4.0%} ({f.ahead_naive:4.0%})"
        slow = f"{f.slow_warned} of {f.slow} ({f.slow_naive})"
        fast = f"{f.fast_warned} of {f.fast} ({f.fast_naive})"
        print(f"{arm.title:46s} {now:>18s} {ahead:>22s}   {slow:>14s} | {fast}", flush=True)


if __name__ == "__main__":
    main()
