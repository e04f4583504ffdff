"""Which dose a run of a pump belongs to: by its number, or by its time where a drive knows no number of ours."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from devices.equipment.spec import PumpSpec
from simulators.fittings import HOST_LOST_S
from simulators.virtual import EPOCH
from tilctl.config import Site
from tilctl.engine.state import BatchState, Intent

EARLIER_S = 0.002  # the record writes whole ms


def unnumbered(site: Site) -> dict[str, float]:
    """Return the pumps of parts, whose drives know no numbers of doses, and how long (s) each outlives its controller.

    One that does not count runs on until the host watchdog of its relay opens; the time since the last request counts.
    """
    pumps = {name: spec for name, spec in site.equipment.items() if isinstance(spec, PumpSpec)}
    return {name: HOST_LOST_S if spec.enable is not None else 0.0 for name, spec in pumps.items()}


def number_of(pump: str, run: Mapping[str, Any], intents: Iterable[Intent], pumps: Collection[str]) -> int:
    """Return the number by which we know a run of a pump: its own, or that of the dose that was the last to be ordered.

    0 for a run before any dose of that pump was ordered.
    """
    if pump not in pumps:
        return int(run["sequence"])
    doses = [i for i in intents if (i.device, i.action) == (pump, "dispense")]
    before = [i for i in doses if seconds(i.opened) <= float(run["started"]) + EARLIER_S]
    return int(max(before, key=lambda i: i.number).args["sequence"]) if before else 0


def moved(
    truth: Mapping[str, Any], state: BatchState, args: Mapping[str, Any], pumps: Collection[str]
) -> dict[str, float]:
    """Return what all runs of one dose really moved (mL); counted is the same, for nothing counts there.

    `args` as for `Bench.moved`: source, destination, and the sequence by which the controller knows the dose.
    """
    ends = (args["source"], args["destination"], args["sequence"])
    asked = {i.device for i in state.intents.values() if tuple(map(i.args.get, ("from", "to", "sequence"))) == ends}
    volume = sum(
        float(run["moved_ml"])
        for pump in asked
        for run in truth["pumps"][pump]["log"]
        if number_of(pump, run, state.intents.values(), pumps) == args["sequence"]
    )
    return {"moved_ml": volume, "counted_ml": volume}


def seconds(moment: datetime) -> float:
    """Return virtual time (s) since the epoch of all rehearsals."""
    return (moment - EPOCH) / timedelta(seconds=1)
