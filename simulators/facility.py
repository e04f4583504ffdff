"""A site of several cells: a suite of instruments for each, one freezer, one time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from devices.clock import Clock
from simulators.bench import Bench
from simulators.device import SimDevice
from simulators.plant import Plant, Room
from simulators.sight import BenchError

NEXT_CELL = 1_000_003  # between the seeds of two cells


class Facility:
    """Cells by name, each with its plant and its bench; `devices` are what a controller can reach.

    The first cell's instruments have the plain names of a plant, those of the second end in `_2` and so on; all share
    `freezer`.  The first cell is, bit for bit, what a single plant of the seed is.
    """

    def __init__(self, clock: Clock, seed: int = 1, cells: Sequence[str] = ("cell1",)) -> None:
        """Build the cells; raises ValueError when there is none, or two have one name."""
        if not cells or len(set(cells)) != len(cells):
            raise ValueError(f"a facility has cells of different names, not {list(cells)}")
        self.room = Room(clock)
        self.plants: Mapping[str, Plant] = {
            cell: Plant(clock, seed + i * NEXT_CELL, suffix=suffix_of(i), room=self.room)
            for i, cell in enumerate(cells)
        }
        self.benches: Mapping[str, Bench] = {cell: Bench(plant, cell) for cell, plant in self.plants.items()}
        self.devices: Mapping[str, SimDevice] = {
            name: device for plant in self.plants.values() for name, device in plant.devices.items()
        }

    def call(self, name: str, args: Mapping[str, Any]) -> Any:
        """Have the bench of a cell do `name`; `cell` among the arguments says which, by default the first.

        Raises BenchError.
        """
        cell = args.get("cell", next(iter(self.benches)))
        if cell not in self.benches:
            raise BenchError(f"there is no cell {cell!r}; there are {', '.join(self.benches)}")
        return self.benches[cell].call(name, args)

    @property
    def problems(self) -> list[str]:
        """Return what went wrong at the benches."""
        return [problem for bench in self.benches.values() for problem in bench.problems]


def suffix_of(index: int) -> str:
    """Return how the names of a cell's instruments end; `index` counts from 0."""
    return "" if index == 0 else f"_{index + 1}"


def at_cell(call: Callable[[str, dict[str, Any]], Any], cell: str) -> Callable[[str, dict[str, Any]], Any]:
    """Return a bench call that names its cell, for a bench that serves several."""
    return lambda name, args: call(name, {**args, "cell": cell})
