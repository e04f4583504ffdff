"""What can be seen of a plant from outside its wires: where things are, and the whole truth for oracles."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from simulators.physics.fluid import COUNT_ML, Container
from simulators.plant import STATION, Plant

Place = int | str


class BenchError(ValueError):
    """What was asked of the bench cannot be done; the text says why and what is there."""


def port_of(plant: Plant, place: Place) -> int:
    """Return the port of a place given by number or by what hangs there; raises BenchError."""
    if isinstance(place, int):
        if place not in plant.fluidics.at:
            raise BenchError(
                f"there is no port {place}; there are {min(plant.fluidics.at)} to {max(plant.fluidics.at)}"
            )
        return place
    for port, container in plant.fluidics.at.items():
        if container is not None and container.name == place:
            return port
    there = [c.name for c in plant.fluidics.at.values() if c is not None]
    raise BenchError(f"{place!r} hangs nowhere; there are {', '.join(there) or 'no containers'}")


def time(plant: Plant) -> dict[str, Any]:
    """Return the plant's clock: monotonic seconds and UTC."""
    now = plant.time() + plant.origin
    return {"monotonic": now, "utc": plant.clock.utc(now).isoformat().replace("+00:00", "Z")}


def find(plant: Plant, name: str) -> dict[str, Any] | None:
    """Return a container's `port` (None: on the shelf or in the freezer) and volume; None when there is none."""
    plant.time()
    for port, container in plant.fluidics.at.items():
        if container is not None and container.name == name:
            return {"name": name, "port": port, "volume_ml": container.contents.volume}
    for container in [*plant.aside.shelf.values(), *plant.aside.in_freezer]:
        if container.name == name:
            return {"name": name, "port": None, "volume_ml": container.contents.volume}
    return None


def standing(plant: Plant) -> list[str]:
    """Return the names of the vessels in the station, by port."""
    plant.time()
    held = [plant.fluidics.at[port] for port in STATION]
    return [container.name for container in held if container is not None]


def moved(plant: Plant, source: Place, destination: Place, sequence: int | None = None) -> dict[str, Any]:
    """Return what the last dispense between two containers (or ports) really moved and what the pump counted (mL).

    With a `sequence`: what all dispenses of that number moved between them, which is nothing when there was none.
    """
    now = plant.time()
    ports = (port_of(plant, source), port_of(plant, destination))
    runs = [run for pump in plant.pumps.values() for run in pump.log if (run.source, run.destination) == ports]
    if sequence is not None:
        mine = [run for run in runs if run.sequence == sequence]
        counts = sum(run.counts(now if run.ended is None else run.ended) for run in mine)
        return {"moved_ml": sum(run.moved_ml for run in mine), "counted_ml": counts * COUNT_ML}
    last = max(runs, key=lambda run: run.started, default=None)
    if last is None:
        raise BenchError(f"nothing was ever pumped from {source} to {destination}")
    counts = last.counts(now if last.ended is None else last.ended)
    return {"moved_ml": last.moved_ml, "counted_ml": counts * COUNT_ML}


def truth(plant: Plant) -> dict[str, Any]:
    """Return all that the plant knows of itself: places, shelf, freezer, pumps, volumes (mL, cells, s, degC)."""
    now = plant.time()
    return {
        "t": now,
        "donor": asdict(plant.donor),
        "places": {str(port): _shown(c) for port, c in plant.fluidics.at.items() if c is not None},
        "shelf": [_shown(c) for c in plant.aside.shelf.values()],
        "in_freezer": [_shown(c) for c in plant.aside.in_freezer],
        "pumps": {
            name: {
                "slip": pump.slip,
                "total_ml": pump.total_counts(now) * COUNT_ML,
                "log": [asdict(dispense) for dispense in pump.log],
            }
            for name, pump in plant.pumps.items()
        },
        "volume_total_ml": plant.volume_total(),
        "brought_ml": plant.aside.brought_ml,
        "spilled_ml": plant.fluidics.spilled.volume,
        "freezing": [list(row) for row in plant.freezer.trace],
        "freezer_run": plant.freezer.sequence,
        "chamber": {"now": plant.climate.temperature.at(now), "target": plant.climate.temperature.goal},
    }


def _shown(container: Container) -> dict[str, Any]:
    return {
        "name": container.name,
        "kind": container.kind,
        "tare_g": container.tare,
        "fragments": container.fragments,
        **asdict(container.contents),
    }
