"""What commissioning tells a person, without an instrument."""

from __future__ import annotations

import pytest

from devices.profile import load_profile
from tilctl.cli.commissioning.looking import Looked
from tilctl.cli.commissioning.single import arguments_of, command_of, planned


@pytest.mark.parametrize(("value", "word"), [("true", "0xFF00"), ("false", "0x0000")])
def test_one_coil_is_shown_as_it_is_sent(value: str, word: str):
    """Function code 5 says on with 0xFF00 (Modbus application protocol V1.1b3, 6.5)."""
    profile = load_profile("moxa-e1214")
    command = command_of(profile, "set_output")
    values = arguments_of(command, {"channel": "2", "value": value})
    assert f"  sends     function code 5, address 2 (0x0002): {word}" in planned("io", profile, command, values, "here")


def test_a_block_without_points_is_not_called_good():
    blocks = [
        {"block": "outputs", "read": True, "points": 0, "good": 0, "ms": 1.25},
        {"block": "inputs", "read": True, "points": 6, "good": 6, "ms": 1.25},
        {"block": "safe", "read": False},
    ]
    lines = Looked("io", load_profile("moxa-e1214"), blocks=blocks).lines()
    assert "  block outputs: no points in it, 1.2 ms" in lines
    assert "  block inputs: 6 of 6 good, 1.2 ms" in lines
    assert "  block safe: not read" in lines
