"""What the tags of a recipe's equipment read in a dry run: the plant itself, without noise and without age."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from devices.role import ROLES
from recipes.expr import Operand
from recipes.model import Equipment
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
        warm: dict[str, tuple[Any, str]] = {
            "temperature": (plant.climate.temperature, "degC"), "co2": (plant.climate.co2, "%"),
            "humidity": (plant.climate.humidity, "%"),
        }  # fmt: skip
        lag, unit = warm.get(tag, (None, ""))
        return Operand(name, None if lag is None else lag.at(t), unit)


def _device(role: str) -> str:
    return role if role in ("freezer", "automaton") else "incubator" if role in ROLES else ""
