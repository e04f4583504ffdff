"""One rehearsal in this process, for tests of what it finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simulators.virtual import run as run_virtually
from tilctl.cli.rehearsing.result import Result
from tilctl.cli.rehearsing.world import Plan, World


def told(folder: Path, *faults: Any, recipe: str = "shakedown", seed: int = 1, **given: Any) -> Result:
    """Rehearse a recipe among faults; `given` are further fields of its plan."""
    order = Plan(recipe, seed, folder, faults=faults, **given)

    async def rehearsed(clock: Any) -> Result:
        return await World(order, clock).run()

    return run_virtually(rehearsed, seed=seed, watchdog_s=60.0)


def found(result: Result) -> set[str]:
    """Return which invariants were broken."""
    return {violation["invariant"] for violation in result.violations}
