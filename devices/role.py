"""Roles: the tags and actions that a recipe may use, whatever instrument stands behind them.

A recipe names a role's tag (`station.temperature`); the site binds the role to an instrument; the instrument's
profile declares the points and commands listed here.  Names and units only: no behaviour.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

SYMBOL = "symbol"
BOOL = "bool"

# Channels of a scale, and ports of a valve manifold: 6 vessels, 9 bags, 1 waste (engineering default).
_PORTS = 16


@dataclass(frozen=True, slots=True)
class Role:
    """What a role offers to a recipe, and what an instrument must have to play it.

    `tags` may be read in expressions; `settable` maps a tag that takes a standing target to its unit: the command
    `set_<tag>`, with the argument `value`, sets it, and the point `<tag>_target` shows it.  `some` and `some_settable`
    are the tags that not every instrument of the role has: a recipe may use those that its `needs` names.  `points` are
    what the instrument's profile must declare, `commands` its commands with the names of their arguments.  `optional`
    points and `abilities` (commands) it may have; then they mean this, and an argument may be missing where it has no
    such thing.
    Points that are `vacant` have no value while nothing is there to be measured; that is no fault of the instrument.
    Kinds are canonical units (`devices.quantity`), `SYMBOL` or `BOOL`.
    """

    name: str
    points: Mapping[str, str]
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    settable: Mapping[str, str] = field(default_factory=dict[str, str])
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    optional: Mapping[str, str] = field(default_factory=dict[str, str])
    abilities: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    vacant: tuple[str, ...] = ()
    some: Mapping[str, str] = field(default_factory=dict[str, str])
    some_settable: Mapping[str, str] = field(default_factory=dict[str, str])

    def tags_for(self, needs: Iterable[str]) -> dict[str, str]:
        """Return the tags that a recipe may read, with their units: those of all, and those of `some` that it needs."""
        return {**self.tags, **_among(self.some, needs)}

    def settable_for(self, needs: Iterable[str]) -> dict[str, str]:
        """Return the tags that a recipe may set, with their units."""
        return {**self.settable, **_among(self.some_settable, needs)}

    def settable_by(self, commands: Container[str]) -> dict[str, str]:
        """Return the tags that take a target in an instrument with such commands, with their units."""
        return {**self.settable, **{tag: unit for tag, unit in self.some_settable.items() if f"set_{tag}" in commands}}


def _among(tags: Mapping[str, str], needs: Iterable[str]) -> dict[str, str]:
    wanted = frozenset(needs)
    return {tag: unit for tag, unit in tags.items() if tag in wanted}


PAUSE = "pause_rocking"
"""The command of a bioreactor by which it stands still for so many `seconds`, and goes on by itself; 0: at once."""
PAUSED = "pause_left"
"""The point that shows for how long (s) it still stands by that."""

_BIOREACTOR = Role(
    name="bioreactor",
    tags={"temperature": "degC", "co2": "%", "humidity": "%"},
    settable={"temperature": "degC", "co2": "%"},
    points={"temperature": "degC", "co2": "%", "temperature_target": "degC", "co2_target": "%"},
    commands={"set_temperature": ("value",), "set_co2": ("value",)},
    # Dissolved oxygen in % of air saturation, oxygen in the gas in % by volume, live cells by a capacitance probe.
    some={"oxygen": "%", "ph": "pH", "rocking": "rpm", "gas_oxygen": "%", "live_density": "cells/mL"},
    some_settable={"rocking": "rpm", "gas_oxygen": "%"},
    optional={
        "oxygen": "%", "ph": "pH", "rocking": "rpm", "rocking_target": "rpm",
        "gas_oxygen": "%", "gas_oxygen_target": "%", PAUSED: "s",
        "live_density": "cells/mL",
    },
    abilities={"set_rocking": ("value",), "set_gas_oxygen": ("value",), PAUSE: ("seconds",)},
    vacant=("oxygen", "ph", "live_density"),  # a probe that hangs in no vessel
)  # fmt: skip
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
    vacant=("sample_temperature",),
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
# A closed device that runs a program of its own maker's: it is looked at, and nothing here can command it.
_AUTOMATON_TAGS = {"program_state": SYMBOL, "step": "", "elapsed": "s", "temperature": "degC", "alarm": BOOL}
_AUTOMATON = Role(name="automaton", tags=_AUTOMATON_TAGS, points=_AUTOMATON_TAGS, optional={"co2": "%"})
_SCALE = Role(name="scale", points={f"mass_{channel}": "g" for channel in range(1, _PORTS + 1)})

ROLES: Mapping[str, Role] = {role.name: role for role in (_BIOREACTOR, _FREEZER, _AUTOMATON, _PUMP, _VALVES, _SCALE)}

_PROGRAMMER = Role(
    name="temperature_programmer",
    points={"temperature": "degC", "setpoint": "degC", "setpoint_now": "degC"},
    commands={"set_temperature": ("value",)},
    optional={
        "output": "%",
        "target": "degC",
        "setpoint_low": "degC",
        "setpoint_high": "degC",
        "program_mode": SYMBOL,
        "program": "",
        "segment": "",
        "programs": "",
        "segments_per_program": "",
    },
    abilities={
        "set_remote": ("value",),
        "load_remote": ("value",),
        "use_remote": (),
        "use_local": (),
        "set_remote_timeout": ("value",),
        "select_program": ("program",),
        "ramp_segment": ("program", "segment", "target", "rate"),
        "dwell_segment": ("program", "segment", "time"),
        "end_segment": ("program", "segment"),
        "set_holdback": ("program",),
        "set_ramp_units": ("program",),
        "set_dwell_units": ("program",),
        "set_cycles": ("program",),
        "set_end_type": ("program",),
        "program_run": ("program",),
        "program_hold": (),
        "program_reset": (),
    },
)
_CO2_PROBE = Role(name="co2_probe", points={"co2": "%"}, optional={"temperature": "degC"})
_DO_PROBE = Role(name="do_probe", points={"oxygen": "%", "temperature": "degC"})
_PH_PROBE = Role(name="ph_probe", points={"ph": "pH", "temperature": "degC"})
_GAS_FLOW = Role(
    name="gas_flow",
    points={"flow": "mL/min", "setpoint": "mL/min"},
    commands={"set_flow": ("value",)},
    optional={"total": "mL", "pressure": "mbar", "temperature": "degC"},
)
_DRIVE = Role(
    name="pump_drive",
    points={"running": BOOL, "speed": "rpm"},
    commands={"set_speed": ("value",), "start": (), "stop": ()},
    optional={"steps_per_turn": "", "steps": ""},
    abilities={"set_steps": ("value",), "dispense_mode": ("value",), "set_direction": ("value",)},
)
_BALANCE = Role(name="balance", points={"gross": "g"}, optional={"net": "g"}, abilities={"tare": ()})
_DIGITAL_IO = Role(name="digital_io", points={}, commands={"set_output": ("channel", "value")})
_PLUG = Role(name="plug", points={"on": BOOL}, commands={"set": ("value", "seconds")}, optional={"power": "W"})
_MINI = Role(name="mini_bioreactor", points={"temperature": "degC"})

PARTS: Mapping[str, Role] = {
    role.name: role
    for role in (
        _PROGRAMMER, _CO2_PROBE, _DO_PROBE, _PH_PROBE, _GAS_FLOW, _DRIVE, _BALANCE, _DIGITAL_IO, _PLUG, _MINI,
    )
}  # fmt: skip
"""Roles of the parts from which a site builds equipment; recipes do not name them."""
