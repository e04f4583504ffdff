"""What the tags of a recipe's equipment read in a dry run: the plant itself, without noise and without age."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from devices.role import ROLES
from recipes.expr import Operand
from recipes.model import Equipment
from simulators.physics.contents import AIR
from simulators.physics.culture import acidity
from simulators.plant import Plant


class Tags:
    """The tags of one plant, by the recipe's names of its equipment."""

    def __init__(self, equipment: Mapping[str, Equipment], plant: Plant) -> None:
        self.devices = {name: _device(each.role) for name, each in equipment.items()}
        self._plant = plant

    def read(self, name: str) -> Operand | None:
        """Return what a tag reads now, None where there is no such equipment."""
        equipment, _, tag = name.partition(".")
        device = self.devices.get(equipment)
        if device is None:
            return None
        t, plant = self._plant.time(), self._plant
        if device == "freezer":
            cold: dict[str, tuple[Any, str]] = {
                "ready": (plant.freezer.ready, ""), "ln2_level": (plant.freezer.ln2, "%"),
                "chamber_temperature": (plant.freezer.chamber, "degC"),
            }  # fmt: skip
            value, unit = cold.get(tag, (None, ""))
            return Operand(name, value, unit)
        if device == "automaton":
            runs: dict[str, tuple[Any, str]] = {
                "program_state": ("running", ""), "step": (1.0, ""), "elapsed": (t, "s"), "temperature": (37.0, "degC"),
                "alarm": (False, ""),
            }  # fmt: skip
            value, unit = runs.get(tag, (None, ""))
            return Operand(name, value, unit)
        if (seen := self._rocking(tag, t)) is not None:
            return Operand(name, *seen)
        warm: dict[str, tuple[Any, str]] = {
            "temperature": (plant.climate.temperature, "degC"), "co2": (plant.climate.co2, "%"),
            "humidity": (plant.climate.humidity, "%"),
        }  # fmt: skip
        lag, unit = warm.get(tag, (None, ""))
        return Operand(name, None if lag is None else lag.at(t), unit)

    def _rocking(self, tag: str, t: float) -> tuple[float | None, str] | None:
        """Return what a tag of a rocker reads and its unit, None where it is none of those."""
        rocker, bag = self._plant.rocker, self._plant.on_rocker()
        if rocker is None:
            return None
        if tag == "rocking":
            return rocker.rpm(t), "rpm"
        if tag == "gas_oxygen":
            return rocker.gas.at(t), "%"
        if tag == "oxygen":
            held = None if bag is None else rocker.oxygen(bag.contents, bag.vessel, bag.aired, t, self._plant.kinetics)
            return None if bag is None or held is None else 1e5 * held[0] / bag.contents.volume / AIR, "%"
        if tag == "ph":
            co2 = self._plant.climate.co2.at(t)
            return None if bag is None else acidity(bag.contents.concentration("lactate"), co2), "pH"
        return None


def _device(role: str) -> str:
    return role if role in ("freezer", "automaton") else "incubator" if role in ROLES else ""
