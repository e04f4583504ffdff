"""The vocabulary of roles holds together: tags, targets, points, units."""

from __future__ import annotations

import pytest

from devices.quantity import CANONICAL
from devices.role import BOOL, ROLES, SYMBOL, Role

KINDS = {*CANONICAL, BOOL, SYMBOL}


def test_the_roles_are_those_that_recipes_and_sites_name() -> None:
    assert set(ROLES) == {"bioreactor", "freezer", "automaton", "pump", "valves", "scale"}
    assert ROLES["bioreactor"].settable == {"temperature": "degC", "co2": "%"}
    assert ROLES["bioreactor"].tags == {"temperature": "degC", "co2": "%", "humidity": "%"}
    assert ROLES["freezer"].tags["ready"] == BOOL
    assert ROLES["freezer"].tags["program_state"] == SYMBOL
    assert ROLES["pump"].commands == {"dispense": ("sequence", "rate", "volume"), "stop": ()}
    assert ROLES["valves"].commands == {"select": ("suction", "delivery"), "close": ()}
    assert set(ROLES["scale"].points.values()) == {"g"}
    assert len(ROLES["scale"].points) == 16


@pytest.mark.parametrize("role", ROLES.values(), ids=lambda role: role.name)
def test_a_role_is_consistent(role: Role) -> None:
    assert ROLES[role.name] is role
    assert {*role.tags.values(), *role.points.values(), *role.settable.values()} <= KINDS
    for tag, unit in role.some.items():
        assert role.optional[tag] == unit
        assert tag not in role.tags
    for tag, unit in role.some_settable.items():
        assert role.some[tag] == role.optional[f"{tag}_target"] == unit
        assert role.abilities[f"set_{tag}"] == ("value",)
    for tag, unit in role.settable.items():
        assert role.tags[tag] == unit
        assert role.points[f"{tag}_target"] == unit
        assert role.commands[f"set_{tag}"] == ("value",)


def test_only_humidity_is_a_tag_that_an_instrument_may_lack() -> None:
    lacking = {(role.name, tag) for role in ROLES.values() for tag in role.tags if tag not in role.points}
    assert lacking == {("bioreactor", "humidity")}
    for role in ROLES.values():
        assert all(role.points[tag] == kind for tag, kind in role.tags.items() if tag in role.points)


def test_what_only_some_have_is_there_for_a_recipe_that_needs_it() -> None:
    role = ROLES["bioreactor"]
    assert role.tags_for(["temperature", "oxygen", "rocking", "nothing"]) == {
        **role.tags, "oxygen": "%", "rocking": "rpm"
    }  # fmt: skip
    assert role.settable_for(["oxygen", "rocking"]) == {**role.settable, "rocking": "rpm"}
    assert role.settable_by(["set_temperature", "set_gas_oxygen"]) == {**role.settable, "gas_oxygen": "%"}
