"""Roles: the tags and actions that a recipe may use, whatever instrument stands behind them.

A recipe names a role's tag (`station.temperature`); the site binds the role to an instrument; the instrument's
profile declares the points and commands listed here.  Names and units only: no behaviour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SYMBOL = "symbol"
BOOL = "bool"

# Channels of a scale, and ports of a valve manifold: 6 vessels, 9 bags, 1 waste (engineering default).
_PORTS = 16


@dataclass(frozen=True, slots=True)
class Role:
    """What a role offers to a recipe, and what an instrument must have to play it.

    `tags` may be read in expressions; `settable` maps a tag that takes a standing target to its unit: the command
    `set_<tag>`, with the argument `value`, sets it, and the point `<tag>_target` shows it.  `points` are what the
    instrument's profile must declare, `commands` its commands with the names of their arguments.
    Kinds are canonical units (`devices.quantity`), `SYMBOL` or `BOOL`.
    """

    name: str
    points: Mapping[str, str]
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    settable: Mapping[str, str] = field(default_factory=dict[str, str])
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


_BIOREACTOR = Role(
    name="bioreactor",
    tags={"temperature": "degC", "co2": "%", "humidity": "%"},
    settable={"temperature": "degC", "co2": "%"},
    points={"temperature": "degC", "co2": "%", "temperature_target": "degC", "co2_target": "%"},
    commands={"set_temperature": ("value",), "set_co2": ("value",)},
)
_FREEZER_TAGS = {
    "chamber_temperature": "degC",
    "sample_temperature": "degC",
    "ready": BOOL,
    "ln2_level": "%",
    "program_state": SYMBOL,
}
_FREEZER = Role(
    name="freezer",
    tags=_FREEZER_TAGS,
    points=_FREEZER_TAGS | {"setpoint": "degC", "segment": "", "elapsed": "s", "sequence": "", "nucleated": BOOL},
    commands={"load_program": ("rows",), "start": ("sequence",), "abort": ()},
)
_PUMP = Role(
    name="pump",
    points={"running": BOOL, "rate": "mL/min", "total": "mL", "dispensed": "mL", "sequence": ""},
    commands={"dispense": ("sequence", "rate", "volume"), "stop": ()},
)
_VALVES = Role(
    name="valves",
    points={"suction": "", "delivery": ""},
    commands={"select": ("suction", "delivery"), "close": ()},
)
_SCALE = Role(name="scale", points={f"mass_{channel}": "g" for channel in range(1, _PORTS + 1)})

ROLES: Mapping[str, Role] = {role.name: role for role in (_BIOREACTOR, _FREEZER, _PUMP, _VALVES, _SCALE)}
