"""A til-22d as a dry run against one under the real controller, in memory; and where the time of both goes.

`python -m tests.benchmarks.dryrun`
"""

from __future__ import annotations

import cProfile
import pstats
import tempfile
import time
from collections import Counter
from pathlib import Path

from recipes.catalog import load
from tilctl.cli.dryrun.walk import dry_run
from tilctl.cli.rehearsing.worker import Job, rehearse

ROUNDS = 3
DAY_S = 86400.0
PARTS = {  # the first folder that is found in a path names the part
    "simulators/physics": "physics", "simulators": "instruments and bench", "devices": "drivers and codec",
    "tilctl/guard": "guard", "tilctl/engine": "engine", "tilctl/plant": "image, scan, gate", "tilctl/journal": "record",
    "tilctl/history": "trends", "tilctl/cli": "harness and oracles", "recipes": "expressions", "asyncio": "event loop",
}  # fmt: skip


def whole() -> float:
    """Rehearse seed 1 without faults; return its simulated days."""
    with tempfile.TemporaryDirectory() as folder:
        result = rehearse(Job("til-22d", Path(folder), profile="none", steps=(), horizon_s=0.0, seed=1))
    assert result.outcome == "complete", result.violations
    return result.simulated_s / DAY_S


def dry() -> float:
    """Walk seed 1; return its simulated days."""
    course = dry_run(load("til-22d"), 1)
    assert course.ended == "complete", course.reason
    return course.seconds / DAY_S


def shares(work: object) -> str:
    """Return which part takes which share of the time, by a profile."""
    profile = cProfile.Profile()
    profile.runcall(work)  # type: ignore[arg-type]
    found: Counter[str] = Counter()
    for (path, _, _), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        found[next((part for where, part in PARTS.items() if f"{where}/" in path), "the rest")] += own  # type: ignore[assignment]
    total = sum(found.values())
    return ", ".join(f"{part} {100 * own / total:.0f} %" for part, own in found.most_common(8))


def main() -> None:
    """Measure in turn, so that both meet the same machine."""
    seconds: dict[str, list[float]] = {"dry run": [], "controller": []}
    days = 0.0
    dry()  # imports and compiled expressions
    for _ in range(ROUNDS):
        for name, work in (("dry run", dry), ("controller", whole)):
            began = time.perf_counter()
            days = work()
            seconds[name].append(time.perf_counter() - began)
    base, ours = (sorted(each)[ROUNDS // 2] for each in (seconds["controller"], seconds["dry run"]))
    print(f"til-22d under the controller, in memory: {base:6.2f} s, {days / base:7.1f} simulated days a second")
    told = f"{ours:6.2f} s, {days / ours:7.1f} simulated days a second, x{base / ours:.0f}"
    print(f"til-22d as a dry run:                    {told}")
    print("the controller's time:", shares(whole))
    print("the dry run's time:", shares(dry))


if __name__ == "__main__":
    main()
