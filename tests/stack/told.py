"""One rehearsal in this process, for tests of what it finds."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
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


def events(folder: Path, kind: str) -> list[Mapping[str, Any]]:
    """Return the events of a kind from the one record of a rehearsal."""
    (record,) = (folder / "data" / "batches").rglob("*.db")
    with sqlite3.connect(record) as base:
        rows = base.execute("SELECT event FROM events ORDER BY seq").fetchall()
    base.close()
    found = [json.loads(body) for (body,) in rows]
    return [event for event in found if event["kind"] == kind]
