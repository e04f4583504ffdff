"""The suite with a rocker: stories of rocked bags."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from story import Story

from simulators.physics.contents import mixed
from simulators.suite import Suite as Servers
from simulators.suite import wire

LAB = Path(str(files("tilctl.cli") / "lab-rocking.yaml"))


class Rocking(Story):
    """A suite with a rocker; `paused` are the seconds of each pause that it heard."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.plant.put_up_rocker()
        self.servers = Servers(wire(self.plant.devices), self.plant.clock)
        self.site_file = LAB
        self.paused: list[float] = []
        self.plant.devices["incubator"].heard.append(self._heard)

    def _heard(self, command: str, args: object) -> None:
        if command == "pause_rocking":
            assert isinstance(args, dict)
            self.paused.append(float(args["seconds"]))

    @property
    def rpm(self) -> float:
        assert self.plant.rocker is not None
        return self.plant.rocker.rpm(self.plant.time())

    def seed(self, cells: float) -> None:
        """Have so many cells in the bag, that do not grow, in medium that lasts."""
        with self.plant.change():
            bag = self.plant.place(1)
            assert bag is not None
            litre = mixed(
                bag.contents.volume, "cm4", {"cells": cells, "age": 0.0, "glucose": 500.0, "temperature": 37.0}
            )
            litre.oxygen = bag.contents.oxygen
            bag.contents = litre
